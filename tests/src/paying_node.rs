//! A node that makes invoices, and pays others as a test says: LND's REST interface, play money. And the wallet of a
//! holder who has invoices to be paid.

use std::collections::{HashMap, VecDeque};
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bitcoin::hashes::{Hash as _, sha256};
use bitcoin::secp256k1::{Secp256k1, SecretKey};
use lightning_invoice::{Currency, InvoiceBuilder, PaymentSecret};
use rails::lightning::{Wanted, bolt11, test_node};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use wire::{base64, hex};

use crate::gateway::PATIENCE;
use crate::upstream::{Seen, Upstream, plain};

/// What the node makes of an order to pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    /// Pays, for this fee in millisatoshi; where that is more than it may cost, finds no way.
    Pays(u64),
    /// Pays after so long.
    PaysLate(u64),
    /// Finds no way.
    Fails,
    /// Takes the order and hangs up. What becomes of it, [`PayingNode::ends`] says.
    LosesTheAnswer,
    /// Takes the order and says nothing. What becomes of it, [`PayingNode::ends`] says.
    SaysNothing,
}

/// How a payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    /// On its way.
    UnderWay,
    /// Arrived, for this fee in millisatoshi.
    Paid(u64),
    /// Given up.
    Failed,
}

#[derive(Default)]
struct State {
    plan: VecDeque<Does>,
    payments: HashMap<[u8; 32], (String, Stands)>,
    orders: Vec<Value>,
    looks: usize,
}

/// The node. Its threads end with the process.
pub struct PayingNode {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl PayingNode {
    /// Does what the plan says with each order, and pays for nothing after that.
    pub fn start(plan: impl IntoIterator<Item = Does>) -> Self {
        let state = Arc::new(Mutex::new(State { plan: plan.into_iter().collect(), ..State::default() }));
        let shared = Arc::clone(&state);
        let server = Upstream::start(move |request, stream| answer(&shared, request, stream));
        Self { address: server.address, state }
    }

    /// `rails` with this node, at 100,000 USD for a bitcoin (a millisatoshi is 1000 nano-dollars), deposits of 5 cents,
    /// and these bounds on refunds.
    pub fn rails(&self, refunds: &str) -> String {
        format!(
            "rails: {{ l402: {{ lnd: {{ url: \"http://{}\", macaroon: \"${{env:LND_MACAROON}}\" }}, \
             price: {{ usd_per_btc: 100000 }}, deposit: 0.05 USD, \
             mint: {{ per_source_per_second: 1000, per_source_burst: 1000 }}, refunds: {{ {refunds} }} }} }}\n",
            self.address
        )
    }

    /// How a payment stands from now on.
    pub fn ends(&self, invoice: &str, stands: Stands) {
        let hash = bolt11::decode(invoice).unwrap().payment_hash;
        self.state.lock().unwrap().payments.insert(hash, (invoice.to_owned(), stands));
    }

    /// Every order to pay so far.
    pub fn orders(&self) -> Vec<Value> {
        self.state.lock().unwrap().orders.clone()
    }

    /// How often it was asked what became of a payment.
    pub fn looks(&self) -> usize {
        self.state.lock().unwrap().looks
    }

    /// What has left it, fees included.
    pub fn paid_msat(&self) -> u64 {
        let state = self.state.lock().unwrap();
        let paid = state.payments.values().filter_map(|(invoice, stands)| match stands {
            Stands::Paid(fee) => Some(ordered_msat(&state.orders, invoice) + fee),
            Stands::UnderWay | Stands::Failed => None,
        });
        paid.sum()
    }
}

/// What an invoice was ordered to be paid for: what it says, or where it leaves that open, what the order says.
fn ordered_msat(orders: &[Value], invoice: &str) -> u64 {
    let named = bolt11::decode(invoice).unwrap().amount_msat;
    let told = || {
        let order = orders.iter().find(|order| order["payment_request"] == invoice).unwrap();
        order["amt_msat"].as_str().unwrap().parse().unwrap()
    };
    named.unwrap_or_else(told)
}

fn answer(state: &Mutex<State>, request: &Seen, stream: &mut TcpStream) {
    assert_eq!(request.header("grpc-metadata-macaroon"), Some(MACAROON));
    let path = request.target.split('?').next().unwrap_or_default();
    let told = match (request.method.as_str(), path) {
        ("GET", "/v1/getinfo") => json!({
            "identity_pubkey": hex::encode(&test_node::node_key()),
            "chains": [{"chain": "bitcoin", "network": "regtest"}],
        }),
        ("GET", "/v1/balance/channels") => json!({"remote_balance": {"msat": "100000000"}}),
        ("POST", "/v1/invoices") => invoice(request),
        ("POST", "/v2/router/send") => return pay(state, request, stream),
        ("GET", "/v1/invoices/subscribe") => {
            // Nothing is told of; the connection stays until the gateway goes.
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n");
            let _ = std::io::copy(stream, &mut std::io::sink());
            return;
        }
        ("GET", "/v1/invoices") => json!({"invoices": []}),
        ("GET", path) => match path.strip_prefix("/v2/router/track/") {
            Some(hash) => return track(state, hash, stream),
            None => json!({}),
        },
        _ => json!({}),
    };
    let _ = stream.write_all(&plain(200, "application/json", &told.to_string()));
}

fn invoice(request: &Seen) -> Value {
    let asked: Value = serde_json::from_slice(&request.body).unwrap();
    let number = |name: &str| asked[name].as_str().unwrap().parse::<u64>().unwrap();
    let wanted = Wanted {
        amount_msat: number("value_msat"),
        description: asked["memo"].as_str().unwrap(),
        expiry_s: u32::try_from(number("expiry")).unwrap(),
        label: "l",
    };
    let bolt11 = test_node::mint(&wanted, now_s()).unwrap();
    let hash = bolt11::decode(&bolt11).unwrap().payment_hash;
    json!({"r_hash": base64::encode_std(&hash), "payment_request": bolt11, "add_index": "1"})
}

fn pay(state: &Mutex<State>, request: &Seen, stream: &mut TcpStream) {
    let order: Value = serde_json::from_slice(&request.body).unwrap();
    let invoice = order["payment_request"].as_str().unwrap().to_owned();
    let fee_max: u64 = order["fee_limit_msat"].as_str().unwrap().parse().unwrap();
    let hash = bolt11::decode(&invoice).unwrap().payment_hash;
    let does = {
        let mut state = state.lock().unwrap();
        let does = state.plan.pop_front().unwrap_or(Does::Fails);
        assert!(!state.payments.contains_key(&hash), "one invoice was ordered to be paid twice");
        state.orders.push(order);
        state.payments.insert(hash, (invoice.clone(), Stands::UnderWay));
        does
    };
    let stands = match does {
        Does::Pays(fee) if fee <= fee_max => Stands::Paid(fee),
        Does::PaysLate(ms) => {
            thread::sleep(Duration::from_millis(ms));
            Stands::Paid(0)
        }
        Does::Pays(_) | Does::Fails => Stands::Failed,
        Does::LosesTheAnswer => return,
        Does::SaysNothing => {
            stream.set_read_timeout(Some(PATIENCE * 10)).unwrap();
            let _ = std::io::copy(stream, &mut std::io::sink());
            return;
        }
    };
    state.lock().unwrap().payments.insert(hash, (invoice.clone(), stands));
    let _ = stream.write_all(&plain(200, "application/json", &event(&invoice, stands).to_string()));
}

fn track(state: &Mutex<State>, hash: &str, stream: &mut TcpStream) {
    let hash: [u8; 32] = base64::decode_any(hash, 44).unwrap().try_into().unwrap();
    let known = {
        let mut state = state.lock().unwrap();
        state.looks += 1;
        state.payments.get(&hash).cloned()
    };
    let bytes = match known {
        Some((invoice, stands)) => plain(200, "application/json", &event(&invoice, stands).to_string()),
        None => {
            let complaint = json!({"error": {"code": 5, "message": "payment isn't initiated"}});
            plain(404, "application/json", &complaint.to_string())
        }
    };
    let _ = stream.write_all(&bytes);
}

fn event(invoice: &str, stands: Stands) -> Value {
    let zeros = "00".repeat(32);
    let (status, preimage, fee_msat, reason) = match stands {
        Stands::UnderWay => ("IN_FLIGHT", zeros, 0, "FAILURE_REASON_NONE"),
        Stands::Paid(fee) => ("SUCCEEDED", preimage_of(invoice), fee, "FAILURE_REASON_NONE"),
        Stands::Failed => ("FAILED", zeros, 0, "FAILURE_REASON_NO_ROUTE"),
    };
    json!({"result": {"status": status, "payment_preimage": preimage, "fee_msat": fee_msat.to_string(),
                      "failure_reason": reason}})
}

/// The macaroon that the gateway is given for the node: nobody's.
pub const MACAROON: &str = "0201036c6e6402";

/// Signs the holder's invoices. A test key, and no secret.
const HOLDER: [u8; 32] = *b"a holder's wallet, for tests....";

/// An invoice of the holder's own wallet, over so much, payable for so long.
pub fn invoice_of_holder(amount_msat: u64, expiry_s: u64) -> String {
    invoice_made_at(now_s(), amount_msat, expiry_s, Currency::Regtest)
}

/// One that leaves open how much, as a session gives back to.
pub fn return_invoice(expiry_s: u64) -> String {
    made(now_s(), None, expiry_s, Currency::Regtest)
}

/// The same as [`invoice_of_holder`], as it was made at another time, or for another chain.
pub fn invoice_made_at(made_s: u64, amount_msat: u64, expiry_s: u64, chain: Currency) -> String {
    made(made_s, Some(amount_msat), expiry_s, chain)
}

fn made(made_s: u64, amount_msat: Option<u64>, expiry_s: u64, chain: Currency) -> String {
    let payment_secret: [u8; 32] = proof::deposit_key::rail("holder", &format!("{:?}", SystemTime::now()));
    let hash: [u8; 32] = Sha256::digest(preimage(&payment_secret)).into();
    let key = SecretKey::from_slice(&HOLDER).unwrap();
    let builder = InvoiceBuilder::new(chain);
    let builder = match amount_msat {
        Some(amount_msat) => builder.amount_milli_satoshis(amount_msat),
        None => builder,
    };
    let invoice = builder
        .description("what is left".to_owned())
        .payment_hash(sha256::Hash::from_byte_array(hash))
        .payment_secret(PaymentSecret(payment_secret))
        .duration_since_epoch(Duration::from_secs(made_s))
        .min_final_cltv_expiry_delta(18)
        .expiry_time(Duration::from_secs(expiry_s))
        .basic_mpp()
        .build_signed(|hash| Secp256k1::new().sign_ecdsa_recoverable(hash, &key));
    invoice.unwrap().to_string()
}

/// What the holder's wallet gives for its invoice, in hexadecimal.
pub fn preimage_of(invoice: &str) -> String {
    hex::encode(&preimage(&bolt11::decode(invoice).unwrap().payment_secret.unwrap()))
}

fn preimage(payment_secret: &[u8; 32]) -> [u8; 32] {
    Sha256::new_with_prefix(b"holder's preimage").chain_update(payment_secret).finalize().into()
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
