//! What stands around the clients: the local chain with its facilitator, and the gateway before
//! its mock upstream. All on loopback, on ports that were free, gone when dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::process::{self, Server, answers, free_port, listens};
use super::{Env, Places, Takes, install};

/// Longest start of one server on a busy machine.
pub(crate) const START_TIME_MAX: Duration = Duration::from_secs(30);
/// Longest build of the gateway from nothing.
pub(crate) const BUILD_TIME_MAX: Duration = Duration::from_secs(1800);
/// Where the seller is paid: a public test account, worth nothing.
const PAY_TO: &str = "0x976EA74026E726554dB657fA54763abd0C3a0aa9";

/// Signs claims and refunds of payment channels: a public test key, worth nothing.
const AUTHORIZER_KEY: &str = "4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356";
/// Where it is paid on Solana: of the seed 08, 32 times.
const SOLANA_PAY_TO: &str = "2KW2XRd9kwqet15Aha2oK3tYvd3nWbTFH1MBiRAv1BE1";

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
pub(crate) fn cargo() -> std::ffi::OsString {
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
    port: u16,
    upstream_port: u16,
    log: PathBuf,
    /// Dropped in this order.
    _servers: [Server; 2],
}

impl Gateway {
    /// Starts both; with a facilitator the gateway also takes x402 payments on the local chain.
    pub(super) fn start(takes: Takes, chain: Option<&ChainUrls>, places: &Places) -> Result<Self, String> {
        let binary = binary(places)?;
        let (port, admin_port, upstream_port) = (free_port()?, free_port()?, free_port()?);

        let mut upstream = Command::new(&binary);
        upstream.args(["upstream", "--listen", &format!("127.0.0.1:{upstream_port}")]);
        let name = takes.name();
        let log = places.log(&format!("upstream-{name}"));
        let mut upstream = Server::start("mock upstream", &upstream, &log)?;
        upstream.wait_until(&log, START_TIME_MAX, || answers(upstream_port, "/__hits"))?;

        let folder = places.work.join("gateway").join(name);
        install::empty(&folder)?;
        let config = folder.join("farthing.yaml");
        let store = folder.join("store");
        let text = config_text(
            takes,
            &Ports { gateway: port, admin: admin_port, upstream: upstream_port },
            &store,
            chain,
        );
        fs::write(&config, text).map_err(|e| format!("cannot write {}: {e}", config.display()))?;
        let mut serve = Command::new(&binary);
        serve.arg("serve").arg("--config").arg(&config).env("AUTHORIZER_KEY", AUTHORIZER_KEY);
        let log = places.log(&format!("gateway-{name}"));
        let mut gateway = Server::start("gateway", &serve, &log)?;
        gateway.wait_until(&log, START_TIME_MAX, || answers(admin_port, "/readyz"))?;

        let log = places.log("key");
        Ok(Self { binary, config, port, upstream_port, log, _servers: [gateway, upstream] })
    }

    /// Tells a script where the gateway is, with a funded and an empty key of its own.
    pub(super) fn describe(&self, env: &mut Env) -> Result<(), String> {
        env.insert("GATEWAY_URL", loopback(self.port));
        env.insert("UPSTREAM_URL", loopback(self.upstream_port));
        env.insert("FARTHING_KEY", self.new_key(&["--credit", "1 TEST"])?);
        env.insert("FARTHING_EMPTY_KEY", self.new_key(&[])?);
        // Enough for a prompt and half of what the mock upstream says.
        env.insert("FARTHING_SMALL_KEY", self.new_key(&["--credit", "0.00013 TEST"])?);
        env.insert("FARTHING_SMALL_KEY_TOO", self.new_key(&["--credit", "0.00013 TEST"])?);
        Ok(())
    }

    fn new_key(&self, more: &[&str]) -> Result<String, String> {
        let mut command = Command::new(&self.binary);
        command.args(["key", "new", "--json", "--config"]).arg(&self.config).args(more);
        command.env("AUTHORIZER_KEY", AUTHORIZER_KEY);
        let ended = process::run(command, &self.log, START_TIME_MAX);
        let told: Option<serde_json::Value> = serde_json::from_str(&ended.stdout).ok();
        let key = told.as_ref().and_then(|told| told.get("key")?.as_str());
        // What was printed instead of a key may hold one: say only that it was not understood.
        let key = key.filter(|_| ended.succeeded).map(str::to_owned);
        key.ok_or_else(|| format!("farthing key new: {}, see {}", ended.end, self.log.display()))
    }
}

impl Takes {
    /// What its logs and its folder are called by.
    fn name(self) -> &'static str {
        match self {
            Takes::Exact => "exact",
            Takes::Permit => "permit",
            Takes::Upto => "upto",
            Takes::Channels => "channels",
            Takes::Extensions => "extensions",
            Takes::Solana => "solana",
        }
    }

    /// The ways to pay in the order of the offers: whoever knows the first one takes it.
    fn schemes(self) -> &'static str {
        match self {
            Takes::Exact => "exact, permit2",
            Takes::Permit => "permit2, exact",
            Takes::Upto => "upto, exact",
            Takes::Channels => "batch-settlement, exact",
            Takes::Extensions | Takes::Solana => "exact",
        }
    }

    /// What payment channels and extensions need besides. What the scripts use of one before they look for a claim is worth less than
    /// what is claimed.
    fn more(self) -> &'static str {
        match self {
            Takes::Channels => {
                r#"    batch:
      { authorizer_key: "${env:AUTHORIZER_KEY}", withdraw_delay: 15m, min_deposit: 0.005 USD, claim_above: 0.0005 USD }
"#
            }
            Takes::Extensions => {
                "    extensions: [payment-identifier, sign-in-with-x, offer-receipt, bazaar]\n"
            }
            Takes::Exact | Takes::Permit | Takes::Upto | Takes::Solana => "",
        }
    }

    /// The rail of play money, and routes that describe themselves: what else stands in the file.
    fn rest(self) -> (&'static str, &'static str) {
        match self {
            // One offer, or a challenge with every extension would be longer than some let through.
            Takes::Extensions => (
                "",
                r#"routes:
  - match: { method: POST, path: /v1/chat/completions }
    upstream: mock
    price: by_model
    discovery: { body: '{"model": "gpt-play", "messages": [{"role": "user", "content": "hi"}]}', output: '{"choices": []}' }
"#,
            ),
            Takes::Exact | Takes::Permit | Takes::Upto | Takes::Channels | Takes::Solana => {
                ("  test: {}\n", "")
            }
        }
    }

    /// Where it is paid, in the order of the offers. What the facilitator says is held against the chain.
    fn networks(self, rpc_url: &str) -> String {
        let evm = format!(r#""eip155:84532": {{ asset: USDC, pay_to: "{PAY_TO}", rpc: "{rpc_url}" }}"#);
        let solana = format!(
            r#""solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1": {{ asset: USDC, pay_to: "{SOLANA_PAY_TO}" }}"#
        );
        match self {
            Takes::Exact | Takes::Permit | Takes::Upto | Takes::Channels | Takes::Extensions => evm,
            Takes::Solana => format!("{solana}, {evm}"),
        }
    }
}

/// What a gateway asks about the chain.
pub(super) struct ChainUrls {
    facilitator: String,
    rpc: String,
}

/// Where one gateway listens, and what it stands before.
struct Ports {
    gateway: u16,
    admin: u16,
    upstream: u16,
}

/// The configuration under test. Prices are those that the scripts count with.
fn config_text(takes: Takes, ports: &Ports, store: &Path, chain: Option<&ChainUrls>) -> String {
    let (schemes, more, (test, routes)) = (takes.schemes(), takes.more(), takes.rest());
    let x402 = chain.map_or_else(String::new, |ChainUrls { facilitator, rpc }| {
        let networks = takes.networks(rpc);
        format!(
            r#"  x402:
    schemes: [{schemes}]
    networks: {{ {networks} }}
    facilitators: ["{facilitator}"]
    deposit: 0.01 USD
{more}"#
        )
    });
    let Ports { gateway, admin, upstream } = ports;
    let store = store.display();
    format!(
        r#"mode: test
server: {{ listen: ["127.0.0.1:{gateway}"], public_url: "http://127.0.0.1:{gateway}" }}
store: {{ path: "{store}" }}
upstreams:
  mock: {{ url: "http://127.0.0.1:{upstream}", dialect: openai }}
  claude: {{ url: "http://127.0.0.1:{upstream}", dialect: anthropic }}
prices:
  models:
    "gpt-*": {{ input: 1 USD/Mtok, output: 4 USD/Mtok }}
    "claude-*": {{ input: 1 USD/Mtok, output: 4 USD/Mtok }}
    "fine-*": {{ input: 0.1 USD/Mtok, output: 0.4 USD/Mtok }}
# A stock client asks for the price before each payment; all of them are one address here.
limits: {{ unpaid: {{ per_ip: 6000/min }} }}
metering: {{ hold: {{ step: 4, default_output: 4, min_output: 1 }} }}
{routes}rails:
{test}{x402}admin: {{ listen: "127.0.0.1:{admin}" }}
"#
    )
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

fn loopback(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{ChainUrls, Ports, Takes, config_text};

    #[test]
    fn x402_is_offered_only_with_a_facilitator() {
        let ports = Ports { gateway: 1, admin: 2, upstream: 3 };
        let urls = ChainUrls { facilitator: "http://127.0.0.1:9".into(), rpc: "http://127.0.0.1:8".into() };
        let with = config_text(Takes::Permit, &ports, Path::new("/s"), Some(&urls));
        assert!(with.contains("rpc: \"http://127.0.0.1:8\""));
        assert!(with.contains("  x402:\n    schemes: [permit2, exact]\n    networks:"));
        assert!(with.contains("facilitators: [\"http://127.0.0.1:9\"]\n    deposit:"));
        let without = config_text(Takes::Permit, &ports, Path::new("/s"), None);
        assert!(!without.contains("x402") && without.contains("rails:\n  test: {}\nadmin:"));
    }
}
