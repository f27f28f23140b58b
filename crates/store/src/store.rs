//! The store as its callers see it: a queue to the writer, and a reader.

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use ledger::Account;
use money::Amount;
use redb::{Database, StorageBackend};
use tokio::sync::{mpsc, oneshot};

use crate::exposure::AtRisk;
use crate::read::unavailable;
use crate::writer::{Answer, Job, Writer};
use crate::{Durable, Op, Options, Reader, StoreError, Submitted, schema};

/// Writes that may wait. Beyond it callers are told to come back (LED-28).
pub const QUEUE_MAX: usize = 16 * 1024;

/// The store. Cloning shares it; dropping the last clone writes what still waits and closes the file.
#[derive(Clone, Debug)]
pub struct Store {
    // First, so that the writer has let go of the file when the reader does.
    writer: Arc<Handle>,
    reader: Reader,
    failed: Arc<AtomicBool>,
    at_risk: Arc<AtRisk>,
}

#[derive(Debug)]
struct Handle {
    queue: Option<mpsc::Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the writer was reported where it happened.
            let _ = thread.join();
        }
    }
}

impl Store {
    /// Opens or creates `folder/farthing.redb`, both readable by their owner only.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the folder or file cannot be used, another process has it, or a newer
    /// version has written it.
    pub fn open(folder: &Path, options: Options) -> Result<Self, StoreError> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unavailable)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(folder.join("farthing.redb"))
            .map_err(unavailable)?;
        Self::start(Database::builder().create_file(file).map_err(unavailable)?, options)
    }

    /// Opens a store on another medium than a file.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn open_backend(backend: impl StorageBackend, options: Options) -> Result<Self, StoreError> {
        Self::start(Database::builder().create_with_backend(backend).map_err(unavailable)?, options)
    }

    fn start(db: Database, options: Options) -> Result<Self, StoreError> {
        schema::open(&db, options.fresh_id)?;
        let db = Arc::new(db);
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let failed = Arc::new(AtomicBool::new(false));
        let at_risk = Arc::new(AtRisk::new(options.durability));
        let reader = Reader::new(Arc::clone(&db));
        let writer = Writer::new(db, Arc::clone(&failed), Arc::clone(&at_risk))?;
        let thread = thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run(jobs))
            .map_err(unavailable)?;
        let writer = Arc::new(Handle { queue: Some(queue), thread: Some(thread) });
        Ok(Self { writer, reader, failed, at_risk })
    }

    /// Reads what is durable.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Whether writes are still accepted.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        !self.failed.load(Ordering::Acquire)
    }

    /// What a crash now would lose of charges whose answers went on, in nano of a dollar-like asset.
    #[must_use]
    pub fn at_risk(&self) -> Amount {
        self.at_risk.total()
    }

    /// Writes and waits until it is on disk (class A).
    ///
    /// # Errors
    /// [`StoreError`]; after `Unavailable` it is not known whether the write happened.
    ///
    /// # Cancel safety
    /// A dropped future does not take the write back.
    pub async fn commit(&self, op: Op) -> Answer {
        let (answer, done) = oneshot::channel();
        let job = Job { op, answer: Some(answer), risk: None, handed_over: Instant::now() };
        self.queue()?.send(job).await.map_err(|_| unavailable("closed"))?;
        done.await.map_err(|_| unavailable("closed"))?
    }

    /// Hands a write to the next batch (class B). `at_risk` is what it takes from an account and would be lost
    /// with it; a write without money goes on behind, unless nothing may.
    ///
    /// The write happens in both cases; [`Submitted::Wait`] says that the answer has to wait for it, because
    /// every charge does (`sync`), the account's or the total exposure would pass its cap, or the oldest write
    /// has waited longer than the delay (LED-25).
    ///
    /// # Errors
    /// [`StoreError::Full`] or [`StoreError::Unavailable`]: it was not taken.
    pub fn submit(&self, op: Op, at_risk: Option<(Arc<Account>, Amount)>) -> Result<Submitted, StoreError> {
        let (goes_on, risk) = match at_risk {
            None => (!self.at_risk.is_sync(), None),
            Some((account, amount)) => {
                let risk = self.at_risk.admit(&account, amount);
                (risk.is_some(), risk)
            }
        };
        let (answer, submitted) = if goes_on {
            (None, Submitted::Behind)
        } else {
            let (answer, done) = oneshot::channel();
            (Some(answer), Submitted::Wait(Durable(done)))
        };
        let job = Job { op, answer, risk, handed_over: Instant::now() };
        // A job that was not taken drops its risk with it.
        self.queue()?.try_send(job).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => StoreError::Full,
            mpsc::error::TrySendError::Closed(_) => unavailable("closed"),
        })?;
        Ok(submitted)
    }

    /// Whether the queue has room for `calls` more writes.
    #[must_use]
    pub fn has_room(&self, calls: usize) -> bool {
        self.queue().is_ok_and(|queue| queue.capacity() >= calls)
    }

    fn queue(&self) -> Result<&mpsc::Sender<Job>, StoreError> {
        self.writer.queue.as_ref().ok_or_else(|| unavailable("closed"))
    }
}
