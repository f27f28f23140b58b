//! One channel in memory: its record, the account that holds its carry, and the order of its writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ledger::{AccountRef, Draft};
use store::{ChannelWrite, Op, Payment, Store, StoreError};
use tokio::sync::{Mutex, MutexGuard};

use super::kept::{Kept, Kind, Unit};
use crate::session::{Standing, Vouched, unspent};

/// A channel. Calls on one of x402 are serial by their claim (X402-24); this lock is held for one write at a time, so that what
/// is done beside them, a look at the chain or a claim there, is neither lost nor in the way.
#[derive(Debug)]
pub(crate) struct Slot<K: Kind> {
    pub(crate) id: [u8; 32],
    pub(crate) account: AccountRef,
    pub(crate) unit: Unit,
    /// What the channel is made of.
    pub(crate) config: K::Config,
    /// What its streams see of it.
    pub(crate) standing: Arc<Standing<Vouched>>,
    kept: Mutex<Kept<K>>,
    era: AtomicU32,
}

/// What is written beside a channel's record.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    pub(crate) payment: Option<([u8; 32], Payment)>,
    pub(crate) entry: Option<Draft>,
    /// It tells what money has done, and is written while only the reserve has room.
    pub(crate) is_result: bool,
}

impl<K: Kind> Slot<K> {
    pub(super) fn new(kept: Kept<K>, account: AccountRef) -> Self {
        let era = AtomicU32::new(kept.record.era);
        let (unit, config, standing) =
            (kept.unit(), kept.config.clone(), Arc::new(Standing::new(vouched(&kept.record))));
        Self { id: kept.id, account, unit, config, standing, kept: Mutex::new(kept), era }
    }

    pub(crate) async fn lock(&self) -> MutexGuard<'_, Kept<K>> {
        self.kept.lock().await
    }

    /// How often everything was given back.
    pub(crate) fn era(&self) -> u32 {
        self.era.load(Ordering::Acquire)
    }

    /// Writes where the channel stands from now on, and what is beside it; then it stands there in memory too.
    ///
    /// # Errors
    /// [`StoreError`]: it stands where it stood.
    ///
    /// # Cancel safety
    /// None: dropped midway, disk and memory may differ. Run it in a task that a lost connection does not end.
    pub(crate) async fn write(
        &self,
        store: &Store,
        kept: &mut Kept<K>,
        record: store::Channel,
        beside: Beside,
    ) -> Result<(), StoreError> {
        write(store, kept, record, beside).await?;
        self.era.store(kept.record.era, Ordering::Release);
        self.standing.set(vouched(&kept.record));
        Ok(())
    }

    /// Charged and not used, where no call is in flight.
    pub(crate) fn carry(&self) -> u128 {
        self.unit.whole(self.account.available())
    }

    /// Charged and not used for certain, whatever is in flight: what a call has set aside counts as not used.
    pub(crate) fn unused(&self) -> u128 {
        self.unit.whole(unspent(&self.account))
    }
}

fn vouched(record: &store::Channel) -> Vouched {
    Vouched { accepted: record.charged, deposit: record.mirror.balance, closed: record.closing.is_some() }
}

/// As [`Slot::write`], for a channel that is not in memory yet.
///
/// # Errors
/// [`StoreError`]
pub(crate) async fn write<K: Kind>(
    store: &Store,
    kept: &mut Kept<K>,
    record: store::Channel,
    beside: Beside,
) -> Result<(), StoreError> {
    let Beside { payment, entry, is_result } = beside;
    let channel = record.clone();
    let write = ChannelWrite { id: kept.id, channel, payment, entry, begins: !is_result };
    store.write(Op::Channel(Box::new(write))).await?;
    kept.record = record;
    Ok(())
}
