//! What came in over Lightning, deposit by deposit, and what of it may go back that way (FIN-34).
//!
//! Each deposit goes back at the rate it came in at, so that no round trip gains, whatever the price does between.
//! Balance is used up oldest deposit first; what is left, and so what goes back, is of the newest.

use serde::{Deserialize, Serialize};

/// Deposits of one account that are remembered. Beyond it the oldest can no longer go back.
pub(crate) const LOTS_MAX: usize = 64;

/// One deposit, and what of it has gone back. Invariant: never more than came in, in credit as in millisatoshi.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lot {
    /// Deposit key.
    pub key: [u8; 32],
    /// What was credited, ledger units of the account's asset.
    pub credit: i64,
    /// What was paid.
    pub msat: u64,
    /// What of the credit has gone back.
    pub back_credit: i64,
    /// What of the millisatoshi has gone back.
    pub back_msat: u64,
}

/// Part of a lot that goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Deposit key.
    pub key: [u8; 32],
    /// Millisatoshi.
    pub msat: u64,
    /// What they cost the holder, in ledger units.
    pub credit: i64,
}

impl Lot {
    /// A deposit of which nothing has gone back.
    #[must_use]
    pub const fn new(key: [u8; 32], credit: i64, msat: u64) -> Self {
        Self { key, credit, msat, back_credit: 0, back_msat: 0 }
    }

    /// Takes millisatoshi from deposits, given oldest first, beginning with the newest. None when they do not have
    /// as much.
    #[must_use]
    pub fn take(lots: &[Self], msat: u64) -> Option<Vec<Taken>> {
        let (mut taken, mut missing) = (Vec::new(), msat);
        for lot in lots.iter().rev() {
            let part = missing.min(lot.msat.saturating_sub(lot.back_msat));
            if part > 0 {
                taken.push(Taken { key: lot.key, msat: part, credit: lot.price(part) });
                missing -= part;
            }
        }
        (missing == 0).then_some(taken)
    }

    /// What `msat` of it cost: at its own rate, rounded up, and never more than is left of it.
    fn price(&self, msat: u64) -> i64 {
        let left = self.credit.saturating_sub(self.back_credit).max(0);
        let whole = i128::from(self.credit) * i128::from(msat);
        let up = (whole + i128::from(self.msat.max(1)) - 1) / i128::from(self.msat.max(1));
        i64::try_from(up).map_or(left, |up| up.min(left))
    }

    /// Whether as much is left of each as is taken of it: what was looked at may have moved since.
    pub(crate) fn have(lots: &[Self], taken: &[Taken]) -> bool {
        taken.iter().all(|part| {
            let of = lots.iter().find(|lot| lot.key == part.key);
            of.is_some_and(|lot| part.msat <= lot.msat.saturating_sub(lot.back_msat) && part.credit >= 0)
        })
    }

    /// Notes what has gone back.
    pub(crate) fn give(lots: &mut [Self], taken: &[Taken]) {
        for part in taken {
            // One that was pushed out by newer deposits meanwhile can give nothing more anyway.
            if let Some(lot) = lots.iter_mut().find(|lot| lot.key == part.key) {
                lot.back_msat = lot.back_msat.saturating_add(part.msat).min(lot.msat);
                lot.back_credit = lot.back_credit.saturating_add(part.credit).min(lot.credit);
            }
        }
    }

    pub(crate) const fn is_in_order(&self) -> bool {
        self.back_credit >= 0
            && self.back_credit <= self.credit
            && self.back_msat <= self.msat
            && self.msat > 0
            && self.credit > 0
    }
}

impl Taken {
    /// What all of it costs.
    #[must_use]
    pub fn credit_of(taken: &[Self]) -> i64 {
        taken.iter().fold(0i64, |sum, part| sum.saturating_add(part.credit))
    }

    /// The first `msat` of what was taken: what was moved in the end. A part of a part costs its share, rounded up.
    #[must_use]
    pub fn first(taken: &[Self], msat: u64) -> Vec<Self> {
        let (mut kept, mut missing) = (Vec::new(), msat);
        for part in taken {
            let of_it = missing.min(part.msat);
            if of_it > 0 {
                let share = i128::from(part.credit) * i128::from(of_it);
                let up = (share + i128::from(part.msat) - 1) / i128::from(part.msat);
                let credit = i64::try_from(up).map_or(part.credit, |up| up.min(part.credit));
                kept.push(Self { key: part.key, msat: of_it, credit });
                missing -= of_it;
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Lot, Taken};

    fn taken(parts: &[(u8, u64, i64)]) -> Vec<Taken> {
        parts.iter().map(|&(key, msat, credit)| Taken { key: [key; 32], msat, credit }).collect()
    }

    /// FIN-34: each at its own rate, the newest first, rounded up.
    #[test]
    fn take_table() {
        let old = Lot::new([1; 32], 1_000, 10_000);
        let new = Lot::new([2; 32], 3_000, 10_000);
        let half = Lot { back_credit: 1_500, back_msat: 5_000, ..new.clone() };
        for (lots, msat, expected) in [
            (vec![old.clone()], 10_000, Some(taken(&[(1, 10_000, 1_000)]))),
            (vec![old.clone()], 10_001, None),
            (vec![old.clone()], 11, Some(taken(&[(1, 11, 2)]))),
            (vec![old.clone(), new.clone()], 9_999, Some(taken(&[(2, 9_999, 3_000)]))),
            (vec![old.clone(), new], 15_000, Some(taken(&[(2, 10_000, 3_000), (1, 5_000, 500)]))),
            (vec![old, half], 6_000, Some(taken(&[(2, 5_000, 1_500), (1, 1_000, 100)]))),
            (vec![], 1, None),
        ] {
            assert_eq!(Lot::take(&lots, msat), expected, "{msat} of {lots:?}");
        }
    }

    proptest! {
        /// FIN-66: whatever goes back in whatever parts, never more than came in, and nothing is free.
        #[test]
        fn no_more_goes_back_than_came_in(
            deposits in proptest::collection::vec((1i64..10_000, 1u64..10_000), 1..5),
            wishes in proptest::collection::vec((1u64..8_000, 0u64..8_000), 1..12),
        ) {
            let mut lots: Vec<Lot> = (1u8..).zip(deposits).map(|(key, (credit, msat))| Lot::new([key; 32], credit, msat)).collect();
            let (credit, msat) = lots.iter().fold((0, 0), |(c, m), lot| (c + lot.credit, m + lot.msat));
            let (mut out_credit, mut out_msat) = (0, 0);
            for (wish, moved) in wishes {
                let Some(held) = Lot::take(&lots, wish) else { continue };
                let moved = Taken::first(&held, moved.min(wish));
                prop_assert!(Taken::credit_of(&moved) <= Taken::credit_of(&held));
                Lot::give(&mut lots, &moved);
                out_credit += Taken::credit_of(&moved);
                out_msat += moved.iter().map(|part| part.msat).sum::<u64>();
                prop_assert!(lots.iter().all(Lot::is_in_order));
            }
            prop_assert!(out_credit <= credit && out_msat <= msat);
        }
    }
}
