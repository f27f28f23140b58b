//! What was in the log and not in the database when the process ended.

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Arc;

use ledger::Chart;
use redb::backends::FileBackend;

use super::{KEY, PAYER, balance, block_on, capture, deposit, opened, payment};
use crate::log::{Appended, Log, Name};
use crate::schema::SCHEMA;
use crate::tables::{META, META_SCHEMA, PAYMENTS};
use crate::writer::Tail;
use crate::{
    CheckOptions, Committed, Durability, Finding, Idempotent, KeyRecord, Op, Options, Outcome, PaymentState,
    Reader, Store, StoreError, Submitted, check, restore, view,
};

fn charge(id: u8, units: i64) -> Op {
    let Op::Capture { id, entry: Some(mut entry), facts, income, .. } = capture(id, units) else {
        unreachable!()
    };
    entry.flags.estimated = true;
    let (served, settles, idempotent) = (None, None, Vec::new());
    Op::Capture { id, entry: Some(entry), facts, served, settles, income, idempotent }
}

/// A folder as a killed process leaves it, with a hundred units in the database and these frames in the log.
fn killed(frames: &[&[Op]]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let names = vec![Chart::RailClearing("test".into())];
    block_on(opened(&folder).commit(Op::Post { entry: deposit(1, 100), names })).unwrap();
    let reader = view(folder.path()).unwrap();
    let name = Name::of(&reader).unwrap();
    let tail = Tail::read(&reader.begin().unwrap()).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(log_of(&folder)).unwrap();
    let mut log = Log::new(Arc::new(FileBackend::new(file).unwrap()), name).unwrap();
    for frame in frames {
        assert_eq!(log.append(tail.batches, frame.iter()).unwrap(), Appended::Durable);
    }
    folder
}

fn log_of(folder: &tempfile::TempDir) -> std::path::PathBuf {
    folder.path().join("farthing.log")
}

fn viewed(folder: &Path) -> i64 {
    let rows = view(folder).unwrap().balances().unwrap();
    rows.iter().find(|row| row.account == PAYER).map_or(0, |row| row.amount.units())
}

/// What a check finds, and where the journal ends.
fn checked(folder: &Path) -> (Vec<Finding>, u64) {
    let report = check(folder, &CheckOptions::new(0)).unwrap();
    (report.findings, report.last_lsn)
}

/// LED-25: what is in the log is in every reading of the store, and in the store once it is open.
#[test]
fn a_killed_store_has_what_was_in_its_log() {
    let folder = killed(&[&[charge(2, 10)], &[charge(3, 5), charge(4, 1)]]);
    // The deposit, three charges and their income.
    assert_eq!((checked(folder.path()), viewed(folder.path())), ((vec![], 5), 84));
    for _ in 0..2 {
        let store = opened(&folder);
        assert_eq!((balance(&store), store.reader().unsigned_head(0).unwrap().size), (84, 5));
        assert_eq!(store.reader().facts(&[3; 16]).unwrap().unwrap(), b"{}");
    }
}

/// Version 8 had only charges in its log, as they are now.
#[test]
fn a_killed_store_of_schema_8_has_what_was_in_its_log() {
    let folder = killed(&[&[charge(2, 10)]]);
    let schema = |version: u32| {
        let database = redb::Database::open(folder.path().join("farthing.redb")).unwrap();
        let writing = database.begin_write().unwrap();
        let mut meta = writing.open_table(META).unwrap();
        meta.insert(META_SCHEMA, version.to_be_bytes().as_slice()).unwrap();
        drop(meta);
        writing.commit().unwrap();
    };
    schema(8);
    let store = opened(&folder);
    let meta = store.reader().begin().unwrap().open_table(META).unwrap();
    assert_eq!(meta.get(META_SCHEMA).unwrap().unwrap().value(), SCHEMA.to_be_bytes());
    assert_eq!(balance(&store), 90);
    drop((meta, store));
    // One that a newer version may have put more into is left alone.
    schema(SCHEMA + 1);
    assert!(Store::open(folder.path(), Options::new([1; 16])).is_err());
}

#[test]
fn a_charge_that_was_refused_is_refused_again() {
    let folder = killed(&[&[charge(2, 10), charge(2, 10)], &[charge(3, 5)]]);
    assert_eq!(balance(&opened(&folder)), 85);
}

/// A crash while the last frame was written takes that one; anything else that is missing is said, and not passed
/// over.
#[test]
fn a_torn_end_is_cut_off_and_damage_is_found() {
    let frames = [charge(2, 10), charge(3, 5)];
    for (name, change, expected) in [
        ("torn", 600usize..1024, Ok(90)),
        ("cut off", 512..1024, Ok(90)),
        ("gone", 0..1024, Ok(100)),
        ("damaged", 100..101, Err(())),
    ] {
        let folder = killed(&[&frames[..1], &frames[1..]]);
        let mut bytes = std::fs::read(log_of(&folder)).unwrap();
        bytes[change].iter_mut().for_each(|byte| *byte ^= 0x55);
        std::fs::write(log_of(&folder), &bytes).unwrap();
        let (found, _) = checked(folder.path());
        match expected {
            Ok(units) => {
                assert_eq!((found, viewed(folder.path())), (vec![], units), "{name}");
                assert_eq!(balance(&opened(&folder)), units, "{name}");
            }
            Err(()) => {
                assert!(matches!(&found[..], [Finding::Log(why)] if why.contains("at byte 0")), "{found:?}");
                let refused = Store::open(folder.path(), Options::new([1; 16]));
                assert!(matches!(refused, Err(StoreError::Unavailable(why)) if why.contains("damaged")));
                assert!(view(folder.path()).is_err());
                // The operator lets go of what is in it.
                std::fs::remove_file(log_of(&folder)).unwrap();
                assert_eq!(balance(&opened(&folder)), 100);
            }
        }
    }
}

/// LED-19: a restore takes along what the log has, and the log of the store before is none of the restored one.
#[test]
fn a_restored_store_has_the_charges_of_the_log_once() {
    let (folder, fresh) = (killed(&[&[charge(2, 10)]]), tempfile::tempdir().unwrap());
    restore(folder.path(), fresh.path()).unwrap();
    std::fs::copy(log_of(&folder), log_of(&fresh)).unwrap();
    assert_eq!((balance(&opened(&fresh)), balance(&opened(&folder))), (90, 90));
}

/// LED-25, LED-26: who waits for a write waits for the log; who commits anything reads it, and all before it.
#[test]
fn a_write_is_answered_from_the_log_and_read_after_the_next_commit() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { durability: Durability::Sync, ..Options::new([1; 16]) };
    let store = Store::open(folder.path(), options).unwrap();
    let names = vec![Chart::RailClearing("test".into())];
    block_on(store.commit(Op::Post { entry: deposit(1, 100), names })).unwrap();
    for id in 2..=9 {
        let Submitted::Wait(durable) = store.submit(charge(id, 1), None).unwrap() else { unreachable!() };
        assert_eq!(block_on(durable), Ok(Committed { lsn: id.into() }), "its place, also after a crash");
    }
    block_on(store.commit(Op::Flush)).unwrap();
    assert_eq!(balance(&store), 92);
    assert!(block_on(store.commit(charge(10, 1))).unwrap().lsn > 9);
}

/// A copy of a running store's folder, as the disk has it when the power goes.
fn cut_off(folder: &tempfile::TempDir) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in ["farthing.redb", "farthing.log"] {
        std::fs::copy(folder.path().join(name), copy.path().join(name)).unwrap();
    }
    copy
}

/// LED-16, LED-24: a payment that was acknowledged is taken, served and remembered for everybody from then on, whether the
/// database has it or only the log, before a crash and after it.
#[test]
fn what_is_acknowledged_is_read_at_once_and_refused_a_second_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(&folder);
    let reader = store.reader();
    let write = |op| block_on(store.write(op));
    let in_database = || {
        let table = reader.begin().unwrap().open_table(PAYMENTS).unwrap();
        table.get(&KEY).unwrap().is_some()
    };
    let state = |reader: &Reader| reader.payment(&KEY).unwrap().map(|payment| payment.state);
    let deposited = |id| Op::Deposit { key: KEY, payment: payment(), entry: deposit(id, 100) };

    write(Op::Intent { key: KEY, payment: payment() }).unwrap();
    assert_eq!(state(reader), Some(PaymentState::Intent));
    assert_eq!(write(Op::Intent { key: KEY, payment: payment() }), Err(StoreError::Conflict));
    assert_eq!(write(deposited(1)).unwrap().lsn, 1);
    assert_eq!(write(deposited(2)), Err(StoreError::Conflict));
    let outcome = Outcome { status: 200, headers: vec![], call: [2; 16] };
    let row = Idempotent { fingerprint: [1; 32], outcome: outcome.clone(), expires_s: 9 };
    let Op::Capture { id, entry, facts, income, .. } = charge(2, 30) else { unreachable!() };
    let (served, idempotent) = (Some((KEY, outcome)), vec![([7; 32], row.clone())]);
    write(Op::Capture { id, entry, facts, served, settles: None, income, idempotent }).unwrap();
    let record = KeyRecord { account: [9; 16], label: "change".into(), created_ms: 1, expires_s: None };
    write(Op::Key { id: [4; 16], record: record.clone() }).unwrap();

    // What a crash finds now, wherever the writer is with it.
    let copy = cut_off(&folder);
    let as_it_was = |reader: &Reader| {
        assert_eq!(state(reader), Some(PaymentState::Served));
        assert_eq!(reader.idempotent(&[7; 32]).unwrap(), Some(row.clone()));
        assert_eq!(reader.key(&[4; 16]).unwrap(), Some(record.clone()));
    };
    as_it_was(reader);
    block_on(store.commit(Op::Flush)).unwrap();
    as_it_was(reader);
    assert!(in_database());
    let copy = opened(&copy);
    as_it_was(copy.reader());
    assert_eq!((balance(&copy), balance(&store)), (70, 70));
    assert_eq!(block_on(copy.write(deposited(3))), Err(StoreError::Conflict));
}
