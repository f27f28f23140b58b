//! Our own transactions: written down before they are sent, and sent again as they are until their end is known.

use std::time::Duration;

use proof::voucher::Channel;
use rails::{Mined, Sent};
use store::{ChannelTransaction, StoreError};

use super::chain::{Calls, NotWritten};
use super::receive::For;
use super::{Signature, Slot};
use crate::channels::Beside;
use crate::clock::Now;

/// How often a node is asked whether it has a transaction, and the wait between.
const ASKED_MAX: u32 = 20;
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// What a transaction is to do.
pub(super) struct Wanted {
    pub(super) calls: Calls,
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
        let _turn = self.gate.sessions.sending(self.terms).lock().await;
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

    /// What became of the transaction that is written down, if there is one; it is sent again if need be.
    ///
    /// # Errors
    /// Its end could not be written down.
    ///
    /// # Cancel safety
    /// None.
    pub(super) async fn before(
        &self,
        slot: &Slot,
    ) -> Result<Option<(ChannelTransaction, Outcome)>, StoreError> {
        let _turn = self.gate.sessions.sending(self.terms).lock().await;
        let Some(before) = slot.lock().await.record.taking.clone() else { return Ok(None) };
        let outcome = self.resolve(slot, &before).await?;
        Ok(Some((before, outcome)))
    }

    /// Signs a transaction and writes it down.
    async fn written(
        &self,
        slot: &Slot,
        wanted: &Wanted,
    ) -> Result<Result<ChannelTransaction, Outcome>, StoreError> {
        let channel = wire::hex::encode(&slot.id);
        let written = match self.terms.write(&wanted.calls).await {
            Ok(written) => written,
            Err(NotWritten::Useless(message)) => {
                tracing::warn!(%channel, message, "a transaction would do nothing");
                return Ok(Err(Outcome::Reverted));
            }
            Err(NotWritten::Unable) => {
                tracing::warn!(%channel, "a transaction cannot be signed now");
                return Ok(Err(Outcome::NotSent));
            }
        };
        let taking = ChannelTransaction {
            total_claimed: wanted.total_claimed,
            ends: wanted.ends,
            hash: written.hash,
            raw: written.raw,
            counts_until: written.counts_until,
            sent_ms: Now::read().millis(),
        };
        let mut kept = slot.lock().await;
        let record = store::Channel { taking: Some(taking.clone()), ..kept.record.clone() };
        slot.write(&self.gate.store, &mut kept, record, Beside::default()).await?;
        Ok(Ok(taking))
    }

    /// Sends what was written down, again if need be, and looks what became of it.
    async fn resolve(&self, slot: &Slot, taking: &ChannelTransaction) -> Result<Outcome, StoreError> {
        let outcome = match self.terms.mined(&taking.hash).await {
            Mined::Done => Outcome::Done(taking.hash.clone()),
            Mined::Reverted => Outcome::Reverted,
            Mined::NotYet => {
                if let Sent::Refused(message) = self.terms.send(&taking.raw).await {
                    let channel = wire::hex::encode(&slot.id);
                    tracing::info!(%channel, message, "a transaction of ours was not taken, or not again");
                }
                self.awaited(taking).await
            }
        };
        self.gate.metrics.settlement(&self.rail(), word(&outcome));
        // What has ended the channel stands there until its end is written: what it took, nothing else says.
        let has_ended = taking.ends && matches!(outcome, Outcome::Done(_));
        if outcome != Outcome::Unknown && !has_ended {
            let mut kept = slot.lock().await;
            let mut channel: Channel<Signature> = kept.channel(0);
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
        let terms = self.terms;
        for _ in 0..ASKED_MAX {
            match terms.mined(&taking.hash).await {
                Mined::Done => return Outcome::Done(taking.hash.clone()),
                Mined::Reverted => return Outcome::Reverted,
                Mined::NotYet => {}
            }
            // It never comes in: its place was taken by another of the same sender, or its time is over.
            let counted = terms.counted().await;
            if counted.is_some_and(|counted| counted > taking.counts_until)
                && terms.mined(&taking.hash).await == Mined::NotYet
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
