//! Limits for windows of time, without a clock.

use ledger::{AccountId, Budget};
use money::Amount;
use proptest::prelude::*;

proptest! {
    /// LED-14: a window that was kept counts for as long as it is the one that would be made, and no longer.
    #[test]
    fn a_window_is_on_while_it_would_be_made_again(
        then in 0..10_000_u64, now in 0..10_000_u64, length in 0..5_000_u64,
    ) {
        let made = |at| Budget::window(AccountId([7; 16]), "day", length, at, Amount::ZERO);
        prop_assert_eq!(made(then).is_on(now, length), made(then) == made(now));
    }
}
