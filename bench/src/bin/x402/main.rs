//! Sellers of one call over x402, side by side: what an unpaid request costs them, what a paid one does, and when the
//! first byte of a streamed answer comes. `cargo run --release -p farthing-bench --bin x402 -- [--quick] [--peers]`
//!
//! Every server is measured in turn, for several rounds, so that a noisy neighbour hits all alike. All of them listen on
//! loopback, on ports of their own, and end with this process, however it ends. With `--quick` nothing is kept.

mod flood;
mod load;
mod machine;
mod mocks;
mod payments;
mod process;
mod report;
mod row;
mod sellers;

use std::fs;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use machine::Machine;
use payments::{CALL, STREAMED_CALL};
use process::free_address;
use report::{Line, Measured, Table};
use row::{CONNECTIONS, Payment, Row};
use sellers::{Behind, CHANNEL, FREE, METERED, Ours, Places, SOLD, Seller};

/// How long and how often is measured.
#[derive(Clone, Copy)]
struct Effort {
    rounds: usize,
    round: Duration,
    warm_up: Duration,
    streams: usize,
}

const FULL: Effort =
    Effort { rounds: 7, round: Duration::from_secs(2), warm_up: Duration::from_secs(1), streams: 3 };
const QUICK: Effort =
    Effort { rounds: 3, round: Duration::from_millis(400), warm_up: Duration::from_millis(200), streams: 1 };

struct Options {
    quick: bool,
    peers: bool,
    build_o402: bool,
    flood: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [bare, address] = arguments.as_slice()
        && bare == "bare"
        && let Ok(address) = address.parse()
    {
        mocks::be_upstream(address);
        return ExitCode::FAILURE;
    }
    let known = ["--quick", "--peers", "--build-o402", "--flood"];
    if arguments.iter().any(|argument| !known.contains(&argument.as_str())) {
        eprintln!("usage: x402 [--quick] [--peers] [--build-o402] | x402 --flood [--quick]");
        return ExitCode::from(2);
    }
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let options = Options {
        quick: has("--quick"),
        peers: has("--peers"),
        build_o402: has("--build-o402"),
        flood: has("--flood"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(|error| error.to_string()).and_then(|runtime| {
        let tasks = tokio::task::LocalSet::new();
        if options.flood {
            tasks.block_on(&runtime, flood::run(&options))
        } else {
            tasks.block_on(&runtime, run(&options))
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Everybody who is measured.
struct Stage {
    upstream: SocketAddr,
    bare: Seller,
    /// Takes `exact` through the facilitator: the same work as the peers'.
    exact: Ours,
    /// Takes everything we have.
    all: Ours,
    key: String,
    peers: Vec<Seller>,
    /// Who was to be measured and is not there, and why.
    missing: Vec<(&'static str, String)>,
}

impl Stage {
    fn set_up(options: &Options, places: &Places) -> Result<Self, String> {
        let behind = Behind { upstream: free_address()?, facilitator: free_address()? };
        mocks::start_upstream(behind.upstream);
        mocks::start_facilitator(behind.facilitator);
        let binary = sellers::binary(places)?;
        let exact = Ours::start("ours", &binary, "{ x402: { {x402} } }", behind, places)?;
        let all = Ours::start("ours with all", &binary, ALL_RAILS, behind, places)?;
        let key = exact.credit_key()?;
        let (mut peers, mut missing) = (Vec::new(), Vec::new());
        let mut add = |name, started: Result<Seller, String>| match started {
            Ok(seller) => peers.push(seller),
            Err(why) => {
                println!("skipped {name}: {why}");
                missing.push((name, why));
            }
        };
        if options.peers {
            let folder = sellers::install_peers(places);
            for (name, script) in [("@x402/hono", "hono.mjs"), ("@x402/express", "express.mjs")] {
                let folder = folder.clone();
                add(
                    name,
                    folder.and_then(|folder| sellers::start_node(name, script, &folder, behind, places)),
                );
            }
            let built = if options.build_o402 { sellers::build_o402(places) } else { Ok(()) };
            add("o402", built.and_then(|()| sellers::start_o402(behind, places)));
        }
        let bare = sellers::start_bare(places)?;
        Ok(Self { upstream: behind.upstream, bare, exact, all, key, peers, missing })
    }

    /// Without what only the gateway has.
    fn node_peers(&self) -> impl Iterator<Item = &Seller> {
        self.peers.iter().filter(|peer| peer.name.starts_with('@'))
    }
}

/// The keys of `rails` for everything that is offered at once. What does not fit into a header is left out from the back.
const ALL_RAILS: &str = "{ test: {}, x402: { {x402}, schemes: [batch-settlement, exact, upto, permit2], \
    batch: { authorizer_key: \"{key}\", claim_above: 1000 USD } } }";

async fn run(options: &Options) -> Result<(), String> {
    let effort = if options.quick { QUICK } else { FULL };
    let places = Places::prepare()?;
    let mut machine = Machine::look(&places.root, &places.run)?;
    let stage = Stage::set_up(options, &places)?;
    let mut tables = Vec::new();
    for (title, about, rows) in [
        ("Unpaid requests", UNPAID, unpaid_rows(&stage)),
        ("Paid calls", PAID, paid_rows(&stage)),
        ("Calls paid from a channel", VOUCHERS, voucher_rows(&stage)),
    ] {
        println!("\n{title}");
        let lines = measure(rows, effort).await;
        tables.push(finished(Table { title, about, lines }, &stage));
    }
    println!("\nStreams");
    let lines = time_streams(stream_rows(&stage), effort).await;
    tables.push(finished(Table { title: "Streamed answers to paid calls", about: STREAMS, lines }, &stage));
    machine.load_after = machine::load();

    let flags = [(options.quick, " --quick"), (options.peers, " --peers")];
    let flags: String = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| *flag).collect();
    let flags = if flags.is_empty() { flags } else { format!(" --{flags}") };
    let command = format!("cargo run --release -p farthing-bench --bin x402{flags}");
    let (text, raw) =
        report::whole("x402 sellers side by side", &command, &method(effort), &machine, &tables);
    println!("\n{text}");
    let folder = if options.quick { places.run.clone() } else { places.root.join("bench") };
    for (name, content) in [("RESULTS-x402.md", text), ("results-x402.json", raw)] {
        let path = folder.join(name);
        fs::write(&path, content).map_err(|error| format!("{}: {error}", path.display()))?;
        println!("written {}", path.display());
    }
    Ok(())
}

fn method(effort: Effort) -> String {
    format!(
        "{} rounds of {:?}, {CONNECTIONS} connections, servers measured in turn; median [min-max] over the rounds, \
         ratios within a round. CPU is that of the server's processes on all cores; load, upstream and facilitator run in \
         the process of the benchmark and share the cores, so that answers/s are lower than they could be and CPU per answer \
         is the figure to compare. A round with any other status than the expected one is void.",
        effort.rounds, effort.round
    )
}

fn finished(mut table: Table, stage: &Stage) -> Table {
    table.lines.extend(stage.missing.iter().map(|(name, why)| Line::skipped(name, why)));
    table
}

const UNPAID: &str = "A POST of a chat completion without a payment. `ours` and the peers offer `exact` on one network: the \
    peers in the header, o402 in the body too, ours in the header with a quote and a way to sign in, in the body for version 1, and \
    with an error that SDKs understand. `with all` offers every scheme that we have. Free routes are what the same stack costs as \
    a mere proxy, the bare answer what HTTP itself costs.";

fn unpaid_rows(stage: &Stage) -> Vec<Row<'_>> {
    let (ours, all) = (&stage.exact.seller, &stage.all.seller);
    let row =
        |name: &str, seller, path, expected| Row::new(name, seller, path, CALL, Payment::None, expected);
    let mut rows = vec![
        row("ours, 402", ours, SOLD, 402),
        row("ours, 402, metered price", ours, METERED, 402),
        row("ours with all, 402", all, SOLD, 402),
        row("ours, free route", ours, FREE, 200),
        row("bare hyper answer", &stage.bare, FREE, 200),
    ];
    for peer in &stage.peers {
        rows.push(row(&format!("{}, 402", peer.name), peer, SOLD, 402));
    }
    for peer in stage.node_peers() {
        rows.push(row(&format!("{}, free route", peer.name), peer, FREE, 200));
    }
    rows
}

const PAID: &str = "Each call brings a payment of its own, signed before; the facilitator answers at once. Ours asks it \
    once, after its own check, and has intent and deposit on disk before the upstream is asked; the peers ask it twice and \
    keep nothing. The test rail needs no facilitator. A credit key is what a payer has after the first payment.";

fn paid_rows(stage: &Stage) -> Vec<Row<'_>> {
    let (ours, all) = (&stage.exact.seller, &stage.all.seller);
    let row = |name: &str, seller, path, payment| Row::new(name, seller, path, CALL, payment, 200);
    let key = || Payment::Key(stage.key.clone());
    let mut rows = vec![
        row("ours, free route", ours, FREE, Payment::None),
        row("ours, credit key", ours, SOLD, key()),
        row("ours, credit key, metered price", ours, METERED, key()),
        row("ours, exact", ours, SOLD, Payment::Exact),
        row("ours, exact on the test rail", all, SOLD, Payment::TestRail),
    ];
    for peer in &stage.peers {
        rows.push(row(&format!("{}, exact", peer.name), peer, SOLD, Payment::Exact));
    }
    rows
}

const VOUCHERS: &str = "`batch-settlement`: a channel for each connection, opened before, and a voucher for each call. \
    Nobody is asked about a voucher. Ours has it on disk before the answer begins; the peers keep it in memory.";

fn voucher_rows(stage: &Stage) -> Vec<Row<'_>> {
    let row = |name: &str, seller, path, payment| Row::new(name, seller, path, CALL, payment, 200);
    let all = &stage.all.seller;
    let mut rows = vec![
        row("ours, free route", all, FREE, Payment::None),
        row("ours, vouchers", all, SOLD, Payment::Voucher),
    ];
    for peer in stage.node_peers() {
        rows.push(row(&format!("{}, vouchers", peer.name), peer, CHANNEL, Payment::Voucher));
    }
    rows
}

const STREAMS: &str = "20 events in about a second, one call at a time, each on a new connection; the clock starts with \
    the request. Reads are how often something of the body arrived: once means that the answer was gathered first.";

fn stream_rows(stage: &Stage) -> Vec<Row<'_>> {
    let (ours, all) = (&stage.exact.seller, &stage.all.seller);
    let row = |name: &str, seller, path, payment| Row::new(name, seller, path, STREAMED_CALL, payment, 200);
    let mut rows = vec![
        Row::direct("the upstream itself", stage.upstream, STREAMED_CALL),
        row("ours, exact", ours, SOLD, Payment::Exact),
        row("ours, voucher", all, SOLD, Payment::Voucher),
        row("ours, credit key, metered price", ours, METERED, Payment::Key(stage.key.clone())),
    ];
    for peer in &stage.peers {
        rows.push(row(&format!("{}, exact", peer.name), peer, SOLD, Payment::Exact));
    }
    for peer in stage.node_peers() {
        rows.push(row(&format!("{}, voucher", peer.name), peer, CHANNEL, Payment::Voucher));
    }
    rows
}

async fn measure(mut rows: Vec<Row<'_>>, effort: Effort) -> Vec<Line> {
    for row in &mut rows {
        row.measure(effort.warm_up, true).await;
    }
    for round in 1..=effort.rounds {
        for row in &mut rows {
            row.measure(effort.round, false).await;
            match (&row.void, row.samples.last()) {
                (None, Some(sample)) => println!(
                    "round {round} {}: {:.0}/s, {:.1} us",
                    row.name, sample.answers_per_s, sample.cpu_micros_per_answer
                ),
                (Some(why), _) => println!("round {round} {}: void: {why}", row.name),
                (None, None) => {}
            }
        }
    }
    rows.into_iter().map(Line::of).collect()
}

async fn time_streams(rows: Vec<Row<'_>>, effort: Effort) -> Vec<Line> {
    let mut lines: Vec<Line> = rows
        .iter()
        .map(|row| Line { name: row.name.clone(), measured: Measured::Streams(Vec::new()) })
        .collect();
    for round in 1..=effort.rounds.min(3) {
        for (row, line) in rows.iter().zip(&mut lines) {
            let Measured::Streams(samples) = &mut line.measured else { continue };
            match row.time_streams(effort.streams).await {
                Ok(sample) => {
                    println!(
                        "round {round} {}: first byte {:.2} ms, last {:.0} ms, {:.0} reads",
                        row.name, sample.first_byte_ms, sample.last_byte_ms, sample.reads
                    );
                    samples.push(sample);
                }
                Err(why) => {
                    println!("round {round} {}: void: {why}", row.name);
                    line.measured = Measured::Not(why);
                }
            }
        }
    }
    lines
}
