//! Reading a store that is not open: a backup, a copy, what a stopped gateway left.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use crate::check::file_of;
use crate::check::overlay::Overlay;
use crate::disk::Disk;
use crate::read::unavailable;
use crate::space::Space;
use crate::tables::JOURNAL;
use crate::{Reader, StoreError, journal, log, schema, segment, writer};

/// Opens a store, named by its file or its folder, for reading. Nothing is changed: repairs and upgrades
/// happen in memory, and so does taking in what is in its log.
///
/// # Errors
/// [`StoreError::Unavailable`]: no such file, not a store, one of a newer version, one that a process has
/// open, or damaged so that nothing can be read.
pub fn view(path: &Path) -> Result<Reader, StoreError> {
    let overlay = Overlay::of(path)?;
    // Pages that are not what they should be make the engine panic as well as fail.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let disk = Disk::open(Arc::new(overlay), Arc::new(Space::new(None, 0)))?;
        if schema::version(&disk)?.is_none() {
            return Err(unavailable("not a store of ours"));
        }
        schema::open(&disk, [0; 16])?;
        let logged = writer::missing(&disk, &log::beside(&file_of(path))?)?.map_err(unavailable)?;
        writer::recover(&disk, &logged)?;
        Ok(Reader::new(disk))
    }));
    opened.unwrap_or_else(|_| Err(damaged()))
}

fn damaged() -> StoreError {
    unavailable("the engine stopped at a damaged page")
}

impl Reader {
    /// Hands on the journal, LSN and bytes as they stand there, until `each` breaks: from the segments in a
    /// folder, if one is named, then from the store. Without segments it begins after
    /// [`Reader::checkpoint`]. Whether the bytes are those of entries is not looked at.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: a segment or a page cannot be read.
    pub fn journal(
        &self,
        segments: Option<&Path>,
        mut each: impl FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let walked = catch_unwind(AssertUnwindSafe(|| self.walk(segments, &mut each)));
        walked.unwrap_or_else(|_| Err(damaged()))
    }

    fn walk(
        &self,
        segments: Option<&Path>,
        each: &mut impl FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let base = self.checkpoint()?.lsn;
        let mut last = 0;
        if let Some(folder) = segments.filter(|_| base > 0) {
            let mut flow = ControlFlow::Continue(());
            for file in segment::list(folder)? {
                segment::read(&file, |line| {
                    // A file may begin with what an earlier one has, and end behind what this store begins with.
                    if flow.is_continue() && line.lsn > last && line.lsn <= base {
                        last = line.lsn;
                        flow = each(line.lsn, &line.entry);
                    }
                    Ok(())
                })?;
            }
            if flow.is_break() {
                return Ok(());
            }
        }
        let table = self.begin()?.open_table(JOURNAL).map_err(unavailable)?;
        journal::forward(&table, 0..=u64::MAX, |record| Ok(each(record.lsn, record.entry)))
    }
}
