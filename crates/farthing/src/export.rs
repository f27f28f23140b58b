//! `farthing export`: the journal for other people's tools.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use client::SignedHead;
use ledger::merkle::leaf_hash;
use ledger::{Checkpoint, Entry};
use serde_json::json;
use store::Reader;

use crate::books::{Export, Format, Names, Position};
use crate::source::{NoSource, Source, StoreArgs};

/// Text that is gathered before it is written.
const CHUNK_BYTES: usize = 64 * 1024;

/// `farthing export`
#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// What it looks like
    #[arg(long)]
    format: Format,
    /// First entry [default: the oldest]
    #[arg(long, value_name = "LSN")]
    from: Option<u64>,
    /// Last entry [default: the newest]
    #[arg(long, value_name = "LSN")]
    to: Option<u64>,
    /// CSV by day and exported account, instead of every leg
    #[arg(long)]
    daily: bool,
    #[command(flatten)]
    store: StoreArgs,
    /// Write there, and a summary to standard output
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// One JSON document even on a terminal
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &ExportArgs) -> ExitCode {
    match export(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => problem.complain(),
    }
}

fn export(args: &ExportArgs) -> Result<(), NoSource> {
    if args.daily && args.format != Format::Csv {
        return Err("--daily is for CSV; the plain-text journals are by day as they are".to_owned().into());
    }
    let source = Source::find(&args.store)?;
    let part = Part::of(&source, args.from, args.to)?;
    let names = part.reader.names().map_err(|error| error.to_string())?;
    let export = Export::new(args.format, args.daily, Names::new(names), part.position.clone());
    match &args.out {
        None => {
            let mut out = Sink { to: io::stdout().lock(), text: String::new() };
            part.write(export, &mut out)?;
        }
        Some(path) => {
            into_file(path, |file| {
                let mut out = Sink { to: file, text: String::new() };
                part.write(export, &mut out)
            })?;
            summary(args, path, &part.position);
        }
    }
    Ok(())
}

/// Writes a file beside its name and moves it there when it is whole. Readable by its owner only.
fn into_file(path: &Path, write: impl FnOnce(&std::fs::File) -> Result<(), String>) -> Result<(), String> {
    let failed = |error: io::Error| format!("{}: {error}", path.display());
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    let part = PathBuf::from(name);
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part);
    let file = file.map_err(failed)?;
    let done = write(&file).and_then(|()| {
        file.sync_all().map_err(failed)?;
        std::fs::rename(&part, path).map_err(failed)
    });
    if done.is_err() {
        // What is left behind is no export; that it is gone is not promised.
        let _ = std::fs::remove_file(&part);
    }
    done
}

/// Where the text goes, in pieces.
struct Sink<W> {
    to: W,
    text: String,
}

impl<W: Write> Sink<W> {
    fn flush(&mut self, at_least: usize) -> Result<(), String> {
        if self.text.len() > at_least {
            self.to.write_all(self.text.as_bytes()).map_err(|error| format!("cannot write: {error}"))?;
            self.text.clear();
        }
        Ok(())
    }
}

/// A part of a journal, and what was before it.
struct Part<'s> {
    source: &'s Source,
    reader: Reader,
    before: Checkpoint,
    position: Position,
}

impl<'s> Part<'s> {
    fn of(source: &'s Source, from: Option<u64>, to: Option<u64>) -> Result<Self, String> {
        let reader = source.reader()?;
        let failed = |error: store::StoreError| error.to_string();
        let head = reader.unsigned_head(0).map_err(failed)?;
        let base = reader.checkpoint().map_err(failed)?;
        let mut before = if source.segments().is_some() { Checkpoint::default() } else { base };
        let oldest = before.lsn + 1;
        let first = from.unwrap_or(oldest).max(1);
        if first < oldest {
            return Err(format!(
                "the entries before {oldest} were rolled out of this store; name their folder with --segments"
            ));
        }
        let last = to.unwrap_or(head.size).min(head.size);
        reader
            .journal(source.segments(), |lsn, bytes| {
                if lsn >= first {
                    return ControlFlow::Break(());
                }
                follow(&mut before, lsn, bytes);
                ControlFlow::Continue(())
            })
            .map_err(failed)?;
        if before.lsn + 1 != first && first <= last {
            return Err(format!("entry {} is missing: see farthing fsck", before.lsn + 1));
        }
        let frontier = before.frontier.clone();
        let position = Position { store_id: head.store_id, epoch: head.epoch, first, last, frontier };
        Ok(Self { source, reader, before, position })
    }

    fn write<W: Write>(&self, mut export: Export, out: &mut Sink<W>) -> Result<(), String> {
        let failed = |error: store::StoreError| error.to_string();
        let Position { first, last, .. } = self.position;
        export.start(&mut out.text);
        for ((asset, account), amount) in &self.before.balances {
            export.opening(*account, *asset, amount.units()).map_err(|error| error.to_string())?;
        }
        let mut done = Ok(());
        let walked = self.reader.journal(self.source.segments(), |lsn, bytes| {
            if lsn > last {
                return ControlFlow::Break(());
            }
            if lsn >= first {
                done = one(&mut export, lsn, bytes, out);
            }
            if done.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        walked.map_err(failed)?;
        done?;
        let heads = self.reader.heads().map_err(failed)?;
        let covered = heads.iter().filter(|signed| (first..=last).contains(&signed.head.size));
        let heads: Vec<SignedHead> =
            covered.map(|signed| SignedHead::new(&signed.head, &signed.signature, String::new())).collect();
        export.end(&heads, &mut out.text);
        out.flush(0)
    }
}

/// Folds an entry that stands before the part.
fn follow(before: &mut Checkpoint, lsn: u64, bytes: &[u8]) {
    if let Ok(entry) = Entry::parse(bytes) {
        let after = entry.legs.iter().map(|leg| ((leg.asset, leg.account), leg.balance_after));
        before.balances.extend(after);
    }
    (before.lsn, before.hash) = (lsn, Entry::hash_of(bytes));
    before.frontier.append(leaf_hash(bytes));
}

fn one<W: Write>(export: &mut Export, lsn: u64, bytes: &[u8], out: &mut Sink<W>) -> Result<(), String> {
    let entry = Entry::parse(bytes).map_err(|error| format!("entry {lsn}: {error}: see farthing fsck"))?;
    export.entry(&entry, bytes, &mut out.text).map_err(|error| error.to_string())?;
    out.flush(CHUNK_BYTES)
}

fn summary(args: &ExportArgs, path: &Path, position: &Position) {
    let entries = (position.last + 1).saturating_sub(position.first);
    let document = json!({
        "file": path.display().to_string(), "format": format!("{:?}", args.format).to_lowercase(),
        "entries": entries, "first_lsn": position.first, "last_lsn": (entries > 0).then_some(position.last),
    });
    crate::table::show(&document, args.json);
}
