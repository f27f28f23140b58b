//! The end of a paid call, in one write: its charge, what the same request gets from now on, and what is settled after.

use std::sync::Arc;

use money::Amount;
use store::{Idempotent, Op, Outcome};

use super::{Brought, PaymentResult, Spends};
use crate::claims::Claim;
use crate::clock::Now;
use crate::gate::Gate;
use crate::idempotency::Attempt;

/// What waits until the end of a call is on disk.
#[derive(Default)]
pub(crate) struct Waits {
    pub(crate) claims: Vec<Claim>,
    /// What is to be settled then.
    due: Option<(Arc<Gate>, [u8; 32])>,
}

impl Waits {
    /// Whether nobody has to wait.
    pub(crate) const fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.due.is_none()
    }

    /// The end of the call is on disk, or never will be.
    pub(crate) fn over(self, written: bool) {
        if let Some((gate, key)) = self.due.filter(|_| written) {
            gate.unsettled.ask_now(key);
        }
    }
}

/// What a call that was charged leaves behind: what the same request gets from now on, and the claims to let
/// go when that is on disk.
pub(crate) struct Ending {
    brought: Option<Brought>,
    idempotent: Vec<([u8; 32], Idempotent)>,
    outcome: Outcome,
    waits: Waits,
}

/// The end of a call as it is written down.
#[derive(Default)]
pub(crate) struct Joined {
    /// Without a charge there is only a payment to remember, if that.
    pub(crate) write: Option<Op>,
    pub(crate) waits: Waits,
    /// What the payer is told of a settlement that the call did not wait for.
    pub(crate) result: Option<PaymentResult>,
}

impl Ending {
    pub(crate) fn of(brought: Option<Brought>, attempt: Option<Attempt>, outcome: Outcome) -> Self {
        let (idempotent, claims) = attempt.map(|attempt| attempt.ended(&outcome)).unwrap_or_default();
        let waits = Waits { claims, due: None };
        Self { brought, idempotent, outcome, waits }
    }

    /// The one write of the end of a call that took `captured`.
    pub(crate) fn join(self, gate: &Arc<Gate>, capture: Option<Op>, captured: Amount) -> Joined {
        let Self { brought, idempotent, outcome, mut waits } = self;
        let (mut served, mut settles, mut result) = (None, None, None);
        match brought {
            None => {}
            Some(Brought::Deposit(deposit)) => {
                waits.claims.extend(deposit.claim);
                let is_used_up = match deposit.spends {
                    Spends::Once => true,
                    Spends::OnceCharged => captured > Amount::ZERO,
                    Spends::Again => false,
                };
                served = is_used_up.then_some((deposit.key, outcome));
            }
            Some(Brought::Promise(promise)) => {
                settles = promise.settles(captured, &outcome, Now::read());
                let is_whole = promise.is_whole();
                let ended = promise.ended(captured, settles.is_some());
                waits.claims.push(ended.claim);
                waits.due = settles.as_ref().map(|_| (Arc::clone(gate), ended.key));
                served = is_whole.then_some((ended.key, outcome));
                result = Some(ended.result);
            }
        }
        let write = match (capture, served) {
            (Some(Op::Capture { id, entry, facts, income, .. }), served) => {
                Some(Op::Capture { id, entry, facts, served, settles, income, idempotent })
            }
            (Some(other), _) => Some(other),
            (None, Some((key, outcome))) => Some(Op::Served { key, outcome }),
            (None, None) => None,
        };
        Joined { write, waits, result }
    }
}
