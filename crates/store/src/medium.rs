//! The engine's file as the engine sees it: a full disk is met before the engine meets it.

use std::io;
use std::ops::Bound;
use std::sync::Arc;

use redb::{BackendError, StorageBackend};

use crate::space::{Room, Space, is_full};

/// Stands between the engine and its medium for one opening of the database.
///
/// The medium itself outlives it: after a full disk the database is closed and opened anew on the same one.
#[derive(Debug)]
pub(crate) struct Medium {
    inner: Arc<dyn StorageBackend>,
    space: Arc<Space>,
}

impl Medium {
    pub(crate) fn new(inner: Arc<dyn StorageBackend>, space: Arc<Space>) -> Self {
        Self { inner, space }
    }

    /// Tries a write again for each step of the reserve. A write that found the disk full did nothing that
    /// the same write does not do again.
    fn with_room(&self, write: impl Fn() -> io::Result<()>) -> io::Result<()> {
        loop {
            match write() {
                Err(error) if is_full(&error) => {
                    if !self.space.free_step() {
                        self.space.set_room(Room::None);
                        return Err(error);
                    }
                }
                done => return self.noted(done),
            }
        }
    }

    fn noted<T>(&self, done: io::Result<T>) -> io::Result<T> {
        if done.is_err() {
            self.space.set_broken();
        }
        done
    }
}

impl StorageBackend for Medium {
    fn len(&self) -> io::Result<u64> {
        self.noted(self.inner.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.noted(self.inner.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with_room(|| self.inner.set_len(len))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with_room(|| self.inner.write(offset, data))
    }

    /// Whatever the error: what the kernel was to write may be gone, and it will not say so again (LED-27).
    fn sync_data(&self) -> io::Result<()> {
        self.noted(self.inner.sync_data())
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}
