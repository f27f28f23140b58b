//! Real payments: `cargo xtask lightning`. Takes minutes the first time, and is no part of `cargo xtask test`.
//!
//! bitcoind on a test chain of its own, two nodes of another implementation with a channel between them, and scenarios in
//! which money moves over that channel. One line per scenario, `pass|fail|skip NAME [what was seen]`. Everything that is
//! started ends with the run, however that ends.

mod bitcoind;
mod http;
mod nodes;
mod stage;
mod timing;

use crate::interop::Places;
use crate::outcome::Outcome;
use crate::require_all;
use stage::Nodes;

/// Payments of a scenario that measures.
const PAYMENTS: u64 = 20;

type Scenario = fn(&Nodes) -> Result<String, String>;

const SCENARIOS: [(&str, Scenario); 3] = [
    ("pays-directly", nodes::pay_directly),
    ("held-invoice-settles", nodes::held_invoice_settles),
    ("held-invoice-is-cancelled", nodes::held_invoice_is_cancelled),
];

/// Sets the stage and plays every scenario on it, in order.
pub(crate) fn run(args: &[String]) -> Outcome {
    if !args.is_empty() {
        eprintln!("usage: cargo xtask lightning");
        return Outcome { failed: 1, ..Outcome::default() };
    }
    let places = Places::of("lightning");
    let bitcoind = match bitcoind::install(&places) {
        Ok(bitcoind) => bitcoind,
        Err(why) if require_all() => return all("fail", &format!("{why} (FARTHING_REQUIRE=all)")),
        Err(why) => return all("skip", &why),
    };
    match bitcoind.version(&places).and_then(|version| Ok((version, Nodes::start(&bitcoind, &places)?))) {
        Ok((version, nodes)) => play(&version, &nodes),
        Err(why) => all("fail", &why),
    }
}

fn play(version: &str, nodes: &Nodes) -> Outcome {
    let about = nodes.payee.get("/v1/getinfo").and_then(|answer| answer.json()).unwrap_or_default();
    println!("on {version}; nodes {}", about["version"].as_str().unwrap_or("of an unknown version"));
    let mut outcome = Outcome::default();
    for (name, scenario) in SCENARIOS {
        match scenario(nodes) {
            Ok(seen) => {
                outcome.passed += 1;
                println!("pass {name} {seen}");
            }
            Err(why) => {
                outcome.failed += 1;
                println!("fail {name} {why}");
            }
        }
    }
    outcome
}

/// No scenario can be played.
fn all(verdict: &str, why: &str) -> Outcome {
    let mut outcome = Outcome::default();
    for (name, _) in SCENARIOS {
        println!("{verdict} {name} {why}");
        match verdict {
            "skip" => outcome.skipped += 1,
            _ => outcome.failed += 1,
        }
    }
    outcome
}
