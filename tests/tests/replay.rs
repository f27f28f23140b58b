//! A payment presented again: the same request gets its stored answer, any other request gets nothing,
//! whatever happened to the process in between.

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use farthing_tests::crowd::at_once;
use farthing_tests::gateway::{Gateway, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::payer::{Payment, TEST, Wallet};
use farthing_tests::refused::assert_refused;
use farthing_tests::upstream::{FRIENDLY_COST, Upstream, friendly_answer};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

fn ask(text: &str) -> Value {
    json!({"model": "m", "max_tokens": 1000, "messages": [{"role": "user", "content": text}]})
}

fn offer(gateway: &Gateway, path: &str, body: &Value) -> Answer {
    let answer = http::post(gateway.address, path, &[], body);
    assert_refused(&answer, 402, "payment_required", "nothing_taken");
    answer
}

fn pay(gateway: &Gateway, path: &str, payment: &Payment, body: &Value) -> Answer {
    http::post(gateway.address, path, &[("payment-signature", &payment.v2())], body)
}

/// Presents a payment again until the call it was made for has been written down.
fn pay_again(gateway: &Gateway, payment: &Payment, body: &Value) -> Answer {
    wait_for("the first call to be written down", || {
        let answer = pay(gateway, CHAT, payment, body);
        let in_flight = answer.status == 409 && answer.code() == "in_progress";
        (!in_flight).then_some(answer)
    })
}

#[test]
fn served_payment_again_gets_the_stored_answer_and_no_key() {
    let upstream = Upstream::friendly();
    let mut gateway = Gateway::start(upstream.address, "");
    let body = ask("hi");
    let payment = Wallet::new(1).pay(&offer(&gateway, CHAT, &body), TEST);
    let first = pay(&gateway, CHAT, &payment, &body);
    assert_eq!(first.status, 200, "{}", first.text());
    let key = first.header("farthing-key").unwrap().to_owned();
    let receipt = first.header("farthing-receipt").unwrap().to_owned();

    let again = pay_again(&gateway, &payment, &body);
    assert_eq!((again.status, again.header("farthing-replayed")), (200, Some("true")), "{}", again.text());
    assert_eq!(again.body, first.body);
    assert_eq!(again.header("farthing-receipt"), Some(receipt.as_str()));
    assert_eq!(again.header("payment-response"), first.header("payment-response"));
    assert_eq!(again.header("farthing-key"), None);

    // Another body, another route: a proven replay, and no invitation to pay again.
    for other in ["something else", "ho"] {
        let elsewhere = pay(&gateway, CHAT, &payment, &ask(other));
        assert_refused(&elsewhere, 403, "verification_failed", "nothing_taken");
    }
    let responses = json!({"model": "m", "max_output_tokens": 1000, "input": "hi"});
    let elsewhere = pay(&gateway, "/v1/responses", &payment, &responses);
    assert_refused(&elsewhere, 403, "verification_failed", "nothing_taken");
    let other_query = pay(&gateway, &format!("{CHAT}?a=b"), &payment, &body);
    assert_refused(&other_query, 403, "verification_failed", "nothing_taken");

    // The answer was in memory, its outcome is on disk.
    gateway.crash_and_restart();
    for _ in 0..2 {
        let after = pay(&gateway, CHAT, &payment, &body);
        assert_refused(&after, 409, "already_served", "captured");
        assert_eq!(after.header("farthing-receipt"), Some(receipt.as_str()));
        assert_eq!(after.header("payment-response"), first.header("payment-response"));
        assert_eq!(after.header("farthing-key"), None);
        for other in ["something else", "ho"] {
            let elsewhere = pay(&gateway, CHAT, &payment, &ask(other));
            assert_refused(&elsewhere, 403, "verification_failed", "nothing_taken");
        }
        gateway.signal(15);
        gateway.wait();
        let file = gateway.store_file();
        assert!(file.contains("payment-response"), "outcomes are in the file");
        for canary in ["fk_test_", "farthing-key", "five words are said here", "\"hi\""] {
            assert!(!file.contains(canary), "{canary} is on disk");
        }
        gateway.restart();
    }
    assert_eq!(upstream.hits(), 1);
    assert_eq!(gateway.settled_balance(&key), payment.nano() - FRIENDLY_COST);
    let books = gateway.books();
    assert_eq!((books.count("deposit"), books.count("capture")), (1, 1));
}

/// The payer asks again long after his proof and his quote have expired: he is told what became of it,
/// not that it was somebody else's.
#[test]
fn expired_payment_that_was_served_is_answered_with_its_receipt() {
    let upstream = Upstream::friendly();
    let mut gateway = Gateway::start(upstream.address, "");
    let body = ask("hi");
    let offered = offer(&gateway, CHAT, &body);
    let mut payment = Wallet::new(1).pay(&offered, TEST);
    // The shortest life that is taken: about a second of it is left when it is paid with.
    payment.payload = Wallet::new(1).test_payload(&payment.accepted, |transfer| {
        transfer.valid_before = farthing_tests::payer::now_s() + 7;
    });
    let first = pay(&gateway, CHAT, &payment, &body);
    assert_eq!(first.status, 200, "{}", first.text());
    pay_again(&gateway, &payment, &body);
    gateway.crash_and_restart();
    thread::sleep(std::time::Duration::from_millis(2100));
    let late = pay(&gateway, CHAT, &payment, &body);
    assert_refused(&late, 409, "already_served", "captured");
    let elsewhere = pay(&gateway, CHAT, &payment, &ask("something else"));
    assert_refused(&elsewhere, 403, "verification_failed", "nothing_taken");
    // What nobody has seen before is plainly too late.
    payment.payload = Wallet::new(2).test_payload(&payment.accepted, |transfer| {
        transfer.valid_before = farthing_tests::payer::now_s() + 1;
    });
    assert_refused(&pay(&gateway, CHAT, &payment, &body), 402, "proof_expired", "nothing_taken");
    assert_eq!(upstream.hits(), 1);
}

/// An upstream that takes its time, so that everything presented meanwhile is presented in flight.
fn slow_upstream() -> Upstream {
    Upstream::start(|request, stream| {
        thread::sleep(std::time::Duration::from_millis(300));
        let _ = stream.write_all(&friendly_answer(request));
    })
}

/// One proof on 64 connections at once: one deposit, one call.
#[test]
fn x402_1805() {
    let upstream = slow_upstream();
    let gateway = Gateway::start(upstream.address, "");
    let body = ask("hi");
    let payment = Wallet::new(1).pay(&offer(&gateway, CHAT, &body), TEST);
    let (v1, v2) = (payment.v1(), payment.v2());
    let answers = at_once(64, |at| {
        let field = if at % 2 == 0 { ("x-payment", v1.as_str()) } else { ("payment-signature", v2.as_str()) };
        http::post(gateway.address, CHAT, &[field], &body)
    });
    let (mut fresh, mut replayed) = (0, 0);
    for answer in &answers {
        match (answer.status, answer.header("farthing-replayed")) {
            (200, None) => fresh += 1,
            (200, Some(_)) => replayed += 1,
            _ => {
                assert_refused(answer, 409, "in_progress", "first_attempt_decides");
                assert!(answer.header("retry-after").is_some());
            }
        }
    }
    assert_eq!(fresh, 1, "{replayed} replayed");
    assert_eq!(answers.iter().filter(|answer| answer.header("farthing-key").is_some()).count(), 1);
    assert_eq!(upstream.hits(), 1);
    let books = gateway.books_after(1);
    assert_eq!((books.count("deposit"), books.count("capture")), (1, 1));
}

/// One payment for many requests at once. Version 2 echoes our quote, which stands for one body: only the request that it
/// was made for is served. Version 1 echoes nothing: whichever comes first is served, and the others are told that it is spent.
#[test]
fn x402_2801() {
    for is_v1 in [false, true] {
        let upstream = slow_upstream();
        let gateway = Gateway::start(upstream.address, "");
        let bodies: Vec<Value> = (10..42).map(|n| ask(&format!("number {n}"))).collect();
        let payment = Wallet::new(1).pay(&offer(&gateway, CHAT, &bodies[0]), TEST);
        let (v1, v2) = (payment.v1(), payment.v2());
        let field = if is_v1 { ("x-payment", v1.as_str()) } else { ("payment-signature", v2.as_str()) };
        let refused = |answer: &Answer| match answer.status {
            409 => assert_refused(answer, 409, "in_progress", "first_attempt_decides"),
            402 if !is_v1 => assert_refused(answer, 402, "quote_expired", "nothing_taken"),
            _ => assert_refused(answer, 403, "verification_failed", "nothing_taken"),
        };
        let answers = at_once(bodies.len(), |at| http::post(gateway.address, CHAT, &[field], &bodies[at]));
        let served: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 200).collect();
        assert_eq!(served.len(), 1);
        assert!(is_v1 || answers[0].status == 200);
        assert_eq!(upstream.hits(), 1);
        answers.iter().filter(|answer| answer.status != 200).for_each(refused);
        let key = served[0].header("farthing-key").unwrap();
        gateway.settled_balance(key);
        // Later as well: only the request that was served gets its answer again. All have the same price.
        let replays = bodies.iter().filter(|body| {
            let answer = wait_for("the first call to be written down", || {
                let answer = http::post(gateway.address, CHAT, &[field], body);
                (answer.code() != "in_progress").then_some(answer)
            });
            if answer.status != 200 {
                assert_refused(&answer, 403, "verification_failed", "nothing_taken");
            }
            answer.header("farthing-replayed").is_some()
        });
        assert_eq!(replays.count(), 1);
        assert_eq!(upstream.hits(), 1);
        assert_eq!(gateway.books_after(1).count("deposit"), 1);
    }
}

/// A retry with the same proof is charged once (the answer is stored), also when the first try was a stream
/// whose client had gone.
#[test]
fn r10_retry_charges_once() {
    let upstream = Upstream::start(|request, stream| {
        thread::sleep(std::time::Duration::from_millis(50));
        let _ = stream.write_all(&friendly_answer(request));
    });
    let gateway = Gateway::start(upstream.address, "");
    let mut body = ask("hi");
    body["stream"] = json!(true);
    let payment = Wallet::new(1).pay(&offer(&gateway, CHAT, &body), TEST);
    // Sent, and not waited for.
    let text = body.to_string();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: {}\r\npayment-signature: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        gateway.address,
        payment.v2(),
        text.len()
    );
    let mut stream = std::net::TcpStream::connect(gateway.address).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    wait_for("the call to reach the upstream", || (upstream.hits() == 1).then_some(()));
    drop(stream);
    for _ in 0..3 {
        let answer = pay_again(&gateway, &payment, &body);
        assert_eq!(
            (answer.status, answer.header("farthing-replayed")),
            (200, Some("true")),
            "{}",
            answer.text()
        );
        assert!(answer.text().contains("five words are said here"));
        assert_eq!(answer.header("farthing-key"), None, "the proof is public by now");
    }
    assert_eq!(upstream.hits(), 1);
    let books = gateway.books_after(1);
    assert_eq!((books.count("deposit"), books.count("capture")), (1, 1));
    // The same for a call that has a name, and for one that an SDK repeats by itself.
    let key = gateway.key("1 TEST");
    for (first, again) in [
        (("idempotency-key", "one"), ("idempotency-key", "one")),
        (("x-stainless-retry-count", "0"), ("x-stainless-retry-count", "1")),
    ] {
        let (before, hits) = (gateway.settled_balance(&key), upstream.hits());
        let call = |header| http::post(gateway.address, CHAT, &[("x-api-key", &key), header], &body);
        let served = call(first);
        let replayed =
            wait_for("the first call's record", || Some(call(again)).filter(|answer| answer.status != 409));
        assert_eq!(
            (replayed.status, replayed.header("farthing-replayed")),
            (200, Some("true")),
            "{}",
            replayed.text()
        );
        assert_eq!(replayed.body, served.body);
        assert_eq!((before - gateway.settled_balance(&key), upstream.hits() - hits), (FRIENDLY_COST, 1));
    }
}

/// The upstream fails once, after the money is in: nothing is settled twice, and many retries at once are
/// one call (MTR-31).
#[test]
fn r11_paid_but_upstream_failed() {
    static TRIES: AtomicUsize = AtomicUsize::new(0);
    let upstream = Upstream::start(|request, stream| {
        if TRIES.fetch_add(1, Ordering::SeqCst) > 0 {
            thread::sleep(std::time::Duration::from_millis(200));
            let _ = stream.write_all(&friendly_answer(request));
        }
    });
    let gateway = Gateway::start(upstream.address, "");
    let body = ask("hi");
    let payment = Wallet::new(1).pay(&offer(&gateway, CHAT, &body), TEST);
    let failed = pay(&gateway, CHAT, &payment, &body);
    assert_refused(&failed, 502, "upstream_failed", "deposit_kept");
    let key = failed.header("farthing-key").unwrap().to_owned();
    assert!(failed.header("farthing-receipt").is_none());
    assert_eq!(gateway.balance(&key), (payment.nano(), 0), "the hold is void");
    // Another request may not have it; the key may.
    assert_refused(&pay(&gateway, CHAT, &payment, &ask("ho")), 403, "verification_failed", "nothing_taken");
    let answers = at_once(16, |_| pay(&gateway, CHAT, &payment, &body));
    let fresh = |answer: &&Answer| answer.status == 200 && answer.header("farthing-replayed").is_none();
    assert_eq!(answers.iter().filter(fresh).count(), 1);
    assert_eq!(upstream.hits(), 2);
    assert_eq!(gateway.settled_balance(&key), payment.nano() - FRIENDLY_COST);
    let books = gateway.books_after(1);
    assert_eq!((books.count("deposit"), books.count("capture")), (1, 1));
}
