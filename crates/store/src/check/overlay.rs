//! A file that is read and never written: what the engine changes stays in memory.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use super::file_of;
use crate::StoreError;
use crate::read::unavailable;

const BLOCK_BYTES: usize = 4096;

/// Cloning shares it.
#[derive(Clone, Debug)]
pub(crate) struct Overlay(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    file: File,
    file_bytes: u64,
    bytes: u64,
    changed: HashMap<u64, Box<[u8; BLOCK_BYTES]>>,
}

impl Overlay {
    /// Over a store that is named by its file or its folder.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: no such file, an empty one, or one that a process has open.
    pub(crate) fn of(path: &Path) -> Result<Self, StoreError> {
        let path = file_of(path);
        let failed = |error: io::Error| unavailable(format_args!("{}: {error}", path.display()));
        let file = File::open(&path).map_err(failed)?;
        // Who has it open for writing has its lock; ours ends with the file.
        file.try_lock_shared().map_err(|_| {
            unavailable(format_args!("{}: a process has it open: read a backup of it", path.display()))
        })?;
        if file.metadata().map_err(failed)?.len() == 0 {
            return Err(unavailable(format_args!("{} is empty", path.display())));
        }
        Self::new(file).map_err(failed)
    }

    fn new(file: File) -> io::Result<Self> {
        let bytes = file.metadata()?.len();
        let state = State { file, file_bytes: bytes, bytes, changed: HashMap::new() };
        Ok(Self(Arc::new(Mutex::new(state))))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The parts of a range, block by block: block number, place in the block, bytes.
fn parts(offset: u64, bytes: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut at = offset;
    let end = offset + bytes as u64;
    std::iter::from_fn(move || {
        let within = usize::try_from(at % BLOCK_BYTES as u64).ok().filter(|_| at < end)?;
        let part = usize::try_from(end - at).unwrap_or(usize::MAX).min(BLOCK_BYTES - within);
        let block = at / BLOCK_BYTES as u64;
        at += part as u64;
        Some((block, within, part))
    })
}

impl State {
    /// What the file has at a place, and zeros behind its end.
    fn of_file(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = self.file_bytes.saturating_sub(offset).min(out.len() as u64);
        let there = usize::try_from(there).unwrap_or(out.len());
        out[there..].fill(0);
        self.file.read_exact_at(&mut out[..there], offset)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset.saturating_add(out.len() as u64) > self.bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut done = 0;
        for (block, within, part) in parts(offset, out.len()) {
            let out = &mut out[done..done + part];
            match self.changed.get(&block) {
                Some(changed) => out.copy_from_slice(&changed[within..within + part]),
                None => self.of_file(block * BLOCK_BYTES as u64 + within as u64, out)?,
            }
            done += part;
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut done = 0;
        for (block, within, part) in parts(offset, data.len()) {
            if !self.changed.contains_key(&block) {
                let mut before = Box::new([0; BLOCK_BYTES]);
                self.of_file(block * BLOCK_BYTES as u64, before.as_mut_slice())?;
                self.changed.insert(block, before);
            }
            if let Some(changed) = self.changed.get_mut(&block) {
                changed[within..within + part].copy_from_slice(&data[done..done + part]);
            }
            done += part;
        }
        self.bytes = self.bytes.max(offset + data.len() as u64);
        Ok(())
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().bytes)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.state().read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        // What is cut off and grown again is zeros.
        state.changed.retain(|block, _| block * (BLOCK_BYTES as u64) < len);
        let within = usize::try_from(len % BLOCK_BYTES as u64).unwrap_or(0);
        if let Some(cut) = state.changed.get_mut(&(len / BLOCK_BYTES as u64)) {
            cut[within..].fill(0);
        }
        state.file_bytes = state.file_bytes.min(len);
        state.bytes = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.state().write(offset, data)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use redb::StorageBackend;

    use super::Overlay;

    #[test]
    fn changes_are_seen_and_the_file_is_as_it_was() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let before: Vec<u8> = (0..10_000u32).map(|n| n as u8).collect();
        file.write_all(&before).unwrap();
        let overlay = Overlay::new(file.reopen().unwrap()).unwrap();
        let mut model = before.clone();
        overlay.write(4000, &[7; 5000]).unwrap();
        model[4000..9000].fill(7);
        overlay.set_len(4100).unwrap();
        model.truncate(4100);
        overlay.set_len(12_000).unwrap();
        model.resize(12_000, 0);
        overlay.write(11_999, &[9]).unwrap();
        model[11_999] = 9;
        let mut found = vec![1; 12_000];
        overlay.read(0, &mut found).unwrap();
        assert!(found == model);
        assert!(overlay.read(11_999, &mut [0; 2]).is_err());
        assert!(std::fs::read(file.path()).unwrap() == before);
    }
}
