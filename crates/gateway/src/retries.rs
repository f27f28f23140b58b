//! Which calls an SDK may be repeating by itself. The stock SDKs send no idempotency key; they count their
//! tries in `x-stainless-retry-count` (MTR-40, MTR-41).
//!
//! There are never more charges than first attempts: a retry stands for an attempt that failed at no cost,
//! or for one that runs, or for one that was charged. Only the first may run.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ledger::{AccountId, IdHashes};

use crate::call_id::CallId;

const SHARDS: usize = 16;
/// Requests remembered at most; beyond it the oldest go, except those that run.
const REQUESTS_MAX: usize = 64 * 1024;

/// A request as an SDK repeats it: who pays, and its fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Repeated {
    pub(crate) account: AccountId,
    pub(crate) fingerprint: [u8; 32],
}

/// The calls of the last minutes, by account and fingerprint of the request.
#[derive(Debug)]
pub(crate) struct Retries {
    shards: [Mutex<Shard>; SHARDS],
}

impl Default for Retries {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()) }
    }
}

/// Whether a call may run.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It is a new call, or stands for one that failed at no cost.
    Runs {
        attempt: Attempt,
        /// Nothing is remembered of calls before it: it may have been otherwise before a restart.
        unheard_of: bool,
    },
    /// The call it repeats is running.
    InFlight,
    /// The call it repeats was charged.
    Charged(CallId),
}

/// A call that runs. Dropped without [`Attempt::charged`], it has failed at no cost.
#[derive(Debug)]
pub(crate) struct Attempt {
    retries: Arc<Retries>,
    request: Repeated,
    ended: bool,
}

impl Retries {
    /// Decides about a call. What happened longer than `window` ago is forgotten.
    pub(crate) fn begin(self: &Arc<Self>, request: Repeated, is_retry: bool, window: Duration) -> Verdict {
        let found = self.shard(&request).begin(request, is_retry, window, Instant::now());
        match found {
            Found::Runs { unheard_of } => {
                let attempt = Attempt { retries: Arc::clone(self), request, ended: false };
                Verdict::Runs { attempt, unheard_of }
            }
            Found::InFlight => Verdict::InFlight,
            Found::Charged(call) => Verdict::Charged(call),
        }
    }

    fn shard(&self, request: &Repeated) -> std::sync::MutexGuard<'_, Shard> {
        // Fingerprints are hashes: any byte of them is as good as another.
        self.shards[usize::from(request.fingerprint[0]) % SHARDS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt {
    /// The call was charged, or served for nothing: repeating it gives its answer again.
    pub(crate) fn charged(mut self, call: CallId) {
        self.ended = true;
        self.retries.shard(&self.request).end(&self.request, Some(call), Instant::now());
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.ended {
            self.retries.shard(&self.request).end(&self.request, None, Instant::now());
        }
    }
}

#[derive(Debug, Default)]
struct Shard {
    known: HashMap<Repeated, Known, IdHashes>,
    oldest_first: VecDeque<Repeated>,
}

/// All calls with one request of one account. Several may run at once: a client that wants several samples
/// sends the same bytes several times.
#[derive(Debug)]
struct Known {
    /// The last time that something happened.
    touched: Instant,
    running: u32,
    /// Attempts that cost nothing and have not been repeated yet.
    failed: u32,
    charged: Option<CallId>,
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    Runs { unheard_of: bool },
    InFlight,
    Charged(CallId),
}

impl Shard {
    fn begin(&mut self, request: Repeated, is_retry: bool, window: Duration, now: Instant) -> Found {
        self.make_room(window, now);
        let Some(known) = self.known.get_mut(&request) else {
            self.known.insert(request, Known { touched: now, running: 1, failed: 0, charged: None });
            self.oldest_first.push_back(request);
            return Found::Runs { unheard_of: true };
        };
        if known.is_over(window, now) {
            (known.failed, known.charged) = (0, None);
        }
        let unheard_of = (known.failed, known.running, known.charged) == (0, 0, None);
        if is_retry {
            match (known.failed, known.running, known.charged) {
                (0, 0, Some(call)) => return Found::Charged(call),
                (0, 0, None) => {}
                (0, _, _) => return Found::InFlight,
                (failed, _, _) => known.failed = failed - 1,
            }
        }
        (known.running, known.touched) = (known.running.saturating_add(1), now);
        Found::Runs { unheard_of }
    }

    fn end(&mut self, request: &Repeated, charged: Option<CallId>, now: Instant) {
        let Some(known) = self.known.get_mut(request) else { return };
        (known.running, known.touched) = (known.running.saturating_sub(1), now);
        match charged {
            Some(call) => known.charged = Some(call),
            None => known.failed = known.failed.saturating_add(1),
        }
    }

    /// Each look takes at most two out, so that no call pays for many.
    fn make_room(&mut self, window: Duration, now: Instant) {
        for _ in 0..2 {
            let full = self.known.len() >= REQUESTS_MAX / SHARDS;
            let Some(oldest) = self.oldest_first.front() else { return };
            let Some(known) = self.known.get(oldest) else { return };
            if !full && !known.is_over(window, now) {
                return;
            }
            let Some(oldest) = self.oldest_first.pop_front() else { return };
            if known.running > 0 {
                self.oldest_first.push_back(oldest);
            } else {
                self.known.remove(&oldest);
            }
        }
    }
}

impl Known {
    fn is_over(&self, window: Duration, now: Instant) -> bool {
        self.running == 0 && now.saturating_duration_since(self.touched) >= window
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use ledger::AccountId;

    use super::{Found, REQUESTS_MAX, Repeated, Retries, SHARDS, Shard, Verdict};
    use crate::call_id::CallId;

    const WINDOW: Duration = Duration::from_secs(600);
    const CALL: CallId = CallId([7; 16]);

    fn request(number: u8) -> Repeated {
        Repeated { account: AccountId([0; 16]), fingerprint: [number; 32] }
    }

    /// What happens to one request, and what a call is told then. `f`: a first try begins, `r`: a retry,
    /// `c`: one is charged, `x`: one fails.
    fn told(history: &str) -> Vec<Found> {
        let (mut shard, now, mut told) = (Shard::default(), Instant::now(), Vec::new());
        for event in history.chars() {
            match event {
                'f' | 'r' => told.push(shard.begin(request(1), event == 'r', WINDOW, now)),
                'c' => shard.end(&request(1), Some(CALL), now),
                'x' => shard.end(&request(1), None, now),
                other => panic!("{other}"),
            }
        }
        told
    }

    /// MTR-40, MTR-41.
    #[test]
    fn a_retry_runs_only_for_an_attempt_that_cost_nothing() {
        use Found::{Charged, InFlight};
        const NEW: Found = Found::Runs { unheard_of: true };
        const RUNS: Found = Found::Runs { unheard_of: false };
        for (history, expected) in [
            ("f", vec![NEW]),
            // Nobody knows of an attempt before it.
            ("r", vec![NEW]),
            ("fr", vec![NEW, InFlight]),
            ("fcr", vec![NEW, Charged(CALL)]),
            ("fcrr", vec![NEW, Charged(CALL), Charged(CALL)]),
            ("fxr", vec![NEW, RUNS]),
            ("fxrr", vec![NEW, RUNS, InFlight]),
            ("fxrcr", vec![NEW, RUNS, Charged(CALL)]),
            ("fxrxr", vec![NEW, RUNS, RUNS]),
            // The same bytes again are another sample.
            ("fcf", vec![NEW, RUNS]),
            ("ff", vec![NEW, RUNS]),
            // Three samples, one of them failed: its retry runs, the others are not run again.
            ("fffccxrcr", vec![NEW, RUNS, RUNS, RUNS, Charged(CALL)]),
            ("fffxr", vec![NEW, RUNS, RUNS, RUNS]),
            ("fffxrr", vec![NEW, RUNS, RUNS, RUNS, InFlight]),
        ] {
            assert_eq!(told(history), expected, "{history}");
        }
    }

    #[test]
    fn what_is_over_is_forgotten_and_what_runs_is_not() {
        let (mut shard, start) = (Shard::default(), Instant::now());
        shard.begin(request(1), false, WINDOW, start);
        shard.begin(request(2), false, WINDOW, start);
        shard.end(&request(1), Some(CALL), start);
        let (almost, late) = (start + WINDOW - Duration::from_secs(1), start + WINDOW);
        assert_eq!(shard.begin(request(1), true, WINDOW, almost), Found::Charged(CALL));
        assert_eq!(shard.begin(request(1), true, WINDOW, late), Found::Runs { unheard_of: true });
        assert_eq!(shard.begin(request(2), true, WINDOW, late + WINDOW), Found::InFlight);
    }

    #[test]
    fn memory_is_bounded() {
        let (mut shard, now) = (Shard::default(), Instant::now());
        shard.begin(request(9), false, WINDOW, now);
        for number in 0..2 * REQUESTS_MAX as u64 / SHARDS as u64 {
            let mut other = request(0);
            other.fingerprint[..8].copy_from_slice(&number.to_be_bytes());
            shard.begin(other, false, WINDOW, now);
            shard.end(&other, Some(CALL), now);
        }
        assert!(shard.known.len() <= REQUESTS_MAX / SHARDS && shard.known.len() == shard.oldest_first.len());
        assert_eq!(shard.begin(request(9), true, WINDOW, now), Found::InFlight, "it still runs");
        let oldest = shard.begin(request(0), true, WINDOW, now);
        assert_eq!(oldest, Found::Runs { unheard_of: true }, "the oldest went");
    }

    #[test]
    fn an_attempt_that_is_dropped_has_failed() {
        let retries = Arc::new(Retries::default());
        let runs = |is_retry| retries.begin(request(1), is_retry, WINDOW);
        let Verdict::Runs { attempt: first, .. } = runs(false) else { panic!() };
        assert!(matches!(runs(true), Verdict::InFlight));
        drop(first);
        let Verdict::Runs { attempt: second, .. } = runs(true) else { panic!() };
        second.charged(CALL);
        assert!(matches!(runs(true), Verdict::Charged(CALL)));
    }
}
