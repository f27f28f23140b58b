//! How calls end: what is charged in memory is what is on disk, and what whoever asks again is told.

use std::io::Write as _;
use std::time::Duration;

use farthing_tests::gateway::{Gateway, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::payer::{TEST, Wallet};
use farthing_tests::refused::assert_refused;
use farthing_tests::socket::Socket;
use farthing_tests::upstream::{STREAM_HEAD, Upstream, friendly_answer, plain};
use proof::credit_key::attenuate;
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const FUNDS: i64 = 1_000_000_000;

fn ask(text: &str, tokens: u64) -> Value {
    json!({"model": "m", "max_tokens": tokens, "messages": [{"role": "user", "content": text}]})
}

fn streamed(text: &str, tokens: u64) -> Value {
    let mut body = ask(text, tokens);
    body["stream"] = json!(true);
    body
}

fn call(gateway: &Gateway, fields: &[(&str, &str)], body: &Value) -> Option<Answer> {
    let fields = [fields, &[("content-type", "application/json")]].concat();
    http::try_request(gateway.address, "POST", CHAT, &fields, body.to_string().as_bytes())
}

fn event(text: &str) -> String {
    format!("data: {}\n\n", json!({"id": "c", "choices": [{"index": 0, "delta": {"content": text}}]}))
}

/// LED 4.3, LED-24: the half of an answer that its deadline cut off is nobody's answer. Whoever asks again is
/// told that the call was charged.
#[test]
fn half_an_answer_is_not_given_again() {
    let upstream = Upstream::start(|_, stream| {
        let _ = stream.write_all(format!("{STREAM_HEAD}{}", event("half of it")).as_bytes());
        let _ = std::io::copy(stream, &mut std::io::sink());
    });
    let server = "server: { listen: [\"{address}\"], threads: 2, timeouts: { call: 3s } }\n";
    let gateway = Gateway::start(upstream.address, server);
    let key = gateway.key("1 TEST");
    let fields = [("x-api-key", key.as_str()), ("idempotency-key", "k")];
    let begun = std::time::Instant::now();
    let first = call(&gateway, &fields, &streamed("hi", 100));
    assert!(begun.elapsed() < Duration::from_secs(30), "the client is told at once, not when it asks");
    assert!(first.is_none_or(|answer| !answer.text().contains("[DONE]")));
    assert!(gateway.settled_balance(&key) < FUNDS);
    let again = wait_for("the outcome", || {
        let answer = call(&gateway, &fields, &streamed("hi", 100)).unwrap();
        (answer.refusal() != "in_progress").then_some(answer)
    });
    assert_refused(&again, 409, "already_served", "captured");
    assert_eq!(upstream.hits(), 1);
}

/// LED-25, LED-26: an answer without a body has no last byte to hold back. It waits as a whole.
#[test]
fn an_empty_answer_waits_for_its_charge() {
    const FEE: i64 = 1_000_000;
    let upstream = Upstream::start(|request, stream| {
        let answer = match request.target.as_str() {
            "/tool/empty" => "HTTP/1.1 200 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            "/tool/none" => "HTTP/1.1 204 X\r\nconnection: close\r\n\r\n",
            // HEAD
            _ => "HTTP/1.1 200 X\r\ncontent-length: 10\r\nconnection: close\r\n\r\n",
        };
        let _ = stream.write_all(answer.as_bytes());
    });
    let more = "store: { path: \"{folder}/store\", durability: sync }\n\
         routes: [{ match: { method: [POST, HEAD], path: \"/tool/**\" }, upstream: openai, price: { per_call: 0.001 USD } }]\n";
    let mut gateway = Gateway::start(upstream.address, more);
    let key = gateway.key("1 TEST");
    let mut calls = 0;
    for (method, target) in [("POST", "/tool/empty"), ("POST", "/tool/none"), ("HEAD", "/tool/head")] {
        for _ in 0..4 {
            let answer = http::request(gateway.address, method, target, &[("x-api-key", &key)], b"");
            assert!([200, 204].contains(&answer.status), "{}", answer.text());
            calls += 1;
            gateway.crash_and_restart();
            assert_eq!(gateway.balance(&key), (FUNDS - calls * FEE, 0), "{method} {target}");
        }
    }
}

/// LED-14: what an operator changes of a day's limit counts from the reload on, for accounts that have spent
/// today as well.
#[test]
fn a_changed_limit_of_the_day_counts_at_once() {
    let limits = |spend: &str| {
        format!(
            "limits: {{ unpaid: {{ per_ip: 100000/min }}, default: {{ rpm: 100000, concurrent: 1000, spend: {{ {spend} }} }} }}"
        )
    };
    let (wide, tight) = (limits("per_day: 0.5 USD"), limits("per_day: 0.00014 USD"));
    let upstream = Upstream::friendly();
    let gateway =
        Gateway::start(upstream.address, &format!("metering: {{ hold: {{ input: bytes }} }}\n{wide}\n"));
    let key = gateway.key("1 TEST");
    let fields = [("x-api-key", key.as_str())];
    for _ in 0..3 {
        assert_eq!(call(&gateway, &fields, &ask("hi", 5)).unwrap().status, 200);
        gateway.settled_balance(&key);
    }
    let config = std::fs::read_to_string(gateway.config()).unwrap();
    std::fs::write(gateway.config(), config.replace(&wide, &tight)).unwrap();
    gateway.operator(&["reload"]);
    // 90,000 nano are spent, and a call holds 60,000.
    let refused = call(&gateway, &fields, &ask("hi", 5)).unwrap();
    assert_refused(&refused, 429, "rate_limited", "nothing_taken");
    std::fs::write(gateway.config(), config).unwrap();
    gateway.operator(&["reload"]);
    assert_eq!(call(&gateway, &fields, &ask("hi", 5)).unwrap().status, 200);
}

/// LED-7: told twice to stop, the gateway cuts what is left. Each call is charged for what was delivered, also one
/// that has a name, and one that has a payment.
#[test]
fn what_is_cut_by_a_stop_is_charged() {
    let upstream = Upstream::start(|_, stream| {
        let _ = stream.write_all(format!("{STREAM_HEAD}{}", event(&"0123456789".repeat(4))).as_bytes());
        let _ = std::io::copy(stream, &mut std::io::sink());
    });
    let mut gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    let body = streamed("hi", 100);
    let payment = Wallet::new(9).pay(&call(&gateway, &[], &body).unwrap(), TEST);
    let signature = payment.v2();
    let mut sockets = Vec::new();
    let ways: [&[(&str, &str)]; 3] = [
        &[("x-api-key", &key)],
        &[("x-api-key", &key), ("idempotency-key", "k")],
        &[("payment-signature", &signature)],
    ];
    for fields in ways {
        let mut socket = Socket::connect(gateway.address);
        socket.send(http::posted(gateway.address, CHAT, fields, &body));
        assert!(socket.read_until("0123456789"));
        sockets.push(socket);
    }
    gateway.signal(15);
    wait_for("the gateway to drain", || {
        http::try_get(gateway.admin, "/readyz").filter(|answer| answer.status == 503)
    });
    gateway.signal(15);
    gateway.wait();
    gateway.restart();
    let books = gateway.books();
    assert_eq!(books.count("capture"), 3);
    let input = i64::try_from(body.to_string().len().div_ceil(4)).unwrap() + 3;
    let cost = input * 1_000 + 10 * 4_000;
    assert_eq!(gateway.balance(&key), (FUNDS - 2 * cost, 0));
    let again = call(&gateway, ways[1], &body).unwrap();
    assert_refused(&again, 409, "already_served", "captured");
    let again = call(&gateway, ways[2], &body).unwrap();
    assert_refused(&again, 409, "already_served", "captured");
}

/// A number from a seed: the same load each time, as far as threads allow.
fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

/// What an upstream may do to a call; the request's text says which.
fn misbehave(request: &farthing_tests::upstream::Seen, stream: &mut std::net::TcpStream) {
    let text = String::from_utf8_lossy(&request.body).into_owned();
    let way = text.split("way-").nth(1).and_then(|rest| rest.chars().next()).unwrap_or('0');
    let usage = |tokens: u64| {
        let usage = json!({"prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": tokens + 10});
        format!("data: {}\n\ndata: [DONE]\n\n", json!({"choices": [], "usage": usage}))
    };
    let answer = match way {
        '1' => plain(500, "application/json", "{\"error\":{}}"),
        '2' => plain(200, "application/json", "{\"choices\":[{\"message\":{\"content\":\"cut h"),
        '3' => format!("{STREAM_HEAD}{}{}", event("much more than was held"), usage(3_000)).into_bytes(),
        '4' => format!("{STREAM_HEAD}{}", event(&"0123456789".repeat(4)).repeat(200)).into_bytes(),
        '5' => format!("{STREAM_HEAD}{}", event("and then it stops")).into_bytes(),
        '6' => {
            let _ = stream.write_all(format!("{STREAM_HEAD}{}", event("left here")).as_bytes());
            std::thread::sleep(Duration::from_millis(20));
            usage(7).into_bytes()
        }
        '7' => return,
        _ => friendly_answer(request),
    };
    let _ = stream.write_all(&answer);
}

/// LED invariant 2, `litellm_40050`: after whatever calls, what memory says of each account is the fold of the
/// journal, before a kill and after it.
#[test]
fn balances_in_memory_are_the_fold_of_the_journal() {
    const CALLS: u64 = 60;
    let upstream = Upstream::start(misbehave);
    let more = "metering: { hold: { step: 16, default_output: 16, min_output: 4 }, on_client_gone: { drain_up_to: 50ms } }\n\
         limits: { unpaid: { per_ip: 100000/min }, default: { rpm: 100000, concurrent: 1000, spend: { per_call: 0.02 USD, per_day: 0.05 USD } } }\n";
    let mut gateway = Gateway::start(upstream.address, more);
    let new = |credit: &str| {
        let new = gateway.operator(&["key", "new", "--credit", credit]);
        let text = |name: &str| new[name].as_str().unwrap().to_owned();
        (text("key"), text("account"))
    };
    let accounts = [new("1 TEST"), new("0.002 TEST"), new("0.04 TEST"), new("0.0005 TEST")];
    let keys: Vec<String> = accounts
        .iter()
        .flat_map(|(key, _)| [key.clone(), attenuate(key, "budget=b:TEST:1500000").unwrap()])
        .collect();
    let (gateway_at, keys_at) = (&gateway, &keys);
    std::thread::scope(|scope| {
        for caller in 1..=4_u64 {
            scope.spawn(move || {
                let mut seed = 0x9e37_79b9 * caller;
                for _ in 0..CALLS {
                    let (way, at, kind) = (next(&mut seed) % 9, next(&mut seed), next(&mut seed) % 5);
                    let text = format!("way-{way} {}", next(&mut seed) % 7);
                    let key = &keys_at[usize::try_from(at % 8).unwrap()];
                    let mut body = if kind == 4 { ask(&text, 300) } else { streamed(&text, 300) };
                    if kind < 2 {
                        body.as_object_mut().unwrap().remove("max_tokens");
                    }
                    let name = format!("name-{}", next(&mut seed) % 40);
                    let mut fields = vec![("x-api-key", key.as_str())];
                    if kind == 3 {
                        fields.push(("idempotency-key", name.as_str()));
                    } else if kind == 2 {
                        fields.push(("x-stainless-retry-count", if way % 2 == 0 { "0" } else { "1" }));
                    }
                    if way == 6 {
                        let mut socket = Socket::connect(gateway_at.address);
                        socket.send(http::posted(gateway_at.address, CHAT, &fields, &body));
                        socket.read();
                    } else {
                        call(gateway_at, &fields, &body);
                    }
                }
            });
        }
    });
    let left = |gateway: &Gateway| -> Vec<i64> {
        accounts.iter().map(|(key, _)| gateway.settled_balance(key)).collect()
    };
    let before = left(&gateway);
    wait_for("calls to end", || (gateway.metric("farthing_holds_open") == 0).then_some(()));
    let books = gateway.books();
    let in_journal: Vec<i64> = accounts.iter().map(|(_, account)| books.balance(account)).collect();
    assert_eq!(before, in_journal);
    assert!(before.iter().all(|left| *left >= 0), "{before:?}");
    assert!(books.count("capture") > 50, "{}", books.count("capture"));
    gateway.crash_and_restart();
    assert_eq!(left(&gateway), before);
    assert_eq!(gateway.books().entries.len(), books.entries.len());
}
