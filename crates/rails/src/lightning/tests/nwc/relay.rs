//! A relay on loopback with a wallet behind it, which can misbehave. It speaks NIP-01 over real WebSockets and seals as
//! wallets do; its invoices are the test node's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures_util::{SinkExt as _, StreamExt as _};
use secp256k1::Keypair;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc};
use tokio_tungstenite::tungstenite::Message;
use wire::hex;

use crate::lightning::nwc::standin::{Event, Scheme, Seal};
use crate::lightning::{Wanted, bolt11, test_node};

/// Test keys: the client's and the wallet's.
pub(super) const CLIENT: [u8; 32] = [7; 32];
pub(super) const WALLET: [u8; 32] = [8; 32];
const STRANGER: [u8; 32] = [9; 32];

/// How the next question is answered.
#[derive(Clone, Debug)]
pub(super) enum Manner {
    /// Not at all.
    Silence,
    /// The relay hangs up, having passed the question on or not.
    HangUp,
    /// The relay says that it passes nothing on.
    Blocked,
    /// After the next question's answer.
    LaterThanNext,
    /// Twice.
    Twice,
    /// A stranger answers first, and somebody without a key, and the wallet to another question; then it answers.
    Forgeries,
    /// With an error of this code.
    Error(&'static str),
    /// Pays, or makes, but answers with an error of this code.
    DoneBut(&'static str),
    /// Not sealed for us.
    Garbage,
    /// Answers this.
    Says(Value),
    /// Answers rightly, with some members of the result replaced.
    With(Value),
}

/// What the wallet behind it can do.
#[derive(Clone, Debug)]
pub(super) struct Nature {
    pub(super) methods: &'static str,
    pub(super) encryption: Option<&'static str>,
    /// Shows the info event.
    pub(super) is_known: bool,
    /// The relay wants to know who asks (NIP-42).
    pub(super) asks_who: bool,
    /// Writes on its answers whom they are for. Alby's service does not.
    pub(super) names_us: bool,
    /// Says more than anybody can look at.
    pub(super) floods: bool,
}

impl Default for Nature {
    fn default() -> Self {
        Self {
            methods: "make_invoice lookup_invoice pay_invoice get_info notifications",
            encryption: Some("nip44_v2 nip04"),
            is_known: true,
            asks_who: false,
            names_us: true,
            floods: false,
        }
    }
}

/// One entry of the wallet's books, as `lookup_invoice` tells it.
type Entries = HashMap<String, Value>;

#[derive(Default)]
struct Books {
    manners: HashMap<String, Vec<Manner>>,
    questions: Vec<Value>,
    entries: Entries,
    late: Vec<Event>,
}

/// Relay and wallet.
pub(super) struct Relay {
    pub(super) port: u16,
    nature: Nature,
    books: Arc<Mutex<Books>>,
    news: broadcast::Sender<String>,
    connections: Arc<Mutex<(u32, u32)>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn keys(secret: [u8; 32]) -> Keypair {
    Keypair::from_secret_bytes(secret).unwrap()
}

fn public(secret: [u8; 32]) -> String {
    hex::encode(&keys(secret).x_only_public_key().0.to_byte_array())
}

/// The connection string of the wallet over these ports.
pub(super) fn uri(ports: &[u16]) -> String {
    let relays: String =
        ports.iter().map(|port| format!("&relay=ws%3A%2F%2F127.0.0.1%3A{port}%2Fv1")).collect();
    format!("nostr+walletconnect://{}?secret={}{relays}", public(WALLET), hex::encode(&CLIENT))
}

impl Relay {
    pub(super) async fn start(nature: Nature) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), nature)
    }

    pub(super) fn on(listener: TcpListener, nature: Nature) -> Self {
        let port = listener.local_addr().unwrap().port();
        let books = Arc::new(Mutex::new(Books::default()));
        let (news, _) = broadcast::channel(16);
        let connections = Arc::new(Mutex::new((0, 0)));
        let served = Served {
            nature: nature.clone(),
            books: Arc::clone(&books),
            news: news.clone(),
            connections: Arc::clone(&connections),
        };
        let task = tokio::spawn(async move {
            let mut guests = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                guests.spawn(served.clone().serve(stream));
            }
        });
        Self { port, nature, books, news, connections, task }
    }

    /// The next question of this method is answered so; several stand in line.
    pub(super) fn next(&self, method: &str, manner: Manner) {
        self.books.lock().unwrap().manners.entry(method.to_owned()).or_default().push(manner);
    }

    /// The methods that the wallet was asked, in their order.
    pub(super) fn asked(&self) -> Vec<String> {
        let books = self.books.lock().unwrap();
        books.questions.iter().map(|question| question["method"].as_str().unwrap().to_owned()).collect()
    }

    pub(super) fn last_params(&self) -> Value {
        self.books.lock().unwrap().questions.last().unwrap()["params"].clone()
    }

    /// Writes over an entry of the wallet's books.
    pub(super) fn set(&self, payment_hash: &[u8; 32], entry: Value) {
        self.books.lock().unwrap().entries.insert(hex::encode(payment_hash), entry);
    }

    /// An invoice is paid: the wallet writes it down, and tells.
    pub(super) fn receive(&self, bolt11: &str) {
        let hash = hex::encode(&bolt11::decode(bolt11).unwrap().payment_hash);
        let mut books = self.books.lock().unwrap();
        let entry = books.entries.get_mut(&hash).unwrap();
        let preimage = test_node::preimage_of(bolt11).unwrap();
        entry["state"] = json!("settled");
        entry["settled_at"] = json!(now_s());
        entry["preimage"] = json!(hex::encode(preimage.as_bytes()));
        let told = json!({"notification_type": "payment_received", "notification": entry}).to_string();
        for (scheme, kind) in [(Scheme::Nip44, 23197), (Scheme::Nip04, 23196)] {
            if self.nature.encryption.unwrap_or("nip04").contains(scheme.name()) {
                let event = Event::signed(
                    &keys(WALLET),
                    kind,
                    &[&["p", &public(CLIENT)]],
                    seal().seal(scheme, &told).unwrap(),
                    now_s(),
                );
                let _ = self.news.send(json!(["EVENT", "wallet", event.unwrap()]).to_string());
            }
        }
    }

    /// Connections that were opened, and that have ended.
    pub(super) fn connections(&self) -> (u32, u32) {
        *self.connections.lock().unwrap()
    }
}

/// Waits until something is so, which is only a matter of time.
pub(super) async fn until(is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap();
}

/// Whether an event passes a filter, as relays read it.
fn passes(event: &Value, filter: &Value) -> bool {
    let tagged = |name: &str, wanted: &Value| {
        let tags = event["tags"].as_array().unwrap().iter().filter(|tag| tag[0] == name);
        tags.into_iter().any(|tag| wanted.as_array().unwrap().contains(&tag[1]))
    };
    filter.as_object().unwrap().iter().all(|(name, wanted)| match name.as_str() {
        "kinds" => wanted.as_array().unwrap().contains(&event["kind"]),
        "authors" => wanted.as_array().unwrap().contains(&event["pubkey"]),
        "#p" => tagged("p", wanted),
        "since" => event["created_at"].as_u64() >= wanted.as_u64(),
        "limit" => true,
        other => panic!("{other}"),
    })
}

fn seal() -> Seal {
    Seal::new(&keys(WALLET), keys(CLIENT).x_only_public_key().0).unwrap()
}

#[derive(Clone)]
struct Served {
    nature: Nature,
    books: Arc<Mutex<Books>>,
    news: broadcast::Sender<String>,
    connections: Arc<Mutex<(u32, u32)>>,
}

impl Served {
    async fn serve(self, stream: TcpStream) {
        let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
        self.connections.lock().unwrap().0 += 1;
        let (say, mut said) = mpsc::unbounded_channel();
        let mut news = self.news.subscribe();
        let mut is_known = !self.nature.asks_who;
        let mut filters = Vec::new();
        if self.nature.asks_who {
            say.send(json!(["AUTH", "challenge"]).to_string()).unwrap();
        }
        loop {
            let text = tokio::select! {
                biased;
                Some(text) = said.recv() => text,
                Ok(text) = news.recv() => text,
                message = socket.next() => {
                    let Some(Ok(message)) = message else { break };
                    let Message::Text(text) = message else { continue };
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    if frame[0] == "AUTH" {
                        is_known = self.is_client(&frame[1]);
                        continue;
                    }
                    if frame[0] == "REQ" && is_known {
                        filters.extend(frame.as_array().unwrap()[2..].iter().cloned());
                    }
                    let Some(frames) = self.answer(&frame, is_known) else { break };
                    frames.into_iter().for_each(|frame| say.send(frame).unwrap());
                    continue;
                }
            };
            let frame: Value = serde_json::from_str(&text).unwrap();
            // What a stranger says is passed on as a bad relay would.
            let is_asked_for = |event| filters.iter().any(|filter| passes(event, filter));
            if frame[0] == "EVENT" && frame[2]["pubkey"] != public(STRANGER) && !is_asked_for(&frame[2]) {
                continue;
            }
            if socket.send(Message::text(text)).await.is_err() {
                break;
            }
        }
        self.connections.lock().unwrap().1 += 1;
    }

    fn is_client(&self, event: &Value) -> bool {
        let event: Event = serde_json::from_value(event.clone()).unwrap();
        event.is_by(&keys(CLIENT).x_only_public_key().0) && event.tag("challenge") == Some("challenge")
    }

    /// What the relay says to one message; none: it hangs up.
    fn answer(&self, frame: &Value, is_known: bool) -> Option<Vec<String>> {
        let subscription = &frame[1];
        match frame[0].as_str().unwrap() {
            "REQ" if !is_known => {
                Some(vec![json!(["CLOSED", subscription, "auth-required: who are you"]).to_string()])
            }
            "REQ" => {
                let noise = if self.nature.floods { 50_000 } else { 0 };
                let mut frames = vec![json!(["NOTICE", "noise"]).to_string(); noise];
                if frame[2]["kinds"][0] == 13194 && self.nature.is_known {
                    let schemes = self.nature.encryption.unwrap_or_default();
                    let tags: &[&[&str]] = &[&["encryption", schemes]];
                    let tags = if schemes.is_empty() { &[] } else { tags };
                    let methods = self.nature.methods.to_owned();
                    let event = Event::signed(&keys(WALLET), 13194, tags, methods, 1).unwrap();
                    frames.push(json!(["EVENT", subscription, event]).to_string());
                }
                frames.push(json!(["EOSE", subscription]).to_string());
                Some(frames)
            }
            "EVENT" => self.question(&frame[1]),
            other => panic!("{other}"),
        }
    }

    /// Passes a question to the wallet, and its answer back.
    fn question(&self, event: &Value) -> Option<Vec<String>> {
        let event: Event = serde_json::from_value(event.clone()).unwrap();
        assert!(event.is_by(&keys(CLIENT).x_only_public_key().0) && event.kind == 23194);
        assert_eq!(event.tag("p"), Some(public(WALLET).as_str()));
        let expires_at_s: u64 = event.tag("expiration").unwrap().parse().unwrap();
        assert!(expires_at_s > now_s(), "the wallet would have passed it over");
        let best = if self.nature.encryption.is_some_and(|tag| tag.contains("nip44")) {
            Scheme::Nip44
        } else {
            Scheme::Nip04
        };
        assert_eq!(event.tag("encryption"), Some(best.name()));
        let question: Value = serde_json::from_str(&seal().open(best, &event.content).unwrap()).unwrap();

        let mut books = self.books.lock().unwrap();
        let method = question["method"].as_str().unwrap().to_owned();
        assert!(self.nature.methods.contains(&method), "{method} is not offered");
        let manners = books.manners.entry(method.clone()).or_default();
        let manner = if manners.is_empty() { None } else { Some(manners.remove(0)) };
        books.questions.push(question.clone());
        let response = |by: [u8; 32], question: &str, result: &Value| {
            let content = seal().seal(best, &result.to_string()).unwrap();
            let (client, question): (&[&str], &[&str]) = (&["p", &public(CLIENT)], &["e", question]);
            let tags = if self.nature.names_us { &[client, question][..] } else { &[question] };
            Event::signed(&keys(by), 23195, tags, content, now_s()).unwrap()
        };
        let right = |books: &mut Books| result_of(&method, &question["params"], &mut books.entries);
        let error = |code: &str| json!({"result_type": method, "error": {"code": code, "message": "no"}, "result": null});
        let passed = |event: &Event| json!(["EVENT", "wallet", event]).to_string();
        let mut frames = vec![json!(["OK", event.id(), true, ""]).to_string()];
        let answers = match manner {
            None => vec![response(WALLET, event.id(), &right(&mut books))],
            Some(Manner::Silence) => vec![],
            Some(Manner::HangUp) => return None,
            Some(Manner::Blocked) => {
                return Some(vec![json!(["OK", event.id(), false, "blocked: not you"]).to_string()]);
            }
            Some(Manner::LaterThanNext) => {
                let late = response(WALLET, event.id(), &right(&mut books));
                books.late.push(late);
                vec![]
            }
            Some(Manner::Twice) => {
                let first = response(WALLET, event.id(), &right(&mut books));
                vec![first, response(WALLET, event.id(), &error("OTHER"))]
            }
            Some(Manner::Forgeries) => {
                let forged = error("INTERNAL");
                let mut unsigned = response(WALLET, event.id(), &forged);
                unsigned.content = seal().seal(best, &forged.to_string()).unwrap();
                let answer = response(WALLET, event.id(), &right(&mut books));
                vec![
                    response(STRANGER, event.id(), &forged),
                    unsigned,
                    response(WALLET, &"00".repeat(32), &forged),
                    answer,
                ]
            }
            Some(Manner::Error(code)) => vec![response(WALLET, event.id(), &error(code))],
            Some(Manner::DoneBut(code)) => {
                right(&mut books);
                vec![response(WALLET, event.id(), &error(code))]
            }
            Some(Manner::Garbage) => {
                let tags: &[&[&str]] = &[&["p", &public(CLIENT)], &["e", event.id()]];
                vec![Event::signed(&keys(WALLET), 23195, tags, "AAAA".to_owned(), now_s()).unwrap()]
            }
            Some(Manner::Says(said)) => vec![response(WALLET, event.id(), &said)],
            Some(Manner::With(members)) => {
                let mut result = right(&mut books);
                for (name, value) in members.as_object().unwrap() {
                    result["result"][name] = value.clone();
                }
                vec![response(WALLET, event.id(), &result)]
            }
        };
        let late = if answers.is_empty() { vec![] } else { std::mem::take(&mut books.late) };
        frames.extend(answers.iter().chain(&late).map(passed));
        Some(frames)
    }
}

/// What an honest wallet answers.
fn result_of(method: &str, params: &Value, entries: &mut Entries) -> Value {
    let error = |code: &str| json!({"result_type": method, "error": {"code": code, "message": "no"}});
    let result = match method {
        "make_invoice" => {
            let wanted = Wanted {
                amount_msat: params["amount"].as_u64().unwrap(),
                description: params["description"].as_str().unwrap(),
                expiry_s: params["expiry"].as_u64().unwrap().try_into().unwrap(),
                label: "",
            };
            let bolt11 = test_node::mint(&wanted, now_s()).unwrap();
            let preimage = test_node::preimage_of(&bolt11).unwrap();
            let hash = hex::encode(&preimage.payment_hash().0);
            // Some wallets tell the preimage here.
            let entry = json!({"type": "incoming", "state": "pending", "invoice": bolt11, "payment_hash": hash,
                "amount": wanted.amount_msat, "preimage": hex::encode(preimage.as_bytes()), "settled_at": null});
            entries.insert(hash, entry.clone());
            entry
        }
        "lookup_invoice" => match entries.get(params["payment_hash"].as_str().unwrap()) {
            Some(entry) => entry.clone(),
            None => return error("NOT_FOUND"),
        },
        "pay_invoice" => {
            let bolt11 = params["invoice"].as_str().unwrap();
            let Some(preimage) = test_node::preimage_of(bolt11) else { return error("PAYMENT_FAILED") };
            let hash = hex::encode(&preimage.payment_hash().0);
            let preimage = hex::encode(preimage.as_bytes());
            entries.insert(
                hash.clone(),
                json!({"type": "outgoing", "state": "settled", "payment_hash": hash, "amount": 1000,
                    "preimage": preimage, "fees_paid": 3}),
            );
            json!({"preimage": preimage, "fees_paid": 3})
        }
        "get_info" => {
            json!({"alias": "stand-in", "pubkey": hex::encode(&test_node::node_key()), "network": "regtest",
            "methods": ["make_invoice"]})
        }
        other => panic!("{other}"),
    };
    json!({"result_type": method, "error": null, "result": result})
}
