//! Bounds on what one source, one account and one connection may take of a gateway (SEC-13, SEC-20, SEC-45, SEC-47, SEC-48).

use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use farthing_tests::gateway::{Gateway, PATIENCE, nano, wait_for};
use farthing_tests::http;
use farthing_tests::payer::{TEST, Wallet};
use farthing_tests::socket::Socket;
use farthing_tests::upstream::{FRIENDLY_COST, STREAM_HEAD, Upstream, plain};
use serde_json::json;

const WHOLE: i64 = 1_000_000_000;

fn head(gateway: &Gateway, more: &str, length: usize) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n{more}content-length: {length}\r\n\r\n",
        gateway.address
    )
}

fn body() -> String {
    json!({"model": "m", "max_tokens": 100, "messages": []}).to_string()
}

fn call(gateway: &Gateway, more: &str) -> Socket {
    let mut socket = Socket::connect(gateway.address);
    socket.send(head(gateway, more, body().len()) + &body());
    socket
}

#[test]
fn sec_45_unpaid_requests_of_one_source_are_bounded_before_a_byte_of_their_bodies() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "limits: { unpaid: { per_ip: 5/min } }\n");
    let key = gateway.key("1 TEST");
    for _ in 0..5 {
        let offered = call(&gateway, "").answer().unwrap();
        assert_eq!((offered.status, offered.header("cache-control")), (402, Some("no-store")));
        let size: usize = offered.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        assert!(size < 8 << 10, "{size} bytes of header (SEC-13)");
    }
    // The body is announced and never sent: the refusal does not wait for it.
    let mut socket = Socket::connect(gateway.address);
    socket.send(head(&gateway, "", 1000));
    let refused = socket.answer().unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (429, "rate_limited"), "{}", refused.text());
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(refused.json()["money"], "nothing_taken");
    // A foreign bearer is no credential, and who has a good key is not meant.
    assert_eq!(call(&gateway, "authorization: Bearer sk-foreign\r\n").answer().unwrap().status, 429);
    assert_eq!(call(&gateway, &format!("authorization: Bearer {key}\r\n")).answer().unwrap().status, 200);
    assert_eq!(upstream.hits(), 1);
}

/// A stock client asks for the price before each of its payments.
#[test]
fn sec_45_who_pays_may_ask_for_the_next_price() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "limits: { unpaid: { per_ip: 2/min } }\n");
    let wallet = Wallet::new(1);
    for paid in 1..=6 {
        let offered = call(&gateway, "").answer().unwrap();
        assert_eq!(offered.status, 402, "{}", offered.text());
        let payment = wallet.pay(&offered, TEST).v2();
        let answer = call(&gateway, &format!("payment-signature: {payment}\r\n")).answer().unwrap();
        assert_eq!((answer.status, upstream.hits()), (200, paid), "{}", answer.text());
    }
    // One for the last payment, one of the two that everybody has a minute; the first question took the other.
    assert_eq!(call(&gateway, "").answer().unwrap().status, 402);
    assert_eq!(call(&gateway, "").answer().unwrap().status, 402);
    assert_eq!(call(&gateway, "").answer().unwrap().status, 429);
}

#[test]
fn sec_47_a_source_whose_proofs_keep_failing_is_refused_without_looking_at_the_next() {
    let upstream = Upstream::friendly();
    let gateway =
        Gateway::start(upstream.address, "limits: { invalid_proofs: { per_ip: 1/min, burst: 3 } }\n");
    let key = gateway.key("1 TEST");
    let bad = format!("authorization: Bearer {}AAAA\r\n", &key[..key.len() - 4]);
    let mut told = Vec::new();
    for _ in 0..6 {
        let answer = call(&gateway, &bad).answer().unwrap();
        told.push(answer.status);
        if answer.status == 429 {
            assert!(answer.header("retry-after").is_some());
        }
    }
    assert_eq!(told.first(), Some(&401));
    assert_eq!(told.last(), Some(&429), "{told:?}");
    let page = || http::get(gateway.admin, "/metrics", &[]).text();
    let looked = |page: &str| {
        let line = page.lines().find(|line| line.contains(r#"verdict="bad""#)).unwrap().to_owned();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let before = looked(&page());
    assert!((3..=5).contains(&before), "{before}");
    // Not even a good one is verified now: that would be the oracle the budget is there to deny.
    assert_eq!(call(&gateway, &format!("authorization: Bearer {key}\r\n")).answer().unwrap().status, 429);
    assert_eq!(call(&gateway, "payment-signature: e30=\r\n").answer().unwrap().status, 429);
    assert_eq!(looked(&page()), before);
    assert_eq!(upstream.hits(), 0);
}

#[test]
fn sec_48_an_account_has_so_many_calls_a_minute_whichever_key_opens_it() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "limits: { default: { rpm: 4, concurrent: 100 } }\n");
    let made = gateway.operator(&["key", "new", "--credit", "1 TEST"]);
    let account = made["account"].as_str().unwrap();
    let other = gateway.operator(&["key", "new", "--account", account])["key"].as_str().unwrap().to_owned();
    let first = made["key"].as_str().unwrap().to_owned();
    for key in [&first, &other, &first, &other] {
        assert_eq!(call(&gateway, &format!("x-api-key: {key}\r\n")).answer().unwrap().status, 200);
    }
    for key in [&first, &other] {
        let refused = call(&gateway, &format!("x-api-key: {key}\r\n")).answer().unwrap();
        assert_eq!((refused.status, refused.code().as_str()), (429, "rate_limited"));
        assert!(refused.header("retry-after").is_some());
    }
    let stranger = gateway.key("1 TEST");
    assert_eq!(call(&gateway, &format!("x-api-key: {stranger}\r\n")).answer().unwrap().status, 200);
    assert_eq!(upstream.hits(), 5);
    // Asking for the balance counts too: the operator knows it anyway.
    let left = || {
        gateway.operator(&["ledger", "show", "--account", account])["balances"][0]["balance"]["amount"]
            .clone()
    };
    wait_for("four captures", || (nano(&left()) == WHOLE - 4 * FRIENDLY_COST).then_some(()));
}

#[test]
fn sec_48_an_account_has_so_many_calls_at_once() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let upstream = Upstream::start(move |_, stream| {
        released.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        let _ = stream.write_all(&plain(200, "application/json", "{}"));
    });
    let gateway = Gateway::start(upstream.address, "limits: { default: { rpm: 1000, concurrent: 2 } }\n");
    let key = gateway.key("1 TEST");
    let more = format!("x-api-key: {key}\r\n");
    let mut running = [call(&gateway, &more), call(&gateway, &more)];
    wait_for("two calls to run", || (upstream.hits() == 2).then_some(()));
    let refused = call(&gateway, &more).answer().unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (429, "rate_limited"), "{}", refused.text());
    // One for each of them, and one for the call after.
    (0..3).for_each(|_| release.send(()).unwrap());
    for call in &mut running {
        assert_eq!(call.answer().unwrap().status, 200);
    }
    // Their places are free again.
    wait_for("a place", || (call(&gateway, &more).answer().unwrap().status == 200).then_some(()));
    assert_eq!(upstream.hits(), 3);
}

#[test]
fn sec_20_connections_of_one_address_are_bounded_and_come_back() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(
        upstream.address,
        "server: { listen: [\"{address}\"], threads: 1, limits: { per_ip: 8 } }\n",
    );
    let health = format!("GET /farthing/health HTTP/1.1\r\nhost: {}\r\n\r\n", gateway.address);
    let ask = || {
        let mut socket = Socket::connect(gateway.address);
        socket.send(&health);
        let served = socket.answer().is_some();
        (socket, served)
    };
    let mut open: Vec<_> = (0..8).map(|_| ask()).collect();
    assert!(open.iter().all(|(_, served)| *served));
    assert!(!ask().1, "the ninth is closed without an answer");
    open.pop();
    wait_for("the place of a closed connection", || ask().1.then_some(()));
}

/// Short patience with clients.
fn impatient(upstream: &Upstream) -> Gateway {
    Gateway::start(
        upstream.address,
        "server: { listen: [\"{address}\"], threads: 1, limits: { fields: 20, header: 16KiB, uri: 1KiB, credential: 8KiB }, \
         timeouts: { header: 1s, body: 1s, idle: 1s, write_stall: 1s } }\n",
    )
}

#[test]
fn sec_20_who_sends_slowly_is_cut_off() {
    let upstream = Upstream::friendly();
    let gateway = impatient(&upstream);
    let key = gateway.key("1 TEST");
    // A head that never ends, though a byte comes now and then.
    let mut slow = Socket::connect(gateway.address);
    let cut = AtomicUsize::new(0);
    slow.send("GET /farthing/health HTTP/1.1\r\nx-slow: ");
    wait_for("the slow head to be cut", || {
        slow.stream().set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        if !slow.send("y") || slow.closes() {
            return Some(());
        }
        assert!(cut.fetch_add(1, Ordering::Relaxed) < 100, "it may send for ever");
        None
    });
    assert!(slow.got.is_empty() || slow.has(" 408 "));
    // A body that stops.
    let mut slow = Socket::connect(gateway.address);
    slow.send(head(&gateway, &format!("x-api-key: {key}\r\n"), 100) + "{\"model\":");
    let answer = slow.answer().unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (408, "request_timeout"));
    assert!(slow.closes());
    // A connection that says nothing, before a request and after one.
    let mut silent = Socket::connect(gateway.address);
    assert!(silent.closes() && silent.got.is_empty());
    let mut silent = call(&gateway, &format!("x-api-key: {key}\r\n"));
    assert_eq!(silent.answer().unwrap().status, 200);
    assert!(silent.closes() && silent.got.is_empty());
    assert_eq!(gateway.settled_balance(&key), WHOLE - FRIENDLY_COST);
    assert_eq!(upstream.hits(), 1);
}

#[test]
fn a_connection_is_closed_when_idle_after_a_call_that_took_longer_than_a_head_may() {
    let upstream = Upstream::start(|_, stream| {
        std::thread::sleep(Duration::from_millis(1500));
        let _ = stream.write_all(&plain(200, "application/json", "{}"));
    });
    let gateway = impatient(&upstream);
    let key = gateway.key("1 TEST");
    let mut socket = call(&gateway, &format!("x-api-key: {key}\r\n"));
    assert_eq!(socket.answer().unwrap().status, 200);
    assert!(socket.closes());
}

#[test]
fn sec_20_who_stops_reading_is_cut_off_and_the_hold_ends() {
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let upstream = Upstream::start(move |_, stream| {
        let _ = stream.write_all(STREAM_HEAD.as_bytes());
        let block = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"words \"}}]}\n\n".repeat(1000);
        // More than the buffers between take, less than a drain reads.
        while count.load(Ordering::SeqCst) < 64 << 20 && stream.write_all(block.as_bytes()).is_ok() {
            count.fetch_add(block.len(), Ordering::SeqCst);
        }
    });
    let gateway = impatient(&upstream);
    let key = gateway.key("100 TEST");
    let body = json!({"model": "m", "max_tokens": 100, "stream": true, "messages": []}).to_string();
    let mut socket = Socket::connect(gateway.address);
    socket.send(head(&gateway, &format!("x-api-key: {key}\r\n"), body.len()) + &body);
    assert!(socket.read_until("words"));
    let page = || http::get(gateway.admin, "/metrics", &[]).text();
    wait_for("the stalled client to be dropped", || page().contains("farthing_connections 0").then_some(()));
    assert!(gateway.settled_balance(&key) < 100 * WHOLE);
    drop(socket);
}

#[test]
fn sec_20_each_bound_of_a_head_lets_its_last_through_and_one_more_not() {
    let upstream = Upstream::friendly();
    let gateway = impatient(&upstream);
    let ask = |target: &str, fields: &str| {
        let mut socket = Socket::connect(gateway.address);
        socket.send(format!("GET {target} HTTP/1.1\r\nhost: {}\r\n{fields}\r\n", gateway.address));
        let answer = socket.answer().unwrap();
        (answer.status, answer)
    };
    let fields = |count: usize| "x-a: y\r\n".repeat(count);
    let long = |length: usize| format!("/farthing/health?{}", "q".repeat(length - "/farthing/health?".len()));
    let key = |length: usize| format!("x-api-key: {}\r\n", "k".repeat(length));
    let section = |bytes: usize| {
        let rest = format!("GET /farthing/health HTTP/1.1\r\nhost: {}\r\nx-a: \r\n\r\n", gateway.address);
        format!("x-a: {}\r\n", "y".repeat(bytes - rest.len()))
    };
    for (what, target, fields, status) in [
        ("fields", "/farthing/health".to_owned(), fields(19), 200),
        ("fields", "/farthing/health".to_owned(), fields(20), 431),
        ("target", long(1024), String::new(), 200),
        ("target", long(1025), String::new(), 414),
        ("credential", "/farthing/health".to_owned(), key(8192), 200),
        ("credential", "/farthing/health".to_owned(), key(8193), 431),
        ("section", "/farthing/health".to_owned(), section(16 << 10), 200),
        ("section", "/farthing/health".to_owned(), section((16 << 10) + 1), 431),
    ] {
        let (got, answer) = ask(&target, &fields);
        assert_eq!(got, status, "{what}: {}", answer.text());
    }
    assert_eq!(upstream.hits(), 0);
}
