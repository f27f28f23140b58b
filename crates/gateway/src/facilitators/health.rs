//! How the facilitators do: who is left alone for a while, and how much is asked of each at once (X402-46).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rails::{Budget, Circuit, CircuitState};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::random;

/// How long a settlement waits for its turn at a facilitator that has its hands full.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(2);

/// The state of every facilitator that was ever asked, and of the payers it was asked for. Lost with the process:
/// a facilitator that still fails is found out soon enough.
#[derive(Debug)]
pub(crate) struct Health {
    started: Instant,
    rows: Mutex<HashMap<String, Row>>,
    payers: Mutex<Budget>,
}

/// What a facilitator is asked. It may do one well and fail at the other: a good opinion says nothing about a chain
/// that nothing gets through to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    Settle,
    Verify,
}

impl Question {
    /// The word in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Settle => "settle",
            Self::Verify => "verify",
        }
    }
}

#[derive(Debug)]
struct Row {
    settle: Circuit,
    verify: Circuit,
    at_once: usize,
    turns: Arc<Semaphore>,
}

/// The right to ask a facilitator to settle.
#[derive(Debug)]
pub(crate) struct Turn {
    _permit: OwnedSemaphorePermit,
}

/// One settlement of a payer's budget.
#[derive(Debug)]
pub(crate) struct Share<'h> {
    health: &'h Health,
    payer: String,
    in_vain: bool,
}

impl Default for Health {
    fn default() -> Self {
        Self { started: Instant::now(), rows: Mutex::default(), payers: Mutex::default() }
    }
}

impl Health {
    /// Milliseconds since this began: a clock that nobody sets back.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether a facilitator is to be asked this now. Whoever is told so tells the end by [`Health::ended`]. Nobody is
    /// asked for an opinion of what he does not get settled.
    pub(crate) fn admits(&self, facilitator: &str, question: Question, now_ms: u64) -> bool {
        self.rows().get_mut(facilitator).is_none_or(|row| match question {
            Question::Settle => row.settle.admits(now_ms),
            Question::Verify => !rests(row.settle, now_ms) && row.verify.admits(now_ms),
        })
    }

    /// Whether a facilitator is left alone now.
    pub(crate) fn rests(&self, facilitator: &str, now_ms: u64) -> bool {
        let any = |row: &Row| rests(row.settle, now_ms) || rests(row.verify, now_ms);
        self.rows().get(facilitator).is_some_and(any)
    }

    /// A turn among the `at_once` that may settle there at the same time. None: too many are before us.
    ///
    /// # Cancel safety
    /// Nothing was sent; the place in the queue is lost.
    pub(crate) async fn turn(&self, facilitator: &str, at_once: usize, wait_max: Duration) -> Option<Turn> {
        let turns = {
            let mut rows = self.rows();
            let row = rows.entry(facilitator.to_owned()).or_insert_with(|| Row::new(at_once));
            if row.at_once != at_once {
                *row = Row { settle: row.settle, verify: row.verify, ..Row::new(at_once) };
            }
            Arc::clone(&row.turns)
        };
        let permit = tokio::time::timeout(wait_max, turns.acquire_owned()).await.ok()?.ok()?;
        Some(Turn { _permit: permit })
    }

    /// A facilitator did its part, or did not. Returns whether it is asked from now on.
    pub(crate) fn ended(&self, facilitator: &str, question: Question, is_fault: bool, now_ms: u64) -> bool {
        let mut rows = self.rows();
        let row = rows.entry(facilitator.to_owned()).or_insert_with(|| Row::new(1));
        let circuit = match question {
            Question::Settle => &mut row.settle,
            Question::Verify => &mut row.verify,
        };
        if is_fault {
            circuit.failed(now_ms, u16::from_be_bytes(random::bytes()));
        } else {
            circuit.answered();
        }
        [row.settle, row.verify].iter().all(|circuit| circuit.state() == CircuitState::Closed)
    }

    /// One settlement of this payer. None: his budget is spent.
    pub(crate) fn share(&self, payer: Option<&String>) -> Option<Share<'_>> {
        let payer = payer.cloned().unwrap_or_default();
        // Where nobody pays, in claims and settlements of channels, it is we who ask.
        let admitted = payer.is_empty() || self.payers().take(&payer, self.now_ms());
        admitted.then_some(Share { health: self, payer, in_vain: false })
    }

    fn rows(&self) -> MutexGuard<'_, HashMap<String, Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn payers(&self) -> MutexGuard<'_, Budget> {
        self.payers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Row {
    fn new(at_once: usize) -> Self {
        let (settle, verify) = (Circuit::default(), Circuit::default());
        Self { settle, verify, at_once, turns: Arc::new(Semaphore::new(at_once)) }
    }
}

fn rests(circuit: Circuit, now_ms: u64) -> bool {
    match circuit.state() {
        CircuitState::Closed => false,
        CircuitState::Open { until_ms } | CircuitState::Trying { until_ms } => now_ms < until_ms,
    }
}

impl Share<'_> {
    /// No money came of it, and that was the payer's doing.
    pub(crate) const fn was_in_vain(&mut self) {
        self.in_vain = true;
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        if !self.payer.is_empty() {
            self.health.payers().ended(&self.payer, self.in_vain, self.health.now_ms());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Health, Question};

    const AT_ONCE: Duration = Duration::ZERO;

    #[test]
    fn a_facilitator_that_fails_is_left_alone_and_no_other() {
        let (health, settle) = (Health::default(), Question::Settle);
        assert!(health.admits("a", settle, 0));
        for left in (0..5).rev() {
            assert_eq!(health.ended("a", settle, true, 0), left > 0);
        }
        assert!(!health.admits("a", settle, 1));
        assert!(health.admits("b", settle, 1));
        // The try after the longest rest.
        assert!(health.admits("a", settle, 6_250));
        assert!(health.ended("a", settle, false, 6_300));
        assert!(health.admits("a", settle, 6_300));
    }

    /// X402-46: a facilitator that has opinions and gets nothing settled is found out, and not asked for opinions.
    #[test]
    fn good_opinions_do_not_hide_settlements_that_fail() {
        let health = Health::default();
        for _ in 0..5 {
            health.ended("a", Question::Verify, false, 0);
            health.ended("a", Question::Settle, true, 0);
        }
        assert!(health.rests("a", 1) && !health.admits("a", Question::Verify, 1));
        // The other way round it goes on settling.
        for _ in 0..5 {
            health.ended("b", Question::Settle, false, 0);
            health.ended("b", Question::Verify, true, 0);
        }
        assert!(!health.admits("b", Question::Verify, 1) && health.admits("b", Question::Settle, 1));
    }

    #[tokio::test]
    async fn turns_are_bounded_and_come_back() {
        let health = Health::default();
        let first = health.turn("a", 1, AT_ONCE).await;
        assert!(first.is_some());
        assert!(health.turn("a", 1, AT_ONCE).await.is_none());
        assert!(health.turn("b", 1, AT_ONCE).await.is_some());
        drop(first);
        assert!(health.turn("a", 1, AT_ONCE).await.is_some());
        // Another number by a reload.
        let both = (health.turn("a", 2, AT_ONCE).await, health.turn("a", 2, AT_ONCE).await);
        assert!(both.0.is_some() && both.1.is_some());
    }

    #[test]
    fn a_payer_who_pays_nothing_is_bounded() {
        let health = Health::default();
        let payer = "0xab".to_owned();
        for _ in 0..10 {
            health.share(Some(&payer)).unwrap().was_in_vain();
        }
        assert!(health.share(Some(&payer)).is_none());
        assert!(health.share(Some(&"0xcd".to_owned())).is_some());
        assert!(health.share(None).is_some());
    }
}
