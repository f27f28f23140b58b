//! What an LND answers at each door.

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use rails::lightning::bolt11::{self, Decoded};
use rails::lightning::test_node::{mint, node_key, preimage_of};
use rails::lightning::{Network, Wanted};
use serde_json::{Value, json};
use wire::{base64, hex};

use super::{Books, Conduct, Desk, Door, Issued, Lie, MACAROON, NETWORK};
use crate::gateway::{PATIENCE, wait_for};
use crate::upstream::{Seen, plain};

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

pub(super) fn door_of(request: &Seen) -> Door {
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

pub(super) fn serve(books: &Arc<Books>, request: &Seen, stream: &mut TcpStream) {
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
    let mut unsent = head;
    loop {
        let lines = news(&desk, told);
        told = told.max(desk.settled);
        drop(desk);
        // LND's answer begins with its first event.
        if !lines.is_empty() {
            if stream.write_all(format!("{unsent}{lines}").as_bytes()).is_err() {
                return;
            }
            unsent = "";
        }
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
