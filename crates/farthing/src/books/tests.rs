//! Golden texts of one small journal, and properties of any journal.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use ledger::merkle::{Frontier, leaf_hash};
use ledger::{AccountId, Chart, Draft, Entry, Flags, Kind, Leg, leg_asset, memo_asset};
use money::{Amount, Asset};
use proptest::prelude::*;

use super::{Export, Format, Line, Names, Position};

/// 2026-11-19T12:00:00Z
const NOON: u64 = 1_795_089_600_000;
const DAY: u64 = 86_400_000;

/// Writes entries as the store's writer does.
#[derive(Default)]
struct Journal {
    entries: Vec<Entry>,
    balances: BTreeMap<(u16, AccountId), i64>,
}

impl Journal {
    fn post(&mut self, kind: Kind, time_ms: u64, reference: &str, legs: &[(AccountId, u16, i64)]) {
        let mut legs: Vec<Leg> = legs
            .iter()
            .map(|&(account, asset, units)| {
                let balance = self.balances.entry((asset, account)).or_default();
                *balance += units;
                let amount = Amount::from_units;
                Leg { account, asset, amount: amount(units), balance_after: amount(*balance) }
            })
            .collect();
        legs.sort_by_key(|leg| (leg.asset, leg.account));
        let lsn = self.entries.len() as u64 + 1;
        let is_charge = |leg: &&Leg| leg.asset < memo_asset(Asset::Usd) && leg.amount > Amount::ZERO;
        let charged: i64 = legs.iter().filter(is_charge).map(|leg| leg.amount.units()).sum();
        let draft = Draft {
            kind,
            flags: Flags::default(),
            time_ms,
            id: [u8::try_from(lsn % 256).unwrap(); 16],
            key: [0; 32],
            reference: reference.to_owned(),
            corrects: if kind == Kind::Adjust { [1; 16] } else { [0; 16] },
            price_version: 0,
            cost_femto: if kind == Kind::Capture { charged as u128 * 1_000_000 } else { 0 },
            legs: vec![],
        };
        let previous = self.entries.last().map_or([0; 32], |entry| Entry::hash_of(&entry.bytes()));
        self.entries.push(Entry { draft, lsn, legs, previous });
    }
}

fn payer(number: u8) -> AccountId {
    AccountId([number; 16])
}

fn test_rail() -> AccountId {
    Chart::RailClearing("test".into()).id()
}

fn usage() -> AccountId {
    Chart::Usage("m".into()).id()
}

fn names() -> Names {
    Names::new([(usage(), Chart::Usage("m".into()).name())])
}

/// Two payers, two days, a batch with its income, a budget, an overrun, a correction, a reference that is
/// a trap.
fn sample() -> Journal {
    let (usd, memo) = (leg_asset(Asset::Usd), memo_asset(Asset::Usd));
    let mut journal = Journal::default();
    let deposit = |units: i64| [(payer(1), usd, units), (test_rail(), usd, -units)];
    journal.post(Kind::Deposit, NOON, "0xabc", &deposit(5_000_000_000));
    let clearing = Chart::UsageClearing.id();
    journal.post(Kind::Capture, NOON + 1, "", &[(payer(1), usd, -30_000), (clearing, usd, 30_000)]);
    let budgeted = [
        (payer(1), usd, -1),
        (clearing, usd, 3),
        (Chart::OverrunLoss.id(), usd, -2),
        (payer(9), memo, -1),
        (Chart::Memo.id(), memo, 1),
    ];
    journal.post(Kind::Capture, NOON + 2, "", &budgeted);
    journal.post(Kind::Income, NOON + 2, "lsn 2-3", &[(clearing, usd, -30_003), (usage(), usd, 30_003)]);
    // The clock was set back: the book does not turn back.
    journal.post(Kind::Deposit, NOON - DAY, "=a, \"b\"; c\n", &[(payer(2), usd, 7), (test_rail(), usd, -7)]);
    journal.post(Kind::Capture, NOON + DAY, "", &[(payer(2), usd, -7), (clearing, usd, 7)]);
    journal.post(Kind::Income, NOON + DAY, "lsn 6-6", &[(clearing, usd, -7), (usage(), usd, 7)]);
    journal.post(Kind::Adjust, NOON + DAY + 1, "", &[(payer(1), usd, -1_000), (test_rail(), usd, 1_000)]);
    journal
}

fn export(journal: &Journal, format: Format, daily: bool, range: RangeInclusive<u64>) -> String {
    let mut frontier = Frontier::default();
    let skipped = journal.entries.iter().filter(|entry| entry.lsn < *range.start());
    skipped.for_each(|entry| frontier.append(leaf_hash(&entry.bytes())));
    let (first, last) = (*range.start(), *range.end());
    let position = Position { store_id: [0xab; 16], epoch: 1, first, last, frontier };
    let mut export = Export::new(format, daily, names(), position);
    let mut out = String::new();
    export.start(&mut out);
    let mut before = BTreeMap::new();
    for entry in journal.entries.iter().filter(|entry| entry.lsn < *range.start()) {
        for leg in &entry.legs {
            before.insert((leg.account, leg.asset), leg.balance_after.units());
        }
    }
    for ((account, asset), units) in before {
        export.opening(account, asset, units).unwrap();
    }
    for entry in journal.entries.iter().filter(|entry| range.contains(&entry.lsn)) {
        export.entry(entry, &entry.bytes(), &mut out).unwrap();
    }
    export.end(&[], &mut out);
    out
}

/// Compares with `golden/NAME`; with `FARTHING_GOLDEN=write` writes it, to be read as a diff.
fn golden(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/books/golden").join(name);
    if std::env::var("FARTHING_GOLDEN").is_ok_and(|value| value == "write") {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap_or_default(), "{name}");
}

/// FIN-82, FIN-83, FIN-84, FIN-85, FIN-86, FIN-87, FIN-88; and memo legs left out (LED-15).
#[test]
fn one_text_for_hledger_and_ledger() {
    let text = export(&sample(), Format::Hledger, false, 1..=8);
    assert_eq!(text, export(&sample(), Format::Ledger, true, 1..=8));
    golden("sample.journal", &text);
}

/// FIN-89, FIN-90.
#[test]
fn one_for_beancount() {
    let text = export(&sample(), Format::Beancount, false, 1..=8);
    golden("sample.beancount", &text);
}

/// FIN-91: a part of the journal opens with what was there before it.
#[test]
fn a_part_starts_from_the_balances_before_it() {
    let text = export(&sample(), Format::Ledger, false, 5..=8);
    golden("part.journal", &text);
    let text = export(&sample(), Format::Csv, true, 5..=8);
    golden("part-daily.csv", &text);
}

#[test]
fn detail_has_every_leg_and_says_which_are_no_money() {
    golden("sample.csv", &export(&sample(), Format::Csv, false, 1..=8));
    golden("daily.csv", &export(&sample(), Format::Csv, true, 1..=8));
    let lines = export(&sample(), Format::Jsonl, false, 1..=8);
    golden("sample.jsonl", &lines);
}

/// What is readable in a line cannot say anything else than its bytes.
#[test]
fn lines_read_back_and_a_changed_word_shows() {
    let text = export(&sample(), Format::Jsonl, false, 1..=8);
    let mut lines = text.lines();
    let (store_id, frontier) = ([0xab; 16], Frontier::default());
    let start = Line::Start(Position { store_id, epoch: 1, first: 1, last: 8, frontier });
    assert_eq!(Line::parse(lines.next().unwrap()), Some(start));
    for (line, entry) in lines.zip(sample().entries) {
        let read = |line: &str| Line::parse(line).unwrap();
        assert_eq!(read(line), Line::Entry { lsn: entry.lsn, bytes: entry.bytes(), faithful: true });
        for (from, to) in [
            ("\"amount\":\"", "\"amount\":\"1"),
            ("\"kind\":\"", "\"kind\":\"x"),
            ("liabilities:credit", "income:usage"),
            ("\"hash\":\"", "\"hash\":\"0"),
            ("\"time\":\"2026", "\"time\":\"2025"),
            ("\"reference\":\"", "\"reference\":\"x"),
            ("\"name\":null", "\"name\":\"usage:m\""),
        ] {
            if line.contains(from) {
                let changed = line.replacen(from, to, 1);
                assert!(matches!(read(&changed), Line::Entry { faithful: false, .. }), "{from} {changed}");
            }
        }
    }
    for nonsense in ["", "{}", "[]", "{\"head\":{}}", "{\"bytes\":\"0\",\"lsn\":1}"] {
        assert_eq!(Line::parse(nonsense), None, "{nonsense}");
    }
}

#[test]
fn an_empty_journal_is_an_empty_book() {
    for format in [Format::Jsonl, Format::Csv, Format::Ledger, Format::Beancount] {
        let text = export(&Journal::default(), format, false, RangeInclusive::new(1, 0));
        assert!(!text.is_empty() && !text.contains("close") && !text.contains("LSN"), "{text}");
    }
}

/// Sums of postings, and the last asserted balance, by account and commodity, of a plain-text journal.
fn read_plain(text: &str) -> (BTreeMap<String, i128>, BTreeMap<String, i128>) {
    let nano = |text: &str| -> i128 { text.replace('.', "").parse().unwrap() };
    let (mut sums, mut asserted) = (BTreeMap::new(), BTreeMap::new());
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [account, amount, asset] if line.starts_with("    ") && account.contains(':') => {
                *sums.entry(format!("{account} {asset}")).or_default() += nano(amount);
            }
            [account, _, _, "=", balance, asset] => {
                asserted.insert(format!("{account} {asset}"), nano(balance));
            }
            [_, "balance", account, balance, "~", _, asset] => {
                asserted.insert(format!("{account} {asset}"), nano(balance));
            }
            _ => {}
        }
    }
    (sums, asserted)
}

proptest! {
    /// FIN-91: whatever happened, the totals of every form are the journal's.
    #[test]
    fn totals_are_the_journals(
        moves in proptest::collection::vec((0u8..3, 0u8..4, 0u64..3, 1i64..1_000_000_000_000), 1..40),
        cut in 1u64..40,
    ) {
        let assets = [Asset::Usd, Asset::Test, Asset::Jpy].map(leg_asset);
        let mut journal = Journal::default();
        let mut time = NOON;
        for (asset, what, days, units) in moves {
            time += days * DAY;
            let asset = assets[usize::from(asset)];
            let who = payer(u8::try_from(units % 5).unwrap());
            let (kind, from, to) = match what {
                0 | 1 => (Kind::Deposit, test_rail(), who),
                2 => (Kind::Capture, who, usage()),
                _ => (Kind::Refund, who, test_rail()),
            };
            journal.post(kind, time, "r", &[(from, asset, -units), (to, asset, units)]);
        }
        let last = journal.entries.len() as u64;
        let names = names();
        for first in [1, cut.min(last)] {
            let mut expected: BTreeMap<String, i128> = BTreeMap::new();
            for entry in &journal.entries {
                for leg in &entry.legs {
                    let asset = Asset::from_code(u8::try_from(leg.asset).unwrap()).unwrap();
                    let key = format!("{} {asset}", names.exported(leg.account));
                    *expected.entry(key).or_default() -= i128::from(leg.amount.units());
                }
            }
            let text = export(&journal, Format::Ledger, false, first..=last);
            let (sums, asserted) = read_plain(&text);
            prop_assert_eq!(&sums.into_iter().filter(|(_, sum)| *sum != 0).collect::<BTreeMap<_, _>>(),
                            &expected.iter().filter(|(_, sum)| **sum != 0).map(|(k, v)| (k.clone(), *v)).collect());
            for (account, balance) in &asserted {
                prop_assert_eq!(balance, &expected[account], "{}", account);
            }
            let text = export(&journal, Format::Beancount, false, first..=last);
            let (_, asserted) = read_plain(&text);
            prop_assert!(!asserted.is_empty());
            for (account, balance) in &asserted {
                let plain = expected.iter().find(|(name, _)| name.eq_ignore_ascii_case(account)).unwrap();
                prop_assert_eq!(balance, plain.1, "{}", account);
            }
        }
        // Every leg is in the detail, and the days sum to the same.
        let rows = export(&journal, Format::Csv, false, 1..=last);
        prop_assert_eq!(rows.lines().count(), 1 + 2 * journal.entries.len());
    }
}
