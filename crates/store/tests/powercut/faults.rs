//! A script of 200 writes on a medium that fails at each of its operations in turn (ledger.md 6.4, T4): an I/O
//! error ends the store for good, a full disk only until there is room.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ledger::{AccountId, Chart, Kind};
use store::{Op, Options, Room, Store, StoreError};

use crate::support::business::{Business, History, draft};
use crate::support::dice::Dice;
use crate::support::platter::{Fault, Platter};
use crate::support::verdict::{Loss, judge};
use crate::{business, seeds, work};

/// Bursts of many actions at once, so that 200 writes fall into few transactions.
const BURSTS: u64 = 10;
const AT_ONCE: u64 = 40;

struct Run {
    platter: Platter,
    history: Arc<Mutex<History>>,
    dice: Dice,
}

impl Run {
    fn new() -> Self {
        Self { platter: Platter::default(), history: Arc::default(), dice: Dice::new(1) }
    }

    /// The script, from the opening on.
    fn play(&mut self) -> Option<Business> {
        let business = business(&self.platter, &self.history, options())?;
        work(&business, &mut self.dice, BURSTS, AT_ONCE);
        Some(business)
    }

    fn writes(&self) -> u64 {
        let history = self.history.lock().unwrap();
        history.acked_a + history.acked_b + history.waited_b
    }

    /// The process is gone; the machine as well, or not.
    fn judge(&mut self, power_lost: bool) -> Loss {
        self.platter.set_fault(None);
        if power_lost {
            self.platter.power_up(&mut self.dice);
        }
        let store = Store::open_media(self.platter.media(), options()).expect("a store always opens");
        judge(store.reader(), &mut self.history.lock().unwrap())
    }
}

fn options() -> Options {
    Options { reserve_bytes: 0, ..Options::new([7; 16]) }
}

fn commit(business: &Business, op: Op) -> Result<u64, StoreError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(business.store.commit(op)).map(|committed| committed.lsn)
}

/// Runs `each` with every number from 1 to `last`, on all threads there are; in a short run with some of them.
fn for_each(last: u64, each: impl Fn(u64) + Sync) {
    let (first, step) = if seeds() >= 1000 { (1, 1) } else { (1 + seeds() % 13, 13) };
    let next = Mutex::new((first..=last).step_by(step));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(number) = { next.lock().unwrap().next() } {
                    each(number);
                }
            });
        }
    });
}

fn length_of_the_script() -> (u64, u64, u64) {
    let mut run = Run::new();
    run.platter.set_fault(None);
    drop(run.play().unwrap());
    assert!(run.writes() >= 200, "{} writes", run.writes());
    (run.writes(), run.platter.operations(), run.platter.syncs())
}

/// LED-27: whatever fails, the writer gives up at once, and what it had acknowledged is there.
#[test]
fn an_io_error_at_any_operation_ends_the_store() {
    let (writes, operations, _) = length_of_the_script();
    for_each(operations, |at| {
        let mut run = Run::new();
        run.platter.set_fault(Some(Fault::Io { at }));
        let business = catch_unwind(AssertUnwindSafe(|| run.play())).unwrap();
        if let Some(business) = business
            && run.platter.has_met_fault()
        {
            assert_ended(&business, at);
        }
        let loss = run.judge(at.is_multiple_of(2));
        assert_eq!(loss.acked, 0, "operation {at}");
    });
    println!("powercut: kind=eio writes={writes} operations={operations} lost_a=0");
}

fn assert_ended(business: &Business, at: u64) {
    // A read by somebody else than the writer may have met it: the next write does.
    let rail = Chart::RailClearing("r".into());
    let entry = draft(Kind::Deposit, [0xaa; 16], [0; 32], &[(rail.id(), -1), (AccountId([1; 16]), 1)]);
    let op = Op::Post { entry, names: vec![rail] };
    for _ in 0..2 {
        let answer = commit(business, op.clone());
        assert!(matches!(answer, Err(StoreError::Unavailable(_))), "operation {at}: {answer:?}");
    }
    assert!(!business.store.is_healthy(), "operation {at}");
}

/// LED-27: a sync that failed once and then succeeds says nothing about what it failed to write.
#[test]
fn a_failed_sync_is_never_tried_again() {
    let (writes, _, syncs) = length_of_the_script();
    for_each(syncs, |at| {
        let mut run = Run::new();
        run.platter.set_fault(Some(Fault::Sync { at }));
        let business = run.play();
        if let Some(business) = business
            && run.platter.has_met_fault()
        {
            assert_ended(&business, at);
        }
        let loss = run.judge(true);
        assert_eq!(loss.acked, 0, "sync {at}");
    });
    println!("powercut: kind=sync writes={writes} syncs={syncs} lost_a=0");
}

/// LED-27: a full disk refuses and loses nothing; with room again the store goes on by itself.
#[test]
fn a_full_disk_at_any_operation_is_refused_and_recovered_from() {
    let (writes, operations, _) = length_of_the_script();
    let (faults, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    for_each(operations, |at| {
        let mut run = Run::new();
        run.platter.set_fault(Some(Fault::Full { at }));
        let mender = mend_when_met(&run.platter);
        let opened = run.play();
        let met = run.platter.has_met_fault();
        run.platter.mend();
        mender.join().unwrap();
        let Some(business) = opened else {
            // Full while it was opened: nothing was taken.
            assert_eq!(run.judge(false).acked, 0, "operation {at}");
            return;
        };
        assert!(business.store.is_healthy(), "operation {at}");
        wait_for_room(&business, at);
        let before = run.writes();
        work(&business, &mut run.dice, 2, AT_ONCE);
        assert!(run.writes() > before, "operation {at}: nothing is taken any more");
        assert_eq!(commit(&business, Op::Flush), Ok(0), "operation {at}");
        drop(business);
        // Not even charges that ran behind are lost: they waited for the room.
        assert_eq!(run.judge(false), Loss::default(), "operation {at}");
        let history = run.history.lock().unwrap();
        refused.fetch_add(history.disk_full, Ordering::Relaxed);
        faults.fetch_add(u64::from(met), Ordering::Relaxed);
    });
    let (faults, refused) = (faults.into_inner(), refused.into_inner());
    println!(
        "powercut: kind=enospc writes={writes} operations={operations} met={faults} refused={refused} lost_a=0 lost_b=0"
    );
    assert!(refused > 0);
}

/// Makes room a little after the disk was found full: longer than it takes to refuse some.
fn mend_when_met(platter: &Platter) -> thread::JoinHandle<()> {
    let platter = platter.clone();
    thread::spawn(move || {
        while !platter.has_met_fault() && platter.has_fault() {
            thread::sleep(Duration::from_micros(100));
        }
        thread::sleep(Duration::from_millis(3));
        platter.mend();
    })
}

fn wait_for_room(business: &Business, at: u64) {
    let start = Instant::now();
    while business.store.room() != Room::Ample {
        assert!(start.elapsed() < Duration::from_secs(20), "operation {at}: no room is found");
        thread::sleep(Duration::from_millis(1));
    }
}
