//! Plain-text journals: one text for hledger and ledger, one for beancount (FIN-82 to FIN-90).
//!
//! Each movement of money is a transaction of its own, one per asset, so that no tool may think that one
//! asset was exchanged for another. Charges are posted once a day. Every day ends with the balances the
//! writer recorded: a changed amount breaks the transaction it stands in, or the assertion after it.

use std::collections::{BTreeMap, BTreeSet};

use ledger::{AccountId, Entry, Kind};
use money::Asset;

use super::amount::decimal;
use super::day::Day;
use super::totals::{Line, Totals};
use super::{BooksError, Names, Position};

/// Which tools read the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// hledger and ledger.
    Ledger,
    /// beancount.
    Beancount,
}

/// A plain-text journal that is being written.
pub(crate) struct Plain {
    dialect: Dialect,
    position: Position,
    totals: Totals,
    /// Lines of directives that have been written; each stands before its first use.
    declared: BTreeSet<String>,
    /// Moved since the last close.
    moved: BTreeSet<Line>,
    today: Option<Today>,
}

/// What is kept until the day ends.
struct Today {
    day: Day,
    usage: BTreeMap<Line, i128>,
    charges: BTreeMap<Asset, Charges>,
}

/// Which charges a day's usage is made of.
#[derive(Clone, Copy, Default)]
struct Charges {
    first: u64,
    last: u64,
    calls: u64,
}

impl Plain {
    pub(super) fn new(dialect: Dialect, names: Names, position: Position) -> Self {
        let totals = Totals::new(names, dialect == Dialect::Beancount);
        Self { dialect, position, totals, declared: BTreeSet::new(), moved: BTreeSet::new(), today: None }
    }

    pub(super) fn start(&mut self, out: &mut String) {
        let Position { store_id, epoch, first, last, .. } = &self.position;
        let store = wire::hex::encode(store_id);
        out.push_str(&format!("; farthing: books of store {store}, epoch {epoch}\n"));
        out.push_str(&match last < first {
            true => "; no entry\n".to_owned(),
            false => format!("; LSN {first} to {last}\n"),
        });
        match self.dialect {
            Dialect::Ledger => {
                for tag in ["lsn", "id", "ref", "corrects", "calls"] {
                    out.push_str(&format!("tag {tag}\n"));
                }
            }
            Dialect::Beancount => out.push_str("option \"title\" \"farthing\"\n"),
        }
    }

    pub(super) fn opening(&mut self, account: AccountId, asset: u16, units: i64) -> Result<(), BooksError> {
        if let Some(line) = self.totals.line(account, asset, 0)? {
            self.totals.set(&line, account, asset, units);
        }
        Ok(())
    }

    pub(super) fn entry(&mut self, entry: &Entry, out: &mut String) -> Result<(), BooksError> {
        let mut money = Vec::with_capacity(entry.legs.len());
        for leg in &entry.legs {
            money.extend(self.totals.line(leg.account, leg.asset, entry.lsn)?.map(|line| (line, leg)));
        }
        if money.is_empty() {
            return Ok(());
        }
        // First: the day before closes with the balances it had.
        self.turn_to(Day::of(entry.draft.time_ms), out);
        let mut lines: BTreeMap<Line, i128> = BTreeMap::new();
        for (line, leg) in money {
            let units = self.totals.take(&line, leg);
            *lines.entry(line).or_default() += units;
        }
        let Some(today) = &mut self.today else { return Ok(()) };
        let kind = entry.draft.kind;
        match kind {
            Kind::Capture | Kind::Income => {
                let assets: BTreeSet<Asset> = lines.keys().map(|(_, asset)| *asset).collect();
                for asset in assets {
                    today.charges.entry(asset).or_default().take(entry.lsn, kind == Kind::Capture);
                }
                for (line, units) in lines {
                    *today.usage.entry(line).or_default() += units;
                }
            }
            Kind::Deposit | Kind::Refund | Kind::Adjust => {
                let day = today.day;
                self.post(day, kind.name(), &facts(entry), &lines, out);
            }
        }
        Ok(())
    }

    pub(super) fn end(&mut self, out: &mut String) {
        let Some(today) = self.today.take() else { return };
        // The last word is on every account, whenever it last moved.
        self.moved.extend(self.totals.open().into_iter().map(|(line, _)| line));
        self.close(&today, out);
    }

    /// Closes the day before, if this is a later one. A clock that was set back turns no page back: both
    /// families of tools want dates in order, and the journal's order is the LSN's.
    fn turn_to(&mut self, day: Day, out: &mut String) {
        match self.today.take() {
            Some(today) if day <= today.day => {
                self.today = Some(today);
                return;
            }
            Some(today) => self.close(&today, out),
            None => {
                let balances = self.totals.open().into_iter().collect();
                self.post(day, "opening", &[], &balances, out);
            }
        }
        self.today = Some(Today { day, usage: BTreeMap::new(), charges: BTreeMap::new() });
    }

    /// The day's charges, then what every account that moved has.
    fn close(&mut self, today: &Today, out: &mut String) {
        for (asset, Charges { first, last, calls }) in &today.charges {
            let lsn = if first == last { first.to_string() } else { format!("{first}-{last}") };
            let facts = [("lsn", lsn), ("calls", calls.to_string())];
            let of_asset = today.usage.iter().filter(|((_, of), _)| of == asset);
            let lines = of_asset.map(|(line, units)| (line.clone(), *units)).collect();
            self.post(today.day, "usage", &facts, &lines, out);
        }
        let moved = std::mem::take(&mut self.moved);
        if !moved.is_empty() {
            out.push_str(&match self.dialect {
                Dialect::Ledger => {
                    let declared = self.declare("payee close");
                    let gap = if declared.is_empty() { "" } else { "\n" };
                    format!("{declared}{gap}\n{} * close\n", today.day)
                }
                Dialect::Beancount => "\n".to_owned(),
            });
        }
        for line in &moved {
            let (account, asset) = line;
            let (nothing, balance) = (decimal(0, *asset), decimal(self.totals.balance(line), *asset));
            out.push_str(&match self.dialect {
                Dialect::Ledger => format!("    {account}  {nothing} {asset} = {balance} {asset}\n"),
                // It speaks of the morning.
                Dialect::Beancount => {
                    format!("{} balance {account}  {balance} ~ {nothing} {asset}\n", today.day.next())
                }
            });
        }
    }

    /// One transaction per asset; none where nothing moved.
    fn post(
        &mut self,
        day: Day,
        what: &str,
        facts: &[(&str, String)],
        lines: &BTreeMap<Line, i128>,
        out: &mut String,
    ) {
        for asset in Asset::ALL {
            let moved = || lines.iter().filter(|((_, of), units)| *of == asset && **units != 0);
            if moved().next().is_none() {
                continue;
            }
            out.push_str(&self.directives(day, what, asset, moved().map(|((account, _), _)| account)));
            let (quote, indent, comment) = match self.dialect {
                Dialect::Ledger => ("", "    ", "; "),
                Dialect::Beancount => ("\"", "  ", ""),
            };
            out.push_str(&format!("\n{day} * {quote}{what}{quote}\n"));
            for (name, value) in facts {
                out.push_str(&format!("{indent}{comment}{name}: {quote}{value}{quote}\n"));
            }
            for (line, units) in moved() {
                self.moved.insert(line.clone());
                let (account, _) = line;
                out.push_str(&format!("{indent}{account}  {} {asset}\n", decimal(*units, asset)));
            }
        }
    }

    /// What must have been declared before a transaction, as far as it has not been yet (FIN-84).
    fn directives<'l>(
        &mut self,
        day: Day,
        what: &str,
        asset: Asset,
        accounts: impl Iterator<Item = &'l String>,
    ) -> String {
        let mut out = match self.dialect {
            Dialect::Ledger => {
                // All its places: with a coarser format the tools round (FIN-83).
                let places = "0".repeat(asset.exponent() as usize);
                self.declare(&format!("commodity {asset}\n    format 1.{places} {asset}"))
            }
            Dialect::Beancount => self.declare_from(day, &format!("commodity {asset}")),
        };
        for account in accounts {
            out += &match self.dialect {
                Dialect::Ledger => self.declare(&format!("account {account}")),
                Dialect::Beancount => self.declare_from(day, &format!("open {account}")),
            };
        }
        if self.dialect == Dialect::Ledger {
            out += &self.declare(&format!("payee {what}"));
        }
        if out.is_empty() { out } else { out + "\n" }
    }

    fn declare(&mut self, directive: &str) -> String {
        let fresh = self.declared.insert(directive.to_owned());
        if fresh { format!("\n{directive}") } else { String::new() }
    }

    fn declare_from(&mut self, day: Day, directive: &str) -> String {
        let fresh = self.declared.insert(directive.to_owned());
        if fresh { format!("\n{day} {directive}") } else { String::new() }
    }
}

impl Charges {
    fn take(&mut self, lsn: u64, call: bool) {
        if self.first == 0 {
            self.first = lsn;
        }
        self.last = lsn;
        self.calls += u64::from(call);
    }
}

/// What a transaction says of its entry.
fn facts(entry: &Entry) -> Vec<(&'static str, String)> {
    let mut facts = vec![("lsn", entry.lsn.to_string()), ("id", wire::hex::encode(&entry.draft.id))];
    if !entry.draft.reference.is_empty() {
        facts.push(("ref", plain_value(&entry.draft.reference)));
    }
    if entry.draft.corrects != [0; 16] {
        facts.push(("corrects", wire::hex::encode(&entry.draft.corrects)));
    }
    facts
}

/// A rail's reference as a tag's value: nothing in it may end the value, the line or a string (FIN-85).
/// Its exact text is in the JSON Lines.
fn plain_value(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':' | '/');
    text.chars().map(|c| if plain(c) { c } else { '_' }).collect()
}
