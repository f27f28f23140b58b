//! What being paid costs, beside a plain proxy and beside others: `cargo xtask bench [--quick] [--peers]`, which builds this and
//! the gateway and starts it. Everything listens on loopback, on ports of its own, and ends with this process, however it
//! ends. With `--quick` nothing is kept but in `target/bench/run`.

mod bare;
mod beside;
mod callgrind;
mod checker;
mod facilitator;
mod gateway;
mod goals;
mod h2;
mod load;
mod machine;
mod metric;
mod payments;
mod peers;
mod pinning;
mod places;
mod process;
mod reasons;
mod records;
mod report;
mod row;
mod scenarios;
mod serve;
mod session;
mod streams;
mod svg;
mod table;
mod ticks;
mod tls;
mod upstream;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use goals::{Goal, Verdict};
use machine::Machine;
use peers::Behind;
use places::Places;
use process::free_address;
use reasons::Reasons;
use report::Report;
use scenarios::{CONNECTIONS, GOALS, SCENARIOS, Stage};
use serve::Speaks;
use table::{Effort, Table};

const USAGE: &str =
    "usage: suite [--quick] [--peers] [--build-o402] [--only SCENARIO]... [--minutes N] [--leash]";
/// When nothing more is begun, unless told otherwise.
const MINUTES: u64 = 45;

/// What was asked for.
pub(crate) struct Options {
    quick: bool,
    pub(crate) peers: bool,
    pub(crate) build_o402: bool,
    /// These scenarios alone; all of them where none is named.
    only: Vec<String>,
    minutes: u64,
}

fn effort(options: &Options) -> Effort {
    let deadline = Instant::now() + Duration::from_secs(60 * options.minutes);
    let full = Effort {
        rounds: 5,
        round: Duration::from_secs(2),
        warm_up: Duration::from_secs(1),
        streams: 1000,
        events: 50,
        accounts: 1_000_000,
        profiled: 2000,
        deadline,
    };
    let quick = Effort {
        rounds: 3,
        round: Duration::from_millis(400),
        warm_up: Duration::from_millis(200),
        streams: 100,
        events: 10,
        accounts: 20_000,
        profiled: 400,
        deadline,
    };
    if options.quick { quick } else { full }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["bare", address] => address
            .parse()
            .map(|address| upstream::be(address, Speaks::default()))
            .map_err(|_| USAGE.to_owned()),
        ["checker", one, other] => match (one.parse(), other.parse()) {
            (Ok(one), Ok(other)) => checker::be([one, other]),
            (Err(_), _) | (_, Err(_)) => Err(USAGE.to_owned()),
        },
        arguments => read(arguments).ok_or_else(|| USAGE.to_owned()).and_then(|options| {
            pinning::load();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| error.to_string())?;
            tokio::task::LocalSet::new().block_on(&runtime, run(&options))
        }),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn read(arguments: &[&str]) -> Option<Options> {
    let mut options =
        Options { quick: false, peers: false, build_o402: false, only: Vec::new(), minutes: MINUTES };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match *argument {
            "--quick" => options.quick = true,
            "--peers" => options.peers = true,
            "--build-o402" => options.build_o402 = true,
            "--leash" => end_with_input(),
            "--only" => {
                let name = rest.next()?;
                SCENARIOS.iter().find(|(known, _)| known == name)?;
                options.only.push((*name).to_owned());
            }
            "--minutes" => options.minutes = rest.next()?.parse().ok()?,
            _ => return None,
        }
    }
    Some(options)
}

/// Ends with whoever started us: our servers end with us.
fn end_with_input() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(1);
    });
}

async fn run(options: &Options) -> Result<(), String> {
    let effort = effort(options);
    let places = Places::prepare()?;
    let mut machine = Machine::look(&places)?;
    println!("{machine}");
    let reasons = Reasons::read(&places.bench.join("reasons.md"))?;
    let behind = Behind { upstream: free_address()?, facilitator: free_address()? };
    upstream::start(behind.upstream, Speaks::default());
    facilitator::start(behind.facilitator);
    let mut tables: Vec<Table> = Vec::new();
    for (name, scenario) in SCENARIOS {
        if !options.only.is_empty() && !options.only.iter().any(|only| only == name) {
            continue;
        }
        println!(
            "\n== {name}, {} s left",
            effort.deadline.saturating_duration_since(Instant::now()).as_secs()
        );
        let own = places.of(name)?;
        match scenario(Stage { places: &own, behind, effort, options }).await {
            Ok(measured) => {
                for line in measured.iter().flat_map(|table| &table.lines) {
                    if let Err(why) = &line.measured {
                        println!("  not measured, {}: {}", line.name, why.lines().next().unwrap_or_default());
                    }
                }
                tables.extend(measured);
            }
            Err(why) => {
                // The other scenarios still have something to say.
                println!("{name} could not be run: {why}");
                tables.push(Table::skipped(name, &why));
            }
        }
    }
    machine.load_after = machine::load();
    // A part of a run is judged by what it has.
    let has = |goal: &&Goal| options.only.is_empty() || tables.iter().any(|table| table.id == goal.table());
    let judged: Vec<(&Goal, Verdict)> =
        GOALS.iter().filter(has).map(|goal| (goal, goal.judge(&tables))).collect();
    let report = Report {
        command: &command(options),
        method: &method(effort),
        machine: &machine,
        tables: &tables,
        judged: &judged,
        reasons: &reasons,
        commands: &process::commands(&places.root),
    };
    // Half a run and a quick one are no results.
    let is_whole = !options.quick && options.only.is_empty();
    report.write(if is_whole { &places.bench } else { &places.run })?;
    println!();
    for (goal, verdict) in &judged {
        println!("{}", goal.line(verdict));
    }
    Ok(())
}

fn command(options: &Options) -> String {
    let mut text = "cargo xtask bench".to_owned();
    for (is_set, flag) in
        [(options.quick, "--quick"), (options.peers, "--peers"), (options.build_o402, "--build-o402")]
    {
        if is_set {
            text.push(' ');
            text.push_str(flag);
        }
    }
    for only in &options.only {
        text.push_str(" --only ");
        text.push_str(only);
    }
    text
}

fn method(effort: Effort) -> String {
    format!(
        "{} rounds of {:?}, {CONNECTIONS} connections unless a table says otherwise, servers measured in turn; median [least-most] over the \
         rounds, ratios within a round. CPU is that of a server's processes on all cores (`/proc/*/task/*/schedstat`). Load, upstream and \
         facilitator run in the process of the benchmark; where they share cores with the servers, answers/s are lower than they could \
         be, and CPU per answer is the figure to compare. No proxy writes a line for each call: ours has `RUST_LOG={}`, as nginx has \
         `access_log off`. A round with any status but the expected one is void.",
        effort.rounds,
        effort.round,
        gateway::LOGGED
    )
}
