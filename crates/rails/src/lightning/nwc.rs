//! Nostr Wallet Connect (NIP-47): a wallet that is reached over relays, with messages that only it and we can read.
//!
//! Relays are strangers. They see who talks to whom, may lose, delay and repeat; what they say about money counts for
//! nothing. A wallet's answer counts once, when it is signed by the wallet and names the question (L402-72).

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

/// What a wallet of the tests is made of.
#[cfg(test)]
pub(super) mod standin {
    pub(in crate::lightning) use super::event::Event;
    pub(in crate::lightning) use super::seal::{Scheme, Seal};
}

use std::time::Duration;

use link::Line;
use message::{Code, Failure, Info, Looked, Made, Proof, Request, Stage};
use serde::de::DeserializeOwned;
use session::Unanswered;
use wire::hex;

pub use connection::{Connection, ConnectionError};

use super::bolt11::{self, Returned};
use super::payment::{Order, Ordered, PAY_TIME_MAX};
use super::port::{About, InvoiceState, NodeError, Outgoing, Settled, WAIT, Wanted};
use crate::dial::Dialer;

/// What Alby Hub, behind which most of these wallets are, lets a way cost: a hundredth, and at least so much.
const FEE_MSAT_MIN: u64 = 10_000;
const FEE_SHARE: u64 = 100;

/// A wallet behind relays. The first question opens a connection, which lasts as long as this.
#[derive(Debug)]
pub(super) struct Nwc {
    line: Line,
    time_max: Duration,
}

/// Why a question has no result.
enum Trouble {
    Unanswered(Unanswered),
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

impl Nwc {
    /// A wallet that nobody has asked yet.
    pub(super) fn new(connection: Connection, dialer: Dialer, time_max: Duration) -> Self {
        Self { line: Line::new(connection, dialer), time_max }
    }

    pub(super) async fn create(&self, wanted: &Wanted<'_>, amount_msat: u64) -> Result<Returned, NodeError> {
        let (description, expiry) = (wanted.description, wanted.expiry_s);
        let made: Made = self.ask(&Request::MakeInvoice { amount: amount_msat, description, expiry }).await?;
        let decoded = bolt11::decode(&made.invoice).map_err(|_| NodeError::Lied("invoice"))?;
        let payment_hash = made.payment_hash(decoded.payment_hash)?;
        Ok(Returned { bolt11: made.invoice, payment_hash })
    }

    pub(super) async fn look_up(&self, payment_hash: &[u8; 32]) -> Result<InvoiceState, NodeError> {
        let looked: Looked = self.ask(&look_up(payment_hash)).await?;
        looked.invoice(payment_hash)
    }

    /// What the wallet has told of since. The cursor is the microsecond at which it did.
    pub(super) async fn next_settled(&self, cursor: u64) -> Vec<Settled> {
        self.line.open();
        let news = self.line.books().wait_after(cursor);
        tokio::time::timeout(WAIT, news).await.unwrap_or_default()
    }

    /// What wallets let the way cost: the protocol has no limit.
    pub(super) fn fee_max_msat(amount_msat: u64) -> u64 {
        amount_msat.div_ceil(FEE_SHARE).max(FEE_MSAT_MIN)
    }

    pub(super) async fn order(&self, order: &Order<'_>) -> Ordered {
        let amount = order.leaves_amount.then_some(order.amount_msat);
        match self
            .try_ask::<Proof>(&Request::PayInvoice { invoice: order.bolt11, amount }, PAY_TIME_MAX)
            .await
        {
            Ok(proof) => match proof.of(&order.payment_hash) {
                Some((preimage, fee_msat)) => Ordered::Paid { preimage, fee_msat },
                None => Ordered::Lost,
            },
            Err(Trouble::Unanswered(Unanswered::NotAsked)) => {
                Ordered::Never("the wallet cannot be reached".to_owned())
            }
            Err(Trouble::Unanswered(Unanswered::NotOffered(_))) => {
                Ordered::Never("the wallet does not pay".to_owned())
            }
            Err(Trouble::Failure(Failure::Refused {
                code: Code::Declined | Code::PaymentFailed,
                reason,
            })) => Ordered::Answered(reason),
            // A relay's word on it counts for nothing.
            Err(Trouble::Unanswered(Unanswered::Relay(_) | Unanswered::Lost | Unanswered::Sealed))
            | Err(Trouble::Failure(Failure::Malformed(_)))
            | Err(Trouble::Failure(Failure::Refused { code: Code::NotFound | Code::Unclear, .. })) => {
                Ordered::Lost
            }
        }
    }

    pub(super) async fn outgoing(&self, payment_hash: &[u8; 32]) -> Result<Outgoing, NodeError> {
        let request = look_up(payment_hash);
        let answer = self.line.ask(&request, self.time_max).await?;
        let looked: Looked = match request.result(&answer) {
            Ok(looked) => looked,
            Err(Failure::Refused { code: Code::NotFound, .. }) => return Ok(Outgoing::Absent),
            Err(failure) => return Err(failure.into()),
        };
        Ok(match looked.payment(payment_hash)? {
            Stage::Open => Outgoing::UnderWay,
            Stage::Over => Outgoing::Failed("the payment failed".to_owned()),
            Stage::Settled => {
                // Read for a payment of ours only: it is the proof that we have bought something.
                let proof: Proof = request.result(&answer)?;
                proof
                    .of(payment_hash)
                    .map_or(Outgoing::UnderWay, |(preimage, fee_msat)| Outgoing::Paid { preimage, fee_msat })
            }
        })
    }

    /// What the wallet says of itself. One that does not offer it says nothing.
    pub(super) async fn about(&self) -> Result<About, NodeError> {
        match self.try_ask::<Info>(&Request::GetInfo {}, self.time_max).await {
            Ok(info) => {
                Ok(About { node_key: info.node_key(), network: info.network(), can_receive_msat: None })
            }
            Err(Trouble::Unanswered(Unanswered::NotOffered(_))) => Ok(About::default()),
            Err(trouble) => Err(trouble.into()),
        }
    }

    async fn ask<T: DeserializeOwned>(&self, request: &Request<'_>) -> Result<T, NodeError> {
        Ok(self.try_ask(request, self.time_max).await?)
    }

    async fn try_ask<T: DeserializeOwned>(
        &self,
        request: &Request<'_>,
        time_max: Duration,
    ) -> Result<T, Trouble> {
        let answer = self.line.ask(request, time_max).await.map_err(Trouble::Unanswered)?;
        request.result(&answer).map_err(Trouble::Failure)
    }
}

fn look_up(payment_hash: &[u8; 32]) -> Request<'static> {
    Request::LookupInvoice { payment_hash: hex::encode(payment_hash) }
}
