//! Durable debits on their own: records pushed through the real writer at a fixed rate, and how long each is on its way.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ledger::{AccountId, AccountRef, Book, Chart, Draft, Flags, Kind, LegDraft, leg_asset};
use money::{Amount, Asset};
use store::{Durability, Durable, Exposure, NotTaken, Op, Options, Store, StoreError, Submitted};

/// Facts of a call, as a gateway writes them.
const FACTS_BYTES: usize = 600;
/// Accounts that take turns.
const AGENTS: u64 = 1000;
/// The writer is fed so often.
const STEP: Duration = Duration::from_millis(1);
/// Of so many records one is followed to the disk.
const FOLLOWED: u64 = 500;

/// Records that are being written on threads of their own.
pub(crate) struct Records {
    over: Arc<AtomicBool>,
    pushing: JoinHandle<Result<Written, String>>,
}

/// What was written.
pub(crate) struct Written {
    pub(crate) records: u64,
    pub(crate) took: Duration,
    /// From the push of a record to its being on disk, nanoseconds, sorted.
    pub(crate) lags: Vec<u64>,
}

impl Records {
    /// Begins with a store in this folder.
    pub(crate) fn start(folder: PathBuf, per_second: u32) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        Self { over, pushing: thread::spawn(move || push(&folder, per_second, &until)) }
    }

    /// Ends it.
    pub(crate) fn end(self) -> Result<Written, String> {
        self.over.store(true, Ordering::Release);
        self.pushing.join().map_err(|_| "the records' thread ended".to_owned())?
    }
}

fn push(folder: &Path, per_second: u32, over: &AtomicBool) -> Result<Written, String> {
    let store = open(folder)?;
    let book = Book::default();
    let accounts: Vec<AccountRef> =
        (0..AGENTS).map(|number| book.account(id(1, number), Asset::Usd)).collect();
    let (follow, followed) = mpsc::channel();
    let following = thread::spawn(move || lags(&followed));
    let (start, mut pushed) = (Instant::now(), 0u64);
    while !over.load(Ordering::Acquire) {
        let due = u64::try_from(start.elapsed().as_micros())
            .unwrap_or(u64::MAX)
            .saturating_mul(u64::from(per_second))
            / 1_000_000;
        while pushed < due {
            let number = usize::try_from(pushed % AGENTS).unwrap_or(0);
            let account = accounts.get(number).ok_or("no account")?;
            // Beyond its cap a charge is waited for: so one is followed.
            let most = if pushed.is_multiple_of(FOLLOWED) { Amount::MAX } else { Amount::from_units(1) };
            match store.submit(capture(pushed, account.id()), Some((account.clone(), most))) {
                Ok(Submitted::Behind) => {}
                Ok(Submitted::Wait(durable)) => {
                    if follow.send((Instant::now(), durable)).is_err() {
                        // A record did not come to the disk: whoever followed it says why.
                        over.store(true, Ordering::Release);
                    }
                }
                // Back-pressure: it comes later, and the rate that is told is lower.
                Err(NotTaken { why: StoreError::Full, .. }) => break,
                Err(refused) => return Err(refused.to_string()),
            }
            pushed += 1;
        }
        thread::sleep(STEP);
    }
    drop(follow);
    let lags = following.join().map_err(|_| "the followers' thread ended".to_owned())??;
    block_on(async { store.commit(Op::Flush).await.map_err(|error| error.to_string()) })??;
    Ok(Written { records: pushed, took: start.elapsed(), lags })
}

/// Waits for one record after the other, which come to the disk in this order.
fn lags(followed: &mpsc::Receiver<(Instant, Durable)>) -> Result<Vec<u64>, String> {
    let mut lags = Vec::new();
    for (begun, durable) in followed {
        block_on(durable)?.map_err(|error| error.to_string())?;
        lags.push(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    lags.sort_unstable();
    Ok(lags)
}

fn block_on<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| error.to_string())?;
    Ok(tokio::task::LocalSet::new().block_on(&runtime, work))
}

fn open(folder: &Path) -> Result<Store, String> {
    // One charge is beyond every cap, all others are within.
    let cap = Amount::from_units(i64::MAX / 2);
    let exposure = Exposure { per_account: cap, total: cap, delay: Duration::MAX };
    let options = Options { durability: Durability::Capped(exposure), ..Options::new([1; 16]) };
    Store::open(folder, options).map_err(|error| error.to_string())
}

fn id(first: u8, number: u64) -> AccountId {
    let mut id = [first; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    AccountId(id)
}

fn draft(kind: Kind, id: [u8; 16], payer: AccountId, other: &Chart, units: i64) -> Draft {
    let leg = |account, units| LegDraft {
        asset: leg_asset(Asset::Usd),
        account,
        amount: Amount::from_units(units),
    };
    Draft {
        kind,
        flags: Flags::default(),
        time_ms: 1_795_000_000_000,
        id,
        key: [0; 32],
        reference: String::new(),
        corrects: [0; 16],
        price_version: 1,
        cost_femto: 1_000_000,
        legs: vec![leg(payer, units), leg(other.id(), -units)],
    }
}

fn capture(number: u64, payer: AccountId) -> Op {
    let name = id(3, number).0;
    Op::Capture {
        id: name,
        entry: Some(draft(Kind::Capture, name, payer, &Chart::UsageClearing, -1)),
        facts: vec![b'x'; FACTS_BYTES],
        served: None,
        income: Some(Chart::Usage("m".to_owned())),
        idempotent: Vec::new(),
        settles: None,
    }
}

/// Puts a balance of one unit into each of so many accounts, through the writer.
pub(crate) fn fill(folder: &Path, accounts: u32) -> Result<(), String> {
    /// Writers that wait for the disk together.
    const WRITERS: u32 = 1000;
    let store = open(folder)?;
    block_on(async {
        let mut running = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let store = store.clone();
            running.spawn_local(async move {
                for number in (writer..accounts).step_by(WRITERS as usize) {
                    let account = id(7, u64::from(number));
                    let clearing = Chart::RailClearing("test".to_owned());
                    let entry = draft(Kind::Deposit, account.0, account, &clearing, 1);
                    store
                        .commit(Op::Post { entry, names: Vec::new() })
                        .await
                        .map_err(|error| error.to_string())?;
                }
                Ok::<_, String>(())
            });
        }
        while let Some(done) = running.join_next().await {
            done.map_err(|error| error.to_string())??;
        }
        Ok(())
    })?
}
