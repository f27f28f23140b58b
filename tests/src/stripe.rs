//! Stripe's PaymentIntents as far as shared payment tokens go: one charge per idempotency key, stored answers, errors in
//! Stripe's form, payments that wait for their payer, and answers that are lost after the charge.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::upstream::{Seen, Upstream, plain};

/// The key that it knows.
pub const KEY: &str = "sk_test_of_a_test";
/// The seller's profile.
pub const PROFILE: &str = "profile_test";

/// What it does with the next token that nobody has asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    /// Charges it.
    Charges,
    /// Charges it, and no answer comes.
    ChargesInSilence,
    /// Charges it, and says 500.
    ChargesAndFails,
    /// Does nothing, and no answer comes.
    Silence,
    /// Declines with this code of the bank.
    Declines(&'static str),
    /// The payer has to do something first.
    RequiresAction,
    /// It is under way, and is made when it is looked at.
    Processes,
    /// Charges it, and tells of another sum.
    ChargesLess,
    /// Too many requests.
    Busy,
}

/// A scripted Stripe on loopback.
pub struct Stripe {
    /// Where it listens.
    pub address: SocketAddr,
    server: Upstream,
    books: Arc<Mutex<Books>>,
}

#[derive(Default)]
struct Books {
    plan: VecDeque<Conduct>,
    /// By idempotency key.
    answers: HashMap<String, Told>,
    intents: BTreeMap<String, Value>,
    /// Tokens that were charged.
    spent: HashSet<String>,
    charges: usize,
}

/// A form that came, and what was answered.
struct Told {
    form: Vec<u8>,
    answer: (u16, Value),
}

impl Stripe {
    /// Charges whatever is not planned.
    pub fn start(plan: impl IntoIterator<Item = Conduct>) -> Self {
        let books = Arc::new(Mutex::new(Books { plan: plan.into_iter().collect(), ..Books::default() }));
        let ours = Arc::clone(&books);
        let server = Upstream::start(move |request, stream| serve(&ours, request, stream));
        Self { address: server.address, server, books }
    }

    /// `rails.mpp` of a gateway that takes tokens of this Stripe; its key is `STRIPE_KEY` in the environment.
    pub fn rules(&self) -> String {
        format!(
            "{{ stripe: {{ url: \"http://{}\", key: \"${{env:STRIPE_KEY}}\", network_id: {PROFILE}, timeout: 2s }} }}",
            self.address
        )
    }

    /// How often money moved.
    pub fn charges(&self) -> usize {
        self.books.lock().unwrap().charges
    }

    /// Requests for payments so far.
    pub fn asked(&self) -> Vec<Seen> {
        self.server.seen().into_iter().filter(|seen| seen.target == "/v1/payment_intents").collect()
    }

    /// Statuses of the payments so far.
    pub fn statuses(&self) -> Vec<String> {
        let books = self.books.lock().unwrap();
        books.intents.values().map(|intent| intent["status"].as_str().unwrap().to_owned()).collect()
    }
}

fn serve(books: &Mutex<Books>, request: &Seen, stream: &mut TcpStream) {
    let said = if request.header("authorization") == Some(&format!("Bearer {KEY}")) {
        answer(&mut books.lock().unwrap(), request)
    } else {
        Some((401, error("invalid_request_error", "", None)))
    };
    match said {
        Some((status, body)) => {
            let _ = stream.write_all(&plain(status, "application/json", &body.to_string()));
        }
        // Ends when the asker hangs up.
        None => drop(std::io::copy(stream, &mut std::io::sink())),
    }
}

fn answer(books: &mut Books, request: &Seen) -> Option<(u16, Value)> {
    let path = request.target.strip_prefix("/v1/payment_intents").unwrap();
    if let Some(id) = path.strip_prefix('/') {
        return Some(books.of_intent(id));
    }
    assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert!(request.header("stripe-version").is_some_and(|version| version.ends_with(".preview")));
    let key = request.header("idempotency-key").unwrap().to_owned();
    assert!(key.len() <= 255);
    if let Some(told) = books.answers.get(&key) {
        let is_same = told.form == request.body;
        return Some(if is_same { told.answer.clone() } else { (400, error("idempotency_error", "", None)) });
    }
    let conduct = books.plan.pop_front().unwrap_or(Conduct::Charges);
    let told = match conduct {
        // Nothing had begun, so nothing is remembered.
        Conduct::Silence => return None,
        Conduct::Busy => return Some((429, error("invalid_request_error", "rate_limit", None))),
        Conduct::Charges
        | Conduct::ChargesInSilence
        | Conduct::ChargesAndFails
        | Conduct::Declines(_)
        | Conduct::RequiresAction
        | Conduct::Processes
        | Conduct::ChargesLess => books.charge(conduct, &form(&request.body)),
    };
    books.answers.insert(key, Told { form: request.body.clone(), answer: told.clone() });
    match conduct {
        Conduct::ChargesInSilence => None,
        Conduct::ChargesAndFails => Some((500, error("api_error", "", None))),
        Conduct::Charges
        | Conduct::Declines(_)
        | Conduct::RequiresAction
        | Conduct::Processes
        | Conduct::ChargesLess
        | Conduct::Silence
        | Conduct::Busy => Some(told),
    }
}

impl Books {
    fn charge(&mut self, conduct: Conduct, form: &BTreeMap<String, String>) -> (u16, Value) {
        let text = |name: &str| form.get(name).map_or("", String::as_str);
        assert_eq!(text("confirm"), "true");
        assert_eq!(text("automatic_payment_methods[allow_redirects]"), "never");
        let token = text("shared_payment_granted_token").to_owned();
        if !token.starts_with("spt_") || self.spent.contains(&token) {
            return (400, error("invalid_request_error", "resource_missing", None));
        }
        if let Conduct::Declines(code) = conduct {
            return (402, error("card_error", "card_declined", Some(code)));
        }
        let amount: u64 = text("amount").parse().unwrap();
        let (status, received) = match conduct {
            Conduct::RequiresAction => ("requires_action", 0),
            Conduct::Processes => ("processing", 0),
            Conduct::ChargesLess => ("succeeded", amount - 1),
            Conduct::Charges
            | Conduct::ChargesInSilence
            | Conduct::ChargesAndFails
            | Conduct::Declines(_)
            | Conduct::Silence
            | Conduct::Busy => ("succeeded", amount),
        };
        if status == "succeeded" {
            self.charges += 1;
            self.spent.insert(token);
        }
        let id = format!("pi_{}", self.intents.len() + 1);
        let intent = json!({
            "id": id, "object": "payment_intent", "status": status, "amount": amount, "amount_received": received,
            "currency": text("currency"), "livemode": false,
            "metadata": {"challenge_id": text("metadata[challenge_id]")},
        });
        self.intents.insert(id, intent.clone());
        (200, intent)
    }

    /// `GET` and `cancel` of an intent. One that is under way is made once somebody looks.
    fn of_intent(&mut self, path: &str) -> (u16, Value) {
        let (id, cancels) = path.split_once('/').map_or((path, false), |(id, what)| (id, what == "cancel"));
        let Some(intent) = self.intents.get_mut(id) else {
            return (404, error("invalid_request_error", "resource_missing", None));
        };
        match (intent["status"].as_str().unwrap(), cancels) {
            ("requires_action", true) => intent["status"] = json!("canceled"),
            ("processing", false) => {
                intent["status"] = json!("succeeded");
                intent["amount_received"] = intent["amount"].clone();
                self.charges += 1;
            }
            (_, true) => {
                return (400, error("invalid_request_error", "payment_intent_unexpected_state", None));
            }
            (_, false) => {}
        }
        (200, intent.clone())
    }
}

fn error(kind: &str, code: &str, decline: Option<&str>) -> Value {
    json!({"error": {"type": kind, "code": code, "decline_code": decline, "message": "words for the seller alone"}})
}

/// The fields of a form.
pub fn form(body: &[u8]) -> BTreeMap<String, String> {
    let text = std::str::from_utf8(body).unwrap();
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), decoded(value))).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits: String = rest.by_ref().take(2).map(char::from).collect();
                bytes.push(u8::from_str_radix(&digits, 16).unwrap());
            }
            b'+' => bytes.push(b' '),
            _ => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).unwrap()
}
