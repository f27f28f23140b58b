//! Charges that are in the log, until the next transaction takes them in.

use std::time::{Duration, Instant};

use super::batch::Batch;
use super::tail::Tail;
use super::{BATCH_MAX, Job, Writer};
use crate::disk::Disk;
use crate::log::{self, Appended, Damaged, Name, is_loggable};
use crate::read::unavailable;
use crate::tables::{META, META_BATCHES};
use crate::{Op, Reader, StoreError, meta};

/// How long a charge is in the log and not in the database. Whoever has to see it there waits for a write.
const TAKEN_IN_AFTER: Duration = Duration::from_millis(200);

/// Charges in the order of the log.
#[derive(Debug, Default)]
pub(super) struct Logged {
    ops: Vec<Op>,
    /// When the first of them has to be in the database.
    due: Option<Instant>,
}

impl Logged {
    pub(super) fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// When they have to be in the database; none while there are none.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether they are to be in the database now: a transaction takes no more of them for nearly the same cost.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.ops.len() >= BATCH_MAX || self.due.is_some_and(|due| due <= now)
    }

    /// They are in the database.
    pub(super) fn clear(&mut self) {
        self.ops.clear();
        self.due = None;
    }

    /// They are in the log; who waits for that is told.
    pub(super) fn add(&mut self, batch: Vec<Job>, now: Instant) {
        self.due.get_or_insert(now + TAKEN_IN_AFTER);
        self.ops.extend(batch.into_iter().map(Job::logged));
    }
}

impl Writer {
    /// Puts charges into the log that nobody has to read yet. What has to be in the database now comes back; with nothing
    /// in it when that is only what the log has.
    pub(super) fn put_in_log(&mut self, batch: Vec<Job>) -> Option<Vec<Job>> {
        let Some(log) = &mut self.log else { return Some(batch) };
        let can_wait = |job: &Job| !job.is_to_be_read && is_loggable(&job.op);
        if batch.is_empty() || !batch.iter().all(can_wait) {
            return Some(batch);
        }
        match log.append(self.tail.batches, batch.iter().map(|job| &job.op)) {
            Ok(Appended::NoRoom) => Some(batch),
            Ok(Appended::Durable) => {
                let now = Instant::now();
                self.logged.add(batch, now);
                self.at_risk.set_oldest(None);
                self.logged.is_due(now).then(Vec::new)
            }
            Err(error) => {
                self.space.set_broken();
                self.give_up(&unavailable(error), batch);
                None
            }
        }
    }
}

impl Batch<'_> {
    /// Applies what is in the log. One that is refused now was never to be, and nobody waits for it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]
    pub(super) fn take_in(&mut self, logged: &[Op]) -> Result<(), StoreError> {
        for op in logged {
            match self.apply(op) {
                Err(StoreError::Unavailable(error)) => return Err(StoreError::Unavailable(error)),
                Err(error) => tracing::error!(%error, ?op, "a write nobody waits for was refused"),
                Ok(_) => {}
            }
        }
        Ok(())
    }
}

/// What a log has and its database has not.
///
/// # Errors
/// [`StoreError`]; inside, [`Damaged`]: more than the end of the log is missing.
pub(crate) fn missing(disk: &Disk, log: &[u8]) -> Result<Result<Vec<Op>, Damaged>, StoreError> {
    let batches = meta::number(&disk.read()?.open_table(META).map_err(unavailable)?, META_BATCHES)?;
    Ok(log::read(log, &Name::of(&Reader::new(disk.clone()))?, batches.unwrap_or(0)))
}

/// Takes that into the database, as the transaction would have that was cut off.
///
/// # Errors
/// [`StoreError`]
pub(crate) fn recover(disk: &Disk, logged: &[Op]) -> Result<(), StoreError> {
    if logged.is_empty() {
        return Ok(());
    }
    let mut tail = Tail::read(&disk.read()?)?;
    let mut transaction = disk.write()?;
    transaction.set_quick_repair(true);
    let mut open = Batch::open(&transaction, &mut tail)?;
    open.take_in(logged)?;
    open.finish()?;
    transaction.commit().map_err(unavailable)?;
    tracing::info!(charges = logged.len(), "charges of before the crash were in the log");
    Ok(())
}
