//! A database whose creation was cut off.
//!
//! The engine writes its first page without the magic number, syncs, and adds the number. A power loss between
//! the two leaves a file that it refuses ever after, although nothing can have been in it.

use std::io;
use std::ops::Bound::Unbounded;

use redb::{BackendError, StorageBackend};

/// The engine's first page; behind it a file that holds anything has other bytes than zeros.
const FIRST_PAGE_BYTES: u64 = 4096;
const MAGIC_BYTES: u64 = 9;

/// Empties a file that was being created when the power went, so that it is created again. A file with anything
/// in it is left alone, and so is one that another process has.
pub(crate) fn clear(medium: &dyn StorageBackend) -> io::Result<()> {
    match medium.try_lock_range(Unbounded, Unbounded) {
        Ok(true) => {
            let cleared = clear_if_blank(medium);
            medium.unlock_range(Unbounded, Unbounded).map_err(io::Error::other)?;
            cleared
        }
        Ok(false) => Ok(()),
        Err(BackendError::Unsupported) => clear_if_blank(medium),
        Err(error) => Err(io::Error::other(error)),
    }
}

fn clear_if_blank(medium: &dyn StorageBackend) -> io::Result<()> {
    let len = medium.len()?;
    if len == 0 || !is_zero(medium, 0, MAGIC_BYTES.min(len))? || !is_zero(medium, FIRST_PAGE_BYTES, len)? {
        return Ok(());
    }
    medium.set_len(0)?;
    medium.sync_data()
}

fn is_zero(medium: &dyn StorageBackend, from: u64, to: u64) -> io::Result<bool> {
    let mut block = vec![0; 1 << 16];
    let mut at = from;
    while at < to {
        let bytes = usize::try_from(to - at).unwrap_or(usize::MAX).min(block.len());
        medium.read(at, &mut block[..bytes])?;
        if block[..bytes].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += bytes as u64;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use redb::StorageBackend;
    use redb::backends::InMemoryBackend;

    use super::clear;

    /// A file with these bytes at these places, of a mebibyte in all.
    fn file(bytes: &[(u64, u8)]) -> InMemoryBackend {
        let file = InMemoryBackend::new();
        file.set_len(1 << 20).unwrap();
        bytes.iter().for_each(|(at, byte)| file.write(*at, &[*byte]).unwrap());
        file
    }

    #[test]
    fn only_a_file_that_never_held_anything_is_emptied() {
        for (what, bytes, is_emptied) in [
            ("set to its length", &[][..], true),
            ("first page written in part", &[(9, 3), (100, 7)], true),
            ("with its magic number", &[(0, b'r')], false),
            ("with a page behind the first", &[(4096, 1)], false),
            ("with something at its very end", &[((1 << 20) - 1, 1)], false),
        ] {
            let file = file(bytes);
            clear(&file).unwrap();
            assert_eq!(file.len().unwrap() == 0, is_emptied, "{what}");
        }
    }
}
