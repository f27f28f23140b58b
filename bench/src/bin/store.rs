//! What the store does per second on this machine's disk, beside the engine alone with the same records in the
//! same run. `cargo run --release -p farthing-bench --bin store`
//!
//! Rounds are interleaved, so that a noisy neighbour hits all rows alike; the median round is shown. The folder
//! is made in the directory for temporary files: set TMPDIR to the disk that is meant.

#![expect(clippy::expect_used, reason = "a measurement that cannot be set up has no result")]

use std::path::Path;
use std::time::{Duration, Instant};

use ledger::{AccountId, AccountRef, Book, Chart, Draft, Flags, Kind, LegDraft, leg_asset};
use money::{Amount, Asset};
use redb::{Database, TableDefinition, WriteTransaction};
use store::{Durability, Exposure, NotTaken, Op, Options, Store, StoreError, Submitted};

const ROUNDS: usize = 7;
/// Charges in one round at full load.
const CAPTURES: u64 = 40_000;
/// Charges that share a transaction at full load, as the store has it at most.
const BATCH: u64 = 1024;
/// Callers that wait for the disk.
const CLIENTS: u64 = 64;
/// Writes of each of them in one round.
const WRITES: u64 = 40;
/// A row of the journal, as the store fills it.
const ROW_BYTES: usize = 16 * 1024 - 64;
/// Facts of a call, as a gateway writes them.
const FACTS_BYTES: usize = 600;

/// Charges per second that come one by one, and for how long.
const PACES: [u64; 3] = [1_000, 10_000, 50_000];
const PACED_SECONDS: u64 = 3;

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    println!("{}", floor(folder.path()));
    println!(
        "| charges per second | writer's CPU, us per charge | charges that had to wait |\n|---|---|---|"
    );
    for pace in PACES {
        println!("{}", Bench::paced(&folder.path().join(format!("paced-{pace}")), pace));
    }
    println!();
    if std::env::args().any(|argument| argument == "--paced") {
        return;
    }
    let calls = Bench::open(&folder.path().join("calls"));
    let random = Bench::open(&folder.path().join("random"));
    let mut raw = Raw::create(&folder.path().join("raw.redb"));
    let (call, credit) = (entry_bytes(Kind::Capture) + FACTS_BYTES, entry_bytes(Kind::Deposit));
    let mut table = Table::default();
    for round in 0..ROUNDS as u64 {
        let load = |ids_in_order, agents, models| Load { round, ids_in_order, agents, models };
        let (one_sync, ours) = (Commit::OneSync, Commit::AsTheStore);
        table.add(
            CAPTURES,
            [
                ("durable debits, full load", calls.debits(&load(true, 1000, 4))),
                ("engine: as many bytes in one row", raw.write(CAPTURES, BATCH, call, one_sync)),
                ("engine: the same rows", raw.write_like(CAPTURES, BATCH, ours)),
            ],
        );
        table.add(
            CAPTURES,
            [
                ("64 agents, one income account", calls.debits(&load(true, 64, 1))),
                ("64 agents, 64 income accounts", calls.debits(&load(true, 64, 64))),
                ("1,000 agents, random call ids", random.debits(&load(false, 1000, 4))),
            ],
        );
        table.add(
            CLIENTS * WRITES,
            [
                ("class A acknowledgements, 64 clients", calls.acks(round, CLIENTS, WRITES)),
                ("engine: batches of 64, one sync", raw.write(CLIENTS * WRITES, CLIENTS, credit, one_sync)),
                (
                    "engine: batches of 64, as the store commits",
                    raw.write(CLIENTS * WRITES, CLIENTS, credit, ours),
                ),
            ],
        );
        table.add(
            100,
            [
                ("class A acknowledgements, 1 client", calls.acks(round + 1000, 1, 100)),
                ("engine: batches of 1, one sync", raw.write(100, 1, credit, one_sync)),
                ("engine: batches of 1, as the store commits", raw.write(100, 1, credit, ours)),
            ],
        );
    }
    table.print();
    println!(
        "a call: entry {} bytes, facts {FACTS_BYTES}; a credit: entry {credit} bytes",
        call - FACTS_BYTES
    );
}

/// Rows in groups; each is held against the first of its group.
#[derive(Default)]
struct Table {
    groups: Vec<Vec<(&'static str, Vec<f64>)>>,
}

impl Table {
    fn add<const N: usize>(&mut self, count: u64, measured: [(&'static str, Duration); N]) {
        let first = measured[0].0;
        let known = self.groups.iter().position(|group| group[0].0 == first);
        let place = known.unwrap_or_else(|| {
            self.groups.push(measured.iter().map(|(name, _)| (*name, Vec::new())).collect());
            self.groups.len() - 1
        });
        for (row, (_, took)) in self.groups[place].iter_mut().zip(measured) {
            row.1.push(count as f64 / took.as_secs_f64());
        }
    }

    fn print(&self) {
        println!("| per second, median of {ROUNDS} rounds | | first of its group is |\n|---|---|---|");
        for group in &self.groups {
            let ours = median(&group[0].1);
            println!("| **{}** | {ours:.0} | |", group[0].0);
            for (name, measured) in &group[1..] {
                println!("| {name} | {:.0} | {:.2} of it |", median(measured), ours / median(measured));
            }
        }
    }
}

fn median(measured: &[f64]) -> f64 {
    let mut sorted = measured.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// What is asked of the store at full load.
struct Load {
    round: u64,
    ids_in_order: bool,
    agents: u64,
    models: u64,
}

struct Bench {
    store: Store,
    accounts: Vec<AccountRef>,
}

impl Bench {
    fn open(folder: &Path) -> Self {
        // At full load the question is what the disk takes, not when an answer waits.
        let exposure = Exposure { per_account: Amount::MAX, total: Amount::MAX, delay: Duration::MAX };
        Self::with(folder, Durability::Capped(exposure))
    }

    fn with(folder: &Path, durability: Durability) -> Self {
        let store = Store::open(folder, Options { durability, ..Options::new([1; 16]) }).expect("a store");
        let book = Book::default();
        let accounts = (0..1000u64).map(|number| {
            let mut id = [1; 16];
            id[..8].copy_from_slice(&number.to_be_bytes());
            book.account(AccountId(id), Asset::Usd)
        });
        Self { store, accounts: accounts.collect() }
    }

    /// Charges, handed over as fast as the queue takes them.
    fn debits(&self, load: &Load) -> Duration {
        let start = Instant::now();
        for number in 0..CAPTURES {
            let (op, account) = self.charge(load, number);
            let at_risk = || Some((account.clone(), Amount::from_units(1)));
            let mut submitted = self.store.submit(op, at_risk());
            while let Err(NotTaken { why: StoreError::Full, op }) = submitted {
                std::thread::sleep(Duration::from_micros(200));
                submitted = self.store.submit(*op, at_risk());
            }
        }
        block_on(async { self.store.commit(Op::Flush).await.map(drop) }).expect("durable");
        start.elapsed()
    }

    fn charge(&self, load: &Load, number: u64) -> (Op, AccountRef) {
        let mut id = name(b"capture", (load.round << 16) + load.agents + load.models, number);
        if load.ids_in_order {
            // As many ids share their first bytes as calls share a millisecond.
            id[..6].copy_from_slice(&((load.round << 24) + number / 32).to_be_bytes()[2..]);
        }
        let account = &self.accounts[(number.wrapping_mul(7919) % load.agents) as usize];
        let op = Op::Capture {
            id,
            entry: Some(draft(Kind::Capture, id, account.id())),
            facts: vec![b'x'; FACTS_BYTES],
            served: None,
            income: Some(Chart::Usage(format!("model-{}", number % load.models))),
            idempotent: Vec::new(),
            settles: None,
        };
        (op, account.clone())
    }

    /// Charges as a gateway's calls make them: a few each millisecond, with the default durability. What the thread
    /// that writes uses of the CPU, all the way to the disk.
    fn paced(folder: &Path, per_second: u64) -> String {
        let bench = Self::with(folder, Durability::default());
        let (before, start, mut waited) = (writer_cpu(), Instant::now(), 0u64);
        let count = per_second * PACED_SECONDS;
        for number in 0..count {
            let due = start + Duration::from_micros(number * 1_000_000 / per_second / 1_000 * 1_000);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let load = Load { round: per_second, ids_in_order: true, agents: 1000, models: 4 };
            let (op, account) = bench.charge(&load, number);
            match bench.store.submit(op, Some((account, Amount::from_units(1)))) {
                Ok(Submitted::Behind) => {}
                Ok(Submitted::Wait(_)) | Err(_) => waited += 1,
            }
        }
        block_on(async { bench.store.commit(Op::Flush).await.map(drop) }).expect("durable");
        let used = (writer_cpu() - before).as_secs_f64() * 1e6 / count as f64;
        format!("| {per_second} | {used:.1} | {waited} of {count} |")
    }

    /// Credits that are waited for, by so many clients at once.
    fn acks(&self, round: u64, clients: u64, writes: u64) -> Duration {
        let start = Instant::now();
        block_on(async {
            let mut running = tokio::task::JoinSet::new();
            for client in 0..clients {
                let (store, account) = (self.store.clone(), self.accounts[client as usize].id());
                running.spawn(async move {
                    for number in 0..writes {
                        let id = name(b"credits", round * 1000 + client, number);
                        let entry = draft(Kind::Deposit, id, account);
                        store.commit(Op::Post { entry, names: Vec::new() }).await.expect("durable");
                    }
                });
            }
            while running.join_next().await.is_some() {}
            Ok::<_, StoreError>(())
        })
        .expect("done");
        start.elapsed()
    }
}

/// Time on the CPU of all writers of this process, by the scheduler's account (schedstat, first field).
fn writer_cpu() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").expect("threads");
    let paths = tasks.filter_map(|task| task.ok().map(|task| task.path()));
    let of = |path: std::path::PathBuf| {
        let name = std::fs::read_to_string(path.join("comm")).ok()?;
        let stat = std::fs::read_to_string(path.join("schedstat")).ok()?;
        let nanos = stat.split(' ').next()?.parse().ok()?;
        (name.trim() == "store-writer").then(|| Duration::from_nanos(nanos))
    };
    paths.filter_map(of).sum()
}

/// What one sync costs here: 256 bytes appended, and 4 KiB written over.
fn floor(folder: &Path) -> String {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::File::create(folder.join("floor")).expect("a file");
    let timed = |write: &dyn Fn(u64)| {
        let mut took: Vec<f64> = (0..200u64)
            .map(|number| {
                let start = Instant::now();
                write(number);
                file.sync_data().expect("a disk");
                start.elapsed().as_secs_f64() * 1e6
            })
            .collect();
        took.sort_by(f64::total_cmp);
        (took[100], took[198])
    };
    let (append, over) = (
        timed(&|number| file.write_all_at(&[1; 256], number * 256).expect("room")),
        timed(&|_| file.write_all_at(&[2; 4096], 0).expect("room")),
    );
    let (append, over) = (format!("{:.0}/{:.0}", append.0, append.1), format!("{:.0}/{:.0}", over.0, over.1));
    format!("sync here, us p50/p99: append {append}, over {over}\n")
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(work)
}

/// An id that falls anywhere among the others, as random ones do.
fn name(what: &[u8], round: u64, number: u64) -> [u8; 16] {
    use sha2::{Digest, Sha256};
    let digest = Sha256::new_with_prefix(what)
        .chain_update(round.to_be_bytes())
        .chain_update(number.to_be_bytes())
        .finalize();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    id
}

fn draft(kind: Kind, id: [u8; 16], payer: AccountId) -> Draft {
    let other =
        if kind == Kind::Capture { Chart::UsageClearing } else { Chart::RailClearing("test".to_owned()) };
    let units = if kind == Kind::Capture { -1 } else { 1 };
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

/// 68 bytes per entry of two legs go to them, the rest is fixed.
fn entry_bytes(kind: Kind) -> usize {
    let draft = draft(kind, [1; 16], AccountId([1; 16]));
    let legs = draft.legs.iter().map(|leg| ledger::Leg {
        asset: leg.asset,
        account: leg.account,
        amount: leg.amount,
        balance_after: leg.amount,
    });
    let legs = legs.collect();
    ledger::Entry { draft, lsn: 1, legs, previous: [0; 32] }.bytes().len()
}

/// How a transaction of the engine ends.
#[derive(Clone, Copy)]
enum Commit {
    /// Its default.
    OneSync,
    /// Two, and its free list with them.
    AsTheStore,
}

/// The engine with nothing of ours around it.
struct Raw {
    db: Database,
    next: u64,
}

const ROWS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");
const JOURNAL: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("journal");
const BY_ID: TableDefinition<'_, &[u8; 16], u64> = TableDefinition::new("by_id");

impl Raw {
    fn create(path: &Path) -> Self {
        Self { db: Database::create(path).expect("a database"), next: 0 }
    }

    fn begin(&self, commit: Commit) -> WriteTransaction {
        let mut transaction = self.db.begin_write().expect("a transaction");
        transaction.set_quick_repair(matches!(commit, Commit::AsTheStore));
        transaction
    }

    /// Rows in a row: what the engine does best.
    fn write(&mut self, count: u64, batch: u64, bytes: usize, commit: Commit) -> Duration {
        let (start, row) = (Instant::now(), vec![b'x'; bytes]);
        for _ in 0..count.div_ceil(batch) {
            let transaction = self.begin(commit);
            {
                let mut rows = transaction.open_table(ROWS).expect("a table");
                for _ in 0..batch {
                    self.next += 1;
                    rows.insert(self.next, row.as_slice()).expect("a row");
                }
            }
            transaction.commit().expect("durable");
        }
        start.elapsed()
    }

    /// What calls are in the store: their ids, each a row, and rows of many entries with their facts.
    fn write_like(&mut self, count: u64, batch: u64, commit: Commit) -> Duration {
        let in_a_row = (ROW_BYTES / (entry_bytes(Kind::Capture) + FACTS_BYTES)) as u64;
        let (start, row) = (Instant::now(), vec![b'x'; ROW_BYTES]);
        for _ in 0..count.div_ceil(batch) {
            let transaction = self.begin(commit);
            {
                let mut journal = transaction.open_table(JOURNAL).expect("a table");
                let mut by_id = transaction.open_table(BY_ID).expect("a table");
                for _ in 0..batch {
                    self.next += 1;
                    let mut id = name(b"raw", 0, self.next);
                    id[..8].copy_from_slice(&(self.next / 32).to_be_bytes());
                    by_id.insert(&id, self.next).expect("a row");
                    if self.next.is_multiple_of(in_a_row) {
                        journal.insert(self.next, row.as_slice()).expect("a row");
                    }
                }
            }
            transaction.commit().expect("durable");
        }
        start.elapsed()
    }
}
