//! The journal in the forms of other tools, judged by those tools (FIN-80, FIN-82 to FIN-91, LED-39).
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::collections::BTreeMap;
use std::process::Command;

use farthing_tests::accountant::ACCOUNTANTS;
use farthing_tests::facilitator::Facilitator;
use farthing_tests::gateway::{Gateway, binary, nano};
use farthing_tests::http;
use farthing_tests::payer::{BASE_SEPOLIA, TEST, Wallet};
use farthing_tests::upstream::{KEY, Upstream};
use proof::credit_key::attenuate;
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

fn ask(model: &str) -> Value {
    json!({"model": model, "max_tokens": 100, "messages": []})
}

/// A gateway with a history: operator's credit, payments on two rails, calls to two models, a budget.
fn with_history(upstream: &Upstream, facilitator: &Facilitator) -> Gateway {
    let gateway = Gateway::start(upstream.address, &Facilitator::rails(&[facilitator.address]));
    let key = gateway.key("1.000000001 TEST");
    for model in ["m", "n"] {
        assert_eq!(http::post(gateway.address, CHAT, &[("x-api-key", &key)], &ask(model)).status, 200);
    }
    let budgeted = attenuate(&key, "budget=0011223344556677:TEST:900000000").unwrap();
    assert_eq!(http::post(gateway.address, CHAT, &[("x-api-key", &budgeted)], &ask("m")).status, 200);
    for network in [TEST, BASE_SEPOLIA] {
        let offered = http::post(gateway.address, CHAT, &[], &ask("m"));
        let payment = Wallet::new(1).pay(&offered, network);
        let paid = http::post(gateway.address, CHAT, &[("payment-signature", &payment.v2())], &ask("m"));
        assert_eq!(paid.status, 200, "{}", paid.text());
    }
    gateway.books_after(5);
    gateway
}

fn export(gateway: &Gateway, format: &str, more: &[&str]) -> String {
    let words = [&["export", "--format", format], more].concat();
    let output = gateway.command(&words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Money legs of the journal by exported account and asset, debit positive.
fn expected(gateway: &Gateway) -> BTreeMap<String, i64> {
    let mut sums = BTreeMap::new();
    for entry in gateway.books().entries {
        for leg in entry["legs"].as_array().unwrap().iter().filter(|leg| leg["memo"] == false) {
            let account = match leg["name"].as_str() {
                None => "liabilities:credit".to_owned(),
                Some(name) if name.starts_with("usage:") => "income:usage".to_owned(),
                Some("usage_clearing") => "equity:usage-clearing".to_owned(),
                Some(name) => name.replace("rail_clearing:", "assets:psp:"),
            };
            let line = format!("{account} {}", leg["amount"]["currency"].as_str().unwrap());
            *sums.entry(line).or_default() -= nano(&leg["amount"]["amount"]);
        }
    }
    sums.retain(|_, sum| *sum != 0);
    sums
}

/// Sums of the postings of a plain-text journal.
fn posted(text: &str) -> BTreeMap<String, i64> {
    let mut sums = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with(' ')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [account, amount, asset, ..] = words[..]
            && account.contains(':')
            && amount.contains('.')
        {
            let line = format!("{} {asset}", account.to_lowercase());
            *sums.entry(line).or_default() += nano(&json!(amount));
        }
    }
    sums.retain(|_, sum| *sum != 0);
    sums
}

/// FIN-82 to FIN-91: accepted whole and in part, with totals of the journal; and nothing else is.
#[test]
fn accountants_accept_the_books_and_refuse_any_changed_amount() {
    let (upstream, facilitator) = (Upstream::friendly(), Facilitator::start([]));
    let gateway = with_history(&upstream, &facilitator);
    let sums = expected(&gateway);
    assert!(sums.len() >= 6, "{sums:?}");
    for accountant in ACCOUNTANTS {
        let text = export(&gateway, accountant.format, &[]);
        let lower: BTreeMap<_, _> = sums.iter().map(|(line, sum)| (line.to_lowercase(), *sum)).collect();
        let said: BTreeMap<_, _> =
            posted(&text).iter().map(|(line, sum)| (line.to_lowercase(), *sum)).collect();
        assert_eq!(said, lower, "{}", accountant.format);
        assert!(text.contains("; LSN 1 to ") && !text.contains("memo"), "{text}");
        let Some(program) = accountant.find() else { continue };
        let file = gateway.folder().join(format!("books.{}", accountant.format));
        let judged = |text: &str| {
            std::fs::write(&file, text).unwrap();
            accountant.judge(&program, &file)
        };
        for part in [text.clone(), export(&gateway, accountant.format, &["--from", "4", "--to", "7"])] {
            let said = judged(&part);
            let (out, err) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
            assert!(said.status.success(), "{}: {out}{err}\n{part}", accountant.name);
        }
        // One unit of one amount, wherever it stands: a posting, or an asserted balance.
        let amounts = amounts(&text);
        assert!(amounts.len() >= 15, "{text}");
        for at in &amounts {
            let changed = changed_at(&text, *at);
            let said = judged(&changed);
            let line = changed[..*at].lines().count();
            assert!(
                !said.status.success(),
                "{} accepts a change in line {line} of\n{changed}",
                accountant.name
            );
        }
    }
}

/// Places of the last digit of each amount.
fn amounts(text: &str) -> Vec<usize> {
    let bytes = text.as_bytes();
    let is_amount = |at: usize| {
        let digits = bytes[..at].iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        digits == 9 && bytes[at - 10] == b'.' && !text[..at].ends_with("1.000000000")
    };
    // A tolerance of zero is no amount, and neither is the zero that a balance is asserted on.
    let is_zero = |at: usize| {
        let line = text[..at].lines().last().unwrap_or_default();
        let word = line.split_whitespace().last().unwrap_or_default();
        word == "0.000000000"
    };
    (10..text.len())
        .filter(|at| bytes[*at] == b' ' && is_amount(*at) && !is_zero(*at))
        .map(|at| at - 1)
        .collect()
}

fn changed_at(text: &str, at: usize) -> String {
    let digit = (text.as_bytes()[at] - b'0' + 1) % 10;
    format!("{}{digit}{}", &text[..at], &text[at + 1..])
}

/// FIN-91: the same bytes whether a gateway runs, has stopped, or a file is given.
#[test]
fn an_export_is_the_same_from_everywhere() {
    let (upstream, facilitator) = (Upstream::friendly(), Facilitator::start([]));
    let mut gateway = with_history(&upstream, &facilitator);
    let formats = ["csv", "ledger", "beancount"];
    let live: Vec<String> = formats.iter().map(|format| export(&gateway, format, &[])).collect();
    gateway.signal(15);
    assert_eq!(gateway.wait().code(), Some(0));
    let copy = gateway.folder().join("copy.redb");
    std::fs::copy(gateway.folder().join("store/farthing.redb"), &copy).unwrap();
    let before = std::fs::read(&copy).unwrap();
    for (format, live) in formats.iter().zip(&live) {
        assert_eq!(&export(&gateway, format, &[]), live, "{format}, stopped");
        let store = copy.to_str().unwrap();
        let output = Command::new(binary()).args(["export", "--format", format, "--store", store]).output();
        assert_eq!(&String::from_utf8(output.unwrap().stdout).unwrap(), live, "{format}, from a file");
    }
    assert_eq!(std::fs::read(&copy).unwrap(), before, "a file that was read has changed");
}

/// Every leg of every entry, memo legs too, exact.
#[test]
fn detail_is_the_journal() {
    let (upstream, facilitator) = (Upstream::friendly(), Facilitator::start([]));
    let gateway = with_history(&upstream, &facilitator);
    let books = gateway.books();
    let mut legs = Vec::new();
    for entry in &books.entries {
        for leg in entry["legs"].as_array().unwrap() {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            legs.push((
                entry["lsn"].as_u64().unwrap(),
                text(&leg["account"]),
                text(&leg["amount"]["amount"]),
                text(&leg["balance_after"]["amount"]),
                leg["memo"] == true,
            ));
        }
    }
    assert!(legs.iter().any(|leg| leg.4), "no memo leg");
    let csv = export(&gateway, "csv", &[]);
    let columns: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    let rows: Vec<_> = csv
        .lines()
        .skip(1)
        .map(|line| {
            let cells: BTreeMap<&str, &str> = columns.iter().copied().zip(line.split(',')).collect();
            (
                cells["lsn"].parse().unwrap(),
                cells["account"].to_owned(),
                cells["amount"].to_owned(),
                cells["balance_after"].to_owned(),
                cells["memo"] == "true",
            )
        })
        .collect();
    assert_eq!(rows, legs);
    let lines = export(&gateway, "jsonl", &[]);
    let entries: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&entries[0]["first_lsn"], &entries[0]["last_lsn"]), (&json!(1), &json!(books.entries.len())));
    for (line, entry) in entries[1..].iter().zip(&books.entries) {
        assert_eq!((&line["lsn"], &line["id"], &line["kind"]), (&entry["lsn"], &entry["id"], &entry["kind"]));
        assert_eq!(line["legs"].as_array().unwrap().len(), entry["legs"].as_array().unwrap().len());
    }
    // By day: the last balances are the journal's.
    let daily = export(&gateway, "csv", &["--daily"]);
    let mut sums = BTreeMap::new();
    for line in daily.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        *sums.entry(format!("{} {}", cells[3], cells[4])).or_default() += nano(&json!(cells[5]));
    }
    assert_eq!(sums, expected(&gateway));
}

/// A file is there whole or not at all, and for nobody else; no copy of the books stays behind.
#[test]
fn into_a_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    gateway.key("1 TEST");
    let file = gateway.folder().join("books.csv");
    let words = ["export", "--format", "csv", "--out", file.to_str().unwrap(), "--json"];
    let told: Value = serde_json::from_slice(&gateway.command(&words).stdout).unwrap();
    assert_eq!((&told["entries"], &told["first_lsn"], &told["last_lsn"]), (&json!(1), &json!(1), &json!(1)));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), export(&gateway, "csv", &[]));
    for (words, why) in [
        (vec!["export", "--format", "csv", "--store", "/nowhere/x.redb"], "/nowhere/x.redb"),
        (vec!["export", "--format", "ledger", "--daily"], "--daily"),
        (vec!["export", "--format", "csv", "--out", "/nowhere/books.csv"], "/nowhere"),
    ] {
        let output = gateway.command(&words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
        assert!(said.contains(why), "{words:?}: {said}");
    }
    let folder = tempfile::tempdir().unwrap();
    let exported = Command::new(binary())
        .args(["export", "--format", "csv", "--config"])
        .arg(gateway.config())
        .env("UPSTREAM_KEY", KEY)
        .env("TMPDIR", folder.path())
        .output()
        .unwrap();
    assert!(exported.status.success());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "a copy of the books is left behind");
}
