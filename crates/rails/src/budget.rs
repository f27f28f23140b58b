//! How much settling one payer may ask for (X402-46). A signature costs nothing; a settlement that fails costs the
//! facilitator a transaction, and us our welcome there.

use std::collections::HashMap;

/// Settlements of one payer under way at once.
const AT_ONCE_MAX: u32 = 32;
/// Settlements of one payer that may come to nothing within a window.
const IN_VAIN_MAX: u32 = 10;
/// How long what came to nothing counts.
const WINDOW_MS: u64 = 60_000;
/// Payers remembered at most. Beyond it only those already known are bounded; what is sent at once is bounded
/// for each facilitator besides.
const PAYERS_MAX: usize = 20_000;

/// What each payer has asked for lately. It has no clock.
#[derive(Debug, Default)]
pub struct Budget(HashMap<String, Spent>);

#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    at_once: u32,
    in_vain: u32,
    since_ms: u64,
}

impl Spent {
    const fn is_idle(&self, now_ms: u64) -> bool {
        self.at_once == 0 && (self.in_vain == 0 || now_ms.saturating_sub(self.since_ms) >= WINDOW_MS)
    }
}

impl Budget {
    /// Takes one settlement out of the payer's budget, to be told the end of by [`Budget::ended`]. False: ask
    /// nobody now; the budget is whole again a minute later at the latest.
    #[must_use]
    pub fn take(&mut self, payer: &str, now_ms: u64) -> bool {
        if self.0.len() >= PAYERS_MAX && !self.0.contains_key(payer) {
            self.0.retain(|_, spent| !spent.is_idle(now_ms));
            if self.0.len() >= PAYERS_MAX {
                return true;
            }
        }
        let spent = self.0.entry(payer.to_owned()).or_insert(Spent { since_ms: now_ms, ..Spent::default() });
        if now_ms.saturating_sub(spent.since_ms) >= WINDOW_MS {
            (spent.in_vain, spent.since_ms) = (0, now_ms);
        }
        if spent.at_once >= AT_ONCE_MAX || spent.in_vain >= IN_VAIN_MAX {
            return false;
        }
        spent.at_once += 1;
        true
    }

    /// A settlement ended; `in_vain` if no money came of it and that is the payer's doing.
    pub fn ended(&mut self, payer: &str, in_vain: bool, now_ms: u64) {
        let Some(spent) = self.0.get_mut(payer) else { return };
        spent.at_once = spent.at_once.saturating_sub(1);
        spent.in_vain = spent.in_vain.saturating_add(u32::from(in_vain));
        if spent.is_idle(now_ms) {
            self.0.remove(payer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AT_ONCE_MAX, Budget, IN_VAIN_MAX, PAYERS_MAX, WINDOW_MS};

    #[test]
    fn who_pays_is_not_bounded_in_number() {
        let mut budget = Budget::default();
        for _ in 0..1000 {
            assert!(budget.take("p", 0));
            budget.ended("p", false, 0);
        }
        assert!(budget.0.is_empty());
    }

    #[test]
    fn in_vain_is_bounded_for_a_minute() {
        let mut budget = Budget::default();
        for _ in 0..IN_VAIN_MAX {
            assert!(budget.take("p", 5));
            budget.ended("p", true, 5);
        }
        assert!(!budget.take("p", 4 + WINDOW_MS));
        assert!(budget.take("q", 5), "another payer");
        assert!(budget.take("p", 5 + WINDOW_MS));
    }

    #[test]
    fn at_once_is_bounded_and_comes_back() {
        let mut budget = Budget::default();
        for _ in 0..AT_ONCE_MAX {
            assert!(budget.take("p", 0));
        }
        assert!(!budget.take("p", 0));
        budget.ended("p", false, 0);
        assert!(budget.take("p", 0));
    }

    #[test]
    fn memory_is_bounded_by_those_who_are_busy() {
        let mut budget = Budget::default();
        for n in 0..PAYERS_MAX {
            assert!(budget.take(&n.to_string(), 0));
            budget.ended(&n.to_string(), true, 0);
        }
        assert!(budget.take("one more", 1));
        assert_eq!(budget.0.len(), PAYERS_MAX);
        assert!(budget.take("later", WINDOW_MS));
        assert!(budget.0.len() < PAYERS_MAX);
    }
}
