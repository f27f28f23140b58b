//! The servers under measurement: ours in two configurations, and with `--peers` those of other projects. They sell
//! the same call for 0.001 USD, behind the same upstream, through the same facilitator.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::payments::{NETWORK, PAY_TO};
use crate::process::{Server, free_address};

/// One call for 0.001 USD, paid by `exact`.
pub(crate) const SOLD: &str = "/v1/sold";
/// The same, and where peers sell from a channel. Ours takes both schemes on one path.
pub(crate) const CHANNEL: &str = "/v1/channel";
/// The same for nothing: what the proxy alone costs.
pub(crate) const FREE: &str = "/v1/free";
/// The same, metered by the provider's report.
pub(crate) const METERED: &str = "/v1/chat/completions";

/// A public key of development chains, worth nothing: signs claims that are never sent here.
const AUTHORIZER_KEY: &str = "8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba";
const O402_VERSION: &str = "0.1.5";

/// A server under measurement.
pub(crate) struct Seller {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) server: Server,
}

/// Who is behind all of them.
#[derive(Clone, Copy)]
pub(crate) struct Behind {
    pub(crate) upstream: SocketAddr,
    pub(crate) facilitator: SocketAddr,
}

/// Folders of a run.
pub(crate) struct Places {
    /// The workspace.
    pub(crate) root: PathBuf,
    /// `target/bench`: what is kept from run to run.
    pub(crate) kept: PathBuf,
    /// Stores, configurations and logs of this run.
    pub(crate) run: PathBuf,
}

impl Places {
    /// Empties the folder of the run.
    pub(crate) fn prepare() -> Result<Self, String> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = here.parent().unwrap_or(here).to_owned();
        let binary = std::env::current_exe().map_err(|error| error.to_string())?;
        // We run from <target>/<profile>.
        let target = binary.ancestors().nth(2).ok_or("no target folder")?;
        let kept = target.join("bench");
        let run = kept.join("x402");
        if run.exists() {
            fs::remove_dir_all(&run).map_err(|error| format!("{}: {error}", run.display()))?;
        }
        fs::create_dir_all(&run).map_err(|error| format!("{}: {error}", run.display()))?;
        Ok(Self { root, kept, run })
    }

    fn log(&self, name: &str) -> PathBuf {
        self.run.join(format!("{name}.log"))
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let path = self.run.join(name);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }
}

/// The release binary: `FARTHING_BIN`, or built now.
pub(crate) fn binary(places: &Places) -> Result<PathBuf, String> {
    if let Some(binary) = std::env::var_os("FARTHING_BIN") {
        return Ok(binary.into());
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo told us about our own package would make it build others anew.
    let ours = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"];
    for (name, _) in std::env::vars_os() {
        if ours.iter().any(|start| name.to_string_lossy().starts_with(start)) {
            cargo.env_remove(name);
        }
    }
    println!("building the gateway");
    let build = ["build", "--quiet", "--release", "--locked", "--package", "farthing"];
    let built = cargo.args(build).current_dir(&places.root).status();
    if !built.is_ok_and(|status| status.success()) {
        return Err("the gateway does not build".to_owned());
    }
    let target = places.kept.parent().unwrap_or(&places.kept);
    Ok(target.join("release/farthing"))
}

/// Our gateway with its configuration.
pub(crate) struct Ours {
    pub(crate) seller: Seller,
    binary: PathBuf,
    config: PathBuf,
}

impl Ours {
    /// Starts a gateway. `rails` is the YAML of that section, `{x402}` in it the usual keys of x402.
    pub(crate) fn start(
        name: &'static str,
        binary: &Path,
        rails: &str,
        behind: Behind,
        places: &Places,
    ) -> Result<Self, String> {
        let (address, admin) = (free_address()?, free_address()?);
        let Behind { upstream, facilitator } = behind;
        let x402 = format!(
            "networks: {{ \"{NETWORK}\": {{ asset: USDC, pay_to: \"{PAY_TO}\" }} }}, facilitators: [\"http://{facilitator}\"]"
        );
        let rails = rails.replace("{x402}", &x402).replace("{key}", "${env:AUTHORIZER_KEY}");
        let store = places.run.join(format!("{name}-store").replace(' ', "-"));
        let store = store.display();
        let text = format!(
            r#"mode: test
server: {{ listen: ["{address}"], threads: 2 }}
store: {{ path: "{store}" }}
upstreams:
  plain: {{ url: "http://{upstream}", dialect: raw }}
  openai: {{ url: "http://{upstream}", dialect: openai }}
prices: {{ "*": {{ input: 1 USD/Mtok, output: 4 USD/Mtok }} }}
routes:
  - {{ name: sold, match: {{ method: POST, path: {SOLD} }}, upstream: plain, price: {{ per_call: 0.001 USD }} }}
  - {{ name: channel, match: {{ method: POST, path: {CHANNEL} }}, upstream: plain, price: {{ per_call: 0.001 USD }} }}
  - {{ name: free, match: {{ method: POST, path: {FREE} }}, upstream: plain, price: free }}
  - {{ name: metered, match: {{ method: POST, path: {METERED} }}, upstream: openai, price: by_model }}
rails: {rails}
limits:
  unpaid: {{ per_ip: 4000000000/min }}
  default: {{ rpm: 4000000000, concurrent: 100000 }}
admin: {{ listen: "{admin}" }}
"#
        );
        let config = places.write(&format!("{name}.yaml").replace(' ', "-"), &text)?;
        let mut serve = Command::new(binary);
        serve.arg("serve").arg("--config").arg(&config).env("AUTHORIZER_KEY", AUTHORIZER_KEY);
        let server = Server::start(name, &serve, &places.log(&name.replace(' ', "-")), address)?;
        let seller = Seller { name, address, server };
        Ok(Self { seller, binary: binary.to_owned(), config })
    }

    /// A key with 1000 TEST.
    pub(crate) fn credit_key(&self) -> Result<String, String> {
        let mut command = Command::new(&self.binary);
        command.args(["key", "new", "--credit", "1000 TEST", "--json", "--config"]).arg(&self.config);
        let output = command.env("AUTHORIZER_KEY", AUTHORIZER_KEY).output();
        let output = output.map_err(|error| format!("farthing key new: {error}"))?;
        let told: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        let key = told.as_ref().and_then(|told| told.get("key")?.as_str());
        // What was printed instead of a key may hold one: say only that it was not understood.
        key.map(str::to_owned).ok_or_else(|| format!("farthing key new ended with {}", output.status))
    }
}

/// The mock upstream in a process of its own: what an answer costs that nobody thinks about.
pub(crate) fn start_bare(places: &Places) -> Result<Seller, String> {
    let address = free_address()?;
    let mut command = Command::new(std::env::current_exe().map_err(|error| error.to_string())?);
    command.args(["bare", &address.to_string()]);
    let server = Server::start("bare", &command, &places.log("bare"), address)?;
    Ok(Seller { name: "bare hyper", address, server })
}

/// Installs the pinned packages where the lock file changed.
pub(crate) fn install_peers(places: &Places) -> Result<PathBuf, String> {
    let (from, to) = (places.root.join("bench/peers"), places.kept.join("peers"));
    let told = |error: std::io::Error| format!("{}: {error}", to.display());
    fs::create_dir_all(&to).map_err(told)?;
    let lock = "package-lock.json";
    let is_there = to.join("installed").exists()
        && fs::read(from.join(lock)).ok().is_some_and(|new| fs::read(to.join(lock)).ok() == Some(new));
    for name in ["package.json", lock, ".npmrc", "shared.mjs", "express.mjs", "hono.mjs"] {
        fs::copy(from.join(name), to.join(name)).map_err(told)?;
    }
    if is_there {
        return Ok(to);
    }
    println!("installing the packages of the peers");
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--silent"]).current_dir(&to).stdout(Stdio::null());
    if !npm.status().map_err(|error| format!("npm: {error}"))?.success() {
        return Err("npm ci failed".to_owned());
    }
    fs::write(to.join("installed"), "").map_err(told)?;
    Ok(to)
}

/// A seller made of the reference packages: `hono` or `express`.
pub(crate) fn start_node(
    name: &'static str,
    script: &str,
    folder: &Path,
    behind: Behind,
    places: &Places,
) -> Result<Seller, String> {
    let address = free_address()?;
    let mut node = Command::new("node");
    node.arg(folder.join(script)).env("NODE_ENV", "production");
    node.env("PORT", address.port().to_string()).env("PAY_TO", PAY_TO);
    node.env("AUTHORIZER_KEY", format!("0x{AUTHORIZER_KEY}"));
    node.env("UPSTREAM_URL", format!("http://{}", behind.upstream));
    node.env("FACILITATOR_URL", format!("http://{}", behind.facilitator));
    let server = Server::start(name, &node, &places.log(script), address)?;
    Ok(Seller { name, address, server })
}

/// The gateway `o402`, if it was installed; see `build_o402`.
pub(crate) fn start_o402(behind: Behind, places: &Places) -> Result<Seller, String> {
    let binary = places.kept.join("o402/bin/o402");
    if !binary.exists() {
        return Err("not installed; --build-o402 builds it once, which takes many minutes".to_owned());
    }
    let address = free_address()?;
    let Behind { upstream, facilitator } = behind;
    let text = format!(
        r#"[server]
bind = "{address}"
base_url = "http://{address}"

[payment]
enabled = true

[payment.facilitator]
url = "http://{facilitator}"

[payment.pay_to]
"eip155:*" = "{PAY_TO}"

[[payment.accepts]]
scheme = "exact"
network = "{NETWORK}"
asset = "usdc"
transfer_method = "eip3009"

[pricing.default]
scheme = "exact"
price = "0.001"
request_floor = "0.00001"
input_per_million = "1"
output_per_million = "4"
cached_input_per_million = "1"
reasoning_per_million = "4"
ceiling_multiplier = "1.0"
max_ceiling = "5.00"
max_input_tokens = 128000
default_max_output_tokens = 4096

[[upstreams]]
name = "mock"
base_url = "http://{upstream}"
api_key = "sk-nobody"
"#
    );
    let config = places.write("o402.toml", &text)?;
    let mut serve = Command::new(binary);
    serve.arg("serve").arg("--config").arg(config).current_dir(&places.run);
    let server = Server::start("o402", &serve, &places.log("o402"), address)?;
    Ok(Seller { name: "o402", address, server })
}

/// Builds `o402` from the registry, where that has not been done.
pub(crate) fn build_o402(places: &Places) -> Result<(), String> {
    if places.kept.join("o402/bin/o402").exists() {
        return Ok(());
    }
    println!("building o402 {O402_VERSION}");
    let mut cargo = Command::new("nice");
    cargo.args(["-n", "10", "cargo", "install", "o402", "--locked", "--version", O402_VERSION, "--root"]);
    cargo.arg(places.kept.join("o402")).arg("--target-dir").arg(places.kept.join("o402-build"));
    let built = cargo.status().map_err(|error| format!("cargo: {error}"))?;
    if built.success() { Ok(()) } else { Err("o402 does not build".to_owned()) }
}
