//! The budget as a whole: tables, and any order of events against a naive list.

use std::collections::BTreeSet;

use money::Amount;
use proptest::prelude::*;

use super::{
    Budget, BudgetError as E, Cap, Claim, HOSTS_MAX, Host, Limits, Over, Shape, Span, SpanCap, Stop,
};
use crate::Policy;

/// 2024-10-04T00:00:00Z
const MIDNIGHT: u64 = 20_000 * 86_400;

fn nano(units: i64) -> Amount {
    Amount::from_units(units)
}

fn host(name: &str) -> Host {
    name.parse().unwrap()
}

fn per(span: Span, units: i64) -> Limits {
    Limits::default().with(SpanCap { amount: nano(units), span })
}

fn per_call(units: i64) -> Limits {
    Limits { call: Some(nano(units)), ..Limits::default() }
}

fn shape(name: &str) -> Shape {
    serde_json::from_value(name.into()).unwrap()
}

/// Reserves and says what was granted.
fn reserve(budget: &mut Budget, id: &str, to: &str, claim: &Claim<'_>, now: u64) -> Result<i64, E> {
    budget.reserve(id, &host(to), claim, now).map(|granted| granted.amount.units())
}

fn pay(budget: &mut Budget, id: &str, to: &str, price: i64, now: u64) -> Result<i64, E> {
    // A shape of its own for each price: what jumps is looked at elsewhere.
    let shape = shape(&price.to_string());
    reserve(budget, id, to, &Claim::Payment { price: nano(price), shape: &shape }, now)
}

fn spend(budget: &mut Budget, id: &str, to: &str, most: i64, now: u64) -> Result<i64, E> {
    reserve(budget, id, to, &Claim::Narrowed { most: nano(most) }, now)
}

fn over(result: Result<i64, E>) -> (Option<String>, Cap, i64) {
    let Err(E::Over(over)) = result else { panic!("{result:?}") };
    let Over { cap, host, limit, .. } = *over;
    (host.map(|host| host.to_string()), cap, limit.units())
}

#[test]
fn the_tightest_cap_is_named() {
    let window =
        |span, left, held, free_at| Cap::Window { span, left: nano(left), held: nano(held), free_at };
    for (situation, of_host, of_all, before, price, expected) in [
        ("call", per_call(5), per_call(9), 0, 6, (Some("a"), Cap::Call, 5)),
        ("call of all", per_call(9), per_call(5), 0, 6, (None, Cap::Call, 5)),
        (
            "hour",
            per(Span::Hour, 10),
            per(Span::Day, 30),
            7,
            4,
            (Some("a"), window(Span::Hour, 3, 7, MIDNIGHT + 7_200), 10),
        ),
        (
            "day of all",
            per(Span::Hour, 10),
            per(Span::Day, 8),
            7,
            4,
            (None, window(Span::Day, 1, 7, MIDNIGHT + 86_400), 8),
        ),
        (
            "a cap that was lowered below what is spent",
            Limits::default(),
            per(Span::Day, 5),
            7,
            1,
            (None, window(Span::Day, 0, 7, MIDNIGHT + 86_400), 5),
        ),
    ] {
        let mut budget = Budget::default();
        let now = MIDNIGHT + 5_000;
        pay(&mut budget, "before", "a", before, now).unwrap();
        budget.set(Some(&host("a")), of_host, now).unwrap();
        budget.set(None, of_all, now).unwrap();
        let (host, cap, limit) = expected;
        assert_eq!(
            over(pay(&mut budget, "x", "a", price, now)),
            (host.map(str::to_owned), cap, limit),
            "{situation}"
        );
        assert_eq!(budget.held().0, 1, "{situation}: nothing was reserved");
    }
}

#[test]
fn a_key_is_narrowed_to_what_is_left_and_a_price_is_not() {
    let mut budget = Budget::default();
    budget.set(None, per(Span::Hour, 10), MIDNIGHT).unwrap();
    assert_eq!(spend(&mut budget, "1", "a", 8, MIDNIGHT).unwrap(), 8);
    assert!(pay(&mut budget, "2", "a", 3, MIDNIGHT).is_err());
    assert_eq!(spend(&mut budget, "2", "a", 8, MIDNIGHT).unwrap(), 2);
    let granted = budget.reserve("3", &host("a"), &Claim::Narrowed { most: nano(8) }, MIDNIGHT);
    assert!(matches!(granted, Err(E::Over(_))), "nothing is left");
    budget.charge("1", nano(1));
    let granted = budget.reserve("3", &host("b"), &Claim::Narrowed { most: nano(8) }, MIDNIGHT).unwrap();
    assert_eq!((granted.amount.units(), granted.narrowed_by.is_some()), (7, true));
    assert_eq!(spend(&mut budget, "4", "a", 8, MIDNIGHT + 3_600).unwrap(), 8, "the next hour");
}

/// A deposit of 10 buys calls for 10: a budget of 10 is enough for both, and not for a second deposit.
#[test]
fn a_deposit_and_what_it_buys_are_not_counted_twice() {
    let mut budget = Budget::default();
    budget.set(None, per(Span::Day, 10), MIDNIGHT).unwrap();
    pay(&mut budget, "deposit", "a", 10, MIDNIGHT).unwrap();
    budget.charge("deposit", nano(1));
    for call in 0..9 {
        let id = call.to_string();
        assert_eq!(spend(&mut budget, &id, "a", 1, MIDNIGHT).unwrap(), 1);
        budget.close(&id);
    }
    assert!(spend(&mut budget, "x", "a", 1, MIDNIGHT).is_err(), "all is used up");
    assert!(pay(&mut budget, "x", "a", 1, MIDNIGHT).is_err(), "nothing more leaves the wallet");

    let mut budget = Budget::default();
    budget.set(None, per(Span::Day, 10), MIDNIGHT).unwrap();
    let top_up = Claim::TopUp { price: nano(9), shape: &shape("top-up") };
    assert_eq!(reserve(&mut budget, "1", "a", &top_up, MIDNIGHT).unwrap(), 9);
    assert!(reserve(&mut budget, "2", "a", &top_up, MIDNIGHT).is_err());
    assert_eq!(spend(&mut budget, "3", "a", 99, MIDNIGHT).unwrap(), 10, "nothing of it is used yet");
}

#[test]
fn what_is_not_known_stays_spent_and_ends_once() {
    for (situation, end, expected) in [
        ("no word", &(|_: &mut Budget| {}) as &dyn Fn(&mut Budget), 0),
        ("a refusal", &|budget: &mut Budget| budget.fail(&host("a"), MIDNIGHT), 0),
        ("in full", &|budget: &mut Budget| budget.close("1"), 0),
        (
            "in full, then again",
            &|budget: &mut Budget| {
                budget.close("1");
                budget.release("1");
            },
            0,
        ),
        ("never sent", &|budget: &mut Budget| budget.release("1"), 10),
        (
            "never sent, twice",
            &|budget: &mut Budget| {
                budget.release("1");
                budget.release("1");
            },
            10,
        ),
        ("another call", &|budget: &mut Budget| budget.release("2"), 0),
        ("charged less", &|budget: &mut Budget| budget.charge("1", nano(4)), 6),
        ("charged more than was granted", &|budget: &mut Budget| budget.charge("1", nano(11)), 0),
    ] {
        let mut budget = Budget::default();
        budget.set(None, per(Span::Day, 10), MIDNIGHT).unwrap();
        spend(&mut budget, "1", "a", 10, MIDNIGHT).unwrap();
        end(&mut budget);
        let left = spend(&mut budget, "3", "b", 99, MIDNIGHT).unwrap_or_default();
        assert_eq!(left, expected, "{situation}");
    }
}

#[test]
fn an_allow_list_is_exact_and_closed() {
    let mut budget = Budget::default();
    pay(&mut budget, "1", "evil.example", 1, MIDNIGHT).unwrap();
    budget.allow(&[host("a.example"), host("b.example")]).unwrap();
    for (to, allowed) in [
        ("a.example", true),
        ("b.example", true),
        ("sub.a.example", false),
        ("a.example.evil.example", false),
        ("evil.example", false),
    ] {
        let result = pay(&mut budget, to, to, 1, MIDNIGHT);
        assert_eq!(result.is_ok(), allowed, "{to}: {result:?}");
        assert_eq!(budget.permit(&host(to)).is_ok(), allowed);
    }
    budget.clear(Some(&host("a.example")));
    assert!(pay(&mut budget, "x", "a.example", 1, MIDNIGHT).is_err());
    budget.clear(Some(&host("b.example")));
    assert!(pay(&mut budget, "x", "a.example", 1, MIDNIGHT).is_err(), "an empty list allows nobody");
    budget.clear(None);
    assert!(pay(&mut budget, "x", "evil.example", 1, MIDNIGHT).is_ok());
}

#[test]
fn the_breaker_stops_one_host_only_and_until_it_should() {
    let mut budget = Budget::default();
    for _ in 0..3 {
        budget.fail(&host("a"), MIDNIGHT);
    }
    let stopped = pay(&mut budget, "1", "a", 1, MIDNIGHT + 599);
    let until = MIDNIGHT + 600;
    assert!(matches!(stopped, Err(E::Stopped { stop: Stop::Failures { until: at }, .. }) if at == until));
    assert!(spend(&mut budget, "1", "a", 1, MIDNIGHT + 599).is_err(), "no key either");
    pay(&mut budget, "2", "b", 1, MIDNIGHT).unwrap();
    pay(&mut budget, "3", "a", 1, MIDNIGHT + 600).unwrap();

    let dear = shape("1");
    let jump = Claim::Payment { price: nano(6), shape: &dear };
    assert!(matches!(reserve(&mut budget, "4", "a", &jump, MIDNIGHT + 600), Err(E::Stopped { .. })));
    assert!(pay(&mut budget, "5", "a", 1, MIDNIGHT + 86_400).is_err(), "the old price is no excuse");
    assert!(budget.reset(&host("a")) && !budget.reset(&host("a")));
    assert_eq!(reserve(&mut budget, "6", "a", &jump, MIDNIGHT + 86_400).unwrap(), 6);
    // A key that cannot be narrowed is sent for a price too.
    let jump = Claim::Priced { price: nano(31), shape: &dear };
    assert!(matches!(reserve(&mut budget, "7", "a", &jump, MIDNIGHT + 86_400), Err(E::Stopped { .. })));
}

#[test]
fn caps_of_a_call_narrow_the_callers_policy() {
    let mut budget = Budget::default();
    budget.set(None, Limits { approve_above: Some(nano(3)), ..per_call(9) }, MIDNIGHT).unwrap();
    budget.set(Some(&host("a")), per_call(5), MIDNIGHT).unwrap();
    for (to, max, expected) in [("a", 7, (5, 3)), ("b", 7, (7, 3)), ("b", 20, (9, 3))] {
        let policy = budget.narrow(&host(to), Policy::up_to(nano(max)));
        assert_eq!((policy.max.units(), policy.approve_above.units()), expected, "{to} {max}");
    }
}

#[test]
fn a_later_cap_replaces_only_its_own() {
    let mut budget = Budget::default();
    budget.set(None, per(Span::Day, 10), MIDNIGHT).unwrap();
    budget.set(None, per_call(2), MIDNIGHT).unwrap();
    budget.set(None, per(Span::Day, 4), MIDNIGHT).unwrap();
    let limits = budget.lines(MIDNIGHT)[0].limits;
    assert_eq!((limits.call, limits.hour, limits.day), (Some(nano(2)), None, Some(nano(4))));
}

#[test]
fn a_runaway_across_hosts_ends_and_the_file_stays_small() {
    let mut budget = Budget::default();
    budget.set(None, per(Span::Day, i64::MAX), MIDNIGHT).unwrap();
    let name = |number: usize| format!("h{number}.{}example", "long-name.".repeat(22));
    for number in 0..2_000 {
        let result = pay(&mut budget, &format!("{number:016}"), &name(number % 300), 1, MIDNIGHT);
        assert_eq!(result.is_ok(), number % 300 < HOSTS_MAX, "{number}: {result:?}");
    }
    let limits = Limits { hour: Some(nano(1)), day: Some(nano(1)), ..per_call(1) };
    assert!(matches!(budget.set(Some(&host("another")), limits, MIDNIGHT), Err(E::TooManyHosts(_))));
    let size = serde_json::to_vec_pretty(&budget).unwrap().len();
    assert!(size < 512 * 1024, "{size}");
    pay(&mut budget, "next", "another", 1, MIDNIGHT + 86_400).unwrap();
    assert_eq!((budget.hosts.len(), budget.open.len()), (1, 1), "a day later all is forgotten");
}

#[test]
fn a_file_that_is_not_ours_limits_everything() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("budget.json");
    for (content, usable) in [
        (r#"{"version": 1}"#, true),
        (r#"{"version": 1, "all": {"limits": {"day_nano": 5}}}"#, true),
        (r#"{"version": 1, "all": {"limits": {"day_nano": -5}}}"#, false),
        (r#"{"version": 1, "all": {"limits": {"week_nano": 5}}}"#, false),
        (r#"{"version": 1, "all": {"limits": {"day_nano": 5.5}}}"#, false),
        (r#"{"version": 2}"#, false),
        ("{}", false),
        ("", false),
        ("[]", false),
    ] {
        crate::folder::replace(&file, content.as_bytes()).unwrap();
        let changed = Budget::change(&file, |budget| pay(budget, "1", "a", 1, MIDNIGHT));
        assert_eq!(changed.is_ok(), usable, "{content}");
    }
    let mut budget = Budget::default();
    budget.set(Some(&host("a")), Limits { approve_above: Some(nano(1)), ..per_call(1) }, MIDNIGHT).unwrap();
    budget.allow(&[host("a")]).unwrap();
    pay(&mut budget, "1", "a", 1, MIDNIGHT).unwrap();
    budget.fail(&host("a"), MIDNIGHT);
    let text = serde_json::to_vec(&budget).unwrap();
    assert_eq!(serde_json::from_slice::<Budget>(&text).unwrap(), budget);
}

/// Threads with the file in common, as processes have it.
#[test]
fn whoever_shares_the_file_shares_the_cap() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("budget.json");
    Budget::change(&file, |budget| budget.set(None, per(Span::Day, 20), MIDNIGHT)).unwrap().unwrap();
    let granted: i64 = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|worker| {
                let file = &file;
                scope.spawn(move || {
                    let one = |call: i64| {
                        let id = format!("{worker}.{call}");
                        Budget::change(file, |budget| pay(budget, &id, "a", 3, MIDNIGHT))
                            .unwrap()
                            .unwrap_or(0)
                    };
                    (0..3).map(one).sum::<i64>()
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert_eq!(granted, 18);
}

/// What happens, in any order.
#[derive(Clone, Debug)]
enum Event {
    Pay {
        to: usize,
        price: i64,
    },
    Spend {
        to: usize,
        most: i64,
    },
    /// Of the n-th reservation; how much of it was charged, in tenths.
    Charge {
        which: usize,
        tenths: i64,
    },
    Release {
        which: usize,
    },
    Close {
        which: usize,
    },
    /// Negative for a clock that is set back.
    Wait {
        seconds: i64,
    },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (0..3usize, 0..60i64).prop_map(|(to, price)| Event::Pay { to, price }),
        4 => (0..3usize, 0..60i64).prop_map(|(to, most)| Event::Spend { to, most }),
        2 => (0..40usize, 0..11i64).prop_map(|(which, tenths)| Event::Charge { which, tenths }),
        1 => (0..40usize).prop_map(|which| Event::Release { which }),
        1 => (0..40usize).prop_map(|which| Event::Close { which }),
        2 => (-4_000..30_000i64).prop_map(|seconds| Event::Wait { seconds }),
    ];
    prop::collection::vec(event, 1..60)
}

/// A reservation as a naive book has it.
struct Entry {
    to: usize,
    /// Hour and day, of a clock that never goes back.
    at: [u64; 2],
    reserved: i64,
    paid: i64,
    used: i64,
    ended: bool,
}

const HOSTS: [&str; 3] = ["a", "b", "c"];
/// Per host hour and day; `None` is all together.
const CAPS: [(Option<usize>, [i64; 2]); 3] = [(None, [100, 160]), (Some(0), [50, 90]), (Some(1), [70, 160])];

/// What a window of the naive book holds: paid and used.
fn sums(book: &[Entry], of: Option<usize>, window: usize, number: u64) -> (i64, i64) {
    let entries =
        book.iter().filter(|entry| of.is_none_or(|of| entry.to == of) && entry.at[window] == number);
    entries.fold((0, 0), |(paid, used), entry| (paid + entry.paid, used + entry.used))
}

proptest! {
    /// UX-14: whatever is reserved, charged, released and forgotten in whatever order, no window ever holds
    /// more than its cap, on either side; and nothing is refused that there was room for.
    #[test]
    fn no_window_ever_passes_its_cap(events in events()) {
        let mut budget = Budget::default();
        let mut now = MIDNIGHT;
        let mut latest = now;
        for (of, [hour, day]) in CAPS {
            let limits = Limits { hour: Some(nano(hour)), day: Some(nano(day)), ..Limits::default() };
            budget.set(of.map(|of| host(HOSTS[of])).as_ref(), limits, now).unwrap();
        }
        let mut book: Vec<Entry> = Vec::new();
        for event in events {
            // Only who reserves looks at the clock.
            if let Event::Pay { .. } | Event::Spend { .. } = event {
                latest = latest.max(now);
            }
            let at = [latest / 3_600, latest / 86_400];
            match event {
                Event::Wait { seconds } => now = now.saturating_add_signed(seconds),
                Event::Pay { to, price: wanted } | Event::Spend { to, most: wanted } => {
                    let pays = matches!(event, Event::Pay { .. });
                    let rooms = CAPS.iter().filter(|(of, _)| of.is_none_or(|of| of == to)).flat_map(|(of, caps)| {
                        let book = &book;
                        (0..2).map(move |window| {
                            let (paid, used) = sums(book, *of, window, at[window]);
                            caps[window] - if pays { paid.max(used) } else { used }
                        })
                    });
                    let room = rooms.min().unwrap();
                    let id = book.len().to_string();
                    let granted = if pays {
                        pay(&mut budget, &id, HOSTS[to], wanted, now)
                    } else {
                        spend(&mut budget, &id, HOSTS[to], wanted, now)
                    };
                    let expected = match () {
                        () if wanted <= room => Some(wanted),
                        () if !pays && room > 0 => Some(room),
                        () => None,
                    };
                    prop_assert_eq!(granted.ok(), expected);
                    let reserved = expected.unwrap_or(0);
                    let paid = if pays { reserved } else { 0 };
                    book.push(Entry { to, at, reserved, paid, used: reserved, ended: expected.is_none() });
                }
                Event::Charge { which, tenths } => if let Some(entry) = book.get_mut(which) {
                    let charged = entry.reserved * tenths / 10;
                    budget.charge(&which.to_string(), nano(charged));
                    if !std::mem::replace(&mut entry.ended, true) {
                        entry.used = charged;
                    }
                }
                Event::Release { which } => if let Some(entry) = book.get_mut(which) {
                    budget.release(&which.to_string());
                    if !std::mem::replace(&mut entry.ended, true) {
                        (entry.paid, entry.used) = (0, 0);
                    }
                }
                Event::Close { which } => if let Some(entry) = book.get_mut(which) {
                    budget.close(&which.to_string());
                    entry.ended = true;
                }
            }
            let windows: BTreeSet<[u64; 2]> = book.iter().map(|entry| entry.at).collect();
            for (of, caps) in CAPS {
                for at in &windows {
                    for window in 0..2 {
                        let (paid, used) = sums(&book, of, window, at[window]);
                        prop_assert!(paid <= caps[window] && used <= caps[window], "{of:?} {paid} {used}");
                    }
                }
            }
        }
    }
}
