//! Files of entries that were rolled out of the store: `FIRST-LAST.jsonl.gz`, one JSON object a line, entries in
//! order.
//!
//! The first line names the store and what the entries come to, so that a file can be held against another:
//! `{"farthing_segment":1,"store_id","first","last","previous","hash","root"}`, hashes in hexadecimal. Each further
//! line is `{"lsn","entry","facts"}`: the canonical bytes in hexadecimal, and the facts of a call as they were.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::StoreError;
use crate::read::unavailable;

const SUFFIX: &str = ".jsonl.gz";

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Title {
    pub(crate) farthing_segment: u32,
    pub(crate) store_id: String,
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Hash of the entry before the first.
    pub(crate) previous: String,
    /// Hash of the last entry.
    pub(crate) hash: String,
    /// Root of the tree up to the last entry.
    pub(crate) root: String,
}

/// One entry and what is known of its call.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) lsn: u64,
    pub(crate) entry: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Written<'l> {
    lsn: u64,
    entry: String,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    facts: Option<&'l RawValue>,
    /// Facts that are no JSON, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    facts_bytes: Option<String>,
}

/// A segment's file.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) name: String,
    first: u64,
    path: PathBuf,
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// Writes a segment and makes it last: only then may its entries be taken out of the store. Readable by its
/// owner only.
pub(crate) fn write(
    folder: &Path,
    title: &Title,
    entries: impl FnOnce(&mut Writer) -> Result<(), StoreError>,
) -> Result<PathBuf, StoreError> {
    fs::create_dir_all(folder).map_err(unavailable)?;
    let path = folder.join(format!("{:012}-{:012}{SUFFIX}", title.first, title.last));
    let part = path.with_extension("part");
    let mut options = OpenOptions::new();
    let file =
        options.write(true).create(true).truncate(true).mode(0o600).open(&part).map_err(unavailable)?;
    let mut writer = Writer(BufWriter::new(GzEncoder::new(file, Compression::default())));
    writer.line(title).map_err(unavailable)?;
    entries(&mut writer)?;
    let done = writer.0.into_inner().map_err(|error| unavailable(error.into_error()))?;
    done.finish().and_then(|file| file.sync_all()).map_err(unavailable)?;
    fs::rename(&part, &path).map_err(unavailable)?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(unavailable)?;
    Ok(path)
}

/// A segment that is being written.
pub(crate) struct Writer(BufWriter<GzEncoder<File>>);

impl Writer {
    pub(crate) fn entry(&mut self, lsn: u64, entry: &[u8], facts: Option<&[u8]>) -> Result<(), StoreError> {
        let text = facts.and_then(|facts| serde_json::from_slice::<&RawValue>(facts).ok());
        let facts_bytes = if text.is_none() { facts.map(hex) } else { None };
        self.line(&Written { lsn, entry: hex(entry), facts: text, facts_bytes }).map_err(unavailable)
    }

    fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, line)?;
        self.0.write_all(b"\n")
    }
}

/// The segments of a folder, by their first entry.
pub(crate) fn list(folder: &Path) -> Result<Vec<Found>, StoreError> {
    let mut found = Vec::new();
    let failed = |error: io::Error| unavailable(format_args!("{}: {error}", folder.display()));
    for file in fs::read_dir(folder).map_err(failed)? {
        let path = file.map_err(failed)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let Some((first, _)) = name.strip_suffix(SUFFIX).and_then(|range| range.split_once('-')) else {
            continue;
        };
        if let Ok(first) = first.parse() {
            found.push(Found { name: name.to_owned(), first, path: path.clone() });
        }
    }
    found.sort_by(|a, b| (a.first, &a.name).cmp(&(b.first, &b.name)));
    Ok(found)
}

/// Reads a segment line by line.
///
/// # Errors
/// [`StoreError::Unavailable`] names the line that is damaged, or what `each` failed with.
pub(crate) fn read(
    file: &Found,
    mut each: impl FnMut(Line) -> Result<(), StoreError>,
) -> Result<Title, StoreError> {
    let opened = File::open(&file.path).map_err(unavailable)?;
    let mut lines = BufReader::new(GzDecoder::new(BufReader::new(opened))).lines();
    let title = lines.next().ok_or_else(|| unavailable("no first line"))?.map_err(unavailable)?;
    let title: Title = serde_json::from_str(&title).map_err(unavailable)?;
    if title.farthing_segment != 1 {
        return Err(unavailable("written by another version"));
    }
    for (number, line) in lines.enumerate() {
        let damaged = || unavailable(format_args!("line {} is damaged", number + 2));
        let line = line.map_err(unavailable)?;
        let written: Written<'_> = serde_json::from_str(&line).map_err(|_| damaged())?;
        let entry = unhex(&written.entry).ok_or_else(damaged)?;
        each(Line { lsn: written.lsn, entry })?;
    }
    Ok(title)
}
