//! `farthing explain`: why a call cost what it did.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use gateway::admin::Command;
use serde_json::Value;

use crate::operator::{self, Common};
use crate::words::{money, word};

/// `farthing explain`
#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    /// Id of the call: Farthing-Request-Id, or `id` in the ledger
    call: String,
}

/// Prints the bill of a call, computed again. It is a finding if that is not what was charged.
pub(crate) fn run(args: ExplainArgs, common: &Common) -> ExitCode {
    let told = match operator::ask(&Command::Explain { call: args.call }, common.config()) {
        Ok(told) => told,
        Err(problem) => return problem.complain(),
    };
    if common.json() || !std::io::stdout().is_terminal() {
        println!("{told}");
    } else {
        print!("{}", text(&told));
    }
    if told["agrees"] == true {
        return ExitCode::SUCCESS;
    }
    for difference in told["differences"].as_array().into_iter().flatten() {
        eprintln!("farthing: THE BILL DOES NOT AGREE: {}", word(difference));
    }
    ExitCode::from(crate::FINDINGS)
}

fn text(told: &Value) -> String {
    let mut out = format!(
        "{}  {} on {} ({}, upstream {})\n",
        word(&told["call"]),
        word(&told["model"]),
        word(&told["route"]),
        word(&told["dialect"]),
        word(&told["upstream"])
    );
    let estimated = if told["estimated"] == true { ", estimated" } else { "" };
    let mut fact = |name: &str, value: String| out.push_str(&format!("{name:<14} {value}\n"));
    fact(
        "usage",
        format!("{}{estimated}; the answer ended as {}", word(&told["basis"]), word(&told["terminal"])),
    );
    fact("prices", word(&told["price_version"]).chars().take(12).collect());
    for line in told["lines"].as_array().into_iter().flatten() {
        let bucket = format!("  {}", word(&line["bucket"]));
        fact(
            &bucket,
            format!("{:>12} x {} = {}", word(&line["quantity"]), money(&line["rate"]), money(&line["cost"])),
        );
    }
    fact("sum", money(&told["sum"]));
    if let Some(points) = told["markup_bp"].as_u64().filter(|points| *points > 0) {
        fact("markup", format!("{}.{:02} %, together {}", points / 100, points % 100, money(&told["cost"])));
    }
    fact("rounding", format!("up by {}", money(&told["rounding"])));
    if told["unpriced"] == true {
        fact("no price", "there was no report that could be priced: what was held was charged".to_owned());
    }
    if told["capped_at"].is_object() {
        fact("capped", format!("{}: an estimate takes no more than was held", money(&told["capped_at"])));
    }
    fact("held", format!("{} at first, {} at the end", money(&told["held_first"]), money(&told["held"])));
    if let Some(tokens) = told["max_tokens_set"].as_u64() {
        fact("clamped", format!("max_tokens={tokens}"));
    }
    fact("charged", money(&told["charged"]));
    fact("overrun", format!("{} (the operator's loss)", money(&told["overrun"])));
    match told["lsn"].as_u64() {
        Some(lsn) => {
            fact("balance after", money(&told["balance_after"]));
            fact("journal", format!("entry {lsn}, {}", word(&told["entry_hash"])));
        }
        None => fact("journal", "no entry: nothing was charged".to_owned()),
    }
    if told["agrees"] == true {
        fact("checked", "computed again, equal to the nano".to_owned());
    }
    out
}
