//! Requests that arrive twice are charged once: named by `Idempotency-Key` (LED-24, MTR-39), or repeated by an
//! SDK on its own (MTR-40, MTR-41); in parallel, after a kill, for keys and for payments.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use farthing_tests::crowd::at_once;
use farthing_tests::gateway::{Gateway, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::payer::{TEST, Wallet};
use farthing_tests::refused::assert_refused;
use farthing_tests::upstream::{FRIENDLY_COST, Upstream, friendly_answer, plain};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const FUNDS: i64 = 1_000_000_000;

fn ask(text: &str) -> Value {
    json!({"model": "m", "max_tokens": 1000, "messages": [{"role": "user", "content": text}]})
}

fn streamed(text: &str) -> Value {
    let mut body = ask(text);
    body["stream"] = json!(true);
    body
}

/// A gateway before a friendly upstream, and a funded key.
struct Scene {
    upstream: Upstream,
    gateway: Gateway,
    key: String,
}

impl Scene {
    fn new() -> Self {
        Self::before(Upstream::friendly(), "")
    }

    fn before(upstream: Upstream, more: &str) -> Self {
        let gateway = Gateway::start(upstream.address, more);
        let key = gateway.key("1 TEST");
        Self { upstream, gateway, key }
    }

    /// Calls with the key, and another header.
    fn call(&self, header: (&str, &str), body: &Value) -> Answer {
        self.call_at(CHAT, header, body)
    }

    fn call_at(&self, target: &str, header: (&str, &str), body: &Value) -> Answer {
        http::post(self.gateway.address, target, &[("x-api-key", &self.key), header], body)
    }

    /// Calls until the call before has been written down.
    fn call_again(&self, header: (&str, &str), body: &Value) -> Answer {
        wait_for("the first call to be written down", || {
            let answer = self.call(header, body);
            (answer.refusal() != "in_progress").then_some(answer)
        })
    }

    /// So many calls were made and charged, and no more.
    #[track_caller]
    fn assert_charged(&self, calls: usize) {
        assert_eq!(self.upstream.hits(), calls);
        let cost = FRIENDLY_COST * i64::try_from(calls).unwrap();
        assert_eq!(self.gateway.settled_balance(&self.key), FUNDS - cost);
        assert_eq!(self.gateway.books_after(calls).count("capture"), calls);
    }
}

#[track_caller]
fn assert_replayed(again: &Answer, first: &Answer) {
    assert_eq!((again.status, again.header("farthing-replayed")), (200, Some("true")), "{}", again.text());
    assert_eq!(again.body, first.body);
    for name in ["farthing-receipt", "farthing-price", "content-type", "payment-response"] {
        assert_eq!(again.header(name), first.header(name), "{name}");
    }
    assert_eq!(again.header("farthing-key"), None);
}

#[track_caller]
fn assert_already_served(again: &Answer, first: &Answer) {
    assert_refused(again, 409, "already_served", "captured");
    assert_eq!(again.must("farthing-receipt"), first.must("farthing-receipt"));
    assert_eq!(again.header("farthing-price"), first.header("farthing-price"));
    // The stock SDKs repeat a conflict on their own, which here would never end otherwise.
    assert_eq!(again.header("x-should-retry"), Some("false"));
}

/// Document and stream: the same key and the same request get the same answer, and are charged once.
#[test]
fn the_same_key_gets_the_same_answer() {
    let scene = Scene::new();
    for (place, body) in [ask("hi"), streamed("hi")].iter().enumerate() {
        let name = format!("key-{place}");
        let header = ("idempotency-key", name.as_str());
        let first = scene.call(header, body);
        assert_eq!((first.status, first.header("farthing-replayed")), (200, None), "{}", first.text());
        for _ in 0..3 {
            assert_replayed(&scene.call_again(header, body), &first);
        }
        scene.assert_charged(place + 1);
    }
    // Another key is another call, and so is none.
    assert_eq!(scene.call(("idempotency-key", "other"), &ask("hi")).header("farthing-replayed"), None);
    assert_eq!(scene.call(("x-other", "1"), &ask("hi")).header("farthing-replayed"), None);
    scene.assert_charged(4);
    // What it is, is ours to know.
    let seen = scene.upstream.seen();
    assert!(seen.iter().all(|seen| seen.header("idempotency-key").is_none()), "SEC-9");
}

#[test]
fn another_request_under_a_used_key_is_refused() {
    let scene = Scene::new();
    let header = ("idempotency-key", "k");
    let first = scene.call(header, &ask("hi"));
    assert_eq!(first.status, 200, "{}", first.text());
    let mismatch = |answer: &Answer| assert_refused(answer, 422, "idempotency_mismatch", "nothing_taken");
    mismatch(&scene.call_again(header, &ask("ho")));
    mismatch(&scene.call_at(&format!("{CHAT}?a=b"), header, &ask("hi")));
    let responses = json!({"model": "m", "max_output_tokens": 1000, "input": "hi"});
    mismatch(&scene.call_at("/v1/responses", header, &responses));
    assert_replayed(&scene.call(header, &ask("hi")), &first);
    scene.assert_charged(1);
}

/// Whoever pays from another account has another key, though it reads the same.
#[test]
fn a_key_is_the_payers_own() {
    let scene = Scene::new();
    let header = ("idempotency-key", "1");
    let first = scene.call(header, &ask("hi"));
    assert_replayed(&scene.call_again(header, &ask("hi")), &first);
    let stranger = scene.gateway.key("1 TEST");
    for body in [ask("hi"), ask("something else")] {
        let fields = [("x-api-key", stranger.as_str()), header];
        let theirs = wait_for("the call", || {
            let answer = http::post(scene.gateway.address, CHAT, &fields, &body);
            (answer.refusal() != "in_progress").then_some(answer)
        });
        if body == ask("hi") {
            assert_eq!((theirs.status, theirs.header("farthing-replayed")), (200, None));
            assert_ne!(theirs.must("farthing-receipt"), first.must("farthing-receipt"));
        } else {
            assert_refused(&theirs, 422, "idempotency_mismatch", "nothing_taken");
        }
    }
    let payment = Wallet::new(1).pay(&http::post(scene.gateway.address, CHAT, &[], &ask("hi")), TEST);
    let fields = [("payment-signature", payment.v2())];
    let fields = [(fields[0].0, fields[0].1.as_str()), header];
    let paid = http::post(scene.gateway.address, CHAT, &fields, &ask("hi"));
    assert_eq!((paid.status, paid.header("farthing-replayed")), (200, None), "{}", paid.text());
    assert_eq!(scene.upstream.hits(), 3);
}

/// 64 at once with one key: one call, one charge; the others wait or get its answer.
#[test]
fn sixty_four_at_once_are_one_call() {
    let slow = Upstream::start(|request, stream| {
        thread::sleep(Duration::from_millis(300));
        let _ = stream.write_all(&friendly_answer(request));
    });
    let scene = Scene::before(slow, "");
    let bodies = [ask("hi"), ask("ho")];
    let answers = at_once(64, |_| scene.call(("idempotency-key", "k"), &bodies[0]));
    let mut fresh = 0;
    for answer in &answers {
        if answer.status == 200 {
            fresh += usize::from(answer.header("farthing-replayed").is_none());
        } else {
            assert_refused(answer, 409, "in_progress", "first_attempt_decides");
            assert_eq!(answer.header("retry-after"), Some("1"));
        }
    }
    assert_eq!(fresh, 1);
    assert!(scene.call_again(("idempotency-key", "k"), &bodies[0]).header("farthing-replayed").is_some());
    scene.assert_charged(1);
    // Two requests fight for one key: one of them gets it, whichever it is.
    let answers = at_once(64, |at| scene.call(("idempotency-key", "l"), &bodies[at % 2]));
    let winner = answers.iter().position(|answer| answer.status == 200).unwrap() % 2;
    for (at, answer) in answers.iter().enumerate() {
        match (answer.status, at % 2 == winner) {
            (200, true) => {}
            (_, true) => assert_refused(answer, 409, "in_progress", "first_attempt_decides"),
            (_, false) => assert_refused(answer, 422, "idempotency_mismatch", "nothing_taken"),
        }
    }
    scene.call_again(("idempotency-key", "l"), &bodies[winner]);
    scene.assert_charged(2);
}

/// What was refused, or failed before it cost anything, is not remembered: the same key runs afterwards.
#[test]
fn what_cost_nothing_may_run_again() {
    static FAILS: AtomicUsize = AtomicUsize::new(3);
    let upstream = Upstream::start(|request, stream| {
        match FAILS.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
            Ok(3) => {}
            Ok(2) => drop(stream.write_all(&plain(500, "application/json", "{\"error\":{}}"))),
            Ok(_) => drop(stream.write_all(&plain(429, "application/json", "{\"error\":{}}"))),
            Err(_) => drop(stream.write_all(&friendly_answer(request))),
        }
    });
    let scene = Scene::before(upstream, "");
    let header = ("idempotency-key", "k");
    let unpaid = http::post(scene.gateway.address, CHAT, &[header], &ask("hi"));
    assert_refused(&unpaid, 402, "payment_required", "nothing_taken");
    let unknown = http::post(scene.gateway.address, CHAT, &[("x-api-key", "fk_test_A"), header], &ask("hi"));
    assert_refused(&unknown, 401, "key_unknown", "nothing_taken");
    assert_refused(&scene.call(header, &json!({"model": 1})), 400, "bad_body", "nothing_taken");
    let poor = scene.gateway.operator(&["key", "new"])["key"].as_str().unwrap().to_owned();
    let short = http::post(scene.gateway.address, CHAT, &[("x-api-key", &poor), header], &ask("hi"));
    assert_refused(&short, 402, "insufficient_balance", "nothing_taken");
    for status in [502, 500, 429] {
        let failed = scene.call(header, &ask("hi"));
        assert_eq!(failed.status, status, "{}", failed.text());
    }
    let first = scene.call(header, &ask("hi"));
    assert_eq!((first.status, first.header("farthing-replayed")), (200, None), "{}", first.text());
    assert_replayed(&scene.call_again(header, &ask("hi")), &first);
    assert_eq!(scene.gateway.settled_balance(&scene.key), FUNDS - FRIENDLY_COST);
    assert_eq!(scene.upstream.hits(), 4);
}

#[test]
fn a_key_that_is_none_is_refused() {
    let scene = Scene::new();
    let long = "k".repeat(256);
    for bad in ["", "a b", "k\u{e9}", long.as_str()] {
        assert_refused(
            &scene.call(("idempotency-key", bad), &ask("hi")),
            400,
            "bad_request",
            "nothing_taken",
        );
    }
    let twice = [("x-api-key", scene.key.as_str()), ("idempotency-key", "a"), ("idempotency-key", "a")];
    assert_eq!(http::post(scene.gateway.address, CHAT, &twice, &ask("hi")).status, 400);
    assert_eq!(scene.upstream.hits(), 0);
    assert_eq!(scene.call(("idempotency-key", &long[1..]), &ask("hi")).status, 200);
}

/// Killed after the answer: the outcome is on disk with the charge, or neither is. Never a prompt, an answer
/// or the key itself.
#[test]
fn a_kill_after_the_answer_charges_once() {
    let mut scene = Scene::new();
    let header = ("idempotency-key", "canary-of-a-key");
    let first = scene.call(header, &ask("hi"));
    assert_eq!(first.status, 200, "{}", first.text());
    // The charge is on disk.
    scene.gateway.books_after(1);
    for _ in 0..2 {
        scene.gateway.crash_and_restart();
        assert_already_served(&scene.call(header, &ask("hi")), &first);
        assert_refused(&scene.call(header, &ask("ho")), 422, "idempotency_mismatch", "nothing_taken");
    }
    scene.assert_charged(1);
    scene.gateway.signal(15);
    scene.gateway.wait();
    let file = scene.gateway.store_file();
    for canary in ["canary-of-a-key", "five words are said here", "\"hi\""] {
        assert!(!file.contains(canary), "{canary} is on disk");
    }
}

/// Asks under a key until the end of the call is told: its answer, or that there was one.
fn ask_until_ended(address: SocketAddr, key: &str, name: &str) {
    let body = ask(name).to_string();
    let fields = [("x-api-key", key), ("idempotency-key", name), ("content-type", "application/json")];
    wait_for("an end of the call", || {
        let Some(answer) = http::try_request(address, "POST", CHAT, &fields, body.as_bytes()) else {
            thread::sleep(Duration::from_millis(2));
            return None;
        };
        match (answer.status, answer.refusal().as_str()) {
            (200, _) | (409, "already_served") => Some(()),
            (_, "in_progress" | "draining") => None,
            _ => panic!("{} {}", answer.status, answer.text()),
        }
    });
}

/// Killed at any moment of a call, many times over. Whoever asks again under his key until he is told the
/// end is charged exactly once, whatever was lost.
#[test]
fn kills_at_any_moment_charge_each_key_once() {
    const KILLS: u64 = 12;
    let upstream = Upstream::start(|request, stream| {
        thread::sleep(Duration::from_millis(5));
        let _ = stream.write_all(&friendly_answer(request));
    });
    let mut scene = Scene::before(upstream, "");
    let (address, key) = (scene.gateway.address, scene.key.clone());
    let (stop, told) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for caller in 0..4 {
            let (stop, told, key) = (&stop, &told, &key);
            scope.spawn(move || {
                for round in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let name = format!("caller-{caller}-{round}");
                    ask_until_ended(address, key, &name);
                    told.lock().unwrap().push(name);
                }
            });
        }
        let _stop = StopAtEnd(&stop);
        let mut ended = 0;
        for kill in 0..KILLS {
            ended = wait_for("a call to end since the last kill", || {
                let now = told.lock().unwrap().len();
                (now > ended).then_some(now)
            });
            thread::sleep(Duration::from_millis(20 + kill * 7 % 30));
            scene.gateway.crash_and_restart();
        }
    });
    let told = told.into_inner().unwrap();
    for name in &told {
        ask_until_ended(address, &key, name);
    }
    let cost = FRIENDLY_COST * i64::try_from(told.len()).unwrap();
    assert_eq!(scene.gateway.settled_balance(&key), FUNDS - cost, "{} keys", told.len());
    assert_eq!(scene.gateway.books_after(told.len()).count("capture"), told.len());
}

/// Ends the clients, also when the test fails.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The body is kept in memory up to a size; beyond it the receipt is what is left.
#[test]
fn a_large_answer_is_not_kept() {
    let scene = Scene::before(Upstream::friendly(), "metering: { dedupe: { max_body: 64B } }\n");
    let calls = [
        (("idempotency-key", "k"), ask("hi")),
        (("idempotency-key", "l"), streamed("hi")),
        (("x-stainless-retry-count", "1"), ask("ho")),
    ];
    for (place, (header, body)) in calls.iter().enumerate() {
        let first = scene.call(*header, body);
        assert_eq!((first.status, first.header("farthing-replayed")), (200, None), "{}", first.text());
        scene.gateway.books_after(place + 1);
        assert_already_served(&scene.call_again(*header, body), &first);
    }
    scene.assert_charged(3);
}

#[test]
fn a_key_is_free_again_when_its_time_is_over() {
    let scene = Scene::before(Upstream::friendly(), "metering: { dedupe: { idempotency_key: 5s } }\n");
    let header = ("idempotency-key", "k");
    let first = scene.call(header, &ask("hi"));
    assert_replayed(&scene.call_again(header, &ask("hi")), &first);
    let second = wait_for("the key to be free", || {
        let answer = scene.call(header, &ask("ho"));
        (answer.status == 200).then_some(answer)
    });
    assert_eq!(second.header("farthing-replayed"), None);
    scene.assert_charged(2);
}

/// Nothing is taken for it, so nothing is remembered of it.
#[test]
fn a_free_route_remembers_nothing() {
    let routes = "routes: [{ match: { method: POST, path: \"/free\" }, upstream: openai, price: free }]\n";
    let scene = Scene::before(Upstream::friendly(), routes);
    for _ in 0..2 {
        let answer = scene.call_at("/free", ("idempotency-key", "k"), &ask("hi"));
        assert_eq!((answer.status, answer.header("farthing-replayed")), (200, None), "{}", answer.text());
    }
    assert_eq!(scene.upstream.hits(), 2);
}

/// A client that lost its answer and pays anew under the same key is not paid from twice.
#[test]
fn a_second_payment_for_one_key_is_not_taken() {
    let scene = Scene::new();
    let address = scene.gateway.address;
    let new_payment = || Wallet::new(1).pay(&http::post(address, CHAT, &[], &ask("hi")), TEST);
    let pay = |payment: &str, name: &str, body: &Value| {
        let fields = [("payment-signature", payment), ("idempotency-key", name)];
        wait_for("the call before to be written down", || {
            let answer = http::post(address, CHAT, &fields, body);
            (answer.refusal() != "in_progress").then_some(answer)
        })
    };
    let payment = new_payment();
    let first = pay(&payment.v2(), "k", &ask("hi"));
    assert_eq!(first.status, 200, "{}", first.text());
    assert_replayed(&pay(&payment.v2(), "k", &ask("hi")), &first);
    // A fresh payment is left alone, and can be used for something else.
    let second = new_payment();
    assert_replayed(&pay(&second.v2(), "k", &ask("hi")), &first);
    // Bound to nothing, it only proves who signed it.
    let fields = [("x-payment", second.v1()), ("idempotency-key", "k".to_owned())];
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_already_served(&http::post(address, CHAT, &fields, &ask("hi")), &first);
    assert_eq!(scene.gateway.books().count("deposit"), 2, "the key's credit, and one payment");
    let used = pay(&second.v2(), "l", &ask("hi"));
    assert_eq!((used.status, used.header("farthing-replayed")), (200, None), "{}", used.text());
    // Whoever copied the proof does not reach what else its payer has done.
    let copied = pay(&payment.v2(), "l", &ask("ho"));
    assert_refused(&copied, 403, "verification_failed", "nothing_taken");
    let beside = [("payment-signature", payment.v2()), ("x-api-key", scene.key.clone())];
    let beside: Vec<_> = beside.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let copied = http::post(address, CHAT, &beside, &ask("hi"));
    assert_refused(&copied, 403, "verification_failed", "nothing_taken");
    let books = scene.gateway.books_after(2);
    assert_eq!((books.count("deposit"), books.count("capture"), scene.upstream.hits()), (3, 2, 2));
}

/// MTR-40: the second try of an SDK gets the answer of the first; a plain repeat is a new call.
#[test]
fn an_sdk_retry_is_charged_once() {
    for first_says in [("x-stainless-retry-count", "0"), ("x-other", "an SDK of another make")] {
        let scene = Scene::new();
        let body = ask("hi");
        let first = scene.call(first_says, &body);
        assert_eq!(first.status, 200, "{}", first.text());
        for count in ["1", "2"] {
            assert_replayed(&scene.call_again(("x-stainless-retry-count", count), &body), &first);
        }
        scene.assert_charged(1);
        // Sampling is not idempotent: the same bytes again, said for the first time, are another call.
        let plain = scene.call(first_says, &body);
        assert_eq!((plain.status, plain.header("farthing-replayed")), (200, None));
        // Another body, another account: nothing to repeat.
        let other = scene.call(("x-stainless-retry-count", "1"), &ask("ho"));
        assert_eq!((other.status, other.header("farthing-replayed")), (200, None));
        scene.assert_charged(3);
        let stranger = scene.gateway.key("1 TEST");
        let fields = [("x-api-key", stranger.as_str()), ("x-stainless-retry-count", "1")];
        let theirs = http::post(scene.gateway.address, CHAT, &fields, &body);
        assert_eq!((theirs.status, theirs.header("farthing-replayed")), (200, None));
    }
}

/// The client gives up waiting, its SDK tries again: told to come back while the first runs, then its answer.
#[test]
fn an_sdk_retry_waits_for_the_attempt_that_runs() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let upstream = Upstream::start(move |request, stream| {
        let _ = released.lock().unwrap().recv_timeout(farthing_tests::gateway::PATIENCE);
        let _ = stream.write_all(&friendly_answer(request));
    });
    let scene = Scene::before(upstream, "");
    let body = ask("hi");
    let text = body.to_string();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: {}\r\nx-api-key: {}\r\nx-stainless-retry-count: 0\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
        scene.gateway.address,
        scene.key,
        text.len()
    );
    let mut gone = std::net::TcpStream::connect(scene.gateway.address).unwrap();
    gone.write_all(head.as_bytes()).unwrap();
    wait_for("the call to reach the upstream", || (scene.upstream.hits() == 1).then_some(()));
    drop(gone);
    let retry = ("x-stainless-retry-count", "1");
    for _ in 0..3 {
        let waits = scene.call(retry, &body);
        assert_refused(&waits, 409, "in_progress", "first_attempt_decides");
        assert_eq!(waits.header("retry-after"), Some("1"));
        assert_eq!(waits.header("x-should-retry"), None);
    }
    release.send(()).unwrap();
    let answer = scene.call_again(retry, &body);
    assert_eq!((answer.status, answer.header("farthing-replayed")), (200, Some("true")), "{}", answer.text());
    assert!(answer.text().contains("five words are said here"));
    scene.assert_charged(1);
}

/// MTR-40: what was not charged runs again, and every try is one hold.
#[test]
fn an_sdk_retry_of_what_failed_runs() {
    static TRIES: AtomicUsize = AtomicUsize::new(0);
    let upstream = Upstream::start(|request, stream| {
        if TRIES.fetch_add(1, Ordering::SeqCst) < 2 {
            let _ = stream.write_all(&plain(500, "application/json", "{\"error\":{}}"));
        } else {
            let _ = stream.write_all(&friendly_answer(request));
        }
    });
    let scene = Scene::before(upstream, "");
    for (count, status) in [("0", 500), ("1", 500), ("2", 200)] {
        let answer = scene.call(("x-stainless-retry-count", count), &ask("hi"));
        assert_eq!((answer.status, answer.header("farthing-replayed")), (status, None), "{count}");
    }
    assert_eq!(scene.gateway.settled_balance(&scene.key), FUNDS - FRIENDLY_COST);
}

/// Several samples of one request at once are several calls; the retry of one that failed is not answered
/// with the sample of another.
#[test]
fn parallel_samples_are_calls_of_their_own() {
    static FAIL_ONE: AtomicBool = AtomicBool::new(true);
    let upstream = Upstream::start(|request, stream| {
        if FAIL_ONE.swap(false, Ordering::SeqCst) {
            let _ = stream.write_all(&plain(500, "application/json", "{\"error\":{}}"));
        } else {
            let _ = stream.write_all(&friendly_answer(request));
        }
    });
    let scene = Scene::before(upstream, "");
    let answers = at_once(8, |_| scene.call(("x-stainless-retry-count", "0"), &ask("hi")));
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 7);
    let retry = scene.call(("x-stainless-retry-count", "1"), &ask("hi"));
    assert_eq!((retry.status, retry.header("farthing-replayed")), (200, None), "{}", retry.text());
    let again = scene.call_again(("x-stainless-retry-count", "1"), &ask("hi"));
    assert_eq!(again.header("farthing-replayed"), Some("true"), "nothing is left to be repeated");
    assert_eq!(scene.gateway.settled_balance(&scene.key), FUNDS - 8 * FRIENDLY_COST);
}

/// The gateway is killed after the answer: the SDK sees a broken connection and tries again.
#[test]
fn an_sdk_retry_after_a_kill_is_charged_once() {
    let mut scene = Scene::new();
    let first = scene.call(("x-stainless-retry-count", "0"), &ask("hi"));
    assert_eq!(first.status, 200, "{}", first.text());
    scene.gateway.books_after(1);
    scene.gateway.crash_and_restart();
    for count in ["1", "2"] {
        let again = scene.call(("x-stainless-retry-count", count), &ask("hi"));
        assert_refused(&again, 409, "already_served", "captured");
        assert_eq!(again.must("farthing-receipt"), first.must("farthing-receipt"));
        assert_eq!(again.header("x-should-retry"), Some("false"));
    }
    scene.assert_charged(1);
}

/// An SDK behind a wallet that pays each try anew: the second payment is left alone.
#[test]
fn an_sdk_retry_with_a_new_payment_is_not_taken() {
    let scene = Scene::new();
    let address = scene.gateway.address;
    let pay = |count: &str| {
        wait_for("the call before to be written down", || {
            let payment = Wallet::new(1).pay(&http::post(address, CHAT, &[], &ask("hi")), TEST).v2();
            let fields = [("payment-signature", payment.as_str()), ("x-stainless-retry-count", count)];
            let answer = http::post(address, CHAT, &fields, &ask("hi"));
            (answer.refusal() != "in_progress").then_some(answer)
        })
    };
    let first = pay("0");
    assert_eq!(first.status, 200, "{}", first.text());
    assert_replayed(&pay("1"), &first);
    let books = scene.gateway.books_after(1);
    assert_eq!((books.count("deposit"), books.count("capture"), scene.upstream.hits()), (2, 1, 1));
}
