//! Money back to a payer who asked for it (X402-22, X402-26): signed by us, moved by a facilitator, once.
//!
//! The chain counts refunds per channel and takes each number once, so the same request may be sent again for as long
//! as its end is not known; and whether it was done is what the number on the chain says.

use std::sync::Arc;

use http::HeaderMap;
use ledger::{AccountId, Chart, Draft, Kind, LegDraft, leg_asset};
use money::Amount;
use proof::eip712::batch_separator;
use proof::x402_batch::claim::{Row, sign_refund};
use proof::x402_batch::{BatchError, Mirror};
use rails::{Receipt, Settlement};
use sha2::{Digest, Sha256};
use store::{ChannelRefund, StoreError};
use wire::x402::batch::claim::settle_request;
use wire::x402::batch::{ChannelState, Voucher};

use super::BatchKept as Kept;
use super::BatchSlot as Slot;
use super::answer;
use super::collector::Authorizer;
use super::looking::Looking;
use super::mirror::{self, Look};
use super::presented::Presented;
use super::slot::Beside;
use super::{facilitating, rail};
use crate::clock::Now;
use crate::gate::Gate;
use crate::payments::{unknown_outcome, unsure};
use crate::refusal::{Code, Facts, Refusal};
use crate::snapshot::Snapshot;

/// How long the same wish again is the same wish, not another one: whoever lost the answer asks again.
const SAME_WISH_MS: u64 = 600_000;

/// Gives back what a payer asks for. The channel's claim is the caller's, so no call is in flight.
///
/// # Errors
/// The refusal says what happened to the money.
///
/// # Cancel safety
/// None: dropped midway, money may have moved.
pub(super) async fn give_back(
    gate: &Arc<Gate>,
    snapshot: &Snapshot,
    presented: &Presented,
    amount: Option<u128>,
    now: Now,
) -> Result<HeaderMap, Refusal> {
    let asked = name(presented, amount);
    let looking = Looking { gate, snapshot, presented, now };
    let slot = match gate.channels.find(&presented.voucher.channel_id) {
        Some(slot) => slot,
        None => looking.open().await?,
    };
    {
        let kept = slot.lock().await;
        if let Some(done) = kept.record.refunded.as_ref().filter(|done| done.asked == asked)
            && now.millis().saturating_sub(done.asked_ms) < SAME_WISH_MS
            && kept.record.refunding.is_none()
        {
            return Ok(told(presented, done, kept.channel(slot.carry()).state(slot.id)));
        }
        if kept.record.refunding.as_ref().is_some_and(|pending| pending.asked != asked) {
            return Err(answer::busy());
        }
        let is_pending = kept.record.refunding.is_some();
        drop(kept);
        if is_pending {
            resolve(gate, snapshot, &slot).await.map_err(|error| unsure(&error))?;
            let kept = slot.lock().await;
            let done = kept.record.refunded.as_ref().filter(|done| done.asked == asked);
            return match done.filter(|_| kept.record.refunding.is_none()) {
                Some(done) => Ok(told(presented, done, kept.channel(slot.carry()).state(slot.id))),
                None => Err(unknown_outcome()),
            };
        }
    }
    // What is left must be known to the last unit, whatever was seen before.
    let mirror = looking.look().await?;
    let pending = {
        let mut kept = slot.lock().await;
        begin(&looking, &slot, &mut kept, mirror, amount, asked).await?
    };
    let outcome = send(gate, snapshot, &pending, presented.network()).await;
    match end(gate, &slot, mirror, pending, outcome).await.map_err(|error| unsure(&error))? {
        End::Given(done) => {
            let kept = slot.lock().await;
            Ok(told(presented, &done, kept.channel(slot.carry()).state(slot.id)))
        }
        End::Refused(code) => {
            let facts = Facts { reason: Some(code), ..Facts::default() };
            Err(Refusal::new(Code::SettlementFailed, "The refund was refused.").facts(facts))
        }
        End::NotSent => {
            let detail = "No facilitator could be reached to make the refund.";
            Err(Refusal::new(Code::FacilitatorFailed, detail).retry_after(5))
        }
        End::Unknown => Err(unknown_outcome()),
    }
}

fn told(presented: &Presented, done: &ChannelRefund, state: ChannelState) -> HeaderMap {
    answer::refunded(presented.network(), &presented.payer(), &done.reference, done.amount, state)
}

/// The same channel, sum and amount are the same wish.
fn name(presented: &Presented, amount: Option<u128>) -> [u8; 32] {
    let (is_all, amount) = (u8::from(amount.is_none()), amount.unwrap_or(0));
    Sha256::new_with_prefix(b"farthing/refund-wish/1")
        .chain_update(presented.voucher.channel_id)
        .chain_update(presented.voucher.signed.max_claimable.to_be_bytes())
        .chain_update([is_all])
        .chain_update(amount.to_be_bytes())
        .finalize()
        .into()
}

/// Signs a refund and writes it down, before anybody is asked for it.
async fn begin(
    looking: &Looking<'_>,
    slot: &Slot,
    kept: &mut Kept,
    mirror: Mirror,
    amount: Option<u128>,
    asked: [u8; 32],
) -> Result<ChannelRefund, Refusal> {
    let Looking { gate, snapshot, presented, now } = *looking;
    let channel = kept.channel(slot.carry()).refreshed(mirror);
    let refund = channel.refund(&presented.voucher, amount).map_err(|error| {
        let is_behind = matches!(error, BatchError::CumulativeMismatch { .. });
        let newest = channel.voucher_state().filter(|_| is_behind);
        answer::corrective(presented, error, Some(&channel.state(slot.id)), newest.as_ref())
    })?;
    let unable = || {
        tracing::error!("ALARM: a refund cannot be signed: the channel's authorizer is not configured");
        Refusal::new(Code::FacilitatorFailed, "This gateway cannot make refunds now.").retry_after(60)
    };
    let authorizer =
        Authorizer::of(&snapshot.config).filter(|ours| ours.signs_for(&kept.config)).ok_or_else(unable)?;
    let chain_id = presented.offer.token.chain_id();
    let owed =
        channel.claimable().map(|(signed, total_claimed)| Row { config: kept.config, signed, total_claimed });
    let separator = batch_separator(chain_id);
    let voucher = presented.payload.voucher();
    let payload = sign_refund(authorizer.key(), &separator, &kept.config, voucher, &refund, owed);
    let payload = payload.map_err(|_| unable())?;
    let config = &kept.config;
    let request =
        settle_request(presented.network(), &config.token, &config.receiver, &payload).ok_or_else(unable)?;
    let body = serde_json::to_string(&request).map_err(|_| unable())?;
    let facilitators = snapshot.facilitators.as_ref().ok_or_else(answer::unseen)?;
    let candidates = gate.directory.candidates(facilitators, &request, presented.network());
    let facilitator = candidates.first().ok_or_else(answer::unseen)?.name().to_owned();
    let pending = ChannelRefund {
        asked,
        amount: refund.amount,
        total_claimed: refund.total_claimed,
        all: amount.is_none(),
        nonce: refund.nonce,
        request: body,
        facilitator,
        reference: String::new(),
        asked_ms: now.millis(),
    };
    // From here on a facilitator knows both vouchers, and the chain the newest.
    let promise = owed.map_or(0, |row| row.signed.max_claimable);
    let published = channel.with_published(presented.voucher.signed.max_claimable);
    let published = if promise > 0 { published.with_published(promise) } else { published };
    let record = store::Channel { refunding: Some(pending.clone()), ..kept.moved(&published) };
    let written = slot.write(&gate.store, kept, record, Beside::default()).await;
    written.map_err(|error| answer::unwritten(&error))?;
    Ok(pending)
}

async fn send(gate: &Gate, snapshot: &Snapshot, pending: &ChannelRefund, network: &str) -> Settlement {
    let outcome = facilitating::resend(snapshot, &pending.facilitator, &pending.request).await;
    gate.metrics.settlement(&rail(network), facilitating::word(&outcome));
    outcome
}

/// How a refund ended, as far as is known.
pub(super) enum End {
    Given(ChannelRefund),
    /// With this code.
    Refused(String),
    NotSent,
    Unknown,
}

/// Writes down how it ended. `mirror` is what was seen before it was sent.
///
/// # Errors
/// [`StoreError`]: it is asked about again.
async fn end(
    gate: &Gate,
    slot: &Slot,
    mirror: Mirror,
    pending: ChannelRefund,
    outcome: Settlement,
) -> Result<End, StoreError> {
    match outcome {
        Settlement::Settled(receipt) => {
            let done = given(gate, slot, mirror, pending, made(slot, &receipt)).await?;
            Ok(End::Given(done))
        }
        // A transaction that was sent and not seen is told in the same way as one that failed.
        Settlement::Refused(refused) if refused.code.ends_with("_transaction_failed") => Ok(End::Unknown),
        Settlement::Refused(refused) => {
            drop_pending(gate, slot).await?;
            Ok(End::Refused(refused.code))
        }
        Settlement::NotSent => {
            drop_pending(gate, slot).await?;
            Ok(End::NotSent)
        }
        Settlement::Unknown(_) => Ok(End::Unknown),
    }
}

async fn drop_pending(gate: &Gate, slot: &Slot) -> Result<(), StoreError> {
    let mut kept = slot.lock().await;
    let record = store::Channel { refunding: None, ..kept.record.clone() };
    let beside = Beside { is_result: true, ..Beside::default() };
    slot.write(&gate.store, &mut kept, record, beside).await
}

/// A refund that was made.
struct Made {
    reference: String,
    /// Atomic units, where that is known.
    amount: Option<u128>,
    /// The channel afterwards, where that was seen.
    seen: Option<Mirror>,
}

fn made(slot: &Slot, receipt: &Receipt) -> Made {
    let now_s = Now::read().seconds();
    let seen = receipt.extra.as_ref().and_then(|extra| mirror::told(extra, slot.id, now_s));
    Made { reference: receipt.reference.clone(), amount: receipt.amount, seen }
}

/// The money is back. After a refund of everything the channel starts from what was used: the carry went with it.
async fn given(
    gate: &Gate,
    slot: &Slot,
    before: Mirror,
    pending: ChannelRefund,
    made: Made,
) -> Result<ChannelRefund, StoreError> {
    let now = Now::read();
    let amount = made.amount.unwrap_or(pending.amount);
    let done = ChannelRefund { amount, request: String::new(), reference: made.reference, ..pending.clone() };
    let mut kept = slot.lock().await;
    let mirror = made.seen.filter(|told| told.balance <= before.balance).unwrap_or(Mirror {
        balance: before.balance.saturating_sub(amount),
        total_claimed: pending.total_claimed.max(before.total_claimed),
        refund_nonce: next(&pending.nonce),
        // To be looked at: a withdrawal that was asked for may be smaller now.
        synced_at_s: 0,
        ..before
    });
    let mut record = kept.moved(&kept.channel(0).refreshed(mirror));
    record.refunding = None;
    record.refunded = Some(done.clone());
    let mut entry = None;
    let carried = slot.unit.ledger(slot.carry()).unwrap_or_default();
    if pending.all {
        record.charged = pending.total_claimed.max(mirror.total_claimed);
        record.accepted = 0;
        record.newest = None;
        record.era = record.era.saturating_add(1);
        entry = (carried > Amount::ZERO).then(|| back(slot, &kept, &pending, &done, carried, now));
    }
    slot.write(&gate.store, &mut kept, record, Beside { payment: None, entry, is_result: true }).await?;
    if pending.all && gate.book.withdraw(&slot.account, carried) != carried {
        tracing::error!(account = %slot.account.id(), "ALARM: what was refunded of a channel was not there any more");
    }
    Ok(done)
}

/// What was charged and not used goes back: the entry that takes it out.
fn back(
    slot: &Slot,
    kept: &Kept,
    pending: &ChannelRefund,
    done: &ChannelRefund,
    carried: Amount,
    now: Now,
) -> Draft {
    let asset = leg_asset(slot.unit.asset);
    let digest = Sha256::new_with_prefix(b"farthing/channel-refund/1")
        .chain_update(slot.id)
        .chain_update(pending.nonce)
        .finalize();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    let legs = vec![
        LegDraft::of(asset, AccountId(slot.account.id().0), -carried.units()),
        LegDraft::of(asset, Chart::RailClearing(rail(&kept.record.network)).id(), carried.units()),
    ];
    Draft { reference: done.reference.clone(), ..Draft::of(Kind::Refund, id, now.millis(), legs) }
}

/// One more, as the chain counts.
fn next(nonce: &[u8; 32]) -> [u8; 32] {
    let mut next = *nonce;
    for byte in next.iter_mut().rev() {
        let (sum, carries) = byte.overflowing_add(1);
        *byte = sum;
        if !carries {
            break;
        }
    }
    next
}

/// Looks what became of a refund whose end nobody knew: the number on the chain tells. If it was not made, the same
/// request is sent again. The channel's claim is the caller's.
///
/// # Errors
/// [`StoreError`]
pub(super) async fn resolve(gate: &Gate, snapshot: &Snapshot, slot: &Slot) -> Result<(), StoreError> {
    let (pending, network, config, before) = {
        let kept = slot.lock().await;
        let Some(pending) = kept.record.refunding.clone() else { return Ok(()) };
        (pending, kept.record.network.clone(), kept.config, kept.channel(0).mirror)
    };
    let (Some(all), Some(voucher)) = (&snapshot.facilitators, voucher_of(&pending)) else { return Ok(()) };
    let look = Look { network: &network, id: slot.id, config: &config, voucher };
    let made_of = |amount, seen| Made { reference: String::new(), amount, seen };
    match look.take(gate, all, Now::read().seconds()).await {
        Ok(seen) if seen.refund_nonce > pending.nonce => {
            let amount = before.balance.saturating_sub(seen.balance).min(pending.amount);
            tracing::info!(channel = %wire::hex::encode(&slot.id), "an unclear refund turned out made");
            given(gate, slot, before, pending, made_of(Some(amount), Some(seen))).await.map(drop)
        }
        Ok(seen) => match send(gate, snapshot, &pending, &network).await {
            Settlement::Settled(receipt) => {
                given(gate, slot, seen, pending, made(slot, &receipt)).await.map(drop)
            }
            // Of a second try a refusal tells nothing: the first may be on its way.
            Settlement::Refused(_) | Settlement::NotSent | Settlement::Unknown(_) => Ok(()),
        },
        // What was there when it was asked for is gone: nobody else could take it in that time.
        Err(unseen) if pending.all && unseen.error() == Some(BatchError::ExceedsBalance) => {
            given(gate, slot, before, pending, made_of(None, None)).await.map(drop)
        }
        Err(_) => Ok(()),
    }
}

/// The payer's voucher in a request of ours.
fn voucher_of(pending: &ChannelRefund) -> Option<Voucher> {
    let request: serde_json::Value = serde_json::from_str(&pending.request).ok()?;
    serde_json::from_value(request.pointer("/paymentPayload/payload/voucher")?.clone()).ok()
}
