//! Holds that travel with asynchronous tasks, in random schedules: a body that grows its hold as it
//! streams, a client that hangs up at any await, a sweep that expires it, an extension in flight.
//!
//! `cargo test -p ledger --features shuttle --test shuttle --release`
//!
//! `FARTHING_CASES` sets how many schedules of each kind (10,000 unless told), `FARTHING_SEED` where they
//! start.
#![expect(clippy::disallowed_methods, reason = "seed and number of schedules come from the environment")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of a test fail by panicking")]

use ledger::{Account, AccountId, AccountRef, Ended, Hold, ReserveError};
use money::{Amount, Asset};
use shuttle::future::{self, JoinHandle};
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::atomic::{AtomicI64, Ordering};
use shuttle::sync::{Arc, Mutex};
use shuttle::{Config, Runner};

const STEP: i64 = 10;
const PAYER: i64 = 60;
const KEY: i64 = 45;
const WINDOW: i64 = 50;

fn units(units: i64) -> Amount {
    Amount::from_units(units)
}

fn account(id: u8, available: i64) -> AccountRef {
    Account::new(AccountId([id; 16]), Asset::Usd, units(available), Amount::ZERO).into()
}

/// What every end reported: the journal of this test.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Vec<Ended>>>);

impl Journal {
    fn write(&self, ended: Option<Ended>) {
        if let Some(ended) = ended {
            self.0.lock().unwrap().push(ended);
        }
    }
}

/// A call on its way: as the body of an answer it ends when it is dropped, with what has passed.
struct Call {
    hold: Arc<Hold>,
    passed: Arc<AtomicI64>,
    journal: Journal,
}

impl Call {
    /// Streams pieces of random size and extends before the hold is used up.
    async fn stream(self) {
        for _ in 0..4 {
            let piece = thread_rng().gen_range(0..STEP);
            let next = self.passed.load(Ordering::SeqCst) + piece;
            if next > self.hold.amount().units() && self.hold.extend(units(STEP)).is_err() {
                return;
            }
            self.passed.store(next, Ordering::SeqCst);
            future::yield_now().await;
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let passed = self.passed.load(Ordering::SeqCst);
        self.journal.write(self.hold.finish(units(passed)));
    }
}

async fn wait(steps: usize) {
    for _ in 0..steps {
        future::yield_now().await;
    }
}

/// The deadline has passed: the hold ends with what has been seen so far.
async fn expire(hold: Arc<Hold>, passed: Arc<AtomicI64>, journal: Journal) {
    wait(thread_rng().gen_range(0..6)).await;
    journal.write(hold.expire(units(passed.load(Ordering::SeqCst))));
}

/// Another part of the gateway extends the hold, whether or not the body is still there.
async fn extend(hold: Arc<Hold>) {
    wait(thread_rng().gen_range(0..4)).await;
    let refused = hold.extend(units(STEP)).err();
    assert!(!matches!(refused, Some(ReserveError::Negative | ReserveError::Frozen | ReserveError::Closed)));
}

async fn hang_up(client: JoinHandle<()>) {
    wait(thread_rng().gen_range(0..6)).await;
    client.abort();
    let _ = client.await;
}

async fn calls() {
    let (payer, key, window) = (account(1, PAYER), account(2, KEY), account(3, WINDOW));
    let journal = Journal::default();
    let (mut tasks, mut started) = (Vec::new(), 0);
    for number in 0..3 {
        let reserved = Hold::on(&payer, units(STEP))
            .and_then(|hold| hold.and_on(key.clone()))
            .and_then(|hold| hold.and_on(window.clone()));
        // An extension on its way back may leave too little for a moment; never too much.
        let Ok(hold) = reserved.map(Arc::new) else { continue };
        started += 1;
        let passed = Arc::new(AtomicI64::new(0));
        let call = Call { hold: Arc::clone(&hold), passed: Arc::clone(&passed), journal: journal.clone() };
        let body = future::spawn(call.stream());
        tasks.push(match number {
            0 => future::spawn(hang_up(body)),
            _ => body,
        });
        tasks.push(future::spawn(match number {
            1 => futures_of(expire(hold, passed, journal.clone())),
            _ => futures_of(extend(hold)),
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let ends = journal.0.lock().unwrap();
    assert_eq!(ends.len(), started, "each hold ended once");
    let captured: i64 = ends.iter().map(|ended| ended.captured.units()).sum();
    for (account, before) in [(&payer, PAYER), (&key, KEY), (&window, WINDOW)] {
        assert_eq!(account.held(), Amount::ZERO);
        assert_eq!(account.available().units(), before - captured);
        assert!(account.available() >= Amount::ZERO);
    }
}

/// One type for tasks of several kinds.
fn futures_of(
    task: impl Future<Output = ()> + Send + 'static,
) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(task)
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

fn schedules() -> usize {
    usize::try_from(number("FARTHING_CASES", 10_000)).unwrap()
}

fn run(kind: &str, scheduler: impl Scheduler + 'static) {
    let mut config = Config::new();
    // Shuttle takes every order for the strongest; the weaker ones are loom's to try.
    config.silence_warnings = true;
    let ran = Runner::new(scheduler, config).run(|| future::block_on(calls()));
    assert_eq!(ran, schedules());
    println!("ledger shuttle: {ran} schedules {kind}, each hold ended once, nothing held");
}

/// LED-7.
#[test]
fn holds_in_tasks_under_random_schedules() {
    run("at random", RandomScheduler::new_from_seed(number("FARTHING_SEED", 1), schedules()));
}

/// LED-7: few preemptions, anywhere: finds what needs one thread to be very late.
#[test]
fn holds_in_tasks_with_few_preemptions() {
    run("of few preemptions", PctScheduler::new_from_seed(number("FARTHING_SEED", 1), 4, schedules()));
}
