//! The process is killed at chosen points: what was acknowledged is there afterwards, nothing is accepted
//! twice, and nobody is charged for more than he was told. At any point: `crashloop.rs`.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

use farthing_tests::gateway::{Gateway, nano, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::payer::{TEST, Wallet};
use farthing_tests::refused::assert_refused;
use farthing_tests::upstream::{FRIENDLY_COST, STREAM_HEAD, Upstream, friendly_answer};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

fn ask(text: &str) -> Value {
    json!({"model": "m", "max_tokens": 1000, "messages": [{"role": "user", "content": text}]})
}

fn try_post(gateway: std::net::SocketAddr, fields: &[(&str, &str)], body: &Value) -> Option<Answer> {
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(fields);
    let answer = http::try_request(gateway, "POST", CHAT, &all, body.to_string().as_bytes())?;
    // A body that was cut off by the kill is no answer.
    let whole = answer.header("content-length").is_none_or(|length| length == answer.body.len().to_string());
    whole.then_some(answer)
}

/// Killed while it streams: nothing of the call is charged, nothing stays held.
#[test]
fn kill_while_streaming_charges_nothing() {
    let upstream = Upstream::start(|_, stream| {
        let part = r#"data: {"choices":[{"index":0,"delta":{"content":"word"}}]}"#;
        let _ = stream.write_all(format!("{STREAM_HEAD}{part}\n\n").as_bytes());
        let _ = std::io::copy(stream, &mut std::io::sink());
    });
    let mut gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    let (address, mut body) = (gateway.address, ask("hi"));
    body["stream"] = json!(true);
    let fields = key.clone();
    let call = std::thread::spawn(move || try_post(address, &[("x-api-key", &fields)], &body));
    wait_for("the call to be held", || (gateway.balance(&key).1 > 0).then_some(()));
    wait_for("the call to go up", || (upstream.hits() == 1).then_some(()));
    gateway.crash_and_restart();
    let cut = call.join().unwrap();
    assert!(cut.is_none_or(|answer| !answer.text().contains("[DONE]")));
    assert_eq!(gateway.balance(&key), (1_000_000_000, 0));
    assert_eq!(gateway.books().entries.len(), 1);
}

/// Killed between the deposit and the answer: the deposit was durable before the upstream was called, and
/// opens the call it was made for, once, without a second settlement.
#[test]
fn kill_after_the_deposit_keeps_it_for_the_same_request() {
    let hangs = AtomicBool::new(true);
    let upstream = Upstream::start(move |request, stream| {
        if hangs.swap(false, Ordering::SeqCst) {
            let _ = std::io::copy(stream, &mut std::io::sink());
        }
        let _ = stream.write_all(&friendly_answer(request));
    });
    let mut gateway = Gateway::start(upstream.address, "");
    let offered = http::post(gateway.address, CHAT, &[], &ask("hi"));
    let payment = Wallet::new(1).pay(&offered, TEST);
    let (address, header) = (gateway.address, payment.v2());
    let call = std::thread::spawn(move || try_post(address, &[("payment-signature", &header)], &ask("hi")));
    wait_for("the call to go up", || (upstream.hits() == 1).then_some(()));
    gateway.crash_and_restart();
    assert!(call.join().unwrap().is_none());
    let books = gateway.books();
    assert_eq!((books.count("deposit"), books.count("capture")), (1, 0));

    let fields = [("payment-signature", payment.v2())];
    let fields = [(fields[0].0, fields[0].1.as_str())];
    let elsewhere = http::post(gateway.address, CHAT, &fields, &ask("ho"));
    assert_refused(&elsewhere, 403, "verification_failed", "nothing_taken");
    let served = http::post(gateway.address, CHAT, &fields, &ask("hi"));
    assert_eq!(served.status, 200, "{}", served.text());
    assert_eq!(served.header("farthing-key"), None, "whoever replays a public proof gets no key");
    let books = gateway.books_after(1);
    assert_eq!((books.count("deposit"), books.count("capture")), (1, 1));
    assert_eq!(upstream.hits(), 2);
    // The change is the payer's, who reaches it by paying again: same account, new key.
    let offered = http::post(gateway.address, CHAT, &[], &ask("again"));
    let payment = Wallet::new(1).pay(&offered, TEST);
    let paid = http::post(gateway.address, CHAT, &[("payment-signature", &payment.v2())], &ask("again"));
    assert_eq!(
        gateway.settled_balance(paid.must("farthing-key")),
        nano(&json!(served.must("farthing-balance").trim_end_matches(" TEST"))) + hold(&served)
            - FRIENDLY_COST
            + payment.nano()
            - FRIENDLY_COST
    );
}

fn hold(answer: &Answer) -> i64 {
    nano(&json!(answer.must("farthing-hold").trim_end_matches(" TEST")))
}
