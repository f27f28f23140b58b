//! Routes sold by what can be counted without a provider's report: bytes, seconds, characters, images.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use farthing_tests::gateway::Gateway;
use farthing_tests::http;
use farthing_tests::refused::assert_refused;
use farthing_tests::upstream::{Upstream, plain};
use serde_json::json;

const SPEECH: &str = "/v1/audio/speech";
const IMAGES: &str = "/v1/images/generations";

fn config(upstream: &Upstream, routes: &str) -> String {
    format!(
        "upstreams: {{ files: {{ url: \"http://{}\", dialect: raw }} }}\nroutes: [ {routes} ]\n",
        upstream.address
    )
}

fn route(path: &str, price: &str) -> String {
    format!("{{ match: {{ path: {path} }}, upstream: files, price: {price} }}")
}

/// A gateway that sells what `upstream` answers at each price, at `/0`, `/1` and so on.
fn selling(upstream: &Upstream, prices: &[&str]) -> Gateway {
    let routes: Vec<_> =
        prices.iter().enumerate().map(|(at, price)| route(&format!("/{at}"), price)).collect();
    Gateway::start(upstream.address, &config(upstream, &routes.join(", ")))
}

#[test]
fn bytes_and_calls_are_counted_and_a_failure_is_free() {
    let upstream = Upstream::start(|request, stream| {
        let status = if request.body.starts_with(b"fail") { 500 } else { 200 };
        let _ = stream.write_all(&plain(status, "application/octet-stream", &"x".repeat(1000)));
    });
    let prices = [
        "{ per_byte_out: 0.05 USD/MB, hold: 1MiB }",
        "{ per_byte_in: 0.02 USD/MB }",
        "{ per_byte_in: 0.02 USD/MB, per_byte_out: 0.05 USD/MB, per_call: 0.0001 USD, hold: 10kB }",
        "{ per_byte_out: 0.05 USD/MB, min: 0.0002 USD, hold: 1MiB }",
        "{ per_byte_out: 0.05 USD/GB, hold: 1MiB }",
    ];
    let gateway = selling(&upstream, &prices);
    let key = gateway.key("1 TEST");
    // 50 nano a byte out, 20 a byte in.
    for (at, expected, held) in [
        (0, 50_000, 52_428_800),
        (1, 200, 200),
        (2, 50_000 + 200 + 100_000, 500_000 + 200 + 100_000),
        (3, 200_000, 52_428_800),
        // 0.05 nano a byte, rounded up once.
        (4, 50, 52_429),
    ] {
        let before = gateway.settled_balance(&key);
        let target = format!("/{at}");
        let answer = http::request(gateway.address, "POST", &target, &[("x-api-key", &key)], b"0123456789");
        assert_eq!((answer.status, answer.body.len()), (200, 1000), "{target}");
        assert_eq!(answer.told("farthing-hold"), held, "{target}");
        assert_eq!(before - gateway.settled_balance(&key), expected, "{target}");
        let told = gateway.operator(&["explain", answer.must("farthing-request-id")]);
        assert_eq!(told["agrees"], true, "{target}: {told}");
        let failed = http::request(gateway.address, "POST", &target, &[("x-api-key", &key)], b"fail");
        assert_eq!(failed.status, 500);
        assert_eq!(before - gateway.settled_balance(&key), expected, "{target}: a failure is free");
    }
    let books = gateway.books_after(prices.len());
    assert!(books.entries.iter().all(|entry| entry["estimated"] != true));
}

/// What is held for is where the answer ends: never free, never beyond the hold.
#[test]
fn an_answer_ends_where_its_bytes_are_paid() {
    let upstream = Upstream::start(|_, stream| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\nconnection: close\r\n\r\n";
        let _ = stream.write_all(head.as_bytes());
        // For as long as anybody reads.
        while stream.write_all(&[b'x'; 4096]).is_ok() {}
    });
    let gateway = selling(&upstream, &["{ per_byte_out: 0.05 USD/MB, hold: 10kB }"]);
    let key = gateway.key("1 TEST");
    for calls in 1..3 {
        let answer = http::get(gateway.address, "/0", &[("x-api-key", &key)]);
        assert_eq!((answer.status, answer.body.len()), (200, 10_000));
        assert_eq!(gateway.settled_balance(&key), 1_000_000_000 - calls * 500_000);
    }
    let poor = gateway.key("0.0004 TEST");
    let refused = http::get(gateway.address, "/0", &[("x-api-key", &poor)]);
    assert_refused(&refused, 402, "insufficient_balance", "nothing_taken");
}

/// Time is charged by the millisecond from the asking to the end, and ends with what is held for.
#[test]
fn seconds_are_counted_up_to_the_hold() {
    let upstream = Upstream::start(|request, stream| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\nbegun";
        let _ = stream.write_all(head.as_bytes());
        let pause = if request.target == "/0" { Duration::from_millis(300) } else { Duration::from_secs(20) };
        std::thread::sleep(pause);
    });
    let gateway =
        selling(&upstream, &["{ per_second: 0.001 USD, hold: 30s }", "{ per_second: 0.001 USD, hold: 3s }"]);
    let key = gateway.key("1 TEST");
    let start = Instant::now();
    assert_eq!(http::get(gateway.address, "/0", &[("x-api-key", &key)]).text(), "begun");
    let most = i64::try_from(start.elapsed().as_millis()).unwrap() * 1000;
    let spent = 1_000_000_000 - gateway.settled_balance(&key);
    assert!((300_000..=most).contains(&spent), "{spent} of {most}");
    assert_eq!(spent % 1000, 0, "whole milliseconds");
    let before = gateway.settled_balance(&key);
    let cut = http::get(gateway.address, "/1", &[("x-api-key", &key)]);
    assert_eq!((cut.status, cut.text().as_str()), (200, "begun"));
    assert_eq!(before - gateway.settled_balance(&key), 3_000_000, "three seconds and no more");
    assert_eq!(gateway.metric("farthing_holds_expired_total"), 0);
}

/// Draining an answer that is sold by its bytes or its time would be billed, and nobody gets it: who leaves pays to
/// there, and the upstream is let go.
#[test]
fn who_leaves_pays_for_nothing_more() {
    const PIECES: usize = 200;
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let upstream = Upstream::start(move |_, stream| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n";
        let _ = stream.write_all(head.as_bytes());
        for _ in 0..PIECES {
            // Before the first as well: less than a millisecond costs nothing.
            std::thread::sleep(Duration::from_millis(20));
            if stream.write_all(&[b'x'; 1024]).is_err() {
                return;
            }
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let gateway = selling(
        &upstream,
        &["{ per_byte_out: 0.05 USD/MB, hold: 1MiB }", "{ per_second: 0.001 USD, hold: 30s }"],
    );
    let key = gateway.key("1 TEST");
    for (target, whole) in [("/0", 50 * 1024 * PIECES), ("/1", 1_000 * 20 * PIECES)] {
        written.store(0, Ordering::SeqCst);
        let before = gateway.settled_balance(&key);
        http::leave_after(gateway.address, target, &[("x-api-key", &key)], &json!({}), "xxx");
        let spent = before - gateway.settled_balance(&key);
        assert!(spent > 0 && spent < i64::try_from(whole / 2).unwrap(), "{target}: {spent} of {whole}");
        assert!(written.load(Ordering::SeqCst) < PIECES, "{target}: read to its end");
    }
}

#[test]
fn characters_and_images_are_counted() {
    let upstream = Upstream::start(|request, stream| {
        let body = match request.target.as_str() {
            SPEECH => "sound".to_owned(),
            _ => json!({"created": 1, "data": [{"b64_json": "aGk="}, {"b64_json": "aGk="}]}).to_string(),
        };
        let _ = stream.write_all(&plain(200, "application/json", &body));
    });
    let routes = [
        route(SPEECH, "{ per_character: 15 USD/Mchar, min: 0.0005 USD }"),
        route(IMAGES, "{ per_image: 0.04 USD }"),
    ];
    let gateway = Gateway::start(upstream.address, &config(&upstream, &routes.join(", ")));
    let key = gateway.key("1 TEST");
    let long = "ä".repeat(100);
    for (path, body, expected) in [
        (SPEECH, json!({"model": "tts", "voice": "a", "input": long}), 1_500_000),
        (SPEECH, json!({"model": "tts", "voice": "a", "input": "hi"}), 500_000),
        (IMAGES, json!({"model": "i", "prompt": "a cat", "n": 2}), 80_000_000),
    ] {
        let before = gateway.settled_balance(&key);
        let answer = http::post(gateway.address, path, &[("x-api-key", &key)], &body);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!(before - gateway.settled_balance(&key), expected, "{path}");
    }
}

/// A price by the model that says nothing of what is counted is none (MTR-47).
#[test]
fn what_is_counted_in_units_without_a_price_is_refused() {
    let upstream = Upstream::friendly();
    let routes = format!(
        "routes: [ {{ match: {{ method: POST, path: {SPEECH} }}, upstream: openai, price: by_model }} ]\n"
    );
    let gateway = Gateway::start(upstream.address, &routes);
    let key = gateway.key("1 TEST");
    let ask = json!({"model": "tts", "voice": "a", "input": "hi"});
    let refused = http::post(gateway.address, SPEECH, &[("x-api-key", &key)], &ask);
    assert_refused(&refused, 404, "model_not_priced", "nothing_taken");
    assert_eq!((upstream.hits(), gateway.settled_balance(&key)), (0, 1_000_000_000));
    let sold =
        Gateway::start(upstream.address, &format!("{routes}prices: {{ \"*\": {{ per_call: 0.01 USD }} }}\n"));
    let key = sold.key("1 TEST");
    assert_eq!(http::post(sold.address, SPEECH, &[("x-api-key", &key)], &ask).status, 200);
    assert_eq!(sold.settled_balance(&key), 990_000_000);
}
