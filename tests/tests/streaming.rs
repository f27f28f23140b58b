//! Answers pass through as they come: at once, unchanged, no faster than the client reads, on connections
//! that are used again; and the hold ends whatever happens to either side.

use std::io::Write as _;
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use farthing_tests::gateway::{Gateway, PATIENCE, wait_for};
use farthing_tests::http::get;
use farthing_tests::kept::{self, CHUNKED_STREAM, Kept, Then};
use farthing_tests::socket::Socket;
use farthing_tests::upstream::{FRIENDLY_COST, STREAM_HEAD, Upstream, plain};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;

const USAGE: &str =
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5,\"total_tokens\":15}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

fn event(number: usize) -> String {
    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"n{number:04} é\"}}}}]}}\n\n")
}

/// A request with a credit key, of a call that streams and asks for the usage itself.
fn streamed_call(gateway: &Gateway, key: &str, tail: &str) -> String {
    let body =
        json!({"model": "m", "max_tokens": 100, "stream": true, "stream_options": {"include_usage": true},
                      "messages": [{"role": "user", "content": "hi"}]})
        .to_string();
    call(gateway, key, tail, &body)
}

fn plain_call(gateway: &Gateway, key: &str) -> String {
    call(gateway, key, "", &json!({"model": "m", "max_tokens": 100, "messages": []}).to_string())
}

fn call(gateway: &Gateway, key: &str, tail: &str, body: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\n{tail}content-length: {}\r\n\r\n{body}",
        gateway.address,
        body.len()
    )
}

#[test]
fn the_first_event_arrives_while_the_upstream_still_waits() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let upstream = Upstream::start(move |_, stream| {
        stream.write_all(format!("{STREAM_HEAD}{}", event(1)).as_bytes()).unwrap();
        // Only a client that has the first event lets the rest come.
        released.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        stream.write_all(format!("{}{USAGE}{DONE}", event(2)).as_bytes()).unwrap();
    });
    let gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    let mut socket = Socket::connect(gateway.address);
    socket.send(streamed_call(&gateway, &key, ""));
    assert!(socket.read_until("n0001"));
    assert!(!socket.has("n0002"));
    assert!(gateway.balance(&key).1 > 0, "the hold stands while the answer streams");
    release.send(()).unwrap();
    let answer = socket.answer().unwrap();
    assert!(answer.text().contains("n0002") && answer.text().ends_with(DONE), "{}", answer.text());
    assert_eq!(gateway.settled_balance(&key), 1_000_000_000 - FRIENDLY_COST);
}

#[test]
fn a_client_that_does_not_read_holds_the_upstream_back() {
    const WHOLE: usize = 256 << 20;
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let upstream = Upstream::start(move |_, stream| {
        let _ = stream.write_all(STREAM_HEAD.as_bytes());
        let block = event(7).repeat(1000);
        while count.load(Ordering::SeqCst) < WHOLE && stream.write_all(block.as_bytes()).is_ok() {
            count.fetch_add(block.len(), Ordering::SeqCst);
        }
        let _ = stream.write_all(format!("{USAGE}{DONE}").as_bytes());
    });
    let gateway = Gateway::start(upstream.address, "metering: { on_client_gone: { drain_up_to: 1s } }\n");
    let key = gateway.key("1 TEST");
    let mut socket = Socket::connect(gateway.address);
    socket2::SockRef::from(socket.stream()).set_recv_buffer_size(64 << 10).unwrap();
    socket.send(streamed_call(&gateway, &key, ""));
    assert!(socket.read_until("n0007"));
    let level = || written.load(Ordering::SeqCst);
    // The writer has stopped when it stays where it is.
    let stopped = wait_for("the upstream to be held back", || {
        let before = level();
        std::thread::sleep(Duration::from_millis(300));
        (level() == before).then_some(before)
    });
    // What the sockets' buffers of two hops take, not what the upstream has.
    assert!(stopped < 32 << 20, "{stopped} bytes went on");
    // Reading on lets it go on.
    for _ in 0..1000 {
        assert!(socket.read());
        socket.got.clear();
    }
    wait_for("the upstream to go on", || (level() > stopped).then_some(()));
    drop(socket);
    gateway.settled_balance(&key);
}

#[test]
fn a_thousand_events_come_down_as_they_went_in_however_they_were_cut() {
    let whole: String = (0..1000).map(event).chain([USAGE.to_owned(), DONE.to_owned()]).collect();
    let sent = whole.clone();
    // Primes, so that cuts fall everywhere: in names, in the two bytes of é, between the line ends.
    let sizes = [1usize, 7, 61, 8191];
    let turn = AtomicUsize::new(0);
    let upstream = Kept::start(move |_, stream| {
        let size = sizes[turn.fetch_add(1, Ordering::SeqCst) % sizes.len()];
        let mut framed = CHUNKED_STREAM.as_bytes().to_vec();
        for piece in sent.as_bytes().chunks(size) {
            framed.extend(kept::chunk(piece));
            if framed.len() > 5000 {
                let _ = stream.write_all(&framed);
                framed.clear();
            }
        }
        framed.extend_from_slice(b"0\r\n\r\n");
        let _ = stream.write_all(&framed);
        Then::Keep
    });
    let gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    let mut socket = Socket::connect(gateway.address);
    for size in sizes {
        let before = gateway.settled_balance(&key);
        socket.send(streamed_call(&gateway, &key, ""));
        let answer = socket.answer().unwrap();
        assert_eq!(answer.text(), whole, "pieces of {size}");
        assert_eq!(before - gateway.settled_balance(&key), FRIENDLY_COST, "pieces of {size}");
    }
}

#[test]
fn what_was_charged_comes_in_trailers_to_a_client_that_takes_them() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    let mut socket = Socket::connect(gateway.address);
    socket.send(streamed_call(&gateway, &key, "te: trailers\r\n"));
    let answer = socket.answer().unwrap();
    let trailer =
        |name: &str| answer.trailers.iter().find(|(known, _)| known == name).map(|(_, v)| v.as_str());
    assert_eq!(trailer("farthing-charge"), Some("0.000030000 TEST"), "{:?}", answer.trailers);
    assert_eq!(trailer("farthing-balance"), Some("0.999970000 TEST"));
}

#[test]
fn one_http2_connection_carries_calls_at_once() {
    const CALLS: usize = 8;
    let meeting = Arc::new(std::sync::Barrier::new(CALLS));
    let upstream = Upstream::start(move |request, stream| {
        let _ = stream.write_all(format!("{STREAM_HEAD}{}", event(1)).as_bytes());
        // No call ends before all of them have begun.
        meeting.wait();
        let told: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        let own = event(usize::try_from(told["seed"].as_u64().unwrap()).unwrap());
        let _ = stream.write_all(format!("{own}{USAGE}{DONE}").as_bytes());
    });
    let gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tcp = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp)).await.unwrap();
        let driver = tokio::spawn(connection);
        let calls = (0..CALLS).map(|number| {
            let mut sender = sender.clone();
            let body = json!({"model": "m", "max_tokens": 100, "stream": true, "seed": 100 + number,
                              "stream_options": {"include_usage": true}, "messages": []});
            let request = http::Request::post(format!("http://{}/v1/chat/completions", gateway.address))
                .header("authorization", format!("Bearer {key}"))
                .header("content-type", "application/json")
                .body(Full::new(Bytes::from(body.to_string())))
                .unwrap();
            tokio::spawn(async move {
                let answer = sender.send_request(request).await.unwrap();
                assert_eq!((answer.status().as_u16(), answer.version()), (200, http::Version::HTTP_2));
                let text = answer.into_body().collect().await.unwrap().to_bytes();
                let text = String::from_utf8(text.to_vec()).unwrap();
                assert_eq!(text, format!("{}{}{USAGE}{DONE}", event(1), event(100 + number)));
            })
        });
        for call in calls.collect::<Vec<_>>() {
            tokio::time::timeout(PATIENCE, call).await.unwrap().unwrap();
        }
        drop(sender);
        tokio::time::timeout(PATIENCE, driver).await.unwrap().unwrap().unwrap();
    });
    let calls = i64::try_from(CALLS).unwrap();
    assert_eq!(gateway.settled_balance(&key), 1_000_000_000 - calls * FRIENDLY_COST);
}

/// SEC-20: an HTTP/2 client may keep its connection alive for ever and take nothing. Its call ends all the same.
#[test]
fn sec_20_an_http2_client_that_does_not_read_holds_no_money_for_ever() {
    let upstream = Upstream::start(|_, stream| {
        let text: String = (0..5000).map(event).collect();
        let _ = stream.write_all(format!("{STREAM_HEAD}{text}{USAGE}{DONE}").as_bytes());
    });
    let gateway = Gateway::start(
        upstream.address,
        "server: { listen: [\"{address}\"], threads: 1, timeouts: { write_stall: 1s } }\n",
    );
    let key = gateway.key("1 TEST");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tcp = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
        let mut small = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        small.initial_stream_window_size(1024);
        let (mut sender, connection) = small.handshake(TokioIo::new(tcp)).await.unwrap();
        let driver = tokio::spawn(connection);
        let body = json!({"model": "m", "max_tokens": 100, "stream": true, "messages": []});
        let request = http::Request::post(format!("http://{}/v1/chat/completions", gateway.address))
            .header("x-api-key", &key)
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        // The answer is kept and not read, and the connection answers every ping meanwhile.
        let (settling, key) = (gateway.address, key.clone());
        let settled = tokio::task::spawn_blocking(move || {
            wait_for("the hold to end", || {
                let bearer = format!("Bearer {key}");
                let shown = get(settling, "/farthing/balance", &[("authorization", bearer.as_str())]).json();
                (shown["held"]["amount"] == "0.000000000").then(|| shown["balance"]["amount"].clone())
            })
        });
        assert_eq!(settled.await.unwrap(), "0.999970000");
        assert!(!driver.is_finished());
        drop(answer);
    });
}

#[test]
fn sec_20_a_body_at_the_limit_goes_up_and_one_byte_more_does_not() {
    const LIMIT: usize = 3 << 20;
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(
        upstream.address,
        "server: { listen: [\"{address}\"], threads: 1, limits: { body: 3MiB } }\n",
    );
    let key = gateway.key("1000 TEST");
    let padded = |length: usize| {
        let frame = r#"{"model":"m","max_tokens":10,"messages":[{"role":"user","content":""}]}"#;
        let (start, end) = frame.split_at(frame.len() - 4);
        format!("{start}{}{end}", "x".repeat(length - frame.len()))
    };
    let chunked = |body: &str| {
        let mut request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {key}\r\ntransfer-encoding: chunked\r\n\r\n",
            gateway.address
        )
        .into_bytes();
        for piece in body.as_bytes().chunks(60_000) {
            request.extend(kept::chunk(piece));
        }
        request.extend_from_slice(b"0\r\n\r\n");
        request
    };
    for (length, status) in [(LIMIT, 200), (LIMIT + 1, 413)] {
        for request in [call(&gateway, &key, "", &padded(length)).into_bytes(), chunked(&padded(length))] {
            let before = upstream.hits();
            let mut socket = Socket::connect(gateway.address);
            socket.send(request);
            let answer = socket.answer().unwrap();
            assert_eq!(answer.status, status, "{}", answer.text());
            assert_eq!(upstream.hits() - before, usize::from(status == 200));
            if status == 200 {
                assert_eq!(upstream.seen().last().unwrap().body.len(), length);
            }
        }
    }
    // Declared too large: refused before a byte of it is sent.
    let mut socket = Socket::connect(gateway.address);
    socket.send(
        call(&gateway, &key, "", "").replace("content-length: 0", &format!("content-length: {}", LIMIT + 1)),
    );
    assert_eq!(socket.answer().unwrap().code(), "body_too_large");
}

#[test]
fn many_calls_on_one_connection_use_one_upstream_connection() {
    let upstream = Kept::start(|_, stream| {
        let _ = stream.write_all(&kept::document());
        Then::Keep
    });
    let gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    let mut socket = Socket::connect(gateway.address);
    for _ in 0..200 {
        socket.send(plain_call(&gateway, &key));
        let answer = socket.answer().unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!((upstream.hits(), upstream.connections()), (200, 1));
    assert_eq!(gateway.settled_balance(&key), 1_000_000_000 - 200 * FRIENDLY_COST);
}

#[test]
fn an_upstream_connection_that_went_stale_fails_no_call() {
    let (closed, closes) = mpsc::channel();
    let upstream = Kept::start(move |_, stream| {
        let _ = stream.write_all(&kept::document());
        // Says it goes on, and closes: as a server does whose idle time is up.
        let _ = stream.shutdown(Shutdown::Both);
        closed.send(()).unwrap();
        Then::Close
    });
    let gateway = Gateway::start(upstream.address, "server: { listen: [\"{address}\"], threads: 1 }\n");
    let key = gateway.key("1 TEST");
    for _ in 0..50 {
        let mut socket = Socket::connect(gateway.address);
        socket.send(plain_call(&gateway, &key));
        let answer = socket.answer().unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        closes.recv_timeout(PATIENCE).unwrap();
    }
    assert_eq!((upstream.hits(), upstream.connections()), (50, 50));
    assert_eq!(gateway.settled_balance(&key), 1_000_000_000 - 50 * FRIENDLY_COST);
}

#[test]
fn a_client_that_leaves_before_the_head_still_ends_its_hold() {
    let (arrived, arrival) = mpsc::channel::<()>();
    let (release, released) = mpsc::channel::<()>();
    let shared = Mutex::new((arrived, released));
    let upstream = Upstream::start(move |_, stream| {
        let shared = shared.lock().unwrap();
        shared.0.send(()).unwrap();
        shared.1.recv_timeout(PATIENCE).unwrap();
        let body =
            std::str::from_utf8(&kept::document()).unwrap().split_once("\r\n\r\n").unwrap().1.to_owned();
        let _ = stream.write_all(&plain(200, "application/json", &body));
    });
    let gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    let mut socket = Socket::connect(gateway.address);
    socket.send(plain_call(&gateway, &key));
    arrival.recv_timeout(PATIENCE).unwrap();
    assert!(gateway.balance(&key).1 > 0);
    drop(socket);
    release.send(()).unwrap();
    // The provider did the work and says what it came to: that is the charge.
    assert_eq!(gateway.settled_balance(&key), 1_000_000_000 - FRIENDLY_COST);
}

#[test]
fn a_client_that_leaves_midway_is_charged_what_the_provider_reports() {
    let (left, leaving) = mpsc::channel::<()>();
    let leaving = Mutex::new(leaving);
    let upstream = Upstream::start(move |_, stream| {
        let _ = stream.write_all(format!("{STREAM_HEAD}{}", event(1)).as_bytes());
        leaving.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        let rest: String = (0..100).map(event).collect();
        let _ = stream.write_all(format!("{rest}{USAGE}{DONE}").as_bytes());
    });
    let gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    let mut socket = Socket::connect(gateway.address);
    socket.send(streamed_call(&gateway, &key, ""));
    assert!(socket.read_until("n0001"));
    drop(socket);
    left.send(()).unwrap();
    assert_eq!(gateway.settled_balance(&key), 1_000_000_000 - FRIENDLY_COST);
}

/// UX-11: whoever asks has the bill in a comment, before the event that his SDK stops at; nobody else has it.
#[test]
fn a_stream_ends_with_its_bill_for_whoever_asks() {
    let events = [
        r#"{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"c","content":[],"usage":{"input_tokens":10,"output_tokens":1}}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}}"#,
        r#"{"type":"message_stop"}"#,
    ];
    let event = |event: &&str| {
        let kind = event.split('"').nth(3).unwrap();
        format!("event: {kind}\ndata: {event}\n\n")
    };
    let stream_body: String = events.iter().map(event).collect();
    let whole = stream_body.clone();
    let upstream = Upstream::start(move |_, stream| {
        let _ = stream.write_all(format!("{STREAM_HEAD}{whole}").as_bytes());
    });
    let gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    let body = json!({"model": "c", "max_tokens": 100, "stream": true,
                      "messages": [{"role": "user", "content": "hi"}]});
    let ask = |fields: &[(&str, &str)]| {
        let fields = [&[("x-api-key", key.as_str())], fields].concat();
        farthing_tests::http::post(gateway.address, "/v1/messages", &fields, &body)
    };
    assert_eq!(ask(&[]).text(), stream_body);
    assert_eq!(ask(&[("farthing-stream-receipt", "header")]).text(), stream_body);
    let told = ask(&[("farthing-stream-receipt", "comment")]);
    let text = told.text();
    let (before, end) = text.split_once(": farthing ").unwrap_or_else(|| panic!("{text}"));
    let (bill, end) = end.split_once("\n\n").unwrap();
    assert_eq!(format!("{before}{end}"), stream_body);
    assert!(end.starts_with("event: message_stop\n"), "{end}");
    let receipt = told.must("farthing-receipt");
    assert!(bill.starts_with("charge=0.000030000_TEST balance=0.99"), "{bill}");
    assert!(bill.ends_with(&format!("receipt={receipt}")), "{bill}");
}
