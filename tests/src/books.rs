//! The journal as the operator sees it, folded anew: balances that are not the sum of their entries fail.

use std::collections::HashMap;

use serde_json::Value;

use crate::gateway::{Gateway, nano, wait_for};

/// Every entry and balance of a gateway.
#[derive(Debug)]
pub struct Books {
    /// Oldest first.
    pub entries: Vec<Value>,
    balances: HashMap<(String, String, bool), i64>,
}

impl Books {
    /// Reads the journal and checks it: each entry sums to zero per asset, each balance is the sum of its legs.
    pub fn read(gateway: &Gateway) -> Self {
        let shown = gateway.operator(&["ledger", "show", "--limit", "10000"]);
        let entries = shown["entries"].as_array().unwrap().clone();
        let mut folded: HashMap<(String, String, bool), i64> = HashMap::new();
        for (place, entry) in entries.iter().enumerate() {
            assert_eq!(entry["lsn"], place + 1, "a gap in the journal");
            let mut sums: HashMap<(&str, bool), i64> = HashMap::new();
            for leg in entry["legs"].as_array().unwrap() {
                let (amount, memo) = (nano(&leg["amount"]["amount"]), leg["memo"] == true);
                let asset = leg["amount"]["currency"].as_str().unwrap();
                *sums.entry((asset, memo)).or_default() += amount;
                let balance = folded.entry(key(leg, asset, memo)).or_default();
                *balance += amount;
                assert_eq!(*balance, nano(&leg["balance_after"]["amount"]), "{entry}");
            }
            assert!(sums.values().all(|sum| *sum == 0), "debits and credits differ: {entry}");
        }
        let balances: HashMap<_, _> = shown["balances"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| {
                let asset = row["balance"]["currency"].as_str().unwrap();
                (key(row, asset, row["memo"] == true), nano(&row["balance"]["amount"]))
            })
            .collect();
        assert_eq!(folded, balances, "a balance is not the fold of the journal");
        check_income(&entries);
        Self { entries, balances }
    }

    /// Number of entries of a kind: `deposit`, `capture`.
    pub fn count(&self, kind: &str) -> usize {
        self.entries.iter().filter(|entry| entry["kind"] == kind).count()
    }

    /// What an account has, in nano units; 0 when it has never been heard of.
    pub fn balance(&self, account: &str) -> i64 {
        let rows = self.balances.iter().filter(|((id, _, memo), _)| id == account && !memo);
        rows.map(|(_, balance)| balance).sum()
    }

    /// What the accounts have whose names begin so, in nano units: what came in by a rail is less than nothing.
    pub fn named(&self, start: &str) -> i64 {
        let legs = self.entries.iter().flat_map(|entry| entry["legs"].as_array().unwrap());
        let named = |leg: &&Value| leg["name"].as_str().is_some_and(|name| name.starts_with(start));
        legs.filter(named).filter(|leg| leg["memo"] == false).map(|leg| nano(&leg["amount"]["amount"])).sum()
    }

    /// What was taken from an account by captures, in nano units.
    pub fn charged(&self, account: &str) -> i64 {
        let captures = self.entries.iter().filter(|entry| entry["kind"] == "capture");
        let legs = captures.flat_map(|entry| entry["legs"].as_array().unwrap());
        legs.filter(|leg| leg["account"] == account && leg["memo"] == false)
            .map(|leg| -nano(&leg["amount"]["amount"]))
            .sum()
    }
}

/// Income is posted once per batch (LED-40): each such entry follows the calls it names and adds up to them.
fn check_income(entries: &[Value]) {
    let cleared = |entry: &Value| {
        let legs = entry["legs"].as_array().unwrap().iter().filter(|leg| leg["name"] == "usage_clearing");
        legs.map(|leg| nano(&leg["amount"]["amount"])).sum::<i64>()
    };
    let mut open = 0;
    for entry in entries {
        open += cleared(entry);
        if entry["kind"] == "income" {
            assert_eq!(open, 0, "income that is not that of its calls: {entry}");
            assert!(entry["reference"].as_str().unwrap().starts_with("lsn "), "{entry}");
        }
    }
    assert_eq!(open, 0, "calls whose income was never posted");
}

fn key(row: &Value, asset: &str, memo: bool) -> (String, String, bool) {
    (row["account"].as_str().unwrap().to_owned(), asset.to_owned(), memo)
}

impl Gateway {
    /// The books, which must close.
    pub fn books(&self) -> Books {
        Books::read(self)
    }

    /// The books once they have so many captures: they are written behind the answer.
    pub fn books_after(&self, captures: usize) -> Books {
        wait_for("captures in the journal", || {
            let books = self.books();
            (books.count("capture") >= captures).then_some(books)
        })
    }
}
