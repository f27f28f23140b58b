//! A facilitator that does what the test says, with a chain of its own that counts transfers.

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::chain::{Asked, Chain};
use crate::gateway::{PATIENCE, wait_for};
use crate::upstream::{Seen, Upstream, plain};

/// How `/settle` behaves once.
#[derive(Clone, Debug)]
pub enum Conduct {
    /// Moves the money and says so. Asked again for the same authorization it says the same.
    Settle,
    /// The same, once this is true.
    SettleWhen(Arc<AtomicBool>),
    /// Moves the money, then answers this.
    MoveThen(Reply),
    /// Moves nothing and answers this.
    Only(Reply),
    /// The same, once this is true.
    OnlyWhen(Arc<AtomicBool>, Reply),
}

/// An answer, or none.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Status and body. `HASH`, `PAYER` and `NETWORK` in it are those of the payment.
    Says(u16, String),
    /// A redirect to this place.
    Redirect(String),
    /// Nothing until the asker gives up.
    Silence,
    /// Closes the connection.
    Hangup,
    /// A byte now and then.
    Drip,
    /// 10 MiB.
    Flood,
}

/// The body of a successful settlement.
pub const SUCCESS: &str = r#"{"success":true,"transaction":"HASH","network":"NETWORK","payer":"PAYER"}"#;

/// A failure with this code.
pub fn failure(code: &str) -> Reply {
    Reply::Says(
        200,
        json!({"success": false, "errorReason": code, "transaction": "", "network": "NETWORK"}).to_string(),
    )
}

struct Desk {
    plan: VecDeque<Conduct>,
    /// Answers to `/verify`; after them it finds everything valid.
    opinions: VecDeque<Reply>,
    /// The body of `/supported`, or none at all.
    supported: Option<Value>,
    /// Header lines of every answer to `/settle` beside the usual ones.
    lines: String,
    chain: Chain,
}

/// What a facilitator calls itself in offers of `upto`, unless a test says otherwise.
pub const FACILITATOR: &str = "0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc";

/// A body of `/supported`: everything on the usual network, under this name.
pub fn supports(name: &str) -> Value {
    json!({"kinds": [
        {"x402Version": 2, "scheme": "exact", "network": "eip155:84532"},
        {"x402Version": 1, "scheme": "exact", "network": "base-sepolia"},
        {"x402Version": 2, "scheme": "upto", "network": "eip155:84532", "extra": {"facilitatorAddress": name}},
        {"x402Version": 2, "scheme": "batch-settlement", "network": "eip155:84532"}],
        "extensions": [], "signers": {"eip155:*": [name]}})
}

/// A scripted facilitator on loopback.
pub struct Facilitator {
    /// Where it listens.
    pub address: SocketAddr,
    server: Upstream,
    desk: Arc<Mutex<Desk>>,
}

impl Facilitator {
    /// Behaves as planned, one conduct for each `/settle`, and well after that.
    pub fn start(plan: impl IntoIterator<Item = Conduct>) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), plan)
    }

    /// As [`Facilitator::start`], at an address that a gateway knows already.
    pub fn start_at(address: SocketAddr, plan: impl IntoIterator<Item = Conduct>) -> Self {
        let desk = Arc::new(Mutex::new(Desk {
            plan: plan.into_iter().collect(),
            opinions: VecDeque::new(),
            supported: Some(supports(FACILITATOR)),
            lines: String::new(),
            chain: Chain::default(),
        }));
        let ours = Arc::clone(&desk);
        let server = Upstream::start_at(address, move |request, stream| serve(&ours, request, stream));
        Self { address: server.address, server, desk }
    }

    /// Adds to the plan.
    pub fn next(&self, conduct: Conduct) {
        self.desk.lock().unwrap().plan.push_back(conduct);
    }

    /// Answers a `/verify` like this, after those that were planned before.
    pub fn opine(&self, reply: Reply) {
        self.desk.lock().unwrap().opinions.push_back(reply);
    }

    /// Tells this at `/supported` from now on; with none it is silent.
    pub fn support(&self, supported: Option<Value>) {
        self.desk.lock().unwrap().supported = supported;
    }

    /// From now on the payers have so much, all together: what is more is refused, unless a test says otherwise.
    pub fn fund(&self, atomic: u128) {
        self.desk.lock().unwrap().chain.fund(atomic);
    }

    /// From now on every answer to `/settle` has this header too.
    pub fn adds_header(&self, name: &str, value: &str) {
        self.desk.lock().unwrap().lines.push_str(&format!("{name}: {value}\r\n"));
    }

    /// Forgets the rest of the plan: from now on it behaves well.
    pub fn behave(&self) {
        let mut desk = self.desk.lock().unwrap();
        desk.plan.clear();
        desk.opinions.clear();
    }

    /// Bodies of every `/settle` so far.
    pub fn settles(&self) -> Vec<Vec<u8>> {
        self.asked("/settle")
    }

    /// Bodies of every `/verify` so far.
    pub fn verifies(&self) -> Vec<Vec<u8>> {
        self.asked("/verify")
    }

    fn asked(&self, target: &str) -> Vec<Vec<u8>> {
        let asked = self.server.seen().into_iter().filter(|seen| seen.target == target);
        asked.map(|seen| seen.body).collect()
    }

    /// Everything it was asked.
    pub fn seen(&self) -> Vec<Seen> {
        self.server.seen()
    }

    /// Transfers on the chain.
    pub fn transfers(&self) -> u32 {
        self.desk.lock().unwrap().chain.transfers()
    }

    /// Puts the chain's clock ahead.
    pub fn pass(&self, seconds: u64) {
        self.desk.lock().unwrap().chain.pass(seconds);
    }

    /// The same `rails` section with a node of this facilitator's chain.
    pub fn with_node(&self, rails: &str) -> String {
        rails.replace("asset: USDC,", &format!("asset: USDC, rpc: \"http://{}/rpc\",", self.address))
    }

    /// Atomic units that moved, in all.
    pub fn moved(&self) -> u128 {
        self.desk.lock().unwrap().chain.moved()
    }

    /// The `rails` section of a gateway that settles through these, on the usual network.
    pub fn rails(facilitators: &[SocketAddr]) -> String {
        Self::rails_with(facilitators, "")
    }

    /// The same with more keys of `rails.x402`, each behind a comma: `, schemes: [permit2]`.
    pub fn rails_with(facilitators: &[SocketAddr], more: &str) -> String {
        let urls: Vec<String> = facilitators.iter().map(|address| format!("\"http://{address}\"")).collect();
        format!(
            "rails: {{ test: {{}}, x402: {{ networks: {{ \"eip155:84532\": {{ asset: USDC, pay_to: \"{PAY_TO}\" }} }}, \
             facilitators: [{}], settle_timeout: 1s{more} }} }}\n",
            urls.join(", ")
        )
    }
}

/// Who the gateway's payers pay.
pub const PAY_TO: &str = "0x976EA74026E726554dB657fA54763abd0C3a0aa9";

fn serve(desk: &Mutex<Desk>, request: &Seen, stream: &mut TcpStream) {
    match request.target.as_str() {
        "/settle" => settle(desk, request, stream),
        "/verify" => verify(desk, request, stream),
        "/rpc" => {
            let question = serde_json::from_slice(&request.body).unwrap();
            let told = desk.lock().unwrap().chain.answer(&question);
            write(stream, 200, "", &told.to_string());
        }
        _ => {
            let supported = desk.lock().unwrap().supported.clone();
            match supported {
                Some(told) => write(stream, 200, "", &told.to_string()),
                None => answer(&Reply::Silence, None, "", stream),
            }
        }
    }
}

fn verify(desk: &Mutex<Desk>, request: &Seen, stream: &mut TcpStream) {
    let asked = Asked::read(&serde_json::from_slice(&request.body).unwrap());
    let (reply, state) = {
        let mut desk = desk.lock().unwrap();
        (desk.opinions.pop_front(), desk.chain.state_of(&asked))
    };
    match reply {
        Some(reply) => answer(&reply, Some(&asked), "", stream),
        None => {
            let mut valid = json!({"isValid": true, "payer": asked.payer});
            if let Some(state) = state {
                valid["extra"] = state;
            }
            write(stream, 200, "", &valid.to_string());
        }
    }
}

fn settle(desk: &Mutex<Desk>, request: &Seen, stream: &mut TcpStream) {
    let asked = Asked::read(&serde_json::from_slice(&request.body).unwrap());
    let (conduct, success, lines) = {
        let mut desk = desk.lock().unwrap();
        let broke = !desk.chain.covers(&asked);
        let usual = if broke { Conduct::Only(failure("insufficient_funds")) } else { Conduct::Settle };
        let conduct = desk.plan.pop_front().unwrap_or(usual);
        let moves = !matches!(conduct, Conduct::Only(_) | Conduct::OnlyWhen(..));
        let success = moves.then(|| desk.chain.apply(&asked));
        (conduct, success, desk.lines.clone())
    };
    if let Conduct::SettleWhen(open) | Conduct::OnlyWhen(open, _) = &conduct {
        wait_for("the moment to settle", || open.load(Ordering::SeqCst).then_some(()));
    }
    match (conduct, success) {
        (Conduct::Settle | Conduct::SettleWhen(_), Some(success)) => {
            write(stream, 200, &lines, &success.to_string());
        }
        (Conduct::MoveThen(reply) | Conduct::Only(reply) | Conduct::OnlyWhen(_, reply), _) => {
            answer(&reply, Some(&asked), &lines, stream)
        }
        (Conduct::Settle | Conduct::SettleWhen(_), None) => unreachable!("these move the money"),
    }
}

fn write(stream: &mut TcpStream, status: u16, lines: &str, body: &str) {
    let text = String::from_utf8(plain(status, "application/json", body)).unwrap();
    let _ = stream.write_all(text.replacen("\r\n", &format!("\r\n{lines}"), 1).as_bytes());
}

fn answer(reply: &Reply, asked: Option<&Asked>, lines: &str, stream: &mut TcpStream) {
    match reply {
        Reply::Says(status, text) => {
            let told = asked.map_or_else(
                || text.clone(),
                |asked| {
                    text.replace("HASH", &asked.hash)
                        .replace("PAYER", &asked.payer)
                        .replace("NETWORK", &asked.network)
                },
            );
            write(stream, *status, lines, &told);
        }
        Reply::Redirect(to) => {
            let head =
                format!("HTTP/1.1 307 X\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(head.as_bytes());
        }
        Reply::Silence => {
            // Ends when the asker hangs up.
            let _ = std::io::copy(stream, &mut std::io::sink());
        }
        Reply::Hangup => {}
        Reply::Drip => {
            let _ = stream.write_all(b"HTTP/1.1 200 X\r\ncontent-length: 1000\r\n\r\n");
            let start = std::time::Instant::now();
            while start.elapsed() < PATIENCE && stream.write_all(b" ").is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Reply::Flood => {
            let _ = stream.write_all(&plain(200, "application/json", &" ".repeat(10 * 1024 * 1024)));
        }
    }
}
