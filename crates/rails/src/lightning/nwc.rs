//! Nostr Wallet Connect (NIP-47): a wallet that is reached over relays, with messages that only it and we can read.
//!
//! Relays are strangers. They see who talks to whom, may lose, delay and repeat; what they say about money counts for
//! nothing. A wallet's answer counts once, when it is signed by the wallet and names the question.

mod books;
mod connection;
mod event;
mod frame;
mod link;
mod message;
mod nip04;
mod nip44;
mod seal;
mod session;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use link::Line;
use message::{Code, Failure, Info, Looked, Made, Proof, Request, Stage};
use serde::de::DeserializeOwned;
use wire::hex;

pub use connection::{Connection, ConnectionError};

use super::bolt11::{self, Returned};
use super::port::{About, InvoiceState, NodeError, Outgoing, Sent, Settled, Wanted};
use crate::dial::Dialer;

/// Longest that a payment is waited for. The wallet may still make it.
const PAY_TIME_MAX: Duration = Duration::from_secs(60);
/// Longest that news are waited for.
const NEWS_TIME_MAX: Duration = Duration::from_secs(30);
/// Millisatoshi of a satoshi. Many wallets know nothing smaller.
const SAT: u64 = 1000;

/// A wallet behind relays. Its clones share one connection, which the first question opens and the last clone ends.
#[derive(Clone)]
pub struct Wallet(Arc<Line>);

/// Questions to a wallet, and what they need.
pub(crate) struct Questions<'a> {
    line: &'a Line,
    dialer: &'a Dialer,
    time_max: Duration,
}

impl fmt::Debug for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Wallet").field(self.0.connection()).finish()
    }
}

/// Why a question has no result.
enum Trouble {
    Unanswered(session::Unanswered),
    Failure(Failure),
}

impl From<Trouble> for NodeError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Unanswered(unanswered) => unanswered.into(),
            Trouble::Failure(failure) => failure.into(),
        }
    }
}

/// What is asked for: whole satoshi, rounded up.
pub(crate) const fn whole_sat_up(msat: u64) -> Option<u64> {
    msat.div_ceil(SAT).checked_mul(SAT)
}

impl Wallet {
    /// A wallet that nobody has asked yet.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        Self(Arc::new(Line::new(connection)))
    }

    /// Asks it. `time_max` bounds each question, a payment apart.
    pub(crate) fn over<'a>(&'a self, dialer: &'a Dialer, time_max: Duration) -> Questions<'a> {
        Questions { line: &self.0, dialer, time_max }
    }
}

impl Questions<'_> {
    /// An invoice over `amount_msat`, not checked yet.
    pub(crate) async fn make_invoice(
        &self,
        wanted: &Wanted<'_>,
        amount_msat: u64,
    ) -> Result<Returned, NodeError> {
        let request = Request::MakeInvoice {
            amount: amount_msat,
            description: wanted.description,
            expiry: wanted.expiry_s,
        };
        let made: Made = self.ask(&request).await?;
        let decoded = bolt11::decode(&made.invoice).map_err(|_| NodeError::Lied("invoice"))?;
        let payment_hash = made.payment_hash(decoded.payment_hash)?;
        Ok(Returned { bolt11: made.invoice, payment_hash })
    }

    /// What became of an invoice.
    pub(crate) async fn look_up(&self, payment_hash: &[u8; 32]) -> Result<InvoiceState, NodeError> {
        let request = Request::LookupInvoice { payment_hash: hex::encode(payment_hash) };
        let looked: Looked = self.ask(&request).await?;
        looked.invoice(payment_hash)
    }

    /// What the wallet has told of since, as soon as there is something.
    pub(crate) async fn next_settled(&self, cursor: u64) -> Vec<Settled> {
        self.line.open(self.dialer);
        let news = self.line.books().wait_after(cursor);
        tokio::time::timeout(NEWS_TIME_MAX, news).await.unwrap_or_default()
    }

    /// Pays an invoice that names its amount. The protocol has no bound of the fee: a higher one is reported as it is.
    pub(crate) async fn pay(&self, bolt11: &str) -> Sent {
        let Some(payment_hash) = bolt11::decode(bolt11).ok().map(|invoice| invoice.payment_hash) else {
            return Sent::Failed("not an invoice".to_owned());
        };
        // A payment whose end could not be told is not begun, and none beside one that is under way.
        match self.payment(&payment_hash).await {
            Ok(Outgoing::Absent | Outgoing::Failed(_)) => {}
            Ok(Outgoing::Paid { preimage, fee_msat }) => return Sent::Paid { preimage, fee_msat },
            Ok(Outgoing::UnderWay) => return Sent::Unknown,
            Err(error) => return Sent::Failed(format!("the wallet was not asked to pay: {error}")),
        }
        let request = Request::PayInvoice { invoice: bolt11 };
        let failed = match self.try_ask::<Proof>(&request, PAY_TIME_MAX).await {
            Ok(proof) => match proof.of(&payment_hash) {
                Some((preimage, fee_msat)) => return Sent::Paid { preimage, fee_msat },
                None => None,
            },
            Err(Trouble::Unanswered(session::Unanswered::NotAsked)) => {
                return Sent::Failed("the wallet cannot be reached".to_owned());
            }
            Err(Trouble::Unanswered(session::Unanswered::NotOffered(_))) => {
                return Sent::Failed("the wallet does not pay".to_owned());
            }
            Err(Trouble::Failure(Failure::Refused { code: Code::Declined, reason })) => {
                return Sent::Failed(reason);
            }
            Err(Trouble::Failure(Failure::Refused { code: Code::PaymentFailed, reason })) => Some(reason),
            Err(Trouble::Unanswered(_) | Trouble::Failure(_)) => None,
        };
        self.ended(&payment_hash, failed).await
    }

    /// What the wallet knows of a payment.
    pub(crate) async fn outgoing(&self, bolt11: &str) -> Result<Outgoing, NodeError> {
        let invoice = bolt11::decode(bolt11);
        let invoice = invoice.map_err(|_| NodeError::Refused("not an invoice".to_owned()))?;
        self.payment(&invoice.payment_hash).await
    }

    /// What the wallet says of itself. One that may not be asked says nothing.
    pub(crate) async fn about(&self) -> Result<About, NodeError> {
        match self.try_ask::<Info>(&Request::GetInfo {}, self.time_max).await {
            Ok(info) => {
                Ok(About { node_key: info.node_key(), network: info.network(), can_receive_msat: None })
            }
            Err(Trouble::Unanswered(session::Unanswered::NotOffered(_))) => Ok(About::default()),
            Err(trouble) => Err(trouble.into()),
        }
    }

    /// How a payment ended of which the wallet says that it failed, or nothing clear. Both have to agree.
    async fn ended(&self, payment_hash: &[u8; 32], failed: Option<String>) -> Sent {
        match (self.payment(payment_hash).await, failed) {
            (Ok(Outgoing::Paid { preimage, fee_msat }), _) => Sent::Paid { preimage, fee_msat },
            (Ok(Outgoing::Failed(_) | Outgoing::Absent), Some(reason))
            | (Ok(Outgoing::Failed(reason)), None) => Sent::Failed(reason),
            (Ok(Outgoing::Absent | Outgoing::UnderWay) | Err(_), _) => Sent::Unknown,
        }
    }

    async fn payment(&self, payment_hash: &[u8; 32]) -> Result<Outgoing, NodeError> {
        let request = Request::LookupInvoice { payment_hash: hex::encode(payment_hash) };
        let answer = match self.line.ask(self.dialer, &request, self.time_max).await {
            Ok(answer) => answer,
            Err(unanswered) => return Err(unanswered.into()),
        };
        let looked: Looked = match request.result(&answer) {
            Ok(looked) => looked,
            Err(Failure::Refused { code: Code::NotFound, .. }) => return Ok(Outgoing::Absent),
            Err(failure) => return Err(failure.into()),
        };
        Ok(match looked.payment(payment_hash)? {
            Stage::Open => Outgoing::UnderWay,
            Stage::Over => Outgoing::Failed("the payment failed".to_owned()),
            Stage::Settled => {
                // It is a payment of ours: this preimage is the proof that we bought.
                let proof: Proof = request.result(&answer)?;
                let (preimage, fee_msat) = proof.of(payment_hash).ok_or(NodeError::Lied("preimage"))?;
                Outgoing::Paid { preimage, fee_msat }
            }
        })
    }

    async fn ask<T: DeserializeOwned>(&self, request: &Request<'_>) -> Result<T, NodeError> {
        Ok(self.try_ask(request, self.time_max).await?)
    }

    async fn try_ask<T: DeserializeOwned>(
        &self,
        request: &Request<'_>,
        time_max: Duration,
    ) -> Result<T, Trouble> {
        let answer = self.line.ask(self.dialer, request, time_max).await.map_err(Trouble::Unanswered)?;
        request.result(&answer).map_err(Trouble::Failure)
    }
}
