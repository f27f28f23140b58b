//! What stands while the scenarios run: a chain, and two nodes with a channel. All on loopback, gone when dropped.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::bitcoind::Bitcoind;
use super::http::{self, Answer};
use crate::interop::install::empty;
use crate::interop::process::{Server, free_port, listens};
use crate::interop::stage::{BUILD_TIME_MAX, START_TIME_MAX, cargo};
use crate::interop::{Places, process};

/// Opening a channel takes ten seconds on a quiet machine.
const CHANNEL_TIME_MAX: Duration = Duration::from_secs(300);
/// What a node is asked with. Public: what it opens is worth nothing.
pub(super) const MACAROON: &str = "0201036c6e64";
/// The chain's, for an hour on loopback at most: worth nothing.
const CHAIN_PASSWORD: &str = "regtest";
/// After a payment has ended the two sides still take it out of their channel.
const QUIET_TIME_MAX: Duration = Duration::from_secs(30);

/// A node, behind LND's REST interface.
#[derive(Clone, Copy)]
pub(super) struct Node {
    pub(super) port: u16,
}

/// The chain and both nodes.
pub(super) struct Nodes {
    pub(super) payee: Node,
    pub(super) payer: Node,
    /// Dropped in this order.
    _servers: [Server; 2],
}

impl Nodes {
    /// Builds what is to be built, starts the chain and the nodes, and waits for their channel.
    pub(super) fn start(bitcoind: &Bitcoind, places: &Places) -> Result<Self, String> {
        let program = build(places)?;
        let folder = places.work.join("run");
        empty(&folder)?;
        let (rpc_port, peer_port) = (free_port()?, free_port()?);
        let (payee_port, payer_port) = (free_port()?, free_port()?);

        let chain_folder = folder.join("chain");
        empty(&chain_folder)?;
        let mut chain = bitcoind.command();
        chain.args(["-regtest", "-server", "-listen=0", "-dnsseed=0", "-disablewallet", "-rpcuser=farthing"]);
        chain.arg(format!("-datadir={}", chain_folder.display()));
        chain.args([format!("-rpcport={rpc_port}"), format!("-rpcpassword={CHAIN_PASSWORD}")]);
        let log = places.log("chain");
        let mut chain = Server::start("bitcoind", &chain, &log)?;
        chain.wait_until(&log, START_TIME_MAX, || listens(rpc_port))?;

        let mut nodes = Command::new(program);
        nodes.env("FOLDER", &folder).env("CHAIN_PASSWORD", CHAIN_PASSWORD);
        for (name, port) in [
            ("CHAIN_RPC", rpc_port),
            ("PEER_PORT", peer_port),
            ("PAYEE_PORT", payee_port),
            ("PAYER_PORT", payer_port),
        ] {
            nodes.env(name, port.to_string());
        }
        let log = places.log("nodes");
        let mut nodes = Server::start("nodes", &nodes, &log)?;
        nodes.wait_until(&log, CHANNEL_TIME_MAX, || listens(payee_port) && listens(payer_port))?;
        let [payee, payer] = [payee_port, payer_port].map(|port| Node { port });
        Ok(Self { payee, payer, _servers: [nodes, chain] })
    }

    /// What the payer can still send and the payee can, in millisatoshis, once nothing is on its way any more: while
    /// something is, it is in neither.
    pub(super) fn balances(&self) -> Result<Balances, String> {
        let deadline = Instant::now() + QUIET_TIME_MAX;
        let mut last = None;
        loop {
            let (payer, payee) = (self.payer.balance()?, self.payee.balance()?);
            let found = Balances { payer, payee };
            if last == Some(found) {
                return Ok(found);
            }
            last = Some(found);
            if Instant::now() > deadline {
                return Err("the channel does not come to rest".to_owned());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Both ends of the channel, in millisatoshis above the reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Balances {
    pub(super) payer: u64,
    pub(super) payee: u64,
}

impl Balances {
    /// What they are once the payer has paid `msat` to the payee, with no fee between neighbours.
    pub(super) fn after(self, msat: u64) -> Option<Self> {
        Some(Self { payer: self.payer.checked_sub(msat)?, payee: self.payee.checked_add(msat)? })
    }
}

/// How a payment ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// With its preimage in hex.
    Paid(String),
    /// In LND's words.
    Failed(String),
}

impl Node {
    pub(super) fn get(self, path: &str) -> Result<Answer, String> {
        http::get(self.port, path, &[("grpc-metadata-macaroon", MACAROON)])
    }

    pub(super) fn post(self, path: &str, body: &Value) -> Result<Answer, String> {
        http::post(self.port, path, &[("grpc-metadata-macaroon", MACAROON)], body)
    }

    /// Pays an invoice; `Err` when the node did not even try.
    pub(super) fn pay(self, invoice: &str) -> Result<Sent, String> {
        let asked = json!({"payment_request": invoice, "fee_limit_sat": "0", "timeout_seconds": 30});
        let answer = self.post("/v2/router/send", &asked)?;
        let text = String::from_utf8_lossy(&answer.body);
        if answer.status != 200 {
            return Err(format!("{}: {text}", answer.status));
        }
        let last: Option<Value> = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
        let last = last.ok_or_else(|| format!("no word of the payment: {text}"))?;
        let word = |name: &str| last["result"][name].as_str().unwrap_or_default().to_owned();
        match word("status").as_str() {
            "SUCCEEDED" => Ok(Sent::Paid(word("payment_preimage"))),
            "FAILED" => Ok(Sent::Failed(word("failure_reason"))),
            other => Err(format!("the payment stays {other}")),
        }
    }

    /// How many invoices it has made.
    pub(super) fn invoices(self) -> Result<u64, String> {
        let told = self.get("/v1/invoices?reversed=true&num_max_invoices=1")?.json()?;
        let last = told["last_index_offset"].as_str().and_then(|index| index.parse().ok());
        last.ok_or_else(|| format!("no invoices: {told}"))
    }

    /// The preimage of an invoice of its own, in hex: an administrator of the node can see it.
    pub(super) fn preimage(self, hash: &str) -> Result<String, String> {
        let found = self.get(&format!("/v1/invoice/{hash}"))?.json()?;
        let preimage = found["r_preimage"].as_str().and_then(hex_of_base64);
        preimage.filter(|hex| hex.len() == 64).ok_or_else(|| "the node does not know its preimage".to_owned())
    }

    /// What is left to send.
    fn balance(self) -> Result<u64, String> {
        let told = self.get("/v1/balance/channels")?.json()?;
        let msat = told["local_balance"]["msat"].as_str().and_then(|msat| msat.parse().ok());
        msat.ok_or_else(|| format!("no balance: {told}"))
    }
}

/// Padded base64 of the usual alphabet, in hex.
fn hex_of_base64(text: &str) -> Option<String> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.trim_end_matches('=').bytes();
    let mut bits = String::new();
    for digit in digits {
        let worth = ALPHABET.iter().position(|known| *known == digit)?;
        bits.push_str(&format!("{worth:06b}"));
    }
    let whole = bits.get(..bits.len() / 8 * 8)?;
    let nibbles = whole.as_bytes().chunks(4).map(|nibble| {
        let nibble = std::str::from_utf8(nibble).ok()?;
        Some(format!("{:x}", u8::from_str_radix(nibble, 2).ok()?))
    });
    nibbles.collect()
}

/// The program of the two nodes. Its crates are heavy, so it is built once and at low priority.
fn build(places: &Places) -> Result<std::path::PathBuf, String> {
    let target = places.work.join("nodes");
    let mut build = Command::new("nice");
    build.arg(cargo()).args(["build", "--quiet", "--locked", "--manifest-path"]);
    build.arg(places.sources.join("Cargo.toml")).arg("--target-dir").arg(&target);
    let log = places.log("nodes-build");
    eprintln!("lightning: cargo build of the nodes ...");
    let built = process::run(build, &log, BUILD_TIME_MAX);
    if !built.succeeded {
        return Err(format!("cargo build: {}, see {}", built.end, log.display()));
    }
    Ok(target.join("debug/farthing-lightning-nodes"))
}

#[cfg(test)]
mod tests {
    use super::hex_of_base64;

    #[test]
    fn base64_table() {
        for (text, expected) in
            [("", Some("")), ("AP8=", Some("00ff")), ("WlpaWg==", Some("5a5a5a5a")), ("-_8=", None)]
        {
            assert_eq!(hex_of_base64(text).as_deref(), expected, "{text}");
        }
    }
}
