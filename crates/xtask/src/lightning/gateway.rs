//! The gateway before its mock upstream, with invoices from the payee's node.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::http::{self, Answer};
use super::nodes::text;
use super::stage::{MACAROON, Nodes};
use crate::interop::Places;
use crate::interop::install::{empty, told};
use crate::interop::process::{Server, answers, free_port};
use crate::interop::stage::{START_TIME_MAX, binary};

/// Each call costs the same.
pub(super) const FIXED: &str = "/v1/chat/completions";
/// What that is, in millisatoshis at 100,000 dollars for a bitcoin.
pub(super) const FIXED_MSAT: u64 = 10_000;
/// By its tokens, drawn from a deposit.
pub(super) const METERED: &str = "/v1/responses";
/// What the strict gateway asks of its node at most.
pub(super) const INVOICES_PER_SECOND: u64 = 5;
pub(super) const INVOICES_AT_ONCE: u64 = 20;
/// Nano-dollars in a millisatoshi at that price.
const NANO_PER_MSAT: u64 = 1000;

/// A gateway with a fresh store.
pub(super) struct Gateway {
    port: u16,
    upstream_port: u16,
    /// Everything it writes: log, store, what the upstream says.
    pub(super) written: Vec<PathBuf>,
    /// Dropped in this order.
    _servers: [Server; 2],
}

/// What a challenge offers.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) token: String,
    pub(super) invoice: String,
    /// What is credited for it, in nano-dollars.
    pub(super) credit: u64,
    /// From the invoice, decoded by a node.
    pub(super) msat: u64,
    pub(super) hash: String,
}

impl Gateway {
    /// Starts it. `strict`: payments count once the node has told of them, and few invoices are made.
    pub(super) fn start(nodes: &Nodes, strict: bool, places: &Places) -> Result<Self, String> {
        let binary = binary(places)?;
        let name = if strict { "strict" } else { "usual" };
        let (port, admin_port, upstream_port) = (free_port()?, free_port()?, free_port()?);
        let upstream_log = places.log(&format!("upstream-{name}"));
        let mut upstream = Command::new(&binary);
        upstream.args(["upstream", "--listen", &format!("127.0.0.1:{upstream_port}")]);
        let mut upstream = Server::start("mock upstream", &upstream, &upstream_log)?;
        upstream.wait_until(&upstream_log, START_TIME_MAX, || answers(upstream_port, "/__hits"))?;

        let folder = places.work.join("gateway").join(name);
        empty(&folder)?;
        let config = folder.join("farthing.yaml");
        let about = nodes.payee.get("/v1/getinfo")?.json()?;
        let node = Node { port: nodes.payee.port, key: text(&about, "identity_pubkey")?, strict };
        let store = folder.join("store");
        let text = configuration(port, admin_port, upstream_port, &store.display().to_string(), &node);
        fs::write(&config, text).map_err(|error| told("write", &config, &error))?;
        let log = places.log(&format!("gateway-{name}"));
        let mut serve = Command::new(&binary);
        serve
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .env("LND_MACAROON", MACAROON)
            .env("RUST_LOG", "debug");
        let mut gateway = Server::start("gateway", &serve, &log)?;
        gateway.wait_until(&log, START_TIME_MAX, || answers(admin_port, "/readyz"))?;
        let written = vec![store, log, upstream_log];
        Ok(Self { port, upstream_port, written, _servers: [gateway, upstream] })
    }

    /// A request without any payment, and what is offered for one.
    pub(super) fn offer(&self, nodes: &Nodes, path: &str) -> Result<Offer, String> {
        let answer = self.ask(path)?;
        if answer.status != 402 {
            return Err(unexpected("an unpaid request", &answer));
        }
        offered(nodes, &answer)
    }

    /// A request without any payment.
    pub(super) fn ask(&self, path: &str) -> Result<Answer, String> {
        http::post(self.port, path, &[], &body(path))
    }

    /// A request with a token and its preimage.
    pub(super) fn call(&self, path: &str, offer: &Offer, preimage: &str) -> Result<Answer, String> {
        let credential = format!("L402 {}:{preimage}", offer.token);
        http::post(self.port, path, &[("authorization", credential.as_str())], &body(path))
    }

    /// What is left of the payment behind a key, in nano-dollars.
    pub(super) fn balance(&self, key: &str) -> Result<u64, String> {
        let key = format!("Bearer {key}");
        let told = http::get(self.port, "/farthing/balance", &[("authorization", key.as_str())])?.json()?;
        let amount = told["balance"]["amount"].as_str().and_then(nano);
        amount.ok_or_else(|| format!("no balance: {told}"))
    }

    /// Completions that the upstream was asked for.
    pub(super) fn hits(&self) -> Result<u64, String> {
        let told = http::get(self.upstream_port, "/__hits", &[])?.json()?;
        told["requests"].as_u64().ok_or_else(|| format!("no hits: {told}"))
    }
}

/// What was not expected, with enough to understand it. The answer to a payer may hold a new invoice, never a secret.
pub(super) fn unexpected(what: &str, answer: &Answer) -> String {
    format!("{what} is answered with {}: {}", answer.status, String::from_utf8_lossy(&answer.body))
}

/// The offer of a 402: the first line that says how to authenticate is ours, in the one form that every client pays.
fn offered(nodes: &Nodes, answer: &Answer) -> Result<Offer, String> {
    let line = answer.all("www-authenticate").next().unwrap_or_default();
    let read = || {
        let rest = line.strip_prefix("L402 macaroon=\"")?;
        let (token, rest) = rest.split_once("\", invoice=\"")?;
        let (invoice, rest) = rest.split_once("\", version=\"0\", token=\"")?;
        (rest == format!("{token}\"")).then(|| (token.to_owned(), invoice.to_owned()))
    };
    let (token, invoice) = read().ok_or_else(|| format!("no L402 line first, but {line}"))?;
    let decoded = nodes.payer.get(&format!("/v1/payreq/{invoice}"))?.json()?;
    let msat = text(&decoded, "num_msat")?.parse().map_err(|_| "an invoice without amount".to_owned())?;
    let told = answer.json()?;
    let credit = told["error"]["need"].as_str().and_then(nano);
    let credit = credit.ok_or_else(|| format!("a challenge without its price: {told}"))?;
    if msat != credit.div_ceil(NANO_PER_MSAT) {
        return Err(format!("{credit} nano-dollars are sold for {msat} msat"));
    }
    Ok(Offer { token, invoice, credit, msat, hash: text(&decoded, "payment_hash")?.to_owned() })
}

fn body(path: &str) -> Value {
    match path {
        METERED => json!({"model": "gpt-play", "max_output_tokens": 16, "input": "hi"}),
        _ => json!({"model": "gpt-play", "messages": [{"role": "user", "content": "hi"}]}),
    }
}

/// Decimal text in nano units. `None`: more decimals, or no number.
fn nano(text: &str) -> Option<u64> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let missing = 9_usize.checked_sub(rest.len())?;
    format!("{whole}{rest}{}", "0".repeat(missing)).parse().ok()
}

struct Node<'a> {
    port: u16,
    key: &'a str,
    strict: bool,
}

fn configuration(port: u16, admin: u16, upstream: u16, store: &str, node: &Node<'_>) -> String {
    let Node { port: node_port, key, strict } = node;
    let mint = if *strict {
        format!("per_second: {INVOICES_PER_SECOND}, burst: {INVOICES_AT_ONCE}")
    } else {
        "per_second: 1000, burst: 1000".to_owned()
    };
    format!(
        r#"mode: test
server: {{ listen: ["127.0.0.1:{port}"], public_url: "http://127.0.0.1:{port}" }}
store: {{ path: "{store}" }}
upstreams:
  mock: {{ url: "http://127.0.0.1:{upstream}", dialect: openai }}
prices:
  models:
    "gpt-*": {{ input: 1 USD/Mtok, output: 4 USD/Mtok }}
limits: {{ unpaid: {{ per_ip: 6000/min }} }}
metering: {{ hold: {{ step: 4, default_output: 4, min_output: 1 }} }}
routes:
  - {{ name: fixed, match: {{ method: POST, path: {FIXED} }}, upstream: mock, price: {{ per_call: 0.01 USD }} }}
  - {{ name: metered, match: {{ method: POST, path: {METERED} }}, upstream: mock, price: by_model }}
rails:
  l402:
    lnd: {{ url: "http://127.0.0.1:{node_port}", macaroon: "${{env:LND_MACAROON}}" }}
    network: regtest
    node_key: {key}
    price: {{ usd_per_btc: 100000 }}
    strict: {strict}
    # A machine that is busy with a build takes its time.
    timeout: 30s
    # One address pays for everything here.
    mint: {{ {mint}, per_source_per_second: 10000, per_source_burst: 10000 }}
admin: {{ listen: "127.0.0.1:{admin}" }}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::nano;

    #[test]
    fn nano_table() {
        for (text, expected) in [
            ("0.000000000", Some(0)),
            ("0.01", Some(10_000_000)),
            ("12", Some(12_000_000_000)),
            ("0.0000000001", None),
            ("x", None),
        ] {
            assert_eq!(nano(text), expected, "{text}");
        }
    }
}
