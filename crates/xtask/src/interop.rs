//! Foreign, unmodified clients against the gateway: `cargo xtask interop [--only NAME]`.
//!
//! One line per client and scenario, `pass|fail|skip CLIENT SCENARIO [reason]`. The scenarios are
//! scripts under `tests/interop`; this module installs what they need (once per lock file), sets
//! the stage (mock upstream, local chain, facilitator, gateway) and counts. A scenario that says
//! nothing has failed, so a script that dies early cannot pass by silence.

pub(crate) mod books;
pub(crate) mod install;
pub(crate) mod process;
pub(crate) mod stage;
pub(crate) mod tools;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::outcome::Outcome;

/// Longest run of all scenarios of one client; each scenario has its own, shorter limit inside.
const CLIENT_TIME_MAX: Duration = Duration::from_secs(120);

/// What a client's script is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runtime {
    Node,
    Python,
}

/// One foreign client, its script, and every scenario it must report on.
struct Client {
    name: &'static str,
    runtime: Runtime,
    script: &'static str,
    scenarios: &'static [&'static str],
    /// Needs a local chain and a facilitator.
    on: Option<Ground>,
    /// Needs the mock upstream and a gateway, which takes this.
    before: Option<Takes>,
}

/// What kind of chain a client pays on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ground {
    /// anvil, with our contracts.
    Evm,
    /// That, and a machine that runs the programs of Solana: it is written in Python.
    Solana,
}

/// What a gateway offers first to those who pay on the chain: stock clients take the first offer that they know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Takes {
    /// `exact`, by EIP-3009.
    Exact,
    /// `exact`, by Permit2.
    Permit,
    /// `upto`.
    Upto,
    /// `batch-settlement`.
    Channels,
    /// By `exact`, with every extension.
    Extensions,
    /// `exact`, on Solana.
    Solana,
}

const OPENAI: &[&str] = &[
    "chat",
    "chat-stream",
    "chat-stream-usage",
    "responses",
    "responses-stream",
    "empty-balance",
    "lost-answer",
    "stream-outlives-balance",
];
const ANTHROPIC: &[&str] = &["messages", "messages-stream", "empty-balance", "lost-answer"];
const PERMIT: &[&str] = &["permit-without-allowance-is-412", "permit-pays-and-streams"];

const CLIENTS: &[Client] = &[
    Client {
        name: "openai-python",
        runtime: Runtime::Python,
        script: "openai_sdk.py",
        scenarios: OPENAI,
        on: None,
        before: Some(Takes::Exact),
    },
    Client {
        name: "openai-node",
        runtime: Runtime::Node,
        script: "openai.mjs",
        scenarios: OPENAI,
        on: None,
        before: Some(Takes::Exact),
    },
    Client {
        name: "anthropic-python",
        runtime: Runtime::Python,
        script: "anthropic_sdk.py",
        scenarios: ANTHROPIC,
        on: None,
        before: Some(Takes::Exact),
    },
    Client {
        name: "anthropic-node",
        runtime: Runtime::Node,
        script: "anthropic.mjs",
        scenarios: ANTHROPIC,
        on: None,
        before: Some(Takes::Exact),
    },
    Client {
        name: "chain",
        runtime: Runtime::Node,
        script: "chain_check.mjs",
        scenarios: &[
            "token-moves-once",
            "token-refuses",
            "token-received-by-its-payee-only",
            "facilitator-offers",
        ],
        on: Some(Ground::Evm),
        before: None,
    },
    Client {
        name: "chain-permit",
        runtime: Runtime::Node,
        script: "permit_check.mjs",
        scenarios: &["permit-moves-once", "permit-refuses", "upto-moves-what-was-used", "upto-refuses"],
        on: Some(Ground::Evm),
        before: None,
    },
    Client {
        name: "chain-channels",
        runtime: Runtime::Node,
        script: "channels_check.mjs",
        scenarios: &[
            "channel-deposit-claim-settle-refund",
            "channel-deposit-refuses",
            "channel-claim-refuses",
            "channel-refund-refuses",
            "channel-withdraw-takes-its-time",
        ],
        on: Some(Ground::Evm),
        before: None,
    },
    Client {
        name: "x402-fetch",
        runtime: Runtime::Node,
        script: "x402_fetch.mjs",
        scenarios: &[
            "pays-and-streams",
            "pays-as-version-1",
            "key-spends-change",
            "disconnect-is-charged",
            "one-payment-64-times",
        ],
        on: Some(Ground::Evm),
        before: Some(Takes::Exact),
    },
    Client {
        name: "x402-axios",
        runtime: Runtime::Node,
        script: "x402_axios.mjs",
        scenarios: &["pays", "pays-and-streams"],
        on: Some(Ground::Evm),
        before: Some(Takes::Exact),
    },
    Client {
        name: "x402-python",
        runtime: Runtime::Python,
        script: "x402_exact.py",
        scenarios: &["pays", "pays-and-streams"],
        on: Some(Ground::Evm),
        before: Some(Takes::Exact),
    },
    Client {
        name: "x402-fetch-permit",
        runtime: Runtime::Node,
        script: "x402_fetch_permit.mjs",
        scenarios: PERMIT,
        on: Some(Ground::Evm),
        before: Some(Takes::Permit),
    },
    Client {
        name: "x402-python-permit",
        runtime: Runtime::Python,
        script: "x402_permit.py",
        scenarios: PERMIT,
        on: Some(Ground::Evm),
        before: Some(Takes::Permit),
    },
    Client {
        name: "x402-fetch-upto",
        runtime: Runtime::Node,
        script: "x402_fetch_upto.mjs",
        scenarios: &["upto-without-allowance-is-412", "upto-takes-what-was-used", "upto-streams"],
        on: Some(Ground::Evm),
        before: Some(Takes::Upto),
    },
    Client {
        name: "x402-python-upto",
        runtime: Runtime::Python,
        script: "x402_upto.py",
        scenarios: &["upto-takes-what-was-used", "upto-streams"],
        on: Some(Ground::Evm),
        before: Some(Takes::Upto),
    },
    Client {
        name: "x402-fetch-channels",
        runtime: Runtime::Node,
        script: "x402_fetch_channels.mjs",
        scenarios: &[
            "channel-opens-and-streams",
            "vouchers-ask-nobody",
            "cold-client-is-put-right",
            "channel-is-claimed-and-settled",
            "refund-gives-the-rest-back",
        ],
        on: Some(Ground::Evm),
        before: Some(Takes::Channels),
    },
    Client {
        name: "x402-python-channels",
        runtime: Runtime::Python,
        script: "x402_channels.py",
        scenarios: &[
            "channel-opens-and-streams",
            "vouchers-ask-nobody",
            "cold-client-is-put-right",
            "refund-gives-the-rest-back",
        ],
        on: Some(Ground::Evm),
        before: Some(Takes::Channels),
    },
    Client {
        name: "x402-extensions",
        runtime: Runtime::Node,
        script: "x402_extensions.mjs",
        scenarios: &[
            "named-payment",
            "sign-in",
            "sign-in-once",
            "key-without-a-call",
            "offers-and-receipts",
            "discovery",
        ],
        on: Some(Ground::Evm),
        before: Some(Takes::Extensions),
    },
    Client {
        name: "x402-fetch-svm",
        runtime: Runtime::Node,
        script: "x402_fetch_svm.mjs",
        scenarios: &["solana-pays", "solana-pays-and-streams"],
        on: Some(Ground::Solana),
        before: Some(Takes::Solana),
    },
];

/// Where things are: sources in the repository, everything made by a run below `target`.
pub(crate) struct Places {
    root: PathBuf,
    pub(crate) sources: PathBuf,
    pub(crate) work: PathBuf,
}

/// Runs the clients whose name contains NAME, or all, and prints a line per scenario.
pub(crate) fn run(args: &[String]) -> Outcome {
    let only = match args {
        [] => "",
        [flag, name] if flag == "--only" => name.as_str(),
        _ => {
            eprintln!("usage: cargo xtask interop [--only NAME]; {}", names());
            return Outcome { failed: 1, ..Outcome::default() };
        }
    };
    let clients: Vec<&Client> = CLIENTS.iter().filter(|c| c.name.contains(only)).collect();
    if clients.is_empty() {
        eprintln!("no client is called `{only}`; {}", names());
        return Outcome { failed: 1, ..Outcome::default() };
    }
    let places = Places::find();
    let mut report = Report { require_all: require_all(), outcome: Outcome::default() };
    let (ready, programs) = prepare(&clients, &places, &mut report);
    if !ready.is_empty() {
        perform(&ready, &programs, &places, &mut report);
    }
    report.outcome
}

/// Variables a script finds its surroundings by.
type Env = BTreeMap<&'static str, String>;

/// A client with the program that runs its script.
type Ready<'a> = (&'a Client, PathBuf);

/// Programs that scripts run on, each with why it is not there if it is not.
struct Programs {
    node: Found,
    python: Found,
}

/// A program with its packages. `Ok(Err)`: the packages cannot be installed, and that is a failure; `Err`: this machine
/// has no such program.
type Found = Result<Result<PathBuf, String>, String>;

impl Programs {
    fn of(&self, runtime: Runtime) -> &Found {
        match runtime {
            Runtime::Node => &self.node,
            Runtime::Python => &self.python,
        }
    }
}

impl Client {
    /// What its script, and what stands around it, run on.
    fn runtimes(&self) -> Vec<Runtime> {
        let around = match self.on {
            None => None,
            Some(Ground::Evm) => Some(Runtime::Node),
            Some(Ground::Solana) => Some(Runtime::Python),
        };
        // A facilitator is always a program of Node.
        let facilitator = self.on.map(|_| Runtime::Node);
        [Some(self.runtime), facilitator, around].into_iter().flatten().collect()
    }
}

/// Installs the packages that clients need; what cannot run is reported here and not returned.
fn prepare<'a>(clients: &[&'a Client], places: &Places, report: &mut Report) -> (Vec<Ready<'a>>, Programs) {
    let wanted = |runtime| clients.iter().any(|client| client.runtimes().contains(&runtime));
    let unwanted = || Err("not wanted".to_owned());
    let programs = Programs {
        python: if wanted(Runtime::Python) {
            tools::python().map(|python| install::python(&python, places))
        } else {
            unwanted()
        },
        node: if wanted(Runtime::Node) {
            tools::node().map(|node| install::node(&node, places))
        } else {
            unwanted()
        },
    };
    let mut ready = Vec::new();
    for &client in clients {
        let runtimes = client.runtimes();
        let found = |runtime: &Runtime| programs.of(*runtime);
        let missing = runtimes.iter().find_map(|runtime| found(runtime).as_ref().err());
        let broken = runtimes.iter().find_map(|runtime| found(runtime).as_ref().ok()?.as_ref().err());
        let anvil = client.on.and_then(|_| install::anvil(places).err());
        match (missing.or(anvil.as_ref()), broken, programs.of(client.runtime)) {
            (Some(missing), _, _) => report.missing(client, missing),
            (None, Some(why), _) => report.all_failed(client, why),
            (None, None, Ok(Ok(program))) => ready.push((client, program.clone())),
            (None, None, Ok(Err(why)) | Err(why)) => report.all_failed(client, why),
        }
    }
    (ready, programs)
}

/// Sets the stage and runs the clients one after the other: several count what reaches the upstream.
fn perform(ready: &[Ready<'_>], programs: &Programs, places: &Places, report: &mut Report) {
    let chain = chain(ready, programs, places);
    let urls = chain.as_ref().ok().and_then(|c| c.as_ref()).map(stage::Chain::urls);
    let gateways = gateways(ready, urls.as_ref(), places);
    for (client, program) in ready {
        match surroundings(client, &chain, &gateways) {
            Ok(env) => play(client, program, &env, places, report),
            Err(why) => report.all_failed(client, &why),
        }
    }
}

/// The chains that the clients need, if they need any.
fn chain(ready: &[Ready<'_>], programs: &Programs, places: &Places) -> Result<Option<stage::Chain>, String> {
    let needs = |ground| ready.iter().any(|(client, _)| client.on == Some(ground));
    let program = |found: &Found| found.clone().and_then(|installed| installed);
    let solana = if needs(Ground::Solana) { Some(program(&programs.python)?) } else { None };
    if solana.is_none() && !needs(Ground::Evm) {
        return Ok(None);
    }
    let node = program(&programs.node)?;
    stage::Chain::start(&install::anvil(places)?, &node, solana.as_deref(), places).map(Some)
}

/// The gateways of a run, each with why it does not stand if it does not.
type Gateways = BTreeMap<Takes, Result<stage::Gateway, String>>;

/// One gateway for each of what the clients need.
fn gateways(ready: &[Ready<'_>], urls: Option<&stage::ChainUrls>, places: &Places) -> Gateways {
    let mut gateways = Gateways::new();
    for takes in ready.iter().filter_map(|(client, _)| client.before) {
        gateways.entry(takes).or_insert_with(|| stage::Gateway::start(takes, urls, places));
    }
    gateways
}

/// What a script has to know, or why a part of the stage it needs does not stand.
fn surroundings(
    client: &Client,
    chain: &Result<Option<stage::Chain>, String>,
    gateways: &Gateways,
) -> Result<Env, String> {
    let mut env = Env::new();
    if client.on.is_some()
        && let Some(chain) = chain.as_ref().map_err(Clone::clone)?
    {
        chain.describe(&mut env);
    }
    if let Some(gateway) = client.before.and_then(|takes| gateways.get(&takes)) {
        gateway.as_ref().map_err(Clone::clone)?.describe(&mut env)?;
    }
    Ok(env)
}

/// Runs one client's script and reports each of its scenarios.
fn play(client: &Client, program: &Path, env: &Env, places: &Places, report: &mut Report) {
    let script = match client.runtime {
        Runtime::Node => places.work.join("npm/node").join(client.script),
        Runtime::Python => places.sources.join("python").join(client.script),
    };
    let log = places.log(client.name);
    let mut command = Command::new(program);
    command.arg(script).args(client.scenarios).envs(env).env("PYTHONDONTWRITEBYTECODE", "1");
    // A proxy of this machine would stand between the client and the loopback gateway.
    command.env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1");
    let played = process::run(command, &log, CLIENT_TIME_MAX);
    let told = told(&played.stdout);
    for &scenario in client.scenarios {
        match told.get(scenario) {
            Some(Ok(())) => report.passed(client, scenario),
            Some(Err(why)) => report.failed(client, scenario, why),
            None => report.failed(client, scenario, &format!("no outcome told: {}", played.end)),
        }
    }
    if !played.succeeded || told.values().any(Result::is_err) {
        eprintln!("  details: {}", log.display());
    }
}

/// Reads a script's lines, `pass NAME` or `fail NAME reason`; anything else is not for us.
fn told(stdout: &str) -> BTreeMap<&str, Result<(), &str>> {
    stdout
        .lines()
        .filter_map(|line| {
            let (verdict, rest) = line.split_once(' ')?;
            let (name, reason) = rest.split_once(' ').unwrap_or((rest, "no reason told"));
            match verdict {
                "pass" => Some((name, Ok(()))),
                "fail" => Some((name, Err(reason))),
                _ => None,
            }
        })
        .collect()
}

/// Prints and counts.
struct Report {
    require_all: bool,
    outcome: Outcome,
}

impl Report {
    fn passed(&mut self, client: &Client, scenario: &str) {
        self.outcome.passed += 1;
        println!("pass {} {scenario}", client.name);
    }

    fn failed(&mut self, client: &Client, scenario: &str, why: &str) {
        self.outcome.failed += 1;
        println!("fail {} {scenario} {why}", client.name);
    }

    fn all_failed(&mut self, client: &Client, why: &str) {
        client.scenarios.iter().for_each(|scenario| self.failed(client, scenario, why));
    }

    /// This machine lacks what the client runs on: no fault of the gateway, but nothing was proven.
    fn missing(&mut self, client: &Client, why: &str) {
        if self.require_all {
            return self.all_failed(client, &format!("{why} (FARTHING_REQUIRE=all)"));
        }
        for scenario in client.scenarios {
            self.outcome.skipped += 1;
            println!("skip {} {scenario} {why}", client.name);
        }
    }
}

impl Places {
    fn find() -> Self {
        Self::of("interop")
    }

    /// Sources below `tests`, work below `target`, each in the folder `name`.
    pub(crate) fn of(name: &str) -> Self {
        let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        let root = root.canonicalize().unwrap_or(root);
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let work = root.join(target).join(name);
        Self { sources: root.join("tests").join(name), root, work }
    }

    /// Where the process `name` writes what it has to say.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.work.join("log").join(format!("{name}.log"))
    }
}

fn require_all() -> bool {
    std::env::var("FARTHING_REQUIRE").is_ok_and(|value| value == "all")
}

fn names() -> String {
    let names: Vec<&str> = CLIENTS.iter().map(|c| c.name).collect();
    format!("clients: {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::{CLIENTS, Outcome, Places, Report, Runtime, told};

    #[test]
    fn told_table() {
        let told = told("pass a\nnoise\nfail b because of this\nfail c\npassed d\n");
        assert_eq!(told.len(), 3);
        assert_eq!(told["a"], Ok(()));
        assert_eq!(told["b"], Err("because of this"));
        assert_eq!(told["c"], Err("no reason told"));
    }

    #[test]
    fn missing_tool_is_a_failure_only_where_all_is_required() {
        let client = &CLIENTS[0];
        let all = u32::try_from(client.scenarios.len()).unwrap();
        for (require_all, failed, skipped) in [(false, 0, all), (true, all, 0)] {
            let mut report = Report { require_all, outcome: Outcome::default() };
            report.missing(client, "python3 not found");
            assert_eq!(report.outcome, Outcome { passed: 0, failed, skipped });
        }
    }

    /// The table and the scripts must agree, or a scenario would be lost without a word.
    #[test]
    fn every_scenario_is_in_its_script() {
        let places = Places::find();
        for client in CLIENTS {
            let folder = match client.runtime {
                Runtime::Node => "node",
                Runtime::Python => "python",
            };
            let text = std::fs::read_to_string(places.sources.join(folder).join(client.script)).unwrap();
            for scenario in client.scenarios {
                let python = format!("def {}(", scenario.replace('-', "_"));
                let quoted = format!("\"{scenario}\"");
                let method = format!("async {scenario}()");
                let there = [python, quoted, method].iter().any(|name| text.contains(name));
                assert!(there, "{} has no scenario {scenario}", client.script);
            }
        }
    }
}
