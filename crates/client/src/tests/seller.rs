//! A seller on loopback that does what a test tells it, and remembers every request it saw.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::{Client, Folder, Patience, Policy, Request, Wallet, parse_cap};
use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proof::x402_exact::{self, EvmToken, Method as Pays, Offer};
use proof::{EpochState, MasterKey, MasterKeys, SigningKey, credit_key, receipt};
use rails::dial::Dialer;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;
use wire::credit_key::Mode;
use wire::x402::{self, ExactPayload, SettlementResponse, v1, v2};

/// A request as the seller saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What the seller does with it.
pub(crate) enum Reply {
    Answer(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// A body, and what comes behind its last byte.
    Trailers(Vec<u8>, (&'static str, String)),
    /// Chunks as the test sends them.
    Stream(Vec<(&'static str, String)>, mpsc::Receiver<Bytes>),
    /// Reads the request and hangs up.
    HangUp,
}

#[derive(Clone)]
pub(crate) struct Seller {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Seller {
    /// `act` gets each request and its number, from 0.
    pub(crate) async fn open(act: impl FnMut(&Seen, usize) -> Reply + Send + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let act = Arc::new(Mutex::new(act));
        let all = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (all, act) = (Arc::clone(&all), Arc::clone(&act));
                let service = service_fn(move |request| serve(request, Arc::clone(&all), Arc::clone(&act)));
                let io = TokioIo::new(stream);
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
            }
        });
        Self { port, seen }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The payments that arrived, in order.
    pub(crate) fn payments(&self) -> Vec<String> {
        self.seen().iter().filter_map(Seen::payment).collect()
    }
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn payment(&self) -> Option<String> {
        self.header("payment-signature").or_else(|| self.header("x-payment")).map(str::to_owned)
    }
}

async fn serve<A: FnMut(&Seen, usize) -> Reply>(
    request: http::Request<Incoming>,
    all: Arc<Mutex<Vec<Seen>>>,
    act: Arc<Mutex<A>>,
) -> Result<Response<Pipe>, std::io::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let path = parts.uri.to_string();
    let seen = Seen { path, headers: parts.headers, body };
    let number = {
        let mut all = all.lock().unwrap();
        all.push(seen.clone());
        all.len() - 1
    };
    let reply = (act.lock().unwrap())(&seen, number);
    let mut trailers = None;
    let (status, headers, pipe) = match reply {
        Reply::HangUp => return Err(std::io::Error::other("told to")),
        Reply::Answer(status, headers, body) => {
            let (sender, pipe) = mpsc::channel(1);
            sender.try_send(Bytes::from(body)).unwrap();
            (status, headers, pipe)
        }
        Reply::Trailers(body, (name, value)) => {
            let (sender, pipe) = mpsc::channel(1);
            sender.try_send(Bytes::from(body)).unwrap();
            trailers = Some(HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]));
            (200, vec![("trailer", name.to_owned())], pipe)
        }
        Reply::Stream(headers, pipe) => (200, headers, pipe),
    };
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    Ok(response.body(Pipe(pipe, trailers)).unwrap())
}

pub(crate) struct Pipe(mpsc::Receiver<Bytes>, Option<HeaderMap>);

impl hyper::body::Body for Pipe {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.0.poll_recv(cx);
        data.map(|bytes| match bytes {
            Some(bytes) => Some(Ok(Frame::data(bytes))),
            None => self.1.take().map(|trailers| Ok(Frame::trailers(trailers))),
        })
    }
}

pub(crate) const TOKEN: &str = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
pub(crate) const PAYEE: &str = "0x976EA74026E726554dB657fA54763abd0C3a0aa9";

/// The seller's own key: payee on the test rail, signer of receipts.
pub(crate) fn till() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

pub(crate) fn test_offer(nano: u64) -> Offer {
    let method = Pays::Test { pay_to: till().verifying_key().to_bytes() };
    Offer { method, amount: nano.into(), max_timeout_s: 60, quote: Some("quote-1".into()) }
}

pub(crate) fn usdc_offer(micro: u64) -> Offer {
    let token = EvmToken::new("eip155:84532", TOKEN.parse().unwrap(), "USDC", "2").unwrap();
    let method = Pays::Evm { token: Arc::new(token), pay_to: PAYEE.parse().unwrap() };
    Offer { method, amount: micro.into(), max_timeout_s: 60, quote: None }
}

pub(crate) fn required(offers: &[Offer]) -> v2::PaymentRequired {
    v2::PaymentRequired {
        x402_version: 2,
        error: None,
        resource: Some(v2::ResourceInfo { url: "http://shop/".into(), ..Default::default() }),
        accepts: offers.iter().map(Offer::requirements_v2).collect(),
        extensions: None,
    }
}

/// A 402 as the gateway gives it: version 2 in the header, version 1 and an error object in the body.
pub(crate) fn challenge(offers: &[Offer]) -> Reply {
    let accepts: Vec<v1::PaymentRequirements> =
        offers.iter().filter_map(|offer| offer.requirements_v1("http://shop/", "", "")).collect();
    let body = json!({"x402Version": 1, "accepts": accepts, "code": "payment_required",
                      "error": {"code": "payment_required", "message": "Pay first."}});
    let header = ("payment-required", x402::encode(&required(offers)));
    Reply::Answer(402, vec![header], body.to_string().into_bytes())
}

pub(crate) fn problem(status: u16, code: &str, headers: Vec<(&'static str, String)>) -> Reply {
    let body = json!({"code": code, "error": {"code": code, "message": "As the test says."}});
    Reply::Answer(status, headers, body.to_string().into_bytes())
}

/// That a version 2 payment pays exactly this offer, checked as the gateway does.
pub(crate) fn check(seen: &Seen, offer: &Offer) {
    let payment = x402::decode_payment_signature(seen.header("payment-signature").unwrap()).unwrap();
    x402_exact::match_offer(&payment.accepted, std::slice::from_ref(offer)).unwrap();
    let quote = payment.accepted.extra.as_ref().and_then(|extra| extra.get("quote")?.as_str());
    assert_eq!(quote, offer.quote.as_deref(), "the quote comes back unaltered");
    assert_eq!(payment.resource.unwrap().url, "http://shop/");
    let payload = ExactPayload::from_value(&payment.payload).unwrap();
    x402_exact::verify(offer, &payload, now()).unwrap();
}

pub(crate) fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

pub(crate) fn settled(network: &str) -> (&'static str, String) {
    let report = SettlementResponse {
        success: true,
        transaction: "test:1".into(),
        network: network.into(),
        ..SettlementResponse::default()
    };
    ("payment-response", x402::encode(&report))
}

/// A credit key of this seller.
pub(crate) fn fresh_key(id: u8) -> String {
    let master = MasterKey { epoch: 1, state: EpochState::Mint, secret: [7; 32].into() };
    let keys = MasterKeys::new([master]).unwrap();
    credit_key::mint(&keys, Mode::Test, [1; 16], [id; 16], &["expires=1900000000".into()]).unwrap()
}

/// What limits one call in a key that arrived.
pub(crate) fn per_call(key: &str) -> Vec<String> {
    let key = wire::credit_key::CreditKey::parse(key).unwrap();
    let caveats = key.macaroon().caveats.iter().map(|caveat| String::from_utf8(caveat.clone()).unwrap());
    caveats.filter(|caveat| caveat.starts_with("per_call=")).collect()
}

pub(crate) fn facts(call: &str) -> Value {
    json!({
        "call": call, "charged": {"amount": "0.000415600", "currency": "TEST"},
        "balance_after": {"amount": "0.019584400", "currency": "TEST"},
    })
}

/// Serves receipt and keys, as far as the path asks for them.
pub(crate) fn papers(seen: &Seen, signer: &SigningKey, published: &SigningKey) -> Option<Reply> {
    if seen.path == "/.well-known/farthing-keys.json" {
        assert!(seen.header("authorization").is_none(), "public documents are fetched without a credential");
        let keys = serde_json::to_vec(&receipt::jwks([&published.verifying_key()])).unwrap();
        return Some(Reply::Answer(200, vec![], keys));
    }
    let id = seen.path.strip_prefix("/farthing/receipts/")?;
    Some(Reply::Answer(200, vec![], receipt::sign(signer, &facts(id)).unwrap().into_bytes()))
}

/// A client with a wallet of its own in a folder of its own, that hardly waits.
pub(crate) struct Payer {
    pub(crate) client: Client,
    pub(crate) home: TempDir,
}

impl Payer {
    pub(crate) fn new(max: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let wallet = home.path().join("wallet.json");
        Wallet::create(&wallet).unwrap();
        Self { client: client_of(&home, max), home }
    }

    /// As another process would see it.
    pub(crate) fn again(&self, max: &str) -> Client {
        client_of(&self.home, max)
    }

    /// Names of pending payments.
    pub(crate) fn pending(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.home.path().join("pending")) else { return vec![] };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn client_of(home: &TempDir, max: &str) -> Client {
    let wallet = home.path().join("wallet.json");
    let dialer = Dialer::new(&[], Duration::from_secs(5)).unwrap();
    let patience = Patience {
        head_max: Duration::from_secs(5),
        idle_max: Duration::from_secs(5),
        replays: 3,
        wait_min: Duration::from_millis(1),
        wait_max: Duration::from_secs(2),
    };
    Client::new(dialer, Policy::up_to(parse_cap(max).unwrap()))
        .with_patience(patience)
        .with_wallet(Wallet::load(&wallet).unwrap())
        .with_folder(Folder::beside(&wallet))
}

pub(crate) fn post(url: &str, body: &str) -> Request {
    Request::new(Method::POST, url).unwrap().body(body.to_owned())
}
