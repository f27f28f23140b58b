//! The open database, which readers share with the writer, and the closing and opening of it.

use std::sync::{Arc, RwLock};

use redb::{Database, ReadTransaction, ReadableDatabase, StorageBackend, WriteTransaction};

use crate::StoreError;
use crate::blank;
use crate::medium::Medium;
use crate::read::unavailable;
use crate::space::Space;

/// Pages kept in memory. Balances, names and the end of the journal stay hot; the rest is read seldom. A start reads all
/// balances, so that it is full from then on. Half of it are pages that the open transaction has written: those of a thousand calls.
const CACHE_BYTES: usize = 5 << 20;

/// One database, open or being opened again after the disk was full. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Disk {
    medium: Arc<dyn StorageBackend>,
    space: Arc<Space>,
    open: Arc<RwLock<Option<Database>>>,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk").field("medium", &self.medium).finish_non_exhaustive()
    }
}

impl Disk {
    pub(crate) fn open(medium: Arc<dyn StorageBackend>, space: Arc<Space>) -> Result<Self, StoreError> {
        let db = open(&medium, &space)?;
        Ok(Self { medium, space, open: Arc::new(RwLock::new(Some(db))) })
    }

    /// A snapshot of what is durable. It ends with an error when the database is opened again meanwhile.
    pub(crate) fn read(&self) -> Result<ReadTransaction, StoreError> {
        self.with(|db| db.begin_read().map_err(unavailable))
    }

    pub(crate) fn write(&self) -> Result<WriteTransaction, StoreError> {
        self.with(|db| db.begin_write().map_err(unavailable))
    }

    /// Closes the database and opens it again: after an I/O error it refuses everything, also when the error
    /// was only that the disk is full. What was committed is what is found.
    ///
    /// The caller has dropped its transactions. When this fails the database stays closed, and it can be
    /// called again.
    pub(crate) fn reopen(&self) -> Result<(), StoreError> {
        let mut slot = self.open.write().map_err(unavailable)?;
        // Readers that are in a transaction get an error from here on; none can see a page change.
        drop(slot.take());
        *slot = Some(open(&self.medium, &self.space)?);
        Ok(())
    }

    fn with<T>(&self, begin: impl FnOnce(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let slot = self.open.read().map_err(unavailable)?;
        begin(slot.as_ref().ok_or_else(|| unavailable("the disk is full"))?)
    }
}

fn open(medium: &Arc<dyn StorageBackend>, space: &Arc<Space>) -> Result<Database, StoreError> {
    let guarded = Medium::new(Arc::clone(medium), Arc::clone(space));
    blank::clear(&guarded).map_err(unavailable)?;
    Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(guarded).map_err(unavailable)
}
