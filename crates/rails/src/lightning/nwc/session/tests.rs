//! What a relay says, and what is made of it, without a relay.

use std::sync::Arc;
use std::time::Duration;

use secp256k1::Keypair;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::Instant;
use wire::hex;
use zeroize::Zeroizing;

use super::super::connection::Connection;
use super::super::event::Event;
use super::super::seal::{Scheme, Seal};
use super::{
    AUTHENTICATION, Ask, INFO, NOTIFICATION, NOTIFICATION_NIP04, RESPONSE, Session, Step, Turn, Unanswered,
};

const NOW_S: u64 = 1_790_000_000;

type Answer = oneshot::Receiver<Result<Zeroizing<String>, Unanswered>>;

/// Test keys: ours 7, the wallet's 8, a stranger's 9.
fn keys(byte: u8) -> Keypair {
    Keypair::from_secret_bytes([byte; 32]).unwrap()
}

fn public(byte: u8) -> String {
    hex::encode(&keys(byte).x_only_public_key().0.to_byte_array())
}

fn connection() -> Connection {
    let text =
        format!("nostr+walletconnect://{}?secret={}&relay=ws://127.0.0.1:1", public(8), "07".repeat(32));
    Connection::parse(&text).unwrap()
}

fn our_seal() -> Seal {
    Seal::new(&keys(7), keys(8).x_only_public_key().0).unwrap()
}

/// An event for us, as a relay passes it on.
fn passed(event: &Event) -> String {
    json!(["EVENT", "wallet", event]).to_string()
}

fn signed(by: u8, kind: u16, tags: &[&[&str]], content: &str, at_s: u64) -> Event {
    Event::signed(&keys(by), kind, tags, content.to_owned(), at_s).unwrap()
}

fn info(methods: &str, encryption: Option<&str>, at_s: u64) -> String {
    let tags: &[&[&str]] = match &encryption {
        Some(schemes) => &[&["encryption", schemes]],
        None => &[],
    };
    passed(&signed(8, INFO, tags, methods, at_s))
}

/// What the wallet seals for us.
fn sealed(scheme: Scheme, text: &str) -> String {
    let seal = Seal::new(&keys(8), keys(7).x_only_public_key().0).unwrap();
    seal.seal(scheme, text).unwrap()
}

fn answer(by: u8, question: &str, text: &str) -> String {
    passed(&signed(
        by,
        RESPONSE,
        &[&["p", &public(7)], &["e", question]],
        &sealed(Scheme::Nip44, text),
        NOW_S,
    ))
}

fn ask(method: &'static str) -> (Ask, Arc<Turn>, Answer) {
    let (reply, answer) = oneshot::channel();
    let turn = Arc::new(Turn::default());
    let ask = Ask {
        method,
        body: Zeroizing::new("{\"method\":\"x\"}".to_owned()),
        time_max: Duration::from_secs(5),
        turn: Arc::clone(&turn),
        reply,
    };
    (ask, turn, answer)
}

/// The event of `["EVENT", event]`.
fn published(frame: &str) -> Value {
    let mut parts: Value = serde_json::from_str(frame).unwrap();
    assert_eq!(parts[0], "EVENT");
    parts[1].take()
}

/// Asks, and gives the event's name and where the answer comes.
fn asked(session: &mut Session<'_>) -> (String, Answer) {
    let (ask, _, answer) = ask("get_info");
    let frame = session.ask(ask, NOW_S, Instant::now()).unwrap();
    (published(&frame)["id"].as_str().unwrap().to_owned(), answer)
}

#[track_caller]
fn check(test: impl FnOnce(&mut Session<'_>)) {
    let (connection, seal) = (connection(), our_seal());
    let mut session = Session::new(&connection, &seal, "ws://127.0.0.1:1/".into(), None);
    assert_eq!(session.take(&info("get_info make_invoice", Some("nip44_v2 nip04"), 1), NOW_S), Step::Wait);
    assert!(session.is_ready());
    test(&mut session);
}

#[test]
fn it_opens_with_what_the_wallet_can_do_and_says_to_us() {
    check(|session| {
        let frames: Vec<Value> =
            session.opening(NOW_S).iter().map(|frame| serde_json::from_str(frame).unwrap()).collect();
        assert_eq!(
            frames,
            [
                json!(["REQ", "info", {"kinds": [13194], "authors": [public(8)], "limit": 1}]),
                json!(["REQ", "wallet",
                    {"kinds": [23195], "authors": [public(8)], "since": NOW_S - 600},
                    {"kinds": [23196, 23197], "authors": [public(8)], "#p": [public(7)], "since": NOW_S - 600}]),
            ]
        );
    });
}

#[test]
fn l402_72_a_question_is_signed_sealed_and_ends_in_time() {
    check(|session| {
        let (ask, turn, _answer) = ask("get_info");
        let event = published(&session.ask(ask, NOW_S, Instant::now()).unwrap());
        assert!(!turn.give_up(), "it was sent");
        assert_eq!((&event["kind"], &event["created_at"]), (&json!(23194), &json!(NOW_S)));
        assert_eq!(
            event["tags"],
            json!([["p", public(8)], ["encryption", "nip44_v2"], ["expiration", (NOW_S + 35).to_string()]])
        );
        let event: Event = serde_json::from_value(event).unwrap();
        assert!(event.is_by(&keys(7).x_only_public_key().0));
        let seal = Seal::new(&keys(8), keys(7).x_only_public_key().0).unwrap();
        assert_eq!(*seal.open(Scheme::Nip44, &event.content).unwrap(), "{\"method\":\"x\"}");
    });
}

/// The wallet's own answer to this very question, once; nothing else, whoever says it.
#[test]
fn l402_72_an_answer_is_the_wallets_and_names_the_question() {
    check(|session| {
        let (question, mut first) = asked(session);
        let (other, mut second) = asked(session);
        let mut forged: Event = signed(8, RESPONSE, &[&["e", &question]], &sealed(Scheme::Nip44, "x"), NOW_S);
        forged.created_at += 1;
        for (what, frame) in [
            ("a stranger", answer(9, &question, "x")),
            ("ourselves", answer(7, &question, "x")),
            ("altered", passed(&forged)),
            ("another question", answer(8, &"ab".repeat(32), "x")),
            ("no question", passed(&signed(8, RESPONSE, &[], &sealed(Scheme::Nip44, "x"), NOW_S))),
            ("another kind", passed(&signed(8, 1, &[&["e", &question]], &sealed(Scheme::Nip44, "x"), NOW_S))),
            ("a notice", json!(["NOTICE", "x"]).to_string()),
            ("noise", "\u{0}".to_owned()),
        ] {
            assert_eq!(session.take(&frame, NOW_S), Step::Wait, "{what}");
            assert_eq!(session.pending(), 2, "{what}");
        }
        session.take(&answer(8, &question, "good"), NOW_S);
        session.take(&answer(8, &question, "twice"), NOW_S);
        assert_eq!(**first.try_recv().unwrap().as_ref().unwrap(), "good");
        assert_eq!((session.pending(), session.answers()), (1, 1));
        assert!(second.try_recv().is_err());

        let garbage = signed(8, RESPONSE, &[&["e", &other]], "garbage", NOW_S);
        session.take(&passed(&garbage), NOW_S);
        assert_eq!(second.try_recv().unwrap(), Err(Unanswered::Sealed));
    });
}

#[test]
fn a_relay_that_passes_nothing_on_says_so() {
    check(|session| {
        let (question, mut answer) = asked(session);
        session.take(&json!(["OK", "ab", false, "not ours"]).to_string(), NOW_S);
        session.take(&json!(["OK", question, true, ""]).to_string(), NOW_S);
        assert!(answer.try_recv().is_err());
        session.take(&json!(["OK", question, false, "rate-limited: slow\ndown"]).to_string(), NOW_S);
        assert_eq!(answer.try_recv().unwrap(), Err(Unanswered::Relay("rate-limited: slow?down".into())));
    });
}

#[test]
fn what_the_wallet_does_not_offer_is_not_sent() {
    check(|session| {
        let (ask, turn, mut answer) = ask("pay_invoice");
        assert_eq!(session.ask(ask, NOW_S, Instant::now()), None);
        assert_eq!(answer.try_recv().unwrap(), Err(Unanswered::NotOffered("pay_invoice")));
        assert!(turn.give_up(), "nothing was sent");
        // A newer info event adds it; an older one, or a stranger's, changes nothing.
        session.take(&info("pay_invoice", Some("nip44_v2"), 3), NOW_S);
        session.take(&info("get_info", None, 2), NOW_S);
        session.take(&passed(&signed(9, INFO, &[], "get_info", 9)), NOW_S);
        let (ask, _, _answer) = super::tests::ask("pay_invoice");
        let event = published(&session.ask(ask, NOW_S, Instant::now()).unwrap());
        assert_eq!(event["tags"][1], json!(["encryption", "nip44_v2"]));
    });
}

#[test]
fn who_has_given_up_is_not_asked_for() {
    check(|session| {
        let (first, turn, _answer) = ask("get_info");
        assert!(turn.give_up());
        assert_eq!(session.ask(first, NOW_S, Instant::now()), None);
        let (second, turn, answer) = ask("get_info");
        drop(answer);
        assert_eq!(session.ask(second, NOW_S, Instant::now()), None);
        assert!(turn.give_up(), "nothing was sent");

        let (_, lost) = asked(session);
        let (_, kept) = asked(session);
        assert_eq!(session.sweep().0, 0);
        drop(lost);
        let (given_up, oldest) = session.sweep();
        assert_eq!((given_up, oldest.is_some(), session.pending()), (1, true, 1));
        drop(kept);
    });
}

#[test]
fn l402_74_so_many_questions_and_no_more() {
    check(|session| {
        let kept: Vec<_> = (0..super::PENDING_MAX).map(|_| asked(session)).collect();
        assert!(!session.is_ready());
        session.take(&answer(8, &kept[0].0, "x"), NOW_S);
        assert!(session.is_ready());
    });
}

#[test]
fn nothing_is_asked_before_the_wallet_says_how() {
    let (connection, seal) = (connection(), our_seal());
    let new = || Session::new(&connection, &seal, String::new(), None);
    for (frame, leaves) in [
        (json!(["EOSE", "info"]).to_string(), true),
        (json!(["EOSE", "wallet"]).to_string(), false),
        (json!(["CLOSED", "info", "error: x"]).to_string(), true),
        (json!(["CLOSED", "wallet", "blocked: x"]).to_string(), true),
        (json!(["CLOSED", "wallet", "auth-required: x"]).to_string(), false),
        (info("get_info", Some("nip99"), 1), true),
        (info("get_info", None, 1), false),
    ] {
        let mut session = new();
        assert!(!session.is_ready());
        let step = session.take(&frame, NOW_S);
        assert_eq!(matches!(step, Step::Leave(_)), leaves, "{frame}: {step:?}");
    }
    let mut session = new();
    session.take(&info("get_info", None, 1), NOW_S);
    session.take(&json!(["EOSE", "info"]).to_string(), NOW_S);
    let (ask, _, _answer) = ask("get_info");
    let event = published(&session.ask(ask, NOW_S, Instant::now()).unwrap());
    assert_eq!(event["tags"][1], json!(["encryption", "nip04"]), "no tag means the old way");
    // What was learnt is kept over a reconnection.
    let session = Session::new(&connection, &seal, String::new(), session.end());
    assert!(session.is_ready());
}

#[test]
fn a_relay_that_asks_is_shown_who_we_are() {
    check(|session| {
        let Step::Say(frames) = session.take(&json!(["AUTH", "prove it"]).to_string(), NOW_S) else {
            panic!()
        };
        assert_eq!(frames[1..], session.opening(NOW_S), "what was refused before is asked again");
        let mut parts: Value = serde_json::from_str(&frames[0]).unwrap();
        assert_eq!(parts[0], "AUTH");
        let event: Event = serde_json::from_value(parts[1].take()).unwrap();
        assert!(event.is_by(&keys(7).x_only_public_key().0) && event.kind == AUTHENTICATION);
        assert_eq!(
            (event.tag("relay"), event.tag("challenge")),
            (Some("ws://127.0.0.1:1/"), Some("prove it"))
        );
    });
}

#[test]
fn l402_72_payments_are_told_by_the_wallet_to_us() {
    check(|session| {
        let told = format!(
            r#"{{"notification_type":"payment_received","notification":{{"type":"incoming","state":"settled",
                "payment_hash":"{}","amount":21000,"preimage":"{}"}}}}"#,
            "ab".repeat(32),
            "00".repeat(32)
        );
        let ours = public(7);
        let tags: &[&[&str]] = &[&["p", &ours]];
        let right = sealed(Scheme::Nip44, &told);
        let received = Step::Received { payment_hash: [0xab; 32], msat: 21_000 };
        for (what, event, expected) in [
            ("the wallet", signed(8, NOTIFICATION, tags, &right, NOW_S), received),
            ("a stranger", signed(9, NOTIFICATION, tags, &right, NOW_S), Step::Wait),
            ("to another", signed(8, NOTIFICATION, &[&["p", &public(9)]], &right, NOW_S), Step::Wait),
            ("garbage", signed(8, NOTIFICATION, tags, "garbage", NOW_S), Step::Wait),
            (
                "the same in the old way",
                signed(8, NOTIFICATION_NIP04, tags, &sealed(Scheme::Nip04, &told), NOW_S),
                Step::Wait,
            ),
            (
                "something else",
                signed(8, NOTIFICATION, tags, &sealed(Scheme::Nip44, "{}"), NOW_S),
                Step::Wait,
            ),
        ] {
            assert_eq!(session.take(&passed(&event), NOW_S), expected, "{what}");
        }
    });
}

/// Both sides of a race agree.
#[test]
fn a_turn_is_taken_once() {
    for _ in 0..1000 {
        let turn = Arc::new(Turn::default());
        let other = Arc::clone(&turn);
        let sender = std::thread::spawn(move || other.send());
        let given_up = turn.give_up();
        assert_ne!(sender.join().unwrap(), given_up);
    }
}
