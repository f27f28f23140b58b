//! Foreign, unmodified clients against the gateway: `cargo xtask interop [--only NAME] [--write]`.
//!
//! One line per client and scenario, `pass|fail|skip CLIENT SCENARIO [reason]`. The scenarios are
//! scripts under `tests/interop`; this module installs what they need (once per lock file), sets
//! the stage (mock upstream, local chain, facilitator, gateway) and counts. A scenario that says
//! nothing has failed, so a script that dies early cannot pass by silence.

mod alipay;
pub(crate) mod books;
mod cashu;
mod clients;
mod composition;
mod config;
pub(crate) mod debian;
pub(crate) mod install;
mod lightning;
pub(crate) mod process;
mod recipe;
pub(crate) mod stage;
mod tempo;
pub(crate) mod tools;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use self::alipay::AlipayJudge;
use self::cashu::CashuMint;
use self::clients::{CLIENTS, Client, Ground, Runtime, Takes};
use self::composition::Table;
use self::config::Around;
use self::install::Environment;
use self::lightning::{LnBits, NwcWallets, Wallet};
use self::tempo::Tempo;
use crate::outcome::Outcome;

/// Longest run of all scenarios of one client; each scenario has its own, shorter limit inside.
const CLIENT_TIME_MAX: Duration = Duration::from_secs(600);

/// Where things are: sources in the repository, everything made by a run under `target/interop`.
pub(crate) struct Places {
    root: PathBuf,
    pub(crate) sources: PathBuf,
    pub(crate) work: PathBuf,
}

/// Runs the clients whose name contains NAME, or all, and prints a line per scenario. With `--write` the table in
/// README.md becomes what they show, if all of its clients run.
pub(crate) fn run(args: &[String]) -> Outcome {
    let (args, write) = match args.split_last() {
        Some((last, before)) if last == "--write" => (before, true),
        Some(_) | None => (args, false),
    };
    let only = match args {
        [] => "",
        [flag, name] if flag == "--only" => name.as_str(),
        _ => {
            eprintln!("usage: cargo xtask interop [--only NAME] [--write]; {}", names());
            return Outcome { failed: 1, ..Outcome::default() };
        }
    };
    let clients: Vec<&Client> = CLIENTS.iter().filter(|c| c.name.contains(only)).collect();
    if clients.is_empty() {
        eprintln!("no client is called `{only}`; {}", names());
        return Outcome { failed: 1, ..Outcome::default() };
    }
    let places = Places::find();
    let mut report = Report { require_all: require_all(), ..Report::default() };
    let (ready, programs) = prepare(&clients, &places, &mut report);
    if !ready.is_empty() {
        perform(&ready, &programs, &places, &mut report);
    }
    let played = |name| ready.iter().any(|(client, _)| client.name == name);
    let mut of_table =
        CLIENTS.iter().map(|client| client.name).filter(|name| name.starts_with(composition::NAME));
    if of_table.all(played) {
        let held = report.table.hold(&places.root.join("README.md"), write);
        report.told(
            composition::NAME,
            "table-in-readme",
            held.as_ref().map(|&()| ()).map_err(String::as_str),
        );
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
        let found = || client.runtimes().filter_map(|runtime| programs.get(&runtime));
        let anvil = if client.has_chain() { install::anvil(places).err() } else { None };
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
        Runtime::Cargo(test) => Ok(stage::rails_test(test, places)),
    }
}

/// Sets the stage and runs the clients one after the other: several count what reaches the upstream.
fn perform(ready: &[Ready<'_>], programs: &Programs, places: &Places, report: &mut Report) {
    let grounds = Grounds::set(ready, programs, places);
    let gateways = gateways(ready, &grounds.around(), places);
    for (client, program) in ready {
        match surroundings(client, &grounds, &gateways) {
            Ok(env) => play(client, program, &env, places, report),
            Err(why) => report.all_failed(client, &why),
        }
    }
}

/// What clients pay on and with: nothing where nobody needs it, or why it does not stand.
struct Grounds {
    chain: Result<Option<stage::Chain>, String>,
    wallet: Result<Option<Wallet>, String>,
    lnbits: Result<Option<LnBits>, String>,
    nwc: Result<Option<NwcWallets>, String>,
    mint: Result<Option<CashuMint>, String>,
    tempo: Result<Option<Tempo>, String>,
    alipay: Result<Option<AlipayJudge>, String>,
}

impl Grounds {
    fn set(ready: &[Ready<'_>], programs: &Programs, places: &Places) -> Self {
        let needed = |ground: Ground| ready.iter().any(|(client, _)| client.on.contains(&ground));
        let program = |runtime| {
            let found = programs.get(&runtime).ok_or("nobody looked for what it runs on")?;
            found.clone().and_then(|installed| installed)
        };
        let chain = || {
            let python = Runtime::Python(Environment::Sdks);
            let python = if needed(Ground::Solana) { Some(program(python)?) } else { None };
            let node = program(Runtime::Node)?;
            stage::Chain::start(&install::anvil(places)?, &node, python.as_deref(), places)
        };
        let lnbits = || LnBits::start(&program(Runtime::Python(Environment::LnBits))?, places);
        let mint = || CashuMint::start(&program(Runtime::Python(Environment::Cashu))?, places);
        let tempo = || Tempo::start(&install::anvil(places)?, &program(Runtime::Node)?, places);
        let alipay = || AlipayJudge::start(&program(Runtime::Node)?, places);
        let has_chain = needed(Ground::Evm) || needed(Ground::Solana);
        Self {
            chain: has_chain.then(chain).transpose(),
            wallet: needed(Ground::Wallet)
                .then(|| Wallet::start(&program(Runtime::Node)?, places))
                .transpose(),
            lnbits: needed(Ground::LnBits).then(lnbits).transpose(),
            nwc: needed(Ground::Nwc).then(|| NwcWallets::start(&program(Runtime::Node)?, places)).transpose(),
            mint: needed(Ground::Cashu).then(mint).transpose(),
            tempo: needed(Ground::Tempo).then(tempo).transpose(),
            alipay: needed(Ground::Alipay).then(alipay).transpose(),
        }
    }

    /// What a gateway can reach of it.
    fn around(&self) -> Around {
        let chain = self.chain.as_ref().ok().and_then(|chain| chain.as_ref());
        let lnbits = self.lnbits.as_ref().ok().and_then(|lnbits| lnbits.as_ref());
        let mint = self.mint.as_ref().ok().and_then(|mint| mint.as_ref());
        let nwc = self.nwc.as_ref().ok().and_then(|nwc| nwc.as_ref());
        let tempo = self.tempo.as_ref().ok().and_then(|tempo| tempo.as_ref());
        Around {
            chain: chain.map(stage::Chain::urls),
            lnbits: lnbits.map(LnBits::urls),
            mint: mint.map(CashuMint::url),
            nwc_uri: nwc.map(NwcWallets::seller),
            nwc_shop_uri: nwc.map(NwcWallets::shop),
            tempo: tempo.map(Tempo::url),
        }
    }

    /// Tells a script of its ground, or why that does not stand.
    fn describe(&self, ground: Ground, env: &mut Env) -> Result<(), String> {
        match ground {
            Ground::Evm | Ground::Solana => {
                let chain = self.chain.as_ref().map_err(Clone::clone)?;
                chain.as_ref().into_iter().for_each(|chain| chain.describe(env));
            }
            Ground::Wallet => {
                let wallet = self.wallet.as_ref().map_err(Clone::clone)?;
                wallet.as_ref().into_iter().for_each(|wallet| wallet.describe(env));
            }
            Ground::LnBits => {
                let lnbits = self.lnbits.as_ref().map_err(Clone::clone)?;
                lnbits.as_ref().into_iter().for_each(|lnbits| lnbits.describe(env));
            }
            Ground::Nwc => {
                let nwc = self.nwc.as_ref().map_err(Clone::clone)?;
                nwc.as_ref().into_iter().for_each(|nwc| nwc.describe(env));
            }
            Ground::Cashu => {
                let mint = self.mint.as_ref().map_err(Clone::clone)?;
                mint.as_ref().into_iter().for_each(|mint| mint.describe(env));
            }
            Ground::Tempo => {
                let tempo = self.tempo.as_ref().map_err(Clone::clone)?;
                tempo.as_ref().into_iter().for_each(|tempo| tempo.describe(env));
            }
            Ground::Alipay => {
                let alipay = self.alipay.as_ref().map_err(Clone::clone)?;
                alipay.as_ref().into_iter().for_each(|alipay| alipay.describe(env));
            }
        }
        Ok(())
    }
}

/// The gateways of a run, each with why it does not stand if it does not.
type Gateways = BTreeMap<Takes, Result<stage::Gateway, String>>;

/// One gateway for each of what the clients need.
fn gateways(ready: &[Ready<'_>], around: &Around, places: &Places) -> Gateways {
    let mut gateways = Gateways::new();
    for takes in ready.iter().filter_map(|(client, _)| client.before) {
        gateways.entry(takes).or_insert_with(|| stage::Gateway::start(takes, around, places));
    }
    gateways
}

/// What a script has to know, or why a part of the stage it needs does not stand.
fn surroundings(client: &Client, grounds: &Grounds, gateways: &Gateways) -> Result<Env, String> {
    let mut env = Env::new();
    for ground in client.on {
        grounds.describe(*ground, &mut env)?;
    }
    if let Some(gateway) = client.before.and_then(|takes| gateways.get(&takes)) {
        gateway.as_ref().map_err(Clone::clone)?.describe(&mut env)?;
    }
    Ok(env)
}

/// Runs one client's script and reports each of its scenarios.
fn play(client: &Client, program: &Path, env: &Env, places: &Places, report: &mut Report) {
    let log = places.log(client.name);
    let mut command = Command::new(program);
    match client.runtime {
        Runtime::Node => command.arg(places.work.join("npm/node").join(client.script)),
        Runtime::Python(_) => command.arg(places.sources.join("python").join(client.script)),
        // Its program is the tests themselves; those that want a stage are marked as such.
        Runtime::Cargo(_) => command.args(["--ignored", "--test-threads=1"]),
    };
    if !matches!(client.runtime, Runtime::Cargo(_)) {
        command.args(client.scenarios);
    }
    command.envs(env).env("PYTHONDONTWRITEBYTECODE", "1");
    // A proxy of this machine would stand between the client and the loopback gateway.
    command.env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1");
    let played = process::run(command, &log, CLIENT_TIME_MAX);
    let told = told(&played.stdout);
    let verdict = |scenario: &str| told.get(&*scenario.replace('-', "_")).or_else(|| told.get(scenario));
    let good = client.scenarios.iter().all(|scenario| matches!(verdict(scenario), Some(Ok(()))));
    report.table.take(client, &played.stdout, good);
    for &scenario in client.scenarios {
        match verdict(scenario) {
            Some(Ok(())) => report.passed(client, scenario),
            Some(Err(why)) => report.failed(client, scenario, why),
            None => report.failed(client, scenario, &format!("no outcome told: {}", played.end)),
        }
    }
    if !played.succeeded || told.values().any(Result::is_err) {
        eprintln!("  details: {}", log.display());
    }
}

/// Reads a script's lines, `pass NAME` or `fail NAME reason`, and those of a test of Rust, `test NAME ... ok` or
/// something else than ok; anything else is not for us.
fn told(stdout: &str) -> BTreeMap<&str, Result<(), &str>> {
    stdout
        .lines()
        .filter_map(|line| {
            let (verdict, rest) = line.split_once(' ')?;
            let (name, reason) = rest.split_once(' ').unwrap_or((rest, "no reason told"));
            match (verdict, reason) {
                ("pass", _) | ("test", "... ok") => Some((name, Ok(()))),
                ("test", _) if name == "result:" => None,
                ("fail" | "test", _) => Some((name, Err(reason))),
                _ => None,
            }
        })
        .collect()
}

/// Prints and counts.
#[derive(Default)]
struct Report {
    require_all: bool,
    outcome: Outcome,
    table: Table,
}

impl Report {
    fn passed(&mut self, client: &Client, scenario: &str) {
        self.told(client.name, scenario, Ok(()));
    }

    fn failed(&mut self, client: &Client, scenario: &str, why: &str) {
        self.told(client.name, scenario, Err(why));
    }

    fn told(&mut self, name: &str, scenario: &str, verdict: Result<(), &str>) {
        match verdict {
            Ok(()) => {
                self.outcome.passed += 1;
                println!("pass {name} {scenario}");
            }
            Err(why) => {
                self.outcome.failed += 1;
                println!("fail {name} {scenario} {why}");
            }
        }
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
        let told = told(
            "pass a\nnoise\nfail b because of this\nfail c\npassed d\ntest e_f ... ok\ntest g ... FAILED\n",
        );
        assert_eq!(told.len(), 5);
        assert_eq!(told["a"], Ok(()));
        assert_eq!(told["b"], Err("because of this"));
        assert_eq!(told["c"], Err("no reason told"));
        assert_eq!(told["e_f"], Ok(()));
        assert_eq!(told["g"], Err("... FAILED"));
    }

    #[test]
    fn missing_tool_is_a_failure_only_where_all_is_required() {
        let client = &CLIENTS[0];
        let all = u32::try_from(client.scenarios.len()).unwrap();
        for (require_all, failed, skipped) in [(false, 0, all), (true, all, 0)] {
            let mut report = Report { require_all, ..Report::default() };
            report.missing(client, "python3 not found");
            assert_eq!(report.outcome, Outcome { passed: 0, failed, skipped });
        }
    }
}
