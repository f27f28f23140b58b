//! The journal in the forms other people's tools read (finance.md section 9).
//!
//! Entries in, text out: nothing here opens a file, asks a clock or rounds. Every total that is asserted
//! comes from the balances the writer recorded, never from the sum of what was printed, so that the
//! tool which reads the text compares two things that were not made from each other.

mod accounts;
mod amount;
mod csv;
mod day;
mod jsonl;
mod plain;
mod totals;

use client::SignedHead;
use ledger::merkle::Frontier;
use ledger::{AccountId, Entry};

pub(crate) use accounts::Names;
pub(crate) use jsonl::{Jsonl, Line};

use csv::{Csv, DailyCsv};
use plain::{Dialect, Plain};

/// What an export looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// One JSON object per entry, with its canonical bytes: what `farthing verify --journal` reads
    Jsonl,
    /// One row per leg
    Csv,
    /// Plain-text journal for ledger; the same bytes as for hledger
    Ledger,
    /// Plain-text journal for hledger; the same bytes as for ledger
    Hledger,
    /// Plain-text journal for beancount
    Beancount,
}

/// Which part of which journal is exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// The store it is from.
    pub(crate) store_id: [u8; 16],
    /// Its epoch.
    pub(crate) epoch: u64,
    /// First LSN of the export.
    pub(crate) first: u64,
    /// Last LSN of the export; below `first` when there is no entry in between.
    pub(crate) last: u64,
    /// The tree over the entries before `first`.
    pub(crate) frontier: Frontier,
}

/// Why an entry cannot be exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BooksError {
    /// A leg's asset code is of no asset we know.
    #[error("entry {lsn} has a leg in an unknown asset")]
    Asset {
        /// The entry.
        lsn: u64,
    },
}

/// An export that is being written, entry by entry.
pub(crate) enum Export {
    Jsonl(Jsonl),
    Csv(Csv),
    Daily(DailyCsv),
    Plain(Box<Plain>),
}

impl Export {
    /// An export of this part of the journal. `daily` rolls a CSV up by day and exported account; the
    /// plain-text journals are rolled up always (FIN-88).
    pub(crate) fn new(format: Format, daily: bool, names: Names, position: Position) -> Self {
        match (format, daily) {
            (Format::Jsonl, _) => Self::Jsonl(Jsonl::new(names, position)),
            (Format::Csv, false) => Self::Csv(Csv::new(names)),
            (Format::Csv, true) => Self::Daily(DailyCsv::new(names)),
            (Format::Ledger | Format::Hledger, _) => {
                Self::Plain(Box::new(Plain::new(Dialect::Ledger, names, position)))
            }
            (Format::Beancount, _) => Self::Plain(Box::new(Plain::new(Dialect::Beancount, names, position))),
        }
    }

    /// What stands before the first entry.
    pub(crate) fn start(&mut self, out: &mut String) {
        match self {
            Self::Jsonl(lines) => lines.start(out),
            Self::Csv(rows) => rows.start(out),
            Self::Daily(rows) => rows.start(out),
            Self::Plain(text) => text.start(out),
        }
    }

    /// A balance from before the first entry, in ledger units.
    ///
    /// # Errors
    /// [`BooksError`]; `lsn` is 0 then.
    pub(crate) fn opening(&mut self, account: AccountId, asset: u16, units: i64) -> Result<(), BooksError> {
        match self {
            Self::Jsonl(_) | Self::Csv(_) => Ok(()),
            Self::Daily(rows) => rows.opening(account, asset, units),
            Self::Plain(text) => text.opening(account, asset, units),
        }
    }

    /// Adds what is known once this entry, the next in order, has been read.
    ///
    /// # Errors
    /// [`BooksError`]
    pub(crate) fn entry(&mut self, entry: &Entry, bytes: &[u8], out: &mut String) -> Result<(), BooksError> {
        match self {
            Self::Jsonl(lines) => lines.entry(entry, bytes, out),
            Self::Csv(rows) => rows.entry(entry, out),
            Self::Daily(rows) => rows.entry(entry, out),
            Self::Plain(text) => text.entry(entry, out),
        }
    }

    /// What stands after the last entry.
    pub(crate) fn end(&mut self, heads: &[SignedHead], out: &mut String) {
        match self {
            Self::Jsonl(lines) => lines.end(heads, out),
            Self::Csv(_) => {}
            Self::Daily(rows) => rows.end(out),
            Self::Plain(text) => text.end(out),
        }
    }
}

#[cfg(test)]
mod tests;
