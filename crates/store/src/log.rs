//! The log: payments and charges, durable before they are in the database.
//!
//! Those that came together are one frame: one write, one sync. The database takes them in with its next
//! transaction, which costs far more than a frame and nearly the same for one write or a thousand. The
//! database stays the truth: every transaction takes in all that is in the log, and so ends it.
//!
//! The file is written from its start again after each transaction, and nothing is ever cut off. A frame names
//! the transaction that it follows, so that what an earlier round has left is never taken for more. The last
//! frame may be torn by a crash; none is written before the one in front of it is synced, so a frame that
//! cannot be read before one that can is damage.
//!
//! Frame, big-endian: magic (8), transactions before it (u64), its number since then from 0 (u32), length of
//! its records (u32), CRC-32 over store id, epoch, all of these, and the records; records; zeros up to a
//! multiple of 512.

mod record;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crc32fast::Hasher;
use redb::StorageBackend;

use crate::read::unavailable;
use crate::space::is_full;
use crate::{Op, Reader, StoreError};

/// The file never gets longer: what does not fit goes into the database at once.
pub(crate) const LOG_BYTES_MAX: usize = 4 << 20;
const MAGIC: [u8; 8] = *b"farthlog";
/// Magic, transactions, number, length; then the checksum.
const CHECKED_BYTES: usize = 24;
const HEAD_BYTES: usize = CHECKED_BYTES + 4;
/// Frames begin at multiples of it: what a disk writes whole, so that none shares it with its neighbour.
const SECTOR_BYTES: usize = 512;
/// What the file grows by.
const GROWTH_BYTES: u64 = 256 << 10;

/// Whose log it is: another store's, or that of before a restore, is as good as none.
#[derive(Clone, Debug)]
pub(crate) struct Name(Hasher);

impl Name {
    pub(crate) fn of(reader: &Reader) -> Result<Self, StoreError> {
        Ok(Self::new(&reader.store_id()?, reader.epoch()?))
    }

    fn new(store_id: &[u8; 16], epoch: u64) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(store_id);
        hasher.update(&epoch.to_be_bytes());
        Self(hasher)
    }

    fn checksum(&self, checked: &[u8], records: &[u8]) -> u32 {
        let mut hasher = self.0.clone();
        hasher.update(checked);
        hasher.update(records);
        hasher.finalize()
    }
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Appended {
    /// It is on disk.
    Durable,
    /// It is not there: one of the writes may not be in the log, or the log or the disk is full.
    No,
}

/// The end of the log, to be written on.
#[derive(Debug)]
pub(crate) struct Log {
    medium: Arc<dyn StorageBackend>,
    name: Name,
    /// The transaction that the frames follow.
    after: u64,
    number: u32,
    at: usize,
    /// Of the medium.
    len: u64,
    /// The frame that is being made; kept for its room.
    frame: Vec<u8>,
}

impl Log {
    pub(crate) fn new(medium: Arc<dyn StorageBackend>, name: Name) -> io::Result<Self> {
        let len = medium.len()?;
        Ok(Self { medium, name, after: 0, number: 0, at: 0, len, frame: Vec::new() })
    }

    /// Writes what follows transaction `after` and is not in a frame yet, and syncs.
    ///
    /// # Errors
    /// The medium's: what the frames before it say cannot be relied on any more either.
    pub(crate) fn append<'o>(
        &mut self,
        after: u64,
        ops: impl IntoIterator<Item = &'o Op>,
    ) -> io::Result<Appended> {
        if after != self.after {
            (self.after, self.number, self.at) = (after, 0, 0);
        }
        self.frame.clear();
        self.frame.resize(HEAD_BYTES, 0);
        if !ops.into_iter().all(|op| record::put(op, &mut self.frame)) {
            return Ok(Appended::No);
        }
        let Ok(records) = u32::try_from(self.frame.len() - HEAD_BYTES) else { return Ok(Appended::No) };
        self.frame.resize(self.frame.len().next_multiple_of(SECTOR_BYTES), 0);
        if self.at + self.frame.len() > LOG_BYTES_MAX {
            return Ok(Appended::No);
        }
        let (head, body) = self.frame.split_at_mut(HEAD_BYTES);
        head[..8].copy_from_slice(&MAGIC);
        head[8..16].copy_from_slice(&after.to_be_bytes());
        head[16..20].copy_from_slice(&self.number.to_be_bytes());
        head[20..24].copy_from_slice(&records.to_be_bytes());
        let checksum = self.name.checksum(&head[..CHECKED_BYTES], &body[..records as usize]);
        head[CHECKED_BYTES..].copy_from_slice(&checksum.to_be_bytes());
        match self.write() {
            Err(error) if is_full(&error) => return Ok(Appended::No),
            done => done?,
        }
        // Whatever its error, it is final (LED-27).
        self.medium.sync_data()?;
        self.at += self.frame.len();
        self.number += 1;
        Ok(Appended::Durable)
    }

    fn write(&mut self) -> io::Result<()> {
        let end = (self.at + self.frame.len()) as u64;
        if end > self.len {
            // Rarely: what was written once is written over from then on, and a sync has only bytes to write.
            let len = end.next_multiple_of(GROWTH_BYTES);
            self.medium.set_len(len)?;
            self.len = len;
        }
        self.medium.write(self.at as u64, &self.frame)
    }
}

/// Everything in a log's medium.
pub(crate) fn bytes(medium: &dyn StorageBackend) -> io::Result<Vec<u8>> {
    let there = usize::try_from(medium.len()?).unwrap_or(usize::MAX).min(LOG_BYTES_MAX);
    let mut bytes = vec![0; there];
    medium.read(0, &mut bytes)?;
    Ok(bytes)
}

/// The log's file, beside that of its database.
pub(crate) fn path_of(database: &Path) -> PathBuf {
    database.with_extension("log")
}

/// Everything in the log of a database that is not open; nothing where there is none.
pub(crate) fn beside(database: &Path) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    match File::open(path_of(database)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        file => {
            let file = file.map_err(unavailable)?;
            file.take(LOG_BYTES_MAX as u64).read_to_end(&mut bytes).map_err(unavailable)?;
        }
    }
    Ok(bytes)
}

/// A frame that cannot be read stands before one that can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "farthing.log is damaged at byte {at}: the payments and charges from there on are in no other place; move it \
     away to go on without them"
)]
pub(crate) struct Damaged {
    pub(crate) at: usize,
}

/// The writes that follow transaction `after`, in order.
///
/// # Errors
/// [`Damaged`], where more than the end is missing.
pub(crate) fn read(bytes: &[u8], name: &Name, after: u64) -> Result<Vec<Op>, Damaged> {
    let (mut at, mut number, mut ops) = (0, 0, Vec::new());
    while let Some(frame) = Frame::at(bytes, at, name, after).filter(|frame| frame.number == number) {
        let mut records = frame.records;
        while !records.is_empty() {
            ops.push(record::take(&mut records).ok_or(Damaged { at })?);
        }
        at += (HEAD_BYTES + frame.records.len()).next_multiple_of(SECTOR_BYTES);
        number += 1;
    }
    let mut behind = (at..bytes.len()).step_by(SECTOR_BYTES);
    let goes_on = |at| Frame::at(bytes, at, name, after).is_some_and(|frame| frame.number > number);
    if behind.any(goes_on) { Err(Damaged { at }) } else { Ok(ops) }
}

struct Frame<'b> {
    number: u32,
    records: &'b [u8],
}

impl<'b> Frame<'b> {
    /// A whole frame of this log that follows transaction `after`.
    fn at(bytes: &'b [u8], at: usize, name: &Name, after: u64) -> Option<Self> {
        let (head, rest) = bytes.get(at..)?.split_first_chunk::<HEAD_BYTES>()?;
        let (checked, checksum) = head.split_first_chunk::<CHECKED_BYTES>()?;
        let (magic, fields) = checked.split_first_chunk::<8>()?;
        let (follows, fields) = fields.split_first_chunk::<8>()?;
        let (number, length) = fields.split_first_chunk::<4>()?;
        if *magic != MAGIC || u64::from_be_bytes(*follows) != after {
            return None;
        }
        let length = u32::from_be_bytes(length.try_into().ok()?);
        let records = rest.get(..usize::try_from(length).ok()?)?;
        let is_whole = name.checksum(checked, records).to_be_bytes() == checksum;
        is_whole.then_some(Self { number: u32::from_be_bytes(*number), records })
    }
}

#[cfg(test)]
mod tests;
