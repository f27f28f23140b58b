//! The journal's rows: entries that came together, each with the facts of its call, are one row.
//!
//! A row's key is the LSN of its first entry, and the others follow without a gap. So a batch of charges costs the
//! engine a row for each sixteen kibibytes, and not two for each charge.
//!
//! Row: 128 (u8), how many (u16), per entry its length and that of its facts (u32 each; all ones for no facts), then
//! their bytes. A row of before schema 8 is one entry's bytes, which begin with 1, and the facts are in `facts_at`.

use std::ops::{ControlFlow, RangeInclusive};

use redb::ReadableTable;

use crate::StoreError;
use crate::read::unavailable;

/// With its key and what the engine adds it fills four pages. An entry that is longer has a row for itself.
const ROW_BYTES_MAX: usize = 16 * 1024 - 64;
/// First byte of a row of several.
const SEVERAL: u8 = 128;
const HEAD_BYTES: usize = 3;
const LENGTHS_BYTES: usize = 8;
const NO_FACTS: u32 = u32::MAX;

/// An entry as it stands in its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'r> {
    pub(crate) lsn: u64,
    pub(crate) entry: &'r [u8],
    /// JSON facts of its call, where they are in the row.
    pub(crate) facts: Option<&'r [u8]>,
}

/// A row that is being filled.
#[derive(Debug, Default)]
pub(crate) struct Filling {
    first_lsn: u64,
    lengths: Vec<[u8; LENGTHS_BYTES]>,
    bytes: Vec<u8>,
}

impl Filling {
    /// Whether one more keeps the row within its bound.
    pub(crate) fn has_room(&self, entry: &[u8], facts: Option<&[u8]>) -> bool {
        let lengths = LENGTHS_BYTES * (self.lengths.len() + 1);
        let bytes = self.bytes.len() + entry.len() + facts.map_or(0, <[u8]>::len);
        self.lengths.is_empty() || HEAD_BYTES + lengths + bytes <= ROW_BYTES_MAX
    }

    /// Adds the entry that follows the last one.
    pub(crate) fn push(&mut self, record: Record<'_>) {
        if self.lengths.is_empty() {
            self.first_lsn = record.lsn;
        }
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(NO_FACTS).to_be_bytes();
        let mut lengths = [0; LENGTHS_BYTES];
        lengths[..4].copy_from_slice(&length(record.entry));
        lengths[4..].copy_from_slice(&record.facts.map_or(NO_FACTS.to_be_bytes(), length));
        self.lengths.push(lengths);
        self.bytes.extend(record.entry);
        self.bytes.extend(record.facts.unwrap_or_default());
    }

    /// The row's key and bytes, if there is anything in it; it is empty then.
    pub(crate) fn take(&mut self) -> Option<(u64, Vec<u8>)> {
        let count = u16::try_from(self.lengths.len()).ok().filter(|count| *count != 0)?;
        let mut row = Vec::with_capacity(HEAD_BYTES + LENGTHS_BYTES * self.lengths.len() + self.bytes.len());
        row.push(SEVERAL);
        row.extend(count.to_be_bytes());
        row.extend(self.lengths.as_flattened());
        row.append(&mut self.bytes);
        self.lengths.clear();
        Some((self.first_lsn, row))
    }
}

/// What is in a row.
///
/// # Errors
/// [`StoreError::Unavailable`] for bytes that are no row.
pub(crate) fn records(first_lsn: u64, row: &[u8]) -> Result<Vec<Record<'_>>, StoreError> {
    if row.first() != Some(&SEVERAL) {
        return Ok(vec![Record { lsn: first_lsn, entry: row, facts: None }]);
    }
    several(first_lsn, row)
        .ok_or_else(|| unavailable(format_args!("the journal's row {first_lsn} is damaged")))
}

fn several(first_lsn: u64, row: &[u8]) -> Option<Vec<Record<'_>>> {
    let (head, rest) = row.split_first_chunk::<HEAD_BYTES>()?;
    let count = usize::from(u16::from_be_bytes([head[1], head[2]]));
    let (lengths, mut bytes) = rest.split_at_checked(count * LENGTHS_BYTES)?;
    let mut records = Vec::with_capacity(count);
    for (lsn, lengths) in (first_lsn..).zip(lengths.as_chunks::<LENGTHS_BYTES>().0) {
        let (entry, facts) = lengths.split_first_chunk::<4>()?;
        let entry = take(&mut bytes, u32::from_be_bytes(*entry))?;
        let facts = match u32::from_be_bytes(facts.try_into().ok()?) {
            NO_FACTS => None,
            length => Some(take(&mut bytes, length)?),
        };
        records.push(Record { lsn, entry, facts });
    }
    bytes.is_empty().then_some(records)
}

fn take<'r>(bytes: &mut &'r [u8], length: u32) -> Option<&'r [u8]> {
    let (taken, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(taken)
}

/// Hands the entry at a place to `each`, if there is one.
pub(crate) fn find<A>(
    journal: &impl ReadableTable<u64, &'static [u8]>,
    lsn: u64,
    each: impl FnOnce(Record<'_>) -> A,
) -> Result<Option<A>, StoreError> {
    let Some(row) = journal.range(..=lsn).map_err(unavailable)?.next_back() else { return Ok(None) };
    let (first, row) = row.map_err(unavailable)?;
    let found = records(first.value(), row.value())?.into_iter().find(|record| record.lsn == lsn);
    Ok(found.map(each))
}

/// Hands on the entries of a range in order, until `each` breaks.
pub(crate) fn forward(
    journal: &impl ReadableTable<u64, &'static [u8]>,
    range: RangeInclusive<u64>,
    mut each: impl FnMut(Record<'_>) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    for row in journal.range(first_row(journal, &range)?..=*range.end()).map_err(unavailable)? {
        let (first, row) = row.map_err(unavailable)?;
        for record in records(first.value(), row.value())? {
            if range.contains(&record.lsn) && each(record)?.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// As [`forward`], from the last to the first.
pub(crate) fn backward(
    journal: &impl ReadableTable<u64, &'static [u8]>,
    range: RangeInclusive<u64>,
    mut each: impl FnMut(Record<'_>) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    for row in journal.range(first_row(journal, &range)?..=*range.end()).map_err(unavailable)?.rev() {
        let (first, row) = row.map_err(unavailable)?;
        for record in records(first.value(), row.value())?.into_iter().rev() {
            if range.contains(&record.lsn) && each(record)?.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The key of the row that a range begins in.
fn first_row(
    journal: &impl ReadableTable<u64, &'static [u8]>,
    range: &RangeInclusive<u64>,
) -> Result<u64, StoreError> {
    let before = journal.range(..=*range.start()).map_err(unavailable)?.next_back();
    Ok(before.transpose().map_err(unavailable)?.map_or(*range.start(), |(first, _)| first.value()))
}

#[cfg(test)]
mod tests {
    use super::{Filling, ROW_BYTES_MAX, Record, records};

    fn record(lsn: u64, entry: &'static [u8], facts: Option<&'static [u8]>) -> Record<'static> {
        Record { lsn, entry, facts }
    }

    #[test]
    fn a_row_holds_its_entries_and_their_facts() {
        let all =
            [record(7, b"\x01a", Some(b"{}")), record(8, b"\x01bc", None), record(9, b"\x01", Some(b""))];
        let mut filling = Filling::default();
        assert_eq!(filling.take(), None);
        all.into_iter().for_each(|record| filling.push(record));
        let (first, row) = filling.take().unwrap();
        assert_eq!((first, records(first, &row).unwrap().as_slice()), (7, all.as_slice()));
        filling.push(record(20, b"\x01", None));
        assert_eq!(filling.take().unwrap().0, 20);
        // As before schema 8.
        assert_eq!(records(4, b"\x01abc").unwrap(), [record(4, b"\x01abc", None)]);
        for cut in 1..row.len() {
            assert!(records(7, &row[..cut]).is_err(), "{cut}");
        }
        assert!(records(7, &[row.as_slice(), b"x"].concat()).is_err());
    }

    #[test]
    fn a_row_fills_four_pages_or_holds_one_entry() {
        const LONG: &[u8] = &[1; 2 * ROW_BYTES_MAX];
        let mut filling = Filling::default();
        assert!(filling.has_room(LONG, None));
        filling.push(record(1, LONG, None));
        assert!(!filling.has_room(b"\x01", None));
        filling.take();
        while filling.has_room(&LONG[..100], Some(&LONG[..50])) {
            filling.push(record(1, &LONG[..100], Some(&LONG[..50])));
        }
        let bytes = filling.take().unwrap().1.len();
        assert!((ROW_BYTES_MAX - 158..=ROW_BYTES_MAX).contains(&bytes), "{bytes}");
    }
}
