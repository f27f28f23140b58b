//! How much is charged in memory and not yet on disk (LED-25).
//!
//! Only charges whose answers went on count: what is waited for is nobody's risk. A counter is raised before
//! it is compared, so what was let go never adds up to more than a cap, whatever races.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ledger::AccountRef;
use money::{Amount, Asset};

use crate::{Durability, Exposure};

#[derive(Debug)]
pub(crate) struct AtRisk {
    durability: Durability,
    total: AtomicI64,
    started: Instant,
    /// When the oldest write was handed over that is not on disk, in nanoseconds after `started`; 0 for none.
    oldest: AtomicU64,
}

/// Units that count until this is dropped: when their record is on disk, or will never be.
#[derive(Debug)]
pub(crate) struct Risk {
    of: Arc<AtRisk>,
    account: AccountRef,
    units: i64,
}

impl Drop for Risk {
    fn drop(&mut self) {
        self.of.total.fetch_sub(self.units, Ordering::AcqRel);
        self.account.sub_at_risk(self.units);
    }
}

impl AtRisk {
    pub(crate) fn new(durability: Durability) -> Self {
        Self { durability, total: AtomicI64::new(0), started: Instant::now(), oldest: AtomicU64::new(0) }
    }

    pub(crate) const fn durability(&self) -> Durability {
        self.durability
    }

    pub(crate) const fn is_sync(&self) -> bool {
        matches!(self.durability, Durability::Sync)
    }

    /// Counts a charge. None when its answer has to wait for the disk.
    pub(crate) fn admit(self: &Arc<Self>, account: &AccountRef, amount: Amount) -> Option<Risk> {
        let Durability::Capped(exposure) = self.durability else { return None };
        let units = amount.units();
        // Caps are in nano of a dollar; a yen or a millisatoshi is not compared with them.
        if units < 0 || account.asset().exponent() != Asset::Usd.exponent() {
            return None;
        }
        if units > exposure.per_account.units().min(exposure.total.units()) || self.is_late(exposure) {
            return None;
        }
        let risk = Risk { of: Arc::clone(self), account: account.clone(), units };
        let total = self.total.fetch_add(units, Ordering::AcqRel).saturating_add(units);
        let of_account = account.add_at_risk(units);
        // Dropping the risk takes it back.
        (total <= exposure.total.units() && of_account <= exposure.per_account.units()).then_some(risk)
    }

    /// All that is at risk now, in the units of the caps.
    pub(crate) fn total(&self) -> Amount {
        Amount::from_units(self.total.load(Ordering::Acquire))
    }

    /// Tells since when the oldest write waits that is not on disk.
    pub(crate) fn set_oldest(&self, handed_over: Option<Instant>) {
        let since = handed_over.map_or(0, |at| {
            u64::try_from(at.saturating_duration_since(self.started).as_nanos()).unwrap_or(u64::MAX).max(1)
        });
        self.oldest.store(since, Ordering::Release);
    }

    fn is_late(&self, exposure: Exposure) -> bool {
        let oldest = self.oldest.load(Ordering::Acquire);
        oldest != 0 && self.started.elapsed().saturating_sub(Duration::from_nanos(oldest)) > exposure.delay
    }
}
