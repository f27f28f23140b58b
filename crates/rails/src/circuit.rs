//! When a service that fails is left alone, and when it is tried again (X402-46).

/// Failures in a row before nothing more is sent.
const FAILURES_MAX: u32 = 5;
/// First time that it is left alone, doubled after each try in vain, and the longest.
const REST_MS: u64 = 5_000;
const REST_MS_MAX: u64 = 120_000;
/// Longer than any try takes: one whose end was never told counts no more.
const TRY_MS_MAX: u64 = 120_000;

/// The circuit breaker of one service. It has no clock: `now_ms` is any clock that does not go back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Circuit {
    failures: u32,
    state: State,
}

/// Where a circuit stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Everything is sent.
    #[default]
    Closed,
    /// Nothing is sent until then; the next one after that is the try.
    Open {
        /// By the caller's clock.
        until_ms: u64,
    },
    /// One is under way, and its end decides. Nothing else is sent until then.
    Trying {
        /// When it is given up.
        until_ms: u64,
    },
}

impl Circuit {
    /// Whether something may be sent now. After a rest that is so once: whoever asks is the try, and tells its end
    /// by [`Circuit::answered`] or [`Circuit::failed`].
    #[must_use]
    pub const fn admits(&mut self, now_ms: u64) -> bool {
        match self.state {
            State::Closed => true,
            State::Open { until_ms } | State::Trying { until_ms } => {
                if now_ms < until_ms {
                    return false;
                }
                self.state = State::Trying { until_ms: now_ms.saturating_add(TRY_MS_MAX) };
                true
            }
        }
    }

    /// It did its part.
    pub const fn answered(&mut self) {
        *self = Self { failures: 0, state: State::Closed };
    }

    /// It did not. `random` spreads the end of the rest by a quarter to both sides, so that those who failed
    /// together do not come back together.
    pub fn failed(&mut self, now_ms: u64, random: u16) {
        self.failures = self.failures.saturating_add(1);
        if self.failures < FAILURES_MAX {
            return;
        }
        let rest = match self.state {
            // What was sent before the circuit opened ends later, and proves nothing new.
            State::Open { until_ms } if now_ms < until_ms => return,
            State::Closed | State::Open { .. } | State::Trying { .. } => rest_ms(self.failures, random),
        };
        self.state = State::Open { until_ms: now_ms.saturating_add(rest) };
    }

    /// Where it stands.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }
}

fn rest_ms(failures: u32, random: u16) -> u64 {
    let doublings = failures.saturating_sub(FAILURES_MAX).min(16);
    let rest = (REST_MS << doublings).min(REST_MS_MAX);
    rest * 3 / 4 + rest / 2 * u64::from(random) / u64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Circuit, FAILURES_MAX, State, TRY_MS_MAX, rest_ms};

    fn broken() -> Circuit {
        let mut circuit = Circuit::default();
        for _ in 0..FAILURES_MAX {
            assert!(circuit.admits(0));
            circuit.failed(0, 0);
        }
        circuit
    }

    #[test]
    fn it_opens_after_failures_in_a_row_only() {
        let mut circuit = Circuit::default();
        for _ in 0..10 * FAILURES_MAX {
            circuit.failed(0, 0);
            circuit.answered();
        }
        assert_eq!(circuit.state(), State::Closed);
        assert_eq!(broken().state(), State::Open { until_ms: 3_750 });
    }

    #[test]
    fn after_the_rest_one_try_decides() {
        let mut circuit = broken();
        assert!(!circuit.admits(3_749));
        assert!(circuit.admits(3_750));
        assert!(!circuit.admits(3_750), "a second beside the try");
        circuit.answered();
        assert!(circuit.admits(3_751) && circuit.admits(3_751));

        let mut circuit = broken();
        assert!(circuit.admits(4_000));
        circuit.failed(4_500, 0);
        assert_eq!(circuit.state(), State::Open { until_ms: 4_500 + 7_500 }, "twice as long");
    }

    #[test]
    fn a_try_that_never_ends_is_given_up() {
        let mut circuit = broken();
        assert!(circuit.admits(5_000));
        assert!(!circuit.admits(5_000 + TRY_MS_MAX - 1));
        assert!(circuit.admits(5_000 + TRY_MS_MAX));
    }

    #[test]
    fn late_failures_do_not_lengthen_the_rest() {
        let mut circuit = broken();
        for _ in 0..20 {
            circuit.failed(1, u16::MAX);
        }
        assert_eq!(circuit.state(), State::Open { until_ms: 3_750 });
    }

    #[test]
    fn the_rest_doubles_is_jittered_and_bounded() {
        for (failures, least, most) in
            [(5, 3_750, 6_250), (6, 7_500, 12_500), (9, 60_000, 100_000), (u32::MAX, 90_000, 150_000)]
        {
            assert_eq!((rest_ms(failures, 0), rest_ms(failures, u16::MAX)), (least, most), "{failures}");
        }
    }
}
