//! `/openapi.json` and `/llms.txt`: what they say of payments is what a 402 asks for, neither more nor less (mpp.md section 13).
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::collections::BTreeMap;

use farthing_tests::facilitator::Facilitator;
use farthing_tests::gateway::{Gateway, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::upstream::Upstream;
use serde_json::{Value, json};
use wire::mpp::{Challenge, challenges};

/// Every kind of price, and what is below a prefix.
const ROUTES: &str = "routes: [\
    { name: chat, match: { method: POST, path: /v1/chat/completions }, upstream: openai, price: by_model }, \
    { name: tool, match: { method: [GET, POST], path: \"/tool/**\" }, upstream: openai, price: { per_call: 0.01 USD } }, \
    { name: bytes, match: { method: GET, path: /bytes }, upstream: openai, price: { per_byte_out: 1 USD/MB, hold: 1kB } }, \
    { name: gift, match: { method: GET, path: /gift }, upstream: openai, price: free }]\n";

struct Stage {
    upstream: Upstream,
    _facilitator: Facilitator,
    gateway: Gateway,
}

impl Stage {
    /// A gateway that takes whatever can be taken on loopback.
    fn new(more: &str) -> Self {
        let (upstream, facilitator) = (Upstream::friendly(), Facilitator::start([]));
        let rails = Facilitator::rails(&[facilitator.address]);
        let l402 = "l402: { test: {}, price: { usd_per_btc: 100000 }, mint: { per_source_per_second: 1000, per_source_burst: 1000 } }";
        let rails = rails.replacen("rails: { ", &format!("rails: {{ mpp: {{}}, {l402}, "), 1);
        let gateway = Gateway::start(upstream.address, &format!("{ROUTES}{rails}{more}"));
        let stage = Self { upstream, _facilitator: facilitator, gateway };
        // What a facilitator settles is asked in the background; before that nobody is told of it anywhere.
        wait_for("the offer", || {
            let offered = offered(&stage.unpaid("POST", "/v1/chat/completions"));
            offered.iter().any(|challenge| challenge.method == "evm").then_some(())
        });
        stage
    }

    fn unpaid(&self, method: &str, path: &str) -> Answer {
        let body = json!({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]})
            .to_string();
        let body = if method == "GET" { "" } else { &body };
        let headers = [("content-type", "application/json")];
        http::request(self.gateway.address, method, path, &headers, body.as_bytes())
    }

    fn document(&self) -> Value {
        http::get(self.gateway.address, "/openapi.json", &[]).json()
    }
}

fn offered(answer: &Answer) -> Vec<Challenge> {
    let lines = answer.headers.iter().filter(|(name, _)| name == "www-authenticate");
    challenges(lines.map(|(_, value)| value.as_bytes()))
}

/// Method, intent and currency, with the amount that is asked for.
type Offers = BTreeMap<(String, String, String), String>;

fn of_challenges(challenges: &[Challenge]) -> Offers {
    let of = |challenge: &Challenge| {
        let request = challenge.request_object().unwrap();
        let text = |name: &str| request.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        ((challenge.method.clone(), challenge.intent.clone(), text("currency")), text("amount"))
    };
    challenges.iter().map(of).collect()
}

#[test]
fn dsc_1_2_every_offer_of_the_document_is_in_a_live_402_and_the_reverse() {
    let stage = Stage::new("");
    let document = stage.document();
    let mut seen = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let (method, path) = (method.to_ascii_uppercase(), path.replace("{path}", "a/b"));
            if path.starts_with("/farthing/") && path != "/farthing/topup" || path == "/v1/models" {
                assert_eq!(operation.get("x-payment-info"), None, "{path}");
                continue;
            }
            seen.push(format!("{method} {path}"));
            let answer = stage.unpaid(&method, &path);
            let declared = operation["responses"].get("402").is_some();
            assert_eq!(answer.status == 402, declared, "{method} {path}: {}", answer.text());
            let info = operation.get("x-payment-info");
            assert_eq!(info.is_some(), declared, "{method} {path}");
            let Some(info) = info else { continue };
            let live = of_challenges(&offered(&answer));
            let listed = info["offers"].as_array().unwrap();
            assert!(!listed.is_empty() && listed.len() == live.len(), "{listed:?} {live:?}");
            for offer in listed {
                let text = |name: &str| offer[name].as_str().unwrap_or_default().to_owned();
                let amount = live.get(&(text("method"), text("intent"), text("currency")));
                let amount = amount.unwrap_or_else(|| panic!("{offer} is in no 402 of {path}: {live:?}"));
                if let Some(fixed) = offer["amount"].as_str() {
                    assert_eq!(fixed, amount, "{offer}");
                }
            }
            // A fixed price is told, and what is metered is not guessed.
            let evm = listed.iter().find(|offer| offer["method"] == "evm").unwrap();
            assert_eq!(evm["amount"].is_string(), path.starts_with("/tool/"), "{evm}");
        }
    }
    seen.sort();
    let expected = [
        "GET /bytes",
        "GET /gift",
        "GET /tool/a/b",
        "POST /farthing/topup",
        "POST /tool/a/b",
        "POST /v1/chat/completions",
    ];
    assert_eq!(seen, expected);
    assert_eq!(stage.upstream.hits(), 1, "the gift");
}

#[test]
fn dsc_3_4_documents_are_public_cheap_and_may_be_switched_off() {
    let stage = Stage::new("");
    for (path, kind) in [("/openapi.json", "application/json"), ("/llms.txt", "text/plain; charset=utf-8")] {
        let answer = http::get(stage.gateway.address, path, &[("origin", "https://anybody.example")]);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.must("content-type"), kind);
        assert_eq!(answer.must("cache-control"), "public, max-age=300");
        assert_eq!(answer.must("access-control-allow-origin"), "*");
        let head = http::request(stage.gateway.address, "HEAD", path, &[], b"");
        assert_eq!((head.status, head.body.len()), (200, 0));
        let posted = http::request(stage.gateway.address, "POST", path, &[], b"");
        assert_eq!(posted.status, 405);
    }
    let document = stage.document();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["servers"][0]["url"], format!("http://{}", stage.gateway.address));
    assert_eq!(document["x-service-info"]["categories"], json!(["ai"]));
    assert_eq!(document["x-service-info"]["docs"]["llms"], "/llms.txt");
    assert_eq!(document["paths"]["/tool/{path}"]["get"]["parameters"][0]["in"], "path");
    let text = http::get(stage.gateway.address, "/llms.txt", &[]).text();
    let url = format!("http://{}", stage.gateway.address);
    for line in [
        format!("- `POST {url}/v1/chat/completions`: metered, by the price of the model"),
        format!("- `GET {url}/tool/{{path}}`: 0.01 USD a call"),
        format!("- `GET {url}/bytes`: 0.000001 USD a response byte"),
        format!("- `GET {url}/gift`: free"),
    ] {
        assert!(text.lines().any(|known| known == line), "{line}\n{text}");
    }
    assert!(text.contains("(L402, Payment (MPP), x402)"), "{text}");
    assert_eq!((stage.upstream.hits(), stage.gateway.books().entries.len()), (0, 0));

    let off = Stage::new("discovery: { openapi: false, llms_txt: false }\n");
    for path in ["/openapi.json", "/llms.txt"] {
        assert_eq!(http::get(off.gateway.address, path, &[]).status, 404, "{path}");
    }
}
