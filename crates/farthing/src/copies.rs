//! `backup`, `restore`, `ledger roll`: a store as it is kept elsewhere.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use gateway::admin::Command;
use ledger::Entry;
use serde_json::json;
use store::RestoreError;

use crate::operator::{Common, carry_out};
use crate::source::{NoSource, Source, StoreArgs, configuration, segments_of};

const DAY_MILLIS: u64 = 86_400_000;

/// `farthing backup`
#[derive(Debug, clap::Args)]
pub(crate) struct BackupArgs {
    /// A file that is not there yet; only its owner can read it
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// `farthing restore`
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 restored, 1 the backup is not in order, 2 could not run.")]
pub(crate) struct RestoreArgs {
    /// A backup; its segments, if it has some, are copied by hand
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// A consistent copy of the store, whether or not a gateway uses it.
pub(crate) fn backup(args: &BackupArgs) -> ExitCode {
    // The gateway has a working folder of its own.
    match std::path::absolute(&args.to) {
        Ok(to) => carry_out(&Command::Backup { to: to.display().to_string() }, &args.common),
        Err(error) => crate::complain(&format!("{}: {error}", args.to.display())),
    }
}

/// Makes the store of a configuration from a backup. It gets a new epoch, so that what was handed out before is
/// refused when it comes again (LED-19).
pub(crate) fn restore(args: &RestoreArgs) -> ExitCode {
    let config = match configuration(args.common.config()) {
        Ok(config) => config,
        Err(problem) => return problem.complain(),
    };
    match store::restore(&args.from, &config.store.path) {
        Ok(report) => {
            let epoch = store::view(&config.store.path).and_then(|reader| reader.epoch()).ok();
            let document = json!({
                "restored": config.store.path.display().to_string(), "store_id": wire::hex::encode(&report.store_id),
                "last_lsn": report.last_lsn, "epoch_before": report.epoch, "epoch": epoch, "undecided": report.undecided,
            });
            crate::table::show(&document, args.common.json());
            ExitCode::SUCCESS
        }
        Err(RestoreError::Findings(report)) => {
            eprintln!("farthing: nothing was restored: the backup is not in order");
            crate::audit::tell(&report, args.common.json())
        }
        Err(error @ (RestoreError::Exists(_) | RestoreError::Store(_))) => {
            crate::complain(&error.to_string())
        }
    }
}

/// What is asked of the gateway to move old entries out of its store.
pub(crate) fn roll(through: Option<u64>, keep_days: Option<u64>, config: &Path) -> Result<Command, NoSource> {
    let folder = std::path::absolute(segments_of(&configuration(config)?.store.path));
    let folder = folder.map_err(|error| error.to_string())?.display().to_string();
    let through_lsn = match (through, keep_days) {
        (Some(lsn), _) => lsn,
        (None, days) => older_than(days.unwrap_or(0), config)?,
    };
    Ok(Command::LedgerRoll { through_lsn, folder })
}

/// The last entry before the days that are to be kept; 0 for none.
fn older_than(days: u64, config: &Path) -> Result<u64, NoSource> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let limit_ms = now_ms.saturating_sub(days.saturating_mul(DAY_MILLIS));
    let source = Source::find(&StoreArgs::of(config))?;
    let mut last = 0;
    let walked = source.reader()?.journal(None, |lsn, bytes| match Entry::parse(bytes) {
        Ok(entry) if entry.draft.time_ms < limit_ms => {
            last = lsn;
            ControlFlow::Continue(())
        }
        Ok(_) | Err(_) => ControlFlow::Break(()),
    });
    walked.map_err(|error| error.to_string())?;
    Ok(last)
}
