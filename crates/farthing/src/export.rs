//! `farthing export`: the journal for other people's tools.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use client::SignedHead;
use ledger::{AccountId, Entry};
use serde_json::json;
use store::Reader;

use crate::books::{Export, Format, Names, Position};
use crate::source::{NoSource, StoreCopy};

/// Text that is gathered before it is written.
const CHUNK_BYTES: usize = 64 * 1024;

/// `farthing export`
#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// What it looks like
    #[arg(long)]
    format: Format,
    /// First entry
    #[arg(long, value_name = "LSN", default_value_t = 1)]
    from: u64,
    /// Last entry [default: the newest]
    #[arg(long, value_name = "LSN")]
    to: Option<u64>,
    /// CSV by day and exported account, instead of every leg
    #[arg(long)]
    daily: bool,
    /// A store's file, such as a backup [default: what the gateway has]
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// Write there, and a summary to standard output
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Configuration file of the gateway
    #[arg(long, short, default_value = "farthing.yaml")]
    config: PathBuf,
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
    let books = StoreCopy::take(args.store.as_deref(), &args.config)?.open()?;
    let reader = books.reader();
    let failed = |error: store::StoreError| error.to_string();
    let head = reader.unsigned_head(0).map_err(failed)?;
    let first = args.from.max(1);
    let last = args.to.unwrap_or(head.size).min(head.size);
    let position = Position { store_id: head.store_id, epoch: head.epoch, first, last };
    let names = Names::new(reader.names().map_err(failed)?);
    let export = Export::new(args.format, args.daily, names, position);
    match &args.out {
        None => {
            let mut out = Sink { to: io::stdout().lock(), text: String::new() };
            written(reader, export, (first, last), &mut out)?;
        }
        Some(path) => {
            into_file(path, |file| {
                let mut out = Sink { to: file, text: String::new() };
                written(reader, export, (first, last), &mut out)
            })?;
            summary(args, path, first, last);
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

fn written<W: Write>(
    reader: &Reader,
    export: Export,
    (first, last): (u64, u64),
    out: &mut Sink<W>,
) -> Result<(), String> {
    let failed = |error: store::StoreError| error.to_string();
    let mut walk = Walk { export, first, last, before: BTreeMap::new() };
    walk.export.start(&mut out.text);
    let mut done = Ok(());
    let read = reader.each_entry(|entry, bytes| {
        if done.is_ok() {
            done = walk.take(&entry, bytes, out);
        }
    });
    read.map_err(failed)?;
    done?;
    let heads = reader.heads().map_err(failed)?.into_iter().filter(|signed| signed.head.size <= last);
    let heads: Vec<SignedHead> =
        heads.map(|signed| SignedHead::new(&signed.head, &signed.signature, String::new())).collect();
    walk.export.end(&heads, &mut out.text);
    out.flush(0)
}

/// The way through the journal.
struct Walk {
    export: Export,
    first: u64,
    last: u64,
    /// Balances before the first entry.
    before: BTreeMap<(u16, AccountId), i64>,
}

impl Walk {
    fn take<W: Write>(&mut self, entry: &Entry, bytes: &[u8], out: &mut Sink<W>) -> Result<(), String> {
        if entry.lsn > self.last {
            return Ok(());
        }
        if entry.lsn < self.first {
            let balances = entry.legs.iter().map(|leg| ((leg.asset, leg.account), leg.balance_after.units()));
            self.before.extend(balances);
            return Ok(());
        }
        let export = &mut self.export;
        let opened = std::mem::take(&mut self.before)
            .into_iter()
            .try_for_each(|((asset, account), units)| export.opening(account, asset, units));
        opened.and_then(|()| export.entry(entry, bytes, &mut out.text)).map_err(|error| error.to_string())?;
        out.flush(CHUNK_BYTES)
    }
}

fn summary(args: &ExportArgs, path: &Path, first: u64, last: u64) {
    use std::io::IsTerminal as _;
    let entries = (last + 1).saturating_sub(first);
    let document = json!({
        "file": path.display().to_string(), "format": format!("{:?}", args.format).to_lowercase(),
        "entries": entries, "first_lsn": first, "last_lsn": (entries > 0).then_some(last),
    });
    if args.json || !io::stdout().is_terminal() {
        println!("{document}");
    } else {
        crate::table::print(&document);
    }
}
