//! `farthing fsck`: everything that the rows of a store say about each other.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use store::{CheckOptions, Report};

use super::{Found, Verdict};
use crate::source::{NoSource, Source, StoreArgs};

/// `farthing fsck`
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 in order, 1 something was found, 2 it could not run.")]
pub(crate) struct FsckArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// One JSON document even on a terminal
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &FsckArgs) -> ExitCode {
    match fsck(args) {
        Ok(verdict) => verdict.tell(args.json),
        Err(problem) => problem.complain(),
    }
}

fn fsck(args: &FsckArgs) -> Result<Verdict, NoSource> {
    let source = Source::find(&args.store)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut options = CheckOptions::new(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    options.segments = source.segments().map(ToOwned::to_owned);
    let report = store::check(source.path(), &options).map_err(|error| error.to_string())?;
    Ok(verdict(&report))
}

pub(super) fn verdict(report: &Report) -> Verdict {
    let found = report
        .findings
        .iter()
        .map(|finding| Found { lsn: finding.lsn(), problem: finding.to_string() })
        .collect();
    let facts = json!({
        "store_id": wire::hex::encode(&report.store_id), "epoch": report.epoch,
        "first_lsn": report.first_lsn, "last_lsn": report.last_lsn, "root": wire::hex::encode(&report.root),
        "balances": report.balances, "heads": report.heads, "payments": report.deposited,
        "undecided": report.undecided, "payouts_open": report.payouts_open, "beyond_hold": report.beyond_hold,
    });
    Verdict::new(found, report.more, facts)
}
