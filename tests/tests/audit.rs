//! Books that can be checked, copied and restored: `fsck`, `verify`, `backup`, `restore`, `ledger roll`, `ledger
//! head` (LED-19, LED-41, ledger.md 8.4).
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use farthing_tests::facilitator::Facilitator;
use farthing_tests::gateway::{Gateway, binary};
use farthing_tests::http::{self, Answer};
use farthing_tests::payer::{BASE_SEPOLIA, TEST, Wallet};
use farthing_tests::refused::assert_refused;
use farthing_tests::upstream::Upstream;
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

fn ask() -> Value {
    json!({"model": "m", "max_tokens": 100, "messages": []})
}

fn call(gateway: &Gateway, key: &str) -> Answer {
    let answer = http::post(gateway.address, CHAT, &[("x-api-key", key)], &ask());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

fn public_key(gateway: &Gateway) -> String {
    let keys = http::get(gateway.address, "/.well-known/farthing-keys.json", &[]).json();
    keys["keys"][0]["x"].as_str().unwrap().to_owned()
}

/// Exit code and document of a command of this gateway's operator.
fn told(gateway: &Gateway, words: &[&str]) -> (Option<i32>, Value) {
    read(&gateway.command(&[words, &["--json"]].concat()))
}

/// The same, by somebody who has no configuration.
fn alone(words: &[&str]) -> (Option<i32>, Value) {
    read(&Command::new(binary()).args(words).arg("--json").output().unwrap())
}

fn read(output: &Output) -> (Option<i32>, Value) {
    let document = serde_json::from_slice(&output.stdout);
    let document = document.unwrap_or_else(|_| json!(String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), document)
}

fn stop(gateway: &mut Gateway) {
    gateway.signal(15);
    assert_eq!(gateway.wait().code(), Some(0));
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn store_file(gateway: &Gateway) -> PathBuf {
    gateway.folder().join("store/farthing.redb")
}

/// Exit codes, and that looking changes nothing: live, stopped, killed, and from a copy.
#[test]
fn fsck_and_verify_say_0_for_books_in_order_and_2_where_they_cannot_look() {
    let upstream = Upstream::friendly();
    let mut gateway = Gateway::start(upstream.address, "");
    let public = public_key(&gateway);
    let clean = |gateway: &Gateway, what: &str| {
        for words in [vec!["fsck"], vec!["verify", "--key", &public]] {
            let (code, document) = told(gateway, &words);
            assert_eq!((code, &document["clean"]), (Some(0), &json!(true)), "{what}, {words:?}: {document}");
        }
    };
    clean(&gateway, "nothing in it yet");
    let key = gateway.key("1 TEST");
    for _ in 0..3 {
        call(&gateway, &key);
    }
    clean(&gateway, "live");
    gateway.operator(&["ledger", "head"]);
    let (_, document) = told(&gateway, &["fsck"]);
    assert_eq!(document["last_lsn"], gateway.books().entries.len(), "{document}");
    call(&gateway, &key);
    gateway.signal(9);
    gateway.wait();
    let before = std::fs::read(store_file(&gateway)).unwrap();
    clean(&gateway, "killed");
    let copy = gateway.folder().join("copy.redb");
    std::fs::copy(store_file(&gateway), &copy).unwrap();
    for words in [vec!["fsck"], vec!["verify", "--key", &public]] {
        let (code, document) = alone(&[&words[..], &["--store", text(&copy)]].concat());
        assert_eq!(code, Some(0), "{words:?}: {document}");
    }
    assert_eq!(std::fs::read(&copy).unwrap(), before);
    assert_eq!(std::fs::read(store_file(&gateway)).unwrap(), before, "looking has changed the store");

    let garbage = gateway.folder().join("garbage");
    std::fs::write(&garbage, [7; 5000]).unwrap();
    let other = public_key(&Gateway::start(upstream.address, ""));
    for (words, code) in [
        (vec!["fsck", "--store", "/nowhere"], 2),
        (vec!["fsck", "--store", text(&garbage)], 2),
        (vec!["verify", "--store", text(&garbage), "--key", &public], 2),
        (vec!["verify", "--store", text(&copy)], 2),
        (vec!["verify", "--store", text(&copy), "--key", "short"], 2),
        (vec!["verify", "--journal", text(&garbage), "--key", &public], 2),
        (vec!["verify", "--journal", text(&copy), "--store", text(&copy), "--key", &public], 2),
        // Genuine, and not signed by whom one trusts.
        (vec!["verify", "--store", text(&copy), "--key", &other], 1),
        (vec!["verify", "--store", text(&copy), "--key", &other, "--key", &public], 0),
    ] {
        let (got, document) = alone(&words);
        assert_eq!(got, Some(code), "{words:?}: {document}");
    }
    // Somebody has it open.
    gateway.restart();
    let (code, document) = alone(&["fsck", "--store", text(&store_file(&gateway))]);
    assert!(code == Some(2) && document.to_string().contains("open"), "{document}");
    clean(&gateway, "restarted");
}

/// A public key may begin with a hyphen: it is a key all the same, and here not that of these books.
#[test]
fn a_key_that_looks_like_an_option_is_a_key() {
    let upstream = Upstream::friendly();
    let mut gateway = Gateway::start(upstream.address, "");
    let public = public_key(&gateway);
    let key = gateway.key("1 TEST");
    call(&gateway, &key);
    gateway.operator(&["ledger", "head"]);
    stop(&mut gateway);
    let foreign = "-_qtKsQxYRt3_6ryRJnn1vSlhZloDbD_STkC3PFguXE";
    let (code, document) = told(&gateway, &["verify", "--key", foreign]);
    assert_eq!(code, Some(1), "{document}");
    let (code, document) = told(&gateway, &["verify", "--key", foreign, "--key", &public]);
    assert_eq!(code, Some(0), "{document}");
}

/// LED-41: what cannot be seen in the books alone is seen beside a head that somebody else has kept.
#[test]
fn a_witness_convicts_books_that_were_cut_off_with_their_heads() {
    let upstream = Upstream::friendly();
    let mut gateway = Gateway::start(upstream.address, "");
    let public = public_key(&gateway);
    let key = gateway.key("1 TEST");
    call(&gateway, &key);
    gateway.operator(&["ledger", "head"]);
    stop(&mut gateway);
    let older = std::fs::read(store_file(&gateway)).unwrap();
    gateway.restart();
    call(&gateway, &key);
    let head = gateway.operator(&["ledger", "head"]);
    let witness = gateway.folder().join("witness.jsonl");
    std::fs::write(&witness, format!("{head}\n")).unwrap();
    let words = ["verify", "--key", &public, "--witness", text(&witness)];
    let (code, document) = told(&gateway, &words);
    assert_eq!((code, &document["unsigned_tail"]), (Some(0), &json!(0)), "{document}");
    stop(&mut gateway);
    std::fs::write(store_file(&gateway), older).unwrap();
    let (code, document) = told(&gateway, &["verify", "--key", &public]);
    assert_eq!(code, Some(0), "books that were cut off whole are in order: {document}");
    let (code, document) = told(&gateway, &words);
    let size = head["size"].as_u64().unwrap();
    assert_eq!(code, Some(1), "{document}");
    let first_bad = document["first_bad_lsn"].as_u64().unwrap();
    assert!(first_bad <= size && first_bad == document["last_lsn"].as_u64().unwrap() + 1, "{document}");
}

/// An export is enough to check the whole journal, or a part of it.
#[test]
fn an_export_is_verified_by_itself() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let public = public_key(&gateway);
    let key = gateway.key("1 TEST");
    for _ in 0..4 {
        call(&gateway, &key);
    }
    let size = gateway.operator(&["ledger", "head"])["size"].as_u64().unwrap();
    let file = gateway.folder().join("journal.jsonl");
    for part in [vec![], vec!["--from", "3"], vec!["--from", "2", "--to", "5"], vec!["--to", "4"]] {
        let words = [&["export", "--format", "jsonl", "--out", text(&file)], &part[..]].concat();
        let output = gateway.command(&words);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let (code, document) = alone(&["verify", "--journal", text(&file), "--key", &public]);
        assert_eq!((code, &document["clean"]), (Some(0), &json!(true)), "{part:?}: {document}");
        let to_the_end = !part.contains(&"--to");
        assert_eq!(document["heads"] == json!(1), to_the_end, "{part:?}: {document}");
        let lines = std::fs::read_to_string(&file).unwrap();
        let first = lines.lines().nth(1).unwrap().to_owned();
        std::fs::write(&file, lines.replacen(&format!("{first}\n"), "", 1)).unwrap();
        let (code, document) = alone(&["verify", "--journal", text(&file), "--key", &public]);
        let lsn: Value = serde_json::from_str(&first).unwrap();
        assert_eq!((code, &document["first_bad_lsn"]), (Some(1), &lsn["lsn"]), "{part:?}: {document}");
    }
    assert_eq!(size, gateway.books().entries.len() as u64);
}

/// A backup of a gateway at work is whole, for its owner only, and replaces nothing.
#[test]
fn a_backup_is_taken_while_calls_run() {
    use std::os::unix::fs::PermissionsExt as _;
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    std::thread::scope(|scope| {
        let calls = scope.spawn(|| (0..40).for_each(|_| drop(call(&gateway, &key))));
        for number in 0..4 {
            let file = gateway.folder().join(format!("backup-{number}.redb"));
            gateway.operator(&["backup", "--to", text(&file)]);
            let (code, document) = alone(&["fsck", "--store", text(&file)]);
            assert_eq!(code, Some(0), "{document}");
            assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        calls.join().unwrap();
    });
    let file = gateway.folder().join("backup-0.redb");
    let before = std::fs::read(&file).unwrap();
    let (code, document) = told(&gateway, &["backup", "--to", text(&file)]);
    assert!(code == Some(2) && document.to_string().contains("already"), "{document}");
    assert_eq!(std::fs::read(&file).unwrap(), before);
    assert_eq!(gateway.books().count("capture"), 40);
}

/// LED-19: a restore reopens nothing. What was settled before the backup is known; what was settled after it is
/// refused by its old challenge, or its rail is asked and moves no money twice.
#[test]
fn a_restore_reopens_no_proof() {
    let (upstream, facilitator) = (Upstream::friendly(), Facilitator::start([]));
    let mut gateway = Gateway::start(upstream.address, &Facilitator::rails(&[facilitator.address]));
    let challenge = |gateway: &Gateway| http::post(gateway.address, CHAT, &[], &ask());
    let send = |gateway: &Gateway, header: &str, value: &str| {
        http::post(gateway.address, CHAT, &[(header, value)], &ask())
    };
    let wallet = Wallet::new(1);
    let paid = |gateway: &Gateway, network: &str| {
        let payment = wallet.pay(&challenge(gateway), network);
        let served = send(gateway, "payment-signature", &payment.v2());
        assert_eq!(served.status, 200, "{}", served.text());
        (payment, served.must("farthing-key").to_owned())
    };
    let (before, key_before) = paid(&gateway, BASE_SEPOLIA);
    let (before_test, _) = paid(&gateway, TEST);
    let unpaid = challenge(&gateway);
    let backup = gateway.folder().join("backup.redb");
    gateway.operator(&["backup", "--to", text(&backup)]);
    let (after, _) = paid(&gateway, BASE_SEPOLIA);
    let (after_test, _) = paid(&gateway, TEST);
    let after_v1 = wallet.pay(&challenge(&gateway), BASE_SEPOLIA);
    assert_eq!(send(&gateway, "x-payment", &after_v1.v1()).status, 200);
    let entries = gateway.books().entries.len();
    let moved = facilitator.transfers();
    assert_eq!(moved, 3);

    // Not over a store that is there, and not while a gateway has it.
    let restore = ["restore", "--from", text(&backup)];
    for running in [true, false] {
        let (code, document) = told(&gateway, &restore);
        assert!(code == Some(2) && document.to_string().contains("already"), "{document}");
        if running {
            stop(&mut gateway);
        }
    }
    std::fs::remove_file(store_file(&gateway)).unwrap();
    let (code, document) = told(&gateway, &restore);
    assert_eq!(code, Some(0), "{document}");
    assert!(document["epoch"].as_u64() > document["epoch_before"].as_u64(), "{document}");
    gateway.restart();
    let (code, document) = told(&gateway, &["fsck"]);
    assert_eq!((code, &document["clean"]), (Some(0), &json!(true)), "{document}");

    let hits = upstream.hits();
    let books = gateway.books();
    assert!(books.entries.len() < entries && books.count("deposit") == 2);
    // Before the backup: known, settled, served; nothing happens again.
    for payment in [&before, &before_test] {
        let again = send(&gateway, "payment-signature", &payment.v2());
        assert_ne!(again.status, 200, "{}", again.text());
        assert_eq!(again.json()["money"], "captured", "{}", again.text());
    }
    // After the backup: the challenge it answers is of a life that never was.
    for payment in [&after, &after_test] {
        let again = send(&gateway, "payment-signature", &payment.v2());
        assert_refused(&again, 402, "quote_expired", "nothing_taken");
    }
    // Signed now, for a challenge of then.
    for network in [BASE_SEPOLIA, TEST] {
        let late = send(&gateway, "payment-signature", &wallet.pay(&unpaid, network).v2());
        assert_refused(&late, 402, "quote_expired", "nothing_taken");
    }
    assert_eq!((upstream.hits(), facilitator.transfers()), (hits, moved));
    assert_eq!(gateway.books().entries.len(), books.entries.len());
    // Version 1 names no challenge: the rail is asked, tells the same transfer, and it is balance once.
    for _ in 0..2 {
        let again = send(&gateway, "x-payment", &after_v1.v1());
        assert_eq!(again.status, 200, "{}", again.text());
    }
    assert_eq!(facilitator.transfers(), moved, "the payer was charged twice");
    assert_eq!(gateway.books().count("deposit"), 3);
    // Credit of before is there, and life goes on.
    assert_eq!(http::get(gateway.address, "/farthing/balance", &[("x-api-key", &key_before)]).status, 200);
    paid(&gateway, BASE_SEPOLIA);
    assert_eq!(told(&gateway, &["fsck"]).0, Some(0));
}

/// A backup that somebody has changed is not restored, and is told by position.
#[test]
fn a_changed_backup_is_not_restored() {
    use redb::{Database, ReadableTable as _, TableDefinition};
    let upstream = Upstream::friendly();
    let mut gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    call(&gateway, &key);
    let backup = gateway.folder().join("backup.redb");
    gateway.operator(&["backup", "--to", text(&backup)]);
    stop(&mut gateway);
    std::fs::remove_file(store_file(&gateway)).unwrap();
    let database = Database::open(&backup).unwrap();
    let write = database.begin_write().unwrap();
    {
        let mut journal = write.open_table(TableDefinition::<u64, &[u8]>::new("journal")).unwrap();
        let mut bytes = journal.get(2).unwrap().unwrap().value().to_vec();
        // The first byte of the entry's id; before the row's entries are their lengths (specs/ledger.md).
        let entries = 3 + 8 * usize::from(u16::from_be_bytes([bytes[1], bytes[2]]));
        bytes[entries + 20] ^= 1;
        journal.insert(2, bytes.as_slice()).unwrap();
    }
    write.commit().unwrap();
    drop(database);
    let (code, document) = told(&gateway, &["restore", "--from", text(&backup)]);
    assert_eq!((code, &document["first_bad_lsn"]), (Some(1), &json!(2)), "{document}");
    assert!(!store_file(&gateway).exists());
}

/// Old entries leave the store, and the books are the same: balances, exports, proofs of integrity.
#[test]
fn rolled_entries_stay_in_the_books() {
    let upstream = Upstream::friendly();
    let mut gateway = Gateway::start(upstream.address, "");
    let public = public_key(&gateway);
    let key = gateway.key("1 TEST");
    let first = call(&gateway, &key);
    for _ in 0..5 {
        // Whoever reads the books ends the batch: a journal can be cut there.
        gateway.books();
        call(&gateway, &key);
    }
    let receipt = format!("/farthing/receipts/{}", first.must("farthing-receipt"));
    let fetch = |gateway: &Gateway, what: &str| {
        http::get(gateway.address, &format!("{receipt}{what}"), &[("x-api-key", &key)]).status
    };
    assert_eq!((fetch(&gateway, ""), fetch(&gateway, "/proof")), (200, 200));
    let balance = gateway.settled_balance(&key);
    let export = |gateway: &Gateway, more: &[&str]| {
        let output = gateway.command(&[&["export", "--format", "ledger"], more].concat());
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let whole = export(&gateway, &[]);
    let last = gateway.books().entries.len() as u64;
    assert_eq!(gateway.operator(&["ledger", "roll", "--keep-days", "1"])["rolled"], 0);

    let rolled = gateway.operator(&["ledger", "roll", "--through", &(last - 3).to_string()]);
    let through = rolled["last_lsn"].as_u64().unwrap();
    assert!(through > 1 && through <= last - 3 && rolled["first_lsn"] == 1, "{rolled}");
    assert!(Path::new(rolled["file"].as_str().unwrap()).exists(), "{rolled}");
    assert_eq!(gateway.settled_balance(&key), balance);
    assert_eq!(export(&gateway, &[]), whole);
    for words in [vec!["fsck"], vec!["verify", "--key", &public]] {
        let (code, document) = told(&gateway, &words);
        assert_eq!(
            (code, &document["clean"], &document["first_lsn"]),
            (Some(0), &json!(true), &json!(1)),
            "{document}"
        );
    }
    assert_eq!((fetch(&gateway, ""), fetch(&gateway, "/proof")), (404, 404));
    // The rest alone, without its segments: from where it begins, with what was there before.
    let backup = gateway.folder().join("backup.redb");
    gateway.operator(&["backup", "--to", text(&backup)]);
    for words in [vec!["fsck"], vec!["verify", "--key", &public]] {
        let (code, document) = alone(&[&words[..], &["--store", text(&backup)]].concat());
        assert_eq!((code, &document["first_lsn"]), (Some(0), &json!(through + 1)), "{document}");
    }
    let (code, part) = read_text(&["export", "--format", "ledger", "--store", text(&backup)]);
    assert!(code == Some(0) && part.contains(&format!("; LSN {} to {last}", through + 1)), "{part}");
    assert!(part.contains("* opening"), "{part}");
    let (code, _) = read_text(&["export", "--format", "ledger", "--store", text(&backup), "--from", "1"]);
    assert_eq!(code, Some(2));
    // It goes on, through a crash, and rolls again.
    call(&gateway, &key);
    gateway.crash_and_restart();
    call(&gateway, &key);
    gateway.operator(&["ledger", "roll", "--through", "100000"]);
    assert_eq!(told(&gateway, &["fsck"]).0, Some(0));
    assert_eq!(told(&gateway, &["verify", "--key", &public]).0, Some(0));
    // A segment that is gone is missed.
    stop(&mut gateway);
    let segments = gateway.folder().join("store/segments");
    let mut files: Vec<_> = std::fs::read_dir(&segments).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 2, "{files:?}");
    std::fs::remove_file(&files[0]).unwrap();
    for words in [vec!["fsck"], vec!["verify", "--key", &public]] {
        let (code, document) = told(&gateway, &words);
        assert_eq!((code, &document["first_bad_lsn"]), (Some(1), &json!(1)), "{words:?}: {document}");
    }
}

fn read_text(words: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(binary()).args(words).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}
