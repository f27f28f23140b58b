//! One line of a table: what is asked of whom, and what it took in each round.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use crate::load::{self, Lane};
use crate::mocks::facilitator_calls;
use crate::payments::{Call, post};
use crate::process::{Computed, Server};
use crate::sellers::Seller;

/// Connections of a load.
pub(crate) const CONNECTIONS: usize = 32;
/// Payments signed for one round at most.
const PAYMENTS_MAX: usize = 30_000;
/// Signed beyond what the round before has used, so that a faster round does not run dry.
const SURPLUS: f64 = 1.3;

/// How the calls are paid.
#[derive(Clone)]
pub(crate) enum Payment {
    /// Not at all: a challenge, or a free route.
    None,
    /// By a key with credit.
    Key(String),
    /// By `exact`, a payment for each call.
    Exact,
    /// The same with play money.
    TestRail,
    /// From a channel for each connection: a voucher for each call.
    Voucher,
}

/// What is asked of whom.
pub(crate) struct Row<'a> {
    pub(crate) name: String,
    seller: Option<&'a Server>,
    call: Call<'a>,
    payment: Payment,
    expected: u16,
    /// Answers per second in the round before.
    rate: f64,
    pub(crate) samples: Vec<Sample>,
    /// Why a round is void.
    pub(crate) void: Option<String>,
}

/// What one round brought.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Sample {
    pub(crate) answers: usize,
    pub(crate) answers_per_s: f64,
    /// Of the server, on all its processors.
    pub(crate) cpu_micros_per_answer: f64,
    /// Of it what our store's writer takes to make it durable.
    pub(crate) writer_micros_per_answer: f64,
    /// Of the seller, to verify or to settle.
    pub(crate) facilitator_calls_per_answer: f64,
    pub(crate) p50_micros: f64,
    pub(crate) p99_micros: f64,
}

/// When the bytes of streamed answers came in one round, as medians.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct StreamSample {
    pub(crate) first_byte_ms: f64,
    pub(crate) last_byte_ms: f64,
    pub(crate) reads: f64,
}

impl<'a> Row<'a> {
    pub(crate) fn new(
        name: impl Into<String>,
        seller: &'a Seller,
        path: &'a str,
        body: &'a str,
        payment: Payment,
        expected: u16,
    ) -> Self {
        let call = Call { address: seller.address, path, body };
        let (samples, name) = (Vec::new(), name.into());
        Self { name, seller: Some(&seller.server), call, payment, expected, rate: 500.0, samples, void: None }
    }

    /// A server in this process: nobody's computing is counted.
    pub(crate) fn direct(name: &str, address: SocketAddr, body: &'a str) -> Self {
        let call = Call { address, path: "/", body };
        Self {
            name: name.to_owned(),
            seller: None,
            call,
            payment: Payment::None,
            expected: 200,
            rate: 0.0,
            samples: Vec::new(),
            void: None,
        }
    }

    /// One round. Payments are signed before it begins.
    pub(crate) async fn measure(&mut self, time: Duration, is_warm_up: bool) {
        if self.void.is_some() {
            return;
        }
        match self.try_measure(time).await {
            Ok(sample) => {
                self.rate = sample.answers_per_s;
                if !is_warm_up {
                    self.samples.push(sample);
                }
            }
            Err(why) => self.void = Some(why),
        }
    }

    async fn try_measure(&self, time: Duration) -> Result<Sample, String> {
        let seconds = if self.samples.is_empty() { 2.0 * time.as_secs_f64() } else { time.as_secs_f64() };
        let wanted = (self.rate * seconds * SURPLUS).ceil().clamp(1.0, 1e9);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped above")]
        let count = (wanted as usize).clamp(4 * CONNECTIONS, PAYMENTS_MAX);
        let lanes = self.lanes(count).await?;
        let calls_before = facilitator_calls();
        let before = self.seller.map(Server::processor_time);
        let brought = load::run(self.call.address, lanes, self.expected, time).await?;
        let after = self.seller.map(Server::processor_time);
        let computed = after.zip(before).map_or(Computed::default(), |(after, before)| after.since(&before));
        let answers = brought.micros.len();
        if answers == 0 {
            return Err("no answer".to_owned());
        }
        let at = |per_mille: usize| brought.micros.get(answers * per_mille / 1000).copied().unwrap_or(0);
        Ok(Sample {
            answers,
            answers_per_s: number(answers) / brought.took.as_secs_f64(),
            cpu_micros_per_answer: nanos_to_micros(computed.nanos) / number(answers),
            writer_micros_per_answer: nanos_to_micros(computed.writer_nanos) / number(answers),
            facilitator_calls_per_answer: number(facilitator_calls() - calls_before) / number(answers),
            p50_micros: nanos_to_micros(at(500) * 1000),
            p99_micros: nanos_to_micros(at(990) * 1000),
        })
    }

    async fn lanes(&self, count: usize) -> Result<Vec<Lane>, String> {
        let shared = |requests: Vec<Bytes>| {
            let queue = Lane::Once(Rc::new(RefCell::new(requests.into())));
            vec![queue; CONNECTIONS]
        };
        Ok(match &self.payment {
            Payment::None => vec![Lane::Repeat(self.call.unpaid()); CONNECTIONS],
            Payment::Key(key) => vec![Lane::Repeat(self.with_key(key)); CONNECTIONS],
            Payment::Exact => shared(self.call.exact(count).await?),
            Payment::TestRail => shared(self.call.test_rail(count).await?),
            Payment::Voucher => self.channels(CONNECTIONS, count / CONNECTIONS).await?,
        })
    }

    fn with_key(&self, key: &str) -> Bytes {
        let Call { address, path, body } = self.call;
        post(address, path, &[("authorization", &format!("Bearer {key}"))], body)
    }

    /// Opens so many channels, and signs vouchers for so many calls from each.
    async fn channels(&self, channels: usize, calls: usize) -> Result<Vec<Lane>, String> {
        let offer = self.call.offer("batch-settlement").await?.ok_or(NO_CHANNELS)?;
        let mut lanes = Vec::new();
        for payer in (1..=u8::MAX).take(channels) {
            let (opens, vouchers) = self.call.channel(&offer, payer, calls)?;
            let (status, head) = load::ask_once(self.call.address, &opens).await?;
            if status != 200 {
                return Err(format!("status {status} to a deposit: {head}"));
            }
            lanes.push(Lane::in_order(vouchers));
        }
        Ok(lanes)
    }

    /// So many streamed calls, one after the other.
    pub(crate) async fn time_streams(&self, calls: usize) -> Result<StreamSample, String> {
        let requests = match &self.payment {
            Payment::None => vec![self.call.unpaid(); calls],
            Payment::Key(key) => vec![self.with_key(key); calls],
            Payment::Exact => self.call.exact(calls).await?,
            Payment::TestRail => self.call.test_rail(calls).await?,
            Payment::Voucher => {
                // The deposit is a streamed call of its own.
                let offer = self.call.offer("batch-settlement").await?.ok_or(NO_CHANNELS)?;
                let (opens, vouchers) = self.call.channel(&offer, 1, calls)?;
                load::time_one(self.call.address, &opens, self.expected).await?;
                vouchers
            }
        };
        let mut timed = Vec::new();
        for request in &requests {
            timed.push(load::time_one(self.call.address, request, self.expected).await?);
        }
        let ms = |times: Vec<Duration>| median(times.iter().map(|time| time.as_secs_f64() * 1000.0));
        Ok(StreamSample {
            first_byte_ms: ms(timed.iter().map(|timed| timed.first_body_byte).collect()),
            last_byte_ms: ms(timed.iter().map(|timed| timed.last_byte).collect()),
            reads: median(timed.iter().map(|timed| f64::from(timed.reads))),
        })
    }
}

/// Why a voucher cannot be sent.
pub(crate) const NO_CHANNELS: &str = "batch-settlement is not offered";

/// The middle of some figures; 0 of none.
pub(crate) fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = figures.into_iter().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn number(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

fn nanos_to_micros(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64() * 1e6
}
