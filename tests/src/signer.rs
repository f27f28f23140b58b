//! One who signs requests: an agent, or the holder of a key.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use proof::SigningKey;
use proof::identity::{AgentKey, Tag, sign};
use serde_json::Value;
use wire::message_signature::{Request, Unsigned};

use crate::http::{self, Answer};
use crate::payer::now_s;

/// A request that is signed before it is sent.
#[derive(Clone, Debug)]
pub struct Call {
    /// `POST`.
    pub method: String,
    /// What `Host` says.
    pub host: String,
    /// Path and query.
    pub target: String,
    /// In order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Empty for none.
    pub body: Vec<u8>,
}

impl Call {
    /// A POST of JSON.
    pub fn post(host: SocketAddr, target: &str, body: &Value) -> Self {
        let call = Self::get(host, target);
        let body = body.to_string().into_bytes();
        Self { method: "POST".into(), body, ..call }.with("content-type", "application/json")
    }

    /// A GET.
    pub fn get(host: SocketAddr, target: &str) -> Self {
        Self {
            method: "GET".into(),
            host: host.to_string(),
            target: target.into(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// With one more header.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// With the digest of the body.
    #[must_use]
    pub fn with_digest(self) -> Self {
        let digest = wire::content_digest::of(&self.body);
        self.with("content-digest", &digest)
    }

    /// With another value of a header, or none.
    #[must_use]
    pub fn altered(mut self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => {
                self.headers
                    .iter_mut()
                    .filter(|(known, _)| known == name)
                    .for_each(|(_, old)| *old = value.into());
            }
            None => self.headers.retain(|(known, _)| known != name),
        }
        self
    }

    /// The request as it goes over the line, on a connection that ends with it.
    pub fn bytes(&self) -> Vec<u8> {
        let Self { method, host, target, headers, body } = self;
        let mut text = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            text.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        [text.as_bytes(), body].concat()
    }

    /// Sends it under the host that it names.
    pub fn send(&self, address: SocketAddr) -> Answer {
        let Self { method, target, .. } = self;
        http::raw(address, &self.bytes()).unwrap_or_else(|| panic!("no answer to {method} {target}"))
    }
}

/// A key that signs.
#[derive(Clone, Debug)]
pub struct Signer(SigningKey);

impl Signer {
    /// The same key for the same number.
    pub fn new(seed: u8) -> Self {
        Self(SigningKey::from_bytes(&[seed; 32]))
    }

    /// As a keyring has it.
    pub fn x(&self) -> String {
        wire::base64::encode_url(&self.0.verifying_key().to_bytes())
    }

    /// RFC 7638.
    pub fn thumbprint(&self) -> String {
        AgentKey::new(&self.0.verifying_key().to_bytes()).unwrap().thumbprint().to_owned()
    }

    /// The caveat that binds a key to this one.
    pub fn holder(&self) -> String {
        format!("holder=ed25519:{}", self.x())
    }

    /// Signs what a profile wants, with a nonce of its own. A little ahead of now, so that the gateway has begun before.
    pub fn signed(&self, tag: Tag, components: &[&str], call: Call) -> Call {
        self.sign(&unsigned(tag, components), call)
    }

    /// The proof of a holder: everything that it must cover.
    pub fn held(&self, call: Call) -> Call {
        let call = if call.body.is_empty() { call } else { call.with_digest() };
        let mut components = vec!["@method", "@authority", "@path"];
        components.extend(call.target.contains('?').then_some("@query"));
        let fields = [
            "authorization",
            "x-api-key",
            "api-key",
            "x-goog-api-key",
            "payment-authorization",
            "macaroon",
            "grpc-metadata-macaroon",
            "token",
            "content-digest",
        ];
        let present = |name: &&str| call.headers.iter().any(|(known, _)| known == name);
        components.extend(fields.into_iter().filter(present));
        self.signed(Tag::Holder, &components.clone(), call)
    }

    /// Signs what it is told to. Where there is a signature already the other is put beside it.
    pub fn sign(&self, unsigned: &Unsigned, mut call: Call) -> Call {
        static LABEL: AtomicU32 = AtomicU32::new(0);
        let label = format!("s{}", LABEL.fetch_add(1, Ordering::Relaxed));
        let lines = |name: &str| -> Vec<&[u8]> {
            let own = call.headers.iter().filter(|(known, _)| known == name);
            own.map(|(_, value)| value.as_bytes()).collect()
        };
        let (path, query) = match call.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (call.target.as_str(), None),
        };
        let request = Request {
            method: &call.method,
            scheme: "http",
            authority: &call.host,
            path,
            query,
            fields: &lines,
        };
        let fields = sign(&self.0, &label, unsigned, &request).unwrap();
        call.headers.push(("signature-input".into(), fields.input));
        call.headers.push(("signature".into(), fields.signature));
        call
    }
}

/// What is signed, now and for 45 seconds.
pub fn unsigned(tag: Tag, components: &[&str]) -> Unsigned {
    static NONCE: AtomicU32 = AtomicU32::new(0);
    Unsigned {
        components: components.iter().map(|name| (*name).to_owned()).collect(),
        created: now_s() + 2,
        expires: now_s() + 45,
        nonce: Some(format!("n{}", NONCE.fetch_add(1, Ordering::Relaxed))),
        tag: tag.name().into(),
    }
}
