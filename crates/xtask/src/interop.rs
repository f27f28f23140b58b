//! Foreign, unmodified clients against the gateway: `cargo xtask interop [--only NAME]`.
//!
//! One line per client and scenario, `pass|fail|skip CLIENT SCENARIO [reason]`. The scenarios are
//! scripts under `tests/interop`; this module installs what they need (once per lock file), sets
//! the stage (mock upstream, local chain, facilitator, gateway) and counts. A scenario that says
//! nothing has failed, so a script that dies early cannot pass by silence.

pub(crate) mod books;
mod clients;
pub(crate) mod install;
pub(crate) mod process;
pub(crate) mod stage;
pub(crate) mod tools;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use self::clients::{CLIENTS, Client, Ground, Runtime, Takes};
use self::install::Environment;
use crate::outcome::Outcome;

/// Longest run of all scenarios of one client; each scenario has its own, shorter limit inside.
const CLIENT_TIME_MAX: Duration = Duration::from_secs(120);

/// Where things are: sources in the repository, everything made by a run under `target/interop`.
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

/// Programs that scripts run on.
type Programs = BTreeMap<Runtime, Found>;

/// A program with its packages. `Ok(Err)`: the packages cannot be installed, and that is a failure; `Err`: this machine
/// has no such program.
type Found = Result<Result<PathBuf, String>, String>;

/// Installs the packages that clients need; what cannot run is reported here and not returned.
fn prepare<'a>(clients: &[&'a Client], places: &Places, report: &mut Report) -> (Vec<Ready<'a>>, Programs) {
    let mut programs = Programs::new();
    for runtime in clients.iter().flat_map(|client| client.runtimes()) {
        programs.entry(runtime).or_insert_with(|| found(runtime, places));
    }
    let mut ready = Vec::new();
    for &client in clients {
        let found = || client.runtimes().into_iter().filter_map(|runtime| programs.get(&runtime));
        let anvil = client.on.and_then(|_| install::anvil(places).err());
        let missing = found().find_map(|found| found.as_ref().err()).or(anvil.as_ref());
        let broken = found().find_map(|found| found.as_ref().ok()?.as_ref().err());
        match (missing, broken, programs.get(&client.runtime)) {
            (Some(missing), _, _) => report.missing(client, missing),
            (None, Some(why), _) => report.all_failed(client, why),
            (None, None, Some(Ok(Ok(program)))) => ready.push((client, program.clone())),
            (None, None, Some(Ok(Err(why)) | Err(why))) => report.all_failed(client, why),
            (None, None, None) => report.all_failed(client, "nobody looked for what it runs on"),
        }
    }
    (ready, programs)
}

/// A program with its packages, which are installed if they are not.
fn found(runtime: Runtime, places: &Places) -> Found {
    match runtime {
        Runtime::Node => tools::node().map(|node| install::node(&node, places)),
        Runtime::Python(environment) => {
            let python = tools::python()?;
            environment.suits(&python)?;
            Ok(install::python(&python, environment, places))
        }
    }
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
    let program = |runtime| {
        let found = programs.get(&runtime).ok_or("nobody looked for what it runs on")?;
        found.clone().and_then(|installed| installed)
    };
    let solana = Runtime::Python(Environment::Sdks);
    let solana = if needs(Ground::Solana) { Some(program(solana)?) } else { None };
    if solana.is_none() && !needs(Ground::Evm) {
        return Ok(None);
    }
    let node = program(Runtime::Node)?;
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
        Runtime::Python(_) => places.sources.join("python").join(client.script),
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
    use super::{CLIENTS, Outcome, Report, told};

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
}
