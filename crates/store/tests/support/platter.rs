//! A disk in memory: what is durable, what is written and not yet synced, and faults at chosen operations.

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;
use store::{Media, Reserve};

use super::dice::Dice;

/// What is written whole or not at all.
const SECTOR_BYTES: usize = 512;
/// What takes room, once any of it is written.
const BLOCK_BYTES: u64 = 4096;

/// Operations that fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// From operation `at` on everything fails, as when the power is gone.
    Cut { at: u64 },
    /// Operation `at` fails once.
    Io { at: u64 },
    /// The sync numbered `at` fails once, and all later ones succeed.
    Sync { at: u64 },
    /// Writes and growth fail for want of room from operation `at` until the fault is taken away.
    Full { at: u64 },
    /// No sync does anything, and each says that it did.
    Lies,
}

/// Files of a store; each is synced for itself, and the power goes for both.
const DATABASE: usize = 0;
const LOG: usize = 1;

/// Cloning shares it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Platter(Arc<Mutex<State>>);

/// One file on it.
#[derive(Debug)]
struct PlatterFile(Platter, usize);

#[derive(Debug, Default)]
struct Image {
    durable: Vec<u8>,
    seen: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Debug, Default)]
struct State {
    files: [Image; 2],
    operations: u64,
    syncs: u64,
    fault: Option<Fault>,
    met: bool,
    torn: u64,
    capacity: Option<u64>,
    blocks: HashSet<(usize, u64)>,
    reserved: u64,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    Len(usize),
}

impl Change {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Self::Len(len) => image.resize(*len, 0),
            Self::Write { offset, data } => put(image, *offset, data),
        }
    }
}

fn put(image: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[offset..end].copy_from_slice(data);
}

impl Platter {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A fault to come, counted from now.
    pub(crate) fn set_fault(&self, fault: Option<Fault>) {
        let mut state = self.state();
        (state.operations, state.syncs, state.met, state.fault) = (0, 0, false, fault);
    }

    /// The disk as a store has it, without a reserve.
    pub(crate) fn media(&self) -> Media {
        let file = |number| Arc::new(PlatterFile(self.clone(), number));
        Media { database: file(DATABASE), log: Some(file(LOG)), reserve: None }
    }

    /// Puts what is on the disk now into a folder.
    pub(crate) fn put_into(&self, folder: &Path) {
        let state = self.state();
        std::fs::write(folder.join("farthing.redb"), &state.files[DATABASE].durable).unwrap();
        std::fs::write(folder.join("farthing.log"), &state.files[LOG].durable).unwrap();
    }

    /// Everything works again.
    pub(crate) fn mend(&self) {
        self.state().fault = None;
    }

    /// Whether a fault is still to be met, or goes on.
    pub(crate) fn has_fault(&self) -> bool {
        self.state().fault.is_some()
    }

    /// Whether the fault was met.
    pub(crate) fn has_met_fault(&self) -> bool {
        self.state().met
    }

    /// Operations since the fault was set.
    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Syncs since the fault was set.
    pub(crate) fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Sectors that a cut has torn off their write.
    pub(crate) fn torn(&self) -> u64 {
        self.state().torn
    }

    /// Bytes that the written blocks of the file and the reserve may have together; `None` for no limit. As on
    /// a file system with holes, a longer file alone takes no room.
    pub(crate) fn set_capacity(&self, capacity: Option<u64>) {
        self.state().capacity = capacity;
    }

    /// Bytes that the written blocks and the reserve have.
    pub(crate) fn used(&self) -> u64 {
        self.state().used()
    }

    /// The power comes back: of what was not synced, a random part is there. A write is torn at sectors, and
    /// of two writes to one sector either may be the one that is found.
    pub(crate) fn power_up(&self, dice: &mut Dice) {
        let mut state = self.state();
        let State { files, torn, .. } = &mut *state;
        for file in files {
            // Sometimes nothing or everything arrived, mostly something between.
            let arrives = [0, 1, 8, 50, 92, 99, 100][dice.below(7) as usize];
            *torn += file.power_up(dice, arrives);
        }
        (state.fault, state.met) = (None, false);
    }
}

impl Image {
    /// Of each hundred sectors so many arrive. How many do not.
    fn power_up(&mut self, dice: &mut Dice, arrives: u64) -> u64 {
        let mut torn = 0;
        for change in std::mem::take(&mut self.unsynced) {
            match &change {
                Change::Len(_) => {
                    if dice.below(100) < arrives {
                        change.apply(&mut self.durable);
                    }
                }
                Change::Write { offset, data } => {
                    for (number, sector) in data.chunks(SECTOR_BYTES).enumerate() {
                        if dice.below(100) < arrives {
                            put(&mut self.durable, offset + number * SECTOR_BYTES, sector);
                        } else {
                            torn += 1;
                        }
                    }
                }
            }
        }
        self.seen.clone_from(&self.durable);
        torn
    }
}

impl PlatterFile {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state()
    }

    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = self.state();
        state.count(true)?;
        let number = self.1;
        match &change {
            Change::Len(len) => {
                state.blocks.retain(|(file, block)| *file != number || block * BLOCK_BYTES < *len as u64);
            }
            Change::Write { offset, data } => state.take_blocks(number, *offset as u64, data.len() as u64)?,
        }
        let file = &mut state.files[number];
        change.apply(&mut file.seen);
        file.unsynced.push(change);
        Ok(())
    }
}

impl State {
    fn used(&self) -> u64 {
        self.blocks.len() as u64 * BLOCK_BYTES + self.reserved
    }

    fn take_blocks(&mut self, file: usize, offset: u64, bytes: u64) -> io::Result<()> {
        for block in offset / BLOCK_BYTES..(offset + bytes).div_ceil(BLOCK_BYTES) {
            if self.blocks.contains(&(file, block)) {
                continue;
            }
            if self.capacity.is_some_and(|most| self.used() + BLOCK_BYTES > most) {
                self.met = true;
                return Err(ErrorKind::StorageFull.into());
            }
            self.blocks.insert((file, block));
        }
        Ok(())
    }

    /// Counts one operation, or fails it.
    fn count(&mut self, needs_room: bool) -> io::Result<()> {
        self.operations += 1;
        let now = self.operations;
        let error = match self.fault {
            Some(Fault::Cut { at }) if now >= at => io::Error::other("power lost"),
            Some(Fault::Io { at }) if now == at => io::Error::from_raw_os_error(5),
            Some(Fault::Full { at }) if now >= at && needs_room => ErrorKind::StorageFull.into(),
            _ => return Ok(()),
        };
        self.met = true;
        Err(error)
    }
}

impl StorageBackend for PlatterFile {
    fn len(&self) -> io::Result<u64> {
        let mut state = self.state();
        state.count(false)?;
        Ok(state.files[self.1].seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        state.count(false)?;
        let found = state.files[self.1].seen.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(found.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Len(len as usize))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let change = Change::Write { offset: offset as usize, data: data.to_vec() };
        let done = self.change(change.clone());
        let mut state = self.state();
        // What was on its way when the power went may be there all the same.
        if done.is_err() && matches!(state.fault, Some(Fault::Cut { at }) if at == state.operations) {
            state.files[self.1].unsynced.push(change);
        }
        done
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        state.count(false)?;
        state.syncs += 1;
        if state.fault == Some(Fault::Lies) {
            return Ok(());
        }
        if matches!(state.fault, Some(Fault::Sync { at }) if at == state.syncs) {
            state.met = true;
            // What the kernel dropped looks written from now on, and is not on the disk.
            state.files[self.1].unsynced.clear();
            return Err(io::Error::from_raw_os_error(5));
        }
        let Image { durable, unsynced, .. } = &mut state.files[self.1];
        unsynced.drain(..).for_each(|change| change.apply(durable));
        Ok(())
    }
}

/// A reserve on the same disk.
#[derive(Debug)]
pub(crate) struct PlatterReserve(pub(crate) Platter);

impl Reserve for PlatterReserve {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.state().reserved)
    }

    fn resize(&mut self, bytes: u64) -> io::Result<()> {
        let mut state = self.0.state();
        let is_full = matches!(state.fault, Some(Fault::Full { at }) if state.operations >= at)
            || state.capacity.is_some_and(|most| state.used() - state.reserved + bytes > most);
        if bytes > state.reserved && is_full {
            return Err(ErrorKind::StorageFull.into());
        }
        state.reserved = bytes;
        Ok(())
    }
}
