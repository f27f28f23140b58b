//! A voucher that pays for a call: accepted and on disk, then the call draws on what it brought (ENG-1, ENG-2).

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use ledger::{AccountId, Chart, Draft, Kind as EntryKind, LegDraft, leg_asset};
use money::Amount;
use proof::voucher::{NotTaken, Signed};
use sha2::{Digest as _, Sha256};
use store::{Payment, PaymentState};

use super::presented::{Action, Presented};
use super::{Kept, Signature, Slot, Terms, told};
use crate::channels::Beside;
use crate::clock::Now;
use crate::config::MppMethod;
use crate::gate::Gate;
use crate::idempotency::{self, Begun};
use crate::payments::{Arrival, Delivery, Deposit, Spends, claimed, store_refusal};
use crate::refusal::{Code, Refusal};
use crate::snapshot::Snapshot;

/// How long an outcome is remembered beyond a week: a voucher has no end of its own.
const REMEMBERED_S: u64 = 600;
/// A view of the chain that is older is looked at anew before a payer is told that his channel does not hold enough:
/// he may have put more into it by himself.
const TOP_UP_SEEN_S: u64 = 5;

/// Under which terms something is done.
#[derive(Clone, Copy)]
pub(super) struct For<'a> {
    pub(super) gate: &'a Arc<Gate>,
    pub(super) terms: &'a Terms,
    pub(super) grace: Duration,
    pub(super) snapshot: &'a Snapshot,
}

impl<'a> For<'a> {
    /// None: the method is not taken as things are configured now.
    pub(super) fn of(gate: &'a Arc<Gate>, snapshot: &'a Snapshot, method: MppMethod) -> Option<Self> {
        let desk = snapshot.mpp.as_ref()?;
        Some(Self { gate, terms: desk.session(method)?, grace: desk.rules.sessions.grace, snapshot })
    }

    /// As [`For::of`], for what was presented under it.
    pub(super) fn presented(
        gate: &'a Arc<Gate>,
        snapshot: &'a Snapshot,
        presented: &Presented,
    ) -> Result<Self, Refusal> {
        let lost = || Refusal::new(Code::Internal, "The session's method was lost on the way.");
        Self::of(gate, snapshot, presented.method).ok_or_else(lost)
    }
}

/// Takes a voucher for a call.
///
/// # Errors
/// The refusal says what happened to the money.
///
/// # Cancel safety
/// None: run it in a task that a lost connection does not end.
pub(crate) async fn receive(
    gate: &Arc<Gate>,
    snapshot: &Snapshot,
    presented: Presented,
    delivery: Delivery,
) -> Result<Arrival, Refusal> {
    if delivery.payer.is_some() {
        // What is not used of a voucher is its channel's.
        let detail = "A session pays for a call by itself: send it without a credit key.";
        return Err(Refusal::new(Code::AmbiguousCredentials, detail));
    }
    let place = For::presented(gate, snapshot, &presented)?;
    let slot = place.slot(&presented).await?;
    let (Action::Open { voucher: Some(voucher), .. } | Action::Voucher(voucher)) = presented.action else {
        return Err(Refusal::new(Code::Internal, "A session's wish was taken for a payment."));
    };
    let signed = voucher.checked(place.terms, &slot.id, &slot.config)?;
    let call = Called {
        key: call_key(&slot.id, signed.max_claimable, &delivery.fingerprint),
        fingerprint: delivery.fingerprint,
    };
    let claim = gate.claims.take(call.key, call.fingerprint).map_err(claimed)?;
    // The same voucher for the same request: its outcome (reference item 15).
    let known = gate.store.reader().payment(&call.key).map_err(|error| store_refusal(&error))?;
    if let Some(outcome) = known.as_ref().and_then(|known| known.outcome.clone()) {
        return Ok(Arrival::Answered(outcome.into()));
    }
    let account = slot.account.id();
    let attempt = match delivery.asked {
        None => None,
        Some(asked) => match idempotency::begin(gate, snapshot.dedupe(), account, asked, delivery.now)? {
            Begun::Runs(attempt) => Some(attempt),
            Begun::Ended(before) => return Ok(Arrival::Answered(before)),
        },
    };
    // One whose call never ended is served from what is there.
    let (amount, is_new) = match known {
        Some(known) => (Amount::from_units(known.amount), false),
        None => (place.accept(&slot, signed, Some(call)).await?, true),
    };
    let session = told::session(&place, &slot, presented.challenge_id);
    Ok(Arrival::Deposited(Box::new(Deposit {
        account: slot.account.clone(),
        key: call.key,
        headers: HeaderMap::new(),
        amount,
        is_new,
        rail: place.rail(),
        reference: slot.config.name(&slot.id),
        payer: slot.config.payer(),
        claim: Some(claim),
        spends: Spends::Once,
        attempt,
        drawing: None,
        session: Some(session),
    })))
}

/// The call that a voucher comes with.
#[derive(Clone, Copy)]
pub(super) struct Called {
    key: [u8; 32],
    fingerprint: [u8; 32],
}

/// Names what a voucher paid for: for another request the same voucher is another matter.
fn call_key(id: &[u8; 32], sum: u128, fingerprint: &[u8; 32]) -> [u8; 32] {
    let hash = Sha256::new_with_prefix(b"farthing/session-call/1").chain_update(id);
    hash.chain_update(sum.to_be_bytes()).chain_update(fingerprint).finalize().into()
}

impl For<'_> {
    pub(super) fn rail(&self) -> String {
        store::ChannelKind::Session.rail(&self.terms.network())
    }

    /// Holds a genuine voucher against its channel and takes it, if there is anything to take: on disk, then in the
    /// account, then whoever waits for it goes on. What it added.
    ///
    /// # Errors
    /// The channel stands where it stood.
    ///
    /// # Cancel safety
    /// None.
    pub(super) async fn accept(
        &self,
        slot: &Slot,
        signed: Signed<Signature>,
        call: Option<Called>,
    ) -> Result<Amount, Refusal> {
        let (mut has_looked, rules) = (false, self.terms.voucher_rules(&slot.config));
        loop {
            let now = Now::read();
            let kept = slot.lock().await;
            let channel = kept.channel(slot.unused());
            let age_s = now.seconds().saturating_sub(channel.mirror.synced_at_s);
            match channel.judge(signed, &rules, now.seconds()) {
                // The accepted one again costs nothing but its signature.
                Ok(acceptance)
                    if acceptance.amount() > 0 && self.gate.sessions.rate.check_key(&slot.id).is_err() =>
                {
                    return Err(told::too_many("vouchers"));
                }
                Ok(acceptance) => {
                    let next = channel.credited(&acceptance);
                    return self.take(slot, kept, next, acceptance.amount(), call, now).await;
                }
                Err(NotTaken::Stale) if !has_looked => {}
                Err(NotTaken::ExceedsDeposit) if !has_looked && age_s >= TOP_UP_SEEN_S => {}
                Err(error) => return Err(told::not_taken(self.terms, error)),
            }
            drop(kept);
            has_looked = true;
            self.look(slot).await?;
        }
    }

    async fn take(
        &self,
        slot: &Slot,
        mut kept: tokio::sync::MutexGuard<'_, Kept>,
        next: proof::voucher::Channel<Signature>,
        charge: u128,
        call: Option<Called>,
        now: Now,
    ) -> Result<Amount, Refusal> {
        if charge == 0 && call.is_none() {
            return Ok(Amount::ZERO);
        }
        let too_big = || Refusal::new(Code::ProofInvalid, "The voucher is larger than an account can hold.");
        let credit = slot.unit.ledger(charge).ok_or_else(too_big)?;
        let record = store::Channel { used_ms: now.millis(), ..kept.moved(&next) };
        // A voucher that came alone is a deposit all the same, and its call is none.
        let of_voucher = voucher_key(&slot.id, next.charged);
        let (key, fingerprint, state) = match call {
            Some(call) => (call.key, call.fingerprint, PaymentState::Settled),
            None => (of_voucher, of_voucher, PaymentState::Served),
        };
        let payment = Some((key, self.payment(slot, credit, fingerprint, state, now)));
        let entry = (charge > 0).then(|| entry(slot, &self.rail(), credit, next.charged, key, now));
        let beside = Beside { payment, entry, is_result: false };
        let written = slot.write(&self.gate.store, &mut kept, record, beside).await;
        written.map_err(|error| store_refusal(&error))?;
        if charge > 0 {
            self.gate.metrics.settlement(&self.rail(), "accepted");
            // Before the record is let go of: what it says was charged is there to be used, or was used.
            self.gate.deposit(slot.account.id(), slot.unit.asset, credit);
        }
        Ok(credit)
    }

    /// What is remembered of the call, or of the voucher.
    fn payment(
        &self,
        slot: &Slot,
        credit: Amount,
        fingerprint: [u8; 32],
        state: PaymentState,
        now: Now,
    ) -> Payment {
        Payment {
            state,
            fingerprint,
            account: slot.account.id().0,
            asset: slot.unit.asset.code(),
            amount: credit.units(),
            rail: self.rail(),
            payer: slot.config.payer(),
            reference: slot.config.name(&slot.id),
            created_ms: now.millis(),
            valid_before_s: now.seconds().saturating_add(REMEMBERED_S),
            outcome: None,
            received_msat: None,
            promised: false,
            attempt: None,
        }
    }
}

/// Names the step that a voucher is.
fn voucher_key(id: &[u8; 32], accepted: u128) -> [u8; 32] {
    let hash = Sha256::new_with_prefix(b"farthing/session-voucher/1").chain_update(id);
    hash.chain_update(accepted.to_be_bytes()).finalize().into()
}

/// The step of a voucher is a deposit; its id is of channel and sum, so that the journal has it once (ENG-1), its key that
/// of the payment that remembers it.
fn entry(slot: &Slot, rail: &str, credit: Amount, accepted: u128, key: [u8; 32], now: Now) -> Draft {
    let reference = format!("{}:{accepted}", slot.config.name(&slot.id));
    let of_voucher = voucher_key(&slot.id, accepted);
    let mut entry = moved(slot, rail, EntryKind::Deposit, credit, of_voucher, reference, now);
    entry.key = key;
    entry
}

/// Money between the chain and the account of a channel.
pub(super) fn moved(
    slot: &Slot,
    rail: &str,
    kind: EntryKind,
    into: Amount,
    name: [u8; 32],
    reference: String,
    now: Now,
) -> Draft {
    let asset = leg_asset(slot.unit.asset);
    let mut id = [0; 16];
    id.copy_from_slice(&name[..16]);
    let legs = vec![
        LegDraft::of(asset, Chart::RailClearing(rail.to_owned()).id(), -into.units()),
        LegDraft::of(asset, AccountId(slot.account.id().0), into.units()),
    ];
    Draft { reference, ..Draft::of(kind, id, now.millis(), legs) }
}
