//! What an account may spend, whatever its balance: per call, per day; and for how long a call may hold money.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use farthing_tests::gateway::{Gateway, nano, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::refused::assert_refused;
use farthing_tests::upstream::{FRIENDLY_COST, STREAM_HEAD, Upstream, friendly_answer, plain};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const DAY_SECONDS: u64 = 24 * 3600;

/// Limits beside those of the other tests, with these of spending.
fn limits(spend: &str) -> String {
    format!(
        "metering: {{ hold: {{ input: bytes }} }}\nlimits: {{ unpaid: {{ per_ip: 100000/min }}, default: {{ rpm: 100000, concurrent: 1000, spend: {{ {spend} }} }} }}\n"
    )
}

fn ask(tokens: u64) -> Value {
    json!({"model": "m", "max_tokens": tokens, "messages": [{"role": "user", "content": "hi"}]})
}

fn call(gateway: &Gateway, key: &str, body: &Value) -> Answer {
    http::post(gateway.address, CHAT, &[("x-api-key", key)], body)
}

/// Waits until midnight (UTC) is not so near that a test would run over it.
fn away_from_midnight() {
    wait_for("midnight to pass", || {
        let now = farthing_tests::payer::now_s();
        (DAY_SECONDS - now % DAY_SECONDS > 15).then_some(())
    });
}

/// LED-14: the day is an account of its own, filled on first touch; a restart does not fill it again.
#[test]
fn the_day_of_an_account_has_a_limit_that_survives_a_restart() {
    away_from_midnight();
    let upstream = Upstream::friendly();
    let mut gateway = Gateway::start(upstream.address, &limits("per_day: 0.0002 USD"));
    let (key, other) = (gateway.key("1 TEST"), gateway.key("1 TEST"));
    let mut served = 0;
    let refused = loop {
        let answer = call(&gateway, &key, &ask(5));
        if answer.status != 200 {
            break answer;
        }
        served += 1;
        assert!(served < 20, "the limit of the day was never reached");
        gateway.settled_balance(&key);
    };
    // 200,000 nano; a call costs 30,000 and holds about 100,000.
    assert_eq!(served, 4);
    assert_refused(&refused, 429, "rate_limited", "nothing_taken");
    assert_eq!(refused.json()["error"]["limit_source"], "per_day");
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    let left: u64 = refused.must("retry-after").parse().unwrap();
    assert!(left <= DAY_SECONDS);
    assert_eq!(call(&gateway, &other, &ask(5)).status, 200, "another account has a day of its own");
    gateway.books_after(5);
    gateway.crash_and_restart();
    assert_eq!(call(&gateway, &key, &ask(5)).status, 429);
    assert_eq!(gateway.balance(&key), (1_000_000_000 - 4 * FRIENDLY_COST, 0));
    gateway.books();
}

/// `litellm_34733`: calls at once never spend more than the window has, and none is counted twice.
#[test]
fn litellm_34733() {
    away_from_midnight();
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, &limits("per_day: 0.001 USD"));
    let key = gateway.key("1 TEST");
    let statuses = farthing_tests::crowd::at_once(64, |_| call(&gateway, &key, &ask(5)).status);
    let served = statuses.iter().filter(|status| **status == 200).count();
    assert!(served > 0 && statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    let spent = 1_000_000_000 - gateway.settled_balance(&key);
    assert!(spent <= 1_000_000);
    assert_eq!(spent, i64::try_from(served).unwrap() * FRIENDLY_COST);
    // What no call used of its hold is there again: the rest of the day can be spent to the last call.
    while call(&gateway, &key, &ask(5)).status == 200 {
        gateway.settled_balance(&key);
    }
    let spent = 1_000_000_000 - gateway.settled_balance(&key);
    assert!(spent <= 1_000_000 && spent > 1_000_000 - 4 * FRIENDLY_COST, "{spent}");
    gateway.books();
}

#[test]
fn one_call_has_a_limit() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, &limits("per_call: 0.002 USD"));
    let key = gateway.key("1 TEST");
    // 0.002 covers less than 500 tokens: the call is made smaller.
    let clamped = call(&gateway, &key, &ask(10_000));
    assert_eq!(clamped.status, 200, "{}", clamped.text());
    assert!(clamped.header("farthing-clamped").is_some());
    assert!(nano(&json!(clamped.must("farthing-hold").trim_end_matches(" TEST"))) <= 2_000_000);
    let mut dear = ask(10_000);
    dear["messages"][0]["content"] = "x".repeat(10_000).into();
    let refused = call(&gateway, &key, &dear);
    assert_refused(&refused, 403, "key_forbidden", "nothing_taken");
    assert_eq!(refused.json()["error"]["limit_source"], "per_call");
    assert_eq!(upstream.hits(), 1);
}

/// LED 4.3: a hold has a deadline. What was metered until then is charged, the rest goes back, and it is counted.
#[test]
fn a_hold_expires_at_its_deadline() {
    let upstream = Upstream::start(|_, stream| {
        let text = "0123456789".repeat(4);
        let event = json!({"choices": [{"index": 0, "delta": {"content": text}}]});
        let _ = stream.write_all(format!("{STREAM_HEAD}data: {event}\n\n").as_bytes());
        // It never goes on, and never closes.
        let _ = std::io::copy(stream, &mut std::io::sink());
    });
    let server = "server: { listen: [\"{address}\"], threads: 2, timeouts: { call: 3s } }\n";
    let gateway = Gateway::start(upstream.address, server);
    let key = gateway.key("1 TEST");
    let mut body = ask(1000);
    body["stream"] = true.into();
    let begun = std::time::Instant::now();
    let answer = http::try_request(
        gateway.address,
        "POST",
        CHAT,
        &[("x-api-key", &key), ("content-type", "application/json")],
        body.to_string().as_bytes(),
    );
    assert!(answer.is_none_or(|answer| !answer.text().contains("[DONE]")));
    assert!(begun.elapsed() >= Duration::from_secs(3));
    let left = gateway.settled_balance(&key);
    let input = i64::try_from(body.to_string().len().div_ceil(4)).unwrap() + 3;
    assert_eq!(left, 1_000_000_000 - input * 1_000 - 10 * 4_000);
    assert_eq!(gateway.metric("farthing_holds_expired_total"), 1);
    assert_eq!(gateway.metric("farthing_holds_open"), 0);
    let books = gateway.books_after(1);
    assert_eq!(books.count("capture"), 1);
}

/// `durability: sync`: whoever has the whole answer has been charged on disk, whenever the process dies.
#[test]
fn sync_loses_nothing() {
    let upstream = Upstream::friendly();
    let store = "store: { path: \"{folder}/store\", durability: sync }\n";
    let mut gateway = Gateway::start(upstream.address, store);
    let key = gateway.key("1 TEST");
    for calls in 1..=5 {
        assert_eq!(call(&gateway, &key, &ask(5)).status, 200);
        gateway.crash_and_restart();
        assert_eq!(gateway.balance(&key), (1_000_000_000 - calls * FRIENDLY_COST, 0), "after {calls}");
    }
    assert_eq!(gateway.books().count("capture"), 5);
}

/// An upstream that accepts each call and then says nothing more than the first words, or not even that.
fn stuck(says: &'static [&'static str]) -> Upstream {
    Upstream::start(move |_, stream| {
        for part in says {
            let _ = stream.write_all(part.as_bytes());
        }
        let _ = std::io::copy(stream, &mut std::io::sink());
    })
}

/// LED-26: with `sync` a call is on disk from before it goes up. One that a crash cuts off owes nothing, or its
/// input where the operator says so and the upstream had accepted it; and it owes it once.
#[test]
fn a_call_that_a_crash_cuts_off_owes_its_input_at_most() {
    const ACCEPTED: &[&str] =
        &[STREAM_HEAD, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"words\"}}]}\n\n"];
    let mut body = ask(1000);
    body["stream"] = true.into();
    let input = (i64::try_from(body.to_string().len().div_ceil(4)).unwrap() + 3) * 1_000;
    for (says, charge, owed, open) in
        [(ACCEPTED, "none", 0, 1), (ACCEPTED, "input_only", input, 1), (&[], "input_only", 0, 1)]
    {
        let upstream = stuck(says);
        let store =
            format!("store: {{ path: \"{{folder}}/store\", durability: sync, crash_charge: {charge} }}\n");
        let mut gateway = Gateway::start(upstream.address, &store);
        let key = gateway.key("1 TEST");
        let mut waiting = TcpStream::connect(gateway.address).unwrap();
        let request = http::posted(gateway.address, CHAT, &[("x-api-key", &key)], &body);
        waiting.write_all(request.as_bytes()).unwrap();
        wait_for("the upstream to have it", || (upstream.hits() == 1).then_some(()));
        let mut answer = Vec::new();
        while !says.is_empty() && !answer.ends_with(b"words\"}}]}\n\n") {
            let mut byte = [0];
            waiting.read_exact(&mut byte).unwrap();
            answer.extend(byte);
        }
        gateway.crash_and_restart();
        for _ in 0..2 {
            assert_eq!(gateway.balance(&key), (1_000_000_000 - owed, 0), "{charge}");
            let books = gateway.books();
            assert_eq!(books.count("capture"), usize::from(owed > 0), "{charge}");
            gateway.crash_and_restart();
        }
        assert_eq!(gateway.log().matches("was cut off when the gateway ended").count(), open);
        if owed > 0 {
            let head = String::from_utf8_lossy(&answer).to_ascii_lowercase();
            let call = head.lines().find_map(|line| line.strip_prefix("farthing-request-id: ")).unwrap();
            let told = gateway.operator(&["explain", call]);
            assert_eq!(
                (&told["agrees"], &told["terminal"]),
                (&json!(true), &json!("gateway_crash")),
                "{told}"
            );
        }
    }
}

/// LED-26: what has ended is no longer open, whatever ended it, so that no crash charges it again.
#[test]
fn a_call_that_has_ended_is_cut_off_by_no_crash() {
    let upstream = Upstream::start(|seen, stream| {
        let asked: Value = serde_json::from_slice(&seen.body).unwrap();
        let bytes = match asked["messages"][0]["content"].as_str().unwrap() {
            "refused" => plain(500, "application/json", "{}"),
            "empty" => plain(200, "application/json", ""),
            "error" => plain(200, "application/json", "{\"error\":{\"message\":\"no\"}}"),
            "closed" => Vec::new(),
            _ => friendly_answer(seen),
        };
        let _ = stream.write_all(&bytes);
    });
    let store = "store: { path: \"{folder}/store\", durability: sync, crash_charge: input_only }\n";
    let mut gateway = Gateway::start(upstream.address, store);
    let key = gateway.key("1 TEST");
    for end in ["refused", "empty", "error", "closed"] {
        let mut body = ask(5);
        body["messages"][0]["content"] = end.into();
        let answer = call(&gateway, &key, &body);
        assert!(answer.status != 200 || end != "refused" && end != "closed", "{end}: {}", answer.status);
    }
    assert_eq!(call(&gateway, &key, &ask(5)).status, 200);
    gateway.crash_and_restart();
    assert_eq!(gateway.balance(&key), (1_000_000_000 - FRIENDLY_COST, 0));
    assert!(!gateway.log().contains("was cut off when the gateway ended"), "{}", gateway.log());
}
