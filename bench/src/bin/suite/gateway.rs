//! Our gateway as it is measured, with the configurations that scenarios want.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use proof::secp::SecretKey;
use serde_json::Value;

use crate::payments::{NETWORK, PAY_TO};
use crate::places::Places;
use crate::process::{Server, free_address};

/// One call for 0.001 USD.
pub(crate) const SOLD: &str = "/v1/sold";
/// The same, and where peers sell from a channel. Ours takes both schemes on one path.
pub(crate) const CHANNEL: &str = "/v1/channel";
/// The same for nothing: what the proxy alone costs.
pub(crate) const FREE: &str = "/v1/free";
/// A chat completion, metered by the provider's report.
pub(crate) const METERED: &str = "/v1/chat/completions";
/// A message in Anthropic's words, metered by the provider's report.
pub(crate) const MESSAGES: &str = "/v1/messages";

/// A public key of development chains, worth nothing: signs claims that are never sent here.
pub(crate) const AUTHORIZER_KEY: &str = "8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba";

/// What the gateway logs while it is measured: no line for each call.
pub(crate) const LOGGED: &str = "info,gateway::call=warn";

/// `rails` with `exact` through the facilitator: the same work as the peers'.
pub(crate) const EXACT: &str = "{ x402: { {x402} } }";
/// Everything that is offered at once; what does not fit into a header is left out from the back.
pub(crate) const ALL: &str = "{ test: {}, x402: { {x402}, schemes: [batch-settlement, exact, upto, permit2], \
    batch: { authorizer_key: \"{key}\", claim_above: 1000 USD } } }";
/// Lightning with the test node, whose token is good for many calls, and with all the invoices that are wanted.
pub(crate) const LIGHTNING: &str = "{ l402: { test: {}, price: { usd_per_btc: 100000 }, deposit: 50 USD, ceiling_max: 100 USD, \
    mint: { per_second: 100000, burst: 100000, per_source_per_second: 100000, per_source_burst: 100000 } } }";
/// The same beside x402, with one invoice a second for everybody.
pub(crate) const FEW_INVOICES: &str = "{ x402: { {x402} }, l402: { test: {}, price: { usd_per_btc: 100000 }, deposit: 50 USD, \
    ceiling_max: 100 USD, mint: { per_second: 1, burst: 1 } } }";

/// Sessions by vouchers, and what else the `Payment` scheme can offer without another chain.
pub(crate) const SESSIONS: &str = "{ x402: { {x402} }, mpp: { tempo: { token: \"0x20c0000000000000000000000000000000000001\", \
    pay_to: \"{payee}\", rpc: \"{chain}\", key: \"{key}\", claim_above: 1000 USD, channels_per_payer: 100000 } } }";

/// Nobody is refused for asking too often.
pub(crate) const OPEN: &str = "limits: { unpaid: { per_ip: 4000000000/min }, default: { rpm: 4000000000, concurrent: 100000, spend: { per_day: 1000000 USD } } }";
/// Payers may, and everybody else meets the usual limits.
pub(crate) const GUARDED: &str =
    "limits: { default: { rpm: 4000000000, concurrent: 100000, spend: { per_day: 1000000 USD } } }";

/// What a configuration is made of.
pub(crate) struct Setup<'a> {
    pub(crate) name: &'static str,
    /// `http://...` of the upstream, with what else belongs to it: `, ca: ...`.
    pub(crate) upstream: String,
    pub(crate) facilitator: SocketAddr,
    /// The YAML of that section, with `{x402}` for the usual keys of x402 and `{key}` for the authorizer's.
    pub(crate) rails: &'a str,
    pub(crate) limits: &'a str,
    /// More keys of `server`: `, tls: ...`.
    pub(crate) server: String,
    /// Worker threads.
    pub(crate) threads: u32,
    /// What it is run by, with that one's arguments: a profiler, or nothing.
    pub(crate) under: Vec<String>,
}

/// A gateway that runs, and how it is spoken to by its operator.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) server: Server,
    pub(crate) binary: PathBuf,
    pub(crate) config: PathBuf,
}

impl<'a> Setup<'a> {
    /// The usual one.
    pub(crate) fn new(name: &'static str, upstream: SocketAddr, facilitator: SocketAddr) -> Self {
        Self {
            name,
            upstream: format!("\"http://{upstream}\""),
            facilitator,
            rails: EXACT,
            limits: OPEN,
            server: String::new(),
            threads: 2,
            under: Vec::new(),
        }
    }

    pub(crate) fn rails(self, rails: &'a str) -> Self {
        Self { rails, ..self }
    }

    /// Starts a gateway with it, and waits until it serves: it listens before it has opened its store.
    pub(crate) fn start(self, places: &Places) -> Result<Gateway, String> {
        let (address, admin) = (free_address()?, free_address()?);
        let Self { name, upstream, facilitator, rails, limits, server, threads, under } = self;
        let x402 = format!(
            "networks: {{ \"{NETWORK}\": {{ asset: USDC, pay_to: \"{PAY_TO}\" }} }}, facilitators: [\"http://{facilitator}\"]"
        );
        let payee = SecretKey::parse(AUTHORIZER_KEY).map_err(|error| error.to_string())?.address();
        let rails = rails.replace("{x402}", &x402).replace("{key}", "${env:AUTHORIZER_KEY}");
        let rails = rails.replace("{payee}", &payee.to_string());
        let rails = rails.replace("{chain}", &format!("http://{facilitator}/chain"));
        let folder = self::store(places, name);
        let folder = folder.display();
        let text = format!(
            r#"mode: test
server: {{ listen: ["{address}"], threads: {threads}, limits: {{ per_ip: 10000, in_flight: 10000 }}{server} }}
store: {{ path: "{folder}" }}
upstreams:
  plain: {{ url: {upstream}, dialect: raw }}
  openai: {{ url: {upstream}, dialect: openai }}
  anthropic: {{ url: {upstream}, dialect: anthropic }}
prices: {{ "*": {{ input: 1 USD/Mtok, output: 4 USD/Mtok }} }}
routes:
  - {{ name: sold, match: {{ method: POST, path: {SOLD} }}, upstream: plain, price: {{ per_call: 0.001 USD }} }}
  - {{ name: channel, match: {{ method: POST, path: {CHANNEL} }}, upstream: plain, price: {{ per_call: 0.001 USD }} }}
  - {{ name: free, match: {{ method: POST, path: {FREE} }}, upstream: plain, price: free }}
  - {{ name: metered, match: {{ method: POST, path: {METERED} }}, upstream: openai, price: by_model }}
  - {{ name: messages, match: {{ method: POST, path: {MESSAGES} }}, upstream: anthropic, price: by_model }}
rails: {rails}
{limits}
admin: {{ listen: "{admin}" }}
"#
        );
        let config = places.write(&format!("{name}.yaml"), &text)?;
        let binary = places.gateway()?;
        let mut words = under.into_iter().map(Into::into).chain([binary.clone().into_os_string()]);
        let mut serve = Command::new(words.next().unwrap_or_default());
        serve.args(words).arg("serve").arg("--config").arg(&config).env("AUTHORIZER_KEY", AUTHORIZER_KEY);
        serve.env("RUST_LOG", LOGGED);
        let mut server = Server::start(name, &serve, &places.log(name), address)?;
        server.wait_until(|| is_ready(admin).unwrap_or(false))?;
        Ok(Gateway { address, server, binary, config })
    }
}

/// Whether a gateway says so.
fn is_ready(admin: SocketAddr) -> std::io::Result<bool> {
    let time_max = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&admin, time_max)?;
    stream.set_read_timeout(Some(time_max))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n")?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    Ok(status.ends_with(b" 200"))
}

/// The folder of a gateway's store.
pub(crate) fn store(places: &Places, name: &str) -> PathBuf {
    places.run.join(format!("{name}-store"))
}

impl Gateway {
    /// A key with 10000 TEST and these restrictions.
    pub(crate) fn key(&self, restrictions: &[&str]) -> Result<String, String> {
        let told = self.ask(&[&["key", "new", "--credit", "10000 TEST"], restrictions].concat())?;
        let key = told.get("key").and_then(Value::as_str);
        // What was printed instead of a key may hold one: say only that it was not understood.
        key.map(str::to_owned).ok_or_else(|| "farthing key new told no key".to_owned())
    }

    /// What the command line of the operator says.
    fn ask(&self, arguments: &[&str]) -> Result<Value, String> {
        told(&self.binary, &self.config, arguments)
    }
}

fn told(binary: &Path, config: &Path, arguments: &[&str]) -> Result<Value, String> {
    let mut command = Command::new(binary);
    command.args(arguments).arg("--json").arg("--config").arg(config);
    let output = command.env("AUTHORIZER_KEY", AUTHORIZER_KEY).output();
    let output = output.map_err(|error| format!("farthing: {error}"))?;
    let command = arguments.iter().take(2).copied().collect::<Vec<_>>().join(" ");
    if !output.status.success() {
        return Err(format!("farthing {command}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("farthing {command}: {error}"))
}
