//! How a call ends and what it costs then: exactly what was used, whoever breaks off.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use farthing_tests::gateway::{Gateway, wait_for};
use farthing_tests::http;
use farthing_tests::refused::assert_refused;
use farthing_tests::upstream::{FRIENDLY_COST, STREAM_HEAD, Upstream, drip, plain};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";
/// The price of 1 output token at the usual prices.
const OUTPUT: i64 = 4000;

fn ask() -> Value {
    json!({"model": "m", "max_tokens": 1000, "input": "hi", "messages": [{"role": "user", "content": "hi"}]})
}

fn ask_stream() -> Value {
    let mut body = ask();
    body["stream"] = json!(true);
    body
}

fn delta(text: &str) -> String {
    format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"content": text}}]}))
}

/// 10 input tokens and 5 output tokens: `FRIENDLY_COST`.
const USAGE: &str =
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5,\"total_tokens\":15}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

fn leave_after(gateway: &Gateway, key: &str, wanted: &str) {
    http::leave_after(gateway.address, CHAT, &[("x-api-key", key)], &ask_stream(), wanted);
}

fn last_capture(gateway: &Gateway, captures: usize) -> Value {
    let books = gateway.books_after(captures);
    books.entries.iter().rfind(|entry| entry["kind"] == "capture").cloned().unwrap_or_default()
}

/// The upstream goes on longer than we read on: what was delivered is estimated, and the upstream is let go.
#[test]
fn client_gone_and_upstream_slow_is_estimated() {
    let hung_up = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&hung_up);
    let upstream = Upstream::start(move |_, stream| {
        let _ = stream.write_all(format!("{STREAM_HEAD}{}", delta(&"four".repeat(100))).as_bytes());
        // Until the gateway hangs up.
        let _ = std::io::copy(stream, &mut std::io::sink());
        seen.store(true, Ordering::SeqCst);
    });
    let gateway = Gateway::start(upstream.address, "metering: { on_client_gone: { drain_up_to: 100ms } }\n");
    let key = gateway.key("1 TEST");
    leave_after(&gateway, &key, "four");
    let spent = 1_000_000_000 - gateway.settled_balance(&key);
    // 100 tokens of 4 bytes, and some input.
    assert!((100 * OUTPUT..100 * OUTPUT + 100_000).contains(&spent), "{spent}");
    assert_eq!(last_capture(&gateway, 1)["estimated"], true);
    wait_for("the upstream to be let go", || hung_up.load(Ordering::SeqCst).then_some(()));
}

#[test]
fn upstream_reset_after_output_is_charged_for_what_came() {
    let upstream = Upstream::start(|_, stream| {
        // Declared longer than it is: the end is a break.
        let part = delta(&"four".repeat(50));
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 100000\r\n\r\n";
        drip(stream, &[head, &part], Duration::from_millis(20));
    });
    let gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    let answer = http::post(gateway.address, CHAT, &[("x-api-key", &key)], &ask_stream());
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("four"));
    assert!(!answer.text().contains("[DONE]"));
    let spent = 1_000_000_000 - gateway.settled_balance(&key);
    assert!((50 * OUTPUT..50 * OUTPUT + 100_000).contains(&spent), "{spent}");
    assert_eq!(last_capture(&gateway, 1)["estimated"], true);
}

#[test]
fn error_inside_an_answer() {
    let event = "data: {\"error\":{\"message\":\"overloaded\",\"code\":500}}\n\n";
    let words = delta(&"four".repeat(10));
    for (what, bytes, least, most) in [
        ("200 with an error object", plain(200, "application/json", r#"{"error":{"message":"x"}}"#), 0, 0),
        ("error as first event", format!("{STREAM_HEAD}{event}").into_bytes(), 0, 0),
        (
            "error after output",
            format!("{STREAM_HEAD}{words}{event}").into_bytes(),
            10 * OUTPUT,
            10 * OUTPUT + 100_000,
        ),
        (
            "error after the report",
            format!("{STREAM_HEAD}{words}{USAGE}{event}").into_bytes(),
            FRIENDLY_COST,
            FRIENDLY_COST,
        ),
    ] {
        let sent = bytes.clone();
        let upstream = Upstream::start(move |_, stream| {
            let _ = stream.write_all(&sent);
        });
        let gateway = Gateway::start(upstream.address, "");
        let key = gateway.key("1 TEST");
        let body = if what.starts_with("200") { ask() } else { ask_stream() };
        let answer = http::post(gateway.address, CHAT, &[("x-api-key", &key)], &body);
        assert!(answer.text().contains("\"error\""), "{what}: the client sees it as it is");
        let spent = 1_000_000_000 - gateway.settled_balance(&key);
        assert!((least..=most).contains(&spent), "{what}: {spent}");
    }
}

#[test]
fn usage_is_asked_for_and_hidden_from_a_client_that_did_not_ask() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    for (options, shown) in [
        (Value::Null, false),
        (json!({"include_usage": false}), false),
        (json!({"include_usage": true}), true),
        (json!({}), false),
    ] {
        let mut body = ask_stream();
        if !options.is_null() {
            body["stream_options"] = options.clone();
        }
        let before = gateway.settled_balance(&key);
        let answer = http::post(gateway.address, CHAT, &[("x-api-key", &key)], &body);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.text().contains("\"usage\""), shown, "{options}: {}", answer.text());
        assert!(answer.text().ends_with(DONE));
        assert_eq!(before - gateway.settled_balance(&key), FRIENDLY_COST, "{options}");
        let sent: Value =
            serde_json::from_slice(&upstream.seen().pop().unwrap_or_else(|| panic!("no call")).body)
                .unwrap_or_default();
        assert_eq!(sent["stream_options"]["include_usage"], true, "{options}");
    }
    assert_eq!(last_capture(&gateway, 4)["estimated"], false);
}

/// Tokens read from a cache are priced once, in each dialect.
#[test]
fn r06_cached_tokens_once() {
    let openai = r#"{"object":"chat.completion","choices":[{"index":0,"message":{"content":"x"}}],"usage":{"prompt_tokens":1000,"completion_tokens":10,"total_tokens":1010,"prompt_tokens_details":{"cached_tokens":800}}}"#;
    let responses = r#"{"object":"response","status":"completed","output":[],"usage":{"input_tokens":1000,"output_tokens":10,"total_tokens":1010,"input_tokens_details":{"cached_tokens":800},"output_tokens_details":{"reasoning_tokens":4}}}"#;
    let anthropic = r#"{"type":"message","content":[{"type":"text","text":"x"}],"stop_reason":"end_turn","usage":{"input_tokens":200,"output_tokens":10,"cache_read_input_tokens":800,"cache_creation_input_tokens":0}}"#;
    for (path, text) in [(CHAT, openai), (RESPONSES, responses), (MESSAGES, anthropic)] {
        let upstream = Upstream::start(move |_, stream| {
            let _ = stream.write_all(&plain(200, "application/json", text));
        });
        let prices =
            "prices: { \"*\": { input: 1 USD/Mtok, output: 4 USD/Mtok, cache_read: 0.1 USD/Mtok } }\n";
        let gateway = Gateway::start(upstream.address, prices);
        let key = gateway.key("1 TEST");
        assert_eq!(http::post(gateway.address, path, &[("x-api-key", &key)], &ask()).status, 200);
        let spent = 1_000_000_000 - gateway.settled_balance(&key);
        assert_eq!(spent, 200 * 1000 + 800 * 100 + 10 * OUTPUT, "{path}");
    }
}

/// A balance that does not cover the whole gets less output, written into the request and told.
#[test]
fn r26_fit_to_balance() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    for (path, member, asked) in [
        (CHAT, "max_tokens", Some(100_000)),
        (CHAT, "max_completion_tokens", Some(100_000)),
        (CHAT, "max_tokens", None),
        (RESPONSES, "max_output_tokens", Some(100_000)),
        (RESPONSES, "max_output_tokens", None),
        (MESSAGES, "max_tokens", Some(100_000)),
    ] {
        // 0.002 covers just under 500 tokens.
        let key = gateway.key("0.002 TEST");
        let mut body = ask();
        body["max_tokens"] = Value::Null;
        body.as_object_mut().into_iter().for_each(|body| drop(body.remove("max_tokens")));
        if let Some(asked) = asked {
            body[member] = json!(asked);
        }
        let answer = http::post(gateway.address, path, &[("x-api-key", &key)], &body);
        assert_eq!(answer.status, 200, "{path} {member}: {}", answer.text());
        let clamped =
            answer.must("farthing-clamped").strip_prefix("max_tokens=").and_then(|n| n.parse::<u64>().ok());
        let clamped = clamped.unwrap_or_else(|| panic!("{}", answer.must("farthing-clamped")));
        assert!((256..500).contains(&clamped), "{clamped}");
        let sent: Value =
            serde_json::from_slice(&upstream.seen().pop().map(|seen| seen.body).unwrap_or_default())
                .unwrap_or_default();
        assert_eq!(sent[member], clamped, "{path}: {sent}");
        gateway.settled_balance(&key);
    }
    // Below the minimum it is refused; without fit it is refused; a limit that fits is left alone.
    let key = gateway.key("0.0005 TEST");
    let refused = http::post(gateway.address, CHAT, &[("x-api-key", &key)], &ask());
    assert_refused(&refused, 402, "insufficient_balance", "nothing_taken");
    let key = gateway.key("1 TEST");
    let answer = http::post(gateway.address, CHAT, &[("x-api-key", &key)], &ask());
    assert_eq!((answer.status, answer.header("farthing-clamped")), (200, None));
    let strict = Gateway::start(upstream.address, "metering: { hold: { fit_to_balance: false } }\n");
    let key = strict.key("0.002 TEST");
    let refused = http::post(strict.address, CHAT, &[("x-api-key", &key)], &ask());
    assert_refused(&refused, 402, "insufficient_balance", "nothing_taken");
    assert!(refused.json()["error"]["affordable_max_tokens"].as_u64() > Some(400));
}

/// Several answers to one request cost several times the output: the hold knows.
#[test]
fn several_answers_are_held_and_charged() {
    let upstream = Upstream::start(|_, stream| {
        let text = r#"{"object":"chat.completion","choices":[{"index":0,"message":{"content":"a"}},{"index":1,"message":{"content":"b"}},{"index":2,"message":{"content":"c"}}],"usage":{"prompt_tokens":10,"completion_tokens":3000,"total_tokens":3010}}"#;
        let _ = stream.write_all(&plain(200, "application/json", text));
    });
    let gateway = Gateway::start(upstream.address, "");
    let mut body = ask();
    body["n"] = json!(3);
    let key = gateway.key("1 TEST");
    let answer = http::post(gateway.address, CHAT, &[("x-api-key", &key)], &body);
    let held = answer.must("farthing-hold").strip_suffix(" TEST").map(|held| json!(held));
    let held = farthing_tests::gateway::nano(&held.unwrap_or_default());
    assert!(held >= 3 * 1000 * OUTPUT, "{held}");
    assert_eq!(gateway.settled_balance(&key), 1_000_000_000 - 10_000 - 3000 * OUTPUT);
}

/// An upstream that reports more than was held takes what is there and no more; the rest is the operator's
/// loss.
#[test]
fn r09_no_negative_balance() {
    let upstream = Upstream::start(|_, stream| {
        let text = r#"{"object":"chat.completion","choices":[{"index":0,"message":{"content":"a"}}],"usage":{"prompt_tokens":10,"completion_tokens":1200,"total_tokens":1210}}"#;
        let _ = stream.write_all(&plain(200, "application/json", text));
    });
    let prices = "prices: { \"*\": { input: 1 USD/Mtok, output: 4 USD/Mtok }, gift: { input: 0 USD/Mtok, output: 0 USD/Mtok } }\n";
    let gateway = Gateway::start(upstream.address, prices);
    let made = gateway.operator(&["key", "new", "--credit", "0.0045 TEST"]);
    let (key, account) =
        (made["key"].as_str().unwrap_or_default(), made["account"].as_str().unwrap_or_default());
    let answer = http::post(gateway.address, CHAT, &[("x-api-key", key)], &ask());
    assert_eq!(answer.status, 200);
    assert_eq!(gateway.settled_balance(key), 0);
    let books = gateway.books_after(1);
    assert_eq!((books.balance(account), books.charged(account)), (0, 4_500_000));
    let capture = &books.entries[1];
    assert_eq!(capture["legs"].as_array().map(Vec::len), Some(3), "payer, loss, income: {capture}");
    assert_eq!(capture["cost_femto_usd"], "4810000000000");
    let refused = http::post(gateway.address, CHAT, &[("x-api-key", key)], &ask());
    assert_refused(&refused, 402, "insufficient_balance", "nothing_taken");
    // What costs nothing is still served to who has nothing.
    let mut gift = ask();
    gift["model"] = json!("gift");
    assert_eq!(http::post(gateway.address, CHAT, &[("x-api-key", key)], &gift).status, 200);
    assert_eq!(gateway.settled_balance(key), 0);
    // Below zero only as far as the operator says.
    gateway.operator(&["account", "set", account, "--overdraft", "0.0048 TEST"]);
    assert_eq!(http::post(gateway.address, CHAT, &[("x-api-key", key)], &ask()).status, 200);
    assert_eq!(gateway.settled_balance(key), -4_800_000);
    let refused = http::post(gateway.address, CHAT, &[("x-api-key", key)], &ask());
    assert_refused(&refused, 402, "insufficient_balance", "nothing_taken");
}

#[test]
fn what_a_stream_cost_is_told_in_trailers_to_who_takes_them() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    for (path, stream) in [(CHAT, true), (MESSAGES, true), (CHAT, false)] {
        let mut body = ask();
        body["stream"] = json!(stream);
        let before = gateway.settled_balance(&key);
        let answer = http::post(gateway.address, path, &[("x-api-key", &key), ("te", "trailers")], &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let trailer = |name: &str| {
            answer.trailers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        };
        assert_eq!(
            trailer("farthing-charge").as_deref(),
            Some("0.000030000 TEST"),
            "{path} {:?}",
            answer.trailers
        );
        let balance = format!("0.{:09} TEST", before - FRIENDLY_COST);
        assert_eq!(trailer("farthing-balance"), Some(balance));
        assert!(
            trailer("farthing-usage").is_some_and(|usage| usage.contains("in=10") && usage.contains("out=5"))
        );
        let plain = http::post(gateway.address, path, &[("x-api-key", &key)], &body);
        assert!(plain.trailers.is_empty() && plain.header("trailer").is_none());
    }
}
