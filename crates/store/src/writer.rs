//! The one thread that writes.

mod batch;
mod income;
mod post;
mod sweep;
mod tail;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use redb::{Database, ReadableDatabase};
use tokio::sync::{mpsc, oneshot};

use self::batch::Batch;
use crate::exposure::{AtRisk, Risk};
use crate::read::unavailable;
use crate::tables::{META, NAMES};
use crate::{Op, StoreError};

pub(crate) use self::batch::{Answer, forgotten_s};
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
    /// What is at risk until it is on disk.
    pub(crate) risk: Option<Risk>,
    pub(crate) handed_over: Instant,
}

pub(crate) struct Writer {
    db: Arc<Database>,
    tail: Tail,
    failed: Arc<AtomicBool>,
    at_risk: Arc<AtRisk>,
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

impl Writer {
    pub(crate) fn new(
        db: Arc<Database>,
        failed: Arc<AtomicBool>,
        at_risk: Arc<AtRisk>,
    ) -> Result<Self, StoreError> {
        let transaction = db.begin_read().map_err(unavailable)?;
        let meta = transaction.open_table(META).map_err(unavailable)?;
        let names = transaction.open_table(NAMES).map_err(unavailable)?;
        let tail = Tail::load(&meta, &names)?;
        Ok(Self { db, tail, failed, at_risk })
    }

    /// Takes all that waits, writes it, syncs once, answers; until every [`crate::Store`] is gone.
    pub(crate) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let _alarm = Alarm(Arc::clone(&self.failed));
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while let Some(first) = next(&mut jobs, &self.at_risk) {
            self.at_risk.set_oldest(Some(first.handed_over));
            batch.push(first);
            while batch.len() < BATCH_MAX
                && let Ok(next) = jobs.try_recv()
            {
                batch.push(next);
            }
            let done = self.write(&batch);
            if let Err(error) = &done {
                // A failed sync is never tried again: what the kernel dropped would look written (LED-27).
                tracing::error!(%error, "store failed, refusing all writes");
                self.failed.store(true, Ordering::Release);
            }
            for (place, job) in batch.drain(..).enumerate() {
                let answer = match &done {
                    Ok(answers) => answers[place].clone(),
                    Err(error) => Err(error.clone()),
                };
                if let (Err(error), None) = (&answer, &job.answer) {
                    tracing::error!(%error, op = ?job.op, "a write nobody waits for was refused");
                }
                // On disk, or lost with the store: either way no longer at risk.
                drop(job.risk);
                if let Some(sender) = job.answer {
                    // The caller may have gone; the write stands all the same.
                    let _ = sender.send(answer);
                }
            }
            if done.is_err() {
                return;
            }
        }
    }

    fn write(&mut self, batch: &[Job]) -> Result<Vec<Answer>, StoreError> {
        let transaction = self.db.begin_write().map_err(unavailable)?;
        let mut tail = self.tail.clone();
        let answers = {
            let mut open = Batch::open(&transaction, &mut tail)?;
            let mut answers = Vec::with_capacity(batch.len());
            for job in batch {
                match open.apply(&job.op) {
                    Err(StoreError::Unavailable(error)) => return Err(StoreError::Unavailable(error)),
                    answer => answers.push(answer),
                }
            }
            open.finish()?;
            answers
        };
        transaction.commit().map_err(unavailable)?;
        self.tail = tail;
        Ok(answers)
    }
}

/// The next write. While none waits, none is late.
fn next(jobs: &mut mpsc::Receiver<Job>, at_risk: &AtRisk) -> Option<Job> {
    jobs.try_recv().ok().or_else(|| {
        at_risk.set_oldest(None);
        jobs.blocking_recv()
    })
}

#[cfg(test)]
mod tests;
