//! What is in the log, until its transaction is in the database.

use std::time::{Duration, Instant};

use super::batch::{Answer, Batch};
use super::tail::Tail;
use super::{BATCH_MAX, Job, Writer};
use crate::disk::Disk;
use crate::log::{self, Appended, Damaged, Name};
use crate::read::unavailable;
use crate::tables::{META, META_BATCHES};
use crate::{Op, Reader, StoreError, meta};

/// How long a write is in the log and not in the database. Whoever has to see it there waits for a commit.
const TAKEN_IN_AFTER: Duration = Duration::from_millis(200);

/// Writes in the order of the log.
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

    /// Whether they are to be in the database now: with more of them a transaction costs each hardly less.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.ops.len() >= BATCH_MAX || self.due.is_some_and(|due| due <= now)
    }

    /// They are in the database.
    pub(super) fn clear(&mut self) {
        self.ops.clear();
        self.due = None;
    }

    /// They are in the log, and applied in the transaction that is open.
    pub(super) fn add(&mut self, ops: impl IntoIterator<Item = Op>, now: Instant) {
        self.due.get_or_insert(now + TAKEN_IN_AFTER);
        self.ops.extend(ops);
    }
}

impl Writer {
    /// Puts what was written of a batch into the log, and answers the batch. False: it has to be in the database first, or
    /// the log does not take it.
    ///
    /// # Errors
    /// The log cannot be written.
    pub(super) fn put_in_log(
        &mut self,
        open: &mut Batch<'_>,
        batch: &mut Vec<Job>,
        answers: &mut Vec<Answer>,
    ) -> Result<bool, StoreError> {
        let rows = open.take_rows();
        let Some(log) = &mut self.log else { return Ok(false) };
        let answered = batch.iter().zip(answers.iter());
        let mut written = answered.filter(|(_, answer)| answer.is_ok()).map(|(job, _)| &job.op).peekable();
        if written.peek().is_none() || batch.iter().any(|job| job.is_to_be_read) {
            return Ok(false);
        }
        match log.append(self.tail.batches, written) {
            Ok(Appended::No) => return Ok(false),
            Ok(Appended::Durable) => {}
            Err(error) => {
                self.space.set_broken();
                return Err(unavailable(error));
            }
        }
        self.recent.extend(rows);
        self.at_risk.set_oldest(None);
        let jobs = batch.drain(..).zip(answers.drain(..));
        self.logged.add(jobs.filter_map(|(job, answer)| job.answer(answer)), Instant::now());
        Ok(true)
    }
}

impl Batch<'_> {
    /// Applies what is in the log. None of it was refused when it was put there, and the same comes of it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]
    pub(super) fn take_in(&mut self, logged: &[Op]) -> Result<(), StoreError> {
        for op in logged {
            match self.apply(op) {
                Err(StoreError::Unavailable(error)) => return Err(StoreError::Unavailable(error)),
                Err(error) => tracing::error!(%error, ?op, "a write of the log was refused"),
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
    tracing::info!(writes = logged.len(), "payments and charges of before the crash were in the log");
    Ok(())
}
