//! A facilitator that does what the test says, with a chain of its own that counts transfers.

use std::collections::{HashMap, VecDeque};
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

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

#[derive(Default)]
struct Chain {
    plan: VecDeque<Conduct>,
    /// Transfers by nonce. A token takes each nonce once.
    moved: HashMap<String, u32>,
    /// Header lines of every answer to `/settle` beside the usual ones.
    lines: String,
}

/// A scripted facilitator on loopback.
pub struct Facilitator {
    /// Where it listens.
    pub address: SocketAddr,
    server: Upstream,
    chain: Arc<Mutex<Chain>>,
}

impl Facilitator {
    /// Behaves as planned, one conduct for each `/settle`, and well after that.
    pub fn start(plan: impl IntoIterator<Item = Conduct>) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), plan)
    }

    /// As [`Facilitator::start`], at an address that a gateway knows already.
    pub fn start_at(address: SocketAddr, plan: impl IntoIterator<Item = Conduct>) -> Self {
        let chain = Chain { plan: plan.into_iter().collect(), ..Chain::default() };
        let chain = Arc::new(Mutex::new(chain));
        let ours = Arc::clone(&chain);
        let server = Upstream::start_at(address, move |request, stream| serve(&ours, request, stream));
        Self { address: server.address, server, chain }
    }

    /// Adds to the plan.
    pub fn next(&self, conduct: Conduct) {
        self.chain.lock().unwrap().plan.push_back(conduct);
    }

    /// From now on every answer to `/settle` has this header too.
    pub fn adds_header(&self, name: &str, value: &str) {
        self.chain.lock().unwrap().lines.push_str(&format!("{name}: {value}\r\n"));
    }

    /// Forgets the rest of the plan: from now on it behaves well.
    pub fn behave(&self) {
        self.chain.lock().unwrap().plan.clear();
    }

    /// Bodies of every `/settle` so far.
    pub fn settles(&self) -> Vec<Vec<u8>> {
        let settles = self.server.seen().into_iter().filter(|seen| seen.target == "/settle");
        settles.map(|seen| seen.body).collect()
    }

    /// Everything it was asked.
    pub fn seen(&self) -> Vec<Seen> {
        self.server.seen()
    }

    /// Transfers on the chain.
    pub fn transfers(&self) -> u32 {
        self.chain.lock().unwrap().moved.values().sum()
    }

    /// The `rails` section of a gateway that settles through these, on the usual network.
    pub fn rails(facilitators: &[SocketAddr]) -> String {
        let urls: Vec<String> = facilitators.iter().map(|address| format!("\"http://{address}\"")).collect();
        format!(
            "rails: {{ test: {{}}, x402: {{ networks: {{ \"eip155:84532\": {{ asset: USDC, pay_to: \"{PAY_TO}\" }} }}, \
             facilitators: [{}], settle_timeout: 1s }} }}\n",
            urls.join(", ")
        )
    }
}

/// Who the gateway's payers pay.
pub const PAY_TO: &str = "0x976EA74026E726554dB657fA54763abd0C3a0aa9";

fn serve(chain: &Mutex<Chain>, request: &Seen, stream: &mut TcpStream) {
    if request.target != "/settle" {
        let kinds = json!({"kinds": [{"x402Version": 2, "scheme": "exact", "network": "eip155:84532"}],
                           "extensions": [], "signers": {}});
        let _ = stream.write_all(&plain(200, "application/json", &kinds.to_string()));
        return;
    }
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let (conduct, authorization, lines) = {
        let mut chain = chain.lock().unwrap();
        let conduct = chain.plan.pop_front().unwrap_or(Conduct::Settle);
        let authorization = body["paymentPayload"]["payload"]["authorization"].clone();
        if !matches!(conduct, Conduct::Only(_)) {
            // A token compares values: upper and lower case are one nonce.
            let nonce = authorization["nonce"].as_str().unwrap().to_ascii_lowercase();
            chain.moved.entry(nonce).or_insert(1);
        }
        (conduct, authorization, chain.lines.clone())
    };
    if let Conduct::SettleWhen(open) = &conduct {
        wait_for("the moment to settle", || open.load(Ordering::SeqCst).then_some(()));
    }
    let reply = match conduct {
        Conduct::Settle | Conduct::SettleWhen(_) => Reply::Says(200, SUCCESS.to_owned()),
        Conduct::MoveThen(reply) | Conduct::Only(reply) => reply,
    };
    match reply {
        Reply::Says(status, text) => {
            // The hash of a transfer is made from its nonce here: the same every time it is told.
            let text = text
                .replace("HASH", authorization["nonce"].as_str().unwrap())
                .replace("PAYER", authorization["from"].as_str().unwrap())
                .replace("NETWORK", body["paymentRequirements"]["network"].as_str().unwrap());
            let answer = String::from_utf8(plain(status, "application/json", &text)).unwrap();
            let _ = stream.write_all(answer.replacen("\r\n", &format!("\r\n{lines}"), 1).as_bytes());
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
