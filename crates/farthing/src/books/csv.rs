//! Comma-separated values (RFC 4180): one row per leg, or per day and exported account.

use std::collections::BTreeMap;

use ledger::{AccountId, Entry, asset_of_code};

use super::amount::decimal;
use super::day::{Day, timestamp};
use super::totals::{Line, Totals};
use super::{BooksError, Names};

/// Every leg, memo legs too, with the journal's own sign: what a payer has is positive.
pub(crate) struct Csv {
    names: Names,
}

impl Csv {
    pub(super) const fn new(names: Names) -> Self {
        Self { names }
    }

    pub(super) fn start(&self, out: &mut String) {
        out.push_str(
            "lsn,time,kind,id,reference,corrects,estimated,price_version,cost_femto_usd,\
             account,name,exported,memo,asset,amount,balance_after\r\n",
        );
    }

    pub(super) fn entry(&self, entry: &Entry, out: &mut String) -> Result<(), BooksError> {
        let draft = &entry.draft;
        let facts = [
            entry.lsn.to_string(),
            timestamp(draft.time_ms),
            draft.kind.name().to_owned(),
            wire::hex::encode(&draft.id),
            cell(&draft.reference),
            if draft.corrects == [0; 16] { String::new() } else { wire::hex::encode(&draft.corrects) },
            draft.flags.estimated.to_string(),
            draft.price_version.to_string(),
            draft.cost_femto.to_string(),
        ]
        .join(",");
        for leg in &entry.legs {
            let (asset, memo) = asset_of_code(leg.asset).ok_or(BooksError::Asset { lsn: entry.lsn })?;
            let exported = if memo { String::new() } else { self.names.exported(leg.account) };
            let name = cell(self.names.get(leg.account).unwrap_or_default());
            let (amount, balance) = (leg.amount.decimal(asset), leg.balance_after.decimal(asset));
            let account = leg.account;
            out.push_str(&format!(
                "{facts},{account},{name},{exported},{memo},{asset},{amount},{balance}\r\n"
            ));
        }
        Ok(())
    }
}

/// Sums by day and exported account, debit positive.
pub(crate) struct DailyCsv {
    totals: Totals,
    today: Option<Today>,
}

struct Today {
    day: Day,
    first: u64,
    last: u64,
    moved: BTreeMap<Line, i128>,
}

impl DailyCsv {
    pub(super) fn new(names: Names) -> Self {
        Self { totals: Totals::new(names, false), today: None }
    }

    pub(super) fn start(&self, out: &mut String) {
        out.push_str("date,first_lsn,last_lsn,account,asset,amount,balance\r\n");
    }

    pub(super) fn opening(&mut self, account: AccountId, asset: u16, units: i64) -> Result<(), BooksError> {
        if let Some(line) = self.totals.line(account, asset, 0)? {
            self.totals.set(&line, account, asset, units);
        }
        Ok(())
    }

    pub(super) fn entry(&mut self, entry: &Entry, out: &mut String) -> Result<(), BooksError> {
        let day = Day::of(entry.draft.time_ms);
        if self.today.as_ref().is_some_and(|today| day > today.day) {
            self.end(out);
        }
        let today = self.today.get_or_insert(Today {
            day,
            first: entry.lsn,
            last: entry.lsn,
            moved: BTreeMap::new(),
        });
        today.last = entry.lsn;
        for leg in &entry.legs {
            if let Some(line) = self.totals.line(leg.account, leg.asset, entry.lsn)? {
                let units = self.totals.take(&line, leg);
                *today.moved.entry(line).or_default() += units;
            }
        }
        Ok(())
    }

    pub(super) fn end(&mut self, out: &mut String) {
        let Some(Today { day, first, last, moved }) = self.today.take() else { return };
        for (line, units) in moved.into_iter().filter(|(_, units)| *units != 0) {
            let (amount, balance) = (decimal(units, line.1), decimal(self.totals.balance(&line), line.1));
            let (account, asset) = &line;
            out.push_str(&format!("{day},{first},{last},{account},{asset},{amount},{balance}\r\n"));
        }
    }
}

/// One cell. Text from elsewhere must neither leave its cell nor be taken for a formula by a spreadsheet.
fn cell(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::cell;

    #[test]
    fn a_cell_keeps_its_text_to_itself() {
        for (text, expected) in [
            ("0xabc", "0xabc"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("say \"x\"\n", "\"say \"\"x\"\"\n\""),
            ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
            ("@a,b", "\"'@a,b\""),
        ] {
            assert_eq!(cell(text), expected);
        }
    }
}
