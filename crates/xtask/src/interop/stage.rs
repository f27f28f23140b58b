//! What stands around the clients: the local chain with its facilitator, and the gateway before
//! its mock upstream. All on loopback, on ports that were free, gone when dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::clients::Takes;
use super::config::{Around, ChainUrls, PAY_TO, Ports, text};
use super::process::{self, Server, answers, free_port, listens};
use super::{Env, Places, install};

/// Longest start of one server on a busy machine.
pub(crate) const START_TIME_MAX: Duration = Duration::from_secs(120);
/// Longest build of the gateway from nothing.
pub(crate) const BUILD_TIME_MAX: Duration = Duration::from_secs(1800);

/// Signs claims and refunds of payment channels: a public test key, worth nothing.
const AUTHORIZER_KEY: &str = "4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356";

/// Takes what channels of Tempo owe: that of the account that is paid, a public test key, worth nothing.
const PAYEE_KEY: &str = "92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e";

/// What Stripe, as a script plays it, knows the gateway by.
const STRIPE_KEY: &str = "sk_test_of_interop";

/// A development chain with the play token on it, and a facilitator that moves it; beside it one of Solana, if that is
/// needed.
pub(super) struct Chain {
    rpc_port: u16,
    solana_port: Option<u16>,
    facilitator_port: u16,
    /// Dropped in this order.
    _servers: Vec<Server>,
}

impl Chain {
    /// Starts the chain, places and funds the token, starts the facilitator. `python`: for the chain of Solana.
    pub(super) fn start(
        anvil: &Path,
        node: &Path,
        python: Option<&Path>,
        places: &Places,
    ) -> Result<Self, String> {
        let (rpc_port, facilitator_port) = (free_port()?, free_port()?);
        let folder = places.work.join("npm");

        let mut anvil = Command::new(anvil);
        anvil.args([
            "--chain-id",
            "84532",
            "--host",
            "127.0.0.1",
            "--silent",
            "--port",
            &rpc_port.to_string(),
        ]);
        let log = places.log("anvil");
        let mut anvil = Server::start("anvil", &anvil, &log)?;
        anvil.wait_until(&log, START_TIME_MAX, || listens(rpc_port))?;

        let rpc_url = loopback(rpc_port);
        let mut place = Command::new(node);
        place.arg(folder.join("chain/place.mjs")).env("RPC_URL", &rpc_url);
        let log = places.log("place");
        let placed = process::run(place, &log, START_TIME_MAX);
        if !placed.succeeded {
            return Err(format!("cannot place the token: {}, see {}", placed.end, log.display()));
        }

        let behind = second_facilitator(&rpc_url, places)?;
        let (behind_port, behind) = behind.unzip();
        let solana = python.map(|python| solana(python, places)).transpose()?;
        let (solana_port, solana) = solana.unzip();

        let mut facilitator = Command::new(node);
        facilitator.arg(folder.join("chain/facilitator.mjs"));
        facilitator.env("RPC_URL", &rpc_url).env("PORT", facilitator_port.to_string());
        if let Some(port) = behind_port {
            facilitator.env("BEHIND_URL", loopback(port));
        }
        if let Some(port) = solana_port {
            facilitator.env("SOLANA_RPC_URL", loopback(port));
        }
        let log = places.log("facilitator");
        let mut facilitator = Server::start("facilitator", &facilitator, &log)?;
        facilitator.wait_until(&log, START_TIME_MAX, || answers(facilitator_port, "/supported"))?;

        let servers = [Some(facilitator), behind, solana, Some(anvil)].into_iter().flatten().collect();
        Ok(Self { rpc_port, solana_port, facilitator_port, _servers: servers })
    }

    /// Where a gateway reaches it.
    pub(super) fn urls(&self) -> ChainUrls {
        ChainUrls { facilitator: loopback(self.facilitator_port), rpc: loopback(self.rpc_port) }
    }

    /// Tells a script where the chain is.
    pub(super) fn describe(&self, env: &mut Env) {
        env.insert("RPC_URL", loopback(self.rpc_port));
        env.insert("FACILITATOR_URL", loopback(self.facilitator_port));
        env.insert("PAY_TO", PAY_TO.to_owned());
        if let Some(port) = self.solana_port {
            env.insert("SOLANA_RPC_URL", loopback(port));
        }
    }
}

/// Another facilitator, if `FARTHING_FACILITATOR` asks for one: then what that one can do it does.
fn second_facilitator(rpc_url: &str, places: &Places) -> Result<Option<(u16, Server)>, String> {
    let Ok(wanted) = std::env::var("FARTHING_FACILITATOR") else { return Ok(None) };
    if wanted != "x402-rs" {
        return Err(format!("FARTHING_FACILITATOR is {wanted}; the only one we know is x402-rs"));
    }
    let target = places.work.join("facilitator");
    let mut cargo = Command::new(cargo());
    cargo.args(["build", "--quiet", "--locked", "--manifest-path"]);
    cargo.arg(places.sources.join("facilitator/Cargo.toml")).arg("--target-dir").arg(&target);
    let log = places.log("facilitator-build");
    eprintln!("interop: cargo build of x402-rs ...");
    let built = process::run(cargo, &log, BUILD_TIME_MAX);
    if !built.succeeded {
        return Err(format!("cargo build: {}, see {}", built.end, log.display()));
    }
    let port = free_port()?;
    let mut facilitator = Command::new(target.join("debug/farthing-interop-facilitator"));
    facilitator.env("RPC_URL", rpc_url).env("PORT", port.to_string());
    let log = places.log("facilitator-x402-rs");
    let mut facilitator = Server::start("the facilitator of x402-rs", &facilitator, &log)?;
    facilitator.wait_until(&log, START_TIME_MAX, || answers(port, "/supported"))?;
    Ok(Some((port, facilitator)))
}

/// The tool that builds.
fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Starts the chain of Solana.
fn solana(python: &Path, places: &Places) -> Result<(u16, Server), String> {
    let port = free_port()?;
    let mut chain = Command::new(python);
    chain.arg(places.sources.join("python/solana_chain.py"));
    chain.env("PORT", port.to_string()).env("PYTHONDONTWRITEBYTECODE", "1");
    let log = places.log("solana");
    let mut chain = Server::start("the chain of Solana", &chain, &log)?;
    chain.wait_until(&log, START_TIME_MAX, || answers(port, "/"))?;
    Ok((port, chain))
}

/// The gateway under test, with a fresh store, before the mock upstream of the same binary.
pub(super) struct Gateway {
    binary: PathBuf,
    config: PathBuf,
    /// What it finds its secrets in.
    secrets: Vec<(&'static str, String)>,
    /// Of balances.
    currency: &'static str,
    port: u16,
    upstream_port: u16,
    peer_port: u16,
    log: PathBuf,
    /// Dropped in this order.
    _servers: [Server; 2],
}

impl Gateway {
    /// Starts both; the gateway takes what there is around it.
    pub(super) fn start(takes: Takes, around: &Around, places: &Places) -> Result<Self, String> {
        let binary = binary(places)?;
        let (port, admin_port, upstream_port) = (free_port()?, free_port()?, free_port()?);
        let peer_port = free_port()?;

        let mut upstream = Command::new(&binary);
        upstream.args(["upstream", "--listen", &format!("127.0.0.1:{upstream_port}")]);
        let name = takes.recipe().name;
        let log = places.log(&format!("upstream-{name}"));
        let mut upstream = Server::start("mock upstream", &upstream, &log)?;
        upstream.wait_until(&log, START_TIME_MAX, || answers(upstream_port, "/__hits"))?;

        let folder = places.work.join("gateway").join(name);
        install::empty(&folder)?;
        let config = folder.join("farthing.yaml");
        let store = folder.join("store");
        let ports = Ports { gateway: port, admin: admin_port, upstream: upstream_port, peer: peer_port };
        let text = text(takes, &ports, &store, around);
        fs::write(&config, text).map_err(|e| format!("cannot write {}: {e}", config.display()))?;
        let mut serve = Command::new(&binary);
        let mut secrets = vec![
            ("AUTHORIZER_KEY", AUTHORIZER_KEY.to_owned()),
            ("PAYEE_KEY", PAYEE_KEY.to_owned()),
            ("STRIPE_KEY", STRIPE_KEY.to_owned()),
        ];
        secrets.extend(around.lnbits.as_ref().map(|lnbits| ("LNBITS_KEY", lnbits.key.clone())));
        secrets.extend(around.nwc_uri.clone().map(|uri| ("NWC_URI", uri)));
        secrets.extend(around.nwc_shop_uri.clone().map(|uri| ("NWC_SHOP_URI", uri)));
        serve.arg("serve").arg("--config").arg(&config).envs(secrets.iter().cloned());
        let log = places.log(&format!("gateway-{name}"));
        let mut gateway = Server::start("gateway", &serve, &log)?;
        gateway.wait_until(&log, START_TIME_MAX, || answers(admin_port, "/readyz"))?;

        let log = places.log("key");
        let currency = takes.currency();
        Ok(Self {
            binary,
            config,
            secrets,
            currency,
            port,
            upstream_port,
            peer_port,
            log,
            _servers: [gateway, upstream],
        })
    }

    /// Tells a script where the gateway is, with a funded and an empty key of its own.
    pub(super) fn describe(&self, env: &mut Env) -> Result<(), String> {
        env.insert("GATEWAY_URL", loopback(self.port));
        env.insert("UPSTREAM_URL", loopback(self.upstream_port));
        env.insert("FARTHING_BIN", self.binary.display().to_string());
        env.insert("FARTHING_CONFIG", self.config.display().to_string());
        env.insert("PEER_PORT", self.peer_port.to_string());
        env.insert("FARTHING_KEY", self.new_key(Some("1"))?);
        env.insert("FARTHING_EMPTY_KEY", self.new_key(None)?);
        // Enough for a prompt and half of what the mock upstream says.
        env.insert("FARTHING_SMALL_KEY", self.new_key(Some("0.00013"))?);
        env.insert("FARTHING_SMALL_KEY_TOO", self.new_key(Some("0.00013"))?);
        Ok(())
    }

    fn new_key(&self, credit: Option<&str>) -> Result<String, String> {
        let mut command = Command::new(&self.binary);
        command.args(["key", "new", "--json", "--config"]).arg(&self.config);
        command.envs(self.secrets.iter().cloned());
        if let Some(credit) = credit {
            command.arg("--credit").arg(format!("{credit} {}", self.currency));
        }
        let ended = process::run(command, &self.log, START_TIME_MAX);
        let told: Option<serde_json::Value> = serde_json::from_str(&ended.stdout).ok();
        let key = told.as_ref().and_then(|told| told.get("key")?.as_str());
        // What was printed instead of a key may hold one: say only that it was not understood.
        let key = key.filter(|_| ended.succeeded).map(str::to_owned);
        key.ok_or_else(|| format!("farthing key new: {}, see {}", ended.end, self.log.display()))
    }
}

/// The binary in `FARTHING_BIN`, or the one of this workspace, built now.
pub(crate) fn binary(places: &Places) -> Result<PathBuf, String> {
    if let Some(binary) = std::env::var_os("FARTHING_BIN") {
        return Ok(PathBuf::from(binary));
    }
    let mut cargo = Command::new(cargo());
    cargo.args(["build", "--quiet", "--package", "farthing"]).current_dir(&places.root);
    let log = places.log("build");
    let built = process::run(cargo, &log, BUILD_TIME_MAX);
    if !built.succeeded {
        return Err(format!("cargo build: {}, see {}", built.end, log.display()));
    }
    let target = places.work.parent().unwrap_or(&places.root);
    Ok(target.join("debug/farthing"))
}

/// A test of the rails against a program of others, built now.
pub(super) fn rails_test(name: &str, places: &Places) -> Result<PathBuf, String> {
    let mut cargo = Command::new(cargo());
    cargo.args(["test", "--no-run", "--package", "rails", "--test", name, "--message-format=json"]);
    cargo.current_dir(&places.root);
    let log = places.log(&format!("build-rails-{name}"));
    let built = process::run(cargo, &log, BUILD_TIME_MAX);
    let program = built.stdout.lines().find_map(|line| {
        let told: serde_json::Value = serde_json::from_str(line).ok()?;
        told.get("executable")?.as_str().map(PathBuf::from)
    });
    let program = program.filter(|_| built.succeeded);
    program.ok_or_else(|| format!("cargo test: {}, see {}", built.end, log.display()))
}

pub(super) fn loopback(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}
