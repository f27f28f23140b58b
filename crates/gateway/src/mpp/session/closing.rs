//! The end of a session: what was used is taken, the rest goes back, and nothing begins any more from the moment that this
//! is decided (ENG-4, ENG-5).

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use ledger::Kind as EntryKind;
use money::Amount;
use proof::voucher::{Channel, Closing, Mirror, Signed};
use sha2::{Digest as _, Sha256};
use store::{ChannelClose, StoreError};
use tokio::sync::MutexGuard;

use super::chain::{By, Decided, Ending, Ends, Seen};
use super::receive::{For, moved};
use super::sending::{Outcome, Wanted};
use super::{Kept, OfSessions, Signature, Slot, told};
use crate::channels::{Beside, Kind as _};
use crate::clock::Now;
use crate::payments::{store_refusal, unknown_outcome, unsure};
use crate::refusal::Refusal;

/// A node that was behind may see nothing where there is something: it is believed when it has for so long.
const GONE_FOR_S: u64 = 10;

/// How long an end waits for calls that are just ending: clients close when they have read the last byte of an answer, and
/// it is captured then.
const CALLS_END_WITHIN: Duration = Duration::from_secs(2);

impl For<'_> {
    /// Ends a channel as its payer asked, by the voucher that he sent. The hash of the transaction.
    ///
    /// # Errors
    /// The refusal says what happened to the money. Once it is decided that the channel ends, the same request again
    /// finds out how it did.
    ///
    /// # Cancel safety
    /// None.
    pub(super) async fn close(&self, slot: &Slot, signed: Signed<Signature>) -> Result<String, Refusal> {
        self.calls_end(slot).await;
        let _claim = self.gate.claims.take(slot.id, slot.id).map_err(|_| told::busy())?;
        let is_closing = slot.lock().await.record.closing.is_some();
        if !is_closing {
            self.look(slot).await?;
            let kept = slot.lock().await;
            if kept.record.closing.is_none() {
                self.decide(slot, kept, By::Voucher(signed)).await?;
            }
        }
        match self.finish(slot).await.map_err(|error| unsure(&error))? {
            Outcome::Done(hash) => Ok(hash),
            Outcome::Reverted => Err(told::reverted(self.terms)),
            Outcome::NotSent | Outcome::Unknown => Err(unknown_outcome()),
        }
    }

    /// Waits until no call of the channel is open, or for so long.
    async fn calls_end(&self, slot: &Slot) {
        let Some(waiter) = self.gate.arrivals.wait(slot.account.id()) else { return };
        let none_is_open = poll_fn(|cx| {
            waiter.listen(cx.waker());
            if slot.account.held() > Amount::ZERO { Poll::Pending } else { Poll::Ready(()) }
        });
        // What is open after that is found by whoever decides.
        let _ = tokio::time::timeout(CALLS_END_WITHIN, none_is_open).await;
    }

    /// Decides how a channel ends, by this: what is not used leaves its account, and on disk it is closing.
    ///
    /// # Errors
    /// It stands where it stood.
    ///
    /// # Cancel safety
    /// None.
    pub(super) async fn decide(
        &self,
        slot: &Slot,
        mut kept: MutexGuard<'_, Kept>,
        by: By,
    ) -> Result<(), Refusal> {
        let on = self.terms.on(&slot.config).ok_or_else(told::unseen)?;
        // Out of the account first: from here on no call can set anything aside.
        let taken = self.gate.book.withdraw(&slot.account, slot.account.available());
        let give_back = |amount| {
            self.gate.deposit(slot.account.id(), slot.unit.asset, amount);
        };
        // A hold is noted before it is taken: whoever was quicker is seen here.
        if slot.account.held() > Amount::ZERO {
            give_back(taken);
            return Err(told::busy());
        }
        // What a hold gave back between the two looks.
        let late = self.gate.book.withdraw(&slot.account, slot.account.available());
        let taken = taken.plus(late).unwrap_or(taken);
        let carry = slot.unit.whole(taken);
        let channel = kept.channel(carry);
        let now = Now::read();
        let ends = match on.ends(self.terms, &channel, &by, now.seconds()) {
            Ok(ends) => ends,
            Err(refusal) => {
                give_back(taken);
                return Err(refusal);
            }
        };
        let Ends { closing, promise } = ends;
        let lost = channel.used().saturating_sub(closing.capture);
        if lost > 0 {
            tracing::error!(channel = %wire::hex::encode(&slot.id), lost,
                "ALARM: a channel ends, and its payer signed nothing by which all that it owes could be taken");
        }
        let back = goes_back(slot, &channel, &closing).min(taken);
        give_back(taken.minus(back).unwrap_or_default());
        let published =
            promise.map_or_else(|| channel.clone(), |by| channel.with_published(by.max_claimable));
        let record = store::Channel {
            closing: Some(ChannelClose {
                capture: closing.capture,
                refund: closing.refund,
                promise: promise.as_ref().map(OfSessions::write),
                is_done: false,
                asked_ms: now.millis(),
                reference: String::new(),
            }),
            // From here on a node may show it to everybody.
            ..kept.moved(&published.with_closing())
        };
        let entry = (back > Amount::ZERO).then(|| self.going_back(slot, back, now));
        let beside = Beside { entry, ..Beside::default() };
        let written = slot.write(&self.gate.store, &mut kept, record, beside).await;
        if let Err(error) = written {
            give_back(back);
            return Err(store_refusal(&error));
        }
        drop(kept);
        self.gate.arrivals.wake(slot.account.id());
        Ok(())
    }

    /// Carries out on the chain what was decided.
    ///
    /// # Errors
    /// It is not known here how it ended.
    ///
    /// # Cancel safety
    /// None.
    pub(super) async fn finish(&self, slot: &Slot) -> Result<Outcome, StoreError> {
        let Some(on) = self.terms.on(&slot.config) else { return Ok(Outcome::NotSent) };
        // One that is on its way may have ended it by now, and then it says how.
        if let Some((before, outcome)) = self.before(slot).await? {
            match outcome {
                Outcome::Done(hash) if before.ends => {
                    let mut kept = slot.lock().await;
                    self.end(slot, &mut kept, hash.clone(), before.total_claimed).await?;
                    return Ok(Outcome::Done(hash));
                }
                Outcome::Unknown => return Ok(outcome),
                Outcome::Done(_) | Outcome::Reverted | Outcome::NotSent => {}
            }
        }
        let decided = {
            let kept = slot.lock().await;
            let Some(closing) = &kept.record.closing else { return Ok(Outcome::NotSent) };
            if closing.is_done {
                return Ok(Outcome::Done(closing.reference.clone()));
            }
            let promise = closing.promise.as_ref().and_then(|promise| {
                Some(Signed { max_claimable: promise.max_claimable, signature: OfSessions::read(promise)? })
            });
            let decimals = slot.unit.decimals;
            Decided { capture: closing.capture, promise, kept: kept.channel(0), decimals }
        };
        let ending = on.end(&slot.id, &decided, Now::read().seconds()).await;
        let (taken, outcome) = match ending {
            None => return Ok(Outcome::Unknown),
            Some(Ending::Impossible) => return Ok(Outcome::NotSent),
            Some(Ending::By { calls, taken }) => {
                let wanted = Wanted { calls, total_claimed: taken, ends: true };
                (taken, self.transact(slot, &wanted).await?)
            }
            Some(Ending::Over { taken }) => (taken, Outcome::Done(String::new())),
        };
        match &outcome {
            Outcome::Done(hash) => {
                let mut kept = slot.lock().await;
                self.end(slot, &mut kept, hash.clone(), taken).await?;
            }
            Outcome::Reverted => {
                tracing::error!(channel = %wire::hex::encode(&slot.id), "ALARM: a channel cannot be closed on its chain");
            }
            Outcome::NotSent | Outcome::Unknown => {}
        }
        Ok(outcome)
    }

    /// It has ended on its chain, and so much was taken: as was decided, unless somebody was quicker. The account has what
    /// was taken and not used, whatever had been decided.
    async fn end(
        &self,
        slot: &Slot,
        kept: &mut Kept,
        reference: String,
        taken: u128,
    ) -> Result<(), StoreError> {
        // Whoever looks at the chain beside us may have written it.
        let undone = kept.record.closing.clone().filter(|closing| !closing.is_done);
        let Some(closing) = undone else { return Ok(()) };
        let missing = closing.capture.saturating_sub(taken);
        // What is still there was to be taken beyond what was used, and was not.
        let there = slot.unit.whole(slot.account.available()).min(missing);
        let back = self.gate.book.withdraw(&slot.account, slot.unit.ledger(there).unwrap_or_default());
        let lost = missing.saturating_sub(there);
        if lost > 0 {
            alarm_lost(slot, lost);
        }
        let beyond = taken.saturating_sub(closing.capture);
        let more = slot.unit.ledger(beyond).unwrap_or_default();
        if beyond > 0 {
            tracing::warn!(channel = %wire::hex::encode(&slot.id), account = %slot.account.id(), stays = beyond,
                "a channel's chain took more than was decided: the rest stays on the channel's account, as its payer's");
        }
        let channel: Channel<Signature> = kept.channel(0);
        let ended = channel.closing_at(taken);
        let record = store::Channel {
            closing: Some(ChannelClose {
                capture: ended.capture,
                refund: ended.refund,
                is_done: true,
                reference,
                ..closing
            }),
            taking: None,
            ..kept.moved(&channel.finalized(&ended))
        };
        let moved = more.minus(back).unwrap_or_default();
        let entry = (moved != Amount::ZERO).then(|| self.put_right(slot, moved, Now::read()));
        let beside = Beside { entry, is_result: true, ..Beside::default() };
        if let Err(error) = slot.write(&self.gate.store, kept, record, beside).await {
            self.gate.deposit(slot.account.id(), slot.unit.asset, back);
            return Err(error);
        }
        self.gate.deposit(slot.account.id(), slot.unit.asset, more);
        Ok(())
    }

    /// Keeps what was seen of a channel on its chain. Sums there never sink; a node that is behind shows older ones.
    ///
    /// # Errors
    /// [`StoreError`]: it is looked at again.
    pub(super) async fn keep(&self, slot: &Slot, seen: &Seen) -> Result<(), StoreError> {
        let now = Now::read();
        let mut kept = slot.lock().await;
        let known = kept.channel(0).mirror;
        let is_gone = seen.deposit == 0 && known.balance > 0;
        let for_long = now.seconds().saturating_sub(known.synced_at_s) >= GONE_FOR_S;
        if seen.finalized || is_gone && for_long {
            return self.over(slot, kept, seen.settled, now).await;
        }
        if is_gone {
            return Ok(());
        }
        let mut view = seen.mirror(now.seconds());
        view.balance = view.balance.max(known.balance);
        view.total_claimed = view.total_claimed.max(known.total_claimed);
        let record = kept.moved(&kept.channel(0).refreshed(view));
        slot.write(&self.gate.store, &mut kept, record, Beside::default()).await
    }

    /// The channel has ended on its chain, by us or by its payer.
    async fn over(
        &self,
        slot: &Slot,
        mut kept: MutexGuard<'_, Kept>,
        settled: u128,
        now: Now,
    ) -> Result<(), StoreError> {
        if let Some(closing) = &kept.record.closing {
            // A transaction of ours may have done it, and then it says how.
            if closing.is_done || kept.record.taking.is_some() {
                return Ok(());
            }
            let taken = settled.max(kept.record.mirror.total_claimed);
            return self.end(slot, &mut kept, String::new(), taken).await;
        }
        let taken = self.gate.book.withdraw(&slot.account, slot.account.available());
        let known = kept.channel(slot.unit.whole(taken));
        let total_claimed = settled.max(known.mirror.total_claimed);
        let channel = known.refreshed(Mirror { total_claimed, ..known.mirror });
        let lost = channel.used().saturating_sub(total_claimed);
        if lost > 0 {
            alarm_lost(slot, lost);
        }
        let closing = channel.closing_at(total_claimed);
        let back = goes_back(slot, &channel, &closing).min(taken);
        self.gate.deposit(slot.account.id(), slot.unit.asset, taken.minus(back).unwrap_or_default());
        let record = store::Channel {
            closing: Some(ChannelClose {
                capture: closing.capture,
                refund: closing.refund,
                promise: None,
                is_done: true,
                asked_ms: now.millis(),
                reference: String::new(),
            }),
            taking: None,
            ..kept.moved(&channel.finalized(&closing))
        };
        let entry = (back > Amount::ZERO).then(|| self.going_back(slot, back, now));
        let written =
            slot.write(&self.gate.store, &mut kept, record, Beside { payment: None, entry, is_result: true });
        if let Err(error) = written.await {
            self.gate.deposit(slot.account.id(), slot.unit.asset, back);
            return Err(error);
        }
        drop(kept);
        self.gate.arrivals.wake(slot.account.id());
        Ok(())
    }

    /// What was accepted and not used is the payer's on the chain, and no longer here.
    fn going_back(&self, slot: &Slot, amount: Amount, now: Now) -> ledger::Draft {
        let less = amount.negated().unwrap_or_default();
        self.refund(slot, b"farthing/session-close/1", less, now)
    }

    /// An end took another sum than was decided: so much more of it, or less, is the payer's here.
    fn put_right(&self, slot: &Slot, into: Amount, now: Now) -> ledger::Draft {
        self.refund(slot, b"farthing/session-end/1", into, now)
    }

    fn refund(&self, slot: &Slot, of: &[u8], into: Amount, now: Now) -> ledger::Draft {
        let key: [u8; 32] = Sha256::new_with_prefix(of).chain_update(slot.id).finalize().into();
        moved(slot, &self.rail(), EntryKind::Refund, into, key, slot.config.name(&slot.id), now)
    }
}

/// What leaves the account of a channel that ends so: what its chain gives back of what was accepted. What the chain takes
/// beyond what was used stays there, as its payer's; so do parts of a unit that no chain can give back.
fn goes_back(slot: &Slot, channel: &Channel<Signature>, closing: &Closing) -> Amount {
    let goes = channel.carry.min(channel.charged.saturating_sub(closing.capture));
    let stays = channel.carry.saturating_sub(goes);
    if stays > 0 {
        tracing::warn!(channel = %wire::hex::encode(&slot.id), account = %slot.account.id(), stays,
            "a channel's chain takes more than was used: the rest stays on the channel's account, as its payer's");
    }
    slot.unit.ledger(goes).unwrap_or_default()
}

fn alarm_lost(slot: &Slot, lost: u128) {
    tracing::error!(channel = %wire::hex::encode(&slot.id), lost,
        "ALARM: a payer has withdrawn from his channel before what it owed was taken");
}
