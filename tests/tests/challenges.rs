//! What a 402 says to whoever asks for the same again (PERF-33): the gateway keeps what it said, and the quote, the nonce and
//! the time are of this request still.
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::collections::HashSet;

use farthing_tests::facilitator::{Facilitator, PAY_TO};
use farthing_tests::gateway::{Gateway, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::payer::{BASE_SEPOLIA, Wallet, challenge, now_s};
use farthing_tests::refused::assert_refused;
use farthing_tests::upstream::Upstream;
use serde_json::{Value, json};
use wire::base64;

const CHAT: &str = "/v1/chat/completions";
/// The first is said, the second is kept, the others are of what was kept.
const TIMES: usize = 4;

/// A gateway with more settings under `rails.x402` than it takes to be paid.
struct Scene {
    gateway: Gateway,
    _facilitator: Facilitator,
    _upstream: Upstream,
}

impl Scene {
    fn new(x402: &str) -> Self {
        let (upstream, facilitator) = (Upstream::friendly(), Facilitator::start([]));
        let describes =
            |how| if x402.contains("bazaar") { format!(", discovery: {how}") } else { String::new() };
        let more = format!(
            "rails: {{ test: {{}}, x402: {{ networks: {{ \"{BASE_SEPOLIA}\": {{ asset: USDC, pay_to: \"{PAY_TO}\" }} }}, \
             facilitators: [\"http://{}\"]{x402} }} }}\n\
             routes:\n\
             - {{ name: chat, match: {{ method: POST, path: {CHAT} }}, upstream: openai, price: by_model{} }}\n\
             - {{ name: files, match: {{ path: \"/files/**\" }}, upstream: openai, price: {{ per_call: 0.001 USD }}{} }}\n",
            facilitator.address,
            describes("{ body: '{\"model\": \"m\"}' }"),
            describes("{ template: \"/files/:id\" }"),
        );
        let gateway = Gateway::start(upstream.address, &more);
        Self { gateway, _facilitator: facilitator, _upstream: upstream }
    }

    /// The same request, again and again, while its quotes end at one time and its facilitator settles the same.
    fn asked(&self, request: &Request) -> Vec<Answer> {
        let Request { method, target, headers, body } = request;
        wait_for("offers that end at one time", || {
            let ask = |_| http::request(self.gateway.address, method, target, headers, body);
            let answers: Vec<_> = (0..TIMES).map(ask).collect();
            let quotes = answers.iter().map(|answer| quotes(&challenge(answer)));
            let kinds: HashSet<_> = quotes.map(|quotes| (quotes.len(), ends_at_s(&quotes[0]))).collect();
            (kinds.len() == 1).then_some(answers)
        })
    }
}

struct Request {
    method: &'static str,
    target: String,
    headers: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
}

impl Request {
    fn chat(model: &str, max_tokens: u32, content: &str) -> Self {
        let message = json!({"role": "user", "content": content});
        let body = json!({"model": model, "max_tokens": max_tokens, "messages": [message]});
        Self { method: "POST", target: CHAT.to_owned(), headers: Vec::new(), body: body.to_string().into() }
    }

    fn file(method: &'static str, target: &str) -> Self {
        Self { method, target: target.to_owned(), headers: Vec::new(), body: Vec::new() }
    }

    fn with(self, headers: &[(&'static str, &'static str)]) -> Self {
        Self { headers: headers.to_vec(), ..self }
    }
}

/// One for each offer.
fn quotes(challenge: &Value) -> Vec<String> {
    let offers = challenge["accepts"].as_array().unwrap();
    offers.iter().map(|offer| offer["extra"]["quote"].as_str().unwrap().to_owned()).collect()
}

fn ends_at_s(quote: &str) -> u64 {
    let bytes = base64::decode_url(quote.strip_prefix("q1.").unwrap(), 43).unwrap();
    u64::from_be_bytes(*bytes.first_chunk().unwrap())
}

/// What a 402 says, and apart from it what may differ from one to the next: its nonce and the time.
fn said(answer: &Answer) -> ((Value, Value), Option<(String, String)>) {
    assert_refused(answer, 402, "payment_required", "nothing_taken");
    let (mut told, mut body) = (challenge(answer), answer.json());
    let mut taken = |name: &str| {
        let text = told.pointer_mut(&format!("/extensions/sign-in-with-x/info/{name}"))?.take();
        text.as_str().map(str::to_owned)
    };
    let varies = taken("nonce").zip(taken("issuedAt"));
    (body["request_id"], body["instance"]) = (Value::Null, Value::Null);
    ((told, body), varies)
}

/// However a request is worded, and whatever is told with its offers.
#[test]
fn perf_33_who_asks_again_is_told_the_same_with_another_nonce() {
    let all =
        "schemes: [exact, permit2, upto], extensions: [payment-identifier, sign-in-with-x, offer-receipt]";
    let listed = "extensions: [bazaar, sign-in-with-x], bazaar: { service_name: Farthing, tags: [llm] }";
    for x402 in ["", ", extensions: []", &format!(", {all}"), &format!(", {listed}")] {
        let scene = Scene::new(x402);
        for request in [
            Request::chat("m", 1000, "a"),
            Request::chat("m", 1_000_000, "a"),
            Request::chat("a \"model\" \\ of\n a name \u{1f4b8}", 7, "a"),
            // What stands for a blank while a challenge is kept is no more than a name here.
            Request::chat("\u{fdd0}\u{fdd1}\u{fdd2}\u{fdd3}", 7, "a"),
            Request::chat(&format!("\u{fdd0}{}", "_".repeat(80)), 7, "a"),
            Request::chat("2026-11-20T10:30:00.000Z", 7, "a"),
            Request::chat("m", 1000, "a").with(&[("farthing-extensions", "bazaar")]),
            Request::file("GET", "/files/7"),
            Request::file("GET", "/files/7?page=%22&quote=q1.AAAA"),
            Request::file("POST", "/files/7"),
            Request::file("GET", &format!("/files/{}", "a".repeat(1000))),
        ] {
            let answers = scene.asked(&request);
            let (told, varies): (Vec<_>, Vec<_>) = answers.iter().map(said).unzip();
            assert!(told.iter().all(|other| *other == told[0]), "{told:#?}");
            let nonces: HashSet<_> = varies.iter().flatten().map(|(nonce, _)| nonce).collect();
            let signs_in = told[0].0["extensions"]["sign-in-with-x"].is_object();
            assert_eq!(nonces.len(), if signs_in { TIMES } else { 0 }, "{varies:?}");
            for at in varies.iter().flatten().filter_map(|(_, at)| wire::rfc3339::parse(at)) {
                assert!(now_s().abs_diff(at) < 60, "{at}");
            }
        }
    }
}

/// Two bodies that cost the same are not the same: the quote of one is none for the other.
#[test]
fn perf_33_a_kept_challenge_quotes_the_body_at_hand_and_can_be_paid() {
    let scene = Scene::new("");
    let (one, other) = (Request::chat("m", 1000, "a"), Request::chat("m", 1000, "b"));
    let (answers, others) = (scene.asked(&one), scene.asked(&other));
    let offers = |answer: &Answer| {
        let mut offers = challenge(answer)["accepts"].clone();
        for offer in offers.as_array_mut().unwrap() {
            offer["extra"]["quote"] = Value::Null;
        }
        offers
    };
    let (answer, second) = (answers.last().unwrap(), others.last().unwrap());
    assert_eq!(offers(answer), offers(second));
    assert!(quotes(&challenge(answer)) != quotes(&challenge(second)));
    let pay = |answer: &Answer, request: &Request| {
        let payment = Wallet::new(1).pay(answer, BASE_SEPOLIA).v2();
        http::request(scene.gateway.address, "POST", CHAT, &[("payment-signature", &payment)], &request.body)
    };
    assert_refused(&pay(second, &one), 402, "quote_expired", "nothing_taken");
    for (answer, request) in [(answer, &one), (second, &other)] {
        let paid = pay(answer, request);
        assert_eq!(paid.status, 200, "{}", paid.text());
    }
}
