//! A hold that is counted as open from the moment it is taken until it has ended, whatever ends it. Then what is left of it
//! may be what another call of its account waits for.

use std::ops::Deref;
use std::sync::Arc;

use ledger::Hold;
use money::Amount;

use crate::gate::Gate;

/// A hold of a call.
pub(crate) struct OpenHold {
    hold: Hold,
    /// What it began with, before it grew.
    first: Amount,
    gate: Arc<Gate>,
}

impl OpenHold {
    pub(crate) fn new(hold: Hold, gate: &Arc<Gate>) -> Self {
        gate.metrics.hold_opened();
        Self { first: hold.amount(), hold, gate: Arc::clone(gate) }
    }

    pub(crate) const fn first(&self) -> Amount {
        self.first
    }
}

impl Deref for OpenHold {
    type Target = Hold;

    fn deref(&self) -> &Hold {
        &self.hold
    }
}

impl Drop for OpenHold {
    fn drop(&mut self) {
        self.gate.metrics.hold_ended();
        // One that nobody ended goes back before anybody is told.
        self.hold.finish(Amount::ZERO);
        self.gate.arrivals.wake(self.hold.payer().id());
    }
}
