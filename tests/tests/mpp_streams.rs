//! A stream of a session that is used up waits for its payer, and goes on where it stopped (ENG-8, ENG-9).
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use farthing_tests::gateway::{Gateway, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::lightning_session::{Session, call};
use farthing_tests::mpp::{receipt, with_rules};
use farthing_tests::paying_node::{Does, MACAROON, PayingNode};
use farthing_tests::scene::{CHAT, ask};
use farthing_tests::socket::{Socket, find};
use farthing_tests::upstream::{FRIENDLY_COST, STREAM_HEAD, Upstream};
use serde_json::{Value, json};

/// Sixteen tokens at a time: many steps for a satoshi.
const SMALL_STEPS: &str = "metering: { hold: { step: 16, default_output: 16, min_output: 4 } }\n";
/// Ten tokens of text, as a hold counts them.
const TEN_TOKENS: &str = "0123456789012345678901234567890123456789";
/// Nano of a token of input, and of output.
const INPUT: i64 = 1_000;
const OUTPUT: i64 = 4_000;
/// What one deposit is: a satoshi, which is worth so much.
const SAT: i64 = 1_000_000;
/// Events of a long answer, which costs more than four satoshi.
const EVENTS: usize = 100;
/// Tokens of input that its provider reports.
const REPORTED_INPUT: i64 = 10;

const NEED: &str = "event: payment-need-topup\n";

fn event(at: usize) -> String {
    format!(
        "data: {{\"id\":\"c-1\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{TEN_TOKENS}\"}}}}],\"at\":{at}}}\n\n"
    )
}

fn usage(events: usize) -> String {
    let (input, output) = (REPORTED_INPUT, events * 10);
    let usage = json!({"choices": [], "usage": {"prompt_tokens": input, "completion_tokens": output, "total_tokens": input}});
    format!("data: {usage}\n\ndata: [DONE]\n\n")
}

/// A request for a stream without a limit.
fn stream() -> Value {
    json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "go on and on"}]})
}

/// Answers streams of a session with `EVENTS` events, whatever is read of them, and everything else as usual.
struct Scene {
    upstream: Upstream,
    _node: PayingNode,
    gateway: Gateway,
    /// Streams whose connection has ended.
    ended: Arc<AtomicUsize>,
}

impl Scene {
    fn new(sessions: &str) -> Self {
        Self::of(sessions, EVENTS, 1)
    }

    /// Says nothing before so many streams were asked for.
    fn of(sessions: &str, events: usize, together: usize) -> Self {
        let said = (0..events).map(event).collect::<String>() + &usage(events);
        let asked = Barrier::new(together);
        let ended = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&ended);
        let upstream = Upstream::start(move |seen, stream| {
            let request: Value = serde_json::from_slice(&seen.body).unwrap();
            if request["stream"] != true {
                let _ = stream.write_all(&farthing_tests::upstream::friendly_answer(seen));
                return;
            }
            let _ = stream.write_all(STREAM_HEAD.as_bytes());
            asked.wait();
            let sent = stream.write_all(said.as_bytes());
            let _ = stream.shutdown(std::net::Shutdown::Write);
            // Until the gateway lets go of it.
            if sent.is_ok() {
                let _ = stream.read(&mut [0; 64]);
            }
            count.fetch_add(1, Ordering::SeqCst);
        });
        Self::before(upstream, ended, sessions)
    }

    fn before(upstream: Upstream, ended: Arc<AtomicUsize>, sessions: &str) -> Self {
        let node = PayingNode::start([Does::Pays(0), Does::Pays(0)]);
        let bounds = "max: 1 USD, per_day: 10 USD, min: 0.000000001 USD, fee_max: 0%";
        let rails = node.rails(bounds).replace("deposit: 0.05 USD", "deposit: 0.000000001 USD");
        let rails = with_rules(&rails, &format!("{{ sessions: {{ {sessions} }} }}"));
        let more = format!("{SMALL_STEPS}{rails}");
        let gateway = Gateway::start_in(upstream.address, &more, &[("LND_MACAROON", MACAROON)]);
        Self { upstream, _node: node, gateway, ended }
    }

    /// Opens a session by a stream, whose answer is read as it comes.
    fn open(&self) -> (Session, Socket) {
        let mut session = Session::pay(&self.gateway, &stream());
        assert_eq!(session.deposit_sats, 1);
        let mut socket = self.begin(&session.open());
        assert!(socket.read_until("\r\n\r\n"));
        let head = String::from_utf8_lossy(&socket.got).into_owned();
        let key = head.lines().find_map(|line| line.strip_prefix("farthing-key: "));
        session.key = key.unwrap_or_else(|| panic!("no key in {head}")).to_owned();
        (session, socket)
    }

    fn begin(&self, authorization: &str) -> Socket {
        let mut socket = Socket::connect(self.gateway.address);
        let headers = [("authorization", authorization)];
        socket.send(http::posted(self.gateway.address, CHAT, &headers, &stream()));
        socket
    }

    fn balance(&self, session: &Session) -> (i64, i64) {
        self.gateway.balance(&session.key)
    }
}

fn count(socket: &Socket, text: &str) -> usize {
    String::from_utf8_lossy(&socket.got).matches(text).count()
}

/// The events of ours in an answer, by name, and what is left without them.
fn parted(text: &str) -> (Vec<(String, Value)>, String) {
    let (mut ours, mut rest) = (Vec::new(), String::new());
    for block in text.split_inclusive("\n\n") {
        let name = block.strip_prefix("event: ").and_then(|block| block.split_once('\n'));
        match name.filter(|(name, _)| name.starts_with("payment-") || *name == "session-timeout") {
            Some((name, data)) => {
                let data = data.strip_prefix("data: ").unwrap().trim_end();
                ours.push((name.to_owned(), serde_json::from_str(data).unwrap()));
            }
            None => rest.push_str(block),
        }
    }
    (ours, rest)
}

fn named<'e>(ours: &'e [(String, Value)], name: &str) -> Vec<&'e Value> {
    ours.iter().filter(|(known, _)| known == name).map(|(_, data)| data).collect()
}

/// Reads a stream to its end, topping up whenever it asks; so often it has asked before. The answer, and satoshis that
/// were added.
fn topped_up(scene: &Scene, session: &Session, socket: &mut Socket, known: usize) -> (Answer, u64) {
    let (mut seen, mut added) = (known, 0);
    while !socket.has("data: [DONE]") {
        // It may have come together with what was read before.
        if seen == count(socket, NEED) {
            assert!(socket.read(), "the stream ended: {}", String::from_utf8_lossy(&socket.got));
            continue;
        }
        seen += 1;
        let (sats, told) = session.top_up(&scene.gateway, &stream());
        assert_eq!((told.status, told.text().as_str()), (200, r#"{"status":"ok"}"#));
        added += sats;
    }
    (socket.answer().unwrap(), added)
}

/// The bytes are those of a payer who is never asked, and the money is what the provider reported.
#[test]
fn eng_8_a_stream_waits_for_a_top_up_and_loses_nothing() {
    let scene = Scene::new("grace: 60s");
    let key = scene.gateway.key("1 TEST");
    let bearer = format!("Bearer {key}");
    let unpaused = http::post(scene.gateway.address, CHAT, &[("authorization", &bearer)], &stream());
    let (none, unpaused) = parted(&unpaused.text());
    assert!(none.is_empty() && unpaused.ends_with("data: [DONE]\n\n"), "no events of ours without a session");

    let (session, mut socket) = scene.open();
    let (answer, added) = topped_up(&scene, &session, &mut socket, 0);
    assert_eq!(answer.status, 200);
    let head = receipt(&answer).unwrap();
    assert_eq!((head.method.as_str(), head.reference.as_str()), ("lightning", session.id.as_str()));
    assert_eq!(head.challenge_id.as_deref(), Some(&*session.challenge.id));
    let (ours, rest) = parted(&answer.text());
    assert_eq!(rest, unpaused, "nothing is lost, nothing comes twice");

    let cost = REPORTED_INPUT * INPUT + 10 * OUTPUT * i64::try_from(EVENTS).unwrap();
    let deposited = SAT * i64::try_from(session.deposit_sats + added).unwrap();
    assert_eq!(scene.balance(&session), (deposited - cost, 0), "priced by the report, not by the event");
    let needs = named(&ours, "payment-need-topup");
    assert!(needs.len() >= 3 && needs.len() as u64 == added, "asked once for each: {ours:?}");
    let mut spent = 0;
    for need in &needs {
        assert_eq!(need["sessionId"], session.id.as_str());
        assert_eq!(need["balanceRequired"], 1, "a step costs less than a satoshi");
        assert!(need["balanceSpent"].as_u64().unwrap() >= spent, "{needs:?}");
        spent = need["balanceSpent"].as_u64().unwrap();
        assert_eq!(need.as_object().unwrap().len(), 3);
    }
    // The last word of ours, and before the end mark.
    assert_eq!(ours.last().unwrap().0, "payment-receipt");
    assert!(answer.text().ends_with("data: [DONE]\n\n"));
    let last = named(&ours, "payment-receipt")[0];
    assert_eq!((&last["spent"], &last["units"]), (&json!(5), &json!(5)), "4,010,000 of 1,000,000 each");
    assert_eq!((&last["method"], &last["status"]), (&json!("lightning"), &json!("success")));
    assert_eq!(
        (&last["reference"], &last["challengeId"]),
        (&json!(session.id), &json!(session.challenge.id))
    );
    assert_eq!(scene.upstream.hits(), 2, "asked once for each run");
    let books = scene.gateway.books_after(2);
    assert_eq!((books.count("capture"), books.count("deposit")), (2, usize::try_from(added).unwrap() + 2));
}

/// Not before money that suffices: the event between two whole events, and then nothing.
#[test]
fn eng_9_while_it_waits_only_what_is_paid_for_is_there() {
    let scene = Scene::new("grace: 60s");
    let (session, mut socket) = scene.open();
    assert!(socket.read_until(NEED) && socket.read_until("balanceRequired"));
    let (available, held) = wait_for("the whole deposit to be held for", || {
        Some(scene.balance(&session)).filter(|(available, _)| *available < OUTPUT)
    });
    assert!(available >= 0 && available + held == SAT, "{available} {held}");
    let said = count(&socket, TEN_TOKENS);
    // What is held for: input and whole steps; and the event that went beyond it.
    let paid = usize::try_from((held - 40 * INPUT) / OUTPUT / 10).unwrap();
    assert!((paid - 10..=paid + 3).contains(&said), "{said} events for {paid}");
    // Others of the session wait for nothing.
    let other = call(&scene.gateway, &session.bearer(), &ask());
    assert_eq!(other.status, 402);
    assert_eq!(
        other.json()["type"],
        "https://paymentauth.org/problems/lightning/insufficient-balance",
        "{}",
        other.text()
    );
    assert_eq!(count(&socket, NEED), 1, "once");
    drop(socket);
    wait_for("the hold to end", || (scene.balance(&session).1 == 0).then_some(()));
}

/// Nobody pays in time: the upstream is let go, what was delivered is charged, and the payer is told so.
#[test]
fn eng_8_the_grace_ends_a_stream_that_nobody_pays_for() {
    let scene = Scene::new("grace: 300ms");
    let (session, mut socket) = scene.open();
    assert!(socket.read_until("data: [DONE]"));
    let answer = socket.answer().unwrap();
    let (ours, rest) = parted(&answer.text());
    let names: Vec<_> = ours.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["payment-need-topup", "session-timeout", "payment-receipt"]);
    assert_eq!(ours[0].1, ours[1].1, "the same members, the same numbers");
    assert!(rest.contains("\"finish_reason\":\"length\"") && rest.contains("insufficient_balance"), "{rest}");
    wait_for("the upstream to be let go", || (scene.ended.load(Ordering::SeqCst) == 1).then_some(()));
    let (available, held) = scene.balance(&session);
    assert_eq!(held, 0);
    let charged = SAT - available;
    let said = i64::try_from(rest.matches(TEN_TOKENS).count()).unwrap();
    assert!(charged <= SAT && charged > (said - 4) * 10 * OUTPUT, "{charged} for {said} events");
    assert_eq!((&ours[2].1["spent"], &ours[2].1["units"]), (&json!(1), &json!(1)));
    let books = scene.gateway.books_after(1);
    assert_eq!(books.count("capture"), 1);
    // It was the stream that ended, not the session.
    let (_, told) = session.top_up(&scene.gateway, &stream());
    assert_eq!(told.status, 200);
    assert_eq!(call(&scene.gateway, &session.bearer(), &ask()).status, 200);
}

/// A client that has gone pays for what it got, and no more is read for it.
#[test]
fn eng_8_a_client_that_leaves_while_its_stream_waits_ends_it() {
    let scene = Scene::new("grace: 60s");
    let (session, mut socket) = scene.open();
    assert!(socket.read_until(NEED));
    drop(socket);
    wait_for("the upstream to be let go", || (scene.ended.load(Ordering::SeqCst) == 1).then_some(()));
    let books = scene.gateway.books_after(1);
    assert_eq!(books.count("capture"), 1, "the hold ended once");
    let (available, held) = scene.balance(&session);
    assert!(held == 0 && (0..SAT).contains(&available), "{available} {held}");
}

/// The gateway is told to stop: what waits ends at once, with its bill, and not after its grace.
#[test]
fn eng_8_a_gateway_that_stops_keeps_no_stream_waiting() {
    let mut scene = Scene::new("grace: 1h");
    let (_session, mut socket) = scene.open();
    assert!(socket.read_until(NEED));
    scene.gateway.signal(15);
    assert!(socket.read_until("data: [DONE]"));
    assert!(socket.has("event: payment-receipt\n"));
    assert!(scene.gateway.wait().success());
    scene.gateway.restart();
    assert_eq!(scene.gateway.books_after(1).count("capture"), 1);
}

/// kill -9 while a stream waits: its session is there with what was not charged, and goes on; the books are in order.
#[test]
fn eng_8_a_crash_while_a_stream_waits_costs_nobody_anything() {
    let mut scene = Scene::new("grace: 60s");
    let (session, mut socket) = scene.open();
    assert!(socket.read_until(NEED));
    let (_, told) = session.top_up(&scene.gateway, &stream());
    assert_eq!(told.status, 200);
    while count(&socket, NEED) < 2 {
        assert!(socket.read());
    }
    scene.gateway.crash_and_restart();
    assert!(socket.closes());
    let (available, held) = scene.balance(&session);
    assert_eq!((available, held), (2 * SAT, 0), "what was not charged is the payer's");
    // The payment that came in is in once, however often it is shown.
    let again = call(&scene.gateway, &session.open(), &ask());
    assert_eq!(again.status, 200, "{}", again.text());
    assert_eq!(scene.balance(&session), (2 * SAT - FRIENDLY_COST, 0));
    let closed = call(&scene.gateway, &session.close(), &ask()).json();
    assert_eq!((&closed["refundSats"], &closed["refundStatus"]), (&json!(1), &json!("succeeded")));
    drop(socket);
    scene.gateway.signal(15);
    assert!(scene.gateway.wait().success());
    let checked = scene.gateway.command(&["fsck"]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

/// Streams that wait take nothing from who pays, on whichever thread and connection, and go on together.
#[test]
fn eng_8_twenty_streams_that_wait_hinder_nobody() {
    const WAITING: usize = 20;
    let scene = Scene::new("grace: 60s");
    let mut all: Vec<_> = (0..WAITING).map(|_| scene.open()).collect();
    for (_, socket) in &mut all {
        assert!(socket.read_until(NEED));
    }
    let key = scene.gateway.key("1 TEST");
    let bearer = format!("Bearer {key}");
    // Connections of both threads, a document and a stream on each.
    for _ in 0..8 {
        for body in [ask(), stream()] {
            let answer = http::post(scene.gateway.address, CHAT, &[("authorization", &bearer)], &body);
            assert_eq!(answer.status, 200);
        }
    }
    assert!(all.iter().all(|(_, socket)| !socket.has("data: [DONE]")), "they wait");
    let together = Barrier::new(WAITING);
    thread::scope(|scope| {
        for (session, socket) in &mut all {
            let (scene, together) = (&scene, &together);
            scope.spawn(move || {
                together.wait();
                let (sats, told) = session.top_up(&scene.gateway, &stream());
                assert_eq!(told.status, 200);
                // The one it was asked for before.
                let (answer, added) = topped_up(scene, session, socket, 1);
                let (_, rest) = parted(&answer.text());
                assert_eq!(rest.matches(TEN_TOKENS).count(), EVENTS);
                let cost = REPORTED_INPUT * INPUT + 10 * OUTPUT * i64::try_from(EVENTS).unwrap();
                let deposited = SAT * i64::try_from(session.deposit_sats + sats + added).unwrap();
                assert_eq!(scene.balance(session), (deposited - cost, 0));
            });
        }
    });
}

/// Two streams of one session: money that one has taken is asked for again by the other.
#[test]
fn eng_7_streams_of_one_session_share_what_comes_in() {
    let scene = Scene::of("grace: 60s", EVENTS, 2);
    let (session, mut first) = scene.open();
    let mut second = scene.begin(&session.bearer());
    thread::scope(|scope| {
        let (scene, session) = (&scene, &session);
        let one = scope.spawn(move || topped_up(scene, session, &mut first, 0).0);
        let other = scope.spawn(move || topped_up(scene, session, &mut second, 0).0);
        for answer in [one.join().unwrap(), other.join().unwrap()] {
            let (_, rest) = parted(&answer.text());
            assert_eq!(rest.matches(TEN_TOKENS).count(), EVENTS);
        }
    });
    let (available, held) = scene.balance(&session);
    assert!(available >= 0 && held == 0);
    assert_eq!(scene.gateway.books_after(2).count("capture"), 2);
}

/// ENG-8: an upstream that says more than anybody takes is not read while its stream waits, so nothing of it piles up here.
#[test]
fn eng_8_a_stream_that_waits_is_not_read() {
    // More than sockets, windows and read buffers hold.
    const SAID_MAX: usize = 64 * 1024 * 1024;
    let (written, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count, end) = (Arc::clone(&written), Arc::clone(&ended));
    let upstream = Upstream::start(move |_, stream| {
        let _ = stream.set_write_timeout(None);
        let _ = stream.write_all(STREAM_HEAD.as_bytes());
        let chunk: String = (0..512).map(event).collect();
        while count.load(Ordering::SeqCst) < SAID_MAX && stream.write_all(chunk.as_bytes()).is_ok() {
            count.fetch_add(chunk.len(), Ordering::SeqCst);
        }
        end.fetch_add(1, Ordering::SeqCst);
    });
    let scene = Scene::before(upstream, ended, "grace: 60s");
    let (_session, mut socket) = scene.open();
    assert!(socket.read_until(NEED));
    let before = scene.gateway.resident();
    // Calls take their time; whoever still reads has read on by then.
    let key = scene.gateway.key("1 TEST");
    let said = wait_for("the upstream to be held back", || {
        let said = written.load(Ordering::SeqCst);
        assert_eq!(scene.gateway.balance(&key).1, 0);
        (said == written.load(Ordering::SeqCst)).then_some(said)
    });
    assert!(said < SAID_MAX, "all of it was taken");
    assert_eq!(scene.ended.load(Ordering::SeqCst), 0, "it waits to say more");
    assert!(scene.gateway.resident() < before + 16 * 1024 * 1024);
    drop(socket);
    wait_for("the upstream to be let go", || (scene.ended.load(Ordering::SeqCst) == 1).then_some(()));
}

/// An answer that is no stream is held for whole; one whose end is known to be paid for is not cut by what is there.
#[test]
fn eng_9_a_limit_within_the_balance_needs_nobody() {
    let scene = Scene::of("grace: 60s", 1, 1);
    let session = Session::pay(&scene.gateway, &stream());
    let mut limited = stream();
    limited["max_tokens"] = json!(12);
    let answer = call(&scene.gateway, &session.open(), &limited);
    let (ours, rest) = parted(&answer.text());
    assert_eq!(ours.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["payment-receipt"]);
    assert!(find(rest.as_bytes(), b"length").is_none());
}
