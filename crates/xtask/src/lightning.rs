//! Real payments: `cargo xtask lightning`. Takes minutes the first time, and is no part of `cargo xtask test`.
//!
//! bitcoind on a test chain of its own, two nodes of another implementation with a channel between them, and scenarios in
//! which money moves over that channel. One line per scenario, `pass|fail|skip NAME [what was seen]`. Everything that is
//! started ends with the run, however that ends.

mod bitcoind;
mod calls;
mod flood;
mod gateway;
mod http;
mod nodes;
mod stage;
mod timing;

use crate::interop::Places;
use crate::outcome::Outcome;
use crate::require_all;
use calls::Scene;
use gateway::Gateway;
use stage::Nodes;

/// Payments of a scenario that measures.
const PAYMENTS: u64 = 20;

/// Plays on the nodes, before there is a gateway.
type OnNodes = fn(&Nodes) -> Result<String, String>;
/// Plays on gateways before the nodes.
type OnGateways = fn(&mut Scene<'_>) -> Result<String, String>;

const ON_NODES: [(&str, OnNodes); 3] = [
    ("pays-directly", nodes::pay_directly),
    ("held-invoice-settles", nodes::held_invoice_settles),
    ("held-invoice-is-cancelled", nodes::held_invoice_is_cancelled),
];

/// The last one looks at what the others left behind.
const ON_GATEWAYS: [(&str, OnGateways); 7] = [
    ("payments-buy-calls", calls::payments_buy_calls),
    ("one-payment-is-drawn-on", calls::one_payment_is_drawn_on),
    ("one-token-64-times-at-once", calls::one_token_at_once),
    ("another-preimage-opens-nothing", calls::another_preimage_opens_nothing),
    ("strict-waits-for-the-node", calls::strict_waits_for_the_node),
    ("a-flood-makes-few-invoices", flood::makes_few_invoices),
    ("secrets-are-written-nowhere", calls::secrets_are_written_nowhere),
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
        Ok((version, nodes)) => play(&version, &nodes, &places),
        Err(why) => all("fail", &why),
    }
}

fn play(version: &str, nodes: &Nodes, places: &Places) -> Outcome {
    let about = nodes.payee.get("/v1/getinfo").and_then(|answer| answer.json()).unwrap_or_default();
    println!("on {version}; nodes {}", about["version"].as_str().unwrap_or("of an unknown version"));
    let on_nodes = ON_NODES.iter().map(|(name, scenario)| told(name, scenario(nodes)));
    let outcome = on_nodes.fold(Outcome::default(), Outcome::plus);
    let gateways = Gateway::start(nodes, false, places)
        .and_then(|usual| Ok((usual, Gateway::start(nodes, true, places)?)));
    let mut scene = gateways.map(|(usual, strict)| Scene::new(nodes, usual, strict));
    let on_gateways = ON_GATEWAYS.iter().map(|(name, scenario)| match &mut scene {
        Ok(scene) => told(name, scenario(scene)),
        Err(why) => told(name, Err(why.clone())),
    });
    on_gateways.fold(outcome, Outcome::plus)
}

/// Says how a scenario ended, and counts it.
fn told(name: &str, ended: Result<String, String>) -> Outcome {
    match ended {
        Ok(seen) => {
            println!("pass {name} {seen}");
            Outcome { passed: 1, ..Outcome::default() }
        }
        Err(why) => {
            println!("fail {name} {why}");
            Outcome { failed: 1, ..Outcome::default() }
        }
    }
}

/// No scenario can be played.
fn all(verdict: &str, why: &str) -> Outcome {
    let mut outcome = Outcome::default();
    for name in ON_NODES.iter().map(|(name, _)| name).chain(ON_GATEWAYS.iter().map(|(name, _)| name)) {
        println!("{verdict} {name} {why}");
        match verdict {
            "skip" => outcome.skipped += 1,
            _ => outcome.failed += 1,
        }
    }
    outcome
}
