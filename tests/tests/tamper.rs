//! Somebody changes a record of a real store, every way there is; `fsck` and `verify` name it (LED-41, bar 12 of
//! ledger.md section 11).
//!
//! A short run by default; `cargo xtask tamper` changes every entry in every way.
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use farthing_tests::gateway::{Gateway, binary};
use farthing_tests::http;
use farthing_tests::upstream::Upstream;
use ledger::Entry;
use proof::credit_key::attenuate;
use redb::{Database, TableDefinition};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const JOURNAL: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("journal");
const FACTS_AT: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("facts_at");

/// What is done to the entry at an LSN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tampering {
    /// One bit of one field.
    Flip(&'static str),
    Drop,
    /// Exchanged with the next one, LSNs and all.
    Swap,
    /// Another entry stands here, and this one and the rest one place on.
    Insert,
    /// Gone with everything after it.
    Truncate,
    /// Every byte of another entry of the journal.
    Overwrite,
}

/// The fields of an entry and where each starts (specs/ledger.md). References here are empty or short.
fn fields(bytes: &[u8]) -> Vec<(&'static str, usize)> {
    let entry = Entry::parse(bytes).unwrap();
    let after_reference = 70 + entry.draft.reference.len();
    let legs = after_reference + 16 + 4 + 16 + 2;
    let mut fields = vec![
        ("version", 0),
        ("kind", 1),
        ("flags", 3),
        ("lsn", 11),
        ("time", 19),
        ("id", 20),
        ("key", 36),
        ("reference length", 69),
        ("corrects", after_reference),
        ("price version", after_reference + 16),
        ("cost", after_reference + 35),
        ("legs", legs - 1),
        ("account", legs),
        ("asset", legs + 17),
        ("amount", legs + 25),
        ("balance", legs + 33),
        ("last leg's amount", bytes.len() - 32 - 9),
        ("previous hash", bytes.len() - 1),
    ];
    if !entry.draft.reference.is_empty() {
        fields.push(("reference", 70));
    }
    fields
}

/// Rewrites the journal as stores of before schema 8 have it, so that each entry can be changed alone.
fn one_entry_a_row(file: &Path) -> Vec<Vec<u8>> {
    let mut rows = Vec::new();
    {
        let reader = store::view(file).unwrap();
        reader
            .each_entry(|entry, bytes| rows.push((bytes.to_vec(), reader.facts(&entry.draft.id).unwrap())))
            .unwrap();
    }
    let database = Database::open(file).unwrap();
    let write = database.begin_write().unwrap();
    {
        let mut journal = write.open_table(JOURNAL).unwrap();
        let mut facts_at = write.open_table(FACTS_AT).unwrap();
        journal.retain(|_, _| false).unwrap();
        for (lsn, (entry, facts)) in (1..).zip(&rows) {
            journal.insert(lsn, entry.as_slice()).unwrap();
            if let Some(facts) = facts {
                facts_at.insert(lsn, facts.as_slice()).unwrap();
            }
        }
    }
    write.commit().unwrap();
    rows.into_iter().map(|(entry, _)| entry).collect()
}

/// A stopped gateway's store, with heads over parts of it.
struct Evidence {
    gateway: Gateway,
    public: String,
    entries: Vec<Vec<u8>>,
}

impl Evidence {
    fn gather(calls: usize) -> Self {
        let upstream = Upstream::friendly();
        let mut gateway = Gateway::start(upstream.address, "");
        let key = gateway.key("1 TEST");
        let budgeted = attenuate(&key, "budget=0011223344556677:TEST:900000000").unwrap();
        for number in 0..calls {
            let key = if number % 3 == 2 { &budgeted } else { &key };
            let ask = json!({"model": "m", "max_tokens": 100, "messages": []});
            let paid = http::post(gateway.address, CHAT, &[("x-api-key", key)], &ask);
            assert_eq!(paid.status, 200, "{}", paid.text());
            if number % 4 == 3 || number + 1 == calls {
                gateway.books_after(number + 1);
                // Whoever asks for a proof gets a head over all there is.
                let proof = format!("/farthing/receipts/{}/proof", paid.must("farthing-receipt"));
                assert_eq!(http::get(gateway.address, &proof, &[("x-api-key", key)]).status, 200);
            }
        }
        let keys = http::get(gateway.address, "/.well-known/farthing-keys.json", &[]).json();
        let public = keys["keys"][0]["x"].as_str().unwrap().to_owned();
        gateway.signal(15);
        assert_eq!(gateway.wait().code(), Some(0));
        let entries = one_entry_a_row(&gateway.folder().join("store/farthing.redb"));
        Self { gateway, public, entries }
    }

    /// A copy with one change in it.
    fn tampered(&self, name: &str, lsn: u64, tampering: Tampering) -> PathBuf {
        let copy = self.gateway.folder().join(format!("{name}.redb"));
        std::fs::copy(self.gateway.folder().join("store/farthing.redb"), &copy).unwrap();
        let database = Database::open(&copy).unwrap();
        let write = database.begin_write().unwrap();
        {
            let mut table = write.open_table(JOURNAL).unwrap();
            let last = self.entries.len() as u64;
            let bytes = |lsn: u64| self.entries[usize::try_from(lsn).unwrap() - 1].clone();
            match tampering {
                Tampering::Flip(field) => {
                    let mut changed = bytes(lsn);
                    let fields = fields(&changed);
                    let (_, at) = fields.iter().find(|(name, _)| *name == field).unwrap();
                    changed[*at] ^= 1;
                    table.insert(lsn, changed.as_slice()).unwrap();
                }
                Tampering::Drop => drop(table.remove(lsn).unwrap()),
                Tampering::Swap => {
                    table.insert(lsn, bytes(lsn + 1).as_slice()).unwrap();
                    table.insert(lsn + 1, bytes(lsn).as_slice()).unwrap();
                }
                Tampering::Insert => {
                    for old in (lsn..=last).rev() {
                        table.insert(old + 1, bytes(old).as_slice()).unwrap();
                    }
                    let other = if lsn == 1 { last } else { lsn - 1 };
                    table.insert(lsn, bytes(other).as_slice()).unwrap();
                }
                Tampering::Truncate => {
                    for gone in lsn..=last {
                        table.remove(gone).unwrap();
                    }
                }
                Tampering::Overwrite => {
                    let other = if lsn == 1 { last } else { 1 };
                    table.insert(lsn, bytes(other).as_slice()).unwrap();
                }
            }
        }
        write.commit().unwrap();
        copy
    }

    fn ways(&self, lsn: u64) -> Vec<Tampering> {
        let fields = fields(&self.entries[usize::try_from(lsn).unwrap() - 1]);
        let mut ways: Vec<Tampering> = fields.into_iter().map(|(name, _)| Tampering::Flip(name)).collect();
        ways.extend([Tampering::Drop, Tampering::Insert, Tampering::Truncate, Tampering::Overwrite]);
        if lsn < self.entries.len() as u64 {
            ways.push(Tampering::Swap);
        }
        ways
    }

    /// What a command says of a store's file: exit code and document.
    fn told(&self, command: &str, store: &Path) -> (Option<i32>, Value) {
        let mut words = vec![command, "--store", store.to_str().unwrap(), "--json"];
        if command == "verify" {
            words.extend(["--key", &self.public]);
        }
        let output = Command::new(binary()).args(words).output().unwrap();
        let document = serde_json::from_slice(&output.stdout);
        let document = document.unwrap_or_else(|_| json!(String::from_utf8_lossy(&output.stderr)));
        (output.status.code(), document)
    }
}

#[test]
fn every_tampering_is_named_by_position() {
    let calls = std::env::var("FARTHING_TAMPER").map(|calls| calls.parse().unwrap());
    let whole = calls.is_ok();
    let evidence = Evidence::gather(calls.unwrap_or(8));
    let store = evidence.gateway.folder().join("store");
    for command in ["fsck", "verify"] {
        let (code, told) = evidence.told(command, &store);
        assert_eq!((code, &told["clean"]), (Some(0), &json!(true)), "{command}: {told}");
    }
    let last = evidence.entries.len() as u64;
    // Every way, at places that differ in kind; or at every place.
    let places: Vec<u64> = if whole { (1..=last).collect() } else { vec![1, 2, 3, last / 2, last - 1, last] };
    let jobs: Vec<(u64, Tampering)> =
        places.iter().flat_map(|lsn| evidence.ways(*lsn).into_iter().map(|way| (*lsn, way))).collect();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let (evidence, jobs, next, failures) = (&evidence, &jobs, &next, &failures);
            scope.spawn(move || {
                while let Some((lsn, way)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let copy = evidence.tampered(&format!("worker-{worker}"), *lsn, *way);
                    for command in ["fsck", "verify"] {
                        let (code, told) = evidence.told(command, &copy);
                        if (code, &told["first_bad_lsn"]) != (Some(1), &json!(lsn)) {
                            failures
                                .lock()
                                .unwrap()
                                .push(format!("{command}, {way:?} at {lsn}: {code:?} {told}"));
                        }
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    println!("tamperings: {}, commands: 2, missed: {}", jobs.len(), failures.len());
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), 2 * jobs.len(), failures.join("\n"));
}
