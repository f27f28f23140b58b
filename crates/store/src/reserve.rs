//! Room on the disk that is kept for money in flight (LED-27).

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// Space that others cannot take and that can be let go when the disk is full.
pub trait Reserve: Debug + Send {
    /// Bytes set aside now.
    ///
    /// # Errors
    /// The medium's.
    fn bytes(&self) -> io::Result<u64>;

    /// Sets aside up to `bytes` in all, or lets go of what is beyond.
    ///
    /// # Errors
    /// The medium's; what was set aside before stays.
    fn resize(&mut self, bytes: u64) -> io::Result<()>;
}

/// A file beside the store, with nothing in it. It is made when it is first needed: a store opens on a full disk
/// too.
#[derive(Debug)]
pub(crate) struct FileReserve(PathBuf);

impl FileReserve {
    pub(crate) const fn at(path: PathBuf) -> Self {
        Self(path)
    }
}

impl Reserve for FileReserve {
    fn bytes(&self) -> io::Result<u64> {
        match fs::metadata(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            found => Ok(found?.len()),
        }
    }

    fn resize(&mut self, bytes: u64) -> io::Result<()> {
        let before = self.bytes()?;
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&self.0)?;
        if bytes > before
            && let Err(error) = grow(&file, before, bytes)
        {
            // Part of it may be there: give it back, whoever needs it needs it now.
            let _ = file.set_len(before);
            return Err(error);
        }
        file.set_len(bytes)?;
        // Some file systems hand freed blocks out only after this.
        file.sync_all()
    }
}

/// Blocks without writing them, where the file system can; else bytes that it cannot compress away.
fn grow(file: &File, from: u64, to: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), from, to - from) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => fill(file, from, to),
        done => Ok(done?),
    }
}

fn fill(mut file: &File, from: u64, to: u64) -> io::Result<()> {
    use std::io::{Seek, SeekFrom};
    file.seek(SeekFrom::Start(from))?;
    let (mut at, mut state) = (from, from | 1);
    let mut block = vec![0; 1 << 16];
    while at < to {
        for word in block.as_chunks_mut::<8>().0 {
            // xorshift64: noise, no secret.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *word = state.to_le_bytes();
        }
        let rest = usize::try_from(to - at).unwrap_or(usize::MAX).min(block.len());
        file.write_all(&block[..rest])?;
        at += rest as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::{FileReserve, Reserve, fill};

    /// LED-27: the room is really taken, and really given back.
    #[test]
    fn a_reserve_takes_blocks_and_gives_them_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reserve");
        let mut reserve = FileReserve::at(path.clone());
        assert_eq!(reserve.bytes().unwrap(), 0);
        let blocks = || std::fs::metadata(&path).unwrap().blocks() * 512;
        reserve.resize(1 << 20).unwrap();
        assert_eq!(reserve.bytes().unwrap(), 1 << 20);
        assert!(blocks() >= 1 << 20, "{}", blocks());
        reserve.resize(4096).unwrap();
        assert!(reserve.bytes().unwrap() == 4096 && blocks() < 1 << 20);
        reserve.resize(0).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        fill(&file, 0, 100_000).unwrap();
        assert_eq!(reserve.bytes().unwrap(), 100_000);
        assert!(blocks() >= 100_000);
    }
}
