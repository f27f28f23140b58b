//! Alipay's gateway for QR pay: it takes only what the app has signed, signs what it says, keeps trades and refunds, and
//! fails as it is told. Notices are made here and delivered by the test: late, twice, in any order, or never.
//!
//! Its keys are the public test keys of the vectors.

mod books;
mod rsa;

use std::collections::{BTreeMap, VecDeque};
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use rails::rsa2::SigningKey;
use serde_json::{Value, json};

pub use books::{Refund, Trade};

use crate::http;
use crate::upstream::{Seen, Upstream, plain};
use books::Books;

/// The app that it knows.
pub const APP_ID: &str = "2021000000000001";
/// Who is paid.
pub const SELLER_ID: &str = "2088000000000099";
/// Where it takes calls.
pub const PATH: &str = "/gateway.do";
/// How far the clock of an app may be off.
const CLOCK_S: u64 = 600;

/// What it does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    /// Does nothing, and no answer comes.
    Silence,
    /// Does it, and no answer comes.
    ActsInSilence,
    /// Does it, and says 500.
    ActsAndFails,
    /// Does it, and the answer is not signed.
    ActsUnsigned,
    /// Does it, and somebody else has signed the answer.
    ActsUnderAnotherKey,
    /// Does it, and says that it does not know.
    ActsAndDoubts,
    /// Does nothing, and says that it does not know.
    Doubts,
    /// Does nothing, and sends the caller elsewhere.
    Redirects,
    /// Does nothing, and never comes to an end.
    Floods,
    /// Accepts a refund whose money moves later.
    MovesLater,
}

/// A scripted Alipay on loopback.
pub struct Alipay {
    /// Where it listens.
    pub address: SocketAddr,
    server: Upstream,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    books: Books,
    /// What is to be done with the next calls, by method.
    plan: BTreeMap<String, VecDeque<Conduct>>,
    /// Methods of the calls so far that were signed.
    calls: Vec<String>,
    /// Calls that were not.
    unsigned: usize,
}

impl Alipay {
    /// Does what it is asked for, until it is told otherwise.
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let ours = Arc::clone(&state);
        let server = Upstream::start(move |request, stream| serve(&ours, request, stream));
        Self { address: server.address, server, state }
    }

    /// `rails.alipay` of a gateway that asks it; the app's key is `ALIPAY_KEY` in the environment ([`app_key`]).
    pub fn rules(&self) -> String {
        format!(
            "{{ app_id: \"{APP_ID}\", seller_id: \"{SELLER_ID}\", key: \"${{env:ALIPAY_KEY}}\", platform_keys: \"{}\", \
             url: \"http://{}{PATH}\", timeout: 2s }}",
            platform_key(),
            self.address
        )
    }

    /// The next call of this method is dealt with so; several are planned one after the other.
    pub fn plan(&self, method: &str, conduct: Conduct) {
        self.state.lock().unwrap().plan.entry(method.to_owned()).or_default().push_back(conduct);
    }

    /// Somebody scans the code of a trade.
    pub fn scan(&self, number: &str) {
        self.state.lock().unwrap().books.scan(number);
    }

    /// Somebody scans the code of a trade and pays it.
    pub fn pay(&self, number: &str) {
        let books = &mut self.state.lock().unwrap().books;
        books.scan(number);
        books.trades.get_mut(number).unwrap().status = "TRADE_SUCCESS";
    }

    /// Nobody pays a trade any more, or nobody gives back of it.
    pub fn set(&self, number: &str, status: &'static str) {
        self.state.lock().unwrap().books.trades.get_mut(number).unwrap().status = status;
    }

    /// The money of refunds that were accepted moves.
    pub fn move_refunds(&self) {
        let books = &mut self.state.lock().unwrap().books;
        books
            .trades
            .values_mut()
            .flat_map(|trade| trade.refunds.values_mut())
            .for_each(|refund| refund.moved = true);
    }

    /// Trades so far, by our number.
    pub fn trades(&self) -> BTreeMap<String, Trade> {
        self.state.lock().unwrap().books.trades.clone()
    }

    /// How often a method was called, well signed.
    pub fn calls(&self, method: &str) -> usize {
        self.state.lock().unwrap().calls.iter().filter(|called| *called == method).count()
    }

    /// Calls that were not signed by the app, or in another way wrong.
    pub fn unsigned(&self) -> usize {
        self.state.lock().unwrap().unsigned
    }

    /// Every request so far.
    pub fn asked(&self) -> Vec<Seen> {
        self.server.seen()
    }

    /// What it tells of a trade as it stands, once somebody has scanned its code: the body of a notice.
    pub fn notice(&self, number: &str) -> String {
        signed_notice(&self.fields(number))
    }

    /// What it tells of a refund: the same, and three fields more.
    pub fn refund_notice(&self, number: &str, request: &str) -> String {
        let refunded = self.trades()[number].refunded();
        let mut fields = self.fields(number);
        fields.extend([
            ("refund_fee", yuan(refunded)),
            ("gmt_refund", format!("{}.123", beijing_time())),
            ("out_biz_no", request.to_owned()),
        ]);
        signed_notice(&fields)
    }

    /// Brings a notice of a trade to the path that its maker named in `notify_url`, at `gateway`.
    pub fn deliver(&self, gateway: SocketAddr, number: &str, notice: &str) -> http::Answer {
        let url = self.trades()[number].notify_url.clone().unwrap();
        let (_, rest) = url.split_once("://").unwrap();
        let path = rest.find('/').map_or("/", |at| &rest[at..]);
        let form = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
        http::request(gateway, "POST", path, &form, notice.as_bytes())
    }

    fn fields(&self, number: &str) -> Vec<(&'static str, String)> {
        let trade = self.trades()[number].clone();
        let (sum, time) = (yuan(trade.fen), beijing_time());
        let bills = json!([{"amount": &sum, "fundChannel": "ALIPAYACCOUNT"}]).to_string();
        vec![
            ("gmt_create", time.clone()),
            ("charset", "utf-8".to_owned()),
            ("seller_email", "seller@example.com".to_owned()),
            ("subject", trade.subject),
            // Empty, and signed all the same.
            ("body", String::new()),
            ("buyer_id", "2088000000000001".to_owned()),
            ("notify_id", format!("2026112200222{}", self.server.hits())),
            ("fund_bill_list", bills),
            ("notify_type", "trade_status_sync".to_owned()),
            ("trade_status", trade.status.to_owned()),
            ("app_id", APP_ID.to_owned()),
            ("auth_app_id", APP_ID.to_owned()),
            ("seller_id", SELLER_ID.to_owned()),
            ("notify_time", time),
            ("version", "1.0".to_owned()),
            ("out_trade_no", number.to_owned()),
            ("total_amount", sum.clone()),
            ("receipt_amount", sum),
            ("trade_no", trade.trade_no.unwrap()),
        ]
    }
}

/// A notice of these fields, signed: whoever tests what is in one can change them first.
pub fn signed_notice(fields: &[(&str, String)]) -> String {
    let sign = platform().sign(&joined(fields)).unwrap();
    let mut all: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    all.extend([("sign_type", "RSA2"), ("sign", &sign)]);
    wire::form::encode(&all)
}

/// The app's private key, as Alipay's tools write it: for `ALIPAY_KEY`. A public test key.
pub fn app_key() -> String {
    keys()["alipay_app"]["private_pkcs8_der_b64"].as_str().unwrap().to_owned()
}

/// Alipay's public key, as its console shows it. A public test key.
pub fn platform_key() -> String {
    bare(&keys()["alipay_platform"])
}

fn platform() -> SigningKey {
    SigningKey::read(keys()["alipay_platform"]["private_pkcs8_der_b64"].as_str().unwrap()).unwrap()
}

fn keys() -> Value {
    serde_json::from_str(include_str!("../../../specs/vectors/rails/alipay_keys.json")).unwrap()
}

fn bare(key: &Value) -> String {
    key["public_spki_pem"].as_str().unwrap().lines().filter(|line| !line.starts_with("-----")).collect()
}

/// The app's modulus, which stands behind 33 bytes of head in a public key of this size.
fn app_modulus() -> [u8; 256] {
    let key = wire::base64::decode_std(&bare(&keys()["alipay_app"])).unwrap();
    key[33..289].try_into().unwrap()
}

fn serve(state: &Mutex<State>, request: &Seen, stream: &mut TcpStream) {
    let (status, body) = match answer(&mut state.lock().unwrap(), request) {
        Told::Body(status, body) => (status, body),
        // Ends when the asker hangs up.
        Told::Nothing => return drop(std::io::copy(stream, &mut std::io::sink())),
        Told::Endless => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n");
            while stream.write_all(&[b' '; 4096]).is_ok() {}
            return;
        }
        Told::Elsewhere => {
            let _ =
                stream.write_all(b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n");
            return;
        }
    };
    let _ = stream.write_all(&plain(status, "text/html;charset=utf-8", &body));
}

enum Told {
    Body(u16, String),
    Nothing,
    Endless,
    Elsewhere,
}

fn answer(state: &mut State, request: &Seen) -> Told {
    let fields = match understood(request) {
        Ok(fields) => fields,
        Err(why) => {
            state.unsigned += 1;
            let body = json!({"code": "40002", "msg": "Invalid Arguments", "sub_code": why});
            return Told::Body(200, signed("error_response", &body, &platform()));
        }
    };
    let method = fields["method"].clone();
    let content: Value = serde_json::from_str(&fields["biz_content"]).unwrap();
    let notify_url = fields.get("notify_url").map(String::as_str);
    state.calls.push(method.clone());
    let conduct = state.plan.get_mut(&method).and_then(VecDeque::pop_front);
    let doubt =
        json!({"code": "20000", "msg": "Service Currently Unavailable", "sub_code": "isp.unknow-error"});
    let name = format!("{}_response", method.replace('.', "_"));
    let mut act = |moves_at_once| state.books.answer(&method, &content, notify_url, moves_at_once);
    let body = match conduct {
        Some(Conduct::Silence) => return Told::Nothing,
        Some(Conduct::Redirects) => return Told::Elsewhere,
        Some(Conduct::Floods) => return Told::Endless,
        Some(Conduct::Doubts) => doubt,
        Some(Conduct::MovesLater) => act(false),
        None
        | Some(
            Conduct::ActsInSilence
            | Conduct::ActsAndFails
            | Conduct::ActsUnsigned
            | Conduct::ActsUnderAnotherKey
            | Conduct::ActsAndDoubts,
        ) => act(true),
    };
    match conduct {
        Some(Conduct::ActsInSilence) => Told::Nothing,
        Some(Conduct::ActsAndFails) => Told::Body(500, signed(&name, &body, &platform())),
        Some(Conduct::ActsUnsigned) => Told::Body(200, json!({ name: body }).to_string()),
        Some(Conduct::ActsUnderAnotherKey) => {
            Told::Body(200, signed(&name, &body, &SigningKey::read(&app_key()).unwrap()))
        }
        Some(Conduct::ActsAndDoubts) => Told::Body(
            200,
            signed(&name, &json!({"code": "20000", "sub_code": "aop.ACQ.SYSTEM_ERROR"}), &platform()),
        ),
        None
        | Some(
            Conduct::Silence | Conduct::Redirects | Conduct::Floods | Conduct::Doubts | Conduct::MovesLater,
        ) => Told::Body(200, signed(&name, &body, &platform())),
    }
}

/// The fields of a call, if the app has signed it and it is one of now.
fn understood(request: &Seen) -> Result<BTreeMap<String, String>, &'static str> {
    let is_form = request.header("content-type") == Some("application/x-www-form-urlencoded;charset=utf-8");
    if (request.method.as_str(), request.target.as_str()) != ("POST", PATH) || !is_form {
        return Err("isv.invalid-request");
    }
    let fields: BTreeMap<String, String> =
        wire::form::decode(&request.body, 64).map_err(|_| "isv.invalid-request")?.into_iter().collect();
    let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    if field("app_id") != APP_ID {
        return Err("isv.invalid-app-id");
    }
    if (field("charset"), field("version"), field("sign_type")) != ("utf-8", "1.0", "RSA2") {
        return Err("isv.invalid-signature-type");
    }
    let time = wire::rfc3339::parse(&format!("{}+08:00", field("timestamp").replace(' ', "T")));
    if time.is_none_or(|time| time.abs_diff(now_s()) > CLOCK_S) {
        return Err("isv.invalid-timestamp");
    }
    let signed: Vec<(&str, String)> = fields
        .iter()
        .filter(|(name, _)| *name != "sign")
        .map(|(name, value)| (name.as_str(), value.clone()))
        .collect();
    let sign = wire::base64::decode_std(field("sign")).map_err(|_| "isv.invalid-signature")?;
    if rsa::verifies(&app_modulus(), &joined(&signed), &sign) {
        Ok(fields)
    } else {
        Err("isv.invalid-signature")
    }
}

/// Text to sign, joined here and not by what is tested.
fn joined(fields: &[(&str, String)]) -> String {
    let sorted: BTreeMap<&str, &str> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    sorted.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// An answer with its signature. Slashes are escaped, as Alipay's own are.
fn signed(name: &str, body: &Value, key: &SigningKey) -> String {
    let body = body.to_string().replace('/', "\\/");
    let sign = key.sign(&body).unwrap();
    format!(r#"{{"{name}":{body},"sign":"{sign}"}}"#)
}

/// `36.00`
fn yuan(fen: u64) -> String {
    format!("{}.{:02}", fen / 100, fen % 100)
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn beijing_time() -> String {
    let text = wire::rfc3339::format(now_s() + 8 * 3_600).unwrap();
    format!("{} {}", &text[..10], &text[11..19])
}
