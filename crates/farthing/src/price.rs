//! `farthing price`: what a call would cost, and which rule chose each rate.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use gateway::{PriceAsk, PriceList};
use serde_json::Value;

use crate::source::{NoSource, configuration};
use crate::words::{money, word};

/// `farthing price`
#[derive(Debug, clap::Args)]
pub(crate) struct PriceArgs {
    /// The model, as a request names it
    model: String,
    /// Prompt tokens, those of a cache included
    #[arg(long = "in", value_name = "N")]
    input: u64,
    /// Generated tokens, those of reasoning included
    #[arg(long = "out", value_name = "N")]
    output: u64,
    /// Prompt tokens that come out of a cache
    #[arg(long, value_name = "N", default_value_t = 0)]
    cached: u64,
    /// Prompt tokens that are written to a cache
    #[arg(long, value_name = "N", default_value_t = 0)]
    cache_write: u64,
    /// Generated tokens of reasoning
    #[arg(long, value_name = "N", default_value_t = 0)]
    reasoning: u64,
    /// When the call begins: 2026-11-21, or 2026-11-21T01:30:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Service tier that serves it
    #[arg(long, value_name = "TIER")]
    tier: Option<String>,
    /// Group of the account that pays
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Configuration file of the gateway
    #[arg(long, short, default_value = "farthing.yaml")]
    config: PathBuf,
    /// One JSON document even on a terminal
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: PriceArgs) -> ExitCode {
    let json = args.json;
    match price(args) {
        Ok(told) => {
            if json || !std::io::stdout().is_terminal() {
                println!("{told}");
            } else {
                print!("{}", text(&told));
            }
            ExitCode::SUCCESS
        }
        Err(problem) => problem.complain(),
    }
}

fn price(args: PriceArgs) -> Result<Value, NoSource> {
    let config = configuration(&args.config)?;
    let at_ms = match &args.at {
        Some(text) => tariff::moment_ms(text).map_err(|error| error.to_string())?,
        None => now_ms()?,
    };
    let list = crate::block_on(PriceList::load(&config.prices, &config.store.path));
    let list = list.map_err(|error| error.to_string())?;
    let ask = PriceAsk {
        model: args.model,
        group: args.group,
        at_ms,
        tier: args.tier,
        input: args.input,
        output: args.output,
        cached: args.cached,
        cache_write: args.cache_write,
        reasoning: args.reasoning,
    };
    Ok(gateway::price(&list, &ask).map_err(|error| error.to_string())?)
}

fn now_ms() -> Result<i64, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
    i64::try_from(now.as_millis()).map_err(|error| error.to_string())
}

fn text(told: &Value) -> String {
    let mut out = format!("{}: {}\n", word(&told["model"]), money(&told["charge"]));
    let mut fact = |name: &str, value: String| out.push_str(&format!("{name:<14} {value}\n"));
    for line in told["lines"].as_array().into_iter().flatten() {
        let bucket = format!("  {}", word(&line["bucket"]));
        let (rate, cost) = (money(&line["rate"]), money(&line["cost"]));
        fact(
            &bucket,
            format!("{:>12} x {rate} = {cost}  ({})", word(&line["quantity"]), word(&line["rule"])),
        );
    }
    fact("sum", money(&told["sum"]));
    fact("markup", format!("{}, together {}", word(&told["markup"]), money(&told["cost"])));
    fact("priced as", format!("{}, {}", word(&told["priced_as"]), word(&told["from"])));
    if told["since"].is_string() {
        fact("since", word(&told["since"]));
    }
    fact("at", word(&told["at"]));
    fact("prices", word(&told["price_version"]).chars().take(12).collect());
    out
}
