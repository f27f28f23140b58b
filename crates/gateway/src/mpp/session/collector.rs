//! What is done for sessions beside the requests: looking at channels on their chain, taking what they owe, and ending those
//! that are to end (ENG-5).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use money::Amount;
use proof::voucher::{Channel, Signed};
use store::{Op, StoreError};

use super::chain::By;
use super::receive::For;
use super::sending::{Outcome, Wanted};
use super::{Signature, Slot};
use crate::channels::{Beside, Wait};
use crate::clock::Now;
use crate::config::MppMethod;
use crate::gate::Gate;

/// The methods whose channels are kept here.
const CHAINS: [MppMethod; 2] = [MppMethod::Tempo, MppMethod::Solana];

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
        gate.sessions.top_ups.retain_recent();
        let snapshot = gate.snapshot.load_full();
        let places = CHAINS.map(|method| For::of(&gate, &snapshot, method));
        let mut looks = 0;
        for slot in gate.sessions.channels.all() {
            // A node knows nothing of another chain: what it does not see there is not gone.
            let keeps = |place: &&For<'_>| place.terms.on(&slot.config).is_some();
            let Some(place) = places.iter().flatten().find(keeps) else { continue };
            let now_ms = Now::read().millis();
            if slot.lock().await.record.is_forgotten(now_ms) {
                forget(&gate, &slot.id).await;
                waits.remove(&slot.id);
                continue;
            }
            let wait = waits.entry(slot.id).or_default();
            if !wait.is_over(now_ms) {
                continue;
            }
            let done = attend(place, &slot, wait, &mut looks).await;
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

/// Forgets a channel that has ended long ago. Whoever shows it again is told what its chain says: that it is no more.
async fn forget(gate: &Gate, id: &[u8; 32]) {
    match gate.store.commit(Op::ForgetChannel { id: *id }).await {
        Ok(_) => gate.sessions.channels.forget(id),
        Err(error) => tracing::warn!(%error, "a session could not be forgotten"),
    }
}

/// What is due on a channel.
enum Due {
    Nothing,
    /// Its payer asks for his money on the chain.
    Withdraws,
    /// It is to end while what it owes can be taken, or because nobody uses it.
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
        let Some(channel) = place.terms.on(&slot.config) else { return Ok(true) };
        let Some(seen) = channel.seen(&slot.id).await else { return Ok(false) };
        place.keep(slot, &seen).await?;
    }
    match due(place, slot).await {
        Due::Nothing => Ok(true),
        Due::Withdraws => {
            alarm(slot, wait).await;
            ends(place, slot).await
        }
        Due::Ends => ends(place, slot).await,
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
        return Due::Withdraws;
    }
    if record.taking.is_some() {
        return Due::Owes;
    }
    let idle_ms = now.millis().saturating_sub(record.used_ms);
    let is_idle = place.terms.idle_s().is_some_and(|most| idle_ms >= most.saturating_mul(1000));
    if is_idle || is_only_owed_for_now(&channel, now.seconds(), slot.config.grace_s()) {
        return Due::Ends;
    }
    let Some(covered) = settleable(&channel, now) else { return Due::Nothing };
    let unclaimed = covered.max_claimable.saturating_sub(channel.mirror.total_claimed);
    let worth = slot.unit.ledger(unclaimed).unwrap_or(Amount::ZERO);
    let rules = &place.terms.rules;
    // A promise that ends is taken while a payer could still be waited for.
    let soon_s = now.seconds().saturating_add(slot.config.grace_s());
    let is_due = worth > rules.claim_above
        || u128::from(idle_ms) >= rules.claim_idle.as_millis()
        || !covered.signature.is_good(soon_s);
    if is_due { Due::Owes } else { Due::Nothing }
}

/// Whether something is owed that nothing but a promise which ends soon covers, and which is not used up: it can be had by an
/// end now, and then no more.
fn is_only_owed_for_now(channel: &Channel<Signature>, now_s: u64, grace_s: u64) -> bool {
    let used = channel.used();
    let best_until = |second: u64| {
        let best = channel.promise_for(used, |promise| promise.signature.is_good(second));
        best.map_or(channel.mirror.total_claimed, |promise| promise.max_claimable)
    };
    let (now, then) = (best_until(now_s), best_until(now_s.saturating_add(grace_s)));
    let settled_by = channel.settleable().filter(|promise| promise.signature.is_good(now_s));
    let settles = settled_by.map_or(channel.mirror.total_claimed, |promise| promise.max_claimable);
    now > then && then < used && settles < used
}

/// The promise to take what is owed by; of those that are used up one that the chain still takes.
fn settleable(channel: &Channel<Signature>, now: Now) -> Option<Signed<Signature>> {
    channel.settleable().filter(|promise| promise.signature.is_good(now.seconds()))
}

/// A channel is ended by what is kept of its payer's promises: what is owed is taken while it is there (ENG-5).
async fn ends(place: &For<'_>, slot: &Slot) -> Result<bool, StoreError> {
    let Ok(_claim) = place.gate.claims.take(slot.id, slot.id) else { return Ok(false) };
    let kept = slot.lock().await;
    // A call that is under way ends first. Of a payer who withdraws it begins nothing new, since nothing more is accepted.
    if kept.record.closing.is_none() && place.decide(slot, kept, By::Kept).await.is_err() {
        return Ok(false);
    }
    Ok(matches!(place.finish(slot).await?, Outcome::Done(_)))
}

/// Takes what is owed, by the newest promise that is used up.
async fn settle(place: &For<'_>, slot: &Slot) -> Result<bool, StoreError> {
    let Some(on) = place.terms.on(&slot.config) else { return Ok(true) };
    let covered = {
        let mut kept = slot.lock().await;
        let channel = kept.channel(slot.unused());
        let Some(covered) = settleable(&channel, Now::read()) else { return Ok(true) };
        // From here on everybody may know it.
        let record = kept.moved(&channel.with_published(covered.max_claimable));
        slot.write(&place.gate.store, &mut kept, record, Beside::default()).await?;
        covered
    };
    let Some(calls) = on.settle(&slot.id, &covered).await else { return Ok(false) };
    let wanted = Wanted { calls, total_claimed: covered.max_claimable, ends: false };
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
    let is_late = now.seconds() >= asked_at.saturating_add(slot.config.grace_s() / 2);
    if is_late && now.millis().saturating_sub(wait.alarmed_ms) >= ALARM_EVERY_MS {
        wait.alarmed_ms = now.millis();
        tracing::error!(channel = %wire::hex::encode(&slot.id), ends_s = asked_at.saturating_add(slot.config.grace_s()),
            "ALARM: a payer withdraws, and what his channel owes is not taken yet");
    }
}

#[cfg(test)]
mod tests {
    use proof::voucher::solana::SolanaSignature;
    use proof::voucher::{Channel, Mirror, Signed};

    use super::is_only_owed_for_now;
    use crate::mpp::session::Signature;

    const NOW_S: u64 = 10_000;
    const GRACE_S: u64 = 900;

    /// ENG-5: an end is due where a promise that is not used up is all that covers what is owed, and ends soon.
    #[test]
    fn eng_5_what_only_a_promise_that_ends_soon_covers() {
        let signed = |(max_claimable, ends_in): (u128, Option<i64>)| {
            let expires_at = ends_in.map_or(0, |seconds| NOW_S.cast_signed() + seconds);
            let signature = Signature::Solana(SolanaSignature { bytes: [1; 64], expires_at });
            Signed { max_claimable, signature }
        };
        let (soon, later, over) = (Some(900), Some(901), Some(0));
        for (what, settled, used, promises, expected) in [
            ("it ends soon", 0, 50, vec![(100, soon)], true),
            ("later", 0, 50, vec![(100, later)], false),
            ("never", 0, 50, vec![(100, None)], false),
            ("it is over, and nothing is to be had", 0, 50, vec![(100, over)], false),
            ("nothing was used", 0, 0, vec![(100, soon)], false),
            ("everything was taken", 50, 50, vec![(100, soon)], false),
            ("a newer one ends later", 0, 50, vec![(100, soon), (200, later)], false),
            ("a newer one ends sooner", 0, 50, vec![(100, later), (200, soon)], false),
            ("it is used up, and settled as such", 0, 100, vec![(100, soon)], false),
            ("one that is used up covers a part", 0, 50, vec![(40, None), (100, soon)], true),
            ("one that is used up ends soon too", 0, 50, vec![(40, soon), (100, soon)], true),
        ] {
            let mirror = Mirror {
                balance: 1_000,
                total_claimed: settled,
                withdrawing: 0,
                withdraw_requested_at: 0,
                refund_nonce: [0; 32],
                synced_at_s: NOW_S,
            };
            let mut kept: Vec<_> = promises.into_iter().map(signed).collect();
            let newest = kept.pop();
            let charged = newest.map_or(0, |newest| newest.max_claimable);
            let channel =
                Channel { newest, earlier: kept, charged, carry: charged - used, ..Channel::opened(mirror) };
            assert_eq!(is_only_owed_for_now(&channel, NOW_S, GRACE_S), expected, "{what}");
        }
    }
}
