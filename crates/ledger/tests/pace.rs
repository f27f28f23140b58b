//! PERF-27: the same decisions and the same waits as the crate `governor`, whose algorithm this is.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, FakeRelativeClock};
use governor::{Quota, RateLimiter};
use ledger::{Pace, Rate};
use proptest::prelude::*;

/// From one a minute to more than a clock can tell apart.
fn counts() -> impl Strategy<Value = u32> {
    prop_oneof![1..10_u32, 1..100_u32, 1..=u32::MAX]
}

/// Pauses between arrivals in nanoseconds: none, short ones, and such as are a few steps of the rate, or its whole burst.
fn pauses(count: u32) -> impl Strategy<Value = Vec<u64>> {
    let every = 60_000_000_000 / u64::from(count);
    let pause = prop_oneof![
        8 => Just(0),
        4 => 0..3_u64,
        4 => 0..=2 * every,
        2 => Just(every),
        2 => Just(every - 1),
        1 => 0..70_000_000_000_u64,
    ];
    prop::collection::vec(pause, 1..200)
}

proptest! {
    #[test]
    fn decides_as_governor_does(
        (count, pauses) in counts().prop_flat_map(|count| (Just(count), pauses(count))),
        start_ns in 0..1_u64 << 62,
    ) {
        let count = NonZeroU32::new(count).unwrap();
        let clock = FakeRelativeClock::default();
        let theirs = RateLimiter::direct_with_clock(Quota::per_minute(count), clock.clone());
        let (ours, rate) = (Pace::default(), Rate::per_minute(count));
        let mut now_ns = start_ns;
        for pause in pauses {
            clock.advance(Duration::from_nanos(pause));
            now_ns += pause;
            let expected = theirs.check().map_err(|until| until.wait_time_from(clock.now()));
            prop_assert_eq!(ours.admit(rate, now_ns).map_err(|early| early.wait), expected);
        }
    }
}
