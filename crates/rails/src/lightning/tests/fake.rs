//! A node's HTTP interface on loopback that does what a test says. Its threads end with the process.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::Secret;
use crate::dial::{Dialer, Origin};
use crate::lightning::test_node::{mint, node_key};
use crate::lightning::{Backend, Expect, LightningNode, Network, Wanted, bolt11};

pub(super) const NOW_S: u64 = 1_790_000_000;
/// How long a question may take here: longer than any machine needs.
const TIME_MAX: Duration = Duration::from_secs(20);
/// The same where the node will not answer anyhow.
const TIME_MAX_SHORT: Duration = Duration::from_millis(300);
/// How long a question for settlements waits for one, here. Whole seconds, for Core Lightning.
pub(super) const WAIT: Duration = Duration::from_secs(1);
/// The key to every node here.
pub(super) const KEY: &str = "0201036c6e64secret";

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub method: String,
    pub target: String,
    pub head: String,
    pub body: String,
}

impl Asked {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// `POST /v1/invoices`.
    pub(super) fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

/// What the node does.
pub(super) enum Does {
    Says(u16, String),
    /// These pieces one after the other, then nothing more; the connection stays.
    Streams(Vec<String>),
    /// Nothing, until the asker gives up.
    Silence,
    Hangup,
    /// Half an answer.
    Half,
    /// More than anybody should read.
    Flood,
}

#[derive(Clone)]
pub(super) struct Fake {
    pub origin: Origin,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    pub(super) fn start(script: impl Fn(&Asked) -> Does + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let origin = Origin { tls: false, host: "127.0.0.1".to_owned(), port };
        let fake = Self { origin, asked: Arc::default() };
        let (asked, script) = (Arc::clone(&fake.asked), Arc::new(script));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, asked, script) = (stream.unwrap(), Arc::clone(&asked), Arc::clone(&script));
                thread::spawn(move || {
                    if let Some(request) = read(&mut stream) {
                        asked.lock().unwrap().push(request.clone());
                        act(script(&request), &mut stream);
                    }
                });
            }
        });
        fake
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.asked().iter().map(Asked::line).collect()
    }

    /// A node that is asked here, and whose key is known.
    pub(super) fn node(&self, kind: Kind) -> LightningNode {
        self.node_of(kind, Some(node_key()))
    }

    /// The same, for a node that will not answer.
    pub(super) fn impatient(&self, kind: Kind) -> LightningNode {
        self.node_within(kind, Some(node_key()), TIME_MAX_SHORT)
    }

    pub(super) fn node_of(&self, kind: Kind, node_key: Option<[u8; 33]>) -> LightningNode {
        self.node_within(kind, node_key, TIME_MAX)
    }

    fn node_within(&self, kind: Kind, node_key: Option<[u8; 33]>, time_max: Duration) -> LightningNode {
        let expect = Expect { network: Network::Regtest, node_key };
        let dialer = Dialer::new(&[], Duration::from_secs(5)).unwrap();
        LightningNode::waiting(kind.backend(self.origin.clone()), expect, dialer, time_max, WAIT)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Lnd,
    Cln,
    Phoenixd,
    LnBits,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Lnd, Self::Cln, Self::Phoenixd, Self::LnBits];

    pub(super) fn backend(self, origin: Origin) -> Backend {
        let (base, key) = ("/below".to_owned(), Secret::new(KEY));
        match self {
            Self::Lnd => Backend::Lnd { origin, base, macaroon: key },
            Self::Cln => Backend::Cln { origin, base, rune: key },
            Self::Phoenixd => Backend::Phoenixd { origin, base, password: key },
            Self::LnBits => Backend::LnBits { origin, base, key },
        }
    }

    /// What a node of this kind answers with a fresh invoice.
    pub(super) fn created(self, made: &Made) -> Does {
        let Made { bolt11, hash, preimage, .. } = made;
        let hex = wire::hex::encode(hash);
        let body = match self {
            Self::Lnd => {
                serde_json::json!({"r_hash": wire::base64::encode_std(hash), "payment_request": bolt11,
                "add_index": "7", "payment_addr": "9a7WpqM5zMUzZ0cQ0b1SGlrTjYHzC3sXK2S8Vjw0iCM=", "r_preimage": preimage})
            }
            Self::Cln => {
                serde_json::json!({"payment_hash": hex, "expires_at": 1_790_000_300, "bolt11": bolt11,
                "payment_secret": "21f8a38be36697218d2db22cbbca621d96ffc0a63f3585860351b1d905f72cc2",
                "created_index": 2, "warning_capacity": "Insufficient incoming channel capacity to pay invoice"})
            }
            Self::Phoenixd => {
                serde_json::json!({"amountSat": 22, "paymentHash": hex, "serialized": bolt11})
            }
            Self::LnBits => {
                serde_json::json!({"checking_id": hex, "payment_hash": hex, "wallet_id": "w", "amount": 22_000,
                "fee": 0, "bolt11": bolt11, "payment_request": bolt11, "status": "pending", "memo": "farthing",
                "preimage": preimage, "extra": {}, "created_at": "2026-09-21T14:13:20+00:00"})
            }
        };
        let status = if matches!(self, Self::Cln | Self::LnBits) { 201 } else { 200 };
        Does::Says(status, body.to_string())
    }

    /// What this kind is asked for: as wanted, or whole satoshi.
    pub(super) const fn amount_msat(self) -> u64 {
        match self {
            Self::Lnd | Self::Cln => 21_001,
            Self::Phoenixd | Self::LnBits => 22_000,
        }
    }
}

/// An invoice that a node has made.
#[derive(Clone)]
pub(super) struct Made {
    pub bolt11: String,
    pub hash: [u8; 32],
    /// In hexadecimal, as some nodes tell it to whoever made the invoice.
    pub preimage: String,
}

pub(super) fn wanted() -> Wanted<'static> {
    Wanted { amount_msat: 21_001, description: "farthing: llm & co", expiry_s: 300, label: "farthing-1" }
}

pub(super) fn made(wanted: &Wanted<'_>, now_s: u64) -> Made {
    let bolt11 = mint(wanted, now_s).unwrap();
    let hash = bolt11::decode(&bolt11).unwrap().payment_hash;
    let preimage = crate::lightning::test_node::preimage_of(&bolt11).unwrap();
    Made { bolt11, hash, preimage: wire::hex::encode(preimage.as_bytes()) }
}

fn act(does: Does, stream: &mut TcpStream) {
    let head = |length: usize| {
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n")
    };
    match does {
        Does::Says(status, body) => {
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
        Does::Streams(pieces) => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            for piece in pieces {
                let _ = stream.write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes());
            }
            wait_for_end(stream);
        }
        Does::Silence => wait_for_end(stream),
        Does::Hangup => {}
        Does::Half => {
            let _ = stream.write_all(format!("{}{{\"r_hash\":", head(1000)).as_bytes());
        }
        Does::Flood => {
            let _ = stream.write_all(head(64 * 1024 * 1024).as_bytes());
            while stream.write_all(&[b' '; 64 * 1024]).is_ok() {}
        }
    }
}

fn wait_for_end(stream: &mut TcpStream) {
    while matches!(stream.read(&mut [0; 64]), Ok(1..)) {}
}

fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut raw = Vec::new();
    let mut buffer = [0; 16 * 1024];
    let end = loop {
        if let Some(end) = raw.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(count) => raw.extend_from_slice(&buffer[..count]),
        }
    };
    let head = String::from_utf8(raw[..end].to_vec()).unwrap();
    let mut body = raw.split_off(end + 4);
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |length| length.parse().unwrap());
    while body.len() < length {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(count) => body.extend_from_slice(&buffer[..count]),
        }
    }
    let mut words = head.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    Some(Asked { method, target, body: String::from_utf8(body).unwrap(), head })
}
