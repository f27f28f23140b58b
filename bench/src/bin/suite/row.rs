//! One line of a table: what is asked of whom, how it is paid, and what it took in each round.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::beside::Beside;
use crate::load::{self, Brought, Lane, Target};
use crate::metric::{Metric, Sample, at, micros, number};
use crate::payments::Call;
use crate::process::{Computed, ProcessorTime, Server};
use crate::{facilitator, streams};

/// Payments signed for one round at most.
const PAYMENTS_MAX: usize = 30_000;
/// Longest that a channel is tried to be opened.
const OPENING_TIME_MAX: Duration = Duration::from_secs(30);
/// Signed beyond what the round before has used, so that a faster round does not run dry.
const SURPLUS: f64 = 1.3;

/// How the calls are paid.
#[derive(Clone)]
pub(crate) enum Payment {
    /// Not at all: a challenge, or a free route.
    None,
    /// By keys with credit, which take turns.
    Keys(Vec<String>),
    /// By a key that is bound to its holder, who signs each call.
    Held(String),
    /// By a header that stands for it elsewhere.
    Headers(Vec<(&'static str, String)>),
    /// By `exact`, a payment for each call.
    Exact,
    /// The same with play money.
    TestRail,
    /// From a channel for each connection: a voucher for each call.
    Voucher,
    /// From a channel for each connection, by the `Payment` scheme: a voucher for each call.
    Session,
    /// By a token that one Lightning payment has bought: the same for all calls, or another for each.
    L402 { is_known: bool },
}

/// How it is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Probe {
    /// On so many connections, each waiting for its answers.
    Closed { connections: usize },
    /// So many a second, whatever the answers do.
    Paced { per_second: u32, connections: usize },
    /// So many streams at once, once in a round.
    Streams { count: usize },
}

impl Probe {
    const fn connections(self) -> usize {
        match self {
            Self::Closed { connections } | Self::Paced { connections, .. } => connections,
            Self::Streams { count } => count,
        }
    }
}

/// What is asked of whom.
pub(crate) struct Row<'a> {
    pub(crate) name: String,
    /// Whose processes are counted; nobody's where the upstream itself is asked.
    server: Option<&'a Server>,
    /// Whose processes work for it, and are told apart.
    helper: Option<&'a Server>,
    call: Call,
    payment: Payment,
    expected: u16,
    probe: Probe,
    beside: Beside,
    /// Answers per second in the round before.
    rate: f64,
    /// What each of its first streams weighed, KiB.
    first_weight: Option<f64>,
    pub(crate) samples: Vec<Sample>,
    /// Why a round is void.
    pub(crate) void: Option<String>,
}

impl<'a> Row<'a> {
    pub(crate) fn new(
        name: impl Into<String>,
        server: Option<&'a Server>,
        target: impl Into<Target>,
        (path, body): (&str, &str),
        payment: Payment,
        expected: u16,
        probe: Probe,
    ) -> Self {
        Self {
            name: name.into(),
            server,
            helper: None,
            call: Call { target: target.into(), path: path.to_owned(), body: body.to_owned() },
            payment,
            expected,
            probe,
            beside: Beside::Nothing,
            rate: 500.0,
            first_weight: None,
            samples: Vec::new(),
            void: None,
        }
    }

    /// With a process that does part of the work.
    pub(crate) fn with(mut self, helper: &'a Server) -> Self {
        self.helper = Some(helper);
        self
    }

    /// With something else going on meanwhile.
    pub(crate) fn beside(mut self, beside: Beside) -> Self {
        self.beside = beside;
        self
    }

    /// One round. Payments are signed before it begins.
    pub(crate) async fn measure(&mut self, time: Duration, is_warm_up: bool) {
        if self.void.is_some() {
            return;
        }
        match self.try_measure(time).await {
            Ok(sample) => {
                self.rate = sample.get(&Metric::PerSecond).copied().unwrap_or(self.rate);
                if !is_warm_up {
                    self.samples.push(sample);
                }
            }
            Err(why) => {
                let ended = self.server.and_then(Server::epitaph);
                self.void = Some(ended.map_or(why.clone(), |ended| format!("{ended} ({why})")));
            }
        }
    }

    async fn try_measure(&mut self, time: Duration) -> Result<Sample, String> {
        let lanes = self.lanes(self.count(time)).await?;
        let beside = self.beside.begin(time);
        let calls_before = facilitator::calls();
        let look = |server: Option<&Server>| server.map(Server::processor_time);
        let before = (look(self.server), look(self.helper));
        let (mut sample, answers) = match self.probe {
            Probe::Closed { .. } => {
                loaded(&load::closed(&self.call.target, lanes, self.expected, time).await?)?
            }
            Probe::Paced { per_second, .. } => {
                loaded(&load::paced(&self.call.target, lanes, Some(self.expected), time, per_second).await?)?
            }
            Probe::Streams { .. } => self.streamed(lanes).await?,
        };
        let after = (look(self.server), look(self.helper));
        beside.end().await?;
        let since = |after: Option<ProcessorTime>, before: Option<ProcessorTime>| {
            after.zip(before).map_or(Computed::default(), |(after, before)| after.since(&before))
        };
        let (computed, helped) = (since(after.0, before.0), since(after.1, before.1));
        let each = |nanos| micros(nanos) / number(answers);
        let per_answer = match self.probe {
            Probe::Closed { .. } | Probe::Paced { .. } => Metric::CpuMicros,
            Probe::Streams { .. } => Metric::CpuMicrosPerEvent,
        };
        if self.server.is_some() {
            sample.insert(per_answer, each(computed.nanos + helped.nanos));
            sample.insert(Metric::HelperMicros, each(helped.nanos));
            sample.insert(Metric::WriterMicros, each(computed.writer_nanos));
        }
        sample
            .insert(Metric::FacilitatorCalls, number(facilitator::calls() - calls_before) / number(answers));
        Ok(sample)
    }

    async fn streamed(&mut self, lanes: Vec<Lane>) -> Result<(Sample, usize), String> {
        // Later ones find the room that these have left, and beside them answers that are kept after their end.
        let server = self.server.filter(|_| self.first_weight.is_none());
        let idle = server.map(Server::pss_kib);
        let count = number(lanes.len());
        let mut open = None;
        let look = || open = server.map(Server::pss_kib);
        let streamed = streams::run(&self.call.target, lanes, self.expected, look).await?;
        let events = streamed.delays.len();
        if events == 0 {
            return Err("no event".to_owned());
        }
        let us = |sorted: &[u64], per_mille| micros(at(sorted, per_mille).saturating_mul(1000));
        let mut sample = Sample::from([
            (Metric::PerSecond, number(events) / streamed.took.as_secs_f64()),
            (Metric::P50Micros, us(&streamed.delays, 500)),
            (Metric::P99Micros, us(&streamed.delays, 990)),
            (Metric::FirstMicros, us(&streamed.firsts, 500)),
            (Metric::Gathered, number(streamed.gathered)),
        ]);
        if let Some((idle, open)) = idle.zip(open) {
            let grown = u32::try_from(open.saturating_sub(idle)).map_or(f64::INFINITY, f64::from);
            self.first_weight = Some(grown / count);
        }
        if let Some(weight) = self.first_weight {
            sample.insert(Metric::KibibytesPerStream, weight);
        }
        Ok((sample, events))
    }

    /// How many payments a round may need.
    fn count(&self, time: Duration) -> usize {
        // Nobody knows yet how fast it is, and the first round is faster than the warm-up.
        let seconds = if self.samples.is_empty() { 2.0 * time.as_secs_f64() } else { time.as_secs_f64() };
        let rate = match self.probe {
            Probe::Closed { .. } | Probe::Streams { .. } => self.rate,
            Probe::Paced { per_second, .. } => f64::from(per_second),
        };
        let wanted = (rate * seconds * SURPLUS).ceil().clamp(1.0, 1e9);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped above")]
        let wanted = wanted as usize;
        wanted.clamp(4 * self.probe.connections(), PAYMENTS_MAX)
    }

    /// What each connection sends in a round.
    async fn lanes(&self, count: usize) -> Result<Vec<Lane>, String> {
        let connections = self.probe.connections();
        let shared = |requests: Vec<Bytes>| vec![Lane::once(requests); connections];
        let same = |request: Bytes| vec![Lane::Repeat(request); connections];
        Ok(match &self.payment {
            Payment::None => same(self.call.unpaid()),
            Payment::Headers(headers) => {
                let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
                same(self.call.with(&headers))
            }
            Payment::Keys(keys) => {
                let requests = keys.iter().cycle().map(|key| Lane::Repeat(self.call.with_key(key)));
                requests.take(connections).collect()
            }
            Payment::Held(key) => shared(self.call.held(key, count)?),
            Payment::Exact => shared(self.call.exact(count).await?),
            Payment::TestRail => shared(self.call.test_rail(count).await?),
            Payment::Voucher => self.channels(connections, count / connections).await?,
            Payment::Session => self.sessions(connections, count / connections).await?,
            Payment::L402 { is_known } => {
                let mut tokens = self.call.l402(if *is_known { 1 } else { count + 1 }).await?;
                // The first one brings the money in.
                let first = tokens.pop().ok_or("no token")?;
                let (status, head) = load::ask_once(&self.call.target, &first).await?;
                if status != self.expected {
                    return Err(format!("status {status} to a token: {head}"));
                }
                if *is_known { same(first) } else { shared(tokens) }
            }
        })
    }

    /// Opens so many channels, and signs vouchers for so many calls from each.
    async fn channels(&self, channels: usize, calls: usize) -> Result<Vec<Lane>, String> {
        let offer = self.call.offer("batch-settlement").await?.ok_or("batch-settlement is not offered")?;
        let mut lanes = Vec::new();
        for payer in (1..=u8::MAX).take(channels) {
            let (opens, vouchers) = self.call.channel(&offer, payer, calls)?;
            lanes.push(self.opened(&opens, vouchers).await?);
        }
        Ok(lanes)
    }

    /// The same by the `Payment` scheme.
    async fn sessions(&self, channels: usize, calls: usize) -> Result<Vec<Lane>, String> {
        let mut lanes = Vec::new();
        for payer in (1..=u8::MAX).take(channels) {
            let (opens, vouchers) = self.call.session(payer, calls).await?;
            lanes.push(self.opened(&opens, vouchers).await?);
        }
        Ok(lanes)
    }

    /// Opens a channel; what follows from it. A gateway bounds how many of them it looks up in a second.
    async fn opened(&self, opens: &Bytes, vouchers: Vec<Bytes>) -> Result<Lane, String> {
        let deadline = Instant::now() + OPENING_TIME_MAX;
        loop {
            let (status, head) = load::ask_once(&self.call.target, opens).await?;
            if status == self.expected {
                return Ok(Lane::once(vouchers));
            }
            if status != 429 || Instant::now() > deadline {
                return Err(format!("status {status} to a deposit: {head}"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// The figures of a load, and how many answers they are of.
fn loaded(brought: &Brought) -> Result<(Sample, usize), String> {
    let answers = brought.nanos.len();
    if answers == 0 {
        return Err("no answer".to_owned());
    }
    let us = |per_mille| micros(at(&brought.nanos, per_mille));
    let sample = Sample::from([
        (Metric::PerSecond, number(answers) / brought.took.as_secs_f64()),
        (Metric::P50Micros, us(500)),
        (Metric::P99Micros, us(990)),
        (Metric::P999Micros, us(999)),
    ]);
    Ok((sample, answers))
}
