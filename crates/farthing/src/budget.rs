//! `farthing budget`: what this machine may pay, and whom.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use client::{Budget, Folder, Host, Limits, Line, SpanCap, Stop};
use money::{Amount, Asset};
use serde_json::{Value, json};

/// `farthing budget`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Hours and days are those of UTC. A call over its budget ends with exit code 5 before \
    anything is signed. What left the wallet and what calls cost are held below each cap, each by itself: a \
    deposit counts when it is paid, what it buys when it is used. What a call may cost is held until its receipt \
    says what it did cost; without a word it stays spent. A host that refuses payments or leaves their end open \
    three times in a row is paid nothing for ten minutes, one that asks more than five times its last price for a \
    call of the same kind until `reset`."
)]
pub(crate) struct BudgetArgs {
    #[command(subcommand)]
    command: BudgetCommand,
    /// Wallet file whose budget it is [default: the user's own]
    #[arg(long, value_name = "FILE", global = true)]
    wallet: Option<PathBuf>,
    /// Answer with JSON, as into a pipe
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum BudgetCommand {
    /// Set caps: farthing budget set 1usd/day 0.2usd/hour --max-call 0.02usd
    Set {
        /// Most in each hour or day: 1usd/day, 0.2usd/hour
        #[arg(value_name = "CAP", required_unless_present_any = ["max_call", "approve_above"])]
        caps: Vec<SpanCap>,
        /// For one host only, besides the caps of all together
        #[arg(long)]
        host: Option<Host>,
        /// The most that one call may cost, whatever its --max says
        #[arg(long, value_name = "AMOUNT", value_parser = client::parse_cap)]
        max_call: Option<Amount>,
        /// A call above this needs --yes
        #[arg(long, value_name = "AMOUNT", value_parser = client::parse_cap)]
        approve_above: Option<Amount>,
    },
    /// Pay these hosts and no others: farthing budget allow api.example.com
    Allow {
        /// Names as in the URL, without port
        #[arg(value_name = "HOST", required = true)]
        hosts: Vec<Host>,
    },
    /// Show caps, what was spent, and what is left
    Show,
    /// Pay a host again that was stopped, at the price it asks
    Reset {
        /// Which
        #[arg(long)]
        host: Host,
    },
    /// Forget all caps, counts and allowed hosts, or those of one host
    Clear {
        /// Which
        #[arg(long)]
        host: Option<Host>,
    },
}

pub(crate) fn run(args: &BudgetArgs) -> ExitCode {
    let Some(folder) = args.wallet.as_deref().map(Folder::beside).or_else(Folder::of_user) else {
        return crate::complain("no home directory: name a wallet file with --wallet");
    };
    let file = folder.budget_file();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    match change(&file, &args.command, now).and_then(|()| document(&file, now)) {
        Ok(document) => {
            crate::table::show(&document, args.json);
            ExitCode::SUCCESS
        }
        Err(error) => crate::complain(&error),
    }
}

fn change(file: &Path, command: &BudgetCommand, now: u64) -> Result<(), String> {
    let done = match command {
        BudgetCommand::Show => return Ok(()),
        BudgetCommand::Set { caps, host, max_call, approve_above } => {
            let named = Limits { call: *max_call, approve_above: *approve_above, ..Limits::default() };
            let limits = caps.iter().fold(named, |limits, cap| limits.with(*cap));
            Budget::change(file, |budget| budget.set(host.as_ref(), limits, now))
        }
        BudgetCommand::Allow { hosts } => Budget::change(file, |budget| budget.allow(hosts)),
        BudgetCommand::Reset { host } => Budget::change(file, |budget| {
            budget.reset(host);
            Ok(())
        }),
        BudgetCommand::Clear { host } => Budget::change(file, |budget| {
            budget.clear(host.as_ref());
            Ok(())
        }),
    };
    let text = |error: &dyn std::error::Error| error.to_string();
    done.map_err(|error| text(&error))?.map_err(|error| text(&error))
}

/// What every command of this family answers with: the budget as it is now.
fn document(file: &Path, now: u64) -> Result<Value, String> {
    let mut budget = Budget::load(file).map_err(|error| error.to_string())?;
    let lines = budget.lines(now);
    let windows: Vec<Value> = lines.iter().flat_map(|line| windows(line, now)).collect();
    let calls: Vec<Value> = lines.iter().filter_map(of_call).collect();
    let stopped: Vec<Value> = lines.iter().filter_map(|line| stopped(line, now)).collect();
    let (held_calls, held) = budget.held();
    let allowed = budget.allowed().map(|hosts| hosts.iter().map(Host::as_str).collect::<Vec<_>>());
    Ok(json!({
        "file": file.display().to_string(), "currency": "USD", "windows": windows, "per_call": calls,
        "allowed_hosts": allowed, "stopped": stopped,
        "held": {"calls": held_calls, "amount": usd(held.counted())},
    }))
}

fn usd(amount: Amount) -> String {
    amount.short(Asset::Usd)
}

fn name(line: &Line) -> &str {
    line.host.as_ref().map_or("*", Host::as_str)
}

/// Hour and day of one host, `*` for all together.
fn windows(line: &Line, now: u64) -> impl Iterator<Item = Value> {
    line.spent.iter().map(move |(span, spent, ends_at)| {
        let cap = line.limits.of(*span);
        let left = cap.map(|cap| cap.minus(spent.counted()).unwrap_or_default().max(Amount::ZERO));
        json!({
            "host": name(line), "window": span.to_string(), "cap": cap.map(usd), "left": left.map(usd),
            "paid": usd(spent.paid), "used": usd(spent.used), "next_in_s": ends_at.saturating_sub(now),
        })
    })
}

fn of_call(line: &Line) -> Option<Value> {
    let Limits { call, approve_above, .. } = line.limits;
    let row = || json!({"host": name(line), "max": call.map(usd), "approve_above": approve_above.map(usd)});
    (call.is_some() || approve_above.is_some()).then(row)
}

fn stopped(line: &Line, now: u64) -> Option<Value> {
    Some(match line.stop? {
        Stop::Failures { until } => {
            json!({"host": name(line), "why": "failures", "free_in_s": until.saturating_sub(now)})
        }
        Stop::Price { last, asked } => {
            json!({"host": name(line), "why": "price", "last": usd(last), "asked": usd(asked)})
        }
    })
}
