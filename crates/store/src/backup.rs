//! A copy of a live store, and a store from a copy.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use redb::backends::FileBackend;
use redb::{Database, Key, ReadTransaction, ReadableTable, TableDefinition, Value, WriteTransaction};

use crate::check::{self, CheckOptions, Report};
use crate::disk::Disk;
use crate::read::unavailable;
use crate::space::Space;
use crate::store::{FILE, sync_folder};
use crate::tables::{self, META, META_EPOCH, OPEN_CALLS};
use crate::{Op, Reader, Store, StoreError, log, meta, schema, writer};

/// Pages of a copy that are kept in memory before they are written.
const COPY_CACHE_BYTES: usize = 64 << 20;

impl Store {
    /// Writes a consistent copy of everything that is durable to a new file, readable by its owner only, while
    /// the store is used. Segments that were rolled out are not in it: copy their folder too.
    ///
    /// Blocks for as long as the copying takes.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when there is such a file, or it cannot be written; nothing is left then.
    pub fn backup(&self, to: &Path) -> Result<(), StoreError> {
        match self.commit_blocking(Op::Flush) {
            // The copy goes elsewhere; what the log has comes into the next one.
            Ok(_) | Err(StoreError::DiskFull) => {}
            Err(error) => return Err(error),
        }
        self.reader().backup(to)
    }
}

impl Reader {
    fn backup(&self, to: &Path) -> Result<(), StoreError> {
        if to.exists() {
            return Err(unavailable(format_args!("{} is there already", to.display())));
        }
        let part = part_of(to);
        let copied = copy(&self.begin()?, &part).and_then(|()| put(&part, to).map_err(unavailable));
        if copied.is_err() {
            // What is wrong with it was said; it would only stand in the way of the next one.
            let _ = fs::remove_file(&part);
        }
        copied
    }
}

/// A file that is not whole yet.
fn part_of(to: &Path) -> PathBuf {
    let mut name = to.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

/// Every table in one transaction: a copy is whole or is no store.
fn copy(from: &ReadTransaction, to: &Path) -> Result<(), StoreError> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(to);
    let file = file.map_err(|error| unavailable(format_args!("{}: {error}", to.display())))?;
    let db = Database::builder().set_cache_size(COPY_CACHE_BYTES).create_file(file).map_err(unavailable)?;
    let mut writing = db.begin_write().map_err(unavailable)?;
    writing.set_quick_repair(true);
    tables::for_each(&mut Copying { from, to: &writing })?;
    writing.commit().map_err(unavailable)
}

struct Copying<'c> {
    from: &'c ReadTransaction,
    to: &'c WriteTransaction,
}

impl tables::EachTable for Copying<'_> {
    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<(), StoreError> {
        let rows = self.from.open_table(table).map_err(unavailable)?;
        let mut copied = self.to.open_table(table).map_err(unavailable)?;
        for row in rows.iter().map_err(unavailable)? {
            let (key, value) = row.map_err(unavailable)?;
            copied.insert(key.value(), value.value()).map_err(unavailable)?;
        }
        Ok(())
    }
}

/// Gives a finished file its name, so that it has it after a power loss too.
fn put(part: &Path, to: &Path) -> io::Result<()> {
    File::open(part)?.sync_all()?;
    fs::rename(part, to)?;
    sync_folder(to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))
}

/// Why a backup was not restored. Nothing was written then.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The folder has a store.
    #[error("{0} is there already: a restore never replaces a store")]
    Exists(PathBuf),
    /// The backup is not in order.
    #[error("the backup is not in order: {} findings", .0.findings.len())]
    Findings(Box<Report>),
    /// It cannot be read, or the folder cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes a store in `folder` from a backup that is in order, with an epoch that no store of this name had: what
/// was handed out before, and might be brought again, is refused (LED-19).
///
/// Of two restores from one backup the later has the higher epoch, by the clock.
///
/// # Errors
/// [`RestoreError`]
pub fn restore(from: &Path, folder: &Path) -> Result<Report, RestoreError> {
    let to = folder.join(FILE);
    if to.exists() {
        return Err(RestoreError::Exists(to));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let report = check::check(from, &CheckOptions::new(now_ms))?;
    if report.findings.iter().any(|finding| !finding.is_open_question()) {
        return Err(RestoreError::Findings(Box::new(report)));
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unavailable)?;
    let part = part_of(&to);
    let restored = restore_as(from, &part, now_ms).and_then(|()| put(&part, &to).map_err(unavailable));
    if let Err(error) = restored {
        let _ = fs::remove_file(&part);
        return Err(error.into());
    }
    Ok(report)
}

fn restore_as(from: &Path, part: &Path, now_ms: u64) -> Result<(), StoreError> {
    let mut source = File::open(check::file_of(from)).map_err(unavailable)?;
    source.try_lock_shared().map_err(|_| unavailable("a process has the backup open"))?;
    let mut options = OpenOptions::new();
    let target = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(part);
    let mut target = target.map_err(unavailable)?;
    io::copy(&mut source, &mut target).map_err(unavailable)?;
    let target = Arc::new(FileBackend::new(target).map_err(unavailable)?);
    let disk = Disk::open(target, Arc::new(Space::new(None, 0)))?;
    schema::open(&disk, [0; 16])?;
    let logged = writer::missing(&disk, &log::beside(&check::file_of(from))?)?.map_err(unavailable)?;
    writer::recover(&disk, &logged)?;
    let mut writing = disk.write()?;
    writing.set_quick_repair(true);
    {
        let mut meta = writing.open_table(META).map_err(unavailable)?;
        let before = meta::number(&meta, META_EPOCH)?.ok_or_else(|| unavailable("no store epoch"))?;
        let epoch = before.saturating_add(1).max(now_ms);
        meta.insert(META_EPOCH, epoch.to_be_bytes().as_slice()).map_err(unavailable)?;
        // Those calls have ended since, and who knows how.
        let mut open_calls = writing.open_table(OPEN_CALLS).map_err(unavailable)?;
        open_calls.retain(|_, _| false).map_err(unavailable)?;
    }
    writing.commit().map_err(unavailable)
}
