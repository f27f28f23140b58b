//! An LND node that does what the test says. Its invoices are those of the `test` node: real, signed, of regtest, and
//! payable by anybody. All nodes of a process share one network, so that one pays what another has issued.

use std::collections::{HashMap, VecDeque};
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use rails::lightning::bolt11::{self, Decoded};
use rails::lightning::test_node::{mint, node_key, preimage_of};
use rails::lightning::{Network, Wanted};
use serde_json::{Value, json};
use wire::{base64, hex};

use crate::gateway::{PATIENCE, wait_for};
use crate::upstream::{Seen, Upstream, plain};

/// The key to every node here, in hexadecimal: a test's own.
pub const MACAROON: &str = "0201036c6e64030a1074657374206d616361726f6f6e";

/// Where a node is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// `POST /v1/invoices`.
    Create,
    /// `GET /v1/invoice/{hash}`.
    LookUp,
    /// `GET /v1/invoices`.
    List,
    /// `GET /v1/invoices/subscribe`.
    Subscribe,
    /// `POST /v2/router/send`.
    Send,
    /// `GET /v2/router/track/{hash}`.
    Track,
    /// `GET /v1/getinfo`.
    Info,
    /// `GET /v1/balance/channels`.
    Balance,
    /// Anything else.
    Unknown,
}

/// How a node answers once.
#[derive(Clone, Debug)]
pub enum Conduct {
    /// As LND does.
    Well,
    /// The same, once this is true.
    WellWhen(Arc<AtomicBool>),
    /// Does nothing, and says this.
    Says(u16, String),
    /// Nothing until the asker gives up.
    Silence,
    /// Does nothing, and closes the connection.
    Hangup,
    /// Does it, and closes the connection without a word.
    DoesThenHangup,
    /// `Create` only: an invoice that is not what was asked for.
    Lies(Lie),
    /// `Send` only: finds no way.
    Fails,
}

/// How an invoice differs from what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// The hash beside it is another's.
    Hash,
    /// It asks for more.
    Amount,
    /// It can be paid for longer.
    Expiry,
    /// It is for something else.
    Description,
    /// It was made an hour ago.
    Timestamp,
    /// It is the one that was returned before.
    Again,
}

impl Lie {
    /// Each of them, with the field that gives it away.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Hash, "payment hash"),
        (Self::Amount, "amount"),
        (Self::Expiry, "expiry"),
        (Self::Description, "description"),
        (Self::Timestamp, "timestamp"),
        (Self::Again, "payment hash"),
    ];
}

/// An invoice that the node has issued.
#[derive(Clone, Debug)]
pub struct Issued {
    /// As returned.
    pub bolt11: String,
    /// Names it.
    pub payment_hash: [u8; 32],
    /// Millisatoshi.
    pub amount_msat: u64,
    /// What it is for.
    pub memo: String,
    /// `OPEN`, `SETTLED` or `CANCELED`.
    pub state: &'static str,
    settle_index: u64,
}

/// A scripted LND on loopback. Its threads end with the process.
pub struct Lnd {
    /// Where it listens, without TLS.
    pub address: SocketAddr,
    server: Upstream,
    books: Arc<Books>,
}

/// What a node knows, and a bell for whoever waits for settlements.
#[derive(Default)]
struct Books {
    desk: Mutex<Desk>,
    bell: Condvar,
}

#[derive(Default)]
struct Desk {
    plan: HashMap<Door, VecDeque<Conduct>>,
    always: HashMap<Door, Conduct>,
    issued: Vec<Issued>,
    settled: u64,
    /// What it has paid, with the fee.
    paid: HashMap<[u8; 32], u64>,
    /// The invoices that it was asked to pay, and began to.
    ordered: HashMap<[u8; 32], String>,
    fee_msat: u64,
    balance_msat: Option<u64>,
    tells_twice_and_backwards: bool,
}

/// Who has issued which invoice, over all nodes of this process.
static NETWORK: LazyLock<Mutex<HashMap<[u8; 32], Arc<Books>>>> = LazyLock::new(Mutex::default);

impl Lnd {
    /// Behaves well until it is told otherwise.
    pub fn start() -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into())
    }

    /// As [`Lnd::start`], at an address that somebody knows already.
    pub fn start_at(address: SocketAddr) -> Self {
        let books: Arc<Books> = Arc::default();
        let ours = Arc::clone(&books);
        let server = Upstream::start_at(address, move |request, stream| serve(&ours, request, stream));
        Self { address: server.address, server, books }
    }

    /// Where it listens, as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The value of `rails.l402.lnd` without a certificate; `macaroon` names a file or variable as the configuration
    /// wants it: `{ env: NAME }`.
    pub fn section(&self, macaroon: &str) -> String {
        format!("lnd: {{ url: \"{}\", macaroon: {macaroon} }}", self.url())
    }

    /// Answers so once at this door, after what was planned before.
    pub fn next(&self, door: Door, conduct: Conduct) {
        self.books.open().plan.entry(door).or_default().push_back(conduct);
    }

    /// Answers so at this door from now on, where nothing is planned.
    pub fn always(&self, door: Door, conduct: Conduct) {
        self.books.open().always.insert(door, conduct);
    }

    /// Forgets what was planned: from now on it behaves well.
    pub fn behave(&self) {
        let mut desk = self.books.open();
        desk.plan.clear();
        desk.always.clear();
    }

    /// What a payment costs from now on, beside its amount.
    pub fn charge(&self, fee_msat: u64) {
        self.books.open().fee_msat = fee_msat;
    }

    /// What it may still spend.
    pub fn fund(&self, msat: u64) {
        self.books.open().balance_msat = Some(msat);
    }

    /// Tells each settlement twice from now on, the latest first.
    pub fn tell_twice_and_backwards(&self) {
        self.books.open().tells_twice_and_backwards = true;
    }

    /// Every invoice so far.
    pub fn issued(&self) -> Vec<Issued> {
        self.books.open().issued.clone()
    }

    /// Marks an invoice of its own as paid, as if the money had come from elsewhere.
    pub fn settle(&self, payment_hash: &[u8; 32]) {
        self.books.settle(payment_hash);
    }

    /// Invoices that it has paid: each counts once, however often it was asked to.
    pub fn payments(&self) -> usize {
        self.books.open().paid.len()
    }

    /// How often it was asked at this door.
    pub fn hits(&self, door: Door) -> usize {
        self.server.seen().iter().filter(|seen| door_of(seen) == door).count()
    }

    /// Everything it was asked.
    pub fn seen(&self) -> Vec<Seen> {
        self.server.seen()
    }
}

impl Books {
    fn open(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap()
    }

    fn settle(&self, payment_hash: &[u8; 32]) {
        let mut desk = self.open();
        let index = desk.settled + 1;
        let invoice = desk.issued.iter_mut().find(|issued| issued.payment_hash == *payment_hash);
        if let Some(invoice) = invoice.filter(|invoice| invoice.state == "OPEN") {
            invoice.state = "SETTLED";
            invoice.settle_index = index;
            desk.settled = index;
        }
        self.bell.notify_all();
    }
}

impl Issued {
    fn json(&self) -> Value {
        let is_settled = self.state == "SETTLED";
        let paid_msat = if is_settled { self.amount_msat } else { 0 };
        let preimage = preimage_of(&self.bolt11).map(|preimage| base64::encode_std(preimage.as_bytes()));
        json!({
            "memo": self.memo, "r_preimage": preimage, "r_hash": base64::encode_std(&self.payment_hash),
            "value_msat": self.amount_msat.to_string(), "value": (self.amount_msat / 1000).to_string(),
            "settled": is_settled, "settle_date": if is_settled { now_s() } else { 0 }.to_string(),
            "payment_request": self.bolt11, "settle_index": self.settle_index.to_string(),
            "amt_paid_msat": paid_msat.to_string(), "state": self.state, "htlcs": [], "private": false,
        })
    }
}

fn door_of(request: &Seen) -> Door {
    let path = request.target.split('?').next().unwrap();
    match (request.method.as_str(), path) {
        ("POST", "/v1/invoices") => Door::Create,
        ("GET", "/v1/invoices") => Door::List,
        ("GET", "/v1/invoices/subscribe") => Door::Subscribe,
        ("POST", "/v2/router/send") => Door::Send,
        ("GET", "/v1/getinfo") => Door::Info,
        ("GET", "/v1/balance/channels") => Door::Balance,
        ("GET", path) if path.starts_with("/v1/invoice/") => Door::LookUp,
        ("GET", path) if path.starts_with("/v2/router/track/") => Door::Track,
        _ => Door::Unknown,
    }
}

fn serve(books: &Arc<Books>, request: &Seen, stream: &mut TcpStream) {
    let door = door_of(request);
    let conduct = {
        let mut desk = books.open();
        let planned = desk.plan.get_mut(&door).and_then(VecDeque::pop_front);
        planned.or_else(|| desk.always.get(&door).cloned()).unwrap_or(Conduct::Well)
    };
    if request.header("grpc-metadata-macaroon") != Some(MACAROON) {
        return refuse(stream, 500, 2, "cannot get macaroon: root key with id doesn't exist");
    }
    match conduct {
        Conduct::Says(status, body) => write(stream, status, &body),
        Conduct::Silence => {
            // Ends when the asker hangs up.
            let _ = std::io::copy(stream, &mut std::io::sink());
        }
        Conduct::Hangup => {}
        Conduct::WellWhen(open) => {
            wait_for("the moment to answer", || open.load(Ordering::SeqCst).then_some(()));
            answer(books, door, request, None, stream);
        }
        Conduct::DoesThenHangup => {
            do_it(books, door, request, None);
        }
        Conduct::Lies(lie) => answer(books, door, request, Some(Conduct::Lies(lie)), stream),
        Conduct::Fails => answer(books, door, request, Some(Conduct::Fails), stream),
        Conduct::Well => answer(books, door, request, None, stream),
    }
}

fn answer(books: &Arc<Books>, door: Door, request: &Seen, how: Option<Conduct>, stream: &mut TcpStream) {
    if door == Door::Subscribe {
        return tell(books, request, stream);
    }
    let (status, body) = do_it(books, door, request, how);
    write(stream, status, &body);
}

/// What the node does, with its answer.
fn do_it(books: &Arc<Books>, door: Door, request: &Seen, how: Option<Conduct>) -> (u16, String) {
    match door {
        Door::Create => create(books, request, how),
        Door::LookUp => look_up(books, request),
        Door::List => {
            let issued: Vec<Value> = books.open().issued.iter().map(Issued::json).collect();
            (200, json!({"invoices": issued, "last_index_offset": issued.len().to_string()}).to_string())
        }
        Door::Send => send(books, request, how),
        Door::Track => track(books, request),
        Door::Info => {
            let chains = json!([{"chain": "bitcoin", "network": "regtest"}]);
            let key = hex::encode(&node_key());
            (200, json!({"version": "0.20.0-beta", "identity_pubkey": key, "chains": chains}).to_string())
        }
        Door::Balance => {
            (200, json!({"remote_balance": {"sat": "1000000", "msat": "1000000000"}}).to_string())
        }
        Door::Subscribe | Door::Unknown => (404, complaint(5, "Not Found")),
    }
}

fn create(books: &Arc<Books>, request: &Seen, how: Option<Conduct>) -> (u16, String) {
    let asked: Value = serde_json::from_slice(&request.body).unwrap();
    let number = |name: &str| asked[name].as_str().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let lie = if let Some(Conduct::Lies(lie)) = how { Some(lie) } else { None };
    let memo = asked["memo"].as_str().unwrap_or("");
    let expiry_s = u32::try_from(number("expiry")).unwrap();
    let wanted = Wanted {
        amount_msat: number("value_msat") + if lie == Some(Lie::Amount) { 1000 } else { 0 },
        description: if lie == Some(Lie::Description) { "rent" } else { memo },
        expiry_s: if lie == Some(Lie::Expiry) { expiry_s + 3600 } else { expiry_s },
        label: "",
    };
    let made_at_s = if lie == Some(Lie::Timestamp) { now_s() - 3600 } else { now_s() };
    let latest = books.open().issued.last().cloned();
    let issued = match latest.filter(|_| lie == Some(Lie::Again)) {
        Some(issued) => issued,
        None => issue(books, &wanted, made_at_s),
    };
    let hash = if lie == Some(Lie::Hash) { [7; 32] } else { issued.payment_hash };
    let index = books.open().issued.len();
    let body = json!({
        "r_hash": base64::encode_std(&hash), "payment_request": issued.bolt11,
        "add_index": index.to_string(), "payment_addr": base64::encode_std(&[1; 32]),
    });
    (200, body.to_string())
}

fn issue(books: &Arc<Books>, wanted: &Wanted<'_>, now_s: u64) -> Issued {
    let bolt11 = mint(wanted, now_s).unwrap();
    let payment_hash = bolt11::decode(&bolt11).unwrap().payment_hash;
    let memo = wanted.description.to_owned();
    let issued = Issued {
        bolt11,
        payment_hash,
        amount_msat: wanted.amount_msat,
        memo,
        state: "OPEN",
        settle_index: 0,
    };
    books.open().issued.push(issued.clone());
    NETWORK.lock().unwrap().insert(payment_hash, Arc::clone(books));
    issued
}

fn look_up(books: &Books, request: &Seen) -> (u16, String) {
    let hash = request.target.rsplit('/').next().and_then(|text| hex::decode_array(text).ok());
    let desk = books.open();
    let found = desk.issued.iter().find(|issued| Some(issued.payment_hash) == hash);
    match found {
        Some(issued) => (200, issued.json().to_string()),
        None => (404, complaint(5, "unable to locate invoice")),
    }
}

fn send(books: &Books, request: &Seen, how: Option<Conduct>) -> (u16, String) {
    let asked: Value = serde_json::from_slice(&request.body).unwrap();
    let bolt11 = asked["payment_request"].as_str().unwrap_or("");
    let Ok(invoice) = bolt11::decode(bolt11) else {
        return (500, in_stream(2, "invalid payment request"));
    };
    let (hash, amount_msat) = (invoice.payment_hash, invoice.amount_msat.unwrap_or(0));
    let limit_msat = fee_limit_msat(&asked);
    {
        let mut desk = books.open();
        if desk.paid.contains_key(&hash) {
            return (409, in_stream(6, "invoice is already paid"));
        }
        desk.ordered.insert(hash, bolt11.to_owned());
        let spends_msat = amount_msat + desk.fee_msat;
        let reason = if matches!(how, Some(Conduct::Fails)) || desk.fee_msat > limit_msat {
            Some("FAILURE_REASON_NO_ROUTE")
        } else if desk.balance_msat.is_some_and(|balance| balance < spends_msat) {
            Some("FAILURE_REASON_INSUFFICIENT_BALANCE")
        } else {
            refused_by_payee(&invoice, bolt11)
        };
        if let Some(reason) = reason {
            return (200, payment(&invoice, bolt11, "FAILED", 0, reason));
        }
        let fee_msat = desk.fee_msat;
        desk.balance_msat = desk.balance_msat.map(|balance| balance - spends_msat);
        desk.paid.insert(hash, fee_msat);
    }
    let payee = NETWORK.lock().unwrap().get(&hash).cloned();
    if let Some(payee) = payee {
        payee.settle(&hash);
    }
    track_of(books, &invoice, bolt11)
}

/// Either field of a request bounds the fee; LND's own words for both.
fn fee_limit_msat(asked: &Value) -> u64 {
    let number = |name: &str| {
        let value = &asked[name];
        value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()))
    };
    number("fee_limit_msat").or_else(|| number("fee_limit_sat").map(|sat| sat * 1000)).unwrap_or(0)
}

fn refused_by_payee(invoice: &Decoded, bolt11: &str) -> Option<&'static str> {
    let is_ours = invoice.network == Network::Regtest && preimage_of(bolt11).is_some();
    let is_late = invoice.expires_at_s <= now_s();
    (!is_ours || is_late).then_some("FAILURE_REASON_INCORRECT_PAYMENT_DETAILS")
}

fn track(books: &Books, request: &Seen) -> (u16, String) {
    let path = request.target.split('?').next().unwrap();
    let hash = path.rsplit('/').next().and_then(|text| base64::decode_any(text, 44).ok());
    let hash: Option<[u8; 32]> = hash.and_then(|bytes| bytes.try_into().ok());
    let ordered = hash.and_then(|hash| books.open().ordered.get(&hash).cloned());
    match ordered {
        Some(bolt11) => track_of(books, &bolt11::decode(&bolt11).unwrap(), &bolt11),
        None => (404, in_stream(5, "payment isn't initiated")),
    }
}

fn track_of(books: &Books, invoice: &Decoded, bolt11: &str) -> (u16, String) {
    let fee_msat = books.open().paid.get(&invoice.payment_hash).copied();
    let line = match fee_msat {
        Some(fee_msat) => payment(invoice, bolt11, "SUCCEEDED", fee_msat, "FAILURE_REASON_NONE"),
        None => payment(invoice, bolt11, "FAILED", 0, "FAILURE_REASON_NO_ROUTE"),
    };
    (200, line)
}

/// A line of a payment's stream, the last.
fn payment(invoice: &Decoded, bolt11: &str, status: &str, fee_msat: u64, reason: &str) -> String {
    let preimage = preimage_of(bolt11).filter(|_| status == "SUCCEEDED");
    let preimage = preimage.map_or_else(|| "00".repeat(32), |preimage| hex::encode(preimage.as_bytes()));
    let amount_msat = invoice.amount_msat.unwrap_or(0);
    let told = json!({"result": {
        "payment_hash": hex::encode(&invoice.payment_hash), "payment_preimage": preimage, "status": status,
        "value_msat": amount_msat.to_string(), "value_sat": (amount_msat / 1000).to_string(),
        "fee_msat": fee_msat.to_string(), "fee_sat": (fee_msat / 1000).to_string(), "payment_request": bolt11,
        "failure_reason": reason, "htlcs": [],
    }});
    format!("{told}\n")
}

/// Settlements after `settle_index`, line by line as they come, for as long as somebody listens.
fn tell(books: &Books, request: &Seen, stream: &mut TcpStream) {
    let query = request.target.split_once('?').map_or("", |(_, query)| query);
    let from = query.split('&').find_map(|pair| pair.strip_prefix("settle_index="));
    let from: u64 = from.and_then(|text| text.parse().ok()).unwrap_or(0);
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
    let mut desk = books.open();
    // Asked from 0, LND tells only what comes from now on.
    let mut told = if from == 0 { desk.settled } else { from };
    let mut lines = head.to_owned();
    loop {
        lines.push_str(&news(&desk, told));
        told = told.max(desk.settled);
        drop(desk);
        if stream.write_all(lines.as_bytes()).is_err() {
            return;
        }
        lines.clear();
        let (woken, waited) =
            books.bell.wait_timeout_while(books.open(), PATIENCE, |desk| desk.settled <= told).unwrap();
        if waited.timed_out() {
            return;
        }
        desk = woken;
    }
}

fn news(desk: &Desk, after: u64) -> String {
    let mut settled: Vec<&Issued> = desk.issued.iter().filter(|issued| issued.settle_index > after).collect();
    settled.sort_by_key(|issued| issued.settle_index);
    if desk.tells_twice_and_backwards {
        let again = settled.clone();
        settled.extend(again);
        settled.reverse();
    }
    settled.iter().map(|issued| format!("{}\n", json!({"result": issued.json()}))).collect()
}

fn complaint(code: u32, message: &str) -> String {
    json!({"code": code, "message": message, "details": []}).to_string()
}

/// How a stream complains.
fn in_stream(code: u32, message: &str) -> String {
    json!({"error": {"code": code, "message": message, "details": []}}).to_string()
}

fn refuse(stream: &mut TcpStream, status: u16, code: u32, message: &str) {
    write(stream, status, &complaint(code, message));
}

fn write(stream: &mut TcpStream, status: u16, body: &str) {
    let _ = stream.write_all(&plain(status, "application/json", body));
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
