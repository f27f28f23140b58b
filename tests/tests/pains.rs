//! What goes wrong elsewhere with bills, by the numbers of the reference (metering.md, section 13): who pays for an
//! answer that ends early, or of which nobody said what it used.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use farthing_tests::by_hand::ByHand;
use farthing_tests::gateway::Gateway;
use farthing_tests::http;
use farthing_tests::refused::assert_refused;
use farthing_tests::socket::Socket;
use farthing_tests::spoken::{estimate, tokens, units};
use farthing_tests::upstream::{FRIENDLY_COST, STREAM_HEAD, Upstream, drip, plain};
use proof::receipt;
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
/// Nano units of a token at the usual prices.
const INPUT: i64 = 1000;
const OUTPUT: i64 = 4000;
const CREDIT: i64 = 1_000_000_000;
/// 10 input tokens and 5 output tokens: `FRIENDLY_COST`.
const USAGE: &str =
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5,\"total_tokens\":15}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

fn ask() -> Value {
    json!({"model": "m", "max_tokens": 1000, "messages": [{"role": "user", "content": "hi"}]})
}

fn ask_stream() -> Value {
    let mut body = ask();
    body["stream"] = json!(true);
    body
}

fn delta(text: &str) -> String {
    format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"content": text}}]}))
}

fn leave_after(gateway: &Gateway, key: &str, wanted: &str) {
    http::leave_after(gateway.address, CHAT, &[("x-api-key", key)], &ask_stream(), wanted);
}

fn last_capture(gateway: &Gateway, captures: usize) -> Value {
    let books = gateway.books_after(captures);
    books.entries.iter().rfind(|entry| entry["kind"] == "capture").cloned().unwrap_or_default()
}

/// An upstream that answers everything with these bytes.
fn always(bytes: impl Into<Vec<u8>>) -> Upstream {
    let bytes = bytes.into();
    Upstream::start(move |_, stream| {
        let _ = stream.write_all(&bytes);
    })
}

/// The client leaves after each event in turn; the upstream goes on and reports: the report is what is owed,
/// and nothing stays held.
#[test]
fn r02_disconnect_is_not_free() {
    let events: Vec<String> = (0..4).map(|n| delta(&format!("word{n} "))).collect();
    let script: Arc<Vec<String>> = Arc::new(events);
    let ours = Arc::clone(&script);
    let upstream = Upstream::start(move |_, stream| {
        let _ = stream.write_all(STREAM_HEAD.as_bytes());
        for event in ours.iter() {
            drip(stream, &[event], Duration::from_millis(20));
        }
        drip(stream, &[USAGE, DONE], Duration::ZERO);
    });
    let gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    let mut spent = 0;
    for (left, wanted) in ["\r\n\r\n", "word0", "word1", "word2", "word3"].into_iter().enumerate() {
        leave_after(&gateway, &key, wanted);
        spent += FRIENDLY_COST;
        assert_eq!(gateway.settled_balance(&key), 1_000_000_000 - spent, "left at {wanted:?}");
        assert_eq!(last_capture(&gateway, left + 1)["estimated"], false);
    }
    assert_eq!(upstream.hits(), 5);
}

/// Nobody waits for the report: the input and what was emitted is what is owed, at every index.
#[test]
fn r02_a_cancelled_stream_is_charged_for_what_was_emitted() {
    let words = ["In ", "the ", "beginning, ", "nobody ", "paid."];
    let upstream = ByHand::start();
    let gateway = Gateway::start(upstream.address, "metering: { on_client_gone: { drain_up_to: 0s } }\n");
    let key = gateway.key("1 TEST");
    let mut spent = 0;
    for emitted in 1..=words.len() {
        let mut client = Socket::connect(gateway.address);
        assert!(client.send(http::posted(gateway.address, CHAT, &[("x-api-key", &key)], &ask_stream())));
        let mut call = upstream.next();
        call.send(STREAM_HEAD);
        for word in &words[..emitted] {
            call.send(delta(word));
            assert!(client.read_until(word));
        }
        drop(client);
        spent += estimate("hi", &words[..emitted].concat());
        assert_eq!(gateway.settled_balance(&key), CREDIT - spent, "{emitted} words");
        assert_eq!(last_capture(&gateway, emitted)["estimated"], true);
        call.wait_until_left();
    }
}

/// Nothing was sent down: nothing, or the input once the upstream has accepted the call.
#[test]
fn r03_disconnect_is_not_overcharged() {
    let upstream = ByHand::start();
    let gateway = Gateway::start(upstream.address, "metering: { on_client_gone: { drain_up_to: 0s } }\n");
    let key = gateway.key("1 TEST");
    let posted = http::posted(gateway.address, CHAT, &[("x-api-key", &key)], &ask_stream());
    // Before the upstream's head.
    let mut client = Socket::connect(gateway.address);
    assert!(client.send(&posted));
    let call = upstream.next();
    drop(client);
    assert_eq!(gateway.settled_balance(&key), CREDIT, "nothing was accepted");
    call.wait_until_left();
    // After it, before any output.
    let mut client = Socket::connect(gateway.address);
    assert!(client.send(&posted));
    let mut call = upstream.next();
    call.send(STREAM_HEAD);
    assert!(client.read_until("\r\n\r\n"));
    drop(client);
    assert_eq!(gateway.settled_balance(&key), CREDIT - estimate("hi", ""), "the input and no more");
    call.wait_until_left();
    // The upstream breaks off instead.
    let broken = Upstream::start(|_, stream| {
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 999\r\n\r\n");
    });
    let gateway = Gateway::start(broken.address, "");
    let key = gateway.key("1 TEST");
    let _ = http::try_request(
        gateway.address,
        "POST",
        CHAT,
        &[("x-api-key", &key)],
        ask_stream().to_string().as_bytes(),
    );
    assert_eq!(gateway.settled_balance(&key), CREDIT, "the upstream's own failure");
}

/// Asked for usage, the upstream gives none: the tokens are counted, and the charge says so wherever it is told.
#[test]
fn r04_missing_stream_usage_is_estimated() {
    let prose = "The gateway answers unpaid requests with a payment challenge. ".repeat(40);
    let hex = "0123456789abcdef".repeat(60);
    let wide = "网关会对未付款的请求返回付款要求，验证返回的付款凭证。".repeat(20);
    let mut calls = 0;
    for said in [&prose, &hex, &wide] {
        let events: String = said.split_inclusive(' ').map(delta).collect();
        let upstream = always(format!("{STREAM_HEAD}{events}{DONE}"));
        let document = json!({"choices": [{"message": {"content": said}}]}).to_string();
        let whole = always(plain(200, "application/json", &document));
        for (upstream, body) in [(&upstream, ask_stream()), (&whole, ask())] {
            let gateway = Gateway::start(upstream.address, "");
            let key = gateway.key("1 TEST");
            let answer = http::post(gateway.address, CHAT, &[("x-api-key", &key)], &body);
            assert_eq!(answer.status, 200);
            if body["stream"] == true {
                let seen: Value = serde_json::from_slice(&upstream.seen()[0].body).unwrap();
                assert_eq!(seen["stream_options"]["include_usage"], true);
            }
            let spent = CREDIT - gateway.settled_balance(&key);
            assert_eq!(spent, estimate("hi", said), "{}", &said[..12]);
            assert_eq!(last_capture(&gateway, 1)["estimated"], true);
            let labels = format!("farthing_usage_estimated_total{{route=\"{CHAT}\",model=\"*\"}}");
            assert_eq!(gateway.metric(&labels), 1);
            let id = answer.must("farthing-receipt").to_owned();
            let signed =
                http::get(gateway.address, &format!("/farthing/receipts/{id}"), &[("x-api-key", &key)]);
            let keys = http::get(gateway.address, "/.well-known/farthing-keys.json", &[]);
            let keys: wire::jws::Jwks = serde_json::from_slice(&keys.body).unwrap();
            let facts: Value = receipt::verify(&signed.text(), &keys).unwrap();
            assert_eq!((&facts["estimated"], &facts["basis"]), (&json!(true), &json!("estimate")));
            calls += 1;
        }
    }
    assert_eq!(calls, 6);
}

/// An estimate is by the family's tokenizer, in the ratio of a sample where the answer is long, and never above
/// what the call was allowed to generate.
#[test]
fn estimates_have_a_factor_a_sample_and_a_cap() {
    let said = "several words of an answer, ".repeat(20);
    let claude = |text: &str| json!({"type": "message", "content": [{"type": "text", "text": text}], "stop_reason": "end_turn"});
    let long = "several words of an answer, ".repeat(2000);
    let raised = |tokens: usize| (units(tokens) * 5 + 3) / 4;
    let two = 2 * OUTPUT;
    for (case, model, path, answer, limit, output) in [
        ("no factor", "m", MESSAGES, claude(&said), 100_000, units(tokens(&said)) * OUTPUT),
        ("Claude's factor", "claude-x", MESSAGES, claude(&said), 100_000, raised(tokens(&said)) * OUTPUT),
        (
            "the file's factor",
            "half-x",
            MESSAGES,
            claude(&said),
            100_000,
            (units(tokens(&said)) + 1) / 2 * OUTPUT,
        ),
        ("the limit", "m", MESSAGES, claude(&said), 2, two),
        ("a sample", "m", MESSAGES, claude(&long), 100_000, units(tokens(&long)) * OUTPUT),
    ] {
        let upstream = always(plain(200, "application/json", &answer.to_string()));
        let gateway =
            Gateway::start(upstream.address, "metering: { estimate: { factors: { \"half-*\": 0.5 } } }\n");
        let key = gateway.key("1 TEST");
        let body =
            json!({"model": model, "max_tokens": limit, "messages": [{"role": "user", "content": "hi"}]});
        assert_eq!(http::post(gateway.address, path, &[("x-api-key", &key)], &body).status, 200);
        let spent = CREDIT - gateway.settled_balance(&key);
        let input = 5 * INPUT;
        assert!((spent - output).abs() <= input + output / 50, "{case}: {spent} for {output}");
        if case != "a sample" {
            assert!(spent > output && spent <= output + input, "{case}: {spent} for {output}");
        }
    }
}

/// A report of zero is a report; none at all is an estimate, and said to be one.
#[test]
fn r05_zero_is_a_report() {
    let answer = |usage: &str| {
        format!(
            r#"{{"id":"c","object":"chat.completion","choices":[{{"index":0,"message":{{"role":"assistant","content":"{}"}}}}]{usage}}}"#,
            "four".repeat(20)
        )
    };
    for (usage, estimated) in [
        (r#","usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#, false),
        ("", true),
        (r#","usage":null"#, true),
    ] {
        let body = answer(usage);
        let upstream = Upstream::start(move |_, stream| {
            let _ = stream.write_all(&plain(200, "application/json", &body));
        });
        let gateway = Gateway::start(upstream.address, "");
        let key = gateway.key("1 TEST");
        assert_eq!(http::post(gateway.address, CHAT, &[("x-api-key", &key)], &ask()).status, 200);
        let spent = 1_000_000_000 - gateway.settled_balance(&key);
        if estimated {
            assert!((20 * OUTPUT..20 * OUTPUT + 100_000).contains(&spent), "{usage}: {spent}");
            assert_eq!(last_capture(&gateway, 1)["estimated"], true, "{usage}");
        } else {
            assert_eq!(spent, 0, "{usage}");
        }
    }
}

/// The operator's own debts are not the payer's: a client that saw this 402 would pay again.
#[test]
fn r27_what_the_upstream_thinks_of_our_key_stays_here() {
    for (status, extra) in [
        (401, ""),
        (402, "payment-required: e30=\r\nwww-authenticate: L402 x\r\n"),
        (403, ""),
        (302, "location: /x\r\n"),
    ] {
        let upstream = Upstream::start(move |_, stream| {
            let body = r#"{"error":{"message":"Insufficient Balance"},"accepts":[]}"#;
            let head = format!("HTTP/1.1 {status} X\r\n{extra}content-length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(head.as_bytes());
        });
        let gateway = Gateway::start(upstream.address, "");
        let key = gateway.key("1 TEST");
        for path in [CHAT, MESSAGES] {
            let answer = http::post(gateway.address, path, &[("x-api-key", &key)], &ask());
            assert_refused(&answer, 502, "upstream_failed", "nothing_taken");
            assert!(answer.header("www-authenticate").is_none() && !answer.text().contains("Insufficient"));
        }
        assert_eq!(gateway.settled_balance(&key), 1_000_000_000);
    }
}

/// However an upstream words it, an empty purse of the operator's is no wish for a payment.
#[test]
fn r27_upstream_402_never_relayed() {
    let json = "application/json";
    let deepseek = r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","param":null,"code":"invalid_request_error"}}"#;
    let minimax = r#"{"id":"0","choices":null,"usage":{"total_tokens":0},"base_resp":{"status_code":1008,"status_msg":"insufficient balance"}}"#;
    let openai = r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#;
    let openrouter = r#"{"error":{"code":402,"message":"Insufficient credits"}}"#;
    let stream = format!("{STREAM_HEAD}data: {minimax}\n\n").into_bytes();
    for (dialect, answer) in [
        ("deepseek", plain(402, json, deepseek)),
        ("openai", plain(402, json, "{}")),
        ("openai", plain(429, json, openai)),
        ("openrouter", plain(402, json, openrouter)),
        ("openrouter", plain(200, json, openrouter)),
        ("minimax", plain(200, json, minimax)),
        ("minimax", stream),
    ] {
        let upstream = always(answer);
        let address = upstream.address;
        let config = format!("upstreams: {{ up: {{ url: \"http://{address}\", dialect: {dialect} }} }}\n");
        let gateway = Gateway::start(address, &config);
        let key = gateway.key("1 TEST");
        for body in [ask(), ask_stream()] {
            let refused = http::post(gateway.address, CHAT, &[("x-api-key", &key)], &body);
            assert_refused(&refused, 502, "upstream_failed", "nothing_taken");
            assert!(!refused.text().contains("nsufficient") && refused.header("payment-required").is_none());
        }
        assert_eq!(gateway.settled_balance(&key), CREDIT, "{dialect}");
        assert_eq!(gateway.metric("farthing_upstream_out_of_credit_total{upstream=\"up\"}"), 2, "{dialect}");
        assert!(gateway.log().contains("ALARM"), "{dialect}");
    }
    // Another failure goes on as it is.
    let upstream =
        always(plain(429, json, r#"{"error":{"type":"rate_limit_error","code":"rate_limit_exceeded"}}"#));
    let gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    let answer = http::post(gateway.address, CHAT, &[("x-api-key", &key)], &ask());
    assert!(answer.status == 429 && answer.text().contains("rate_limit_exceeded"), "{}", answer.text());
}

/// Who pays for which end, by default and as a route says.
#[test]
fn policies_decide_who_pays_for_which_end() {
    let said = "some words that were delivered";
    let error = "data: {\"error\":{\"message\":\"overloaded\",\"code\":500}}\n\n";
    let failed = format!("{STREAM_HEAD}{}{error}", delta(said));
    let reported = format!("{STREAM_HEAD}{}{USAGE}{error}", delta(said));
    let silent = format!("{STREAM_HEAD}{}{DONE}", delta(said));
    let at_once = "data: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":{\"code\":\"server_error\"},\"usage\":{\"input_tokens\":10,\"output_tokens\":5,\"total_tokens\":15}}}\n\n";
    let at_once = format!("{STREAM_HEAD}{at_once}");
    let estimated = estimate("hi", said);
    // All that is held: 10 000 bytes and more by half, and 100 tokens.
    let hold = -1;
    for (case, answer, policy, expected) in [
        ("error after output", &failed, "", estimated),
        (
            "error after output, reported only",
            &failed,
            "on_upstream_error: { after_output: reported_only }",
            0,
        ),
        ("error after output, free", &failed, "on_upstream_error: { after_output: free }", 0),
        ("error after a report", &reported, "", FRIENDLY_COST),
        (
            "error after a report, reported only",
            &reported,
            "on_upstream_error: { after_output: reported_only }",
            FRIENDLY_COST,
        ),
        ("error after a report, free", &reported, "on_upstream_error: { after_output: free }", 0),
        ("a failure that reports", &at_once, "", 0),
        ("a failure that reports, billed", &at_once, "bill_on_upstream_failure: true", FRIENDLY_COST),
        ("no report", &silent, "", estimated),
        ("no report, the hold", &silent, "on_missing_usage: hold", hold),
    ] {
        let upstream = always(answer.as_bytes());
        let path = if case.starts_with("a failure") { "/v1/responses" } else { CHAT };
        let route = |own: &str| {
            format!(
                "routes: [ {{ match: {{ method: POST, path: {path} }}, upstream: openai, price: by_model{own} }} ]\n"
            )
        };
        let defaults = format!("metering: {{ {policy} }}\n{}", route(""));
        let mut configs = vec![defaults];
        if !policy.is_empty() {
            // What the route says wins over the defaults, whichever way round.
            configs.push(format!(
                "metering: {{ on_missing_usage: estimate }}\n{}",
                route(&format!(", metering: {{ {policy} }}"))
            ));
        }
        for config in configs {
            let gateway = Gateway::start(upstream.address, &config);
            let key = gateway.key("1 TEST");
            let responses = json!({"model": "m", "max_output_tokens": 1000, "stream": true, "input": "hi"});
            let body = if path == CHAT { ask_stream() } else { responses };
            let answer = http::post(gateway.address, path, &[("x-api-key", &key)], &body);
            assert_eq!(answer.status, 200, "{case}: {}", answer.text());
            let spent = CREDIT - gateway.settled_balance(&key);
            if expected == hold {
                assert!((1000 * OUTPUT..1000 * OUTPUT + 200 * INPUT).contains(&spent), "{case}: {spent}");
            } else {
                assert_eq!(spent, expected, "{case}: {config}");
            }
        }
    }
}

/// The client is gone and the upstream was cancelled: what a route says of that.
#[test]
fn a_route_decides_what_a_cancelled_call_costs() {
    let upstream = ByHand::start();
    let partial = r#"{"type":"message_start","message":{"usage":{"input_tokens":10,"output_tokens":1}}}"#;
    for (charge, chat, message) in [
        (
            "reported_or_estimate",
            estimate("hi", "some words"),
            10 * INPUT + OUTPUT + units(tokens("some words")) * OUTPUT,
        ),
        ("reported_only", 0, 10 * INPUT + OUTPUT),
    ] {
        let gateway = Gateway::start(
            upstream.address,
            &format!("metering: {{ on_client_gone: {{ drain_up_to: 0s, charge: {charge} }} }}\n"),
        );
        let key = gateway.key("1 TEST");
        let mut spent = 0;
        let said =
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"some words"}}"#;
        let message_events = format!("data: {partial}\n\ndata: {said}\n\n");
        for (path, events, cost) in [(CHAT, delta("some words"), chat), (MESSAGES, message_events, message)] {
            let mut client = Socket::connect(gateway.address);
            assert!(client.send(http::posted(gateway.address, path, &[("x-api-key", &key)], &ask_stream())));
            let mut call = upstream.next();
            call.send(STREAM_HEAD);
            call.send(events);
            assert!(client.read_until("some words"));
            drop(client);
            call.wait_until_left();
            spent += cost;
            assert_eq!(gateway.settled_balance(&key), CREDIT - spent, "{charge} {path}");
        }
    }
}

/// A hold by half the bytes is no bound for dense text: where so little is there that it matters, and where the
/// operator wants it, tokens are counted first (MTR-33).
#[test]
fn holds_are_counted_where_it_matters() {
    let upstream = Upstream::friendly();
    let hex = "0f1e2d3c4b5a69788796a5b4c3d2e1f0".repeat(30);
    // What the template of a chat adds is held for too.
    let counted = units(tokens(&hex)) + 3 + 16;
    let body = json!({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": hex}]});
    let half = (units(body.to_string().len()) + 1) / 2 + 3;
    let bytes = units(body.to_string().len()) + 3;
    assert!(counted > half, "half the bytes is no bound: {counted} > {half}");
    for (config, credit, input) in [
        ("", "1 TEST", half),
        ("metering: { hold: { input: bytes } }\n", "1 TEST", bytes),
        ("metering: { hold: { input: tokenizer } }\n", "1 TEST", counted),
        ("", "0.001 TEST", counted),
    ] {
        let gateway = Gateway::start(upstream.address, config);
        let key = gateway.key(credit);
        let answer = http::post(gateway.address, CHAT, &[("x-api-key", &key)], &body);
        assert_eq!(answer.status, 200, "{config}: {}", answer.text());
        assert_eq!(answer.told("farthing-hold"), input * INPUT + OUTPUT, "{config} {credit}");
    }
}

/// What was generated in denser tokens than the hold grew by is not taken beyond it, and the bill says so.
#[test]
fn an_estimate_takes_no_more_than_was_held() {
    let dense = "0f1e2d3c4b5a6978".repeat(20);
    let upstream = always(format!("{STREAM_HEAD}{}{DONE}", delta(&dense)));
    let gateway = Gateway::start(upstream.address, "metering: { hold: { step: 50 } }\n");
    let key = gateway.key("1 TEST");
    let answer = http::post(gateway.address, CHAT, &[("x-api-key", &key)], &ask_stream());
    let spent = CREDIT - gateway.settled_balance(&key);
    assert!(spent < estimate("hi", &dense), "{spent}");
    let told = gateway.operator(&["explain", answer.must("farthing-request-id")]);
    assert_eq!((&told["agrees"], &told["estimated"]), (&json!(true), &json!(true)), "{told}");
    assert_eq!((&told["capped_at"], &told["charged"]), (&told["held"], &told["held"]), "{told}");
}
