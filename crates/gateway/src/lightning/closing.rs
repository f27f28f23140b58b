//! The end of a session: first nothing begins on it any more, then what is left goes back, once (MPP-29).

use std::sync::Arc;
use std::time::Duration;

use money::Amount;
use store::{LightningSession, PayoutState, SessionClose, SessionRefund};
use tokio::time::timeout;
use wire::mpp::receipt::RefundStatus;

use super::acts;
use super::sessions::Slot;
use crate::clock::Now;
use crate::gate::Gate;
use crate::payouts;
use crate::refusal::{Code, Money, Refusal};
use crate::snapshot::Snapshot;

/// How long the end of a session waits for calls that run on it: those that wait for money end at once.
const RUNNING_MAX: Duration = Duration::from_secs(10);
/// How often it is looked for sessions that nothing is asked of, and for refunds that are decided.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How a session has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed {
    pub(super) sats: u64,
    pub(super) status: RefundStatus,
}

/// Ends a session for the holder of its preimage; the same challenge is told the same again.
///
/// # Errors
/// It has ended before, or it is not known yet what became of the rest.
///
/// # Cancel safety
/// None: run it in a task that a lost connection does not end.
pub(super) async fn close(
    gate: &Arc<Gate>,
    snapshot: &Arc<Snapshot>,
    slot: &Slot,
    challenge_id: &str,
) -> Result<Closed, Refusal> {
    let ended = mark(gate, slot, challenge_id).await?;
    if ended.challenge != challenge_id {
        return Err(acts::closed());
    }
    refund(gate, snapshot, slot).await
}

/// From here on nothing begins on it, and its streams that wait end. How it has ended, if it had.
async fn mark(gate: &Gate, slot: &Slot, challenge_id: &str) -> Result<SessionClose, Refusal> {
    let mut record = slot.lock().await;
    if let Some(ended) = &record.closing {
        return Ok(ended.clone());
    }
    let (challenge, at_ms) = (challenge_id.to_owned(), Now::read().millis());
    let closing = SessionClose { challenge, at_ms, sats: 0, refund: SessionRefund::Pending };
    let next = LightningSession { closing: Some(closing.clone()), ..record.clone() };
    let written = slot.write(&gate.store, &mut record, next, None).await;
    written.map_err(|error| acts::unwritten(&error))?;
    gate.arrivals.wake(slot.account.id());
    Ok(closing)
}

/// Pays back what is left, if nobody has; what became of it.
async fn refund(gate: &Arc<Gate>, snapshot: &Arc<Snapshot>, slot: &Slot) -> Result<Closed, Refusal> {
    let mut record = slot.lock().await;
    let Some(closing) = record.closing.clone() else { return Err(acts::closed()) };
    let ended = match closing.refund {
        SessionRefund::Pending => returned(gate, snapshot, slot, &record.return_invoice).await?,
        SessionRefund::Succeeded => Closed { sats: closing.sats, status: RefundStatus::Succeeded },
        SessionRefund::Failed => Closed { sats: closing.sats, status: RefundStatus::Failed },
        SessionRefund::Skipped => Closed { sats: closing.sats, status: RefundStatus::Skipped },
    };
    if closing.refund == SessionRefund::Pending {
        let refund = match ended.status {
            RefundStatus::Succeeded => SessionRefund::Succeeded,
            RefundStatus::Failed => SessionRefund::Failed,
            RefundStatus::Skipped => SessionRefund::Skipped,
        };
        let closing = Some(SessionClose { sats: ended.sats, refund, ..closing });
        let next = LightningSession { closing, ..record.clone() };
        let written = slot.write(&gate.store, &mut record, next, None).await;
        written.map_err(|error| acts::unwritten(&error))?;
        told(slot, ended);
    }
    Ok(ended)
}

/// What became of the rest, which is paid back now where nobody has tried.
async fn returned(
    gate: &Arc<Gate>,
    snapshot: &Arc<Snapshot>,
    slot: &Slot,
    invoice: &str,
) -> Result<Closed, Refusal> {
    let account = &slot.account;
    let begun = match payouts::returned(gate, account, invoice)? {
        Some(payout) => payout,
        None => {
            calls_ended(gate, slot).await;
            let rules = snapshot.config.rails.l402.as_ref().and_then(|l402| l402.refunds.as_ref());
            // Taken out of the configuration since: then it waits until it is there again.
            let absent = || Refusal::new(Code::FacilitatorFailed, "Nothing goes back over Lightning now.");
            let sats = payouts::sats_left(gate, account, rules.ok_or_else(absent)?)?;
            if sats == 0 {
                return Ok(Closed { sats, status: RefundStatus::Skipped });
            }
            match payouts::give_back(gate, snapshot, account, invoice, sats).await {
                Ok(payout) => payout,
                // Nothing was taken: it stays in the account, where the operator sees it.
                Err(refusal) if is_final(refusal.code()) => {
                    tracing::warn!(session = %wire::hex::encode(&slot.id), sats, code = refusal.code().name(),
                        "the rest of a session could not go back");
                    return Ok(Closed { sats, status: RefundStatus::Failed });
                }
                Err(refusal) => return Err(refusal),
            }
        }
    };
    let sats = begun.amount_msat / 1000;
    match begun.state {
        PayoutState::Paid => Ok(Closed { sats, status: RefundStatus::Succeeded }),
        PayoutState::Failed => Ok(Closed { sats, status: RefundStatus::Failed }),
        PayoutState::Open => {
            let detail = "The session is closed, and what is left of it is on its way back. Ask again what became of it.";
            Err(Refusal::new(Code::SettlementUnknown, detail).money(Money::Unknown).retry_after(5))
        }
    }
}

/// Whether a refund that was refused for this will be refused again: an invoice that cannot be paid, a bound of the
/// operator. The rest is tried again.
const fn is_final(code: Code) -> bool {
    matches!(code, Code::BadRequest | Code::AccountFrozen | Code::RateLimited)
}

/// Waits for a while until what runs has ended: what it does not use goes back too.
async fn calls_ended(gate: &Gate, slot: &Slot) {
    let nothing_held = gate.arrivals.until(slot.account.id(), || slot.account.held() == Amount::ZERO);
    if timeout(RUNNING_MAX, nothing_held).await.is_err() {
        tracing::warn!(session = %wire::hex::encode(&slot.id), held = slot.account.held().units(),
            "a session was closed under a call that goes on: what that leaves stays in the account");
    }
}

fn told(slot: &Slot, ended: Closed) {
    let (session, left) = (wire::hex::encode(&slot.id), slot.account.available().units());
    match ended.status {
        RefundStatus::Failed => {
            tracing::error!(%session, sats = ended.sats, left, "ALARM: the rest of a session did not go back; it is owed and stays in its account");
        }
        RefundStatus::Succeeded | RefundStatus::Skipped => {
            tracing::info!(%session, sats = ended.sats, left, "a session has ended");
        }
    }
}

/// Ends sessions that nothing is asked of any more, and those that an earlier process left halfway; forgets those that
/// ended long ago.
pub(crate) async fn keep(gate: Arc<Gate>) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    loop {
        tick.tick().await;
        let snapshot = gate.snapshot.load_full();
        let idle = snapshot.mpp.as_ref().map(|mpp| mpp.rules.sessions.idle);
        for slot in gate.lightning_sessions.all() {
            // One that somebody is at is not left alone.
            let Some(record) = slot.try_lock().map(|record| record.clone()) else { continue };
            if record.forgotten_s().is_some_and(|end| end < Now::read().seconds()) {
                gate.lightning_sessions.forget(&slot.id);
            }
            let ends = match &record.closing {
                None => idle.is_some_and(|idle| slot.is_idle(idle)),
                Some(closing) => closing.refund == SessionRefund::Pending,
            };
            if ends {
                let (gate, snapshot) = (Arc::clone(&gate), Arc::clone(&snapshot));
                // Beside the others: a node may take its time.
                tokio::spawn(async move { end(&gate, &snapshot, &slot).await });
            }
        }
    }
}

/// Ends a session that nobody has asked to end, or goes on with what was begun.
async fn end(gate: &Arc<Gate>, snapshot: &Arc<Snapshot>, slot: &Slot) {
    let ended = match mark(gate, slot, "").await {
        Ok(_) => refund(gate, snapshot, slot).await.map(drop),
        Err(refusal) => Err(refusal),
    };
    if let Err(refusal) = ended {
        let (session, code) = (wire::hex::encode(&slot.id), refusal.code().name());
        tracing::debug!(session, code, "a session has not ended yet");
    }
}
