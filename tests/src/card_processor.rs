//! A processor of encrypted cards, as `rails.mpp.card` speaks to one: it looks at no card, charges once per idempotency key
//! and does what the test says.

use std::collections::{HashMap, VecDeque};
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::upstream::{Seen, Upstream, plain};

/// What it does with the next payment that nobody has asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    /// Charges.
    Charges,
    /// Charges, and no answer comes.
    ChargesInSilence,
    /// Declines with this code.
    Declines(&'static str),
}

/// A scripted processor on loopback.
pub struct CardProcessor {
    /// Where it listens.
    pub address: SocketAddr,
    server: Upstream,
    books: Arc<Mutex<Books>>,
}

#[derive(Default)]
struct Books {
    plan: VecDeque<Conduct>,
    answers: HashMap<String, Value>,
    charges: usize,
}

impl CardProcessor {
    /// Charges whatever is not planned.
    pub fn start(plan: impl IntoIterator<Item = Conduct>) -> Self {
        let books = Arc::new(Mutex::new(Books { plan: plan.into_iter().collect(), ..Books::default() }));
        let ours = Arc::clone(&books);
        let server = Upstream::start(move |request, stream| serve(&ours, request, stream));
        Self { address: server.address, server, books }
    }

    /// `rails.mpp` of a gateway that takes cards through it; its key is `CARD_KEY` in the environment.
    pub fn rules(&self, jwk: &Value) -> String {
        format!(
            "{{ card: {{ url: \"http://{}/charges\", key: \"${{env:CARD_KEY}}\", networks: [visa], merchant: Tests, jwk: '{jwk}', timeout: 2s }} }}",
            self.address
        )
    }

    /// How often money moved.
    pub fn charges(&self) -> usize {
        self.books.lock().unwrap().charges
    }

    /// Every request so far.
    pub fn asked(&self) -> Vec<Seen> {
        self.server.seen()
    }
}

fn serve(books: &Mutex<Books>, request: &Seen, stream: &mut TcpStream) {
    match answer(&mut books.lock().unwrap(), request) {
        Some(body) => {
            let _ = stream.write_all(&plain(200, "application/json", &body.to_string()));
        }
        // Ends when the asker hangs up.
        None => drop(std::io::copy(stream, &mut std::io::sink())),
    }
}

fn answer(books: &mut Books, request: &Seen) -> Option<Value> {
    let key = request.header("idempotency-key").unwrap().to_owned();
    if let Some(told) = books.answers.get(&key) {
        return Some(told.clone());
    }
    let asked: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(asked["challengeId"], key.as_str());
    let conduct = books.plan.pop_front().unwrap_or(Conduct::Charges);
    let id = format!("pay_{}", books.answers.len() + 1);
    let (status, code) = match conduct {
        Conduct::Charges | Conduct::ChargesInSilence => {
            books.charges += 1;
            ("succeeded", None)
        }
        Conduct::Declines(code) => ("declined", Some(code)),
    };
    let told = json!({"id": id, "status": status, "amount": asked["amount"], "currency": asked["currency"], "code": code});
    books.answers.insert(key, told.clone());
    (conduct != Conduct::ChargesInSilence).then_some(told)
}
