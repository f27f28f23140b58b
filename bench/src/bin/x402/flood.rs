//! What unpaid requests cost where Lightning is one of the ways to pay, beside a gateway without it: invoices are made within
//! a budget, and beyond it nothing is asked of the node. `--flood`

use std::fs;

use crate::machine::{self, Machine};
use crate::payments::CALL;
use crate::process::free_address;
use crate::report::{self, Table};
use crate::row::{Payment, Row};
use crate::sellers::{self, Behind, Ours, Places, SOLD};
use crate::{FULL, Options, QUICK, measure, method, mocks};

const TITLE: &str = "Unpaid requests where Lightning pays";
const ABOUT: &str = "A POST of a chat completion without a payment, again and again on each connection; each is answered with 402 and \
    the same offer of `exact`. Invoices come from the test node, in the process of the gateway. `none left`: one invoice a second for \
    everybody, so that nearly every answer has none. `shown again`: as many as are wanted, and a connection that has one is shown it \
    again, with its token.";

/// Lightning with so many invoices for everybody, a second and at once.
fn lightning(invoices: &str) -> String {
    format!(
        "l402: {{ test: {{}}, price: {{ usd_per_btc: 100000 }}, mint: {{ per_second: {invoices}, burst: {invoices}, \
         per_source_per_second: {invoices}, per_source_burst: {invoices} }} }}"
    )
}

pub(crate) async fn run(options: &Options) -> Result<(), String> {
    let effort = if options.quick { QUICK } else { FULL };
    let places = Places::prepare()?;
    let mut machine = Machine::look(&places.root, &places.run)?;
    let behind = Behind { upstream: free_address()?, facilitator: free_address()? };
    mocks::start_upstream(behind.upstream);
    mocks::start_facilitator(behind.facilitator);
    let binary = sellers::binary(&places)?;
    let start = |name, rails: &str| Ours::start(name, &binary, rails, behind, &places);
    let without = start("without", "{ x402: { {x402} } }")?;
    let spent = start("spent", &format!("{{ x402: {{ {{x402}} }}, {} }}", lightning("1")))?;
    let ample = start("ample", &format!("{{ x402: {{ {{x402}} }}, {} }}", lightning("100000")))?;
    let row = |name, seller| Row::new(name, seller, SOLD, CALL, Payment::None, 402);
    let rows = vec![
        row("without Lightning", &without.seller),
        row("with Lightning, none left", &spent.seller),
        row("with Lightning, shown again", &ample.seller),
    ];
    let table = Table { title: "Unpaid requests", about: ABOUT, lines: measure(rows, effort).await };
    machine.load_after = machine::load();
    let quick = if options.quick { " --quick" } else { "" };
    let command = format!("cargo run --release -p farthing-bench --bin x402 -- --flood{quick}");
    let (text, raw) = report::whole(TITLE, &command, &method(effort), &machine, &[table]);
    println!("\n{text}");
    let folder = if options.quick { places.run.clone() } else { places.root.join("bench") };
    for (name, content) in [("RESULTS-l402-flood.md", text), ("results-l402-flood.json", raw)] {
        let path = folder.join(name);
        fs::write(&path, content).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}
