//! What is done for channels beside the requests: looking at them on the chain before anybody has to wait for it
//! (X402-23), taking what they owe (X402-31), and finding out what became of refunds.
//!
//! A claim names a sum in all, so the same claim twice takes nothing twice; what a claim took is also seen by looking.
//! Nothing here is lost by a crash: the promise that a claim shows to everybody is noted as shown before it is sent.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use money::Amount;
use proof::eip712::batch_separator;
use proof::secp::SecretKey;
use proof::x402_batch::claim::{Row, sign_claim};
use rails::Settlement;
use store::StoreError;
use wire::x402::batch::claim::settle_request;
use wire::x402::batch::{ChannelConfig, SettlePayload};
use wire::x402::{Address, network};

use super::BatchKept as Kept;
use super::BatchSlot as Slot;
use super::mirror::Look;
use super::slot::Beside;
use super::wait::Wait;
use super::{facilitating, rail, refund};
use crate::clock::Now;
use crate::config::{Batch, Config};
use crate::gate::Gate;
use crate::resolver::RESOLVING;
use crate::snapshot::Snapshot;

/// How often it is looked what is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Channels in one claim.
const CLAIM_ROWS_MAX: usize = 50;
/// Looks at the chain in one round.
const LOOKS_MAX: usize = 16;
/// A channel that was used so long ago and owes nothing is not looked at.
const WATCHED_MS: u64 = 600_000;
/// How often an alarm is repeated.
const ALARM_EVERY_MS: u64 = 60_000;

/// Signs what the receiver of channels has to sign (X402-32).
pub(super) struct Authorizer(SecretKey);

impl Authorizer {
    pub(super) fn of(config: &Config) -> Option<Self> {
        let batch = batch(config)?;
        SecretKey::from_bytes(batch.authorizer_key.expose()).ok().map(Self)
    }

    pub(super) fn signs_for(&self, channel: &ChannelConfig) -> bool {
        self.0.address() == channel.receiver_authorizer
    }

    pub(super) const fn key(&self) -> &SecretKey {
        &self.0
    }
}

fn batch(config: &Config) -> Option<&Batch> {
    config.rails.x402.as_ref()?.batch.as_ref()
}

/// Works for as long as the process lives.
pub(crate) async fn run(gate: Arc<Gate>) {
    let mut waits = Waits::default();
    let mut tick = tokio::time::interval(LOOK_EVERY);
    loop {
        tick.tick().await;
        let snapshot = gate.snapshot.load_full();
        let slots = gate.channels.all();
        if slots.is_empty() {
            continue;
        }
        watch(&gate, &snapshot, &slots, &mut waits).await;
        collect(&gate, &snapshot, &slots, &mut waits).await;
    }
}

/// When something may be tried again.
#[derive(Default)]
struct Waits {
    channels: HashMap<[u8; 32], Wait>,
    groups: HashMap<Group, GroupState>,
}

/// What one claim and one settlement can be about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Group {
    network: String,
    receiver: Address,
    token: Address,
    authorizer: Address,
}

impl Group {
    fn of(kept: &Kept) -> Self {
        Self {
            network: kept.record.network.clone(),
            receiver: kept.config.receiver,
            token: kept.config.token,
            authorizer: kept.config.receiver_authorizer,
        }
    }
}

struct GroupState {
    wait: Wait,
    /// What its channels had claimed in all when that was last looked at; nothing after a start.
    claimed: u128,
    /// Something was claimed and not moved to the receiver, as far as is known. After a start: perhaps.
    owes_settle: bool,
    settle_wait: Wait,
    /// A claim of several was refused: one channel at a time, so that one bad one does not hold up the others.
    alone: bool,
}

impl Default for GroupState {
    fn default() -> Self {
        let (wait, settle_wait) = (Wait::default(), Wait::default());
        Self { wait, claimed: 0, owes_settle: false, settle_wait, alone: false }
    }
}

/// Looks at channels whose view grows old while they are used, or while they owe.
async fn watch(gate: &Gate, snapshot: &Snapshot, slots: &[Arc<Slot>], waits: &mut Waits) {
    let mut looks = 0;
    for slot in slots {
        let now = Now::read();
        let wait = waits.channels.entry(slot.id).or_default();
        if !wait.is_over(now.millis()) {
            continue;
        }
        let (is_due, is_refunding) = {
            let kept = slot.lock().await;
            let channel = kept.channel(slot.unused());
            let is_used = now.millis().saturating_sub(kept.record.used_ms) < WATCHED_MS;
            let half_s = (kept.config.withdraw_delay / 3).clamp(30, 300) / 2;
            let is_old = now.seconds().saturating_sub(channel.mirror.synced_at_s) > half_s;
            (is_old && (is_used || channel.claimable().is_some()), kept.record.refunding.is_some())
        };
        if is_refunding {
            // While its payer's own request asks, that decides.
            if let Ok(_claim) = gate.claims.take(slot.id, RESOLVING)
                && let Err(error) = refund::resolve(gate, snapshot, slot).await
            {
                tracing::warn!(%error, "a refund cannot be resolved now");
            }
            wait.failed(now.millis());
            continue;
        }
        if !is_due {
            wait.went_well();
            continue;
        }
        looks += 1;
        if looks > LOOKS_MAX {
            return;
        }
        match look(gate, snapshot, slot).await {
            Ok(true) => wait.went_well(),
            Ok(false) => wait.failed(now.millis()),
            Err(error) => {
                tracing::warn!(%error, "a channel's view cannot be recorded now");
                wait.failed(now.millis());
            }
        }
    }
}

/// Looks at a channel, by its newest voucher. Whether it was seen.
async fn look(gate: &Gate, snapshot: &Snapshot, slot: &Slot) -> Result<bool, StoreError> {
    let (config, voucher, network) = {
        let kept = slot.lock().await;
        let Some(voucher) = kept.newest() else { return Ok(false) };
        (kept.config, voucher, kept.record.network.clone())
    };
    let Some(all) = &snapshot.facilitators else { return Ok(false) };
    let look = Look { network: &network, id: slot.id, config: &config, voucher };
    let Ok(mirror) = look.take(gate, all, Now::read().seconds()).await else { return Ok(false) };
    let mut kept = slot.lock().await;
    let record = kept.moved(&kept.channel(0).refreshed(mirror));
    slot.write(&gate.store, &mut kept, record, Beside::default()).await?;
    Ok(true)
}

/// Takes what is owed where it is time for that.
async fn collect(gate: &Gate, snapshot: &Snapshot, slots: &[Arc<Slot>], waits: &mut Waits) {
    let (Some(batch), Some(authorizer)) = (batch(&snapshot.config), Authorizer::of(&snapshot.config)) else {
        return;
    };
    let mut due: HashMap<Group, Vec<Arc<Slot>>> = HashMap::new();
    for slot in slots {
        let now = Now::read();
        let kept = slot.lock().await;
        if kept.record.refunding.is_some() {
            continue;
        }
        let group = Group::of(&kept);
        let channel = kept.channel(slot.unused());
        let Some((_, owed)) = channel.claimable() else { continue };
        let unclaimed = owed.saturating_sub(channel.mirror.total_claimed);
        let worth = slot.unit.ledger(unclaimed).unwrap_or(Amount::ZERO);
        let idle_ms = now.millis().saturating_sub(kept.record.used_ms);
        let is_idle = u128::from(idle_ms) >= batch.claim_idle.as_millis();
        if channel.must_claim() {
            alarm(slot, channel.mirror.withdraw_requested_at, kept.config.withdraw_delay, now, waits);
        }
        if channel.must_claim() || worth > batch.claim_above || is_idle {
            due.entry(group).or_default().push(Arc::clone(slot));
        }
    }
    for (group, slots) in due {
        if !authorizer_fits(&authorizer, &group) {
            continue;
        }
        let state = waits.groups.entry(group.clone()).or_default();
        if !state.wait.is_over(Now::read().millis()) {
            continue;
        }
        let rows = if state.alone { 1 } else { CLAIM_ROWS_MAX };
        for part in slots.chunks(rows) {
            match claim(gate, snapshot, &authorizer, &group, part).await {
                Ok(true) => {
                    (state.wait, state.settle_wait) = (Wait::default(), Wait::default());
                    state.alone = false;
                }
                Ok(false) => {
                    state.alone = slots.len() > 1;
                    state.wait.failed(Now::read().millis());
                }
                Err(error) => {
                    tracing::warn!(%error, "a claim cannot be recorded now");
                    state.wait.failed(Now::read().millis());
                }
            }
        }
    }
    // A refund claims too, and so does whoever asks again for a claim whose end was not known.
    for (group, claimed) in claimed(slots).await {
        let state = waits.groups.entry(group).or_default();
        state.owes_settle |= claimed != state.claimed;
        state.claimed = claimed;
    }
    for (group, state) in &mut waits.groups {
        if state.owes_settle && state.settle_wait.is_over(Now::read().millis()) {
            if settle(gate, snapshot, group).await {
                state.owes_settle = false;
            } else {
                state.settle_wait.failed(Now::read().millis());
            }
        }
    }
}

/// What the channels of each group have claimed in all.
async fn claimed(slots: &[Arc<Slot>]) -> HashMap<Group, u128> {
    let mut claimed = HashMap::new();
    for slot in slots {
        let kept = slot.lock().await;
        let sum: &mut u128 = claimed.entry(Group::of(&kept)).or_default();
        *sum = sum.saturating_add(kept.record.mirror.total_claimed);
    }
    claimed
}

fn authorizer_fits(authorizer: &Authorizer, group: &Group) -> bool {
    let fits = authorizer.0.address() == group.authorizer;
    if !fits {
        tracing::error!(wanted = %group.authorizer, "ALARM: channels owe, and the key that claims them is not configured");
    }
    fits
}

/// Tells the operator that a withdrawal will be through before what is owed is taken (X402-31).
fn alarm(slot: &Slot, requested_at: u64, delay: u64, now: Now, waits: &mut Waits) {
    let wait = waits.channels.entry(slot.id).or_default();
    let is_late = now.seconds() >= requested_at.saturating_add(delay / 2);
    if is_late && now.millis().saturating_sub(wait.alarmed_ms) >= ALARM_EVERY_MS {
        wait.alarmed_ms = now.millis();
        let ends_s = requested_at.saturating_add(delay);
        tracing::error!(
            channel = %wire::hex::encode(&slot.id), ends_s,
            "ALARM: a payer withdraws, and what his channel owes is not claimed yet"
        );
    }
}

/// Claims several channels at once. Whether that is known to be done.
async fn claim(
    gate: &Gate,
    snapshot: &Snapshot,
    authorizer: &Authorizer,
    group: &Group,
    slots: &[Arc<Slot>],
) -> Result<bool, StoreError> {
    let (Some(all), Some(chain_id)) = (&snapshot.facilitators, network::chain_id(&group.network)) else {
        return Ok(false);
    };
    let mut rows = Vec::new();
    for slot in slots {
        let mut kept = slot.lock().await;
        let channel = kept.channel(slot.unused());
        let Some((signed, total_claimed)) = channel.claimable() else { continue };
        // From here on everybody may know it, whether the claim gets through or not.
        let record = kept.moved(&channel.with_published(signed.max_claimable));
        slot.write(&gate.store, &mut kept, record, Beside::default()).await?;
        rows.push(Row { config: kept.config, signed, total_claimed });
    }
    if rows.is_empty() {
        return Ok(true);
    }
    let signed = sign_claim(authorizer.key(), &batch_separator(chain_id), &rows);
    let request = signed
        .ok()
        .and_then(|payload| settle_request(&group.network, &group.token, &group.receiver, &payload));
    let Some(request) = request else { return Ok(false) };
    let outcome = facilitating::settle(gate, all, &request).await;
    gate.metrics.settlement(&rail(&group.network), facilitating::word(&outcome));
    let is_done = matches!(outcome, Settlement::Settled(_));
    if !is_done {
        tracing::warn!(channels = rows.len(), ?outcome, "channels were not claimed, as far as is known");
    }
    for slot in slots {
        if is_done {
            took(gate, slot, &rows).await?;
        } else {
            // It may have got through: what the chain says is not claimed again.
            look(gate, snapshot, slot).await?;
        }
    }
    Ok(is_done)
}

/// A claim got through.
async fn took(gate: &Gate, slot: &Slot, rows: &[Row]) -> Result<(), StoreError> {
    let mut kept = slot.lock().await;
    let Some(row) = rows.iter().find(|row| row.config == kept.config) else { return Ok(()) };
    let mut mirror = kept.channel(0).mirror;
    mirror.total_claimed = mirror.total_claimed.max(row.total_claimed);
    let record = kept.moved(&kept.channel(0).refreshed(mirror));
    let beside = Beside { is_result: true, ..Beside::default() };
    slot.write(&gate.store, &mut kept, record, beside).await
}

/// Moves what was claimed to the receiver. Whether nothing is left to move, as far as is known.
async fn settle(gate: &Gate, snapshot: &Snapshot, group: &Group) -> bool {
    let Some(all) = &snapshot.facilitators else { return false };
    let payload = SettlePayload { receiver: group.receiver, token: group.token };
    let request = settle_request(&group.network, &group.token, &group.receiver, &payload);
    let Some(request) = request else { return false };
    match facilitating::settle(gate, all, &request).await {
        Settlement::Settled(receipt) => {
            let amount = receipt.amount.unwrap_or_default();
            tracing::info!(
                network = group.network,
                amount,
                transaction = receipt.reference,
                "channels settled"
            );
            true
        }
        Settlement::Refused(refused) => refused.code.ends_with("_nothing_to_settle"),
        Settlement::NotSent | Settlement::Unknown(_) => false,
    }
}
