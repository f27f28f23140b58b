//! Settlements whose end nobody knows: the gateway asks on by itself, through restarts, and the operator has the
//! last word (LED-23, X402-14, X402-15, X402-44).
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

use std::iter::{once, repeat_n};

use farthing_tests::crowd::at_once;
use farthing_tests::facilitator::{Conduct, Facilitator, Reply, failure};
use farthing_tests::gateway::{Gateway, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::payer::{BASE_SEPOLIA, Payment, Wallet, now_s};
use farthing_tests::refused::assert_refused;
use farthing_tests::upstream::{FRIENDLY_COST, Upstream};
use serde_json::{Value, json};
use store::{Attempt, Op, Options, PaymentState, Store};

const CHAT: &str = "/v1/chat/completions";

fn ask() -> Value {
    json!({"model": "m", "max_tokens": 1000, "messages": [{"role": "user", "content": "hi"}]})
}

/// Does `conduct` once, and then nothing that helps, until it is told to behave.
fn then_useless(conduct: Conduct) -> impl Iterator<Item = Conduct> {
    once(conduct).chain(repeat_n(Conduct::Only(Reply::Hangup), 1000))
}

struct Scene {
    upstream: Upstream,
    facilitator: Facilitator,
    gateway: Gateway,
    payment: Payment,
}

impl Scene {
    fn of(plan: impl IntoIterator<Item = Conduct>) -> Self {
        let upstream = Upstream::friendly();
        let facilitator = Facilitator::start(plan);
        let gateway = Gateway::start(upstream.address, &Facilitator::rails(&[facilitator.address]));
        let payment = new_payment(&gateway, 1);
        Self { upstream, facilitator, gateway, payment }
    }

    fn pay(&self) -> Answer {
        pay(&self.gateway, &self.payment)
    }

    fn account(&self) -> String {
        Wallet::new(1).account(&self.payment)
    }

    fn wait_for_deposit(&self) {
        wait_for("the deposit", || (self.gateway.books().count("deposit") == 1).then_some(()));
    }

    /// Presents the payment until it is served: once, from one transfer and one deposit, without a key.
    fn assert_served_once(&self, what: &str) {
        let served = wait_for("the payment to be served", || {
            let answer = self.pay();
            let waits = ["in_progress", "settlement_unknown"].contains(&answer.refusal().as_str());
            (!waits).then_some(answer)
        });
        assert_eq!(served.status, 200, "{what}: {}", served.text());
        assert_eq!(served.header("farthing-key"), None, "{what}: the proof is public by now");
        let books = self.gateway.books_after(1);
        assert_eq!((books.count("deposit"), books.count("capture")), (1, 1), "{what}");
        assert_eq!(books.balance(&self.account()), self.payment.nano() - FRIENDLY_COST, "{what}");
        assert_eq!((self.facilitator.transfers(), self.upstream.hits()), (1, 1), "{what}");
        assert_eq!(intents(&self.gateway), [] as [Value; 0], "{what}");
    }

    /// Every question so far was the same, byte by byte.
    fn assert_one_question(&self) {
        let settles = self.facilitator.settles();
        assert!(settles.windows(2).all(|pair| pair[0] == pair[1]), "X402-15: the identical body");
    }
}

fn new_payment(gateway: &Gateway, wallet: u8) -> Payment {
    let answer = http::post(gateway.address, CHAT, &[], &ask());
    Wallet::new(wallet).pay(&answer, BASE_SEPOLIA)
}

fn pay(gateway: &Gateway, payment: &Payment) -> Answer {
    http::post(gateway.address, CHAT, &[("payment-signature", &payment.v2())], &ask())
}

fn assert_unknown(answer: &Answer) {
    assert_refused(answer, 503, "settlement_unknown", "unknown");
    let wait: u32 = answer.must("retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait), "MTR-38: {wait}");
}

fn intents(gateway: &Gateway) -> Vec<Value> {
    gateway.operator(&["ledger", "intents"])["intents"].as_array().unwrap().clone()
}

/// The facilitator settles and times out. Nobody comes again, and yet the money becomes balance; whoever
/// comes later is served from it, once, and no facilitator is asked for that.
#[test]
fn an_unclear_settlement_is_resolved_without_the_client() {
    for conduct in
        [Conduct::MoveThen(Reply::Silence), Conduct::MoveThen(Reply::Hangup), Conduct::Only(Reply::Silence)]
    {
        let scene = Scene::of([conduct.clone()]);
        assert_unknown(&scene.pay());
        scene.wait_for_deposit();
        let asked = scene.facilitator.settles().len();
        assert_eq!(asked, 2, "{conduct:?}");
        scene.assert_served_once(&format!("{conduct:?}"));
        assert_eq!(scene.facilitator.settles().len(), asked, "settled no second time");
        scene.assert_one_question();
    }
}

/// Asked once a second and then ever less often; not by every payer who comes meanwhile.
#[test]
fn it_goes_on_asking_and_lists_what_is_open() {
    let scene = Scene::of(then_useless(Conduct::MoveThen(Reply::Says(502, String::new()))));
    assert_unknown(&scene.pay());
    let open = wait_for("three questions", || {
        let open = intents(&scene.gateway);
        (open[0]["attempts"].as_u64() >= Some(3)).then_some(open)
    });
    let [intent] = open.as_slice() else { panic!("{open:?}") };
    assert_eq!(intent["state"], "unknown");
    assert_eq!(intent["facilitator"], format!("http://{}", scene.facilitator.address));
    assert_eq!((&intent["rail"], &intent["needs_operator"]), (&json!("x402:eip155:84532"), &json!(false)));
    assert_eq!(intent["account"], scene.account());
    assert_eq!(intent["payer"], Wallet::new(1).address().to_string());
    assert_eq!(intent["deposit_key"].as_str().unwrap().len(), 64);
    // After the third question about four seconds, a quarter more or less.
    let (last, next) = (intent["last_poll_ms"].as_u64().unwrap(), intent["next_poll_ms"].as_u64().unwrap());
    assert!((3_000..=5_000).contains(&(next - last)), "{intent}");
    let metrics = http::get(scene.gateway.admin, "/metrics", &[]).text();
    assert!(metrics.contains("farthing_intents_open 1\n"), "{metrics}");
    assert!(metrics.contains("farthing_intents_need_operator 0\n"), "{metrics}");
    scene.facilitator.behave();
    scene.assert_served_once("in the end");
    scene.assert_one_question();
    wait_for("the gauge", || {
        http::get(scene.gateway.admin, "/metrics", &[])
            .text()
            .contains("farthing_intents_open 0\n")
            .then_some(())
    });
}

/// Restarts in between: after the answer was lost, and in the middle of a question.
#[test]
fn intents_survive_restarts() {
    let mut scene = Scene::of(then_useless(Conduct::MoveThen(Reply::Hangup)));
    assert_unknown(&scene.pay());
    for _ in 0..3 {
        scene.gateway.crash_and_restart();
        assert_eq!(intents(&scene.gateway).len(), 1);
    }
    scene.facilitator.behave();
    scene.wait_for_deposit();
    scene.assert_served_once("after restarts");
    scene.assert_one_question();

    let mut scene = Scene::of([Conduct::MoveThen(Reply::Silence)]);
    let (address, header) = (scene.gateway.address, scene.payment.v2());
    let asking = std::thread::spawn(move || {
        let fields = [("content-type", "application/json"), ("payment-signature", header.as_str())];
        http::try_request(address, "POST", CHAT, &fields, ask().to_string().as_bytes())
    });
    wait_for("the settlement to begin", || (scene.facilitator.settles().len() == 1).then_some(()));
    assert_eq!(intents(&scene.gateway)[0]["state"], "intent");
    scene.gateway.crash_and_restart();
    assert!(asking.join().unwrap().is_none());
    scene.wait_for_deposit();
    scene.assert_served_once("after a kill in the middle");
    scene.assert_one_question();
}

/// Only who may have acted is asked again, also after a restart, and also when another would answer.
#[test]
fn no_other_facilitator_is_asked() {
    let upstream = Upstream::friendly();
    let first = Facilitator::start(then_useless(Conduct::MoveThen(Reply::Hangup)));
    let second = Facilitator::start([]);
    let rails = Facilitator::rails(&[first.address, second.address]);
    let mut gateway = Gateway::start(upstream.address, &rails);
    let payment = new_payment(&gateway, 1);
    assert_unknown(&pay(&gateway, &payment));
    wait_for("a second question", || (first.settles().len() >= 2).then_some(()));
    gateway.crash_and_restart();
    let before = first.settles().len();
    wait_for("a question after the restart", || (first.settles().len() > before).then_some(()));
    assert_eq!(second.settles().len(), 0);
    // It leaves the configuration: nobody takes its place.
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    let without = text.replace(&format!("\"http://{}\", ", first.address), "");
    assert_ne!(text, without);
    std::fs::write(gateway.config(), without).unwrap();
    gateway.crash_and_restart();
    assert_unknown(&pay(&gateway, &payment));
    assert_eq!((second.settles().len(), gateway.books().entries.len()), (0, 0));
    // It comes back.
    first.behave();
    std::fs::write(gateway.config(), text).unwrap();
    gateway.crash_and_restart();
    wait_for("the payment to be served", || (pay(&gateway, &payment).status == 200).then_some(()));
    assert_eq!(gateway.books().count("deposit"), 1);
    assert_eq!((first.transfers(), second.transfers(), second.settles().len()), (1, 0, 0));
}

/// One proof on 64 connections, while its settlement is unclear and while it is resolved: one transfer, one
/// deposit, one call.
#[test]
fn an_unclear_proof_on_64_connections_is_one_call() {
    let scene = Scene::of([Conduct::MoveThen(Reply::Hangup)]);
    let (v1, v2) = (scene.payment.v1(), scene.payment.v2());
    let mut fresh = 0;
    for round in 0..20 {
        let answers = at_once(64, |at| {
            let field =
                if at % 2 == 0 { ("x-payment", v1.as_str()) } else { ("payment-signature", v2.as_str()) };
            http::post(scene.gateway.address, CHAT, &[field], &ask())
        });
        for answer in &answers {
            match (answer.status, answer.refusal().as_str()) {
                (200, _) => fresh += usize::from(answer.header("farthing-replayed").is_none()),
                (_, "in_progress") => assert_refused(answer, 409, "in_progress", "first_attempt_decides"),
                _ => assert_unknown(answer),
            }
        }
        if fresh > 0 && round > 2 {
            break;
        }
    }
    assert_eq!(fresh, 1);
    let books = scene.gateway.books_after(1);
    assert_eq!((books.count("deposit"), books.count("capture")), (1, 1));
    assert_eq!((scene.facilitator.transfers(), scene.upstream.hits()), (1, 1));
    assert_eq!(scene.facilitator.settles().len(), 2);
}

/// Where no rail can tell, the operator can: idempotent, and never against what is on record.
#[test]
fn the_operator_decides_that_it_was_settled() {
    let mut scene = Scene::of(then_useless(Conduct::MoveThen(Reply::Hangup)));
    assert_unknown(&scene.pay());
    let key = intents(&scene.gateway)[0]["deposit_key"].as_str().unwrap().to_owned();
    let (transaction, other) = (format!("0x{}", "ab".repeat(32)), format!("0x{}", "cd".repeat(32)));
    let refused = |gateway: &Gateway, words: &[&str], why: &str| {
        let output = wait_for("no question to be under way", || {
            let output = gateway.command(&[&["ledger", "resolve"], words].concat());
            let text = String::from_utf8(output.stderr.clone()).unwrap();
            (!text.contains("right now")).then_some((output.status, text))
        });
        assert!(!output.0.success() && output.1.contains(why), "{words:?}: {}", output.1);
    };
    refused(&scene.gateway, &[&key, "--refused"], "can still settle");
    refused(&scene.gateway, &[&key, "--settled", "0x12"], "64 hex digits");
    refused(&scene.gateway, &[&"00".repeat(32), "--settled", &transaction], "no payment with this key");
    refused(&scene.gateway, &["xyz", "--settled", &transaction], "64 hex digits");
    refused(&scene.gateway, &[&key], "required");
    let settle = |gateway: &Gateway| {
        wait_for("no question to be under way", || {
            let words = ["ledger", "resolve", &key, "--settled", &transaction, "--json"];
            let output = gateway.command(&words);
            let value: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            output.status.success().then(|| value["done"].as_str().unwrap().to_owned())
        })
    };
    assert_eq!(settle(&scene.gateway), "settled");
    assert_eq!(settle(&scene.gateway), "already settled");
    refused(&scene.gateway, &[&key, "--settled", &other], &transaction);
    refused(&scene.gateway, &[&key, "--refused"], &transaction);
    scene.gateway.crash_and_restart();
    assert_eq!(settle(&scene.gateway), "already settled");
    let books = scene.gateway.books();
    assert_eq!(
        (books.count("deposit"), books.entries[0]["reference"].as_str()),
        (1, Some(transaction.as_str()))
    );
    let asked = scene.facilitator.settles().len();
    scene.assert_served_once("the operator's word");
    assert_eq!((scene.facilitator.settles().len(), scene.facilitator.transfers()), (asked, 1));
}

/// A payment whose time is over: asked once more, then the operator is told, and nobody else is asked again.
#[test]
fn what_no_rail_can_tell_becomes_an_operators_item() {
    let late = failure("invalid_exact_evm_payload_authorization_valid_before");
    let plan = once(Conduct::Only(Reply::Hangup)).chain(repeat_n(Conduct::Only(late), 1000));
    let mut scene = Scene::of(plan);
    assert_unknown(&scene.pay());
    scene.gateway.signal(9);
    scene.gateway.wait();
    let key = make_old(&scene.gateway);
    let asked = scene.facilitator.settles().len();
    scene.gateway.restart();
    let item = wait_for("the operator to be needed", || {
        let open = intents(&scene.gateway);
        (open[0]["needs_operator"] == true).then(|| open[0].clone())
    });
    assert_eq!((&item["state"], &item["next_poll_ms"]), (&json!("unknown"), &Value::Null));
    assert_eq!(scene.facilitator.settles().len(), asked + 1, "one last question");
    wait_for("the alarm", || scene.gateway.log().contains("ALARM: no rail can tell").then_some(()));
    wait_for("the gauge", || {
        let metrics = http::get(scene.gateway.admin, "/metrics", &[]).text();
        metrics.contains("farthing_intents_need_operator 1\n").then_some(())
    });
    // The next process says so too, and asks no more.
    scene.gateway.crash_and_restart();
    wait_for("the gauge", || {
        let metrics = http::get(scene.gateway.admin, "/metrics", &[]).text();
        metrics.contains("farthing_intents_need_operator 1\n").then_some(())
    });
    assert_eq!(scene.facilitator.settles().len(), asked + 1);
    for done in ["refused", "already refused"] {
        let answer = scene.gateway.operator(&["ledger", "resolve", &key, "--refused"]);
        assert_eq!(answer["done"], done);
    }
    assert_eq!(intents(&scene.gateway), [] as [Value; 0]);
    // Also without a gateway.
    scene.gateway.signal(15);
    scene.gateway.wait();
    assert_eq!(scene.gateway.operator(&["ledger", "resolve", &key, "--refused"])["done"], "already refused");
    assert_eq!(scene.gateway.books().entries.len(), 0);
}

/// Moves the one open payment of a stopped gateway an hour into the past. Returns its deposit key.
fn make_old(gateway: &Gateway) -> String {
    let folder = gateway.folder().join("store");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(&folder, Options::new([1; 16])).unwrap();
        let open = store.reader().unsettled().unwrap();
        let [(key, payment)] = open.as_slice() else { panic!("{open:?}") };
        assert_eq!(payment.state, PaymentState::Unknown);
        let (an_hour_ago_s, mut old) = (now_s() - 3600, payment.clone());
        let attempt = old.attempt.take().unwrap();
        let last_ms = an_hour_ago_s * 1000;
        old.attempt = Some(Attempt { last_ms, next_ms: last_ms, ..attempt });
        (old.created_ms, old.valid_before_s) = (last_ms, an_hour_ago_s + 300);
        store.commit(Op::Refused { key: *key }).await.unwrap();
        store.commit(Op::Intent { key: *key, payment: old }).await.unwrap();
        store.commit(Op::Unknown { key: *key }).await.unwrap();
        wire::hex::encode(key)
    })
}
