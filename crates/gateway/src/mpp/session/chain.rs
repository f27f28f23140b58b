//! Our own transactions: written down before they are sent, and sent again as they are until their end is known.

use std::time::Duration;

use proof::evm_transaction::Transaction;
use proof::secp::SecretKey;
use proof::voucher::Channel;
use rails::{Mined, Sent};
use store::{ChannelTransaction, StoreError};

use super::Slot;
use super::receive::For;
use crate::channels::Beside;
use crate::clock::Now;

/// How often a node is asked whether it has a transaction, and the wait between.
const ASKED_MAX: u32 = 20;
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// What a transaction is to do.
pub(super) struct Wanted {
    /// What is called, and with what.
    pub(super) data: Vec<u8>,
    /// What the channel will have given in all.
    pub(super) total_claimed: u128,
    /// Whether it ends the channel.
    pub(super) ends: bool,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is done, by the transaction of this hash.
    Done(String),
    /// It would do nothing, or has done nothing.
    Reverted,
    /// Nothing was sent.
    NotSent,
    /// It may come in yet.
    Unknown,
}

impl For<'_> {
    /// Makes a transaction on a channel, after the one before it.
    ///
    /// # Errors
    /// It could not be written down: nothing new was sent.
    ///
    /// # Cancel safety
    /// None.
    pub(super) async fn transact(&self, slot: &Slot, wanted: &Wanted) -> Result<Outcome, StoreError> {
        let _turn = self.gate.sessions.sending.lock().await;
        let before = slot.lock().await.record.taking.clone();
        if let Some(before) = before {
            let outcome = self.resolve(slot, &before).await?;
            let is_it = before.ends == wanted.ends && before.total_claimed == wanted.total_claimed;
            match outcome {
                Outcome::Done(_) if is_it => return Ok(outcome),
                Outcome::Unknown => return Ok(outcome),
                Outcome::Done(_) | Outcome::Reverted | Outcome::NotSent => {}
            }
        }
        match self.written(slot, wanted).await? {
            Ok(transaction) => self.resolve(slot, &transaction).await,
            Err(outcome) => Ok(outcome),
        }
    }

    /// Signs a transaction and writes it down.
    async fn written(
        &self,
        slot: &Slot,
        wanted: &Wanted,
    ) -> Result<Result<ChannelTransaction, Outcome>, StoreError> {
        let (rules, node) = (&self.terms.rules, &self.terms.node);
        // The contract that keeps this channel, whichever keeps new ones by now.
        let (to, data) = (*slot.config.escrow().contract(), wanted.data.clone());
        let fees = match node.fees(&rules.sender, &to, &data).await {
            Ok(Some(fees)) => fees,
            Ok(None) => return Ok(Err(Outcome::NotSent)),
            Err(message) => {
                tracing::warn!(channel = %wire::hex::encode(&slot.id), message, "a transaction would do nothing");
                return Ok(Err(Outcome::Reverted));
            }
        };
        let transaction = Transaction {
            chain_id: rules.escrow.chain_id(),
            nonce: fees.nonce,
            tip_per_gas: fees.fee_per_gas.min(1),
            fee_per_gas: fees.fee_per_gas,
            gas: fees.gas,
            to,
            data,
        };
        let signed =
            SecretKey::from_bytes(rules.key.expose()).ok().and_then(|key| transaction.sign(&key).ok());
        let Some(signed) = signed else { return Ok(Err(Outcome::NotSent)) };
        let taking = ChannelTransaction {
            total_claimed: wanted.total_claimed,
            ends: wanted.ends,
            hash: signed.hash,
            raw: signed.raw,
            nonce: fees.nonce,
            sent_ms: Now::read().millis(),
        };
        let mut kept = slot.lock().await;
        let record = store::Channel { taking: Some(taking.clone()), ..kept.record.clone() };
        slot.write(&self.gate.store, &mut kept, record, Beside::default()).await?;
        Ok(Ok(taking))
    }

    /// Sends what was written down, again if need be, and looks what became of it.
    async fn resolve(&self, slot: &Slot, taking: &ChannelTransaction) -> Result<Outcome, StoreError> {
        let node = &self.terms.node;
        let outcome = match node.mined(&taking.hash).await {
            Mined::Done => Outcome::Done(taking.hash.clone()),
            Mined::Reverted => Outcome::Reverted,
            Mined::NotYet => {
                if let Sent::Refused(message) = node.send(&taking.raw).await {
                    tracing::debug!(message, "a transaction of ours was not taken, or not again");
                }
                self.awaited(taking).await
            }
        };
        self.gate.metrics.settlement(&self.rail(), word(&outcome));
        if outcome != Outcome::Unknown {
            let mut kept = slot.lock().await;
            let mut channel: Channel<[u8; 65]> = kept.channel(0);
            if let Outcome::Done(_) = outcome {
                channel.mirror.total_claimed = channel.mirror.total_claimed.max(taking.total_claimed);
            }
            let record = store::Channel { taking: None, ..kept.moved(&channel) };
            let beside = Beside { is_result: true, ..Beside::default() };
            slot.write(&self.gate.store, &mut kept, record, beside).await?;
        }
        Ok(outcome)
    }

    async fn awaited(&self, taking: &ChannelTransaction) -> Outcome {
        let node = &self.terms.node;
        for _ in 0..ASKED_MAX {
            match node.mined(&taking.hash).await {
                Mined::Done => return Outcome::Done(taking.hash.clone()),
                Mined::Reverted => return Outcome::Reverted,
                Mined::NotYet => {}
            }
            // Its place was taken by another of the same sender: it never comes in.
            let count = node.count(&self.terms.rules.sender).await;
            if count.is_some_and(|count| count > taking.nonce)
                && node.mined(&taking.hash).await == Mined::NotYet
            {
                return Outcome::NotSent;
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
        Outcome::Unknown
    }
}

/// The word in metrics.
const fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done(_) => "settled",
        Outcome::Reverted => "refused",
        Outcome::NotSent => "not_sent",
        Outcome::Unknown => "unknown",
    }
}
