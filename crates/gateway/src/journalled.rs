//! Open calls on disk, where every charge is waited for (LED-26): what a crash cuts off is known afterwards.

use std::sync::Arc;

use ledger::{AccountId, Chart, Ended, Hold, HoldEnd, asset_of_code};
use meter::{Counted, End, Head};
use money::Amount;
use serde_json::Value;
use store::{Op, OpenCall, Outcome, OwedInput, Store, StoreError};
use tokio::task::JoinSet;

use crate::bill;
use crate::call_id::CallId;
use crate::charge::Charge;
use crate::clock::Now;
use crate::config::CrashCharge;
use crate::facts::CallFacts;
use crate::gate::Gate;
use crate::landing::write_in_background;
use crate::payments::Waits;
use crate::posting::Posting;

/// What ended a call that was open when the process died, on its receipt.
const CRASH: &str = "gateway_crash";

/// That a call is open stands on disk until it has ended; dropped before that, the call owes nothing.
pub(crate) struct Journalled {
    gate: Arc<Gate>,
    call: CallId,
    record: OpenCall,
    ended: bool,
}

impl Journalled {
    /// Writes it down before anything goes up; nothing where charges may run behind the disk, or the call is
    /// free.
    ///
    /// # Errors
    /// [`StoreError`]: nothing may go up.
    pub(crate) async fn begin(
        gate: &Arc<Gate>,
        call: CallId,
        hold: Option<&Hold>,
        now: Now,
    ) -> Result<Option<Box<Self>>, StoreError> {
        let Some(account) = hold.map(Hold::payer).filter(|_| gate.store.is_sync()) else {
            return Ok(None);
        };
        let record = OpenCall {
            account: account.id().0,
            asset: account.asset().code(),
            held: hold.map_or(0, |hold| hold.amount().units()),
            begun_ms: now.millis(),
            owed: None,
        };
        let open = Box::new(Self { gate: Arc::clone(gate), call, record, ended: false });
        open.write().await?;
        Ok(Some(open))
    }

    /// The upstream has accepted the call: from now on its input is owed (MTR-27).
    ///
    /// # Errors
    /// [`StoreError`]
    pub(crate) async fn accepted(&mut self, owed: OwedInput) -> Result<(), StoreError> {
        self.record.owed = Some(owed);
        self.write().await
    }

    async fn write(&self) -> Result<(), StoreError> {
        let op = Op::Open { id: self.call.0, call: self.record.clone() };
        // Boxed, because hardly any call waits for it, and all would have room for it.
        Box::pin(self.gate.store.write(op)).await.map(drop)
    }

    /// The write with which the call ends. One that charges ends it by itself; where nothing is charged after
    /// the upstream accepted the call, the answer has to wait for that, or a crash would charge it after all.
    pub(crate) fn end(mut self, write: Option<Op>) -> Option<Op> {
        match write {
            Some(Op::Capture { .. }) => self.ended = true,
            None if self.record.owed.is_some() => {
                self.ended = true;
                return Some(Op::Ended { id: self.call.0 });
            }
            Some(_) | None => {}
        }
        write
    }
}

impl Drop for Journalled {
    fn drop(&mut self) {
        if !self.ended {
            drop(write_in_background(&self.gate, Op::Ended { id: self.call.0 }, Waits::default()));
        }
    }
}

impl Charge {
    /// The upstream has accepted the call: what its input costs is written down, before any of the answer goes
    /// on. As if the client had left before the first token.
    ///
    /// # Errors
    /// [`StoreError`]: the answer must not go on.
    pub(crate) async fn journal_input(&mut self) -> Result<(), StoreError> {
        if self.journalled.is_none() {
            return Ok(());
        }
        let owed = self.owed_input();
        match (&mut self.journalled, owed) {
            (Some(journalled), Some(owed)) => journalled.accepted(owed).await,
            (Some(_) | None, _) => Ok(()),
        }
    }

    fn owed_input(&self) -> Option<OwedInput> {
        let (hold, payer) = (self.hold.as_ref()?, self.payer.as_ref()?);
        let head = Head {
            status: self.status.as_u16(),
            content_type: None,
            content_encoding: None,
            hide_usage_chunk: false,
        };
        let metered = self.quote.meter(head).end(End::ClientGone, &mut Vec::new());
        let governed = bill::governed(&self.policy, &metered)?;
        let mut cost = self.quote.charge(&governed, self.clamp, Counted::NOTHING).ok()?;
        let amount = cost.nano.min(hold.amount());
        cost.nano = amount;
        let ended = Ended {
            end: HoldEnd::Captured,
            captured: amount,
            overrun: Amount::ZERO,
            available: payer.account.available(),
        };
        let facts = CallFacts {
            charge: self,
            payer,
            held_first: hold.first(),
            held: hold.amount(),
            ended: &ended,
            cost: &cost,
            metered: &metered,
            finished: Now::read(),
        };
        Some(OwedInput {
            amount: amount.units(),
            cost_femto: cost.femto.units().to_string(),
            chain: hold.chain().map(|account| account.id().0).collect(),
            model: self.quote.model().to_owned(),
            price_version: self.quote.price_version(),
            facts: String::from_utf8(store::facts_json(&facts.packed())?.into_owned()).ok()?,
            settles: self.promise().and_then(|promise| {
                let outcome =
                    Outcome { status: self.status.as_u16(), headers: Vec::new(), call: self.call.0 };
                promise.settles(amount, &outcome, Now::read())
            }),
        })
    }
}

/// Ends the calls that a crash has cut off, before the book is opened: none of them owes more than was held of
/// what is in the journal.
///
/// # Errors
/// [`StoreError`]
pub(crate) async fn recover(store: &Store, charge: CrashCharge, now: Now) -> Result<(), StoreError> {
    // All at once: they share their syncs.
    let mut writes = JoinSet::new();
    for (id, call) in store.reader().open_calls()? {
        let store = store.clone();
        let name = CallId(id);
        let owed = call.owed.filter(|owed| charge == CrashCharge::InputOnly && owed.amount > 0);
        let asset = asset_of_code(call.asset.into()).map(|(asset, _)| asset);
        let (Some(owed), Some(asset)) = (owed, asset) else {
            tracing::warn!(call = %name, held = call.held, "a call was cut off when the gateway ended: nothing is charged");
            writes.spawn(async move { store.commit(Op::Ended { id }).await });
            continue;
        };
        tracing::warn!(call = %name, charged = owed.amount, "a call was cut off when the gateway ended: its input is charged");
        let posting = Posting {
            call: name,
            chain: &owed.chain.iter().copied().map(AccountId).collect::<Vec<_>>(),
            asset,
            captured: Amount::from_units(owed.amount),
            overrun: Amount::ZERO,
            estimated: true,
            promised: owed.settles.is_some(),
            cost_femto: owed.cost_femto.parse().unwrap_or(0),
            price_version: owed.price_version,
        };
        let op = Op::Capture {
            id,
            entry: Some(posting.entry(now)),
            facts: cut_off(&owed.facts, now),
            served: None,
            settles: owed.settles,
            income: Some(Chart::Usage(owed.model)),
            idempotent: Vec::new(),
        };
        writes.spawn(async move { store.commit(op).await });
    }
    while let Some(written) = writes.join_next().await {
        written.map_err(|error| StoreError::Unavailable(error.to_string()))??;
    }
    Ok(())
}

/// The facts of such a call say what has ended it, and when that was seen.
fn cut_off(facts: &str, now: Now) -> Vec<u8> {
    let mut facts: Value = serde_json::from_str(facts).unwrap_or_default();
    if let Some(members) = facts.as_object_mut() {
        members.insert("terminal".into(), CRASH.into());
        // As its entry says: how much of the answer was given is not known.
        members.insert("estimated".into(), true.into());
        members.insert("finished_ms".into(), now.millis().into());
    }
    facts.to_string().into_bytes()
}
