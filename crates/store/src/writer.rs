//! The one thread that writes.

mod batch;
mod cashu;
mod channel;
mod forget;
mod grant;
mod income;
mod intake;
mod lightning_session;
mod logged;
mod payout;
mod post;
mod sweep;
mod tail;
mod top_up;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use self::batch::Batch;
use self::intake::{Gathering, Patience};
use self::logged::Logged;
use crate::bell::Bell;
use crate::disk::Disk;
use crate::exposure::{AtRisk, Risk};
use crate::log::Log;
use crate::recent::Recent;
use crate::space::{Room, Space};
use crate::{Op, StoreError};

pub(crate) use self::batch::{Answer, forgotten_s};
pub(crate) use self::logged::{missing, recover};
pub use self::sweep::SWEEP_ROWS_MAX;
pub(crate) use self::tail::Tail;

/// Writes that share one sync at most.
const BATCH_MAX: usize = 1024;

/// A write on its way to the disk.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) op: Op,
    /// Who waits for it.
    pub(crate) answer: Option<oneshot::Sender<Answer>>,
    /// Whether it is answered when it can be read, and not already when it is on disk.
    pub(crate) is_to_be_read: bool,
    /// What is at risk until it is on disk.
    pub(crate) risk: Option<Risk>,
    pub(crate) handed_over: Instant,
}

impl Job {
    /// That nobody waits for, handed over now.
    pub(crate) fn new(op: Op) -> Self {
        Self { op, answer: None, is_to_be_read: false, risk: None, handed_over: Instant::now() }
    }

    /// What was written comes back.
    fn answer(self, answer: Answer) -> Option<Op> {
        if let (Err(error), None) = (&answer, &self.answer) {
            tracing::error!(%error, op = ?self.op, "a write nobody waits for was refused");
        }
        let is_written = answer.is_ok();
        // On disk, or never to be: either way no longer at risk.
        drop(self.risk);
        if let Some(sender) = self.answer {
            // The caller may have gone; the write stands all the same.
            let _ = sender.send(answer);
        }
        is_written.then_some(self.op)
    }
}

pub(crate) struct Writer {
    disk: Disk,
    space: Arc<Space>,
    at_risk: Arc<AtRisk>,
    failed: Arc<AtomicBool>,
    bell: Arc<Bell>,
    gathering: Gathering,
    log: Option<Log>,
    logged: Logged,
    recent: Arc<Recent>,
    tail: Tail,
    /// Charges that nobody waits for, until the disk has room again.
    parked: VecDeque<Job>,
    /// What was being written when the disk was full.
    undecided: Option<Undecided>,
    patience: Patience,
}

/// A transaction that the engine could not end for want of room. Whether it is in the file is known when the
/// file is open again: the last of its writes may have been one that did not matter.
struct Undecided {
    jobs: Vec<Job>,
    answers: Vec<Answer>,
    number: u64,
}

/// What the writer shares with everybody else.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) at_risk: Arc<AtRisk>,
    /// Whether it has given up.
    pub(crate) failed: Arc<AtomicBool>,
    pub(crate) bell: Arc<Bell>,
    pub(crate) recent: Arc<Recent>,
}

/// Tells everybody when the writer ends by a panic, as when it gives up.
struct Alarm(Arc<AtomicBool>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Release);
        }
    }
}

/// The writer's end of the queue. However the writer ends, nobody is left waiting: a write that is on its way into
/// the queue while that is closed would otherwise lie there for as long as the store is held.
struct Intake(mpsc::Receiver<Job>);

impl Drop for Intake {
    fn drop(&mut self) {
        self.0.close();
        // Whoever has a place in the queue has put his write there, or given it up, before this is none. A job that
        // is dropped tells its caller that the store is closed.
        while self.0.blocking_recv().is_some() {}
    }
}

impl Writer {
    pub(crate) fn new(
        disk: Disk,
        log: Option<Log>,
        space: Arc<Space>,
        shared: Shared,
    ) -> Result<Self, StoreError> {
        let Shared { at_risk, failed, bell, recent } = shared;
        let tail = Tail::read(&disk.read()?)?;
        let gathering = Gathering::new(at_risk.durability());
        Ok(Self {
            disk,
            space,
            at_risk,
            failed,
            bell,
            gathering,
            log,
            logged: Logged::default(),
            recent,
            tail,
            parked: VecDeque::new(),
            undecided: None,
            patience: Patience::default(),
        })
    }

    /// Takes what has gathered, writes it, syncs once, answers; until every [`crate::Store`] is gone.
    pub(crate) fn run(mut self, jobs: mpsc::Receiver<Job>) {
        let mut intake = Intake(jobs);
        // Behind it, so that the alarm comes first.
        let _alarm = Alarm(Arc::clone(&self.failed));
        while let Some(batch) = self.gather(&mut intake.0) {
            self.write(batch, &mut intake.0);
            if self.has_failed() {
                break;
            }
        }
    }

    /// One transaction, which begins with this batch.
    fn write(&mut self, mut batch: Vec<Job>, jobs: &mut mpsc::Receiver<Job>) {
        let mut answers = Vec::with_capacity(batch.len());
        match self.transact(&mut batch, &mut answers, jobs) {
            Ok(None) => {}
            Ok(Some(tail)) => {
                self.has_landed(tail);
                answer_all(batch, answers);
            }
            Err(_) if self.space.room() == Room::None && !self.space.is_broken() => {
                self.undecided = Some(Undecided { jobs: batch, answers, number: self.tail.batches + 1 });
                self.look_for_room();
            }
            Err(error) => self.give_up(&error, batch),
        }
    }

    /// Everything so far is in the database.
    fn has_landed(&mut self, tail: Tail) {
        self.tail = tail;
        self.logged.clear();
        self.recent.clear();
    }

    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Applies batch after batch. One that may be in the log is answered when it is; the first that has to be in the
    /// database ends the transaction, and so does time. None: the store ends before that, and the log has it all.
    ///
    /// A write is applied before it is logged, so that no refused one is, and what a start takes in from the log is taken in as
    /// it was here: in one transaction and in this order.
    fn transact(
        &mut self,
        batch: &mut Vec<Job>,
        answers: &mut Vec<Answer>,
        jobs: &mut mpsc::Receiver<Job>,
    ) -> Result<Option<Tail>, StoreError> {
        let mut transaction = self.disk.write()?;
        // Two syncs and the allocator's state with each commit. One sync is as safe by the power-cut test, and
        // twice as fast for one client, but after a crash it walks the whole file: 5.6 s for 1 GiB, measured,
        // against 14 ms. That is also how long every reader would wait when a full disk makes it open anew.
        transaction.set_quick_repair(true);
        let mut tail = self.tail.clone();
        {
            let mut open = Batch::open(&transaction, &mut tail)?;
            // Of a transaction that met a full disk.
            open.take_in(self.logged.ops())?;
            loop {
                self.apply(&mut open, batch, answers)?;
                if !self.put_in_log(&mut open, batch, answers)? || self.logged.is_due(Instant::now()) {
                    break;
                }
                let Some(next) = self.gather(jobs) else { return Ok(None) };
                *batch = next;
            }
            open.finish()?;
        }
        transaction.commit().map_err(crate::read::unavailable)?;
        Ok(Some(tail))
    }

    fn apply(
        &self,
        open: &mut Batch<'_>,
        batch: &[Job],
        answers: &mut Vec<Answer>,
    ) -> Result<(), StoreError> {
        let in_flight_only = self.space.room() != Room::Ample;
        for job in batch {
            let answer = if in_flight_only && open.begins_something(&job.op)? {
                Err(StoreError::DiskFull)
            } else {
                open.apply(&job.op)
            };
            match answer {
                Err(StoreError::Unavailable(error)) => return Err(StoreError::Unavailable(error)),
                answer => answers.push(answer),
            }
        }
        Ok(())
    }

    /// A failed sync is never tried again: what the kernel dropped would look written (LED-27).
    fn give_up(&mut self, error: &StoreError, batch: Vec<Job>) {
        tracing::error!(%error, "store failed, refusing all writes");
        self.failed.store(true, Ordering::Release);
        for job in batch.into_iter().chain(self.parked.drain(..)) {
            let _ = job.answer(Err(error.clone()));
        }
    }
}

fn answer_all(batch: Vec<Job>, answers: Vec<Answer>) {
    for (job, answer) in batch.into_iter().zip(answers) {
        let _ = job.answer(answer);
    }
}

#[cfg(test)]
mod tests;
