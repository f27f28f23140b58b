//! The store as its callers see it: a queue to the writer, and a reader.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use ledger::AccountRef;
use money::Amount;
use redb::StorageBackend;
use redb::backends::FileBackend;
use tokio::sync::{mpsc, oneshot};

use crate::bell::Bell;
use crate::disk::Disk;
use crate::exposure::AtRisk;
use crate::read::unavailable;
use crate::reserve::FileReserve;
use crate::space::Space;
use crate::writer::{Answer, Job, Writer};
use crate::{Durable, NotTaken, Op, Options, Reader, Reserve, Room, StoreError, Submitted, schema};

/// Writes that may wait. Beyond it callers are told to come back (LED-28).
pub const QUEUE_MAX: usize = 16 * 1024;

/// The database in its folder.
pub(crate) const FILE: &str = "farthing.redb";
/// Room for money in flight, beside it.
const RESERVE: &str = "farthing.reserve";

/// The store. Cloning shares it; dropping the last clone writes what still waits and closes the file.
#[derive(Clone, Debug)]
pub struct Store {
    // First, so that the writer has let go of the file when the reader does.
    writer: Arc<Handle>,
    reader: Reader,
    failed: Arc<AtomicBool>,
    at_risk: Arc<AtRisk>,
    space: Arc<Space>,
}

#[derive(Debug)]
struct Handle {
    queue: Option<mpsc::Sender<Job>>,
    bell: Arc<Bell>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        drop(self.queue.take());
        self.bell.ring();
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
            .open(folder.join(FILE))
            .map_err(unavailable)?;
        // A file that a power loss takes out of its folder was never durable.
        sync_folder(folder).map_err(unavailable)?;
        let reserve = FileReserve::at(folder.join(RESERVE));
        Self::open_backend(FileBackend::new(file).map_err(unavailable)?, Some(Box::new(reserve)), options)
    }

    /// Opens a store on any medium. It is closed and used again when it was full: `close` only lets go of its
    /// locks.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], as for [`Store::open`].
    pub fn open_backend(
        backend: impl StorageBackend,
        reserve: Option<Box<dyn Reserve>>,
        options: Options,
    ) -> Result<Self, StoreError> {
        let space = Arc::new(Space::new(reserve, options.reserve_bytes));
        let disk = Disk::open(Arc::new(backend), Arc::clone(&space))?;
        schema::open(&disk, options.fresh_id)?;
        space.refill();
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let failed = Arc::new(AtomicBool::new(false));
        let at_risk = Arc::new(AtRisk::new(options.durability));
        let reader = Reader::new(disk.clone());
        let bell = Arc::new(Bell::default());
        let (risk, failure) = (Arc::clone(&at_risk), Arc::clone(&failed));
        let writer = Writer::new(disk, Arc::clone(&space), risk, failure, Arc::clone(&bell))?;
        let thread = thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run(jobs))
            .map_err(unavailable)?;
        bell.belongs_to(thread.thread());
        let writer = Arc::new(Handle { queue: Some(queue), bell, thread: Some(thread) });
        Ok(Self { writer, reader, failed, at_risk, space })
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

    /// Whether every charge is waited for, so that a crash loses none.
    #[must_use]
    pub fn is_sync(&self) -> bool {
        self.at_risk.is_sync()
    }

    /// Writes and waits until it is on disk (class A).
    ///
    /// # Errors
    /// [`StoreError`]; after `Unavailable` it is not known whether the write happened, after any other nothing
    /// of it was written.
    ///
    /// # Cancel safety
    /// A dropped future does not take the write back.
    pub async fn commit(&self, op: Op) -> Answer {
        let (answer, done) = oneshot::channel();
        let job = Job { op, answer: Some(answer), risk: None, handed_over: Instant::now() };
        self.queue()?.send(job).await.map_err(|_| unavailable("closed"))?;
        self.writer.bell.ring();
        done.await.map_err(|_| unavailable("closed"))?
    }

    /// As [`Store::commit`], for a caller that may block.
    pub(crate) fn commit_blocking(&self, op: Op) -> Answer {
        let (answer, done) = oneshot::channel();
        let job = Job { op, answer: Some(answer), risk: None, handed_over: Instant::now() };
        self.queue()?.blocking_send(job).map_err(|_| unavailable("closed"))?;
        self.writer.bell.ring();
        done.blocking_recv().map_err(|_| unavailable("closed"))?
    }

    /// Hands a write to the next batch (class B). `at_risk` is what it takes from an account and would be lost
    /// with it; a write without money goes on behind, unless nothing may.
    ///
    /// The write happens in both cases; [`Submitted::Wait`] says that the answer has to wait for it, because
    /// every charge does (`sync`), the account's or the total exposure would pass its cap, or the oldest write
    /// has waited longer than the delay (LED-25).
    ///
    /// # Errors
    /// [`NotTaken`] gives it back: for [`StoreError::Full`] and [`StoreError::DiskFull`] it may be taken later, for
    /// [`StoreError::Unavailable`] never.
    pub fn submit(&self, op: Op, at_risk: Option<(AccountRef, Amount)>) -> Result<Submitted, NotTaken> {
        let not_taken = |op, why| Err(NotTaken { op: Box::new(op), why });
        if self.room() == Room::None {
            return not_taken(op, StoreError::DiskFull);
        }
        let queue = match self.queue() {
            Ok(queue) => queue,
            Err(closed) => return not_taken(op, closed),
        };
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
            let (sender, answer) = oneshot::channel();
            (Some(sender), Submitted::Wait(Durable { answer, op: Box::new(op.clone()) }))
        };
        let job = Job { op, answer, risk, handed_over: Instant::now() };
        // A job that was not taken drops its risk with it.
        match queue.try_send(job) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(job)) => return not_taken(job.op, StoreError::Full),
            Err(mpsc::error::TrySendError::Closed(job)) => return not_taken(job.op, unavailable("closed")),
        }
        match submitted {
            Submitted::Behind => self.writer.bell.tap(),
            Submitted::Wait(_) => self.writer.bell.ring(),
        }
        Ok(submitted)
    }

    /// What the disk has room for.
    #[must_use]
    pub fn room(&self) -> Room {
        self.space.room()
    }

    /// Whether `calls` more writes would be taken.
    #[must_use]
    pub fn has_room(&self, calls: usize) -> bool {
        self.room() != Room::None && self.queue().is_ok_and(|queue| queue.capacity() >= calls)
    }

    fn queue(&self) -> Result<&mpsc::Sender<Job>, StoreError> {
        self.writer.queue.as_ref().ok_or_else(|| unavailable("closed"))
    }
}

/// Makes what was created in a folder last, and the folder in its own where we may look into that.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()?;
    if let Some(parent) = folder.parent().and_then(|parent| File::open(parent).ok()) {
        parent.sync_all()?;
    }
    Ok(())
}
