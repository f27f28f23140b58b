//! What the writer takes next, and what it does while the disk has no room.

use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::{BATCH_MAX, Job, Tail, Undecided, Writer, answer_all};
use crate::space::Room;
use crate::{Op, StoreError};

/// How long the writer sleeps while there is no room and nothing to refuse.
const NAP: Duration = Duration::from_millis(10);
/// Longest time between two looks for room.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(1);

/// When to look for room again: soon at first, then less often.
#[derive(Debug)]
pub(super) struct Patience {
    next: Instant,
    wait: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { next: Instant::now(), wait: NAP }
    }
}

impl Patience {
    fn is_over(&mut self) -> bool {
        let now = Instant::now();
        if now < self.next {
            return false;
        }
        self.next = now + self.wait;
        self.wait = (self.wait * 2).min(LOOK_EVERY_MAX);
        true
    }
}

impl Writer {
    /// The next writes, at least one; none when every [`crate::Store`] is gone.
    pub(super) fn gather(&mut self, jobs: &mut mpsc::Receiver<Job>) -> Option<Vec<Job>> {
        if self.space.room() != Room::Ample && !self.wait_for_room(jobs) {
            return None;
        }
        let parked = self.parked.len().min(BATCH_MAX);
        let mut batch: Vec<Job> = self.parked.drain(..parked).collect();
        if batch.is_empty() {
            batch.push(self.next(jobs)?);
        }
        self.at_risk.set_oldest(batch.first().map(|job| job.handed_over));
        while batch.len() < BATCH_MAX
            && let Ok(next) = jobs.try_recv()
        {
            batch.push(next);
        }
        Some(batch)
    }

    /// The next write. While none waits, none is late.
    fn next(&self, jobs: &mut mpsc::Receiver<Job>) -> Option<Job> {
        jobs.try_recv().ok().or_else(|| {
            self.at_risk.set_oldest(None);
            jobs.blocking_recv()
        })
    }

    /// Returns when something can be written; false when there is nothing more to do.
    fn wait_for_room(&mut self, jobs: &mut mpsc::Receiver<Job>) -> bool {
        if self.patience.is_over() {
            self.look_for_room();
        }
        while self.space.room() == Room::None || self.undecided.is_some() {
            if self.has_failed() {
                return false;
            }
            match jobs.try_recv() {
                Ok(job) => self.set_aside(job),
                Err(mpsc::error::TryRecvError::Disconnected) => {
                    self.look_for_room();
                    return self.space.room() != Room::None || self.leave();
                }
                Err(mpsc::error::TryRecvError::Empty) => thread::sleep(NAP),
            }
            if self.patience.is_over() {
                self.look_for_room();
            }
        }
        !self.has_failed()
    }

    /// Nothing is written now. Who waits is told so; what nobody waits for is kept, and stays at risk.
    fn set_aside(&mut self, job: Job) {
        match (&job.op, &job.answer) {
            (Op::Flush, _) | (_, Some(_)) => job.answer(Err(StoreError::DiskFull)),
            (_, None) => self.parked.push_back(job),
        }
    }

    /// The process ends and the disk is still full.
    fn leave(&mut self) -> bool {
        let lost = self.parked.len();
        if lost != 0 {
            tracing::error!(lost, "charges are lost, because the disk is full");
        }
        for job in self.parked.drain(..) {
            job.answer(Err(StoreError::DiskFull));
        }
        false
    }

    /// Opens the database again if a full disk has ended it, and sets the reserve aside again.
    pub(super) fn look_for_room(&mut self) {
        if let Some(undecided) = self.undecided.take()
            && let Err(undecided) = self.decide(undecided)
        {
            self.undecided = Some(undecided);
            return;
        }
        self.space.refill();
        if self.space.room() == Room::Ample {
            self.patience = Patience::default();
        }
    }

    /// Finds out whether the transaction that met the full disk is in the file. It comes back when the file
    /// cannot be opened yet.
    fn decide(&mut self, undecided: Undecided) -> Result<(), Undecided> {
        let found = self.disk.reopen().and_then(|()| Tail::read(&self.disk.read()?));
        match found {
            Ok(tail) => {
                let landed = tail.batches == undecided.number;
                self.tail = tail;
                if landed {
                    answer_all(undecided.jobs, undecided.answers);
                } else {
                    undecided.jobs.into_iter().for_each(|job| self.set_aside(job));
                }
                Ok(())
            }
            Err(error) if self.space.is_broken() => {
                self.give_up(&error, undecided.jobs);
                Ok(())
            }
            Err(_) => Err(undecided),
        }
    }
}
