//! One connection to a relay, without the connection: what is said on it, and what is made of what comes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::Instant;
use wire::hex;
use zeroize::Zeroizing;

use super::connection::Connection;
use super::event::Event;
use super::frame::{self, FromRelay};
use super::message;
use super::seal::{Scheme, Seal};
use crate::lightning::port::NodeError;
use crate::lightning::rest::printable;

const INFO: u16 = 13194;
const REQUEST: u16 = 23194;
const RESPONSE: u16 = 23195;
const NOTIFICATION_NIP04: u16 = 23196;
const NOTIFICATION: u16 = 23197;
const AUTHENTICATION: u16 = 22242;

const INFO_SUBSCRIPTION: &str = "info";
const WALLET_SUBSCRIPTION: &str = "wallet";

/// Most questions under way.
const PENDING_MAX: usize = 256;
/// How far back a relay is asked for what it kept: bridges a reconnection, and clocks that differ.
const LOOK_BACK_S: u64 = 600;
/// How much later than we give up the wallet may still begin: its clock is not ours.
const SKEW_S: u64 = 30;

/// A question on its way to the wallet.
pub(super) struct Ask {
    pub(super) method: &'static str,
    /// What is sealed.
    pub(super) body: Zeroizing<String>,
    /// How long the answer is waited for.
    pub(super) time_max: Duration,
    pub(super) turn: Arc<Turn>,
    pub(super) reply: oneshot::Sender<Result<Zeroizing<String>, Unanswered>>,
}

/// Whether a question was sent before its asker gave it up: one of the two is so, and both sides agree on which.
#[derive(Debug, Default)]
pub(super) struct Turn(AtomicU8);

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// Nothing was sent.
    NotAsked,
    /// The wallet does not offer this method: nothing was sent.
    NotOffered(&'static str),
    /// The relay says that it does not pass it on. Relays are strangers: it may have.
    Relay(String),
    /// Sent, and nothing came.
    Lost,
    /// The wallet's answer cannot be opened.
    Sealed,
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Wait,
    /// Say this.
    Say(Vec<String>),
    /// The wallet got a payment: write it down.
    Received {
        /// Names it.
        payment_hash: [u8; 32],
        /// What came, millisatoshi.
        msat: u64,
    },
    /// Nothing comes of this relay.
    Leave(&'static str),
}

/// What the wallet can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    scheme: Scheme,
    methods: Vec<String>,
    made_at_s: u64,
}

struct Pending {
    scheme: Scheme,
    sent_at: Instant,
    reply: oneshot::Sender<Result<Zeroizing<String>, Unanswered>>,
}

/// The state of a connection.
pub(super) struct Session<'a> {
    connection: &'a Connection,
    seal: &'a Seal,
    relay_url: String,
    offer: Option<Offer>,
    pending: HashMap<String, Pending>,
    answers: u64,
}

impl Turn {
    const WAITING: u8 = 0;
    const SENT: u8 = 1;
    const GIVEN_UP: u8 = 2;

    /// Takes the turn to send. False: its asker has gone.
    fn send(&self) -> bool {
        self.take(Self::SENT)
    }

    /// Gives the question up. False: it has been sent.
    pub(super) fn give_up(&self) -> bool {
        self.take(Self::GIVEN_UP)
    }

    fn take(&self, to: u8) -> bool {
        self.0.compare_exchange(Self::WAITING, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl From<Unanswered> for NodeError {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::NotAsked => Self::NotAsked,
            Unanswered::NotOffered(method) => Self::Refused(format!("the wallet does not offer {method}")),
            Unanswered::Relay(reason) => Self::Refused(format!("the relay: {reason}")),
            Unanswered::Lost => Self::Lost,
            Unanswered::Sealed => Self::Lied("seal"),
        }
    }
}

impl Offer {
    fn read(event: &Event) -> Option<Self> {
        Some(Self {
            scheme: Scheme::of_tag(event.tag("encryption"))?,
            // Some wallets write commas.
            methods: event.content.split([' ', ',']).map(str::to_owned).collect(),
            made_at_s: event.created_at,
        })
    }
}

impl<'a> Session<'a> {
    /// `offer` is what is known from an earlier connection.
    pub(super) fn new(
        connection: &'a Connection,
        seal: &'a Seal,
        relay_url: String,
        offer: Option<Offer>,
    ) -> Self {
        Self { connection, seal, relay_url, offer, pending: HashMap::new(), answers: 0 }
    }

    /// What is said first: what can the wallet do, and what does it say to us.
    pub(super) fn opening(&self, now_s: u64) -> Vec<String> {
        let wallet = hex::encode(&self.connection.wallet.to_byte_array());
        let since = now_s.saturating_sub(LOOK_BACK_S);
        let info = json!({"kinds": [INFO], "authors": [wallet], "limit": 1});
        // Not all wallets write on an answer whom it is for: Alby's own service does not.
        let answers = json!({"kinds": [RESPONSE], "authors": [wallet], "since": since});
        let notifications = json!({
            "kinds": [NOTIFICATION_NIP04, NOTIFICATION],
            "authors": [wallet],
            "#p": [self.own_key()],
            "since": since,
        });
        vec![
            frame::subscribe(INFO_SUBSCRIPTION, &[info]),
            frame::subscribe(WALLET_SUBSCRIPTION, &[answers, notifications]),
        ]
    }

    /// Whether questions can be sent.
    pub(super) fn is_ready(&self) -> bool {
        self.offer.is_some() && self.pending.len() < PENDING_MAX
    }

    /// Whether it is known what the wallet can do.
    pub(super) const fn knows_offer(&self) -> bool {
        self.offer.is_some()
    }

    /// How often the wallet has answered.
    pub(super) const fn answers(&self) -> u64 {
        self.answers
    }

    /// Questions under way.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// What to say to ask this. None: nobody waits any more, or it has been answered.
    pub(super) fn ask(&mut self, ask: Ask, now_s: u64, now: Instant) -> Option<String> {
        let offer = self.offer.as_ref()?;
        if !offer.methods.iter().any(|method| method == ask.method) {
            // Who has gone needs no answer.
            let _ = ask.reply.send(Err(Unanswered::NotOffered(ask.method)));
            return None;
        }
        let expires_at_s = now_s.saturating_add(ask.time_max.as_secs()).saturating_add(SKEW_S).to_string();
        let wallet = hex::encode(&self.connection.wallet.to_byte_array());
        let tags: &[&[&str]] =
            &[&["p", &wallet], &["encryption", offer.scheme.name()], &["expiration", &expires_at_s]];
        let content = self.seal.seal(offer.scheme, &ask.body)?;
        let event = Event::signed(&self.connection.keys, REQUEST, tags, content, now_s)?;
        if ask.reply.is_closed() || !ask.turn.send() {
            return None;
        }
        let pending = Pending { scheme: offer.scheme, sent_at: now, reply: ask.reply };
        self.pending.insert(event.id().to_owned(), pending);
        Some(frame::publish(&event))
    }

    /// Takes one message of the relay.
    pub(super) fn take(&mut self, text: &str, now_s: u64) -> Step {
        match FromRelay::read(text) {
            FromRelay::Event(event) => self.event(&event),
            FromRelay::Verdict { id, accepted: false, reason } => {
                if let Some(pending) = self.pending.remove(&id) {
                    let _ = pending.reply.send(Err(Unanswered::Relay(printable(&reason))));
                }
                Step::Wait
            }
            FromRelay::Challenge(challenge) => self.authenticated(&challenge, now_s),
            FromRelay::EndOfKept(name) if name == INFO_SUBSCRIPTION && self.offer.is_none() => {
                Step::Leave("the relay has no info event of the wallet")
            }
            // The challenge comes before or after.
            FromRelay::Closed { reason, .. } if reason.starts_with("auth-required") => Step::Wait,
            FromRelay::Closed { subscription, .. } if subscription == WALLET_SUBSCRIPTION => {
                Step::Leave("the relay has ended the subscription")
            }
            FromRelay::Closed { .. } if self.offer.is_none() => {
                Step::Leave("the relay shows no info event of the wallet")
            }
            FromRelay::Verdict { .. }
            | FromRelay::EndOfKept(_)
            | FromRelay::Closed { .. }
            | FromRelay::Other => Step::Wait,
        }
    }

    /// Forgets questions that nobody waits for any more: how many, and when the oldest of them was sent.
    pub(super) fn sweep(&mut self) -> (usize, Option<Instant>) {
        let (mut given_up, mut oldest) = (0, None::<Instant>);
        self.pending.retain(|_, pending| {
            let waits = !pending.reply.is_closed();
            if !waits {
                given_up += 1;
                oldest = Some(oldest.map_or(pending.sent_at, |oldest| oldest.min(pending.sent_at)));
            }
            waits
        });
        (given_up, oldest)
    }

    /// Ends the connection: what was asked and not answered is lost.
    pub(super) fn end(self) -> Option<Offer> {
        self.offer
    }

    /// An event counts when the wallet signed it. The cheap questions come first.
    fn event(&mut self, event: &Event) -> Step {
        if !event.claims(&self.connection.wallet) {
            return Step::Wait;
        }
        match event.kind {
            INFO => self.informed(event),
            RESPONSE => self.answered(event),
            NOTIFICATION | NOTIFICATION_NIP04 => self.notified(event),
            _ => Step::Wait,
        }
    }

    /// The newest info event counts. Without a way to seal that we know nothing can be asked.
    fn informed(&mut self, event: &Event) -> Step {
        let is_newer = self.offer.as_ref().is_none_or(|offer| offer.made_at_s < event.created_at);
        if is_newer && event.is_by(&self.connection.wallet) {
            let Some(offer) = Offer::read(event) else {
                return Step::Leave("the wallet knows no encryption of ours");
            };
            self.offer = Some(offer);
        }
        Step::Wait
    }

    /// An answer counts once, for the question that it names.
    fn answered(&mut self, event: &Event) -> Step {
        let Some(question) = event.tag("e").filter(|id| self.pending.contains_key(*id)) else {
            return Step::Wait;
        };
        if !event.is_by(&self.connection.wallet) {
            return Step::Wait;
        }
        if let Some(pending) = self.pending.remove(question) {
            self.answers += 1;
            let opened = self.seal.open(pending.scheme, &event.content);
            let _ = pending.reply.send(opened.ok_or(Unanswered::Sealed));
        }
        Step::Wait
    }

    fn notified(&mut self, event: &Event) -> Step {
        // A wallet that speaks both ways tells everything twice.
        let Some(scheme) = self.offer.as_ref().map(|offer| offer.scheme) else { return Step::Wait };
        let ours = match scheme {
            Scheme::Nip44 => NOTIFICATION,
            Scheme::Nip04 => NOTIFICATION_NIP04,
        };
        let is_for_us = event.tag("p").is_none_or(|key| key == self.own_key());
        if event.kind != ours || !is_for_us || !event.is_by(&self.connection.wallet) {
            return Step::Wait;
        }
        let received = self.seal.open(scheme, &event.content).and_then(|text| message::received(&text));
        match received {
            Some((payment_hash, msat)) => Step::Received { payment_hash, msat },
            None => Step::Wait,
        }
    }

    /// Shows who we are, and asks again for what was refused before.
    fn authenticated(&self, challenge: &str, now_s: u64) -> Step {
        let tags: &[&[&str]] = &[&["relay", &self.relay_url], &["challenge", challenge]];
        let event = Event::signed(&self.connection.keys, AUTHENTICATION, tags, String::new(), now_s);
        event.map_or(Step::Wait, |event| {
            let mut frames = vec![frame::authenticate(&event)];
            frames.extend(self.opening(now_s));
            Step::Say(frames)
        })
    }

    fn own_key(&self) -> String {
        hex::encode(&self.connection.keys.x_only_public_key().0.to_byte_array())
    }
}

#[cfg(test)]
mod tests;
