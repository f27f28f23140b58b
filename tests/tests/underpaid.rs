//! Requests made so that they cost more than was held for them, or nothing at all: what is not there is refused before
//! anything goes up, and never becomes the operator's loss.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use farthing_tests::gateway::Gateway;
use farthing_tests::http;
use farthing_tests::payer::{TEST, Wallet};
use farthing_tests::upstream::{Upstream, plain};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

/// An upstream that reports so many prompt tokens, and how often it was asked.
fn reporting(tokens: u64) -> (Upstream, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let answer = json!({"choices": [{"message": {"content": "x"}}],
                        "usage": {"prompt_tokens": tokens, "completion_tokens": 1}});
    let upstream = Upstream::start(move |_, stream| {
        counter.fetch_add(1, Ordering::Relaxed);
        let _ = stream.write_all(&plain(200, "application/json", &answer.to_string()));
    });
    (upstream, asked)
}

fn ask(messages: &Value) -> Value {
    json!({"model": "m", "max_tokens": 1, "messages": messages})
}

/// MTR-33: tokens are counted where little is there. Whoever wrote the prompt chose where it stands in the body.
#[test]
fn a_prompt_cannot_hide_from_its_hold() {
    let words = "some words of a long prompt ".repeat(4000);
    let (upstream, asked) = reporting(24_000);
    let gateway = Gateway::start(upstream.address, "");
    for (case, messages) in [
        ("as text", json!([{"role": "user", "content": words}])),
        ("like a data URL", json!([{"role": "user", "content": format!("data:{words}")}])),
        ("as a role", json!([{"role": words, "content": "hi"}])),
        (
            "given to a tool",
            json!([{"role": "user", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"data": words}}]}]),
        ),
        ("as a file", json!([{"role": "user", "content": [{"type": "file", "file": {"file_data": words}}]}])),
    ] {
        let key = gateway.key("0.01 TEST");
        let answer = http::post(gateway.address, CHAT, &[("x-api-key", &key)], &ask(&messages));
        assert_eq!(answer.status, 402, "{case}: {}", answer.text());
        assert_eq!(gateway.settled_balance(&key), 10_000_000, "{case}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    // What it costs is enough.
    let key = gateway.key("0.03 TEST");
    let body = ask(&json!([{"role": "user", "content": words}]));
    assert_eq!(http::post(gateway.address, CHAT, &[("x-api-key", &key)], &body).status, 200);
    assert_eq!(gateway.settled_balance(&key), 30_000_000 - 24_000_000 - 4000);
}

/// A prompt that is counted may be longer than half its bytes, and have the price of longer ones.
#[test]
fn a_longer_prompt_is_held_for_at_the_price_of_longer_ones() {
    let hex = "0f1e2d3c4b5a69788796a5b4c3d2e1f0".repeat(56);
    let (upstream, asked) = reporting(1461);
    let tiers = "{ input_up_to: 1000, input: 1 USD/Mtok, output: 4 USD/Mtok }, { input: 10 USD/Mtok, output: 40 USD/Mtok }";
    let gateway = Gateway::start(upstream.address, &format!("prices: {{ m: {{ tiers: [{tiers}] }} }}\n"));
    let body = ask(&json!([{"role": "user", "content": hex}]));
    assert!(body.to_string().len() / 2 + 4 < 1000);
    let key = gateway.key("0.003 TEST");
    let answer = http::post(gateway.address, CHAT, &[("x-api-key", &key)], &body);
    assert_eq!(answer.status, 402, "{}", answer.text());
    assert_eq!((gateway.settled_balance(&key), asked.load(Ordering::Relaxed)), (3_000_000, 0));
    let key = gateway.key("0.015 TEST");
    let answer = http::post(gateway.address, CHAT, &[("x-api-key", &key)], &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(gateway.settled_balance(&key), 15_000_000 - 1461 * 10_000 - 40_000);
}

/// MTR-47: a model that is sold by the image, the character or the second is not given away by the token.
#[test]
fn what_is_sold_by_other_things_is_not_free_by_the_token() {
    let (upstream, asked) = reporting(1000);
    let gateway = Gateway::start(
        upstream.address,
        "prices: { image: { per_image: 0.04 USD }, speech: { per_character: 15 USD/Mchar }, sound: { per_second: 0.0001 USD }, \
         free: { input: 0 USD/Mtok, output: 0 USD/Mtok } }\n",
    );
    for model in ["image", "speech", "sound"] {
        let body =
            json!({"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]});
        let answer = http::post(gateway.address, CHAT, &[], &body);
        assert_eq!(answer.status, 404, "{model}: {}", answer.text());
        assert_eq!(answer.json()["error"]["code"], "model_not_priced", "{model}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    let body = json!({"model": "free", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(
        http::post(gateway.address, CHAT, &[], &body).status,
        200,
        "what is free on purpose stays free"
    );
}

/// What one call may cost is as little as a balance, however much is there.
#[test]
fn a_limit_for_one_call_is_not_passed_by_a_dense_prompt() {
    let (upstream, asked) = reporting(780);
    let gateway = Gateway::start(
        upstream.address,
        "limits: { default: { rpm: 100000, concurrent: 1000, spend: { per_call: 0.0006 USD } } }\n",
    );
    let key = gateway.key("1 TEST");
    let hex = "0f1e2d3c4b5a69788796a5b4c3d2e1f0".repeat(30);
    let body = ask(&json!([{"role": "user", "content": hex}]));
    assert!(body.to_string().len() / 2 + 8 < 600);
    let answer = http::post(gateway.address, CHAT, &[("x-api-key", &key)], &body);
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert_eq!((gateway.settled_balance(&key), asked.load(Ordering::Relaxed)), (1_000_000_000, 0));
}

/// Who pays for one call is offered the rates of the longest prompt that it can be, before anybody counts it.
#[test]
fn an_offer_is_at_the_price_of_longer_prompts_where_it_may_be_one() {
    let words = "some words of a prompt ".repeat(78);
    let (upstream, _) = reporting(1461);
    let tiers = "{ input_up_to: 1000, input: 1 USD/Mtok, output: 4 USD/Mtok }, { input: 2 USD/Mtok, output: 8 USD/Mtok }";
    let gateway = Gateway::start(upstream.address, &format!("prices: {{ m: {{ tiers: [{tiers}] }} }}\n"));
    let body = ask(&json!([{"role": "user", "content": words}]));
    let bytes = i64::try_from(body.to_string().len()).unwrap() + 3;
    assert!(bytes / 2 < 1000);
    let payment = Wallet::new(1).pay(&http::post(gateway.address, CHAT, &[], &body), TEST);
    assert_eq!(payment.nano(), bytes * 2000 + 8000);
    // The same prompt shorter: nothing to fear.
    let body = ask(&json!([{"role": "user", "content": words.get(..600).unwrap()}]));
    let bytes = i64::try_from(body.to_string().len()).unwrap() + 3;
    let payment = Wallet::new(1).pay(&http::post(gateway.address, CHAT, &[], &body), TEST);
    assert_eq!(payment.nano(), bytes * 1000 + 4000);
}
