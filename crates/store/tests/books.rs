//! Backups, checks and segments of a store in a folder, as an operator meets them.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[expect(dead_code, reason = "shared with the tests of power cuts")]
#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ledger::{AccountId, Kind, merkle};
use redb::{Database, Key, ReadableTable, TableDefinition, Value};
use store::{
    AccountMode, AccountSettings, CheckOptions, Committed, Finding, Op, Options, PaymentProblem,
    PaymentState, Report, RestoreError, Store, StoreError, check, restore, view,
};
use support::business::{Business, History, NOW_MS, draft, outcome, payment};
use support::dice::Dice;
use support::verdict::books_in_order;

type Bytes16 = &'static [u8; 16];
type Bytes32 = &'static [u8; 32];
const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
const JOURNAL: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("journal");
const BY_ID: TableDefinition<'static, Bytes16, u64> = TableDefinition::new("by_id");
const FACTS_AT: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("facts_at");
const BALANCES: TableDefinition<'static, &[u8; 18], i64> = TableDefinition::new("balances");
const PAYMENTS: TableDefinition<'static, Bytes32, &[u8]> = TableDefinition::new("payments");
const IDEMPOTENT: TableDefinition<'static, Bytes32, &[u8]> = TableDefinition::new("idempotent");
const EXPIRIES: TableDefinition<'static, &[u8; 41], ()> = TableDefinition::new("expiries");
const KEYS: TableDefinition<'static, Bytes16, &[u8]> = TableDefinition::new("keys");
const ACCOUNTS: TableDefinition<'static, Bytes16, &[u8]> = TableDefinition::new("accounts");
const OPEN_CALLS: TableDefinition<'static, Bytes16, &[u8]> = TableDefinition::new("open_calls");
const TILES: TableDefinition<'static, (u8, u64), Bytes32> = TableDefinition::new("tiles");

/// A folder with a store that was used for a while.
struct Used {
    folder: tempfile::TempDir,
    history: Arc<Mutex<History>>,
}

fn options() -> Options {
    Options { reserve_bytes: 4096, ..Options::new([7; 16]) }
}

impl Used {
    fn new(steps: u64) -> Self {
        let used = Self { folder: tempfile::tempdir().unwrap(), history: Arc::default() };
        used.work(steps);
        // One payment waits for its rail.
        let intent = Op::Intent { key: [0xfe; 32], payment: payment(AccountId([1; 16]), 5) };
        commit(&used.open(), intent).unwrap();
        used
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn segments(&self) -> PathBuf {
        self.path().join("segments")
    }

    fn open(&self) -> Store {
        Store::open(self.path(), options()).unwrap()
    }

    fn work(&self, steps: u64) {
        let business = Business::open(self.open(), Arc::clone(&self.history)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(business.work(&mut Dice::new(steps), steps, 30));
    }

    /// With payments that wait being nothing to find.
    fn check_with(&self, segments: bool) -> Report {
        let segments = segments.then(|| self.segments());
        let options = CheckOptions { undecided_ms_max: u64::MAX, segments, ..CheckOptions::new(NOW_MS) };
        check(self.path(), &options).unwrap()
    }

    fn findings(&self) -> Vec<Finding> {
        self.check_with(false).findings
    }

    fn file(&self) -> PathBuf {
        self.path().join("farthing.redb")
    }

    /// Rewrites the journal as stores of before schema 8 have it, so that each entry can be changed alone.
    fn one_entry_a_row(&self) {
        let reader = view(self.path()).unwrap();
        let mut rows = Vec::new();
        reader
            .each_entry(|entry, bytes| {
                rows.push((entry.lsn, bytes.to_vec(), reader.facts(&entry.draft.id).unwrap()));
            })
            .unwrap();
        drop(reader);
        self.tamper(JOURNAL, |journal| {
            journal.retain(|_, _| false).unwrap();
            for (lsn, entry, _) in &rows {
                journal.insert(lsn, entry.as_slice()).unwrap();
            }
        });
        self.tamper(FACTS_AT, |facts_at| {
            for (lsn, _, facts) in &rows {
                facts.as_ref().map(|facts| facts_at.insert(lsn, facts.as_slice()).unwrap().is_none());
            }
        });
    }

    /// Changes a table behind the store's back.
    fn tamper<K: Key + 'static, V: Value + 'static>(
        &self,
        table: TableDefinition<'static, K, V>,
        change: impl FnOnce(&mut redb::Table<'_, K, V>),
    ) {
        let db = Database::open(self.file()).unwrap();
        let writing = db.begin_write().unwrap();
        change(&mut writing.open_table(table).unwrap());
        writing.commit().unwrap();
    }
}

fn commit(store: &Store, op: Op) -> Result<Committed, StoreError> {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(store.commit(op))
}

/// LED-39, invariant 2 of ledger.md 11.
#[test]
fn a_store_in_order_is_found_in_order_and_left_as_it_is() {
    let used = Used::new(40);
    let report = used.check_with(false);
    assert_eq!(report.findings, vec![]);
    let store = used.open();
    let head = store.reader().unsigned_head(0).unwrap();
    assert_eq!((report.first_lsn, report.last_lsn), (1, head.size));
    assert_eq!((report.root, report.last_hash, report.store_id), (head.root, head.last_hash, [7; 16]));
    assert!(report.last_lsn > 256 && report.heads > 0 && report.deposited > 0 && report.undecided == 1);
    // One that a process has open is not read: what is found would be torn.
    let refused = check(used.path(), &CheckOptions::new(NOW_MS));
    assert!(matches!(refused, Err(StoreError::Unavailable(why)) if why.contains("open")));
    drop(store);
    let nothing = check(Path::new("/nowhere"), &CheckOptions::new(NOW_MS));
    assert!(matches!(nothing, Err(StoreError::Unavailable(_))));
}

/// A check of a store that crashed reads it as the next opening would, and changes nothing of it.
#[test]
fn a_check_changes_no_byte() {
    let used = Used::new(5);
    let crashed = tempfile::tempdir().unwrap();
    let store = used.open();
    commit(&store, Op::Flush).unwrap();
    // The file as a crash leaves it: open, and never closed.
    fs::copy(used.file(), crashed.path().join("farthing.redb")).unwrap();
    drop(store);
    let before = fs::read(crashed.path().join("farthing.redb")).unwrap();
    let report = check(crashed.path(), &CheckOptions::new(NOW_MS)).unwrap();
    assert!(report.findings.iter().all(Finding::is_open_question), "{:?}", report.findings);
    assert!(before == fs::read(crashed.path().join("farthing.redb")).unwrap());
    // Old questions are found, and called so.
    let late = check(crashed.path(), &CheckOptions::new(NOW_MS + 3_600_001)).unwrap();
    let open = late.undecided + late.payouts_open;
    assert!(late.findings.len() as u64 == open && late.undecided > 0 && late.payouts_open > 0, "{late:?}");
    assert!(late.findings.iter().all(Finding::is_open_question));
}

/// A row of several entries is held against them too: every byte of its head and of its first entry.
#[test]
fn a_changed_row_of_the_journal_is_found() {
    let used = Used::new(3);
    let saved = fs::read(used.file()).unwrap();
    let mut row = Vec::new();
    used.tamper(JOURNAL, |table| row.extend(table.last().unwrap().unwrap().1.value()));
    fs::write(used.file(), &saved).unwrap();
    let head = 3 + 8 * usize::from(u16::from_be_bytes([row[1], row[2]]));
    let first_entry = u32::from_be_bytes(row[3..7].try_into().unwrap()) as usize;
    for at in (0..head).chain((head..head + first_entry).step_by(7)) {
        used.tamper(JOURNAL, |table| {
            let last = table.last().unwrap().unwrap().0.value();
            let mut changed = row.clone();
            changed[at] ^= 1;
            table.insert(last, changed.as_slice()).unwrap();
        });
        assert_ne!(used.findings(), vec![], "byte {at}");
        fs::write(used.file(), &saved).unwrap();
    }
}

/// Invariant 12 of ledger.md 11: one change, one finding, and which.
#[test]
fn every_table_is_held_against_the_others() {
    let used = Used::new(20);
    assert_eq!(used.findings(), vec![]);
    used.one_entry_a_row();
    assert_eq!(used.findings(), vec![]);
    let lsn = 7;
    // Each change is undone, so that only one is there at a time.
    let saved = fs::read(used.file()).unwrap();
    let expect = |what: &str, wanted: &dyn Fn(&Finding) -> bool| {
        let findings = used.findings();
        assert!(findings.iter().any(wanted), "{what}: {findings:?}");
        fs::write(used.file(), &saved).unwrap();
    };
    used.tamper(JOURNAL, |table| {
        let mut bytes = table.get(lsn).unwrap().unwrap().value().to_vec();
        bytes[20] ^= 1;
        table.insert(lsn, bytes.as_slice()).unwrap();
    });
    expect("a changed entry", &|found| matches!(found, Finding::Entry(entry) if entry.lsn == lsn));
    used.tamper(JOURNAL, |table| drop(table.remove(lsn).unwrap()));
    expect("a dropped entry", &|found| matches!(found, Finding::Entry(entry) if entry.lsn == lsn));
    used.tamper(JOURNAL, |table| drop(table.pop_last().unwrap()));
    expect("a journal cut short", &|found| matches!(found, Finding::End { .. }));
    used.tamper(BALANCES, |table| {
        let (key, units) = {
            let (key, units) = table.first().unwrap().unwrap();
            (*key.value(), units.value())
        };
        table.insert(&key, units + 1).unwrap();
    });
    expect("a balance", &|found| matches!(found, Finding::Balance { .. }));
    used.tamper(BY_ID, |table| drop(table.pop_first().unwrap()));
    expect("an id", &|found| matches!(found, Finding::Index { .. }));
    used.tamper(FACTS_AT, |table| drop(table.pop_first().unwrap()));
    expect("facts", &|found| matches!(found, Finding::Facts { .. }));
    used.tamper(META, |table| {
        table.insert("next_lsn", 5u64.to_be_bytes().as_slice()).unwrap();
    });
    expect("the end", &|found| matches!(found, Finding::End { kept: 4, .. }));
    used.tamper(PAYMENTS, |table| {
        table.retain(|_, row| !row.windows(7).any(|part| part == b"settled")).unwrap();
    });
    expect("payments", &|found| matches!(found, Finding::Deposits { forgotten: 0, .. }));
    for (what, from, to, problem) in [
        ("state", "\"settled\"", "\"unknown\"", PaymentProblem::Undecided(PaymentState::Unknown)),
        ("debt", "\"settled\"", "\"owed\"", PaymentProblem::Undecided(PaymentState::Owed)),
        ("amount", "\"amount\":", "\"amount\":1", PaymentProblem::OtherDeposit),
    ] {
        used.tamper(PAYMENTS, |table| {
            rewrite(table, |row| row.contains("settled").then(|| row.replace(from, to)))
        });
        expect(what, &|found| matches!(found, Finding::Payment { problem: p, .. } if *p == problem));
    }
    used.tamper(PAYMENTS, |table| rewrite(table, |row| Some(row.replace("\"intent\"", "\"served\""))));
    let no_deposit = |found: &Finding| {
        matches!(found, Finding::Payment { problem: PaymentProblem::NoDeposit | PaymentProblem::Kept, .. })
    };
    expect("a payment without a deposit", &no_deposit);
    used.tamper(EXPIRIES, |table| table.retain(|_, ()| false).unwrap());
    expect("expiries", &|found| matches!(found, Finding::Idempotent { .. }));
    for table in [PAYMENTS, IDEMPOTENT] {
        used.tamper(table, |table| rewrite(table, |_| Some("{".to_owned())));
        expect("a row", &|found| matches!(found, Finding::Row { .. }));
    }
    used.tamper(TILES, |table| drop(table.pop_first().unwrap()));
    expect("a part of the tree", &|found| matches!(found, Finding::Tile { .. }));
    used.tamper(KEYS, |table| rewrite(table, |_| Some("{".to_owned())));
    expect("a key", &|found| matches!(found, Finding::Row { table: "keys", .. }));
    let charged = {
        let store = used.open();
        let mut id = None;
        store
            .reader()
            .each_entry(|entry, _| id = (entry.lsn == lsn).then_some(entry.draft.id).or(id))
            .unwrap();
        id.unwrap()
    };
    used.tamper(OPEN_CALLS, |table| {
        let row =
            br#"{"account":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"asset":1,"held":5,"begun_ms":1,"owed":null}"#;
        table.insert(&charged, row.as_slice()).unwrap();
    });
    expect("an open call that is charged", &|found| *found == Finding::OpenCall { call: charged, lsn });
    used.tamper(ACCOUNTS, |table| {
        table.insert(&[1; 16], b"{\"state\":\"closed\"}".as_slice()).unwrap();
    });
    expect(
        "a closed account",
        &|found| matches!(found, Finding::Closed { account, .. } if account.0 == [1; 16]),
    );
    used.tamper(META, |table| {
        table.insert("schema", 99u32.to_be_bytes().as_slice()).unwrap();
    });
    let newer = check(used.path(), &CheckOptions::new(NOW_MS));
    assert!(matches!(newer, Err(StoreError::Unavailable(why)) if why.contains("newer version")));
    let newer = Store::open(used.path(), options());
    assert!(matches!(newer, Err(StoreError::Unavailable(why)) if why.contains("newer version")));
}

/// Changes the rows that `change` has a new text for.
fn rewrite<const N: usize>(
    table: &mut redb::Table<'_, &'static [u8; N], &'static [u8]>,
    change: impl Fn(&str) -> Option<String>,
) {
    let rows = table.iter().unwrap().map(|row| {
        let (key, row) = row.unwrap();
        (*key.value(), String::from_utf8(row.value().to_vec()).unwrap())
    });
    let rows: Vec<_> = rows.collect();
    for (key, row) in rows {
        if let Some(text) = change(&row) {
            table.insert(&key, text.as_bytes()).unwrap();
        }
    }
}

/// Wherever a byte of the file is changed, nothing is read that was not written: it is found, or it was nobody's.
#[test]
fn a_flipped_byte_is_found_or_was_of_no_use() {
    let used = Used::new(20);
    let saved = fs::read(used.file()).unwrap();
    let clean = used.check_with(false);
    let (mut dice, mut found) = (Dice::new(1), 0);
    for round in 0..30 {
        let mut bytes = saved.clone();
        let mut place = || dice.below(saved.len() as u64) as usize;
        let mut at = place();
        // Most of the file is free pages: every other change is made where something stands.
        while round % 2 == 0 && saved[at] == 0 {
            at = place();
        }
        bytes[at] ^= 1 << dice.below(8);
        fs::write(used.file(), bytes).unwrap();
        let options = CheckOptions { undecided_ms_max: u64::MAX, ..CheckOptions::new(NOW_MS) };
        match check(used.path(), &options) {
            Ok(report) if report.findings.is_empty() => {
                assert_eq!((report.last_lsn, report.root), (clean.last_lsn, clean.root), "byte {at}");
            }
            Ok(_) | Err(_) => found += 1,
        }
    }
    assert!(found > 2, "only {found} of 30");
}

/// A copy of a store that is written to meanwhile is one moment of it.
#[test]
fn a_backup_of_a_live_store_is_whole_and_private() {
    let used = Used::new(20);
    let copies = tempfile::tempdir().unwrap();
    let store = used.open();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut dice = Dice::new(9);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let id = dice.bytes();
                let entry = draft(
                    Kind::Deposit,
                    id,
                    [0; 32],
                    &[(AccountId([0xcc; 16]), -1), (AccountId([1; 16]), 1)],
                );
                let names = vec![];
                commit(&store, Op::Post { entry, names }).unwrap();
            }
        });
        for number in 0..5 {
            let copy = copies.path().join(number.to_string());
            store.backup(&copy).unwrap();
            assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
            let options = CheckOptions { undecided_ms_max: u64::MAX, ..CheckOptions::new(NOW_MS) };
            let report = check(&copy, &options).unwrap();
            // The account that pays has no name and so a floor: nothing else is to find.
            assert!(
                report.findings.iter().all(|found| matches!(found, Finding::Entry(_))),
                "{:?}",
                report.findings
            );
            assert_eq!(Some(report.root), store.reader().tree(report.last_lsn).unwrap());
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let again = store.backup(&copies.path().join("0"));
    assert!(matches!(again, Err(StoreError::Unavailable(why)) if why.contains("already")));
    assert!(store.backup(Path::new("/nowhere/copy")).is_err());
    assert_eq!(fs::read_dir(copies.path()).unwrap().count(), 5, "nothing unfinished is left");
}

/// LED-19: a restore raises the epoch, never replaces a store, and takes nothing that is not in order.
#[test]
fn a_restore_raises_the_epoch_and_replaces_nothing() {
    let used = Used::new(20);
    let folders = tempfile::tempdir().unwrap();
    let (copy, first, second) =
        (folders.path().join("copy"), folders.path().join("first"), folders.path().join("second"));
    used.open().backup(&copy).unwrap();
    let report = restore(&copy, &first).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2));
    restore(&copy, &second).unwrap();
    assert!(matches!(restore(&copy, &first), Err(RestoreError::Exists(_))));
    let (before, first, second) =
        (used.open(), Store::open(&first, options()).unwrap(), Store::open(&second, options()).unwrap());
    let epoch = |store: &Store| store.reader().epoch().unwrap();
    // Two restores from one backup are told apart, or what the first handed out would be good in the second.
    assert!(epoch(&before) < epoch(&first) && epoch(&first) < epoch(&second));
    for store in [&first, &second] {
        let head = store.reader().unsigned_head(0).unwrap();
        assert_eq!((head.root, head.size, head.store_id), (report.root, report.last_lsn, report.store_id));
        books_in_order(store.reader());
    }
    drop(before);
    used.tamper(BALANCES, |table| drop(table.pop_last().unwrap()));
    let refused = restore(used.path(), &folders.path().join("third"));
    assert!(matches!(refused, Err(RestoreError::Findings(report)) if !report.findings.is_empty()));
    assert!(!folders.path().join("third").exists());
}

/// Segments keep what leaves the store; balances, tree and replay keys stay, and the store goes on.
#[test]
fn entries_move_into_segments_and_the_books_stay_whole() {
    let used = Used::new(60);
    let store = used.open();
    let end = store.reader().unsigned_head(0).unwrap();
    let balances = store.reader().balances().unwrap();
    let mut captures = Vec::new();
    let mut deposits = Vec::new();
    store
        .reader()
        .each_entry(|entry, _| match entry.draft.kind {
            Kind::Capture => captures.push((entry.lsn, entry.draft.id)),
            Kind::Deposit => deposits.push((entry.lsn, entry)),
            Kind::Refund | Kind::Adjust | Kind::Income => {}
        })
        .unwrap();
    let through = end.size / 2;
    let rolled = store.roll(through, &used.segments()).unwrap().unwrap();
    assert_eq!(rolled.first_lsn, 1);
    assert!(rolled.last_lsn <= through && rolled.last_lsn > through - 100, "{rolled:?}");
    assert_eq!(fs::metadata(&rolled.file).unwrap().permissions().mode() & 0o777, 0o600);
    // The tree, the balances and every path that later entries need.
    let reader = store.reader();
    assert_eq!(reader.unsigned_head(0).unwrap(), end);
    assert_eq!(reader.balances().unwrap(), balances);
    assert_eq!(reader.checkpoint().unwrap().lsn, rolled.last_lsn);
    for lsn in [rolled.last_lsn + 1, end.size] {
        let path = reader.inclusion(lsn, end.size).unwrap().unwrap();
        let mut leaf = None;
        reader
            .each_entry(|entry, bytes| {
                if entry.lsn == lsn {
                    leaf = Some(merkle::leaf_hash(bytes))
                }
            })
            .unwrap();
        assert!(merkle::verify_inclusion(&leaf.unwrap(), lsn - 1, end.size, &path, &end.root));
    }
    let grown = reader.consistency(rolled.last_lsn, end.size).unwrap().unwrap();
    let cut_root = reader.tree(rolled.last_lsn).unwrap().unwrap();
    assert!(merkle::verify_consistency(rolled.last_lsn, end.size, &grown, &cut_root, &end.root));
    // What was moved is gone, with its facts and ids; the ids that others chose, and payments, are not.
    for (lsn, id) in &captures {
        let is_here = *lsn > rolled.last_lsn;
        assert_eq!(
            (reader.entry_of(id).unwrap().is_some(), reader.facts(id).unwrap().is_some()),
            (is_here, is_here)
        );
    }
    let (_, moved) = deposits.iter().find(|(_, entry)| entry.draft.key == [0; 32]).unwrap();
    let legs: Vec<_> = moved.legs.iter().map(|leg| (leg.account, leg.amount.units())).collect();
    let again = draft(Kind::Deposit, moved.draft.id, [0; 32], &legs);
    assert_eq!(commit(&store, Op::Post { entry: again, names: vec![] }), Err(StoreError::Conflict));
    let (_, paid) = deposits.iter().find(|(_, entry)| entry.draft.key != [0; 32]).unwrap();
    assert!(reader.payment(&paid.draft.key).unwrap().is_some());
    let intent = Op::Intent { key: paid.draft.key, payment: payment(AccountId([1; 16]), 1) };
    assert_eq!(commit(&store, intent), Err(StoreError::Conflict));
    drop(store);
    // With and without the files the books are in order, and with them they are whole.
    assert_eq!((used.check_with(false).findings, used.check_with(true).findings), (vec![], vec![]));
    assert_eq!((used.check_with(false).first_lsn, used.check_with(true).first_lsn), (rolled.last_lsn + 1, 1));
    used.work(10);
    let store = used.open();
    let second = store.roll(u64::MAX, &used.segments()).unwrap().unwrap();
    assert_eq!(second.first_lsn, rolled.last_lsn + 1);
    assert_eq!(store.roll(u64::MAX, &used.segments()).unwrap(), None);
    drop(store);
    assert_eq!((used.check_with(false).findings, used.check_with(true).findings), (vec![], vec![]));
    // A backup of what is left can be restored and goes on.
    let folders = tempfile::tempdir().unwrap();
    used.open().backup(&folders.path().join("copy")).unwrap();
    restore(&folders.path().join("copy"), &folders.path().join("restored")).unwrap();
    // A file that was changed, or is not there, is named.
    let bytes = fs::read(&rolled.file).unwrap();
    fs::write(&rolled.file, &bytes[..bytes.len() / 2]).unwrap();
    let cut = used.check_with(true).findings;
    assert!(cut.iter().any(|found| matches!(found, Finding::Segment { .. })), "{cut:?}");
    fs::remove_file(&rolled.file).unwrap();
    let missing = used.check_with(true).findings;
    assert!(missing.iter().any(|found| found.lsn() == Some(1)), "{missing:?}");
}

/// LED-20: what has ended is forgotten, in small steps, and nothing that could still be brought again.
#[test]
fn a_sweep_forgets_what_has_ended_and_nothing_else() {
    let used = Used { folder: tempfile::tempdir().unwrap(), history: Arc::default() };
    let store = used.open();
    let week_ms = 7 * 24 * 3_600_000;
    let valid_before_s = payment(AccountId([1; 16]), 1).valid_before_s;
    let pay = |key: u8, valid_before_s: u64, serve: bool| {
        let (key, payer) = ([key; 32], AccountId([1; 16]));
        let payment = store::Payment { valid_before_s, ..payment(payer, 5) };
        let rail = ledger::Chart::RailClearing(payment.rail.clone());
        let entry = draft(Kind::Deposit, [key[0]; 16], key, &[(rail.id(), -5), (payer, 5)]);
        commit(&store, Op::Deposit { key, payment, entry }).unwrap();
        if serve {
            commit(&store, Op::Served { key, outcome: outcome([key[0]; 16]) }).unwrap();
        }
    };
    pay(1, valid_before_s, true);
    pay(2, valid_before_s, false);
    pay(3, 0, true);
    pay(4, u64::MAX, true);
    pay(5, valid_before_s + 3600, true);
    let intent = store::Payment { valid_before_s, ..payment(AccountId([1; 16]), 5) };
    commit(&store, Op::Intent { key: [6; 32], payment: intent }).unwrap();
    let remember = |key: u8, expires_s: u64| {
        let outcome = store::Idempotent { fingerprint: [1; 32], outcome: outcome([key; 16]), expires_s };
        let op = Op::Capture {
            id: [key; 16],
            entry: None,
            facts: b"{}".to_vec(),
            served: None,
            settles: None,
            income: None,
            idempotent: vec![([key; 32], outcome)],
        };
        commit(&store, op).unwrap();
    };
    remember(1, NOW_MS / 1000);
    remember(2, NOW_MS / 1000);
    // Used again with a later end: the earlier end no longer counts.
    remember(2, NOW_MS / 1000 + 3600);
    let kept = || {
        let reader = store.reader();
        let payments: Vec<u8> =
            (1..=6).filter(|key| reader.payment(&[*key; 32]).unwrap().is_some()).collect();
        let outcomes: Vec<u8> =
            (1..=2).filter(|key| reader.idempotent(&[*key; 32]).unwrap().is_some()).collect();
        (payments, outcomes)
    };
    let sweep = |now_ms: u64| commit(&store, Op::Sweep { now_ms }).unwrap();
    sweep(NOW_MS);
    assert_eq!(kept(), (vec![1, 2, 3, 4, 5, 6], vec![1, 2]));
    sweep(NOW_MS + 1000);
    assert_eq!(kept(), (vec![1, 2, 3, 4, 5, 6], vec![2]));
    sweep(valid_before_s * 1000 + week_ms);
    assert_eq!(kept(), (vec![1, 2, 3, 4, 5, 6], vec![]));
    sweep(valid_before_s * 1000 + week_ms + 1000);
    assert_eq!(kept(), (vec![2, 3, 4, 5, 6], vec![]));
    drop(store);
    assert_eq!(used.findings(), vec![], "a deposit whose payment was forgotten is no finding");
}

/// A sweep looks at no more rows than it says, and goes on with the next.
#[test]
fn a_sweep_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), options()).unwrap();
    let rows = store::SWEEP_ROWS_MAX as u64 + 10;
    for number in 0..rows {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        let outcome = store::Idempotent { fingerprint: [1; 32], outcome: outcome(id), expires_s: 5 };
        let op = Op::Capture {
            id,
            entry: None,
            facts: vec![],
            served: None,
            settles: None,
            income: None,
            idempotent: vec![(key, outcome)],
        };
        store.submit(op, None).unwrap();
    }
    let left = || {
        (0..rows)
            .filter(|number| {
                let mut key = [0; 32];
                key[..8].copy_from_slice(&number.to_be_bytes());
                store.reader().idempotent(&key).unwrap().is_some()
            })
            .count()
    };
    commit(&store, Op::Sweep { now_ms: 6000 }).unwrap();
    assert_eq!(left(), 10);
    commit(&store, Op::Sweep { now_ms: 6000 }).unwrap();
    assert_eq!(left(), 0);
}

/// LED-8: an account with money is not closed, and the largest credit line it had is remembered.
#[test]
fn an_account_is_closed_only_when_it_is_empty() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), options()).unwrap();
    let (id, rail) = (AccountId([1; 16]), ledger::Chart::RailClearing("operator".into()));
    let post = |number: u8, units: i64| {
        let kind = if units > 0 { Kind::Deposit } else { Kind::Refund };
        let entry = draft(kind, [number; 16], [0; 32], &[(rail.id(), -units), (id, units)]);
        commit(&store, Op::Post { entry, names: vec![rail.clone()] }).unwrap();
    };
    let set = |state, overdraft| {
        let settings = AccountSettings { state, overdraft, ..AccountSettings::default() };
        commit(&store, Op::Account { id, settings }).map(drop)
    };
    post(1, 5);
    assert_eq!(set(AccountMode::Closed, 0), Err(StoreError::Conflict));
    assert_eq!(set(AccountMode::Frozen, 70), Ok(()));
    assert_eq!(set(AccountMode::Open, 20), Ok(()));
    let (_, settings) = &store.reader().accounts().unwrap()[0];
    assert_eq!((settings.state, settings.overdraft, settings.overdraft_ever()), (AccountMode::Open, 20, 70));
    post(2, -5);
    assert_eq!(set(AccountMode::Closed, 0), Ok(()));
}
