//! Is a store in order? Everything its rows say about each other, and what the engine says of its pages.
//!
//! The file is opened for reading; repairs and upgrades happen in memory. So a store that crashed, or one of an
//! older version, is judged as the next opening would find it, and stays as it is.

mod books;
mod cashu;
mod finding;
pub(crate) mod overlay;
mod payouts;
mod rows;
mod top_ups;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, DatabaseError, StorageError};

use self::overlay::Overlay;
use crate::disk::Disk;
use crate::read::unavailable;
use crate::space::Space;
use crate::store::FILE;
use crate::{Reader, StoreError, log, schema, writer};

pub use self::finding::{Finding, PaymentProblem, PayoutProblem, TopUpProblem};

/// Findings kept in full.
const FINDINGS_MAX: usize = 1000;
/// Pages kept in memory.
const CACHE_BYTES: usize = 64 << 20;

/// What a check is to know.
#[derive(Clone, Debug)]
pub struct CheckOptions {
    /// Unix milliseconds.
    pub now_ms: u64,
    /// A payment that is undecided for longer is a finding.
    pub undecided_ms_max: u64,
    /// Folder of the segments that were rolled out of the store. With it the journal is read from its first
    /// entry; without it from where the store begins.
    pub segments: Option<PathBuf>,
}

impl CheckOptions {
    /// Undecided for an hour, no segments.
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        Self { now_ms, undecided_ms_max: 3_600_000, segments: None }
    }
}

/// What a check came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The store's name.
    pub store_id: [u8; 16],
    /// Its epoch.
    pub epoch: u64,
    /// The first entry that was read; 1 for the whole journal.
    pub first_lsn: u64,
    /// The last entry, 0 for none.
    pub last_lsn: u64,
    /// Its hash.
    pub last_hash: [u8; 32],
    /// The root over all entries.
    pub root: [u8; 32],
    /// Accounts with a balance, ours and memo accounts among them.
    pub balances: u64,
    /// Signed heads that were held against the journal.
    pub heads: u64,
    /// Payments that are not decided.
    pub undecided: u64,
    /// Payments that were refused after their calls were served.
    pub owed: u64,
    /// Payouts that are not decided.
    pub payouts_open: u64,
    /// Payments that are deposits.
    pub deposited: u64,
    /// Calls that were charged more than was held for them: used beyond it and there to be taken (LED-11).
    pub beyond_hold: u64,
    /// What is wrong, in the order of the checks; empty for a store in order.
    pub findings: Vec<Finding>,
    /// Findings beyond those.
    pub more: u64,
}

impl Report {
    fn find(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.more += 1;
        }
    }
}

/// The file of a store that is named by its file or by its folder.
pub(crate) fn file_of(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(FILE) } else { path.to_owned() }
}

/// Checks a store, named by its file or its folder. Nothing is changed.
///
/// # Errors
/// [`StoreError::Unavailable`] when there is nothing to check: no such file, not a store, one of a newer
/// version, or one that a process has open. Damage is no error but a finding.
pub fn check(path: &Path, options: &CheckOptions) -> Result<Report, StoreError> {
    let overlay = Overlay::of(path)?;
    let log = log::beside(&file_of(path))?;
    let mut report = Report::default();
    // Pages that are not what they should be make the engine panic as well as fail.
    let pages = catch_unwind(AssertUnwindSafe(|| pages(&overlay)));
    match pages.unwrap_or_else(|_| Ok(Some("the engine stopped at a damaged page".to_owned())))? {
        Some(problem) => report.find(Finding::Pages(problem)),
        None => {
            let rows = catch_unwind(AssertUnwindSafe(|| all_rows(overlay, &log, options, &mut report)));
            let stopped = || unavailable("the engine stopped at a damaged page");
            match rows.unwrap_or_else(|_| Err(stopped())) {
                Ok(()) => {}
                // Whatever could not be read is damaged: that it is there was seen above.
                Err(error) if report.last_lsn != 0 || report.store_id != [0; 16] => {
                    report.find(Finding::Pages(error.to_string()));
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(report)
}

/// What the engine has to say about its pages; `None` when they are in order.
fn pages(overlay: &Overlay) -> Result<Option<String>, StoreError> {
    let opened = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(overlay.clone());
    let mut db = match opened {
        Ok(db) => db,
        Err(DatabaseError::Storage(StorageError::Corrupted(problem))) => return Ok(Some(problem)),
        Err(error) => return Err(unavailable(error)),
    };
    match db.check_integrity() {
        Ok(true) => Ok(None),
        Ok(false) => Ok(Some("checksums or the free list were wrong".to_owned())),
        Err(DatabaseError::Storage(StorageError::Corrupted(problem))) => Ok(Some(problem)),
        Err(error) => Err(unavailable(error)),
    }
}

fn all_rows(
    overlay: Overlay,
    log: &[u8],
    options: &CheckOptions,
    report: &mut Report,
) -> Result<(), StoreError> {
    let disk = Disk::open(Arc::new(overlay), Arc::new(Space::new(None, 0)))?;
    if schema::version(&disk)?.is_none() {
        return Err(unavailable("not a store of ours"));
    }
    schema::open(&disk, [0; 16])?;
    match writer::missing(&disk, log)? {
        Ok(logged) => writer::recover(&disk, &logged)?,
        Err(damaged) => report.find(Finding::Log(damaged.to_string())),
    }
    let reader = Reader::new(disk.clone());
    (report.store_id, report.epoch) = (reader.store_id()?, reader.epoch()?);
    let transaction = disk.read()?;
    let deposits = books::check(&reader, &transaction, options, report)?;
    rows::check(&transaction, &deposits, options, report)?;
    cashu::check(&transaction, report)
}
