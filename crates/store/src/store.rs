//! The store as its callers see it: a queue to the writer, and a reader.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ledger::AccountRef;
use money::Amount;
use redb::StorageBackend;
use redb::backends::FileBackend;
use tokio::sync::{mpsc, oneshot};

use crate::bell::Bell;
use crate::disk::Disk;
use crate::exposure::AtRisk;
use crate::log::{self, Log, Name};
use crate::read::unavailable;
use crate::recent::Recent;
use crate::reserve::FileReserve;
use crate::space::Space;
use crate::writer::{self, Answer, Job, Shared, Writer};
use crate::{Durable, NotTaken, Op, Options, Reader, Reserve, Room, StoreError, Submitted, schema};

/// Writes that may wait. Beyond it callers are told to come back (LED-28).
pub const QUEUE_MAX: usize = 16 * 1024;

/// The database in its folder.
pub(crate) const FILE: &str = "farthing.redb";
/// What is not in it yet, beside it.
const LOG: &str = "farthing.log";
/// Room for money in flight, beside it.
const RESERVE: &str = "farthing.reserve";

/// What a store is kept on.
#[derive(Debug)]
pub struct Media {
    /// The database. It is closed and used again when it was full: `close` only lets go of its locks.
    pub database: Arc<dyn StorageBackend>,
    /// Where payments and charges are durable before they are in the database, so that a thousand of them share a
    /// transaction. Without it they are durable with their own.
    pub log: Option<Arc<dyn StorageBackend>>,
    /// Room for money in flight.
    pub reserve: Option<Box<dyn Reserve>>,
}

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
    /// Opens or creates `folder/farthing.redb` and what stands beside it, all readable by their owner only.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the folder or file cannot be used, another process has it, or a newer
    /// version has written it.
    pub fn open(folder: &Path, options: Options) -> Result<Self, StoreError> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unavailable)?;
        let (database, log) = (backend(&folder.join(FILE))?, backend(&folder.join(LOG))?);
        // A file that a power loss takes out of its folder was never durable.
        sync_folder(folder).map_err(unavailable)?;
        let reserve = FileReserve::at(folder.join(RESERVE));
        Self::open_media(Media { database, log: Some(log), reserve: Some(Box::new(reserve)) }, options)
    }

    /// Opens a store on any media. What its log has and its database has not is taken in first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], as for [`Store::open`].
    pub fn open_media(media: Media, options: Options) -> Result<Self, StoreError> {
        let space = Arc::new(Space::new(media.reserve, options.reserve_bytes));
        let disk = Disk::open(media.database, Arc::clone(&space))?;
        schema::open(&disk, options.fresh_id)?;
        let log = media.log.map(|medium| recovered(&disk, medium)).transpose()?;
        space.refill();
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let shared = Shared {
            at_risk: Arc::new(AtRisk::new(options.durability)),
            failed: Arc::new(AtomicBool::new(false)),
            bell: Arc::new(Bell::default()),
            recent: Arc::new(Recent::default()),
        };
        let reader = Reader::with(disk.clone(), Arc::clone(&shared.recent));
        let writer = Writer::new(disk, log, Arc::clone(&space), shared.clone())?;
        let Shared { at_risk, failed, bell, recent: _ } = shared;
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

    /// Writes and waits until it is on disk (class A). Payments, outcomes of requests and keys can be read from then on;
    /// what else it changes, after the next write that was committed.
    ///
    /// # Errors
    /// [`StoreError`]; after `Unavailable` it is not known whether the write happened, after any other nothing
    /// of it was written.
    ///
    /// # Cancel safety
    /// A dropped future does not take the write back.
    pub async fn write(&self, op: Op) -> Answer {
        self.answered(Job::new(op)).await
    }

    /// Writes and waits until it is on disk and all of it can be read, with all that was handed over before.
    ///
    /// # Errors
    /// As for [`Store::write`].
    ///
    /// # Cancel safety
    /// As for [`Store::write`].
    pub async fn commit(&self, op: Op) -> Answer {
        self.answered(Job { is_to_be_read: true, ..Job::new(op) }).await
    }

    async fn answered(&self, job: Job) -> Answer {
        let (answer, done) = oneshot::channel();
        let job = Job { answer: Some(answer), ..job };
        self.queue()?.send(job).await.map_err(|_| unavailable("closed"))?;
        self.writer.bell.ring();
        done.await.map_err(|_| unavailable("closed"))?
    }

    /// As [`Store::commit`], for a caller that may block.
    pub(crate) fn commit_blocking(&self, op: Op) -> Answer {
        let (answer, done) = oneshot::channel();
        let job = Job { answer: Some(answer), is_to_be_read: true, ..Job::new(op) };
        self.queue()?.blocking_send(job).map_err(|_| unavailable("closed"))?;
        self.writer.bell.ring();
        done.blocking_recv().map_err(|_| unavailable("closed"))?
    }

    /// Hands a write to the next batch (class B). `at_risk` is what it takes from an account and would be lost
    /// with it; a write without money goes on behind, unless nothing may.
    ///
    /// It can be read after the next write that was committed. The write happens in both cases; [`Submitted::Wait`] says that the answer has to wait for it, because
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
        let job = Job { answer, risk, ..Job::new(op) };
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

fn backend(path: &Path) -> Result<Arc<dyn StorageBackend>, StoreError> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    Ok(Arc::new(FileBackend::new(file.map_err(unavailable)?).map_err(unavailable)?))
}

/// The log, with all that is in it in the database.
fn recovered(disk: &Disk, medium: Arc<dyn StorageBackend>) -> Result<Log, StoreError> {
    let bytes = log::bytes(medium.as_ref()).map_err(unavailable)?;
    let logged = writer::missing(disk, &bytes)?.map_err(unavailable)?;
    writer::recover(disk, &logged)?;
    let name = Name::of(&Reader::new(disk.clone()))?;
    Log::new(medium, name).map_err(unavailable)
}

/// Makes what was created in a folder last, and the folder in its own where we may look into that.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()?;
    if let Some(parent) = folder.parent().and_then(|parent| File::open(parent).ok()) {
        parent.sync_all()?;
    }
    Ok(())
}
