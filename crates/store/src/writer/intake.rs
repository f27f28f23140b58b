//! What the writer takes next, and what it does while the disk has no room.

use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::logged::Logged;
use super::{BATCH_MAX, Job, Tail, Undecided, Writer, answer_all};
use crate::space::Room;
use crate::{Durability, Op, StoreError};

/// How long the writer sleeps while there is no room and nothing to refuse.
const NAP: Duration = Duration::from_millis(10);
/// Longest time that writes are gathered: beyond it a batch is large enough for what a transaction costs.
const WINDOW_MAX: Duration = Duration::from_micros(2_500);
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

/// How long writes are gathered that nobody waits for, before they share a transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gathering {
    pub(super) window: Duration,
}

/// What the writer does with what it has gathered.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Writes it.
    Write,
    /// Waits for more, at most until then.
    Gather(Instant),
    /// Waits for anything, at most until then.
    Idle(Option<Instant>),
    /// Every [`crate::Store`] is gone.
    End,
}

impl Gathering {
    /// Half of what a charge may be behind the disk: the other half is for the disk. Where every charge is waited
    /// for there is nothing to gather.
    pub(super) fn new(durability: Durability) -> Self {
        let window = match durability {
            Durability::Capped(exposure) => (exposure.delay / 2).min(WINDOW_MAX),
            Durability::Sync => Duration::ZERO,
        };
        Self { window }
    }

    /// Decides at `now`. A write that is waited for waits for no other.
    fn next(self, batch: &[Job], logged: &Logged, is_closed: bool, now: Instant) -> Next {
        let Some(oldest) = batch.first() else {
            return match logged.due() {
                Some(_) if is_closed || logged.is_due(now) => Next::Write,
                None if is_closed => Next::End,
                due => Next::Idle(due),
            };
        };
        let end = oldest.handed_over + self.window;
        let is_waited_for = batch.iter().any(|job| job.answer.is_some());
        if is_closed || is_waited_for || batch.len() >= BATCH_MAX || now >= end {
            return Next::Write;
        }
        Next::Gather(end)
    }
}

impl Writer {
    /// The next writes, at least one unless the log is due; none when every [`crate::Store`] is gone.
    pub(super) fn gather(&mut self, jobs: &mut mpsc::Receiver<Job>) -> Option<Vec<Job>> {
        if self.space.room() != Room::Ample && !self.wait_for_room(jobs) {
            return None;
        }
        let parked = self.parked.len().min(BATCH_MAX);
        let mut batch: Vec<Job> = self.parked.drain(..parked).collect();
        loop {
            let is_closed = take_waiting(jobs, &mut batch);
            // While none waits, none is late.
            self.at_risk.set_oldest(batch.first().map(|job| job.handed_over));
            match self.gathering.next(&batch, &self.logged, is_closed, Instant::now()) {
                Next::Write => return Some(batch),
                Next::Gather(end) => self.bell.sleep(end),
                Next::Idle(due) => self.bell.idle(due, || !jobs.is_empty() || jobs.is_closed()),
                Next::End => return None,
            }
        }
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
            (Op::Flush, _) | (_, Some(_)) => drop(job.answer(Err(StoreError::DiskFull))),
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
            let _ = job.answer(Err(StoreError::DiskFull));
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
                if tail.batches == undecided.number {
                    self.has_landed(tail);
                    answer_all(undecided.jobs, undecided.answers);
                } else {
                    self.tail = tail;
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

/// Adds what has been handed over, as much as a batch takes. True when nothing more will come.
fn take_waiting(jobs: &mut mpsc::Receiver<Job>, batch: &mut Vec<Job>) -> bool {
    while batch.len() < BATCH_MAX {
        match jobs.try_recv() {
            Ok(job) => batch.push(job),
            Err(mpsc::error::TryRecvError::Empty) => return false,
            Err(mpsc::error::TryRecvError::Disconnected) => return true,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tokio::sync::{mpsc, oneshot};

    use super::{BATCH_MAX, Gathering, Logged, Next, WINDOW_MAX, take_waiting};
    use crate::writer::Job;
    use crate::{Durability, Exposure, Op};

    fn job(handed_over: Instant, is_waited_for: bool) -> Job {
        let answer = is_waited_for.then(|| oneshot::channel().0);
        Job { answer, handed_over, ..Job::new(Op::Flush) }
    }

    fn of_delay(delay: Duration) -> Gathering {
        Gathering::new(Durability::Capped(Exposure { delay, ..Exposure::default() }))
    }

    /// LED-25: who waits is not delayed, who does not is written within half the delay.
    #[test]
    fn a_batch_is_written_at_once_when_somebody_waits_and_within_the_window_otherwise() {
        let (start, gathering) = (Instant::now(), Gathering::new(Durability::default()));
        let after = |micros| start + Duration::from_micros(micros);
        let batch =
            |waited_for: &[bool]| waited_for.iter().map(|waits| job(start, *waits)).collect::<Vec<_>>();
        for (name, waited_for, is_closed, now, expected) in [
            ("nothing", vec![], false, 0, Next::Idle(None)),
            ("nothing more", vec![], true, 0, Next::End),
            ("one", vec![false], false, 0, Next::Gather(after(2_500))),
            ("one, later", vec![false], false, 2_499, Next::Gather(after(2_500))),
            ("one, as late as may be", vec![false], false, 2_500, Next::Write),
            ("one that is waited for", vec![true], false, 0, Next::Write),
            ("one of them is waited for", vec![false, true, false], false, 1, Next::Write),
            ("the last ones", vec![false], true, 0, Next::Write),
            ("almost a batch", vec![false; BATCH_MAX - 1], false, 0, Next::Gather(after(2_500))),
            ("a whole batch", vec![false; BATCH_MAX], false, 0, Next::Write),
        ] {
            let next = gathering.next(&batch(&waited_for), &Logged::default(), is_closed, after(now));
            assert_eq!(next, expected, "{name}");
        }
    }

    /// What the log has goes into the database in time, or when it is many, and before the store ends; and whatever
    /// else there is to do is done first.
    #[test]
    fn the_log_is_taken_in_when_it_is_due() {
        let (start, gathering) = (Instant::now(), Gathering::new(Durability::default()));
        let after = |millis| start + Duration::from_millis(millis);
        let logged = |count: usize| {
            let mut logged = Logged::default();
            logged.add((0..count).map(|_| Op::Flush), start);
            logged
        };
        let next =
            |batch: &[Job], logged, is_closed, now| gathering.next(batch, &logged, is_closed, after(now));
        assert_eq!(next(&[], logged(1), false, 0), Next::Idle(Some(after(200))));
        assert_eq!(next(&[], logged(1), false, 200), Next::Write);
        assert_eq!(next(&[], logged(BATCH_MAX), false, 0), Next::Write);
        assert_eq!(next(&[], logged(1), true, 0), Next::Write);
        let (fresh, window) = (job(after(300), false), Duration::from_micros(2_500));
        assert_eq!(next(&[fresh], logged(1), false, 300), Next::Gather(after(300) + window));
        let mut taken_in = logged(1);
        taken_in.clear();
        assert_eq!(next(&[], taken_in, true, 0), Next::End);
    }

    #[test]
    fn the_window_is_half_of_what_a_charge_may_be_behind() {
        for (delay, window) in [
            (Duration::ZERO, Duration::ZERO),
            (Duration::from_millis(1), Duration::from_micros(500)),
            (Duration::from_millis(5), WINDOW_MAX),
            (Duration::MAX, WINDOW_MAX),
        ] {
            assert_eq!(of_delay(delay).window, window);
        }
        assert_eq!(Gathering::new(Durability::Sync).window, Duration::ZERO);
    }

    #[test]
    fn a_batch_takes_what_waits_and_no_more_than_it_may() {
        let (queue, mut jobs) = mpsc::channel(2 * BATCH_MAX);
        for _ in 0..BATCH_MAX + 1 {
            queue.try_send(job(Instant::now(), false)).unwrap();
        }
        let mut batch = Vec::new();
        assert!(!take_waiting(&mut jobs, &mut batch) && batch.len() == BATCH_MAX);
        batch.clear();
        assert!(!take_waiting(&mut jobs, &mut batch) && batch.len() == 1);
        drop(queue);
        assert!(take_waiting(&mut jobs, &mut batch) && batch.len() == 1);
    }
}
