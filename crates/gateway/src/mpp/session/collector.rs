//! What is done for sessions beside the requests: looking at channels on their chain, taking what they owe, and ending those
//! that are to end (ENG-5).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use money::Amount;
use store::StoreError;

use super::chain::{Outcome, Wanted};
use super::receive::For;
use super::{GRACE_S, Slot};
use crate::channels::{Beside, Wait};
use crate::clock::Now;
use crate::gate::Gate;

/// How often it is looked what is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks at the chain in one round.
const LOOKS_MAX: usize = 16;
/// A channel that was used so long ago and owes nothing is not looked at.
const WATCHED_MS: u64 = 600_000;
/// How often an alarm is repeated.
const ALARM_EVERY_MS: u64 = 60_000;

/// Works for as long as the process lives.
pub(crate) async fn run(gate: Arc<Gate>) {
    let mut waits: HashMap<[u8; 32], Wait> = HashMap::new();
    let mut tick = tokio::time::interval(LOOK_EVERY);
    loop {
        tick.tick().await;
        gate.sessions.rate.retain_recent();
        let snapshot = gate.snapshot.load_full();
        let Ok(place) = For::of(&gate, &snapshot) else { continue };
        let mut looks = 0;
        for slot in gate.sessions.channels.all() {
            // The node knows nothing of another chain: what it does not see there is not gone.
            if slot.config.chain_id != place.terms.rules.escrow.chain_id() {
                continue;
            }
            let wait = waits.entry(slot.id).or_default();
            if !wait.is_over(Now::read().millis()) {
                continue;
            }
            let done = attend(&place, &slot, wait, &mut looks).await;
            match done {
                Ok(true) => wait.went_well(),
                Ok(false) => wait.failed(Now::read().millis()),
                Err(error) => {
                    tracing::warn!(%error, "a session cannot be recorded now");
                    wait.failed(Now::read().millis());
                }
            }
        }
    }
}

/// What is due on a channel.
enum Due {
    Nothing,
    /// Its payer asks for his money on the chain.
    Ends,
    /// It was decided that it ends.
    IsEnding,
    /// What it owes is to be taken, or a transaction of ours is on its way.
    Owes,
}

/// Does what is due. Whether nothing is left to be tried again.
async fn attend(
    place: &For<'_>,
    slot: &Slot,
    wait: &mut Wait,
    looks: &mut usize,
) -> Result<bool, StoreError> {
    if is_to_be_seen(place, slot).await && *looks < LOOKS_MAX {
        *looks += 1;
        let Ok(seen) = place.seen(&slot.config.escrow(), &slot.id).await else { return Ok(false) };
        place.keep(slot, &seen).await?;
    }
    match due(place, slot).await {
        Due::Nothing => Ok(true),
        Due::Ends => ends(place, slot, wait).await,
        Due::IsEnding => {
            let Ok(_claim) = place.gate.claims.take(slot.id, slot.id) else { return Ok(true) };
            Ok(matches!(place.finish(slot).await?, Outcome::Done(_)))
        }
        Due::Owes => settle(place, slot).await,
    }
}

async fn is_to_be_seen(place: &For<'_>, slot: &Slot) -> bool {
    let now = Now::read();
    let kept = slot.lock().await;
    let record = &kept.record;
    if record.closing.as_ref().is_some_and(|closing| closing.is_done) {
        return false;
    }
    let is_used = now.millis().saturating_sub(record.used_ms) < WATCHED_MS;
    let owes = kept.channel(slot.unused()).claimable().is_some();
    let age_s = now.seconds().saturating_sub(record.mirror.synced_at_s);
    age_s >= place.terms.rules.look_every.as_secs() && (is_used || owes || record.closing.is_some())
}

async fn due(place: &For<'_>, slot: &Slot) -> Due {
    let now = Now::read();
    let kept = slot.lock().await;
    let record = &kept.record;
    if let Some(closing) = &record.closing {
        return if closing.is_done { Due::Nothing } else { Due::IsEnding };
    }
    let channel = kept.channel(slot.unused());
    if channel.must_claim() {
        return Due::Ends;
    }
    if record.taking.is_some() {
        return Due::Owes;
    }
    let Some(covered) = channel.settleable() else { return Due::Nothing };
    let unclaimed = covered.max_claimable.saturating_sub(channel.mirror.total_claimed);
    let worth = slot.unit.ledger(unclaimed).unwrap_or(Amount::ZERO);
    let idle_ms = now.millis().saturating_sub(record.used_ms);
    let rules = &place.terms.rules;
    let is_due = worth > rules.claim_above || u128::from(idle_ms) >= rules.claim_idle.as_millis();
    if is_due { Due::Owes } else { Due::Nothing }
}

/// A payer withdraws: what is owed is taken while it is there (ENG-5), as an end where the contract gives a part of a promise,
/// else by the newest promise that is used up.
async fn ends(place: &For<'_>, slot: &Slot, wait: &mut Wait) -> Result<bool, StoreError> {
    alarm(slot, wait).await;
    if !slot.config.escrow().closes_in_part() {
        return settle(place, slot).await;
    }
    let Ok(_claim) = place.gate.claims.take(slot.id, slot.id) else { return Ok(false) };
    let kept = slot.lock().await;
    let newest = kept.channel(slot.unused()).newest;
    let Some(newest) = newest else { return Ok(true) };
    // A call that is under way ends first: it begins nothing new, since nothing more is accepted.
    if place.decide(slot, kept, newest).await.is_err() {
        return Ok(false);
    }
    Ok(matches!(place.finish(slot).await?, Outcome::Done(_)))
}

/// Takes what is owed, by the newest promise that is used up.
async fn settle(place: &For<'_>, slot: &Slot) -> Result<bool, StoreError> {
    let covered = {
        let mut kept = slot.lock().await;
        let channel = kept.channel(slot.unused());
        let Some(covered) = channel.settleable() else { return Ok(true) };
        // From here on everybody may know it.
        let record = kept.moved(&channel.with_published(covered.max_claimable));
        slot.write(&place.gate.store, &mut kept, record, Beside::default()).await?;
        covered
    };
    let data = slot.config.escrow().settle_call(&slot.id, &slot.config.descriptor(), &covered);
    let wanted = Wanted { data, total_claimed: covered.max_claimable, ends: false };
    let outcome = place.transact(slot, &wanted).await?;
    let is_done = matches!(outcome, Outcome::Done(_));
    if is_done {
        tracing::info!(channel = %wire::hex::encode(&slot.id), sum = covered.max_claimable, "a session was settled");
    } else {
        tracing::warn!(channel = %wire::hex::encode(&slot.id), ?outcome, "a session was not settled, as far as is known");
    }
    Ok(is_done)
}

/// Tells the operator that a payer will have withdrawn before what is owed is taken.
async fn alarm(slot: &Slot, wait: &mut Wait) {
    let now = Now::read();
    let asked_at = slot.lock().await.record.mirror.withdraw_requested_at;
    let is_late = now.seconds() >= asked_at.saturating_add(GRACE_S / 2);
    if is_late && now.millis().saturating_sub(wait.alarmed_ms) >= ALARM_EVERY_MS {
        wait.alarmed_ms = now.millis();
        tracing::error!(channel = %wire::hex::encode(&slot.id), ends_s = asked_at + GRACE_S,
            "ALARM: a payer withdraws, and what his channel owes is not taken yet");
    }
}
