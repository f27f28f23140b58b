//! How much room is left, and who may still use it (LED-27).
//!
//! The reserve goes in steps: when a write finds the disk full, one step is let go and the write is tried
//! again, so that the engine never sees the error while a step is left. While some of the reserve is gone,
//! nothing new is begun; when the last step is gone, nothing is written at all until there is room again.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::Reserve;

/// Steps that the reserve is given up in.
const STEPS: u64 = 8;

/// What can still be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Everything: the reserve is whole.
    Ample,
    /// What was begun: part of the reserve is in use.
    InFlight,
    /// Nothing: the reserve is used up, or the disk refused all the same.
    None,
}

#[derive(Debug)]
pub(crate) struct Space {
    room: AtomicU8,
    /// The medium failed otherwise than by being full: nothing it says can be relied on any more.
    broken: AtomicBool,
    reserve: Mutex<Option<Box<dyn Reserve>>>,
    wanted: u64,
}

impl Space {
    pub(crate) fn new(reserve: Option<Box<dyn Reserve>>, wanted: u64) -> Self {
        let wanted = if reserve.is_some() { wanted } else { 0 };
        Self {
            room: AtomicU8::new(Room::Ample as u8),
            broken: AtomicBool::new(false),
            reserve: Mutex::new(reserve),
            wanted,
        }
    }

    pub(crate) fn room(&self) -> Room {
        match self.room.load(Ordering::Acquire) {
            0 => Room::Ample,
            1 => Room::InFlight,
            _ => Room::None,
        }
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    pub(crate) fn set_broken(&self) {
        self.broken.store(true, Ordering::Release);
    }

    pub(crate) fn set_room(&self, room: Room) {
        let before = self.room.swap(room as u8, Ordering::AcqRel);
        if before != room as u8 {
            match room {
                Room::Ample => tracing::info!("the disk has room again"),
                Room::InFlight => {
                    tracing::error!("ALARM: the disk is full; only calls and payments in flight are recorded")
                }
                Room::None => {
                    tracing::error!("ALARM: the disk is full and so is the reserve; nothing is recorded")
                }
            }
        }
    }

    /// Lets go of one step of the reserve. False when there is none, or it cannot be let go.
    pub(crate) fn free_step(&self) -> bool {
        let mut reserve = self.reserve.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(reserve) = reserve.as_mut() else { return false };
        let kept = reserve.bytes().unwrap_or(0);
        if kept == 0 {
            return false;
        }
        let rest = kept.saturating_sub(self.step());
        self.set_room(if rest == 0 { Room::None } else { Room::InFlight });
        reserve.resize(rest).is_ok()
    }

    /// Sets aside again what can be set aside. [`Room::Ample`] when that is everything.
    pub(crate) fn refill(&self) {
        let mut reserve = self.reserve.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = match reserve.as_mut() {
            Some(reserve) => refilled(reserve.as_mut(), self.wanted, self.step()),
            None => 0,
        };
        self.set_room(match kept {
            all if all >= self.wanted => Room::Ample,
            // The last step is for what is under way when the others are gone.
            some if some > self.step() => Room::InFlight,
            _ => Room::None,
        });
    }

    fn step(&self) -> u64 {
        self.wanted.div_ceil(STEPS).max(1)
    }
}

/// Grows step by step up to `wanted`, and says how far that came.
fn refilled(reserve: &mut dyn Reserve, wanted: u64, step: u64) -> u64 {
    let mut kept = reserve.bytes().unwrap_or(0);
    while kept != wanted {
        // A store that is opened with a smaller reserve gives the rest back at once.
        let next = kept.saturating_add(step).min(wanted);
        if reserve.resize(next).is_err() {
            break;
        }
        kept = next;
    }
    kept
}

/// Whether an error says that there is no room, and nothing else is wrong.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
