//! The power goes at a random operation, and a random part of what was not synced is found on the disk
//! (ledger.md 6.4, T4): what was acknowledged is there, what may be lost stays below its cap, nobody pays twice.
//!
//! The writer is a thread of its own, so a seed fixes the work, the cut and what survives, and not how the work
//! falls into transactions.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::thread;
use std::time::Duration;

use money::Amount;
use store::{CheckOptions, Durability, Exposure, Finding, Options, Store, check};

use crate::support::business::{History, NOW_MS};
use crate::support::dice::Dice;
use crate::support::platter::{Fault, Platter};
use crate::support::verdict::{Loss, judge};
use crate::{business, seeds, work};

const CUTS_PER_SEED: u64 = 2;
/// Actions at once, at most.
const AT_ONCE: u64 = 6;
/// Small, so that they bind.
const PER_ACCOUNT: i64 = 50_000;
const TOTAL: i64 = 120_000;

#[derive(Debug, Default)]
struct Sum {
    seeds: u64,
    cuts: u64,
    cuts_while_opening: u64,
    acked_a: u64,
    acked_b: u64,
    waited_b: u64,
    lost_a: u64,
    lost_b_max: i64,
    lost_b_of_one_max: i64,
    lost_sync: i64,
    torn: u64,
}

/// LED-25, LED-26; invariants 3 and 5 of ledger.md 11.
#[test]
fn what_was_acknowledged_survives_a_power_cut() {
    let seeds = seeds();
    let sum = Arc::new(Mutex::new(Sum::default()));
    let next = Arc::new(Mutex::new(0..seeds));
    let workers = (0..2).map(|_| {
        let (sum, next) = (Arc::clone(&sum), Arc::clone(&next));
        thread::spawn(move || {
            loop {
                let seed = next.lock().unwrap().next();
                let Some(seed) = seed else { return };
                one_disk(seed, &sum);
            }
        })
    });
    let workers: Vec<_> = workers.collect();
    let done = workers.into_iter().map(thread::JoinHandle::join).all(|done| done.is_ok());
    let sum = sum.lock().unwrap();
    println!(
        "powercut: seeds={} cuts={} cuts_while_opening={} acked_a={} lost_a={} acked_b={} waited_b={} \
         lost_b_max={} cap={TOTAL} lost_b_of_one_max={} cap_of_one={PER_ACCOUNT} lost_b_sync={} torn_sectors={}",
        sum.seeds,
        sum.cuts,
        sum.cuts_while_opening,
        sum.acked_a,
        sum.lost_a,
        sum.acked_b,
        sum.waited_b,
        sum.lost_b_max,
        sum.lost_b_of_one_max,
        sum.lost_sync,
        sum.torn,
    );
    assert!(done, "a seed failed; its number is above");
    assert_eq!((sum.seeds, sum.lost_a, sum.lost_sync), (seeds, 0, 0));
    assert!(sum.cuts > 0 && sum.acked_a > 0 && sum.acked_b > 0, "nothing was tried");
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// The engine may panic on a medium that is gone or lies; that is not what is tested here.
pub(crate) fn quietly<T>(run: impl FnOnce() -> T) -> thread::Result<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if thread::current().name() != Some("store-writer") && !QUIET.get() {
                usual(info);
            }
        }));
    });
    QUIET.set(true);
    let done = catch_unwind(AssertUnwindSafe(run));
    QUIET.set(false);
    done
}

/// The judgement is worth something only if it sees a disk that lies about its syncs.
#[test]
fn a_disk_that_does_not_sync_is_found_out() {
    let mut found_out = 0;
    for seed in 0..20 {
        let mut dice = Dice::new(seed);
        let (platter, history) = (Platter::default(), Arc::new(Mutex::new(History::default())));
        let options = Options { reserve_bytes: 0, ..Options::new([7; 16]) };
        {
            let business = business(&platter, &history, options).unwrap();
            work(&business, &mut dice, 2, AT_ONCE);
            platter.set_fault(Some(Fault::Lies));
            work(&business, &mut dice, 4, AT_ONCE);
        }
        platter.power_up(&mut dice);
        let judged = quietly(|| {
            let store = Store::open_media(platter.media(), options).unwrap();
            judge(store.reader(), &mut history.lock().unwrap_or_else(PoisonError::into_inner)).acked
        });
        found_out += u32::from(judged.is_err() || judged.is_ok_and(|lost| lost != 0));
    }
    assert!(found_out >= 10, "only {found_out} of 20");
}

fn one_disk(seed: u64, sum: &Mutex<Sum>) {
    let mut dice = Dice::new(seed);
    let platter = Platter::default();
    let history = Arc::new(Mutex::new(History::default()));
    let is_sync = dice.one_in(4);
    let exposure = Exposure {
        per_account: Amount::from_units(PER_ACCOUNT),
        total: Amount::from_units(TOTAL),
        delay: Duration::from_secs(if dice.one_in(2) { 3600 } else { 0 }),
    };
    let durability = if is_sync { Durability::Sync } else { Durability::Capped(exposure) };
    let options = Options { durability, reserve_bytes: 0, ..Options::new([7; 16]) };
    for _ in 0..CUTS_PER_SEED {
        // Most cuts are in the work, some in the opening before it.
        let span = if dice.one_in(8) { 40 } else { 1500 };
        platter.set_fault(Some(Fault::Cut { at: 1 + dice.below(span) }));
        let opened = until_the_cut(&platter, &history, &mut dice, options);
        platter.power_up(&mut dice);
        let store = Store::open_media(platter.media(), options)
            .unwrap_or_else(|error| panic!("seed {seed}: the store does not open: {error}"));
        let loss = judge(store.reader(), &mut history.lock().unwrap());
        drop(store);
        account_for(sum, &loss, is_sync, opened);
        if seed.is_multiple_of(8) {
            assert_eq!(findings(&platter), vec![], "seed {seed}");
        }
        assert_eq!(loss.acked, 0, "seed {seed}: acknowledged writes are lost");
        assert!(loss.behind_units <= TOTAL, "seed {seed}: {loss:?}");
        assert!(loss.behind_of_one <= PER_ACCOUNT, "seed {seed}: {loss:?}");
        assert!(!is_sync || loss.behind_units == 0, "seed {seed}: {loss:?}");
    }
    let (mut sum, history) = (sum.lock().unwrap(), history.lock().unwrap());
    sum.seeds += 1;
    sum.acked_a += history.acked_a;
    sum.acked_b += history.acked_b;
    sum.waited_b += history.waited_b;
    sum.torn += platter.torn();
}

/// What an operator's check finds, which knows nothing of the history.
pub(crate) fn findings(platter: &Platter) -> Vec<Finding> {
    let folder = tempfile::tempdir().unwrap();
    platter.put_into(folder.path());
    let options = CheckOptions { undecided_ms_max: u64::MAX, ..CheckOptions::new(NOW_MS) };
    check(folder.path(), &options).unwrap().findings
}

/// Works until the power goes. False when it went before the store was open.
fn until_the_cut(
    platter: &Platter,
    history: &Arc<Mutex<History>>,
    dice: &mut Dice,
    options: Options,
) -> bool {
    // A panic that is not of the engine's dying is met again by the judgement.
    let done = quietly(|| {
        work(&business(platter, history, options)?, dice, 1000, AT_ONCE);
        Some(())
    });
    assert!(platter.has_met_fault() || matches!(done, Ok(Some(()))), "failed before the cut");
    matches!(done, Ok(Some(())))
}

fn account_for(sum: &Mutex<Sum>, loss: &Loss, is_sync: bool, opened: bool) {
    let mut sum = sum.lock().unwrap();
    sum.cuts += 1;
    sum.cuts_while_opening += u64::from(!opened);
    sum.lost_a += loss.acked;
    sum.lost_b_max = sum.lost_b_max.max(loss.behind_units);
    sum.lost_b_of_one_max = sum.lost_b_of_one_max.max(loss.behind_of_one);
    if is_sync {
        sum.lost_sync += loss.behind_units;
    }
}
