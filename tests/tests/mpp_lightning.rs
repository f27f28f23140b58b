//! `lightning` of the `Payment` scheme: charges, which are another door to what an L402 token opens, and sessions, which are
//! filled up while they run and whose rest goes back (specs/mpp.md).
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use farthing_tests::crowd::at_once;
use farthing_tests::gateway::{Gateway, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::lightning::{Offered, TOOL};
use farthing_tests::lightning_session::{
    Session, asked, authorization, call, challenge, charge_asked, offered, paid,
};
use farthing_tests::mpp::{Forge, challenges, receipt, with_rules};
use farthing_tests::paying_node::{
    Does, MACAROON, PayingNode, Stands, invoice_made_at, invoice_of_holder, return_invoice,
};
use farthing_tests::refused::assert_refused;
use farthing_tests::scene::{CHAT, ask};
use farthing_tests::socket::{Socket, find};
use farthing_tests::upstream::{FRIENDLY_COST, Upstream, friendly_answer, plain};
use lightning_invoice::Currency;
use rails::lightning::bolt11;
use serde_json::{Value, json};
use wire::mpp::Challenge;
use wire::mpp::receipt::RefundStatus;

/// Nano-dollars of a satoshi: 100,000 USD for a bitcoin.
const SAT: i64 = 1_000_000;
/// Satoshis of a deposit.
const DEPOSIT: i64 = 50;
const BOUNDS: &str = "max: 1 USD, per_day: 10 USD, min: 0.000000001 USD, fee_max: 0%";
/// Calls of a cent each, beside the usual route.
const ROUTES: &str = "routes: [{ name: tool, match: { method: POST, path: \"/tool/**\" }, upstream: openai, price: { per_call: 0.01 USD } }, \
     { name: chat, match: { method: POST, path: /v1/chat/completions }, upstream: openai, price: by_model }]\n";

struct Scene {
    upstream: Upstream,
    node: PayingNode,
    gateway: Gateway,
}

impl Scene {
    fn new() -> Self {
        Self::of(Upstream::friendly(), [Does::Pays(0)], "{}")
    }

    fn paying(plan: impl IntoIterator<Item = Does>) -> Self {
        Self::of(Upstream::friendly(), plan, "{}")
    }

    fn of(upstream: Upstream, plan: impl IntoIterator<Item = Does>, rules: &str) -> Self {
        let node = PayingNode::start(plan);
        let rails = with_rules(&node.rails(BOUNDS), rules);
        let gateway =
            Gateway::start_in(upstream.address, &format!("{ROUTES}{rails}"), &[("LND_MACAROON", MACAROON)]);
        Self { upstream, node, gateway }
    }

    fn unpaid(&self, path: &str) -> Answer {
        let answer = http::post(self.gateway.address, path, &[], &ask());
        assert_eq!(answer.status, 402);
        answer
    }

    /// A charge for the usual request, and the credential of whoever has paid it.
    fn charged(&self, path: &str) -> (Challenge, String) {
        let challenge = challenge(&self.unpaid(path), "charge");
        let credential = charge(&challenge, &paid(&charge_asked(&challenge).method_details.invoice));
        (challenge, credential)
    }

    /// A session that has made one call.
    fn opened(&self) -> Session {
        let mut session = Session::pay(&self.gateway, &ask());
        let answer = self.call(&session.open());
        assert_eq!(answer.status, 200, "{}", answer.text());
        session.key = answer.must("farthing-key").to_owned();
        session
    }

    fn call(&self, credential: &str) -> Answer {
        call(&self.gateway, credential, &ask())
    }

    fn at(&self, path: &str, credential: &str) -> Answer {
        http::post(self.gateway.address, path, &[("authorization", credential)], &ask())
    }

    fn deposits(&self) -> usize {
        self.gateway.books().count("deposit")
    }
}

/// A call of which many fit into a deposit at once.
fn small() -> Value {
    json!({"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]})
}

fn charge(challenge: &Challenge, preimage: &str) -> String {
    authorization(challenge, json!({"preimage": preimage}))
}

/// A problem of this scheme, with a fresh challenge.
#[track_caller]
fn assert_problem(answer: &Answer, problem: &str) {
    let body = answer.json();
    let expected = format!("https://paymentauth.org/problems/{problem}");
    assert_eq!((answer.status, body["type"].as_str().unwrap()), (402, &*expected), "{body}");
    assert_eq!(body["money"], "nothing_taken", "{body}");
    assert!(!challenges(answer).is_empty() && receipt(answer).is_none());
    assert_eq!(answer.must("cache-control"), "no-store");
}

/// MPP-21, MPP-27: what is asked for is what the one invoice of this 402 says, whichever way it is shown.
#[test]
fn mpp_27_a_challenge_says_what_its_invoice_does() {
    let scene = Scene::new();
    let answer = scene.unpaid(CHAT);
    let (charge, session) = (challenge(&answer, "charge"), challenge(&answer, "session"));
    let request = charge_asked(&charge);
    let invoice = bolt11::decode(&request.method_details.invoice).unwrap();
    assert_eq!((request.amount.as_str(), request.currency.as_str()), ("50", "sat"));
    assert_eq!(invoice.amount_msat, Some(50_000));
    assert_eq!(request.method_details.payment_hash, Some(wire::hex::encode(&invoice.payment_hash)));
    assert_eq!(request.method_details.network.as_deref(), Some("regtest"));
    for challenge in [&charge, &session] {
        assert!(challenge.expires_at_s().unwrap() <= invoice.expires_at_s);
        assert_eq!(challenge.digest, None, "what is left pays for other requests too");
    }
    let of_session = asked(&session);
    assert_eq!((of_session.amount.as_str(), of_session.unit_type.as_deref()), ("1", Some("sat")));
    assert_eq!(of_session.deposit_invoice.as_ref(), Some(&request.method_details.invoice));
    assert_eq!(of_session.deposit_amount.as_deref(), Some("50"));
    assert_eq!(Some(of_session.payment_hash), request.method_details.payment_hash);
    assert_eq!(of_session.idle_timeout.as_deref(), Some("300"));
    assert_eq!(Offered::of(&answer).invoice, request.method_details.invoice, "one for L402 too");
    // A fresh one for whoever asks next; and none for whoever does not want it.
    assert_ne!(charge_asked(&challenge_of(&scene)).method_details.invoice, request.method_details.invoice);
    let made = scene.gateway.metric("farthing_invoices_total{outcome=\"made\"}");
    let other = [("accept-payment", "credit/session")];
    let answer = http::post(scene.gateway.address, CHAT, &other, &ask());
    assert!(challenges(&answer).iter().all(|challenge| challenge.method == "credit"));
    assert_eq!((made, scene.gateway.metric("farthing_invoices_total{outcome=\"made\"}")), (2, 2));
}

fn challenge_of(scene: &Scene) -> Challenge {
    challenge(&scene.unpaid(CHAT), "charge")
}

/// MPP-23, L402-45: the token that was sold with an invoice may bring its payment in for weeks. So one that came in by a
/// challenge is known for as long: shown by the token then, it is told what it has bought and is nobody's second deposit.
#[test]
fn mpp_23_a_charge_is_known_for_as_long_as_its_token_may_be_shown() {
    let mut scene = Scene::new();
    let unpaid = scene.unpaid(TOOL);
    let (charged, token) = (challenge(&unpaid, "charge"), Offered::of(&unpaid));
    let preimage = paid(&charge_asked(&charged).method_details.invoice);
    assert_eq!(scene.at(TOOL, &charge(&charged, &preimage)).status, 200);
    scene.gateway.books_after(1);
    scene.gateway.signal(15);
    scene.gateway.wait();
    // Ten days later, as far as the store knows.
    let store =
        store::Store::open(&scene.gateway.folder().join("store"), store::Options::new([7; 16])).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let now_ms = (farthing_tests::payer::now_s() + 10 * 24 * 3600) * 1000;
    runtime.block_on(store.commit(store::Op::Sweep { now_ms })).unwrap();
    drop((store, runtime));
    scene.gateway.restart();
    assert_refused(&scene.at(TOOL, &token.paid()), 403, "verification_failed", "nothing_taken");
    assert_eq!((scene.deposits(), scene.upstream.hits()), (1, 1));
}

/// MPP-18, MPP-19, MPP-23: a charge is a deposit of what its invoice was for, and the call draws on it.
#[test]
fn mpp_23_a_charge_is_paid_by_its_preimage() {
    let scene = Scene::new();
    let (challenge, credential) = scene.charged(CHAT);
    let answer = scene.call(&credential);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = receipt(&answer).unwrap();
    assert_eq!((told.method.as_str(), told.intent.as_deref()), ("lightning", Some("charge")));
    assert_eq!(told.challenge_id.as_deref(), Some(&*challenge.id));
    assert_eq!(Some(told.reference), charge_asked(&challenge).method_details.payment_hash);
    assert!(answer.must("cache-control").contains("private"));
    let key = answer.must("farthing-key").to_owned();
    assert_eq!(scene.gateway.settled_balance(&key), DEPOSIT * SAT - FRIENDLY_COST);
    let seen = scene.upstream.seen();
    assert!(
        seen[0].headers.iter().all(|(_, value)| !value.contains("Payment ")),
        "the upstream sees no proof"
    );
    let preimage = paid(&charge_asked(&challenge).method_details.invoice);
    assert!(!scene.gateway.log().contains(&preimage));
    let stored = std::fs::read(scene.gateway.folder().join("store/farthing.redb")).unwrap();
    let secret: [u8; 32] = wire::hex::decode_array(&preimage).unwrap();
    assert!(find(&stored, preimage.as_bytes()).is_none() && find(&stored, &secret).is_none());
}

/// MPP-13, reference item 22: what is no proof of this payment takes nothing, and says what is wrong.
#[test]
fn mpp_13_what_proves_no_payment_takes_nothing() {
    let scene = Scene::new();
    let (challenge, good) = scene.charged(CHAT);
    let other = challenge_of(&scene);
    let of_other = paid(&charge_asked(&other).method_details.invoice);
    let own = paid(&charge_asked(&challenge).method_details.invoice);
    for (credential, problem) in [
        (charge(&challenge, &"ab".repeat(32)), "verification-failed"),
        (charge(&challenge, &of_other), "verification-failed"),
        (charge(&challenge, &own.to_uppercase()), "malformed-credential"),
        (charge(&challenge, &own[2..]), "malformed-credential"),
        (authorization(&challenge, json!({})), "malformed-credential"),
        (authorization(&challenge, json!({"preimage": 7})), "malformed-credential"),
        (
            charge(&Challenge { request: other.request.clone(), ..challenge.clone() }, &of_other),
            "invalid-challenge",
        ),
    ] {
        assert_problem(&scene.call(&credential), problem);
    }
    // Paid for one route, shown on another.
    assert_problem(&scene.at(TOOL, &good), "invalid-challenge");
    let late = Forge::of(&scene.gateway).bound(&challenge, |challenge, _| {
        challenge.expires = Some("2026-01-01T00:00:00.000Z".to_owned());
    });
    assert_problem(&scene.call(&charge(&late, &own)), "payment-expired");
    assert_eq!((scene.deposits(), scene.upstream.hits()), (0, 0));
    assert_eq!(scene.call(&good).status, 200, "and it is as good as it was");
    // What is in stays in, whatever has become of the challenge.
    assert_eq!(scene.call(&charge(&late, &own)).status, 200);
    assert_eq!(scene.deposits(), 1);
}

/// MPP-24: shown again it draws on what is left, for any request of its route; the token of L402 over the same invoice is
/// another door to the same money.
#[test]
fn mpp_24_two_doors_to_one_claim() {
    let scene = Scene::new();
    let answer = scene.unpaid(CHAT);
    let charged = challenge(&answer, "charge");
    let credential = charge(&charged, &paid(&charge_asked(&charged).method_details.invoice));
    let token = Offered::of(&answer).paid();
    let first = scene.call(&credential);
    assert_eq!(first.status, 200);
    let key = first.must("farthing-key").to_owned();
    let again = call(&scene.gateway, &credential, &small());
    assert_eq!(
        (again.status, again.header("farthing-key"), again.header("farthing-replayed")),
        (200, None, None)
    );
    assert_eq!(scene.call(&token).status, 200);
    assert_eq!(scene.gateway.settled_balance(&key), DEPOSIT * SAT - 3 * FRIENDLY_COST);
    // At once, through both.
    let answers = at_once(16, |at| {
        call(&scene.gateway, if at % 2 == 0 { &credential } else { &token }, &small()).status
    });
    assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
    assert_eq!((scene.deposits(), scene.upstream.hits()), (1, 19));
    // Both in one request are two payments.
    let both = [("authorization", credential.as_str()), ("authorization", token.as_str())];
    let refused = http::post(scene.gateway.address, CHAT, &both, &ask());
    assert_refused(&refused, 400, "ambiguous_credentials", "nothing_taken");
    // Until it is used up: then a challenge, and no further deposit.
    let mut long = ask();
    long["messages"][0]["content"] = json!("x".repeat(200_000));
    let short = call(&scene.gateway, &credential, &long);
    assert_problem(&short, "payment-insufficient");
    assert_eq!((scene.deposits(), scene.upstream.hits()), (1, 19));
}

/// MPP-24, MPP-25: where each call costs the same, it buys one; what failed upstream was not bought.
#[test]
fn mpp_25_a_charge_at_a_fixed_price_buys_one_call() {
    let fails = Arc::new(AtomicBool::new(true));
    let failing = Arc::clone(&fails);
    let upstream = Upstream::start(move |request, stream| {
        let failed = failing.load(Ordering::SeqCst);
        let answer = if failed { plain(500, "application/json", "{}") } else { friendly_answer(request) };
        let _ = stream.write_all(&answer);
    });
    let scene = Scene::of(upstream, [], "{}");
    let (_, credential) = scene.charged(TOOL);
    let failed = scene.at(TOOL, &credential);
    assert_eq!(failed.status, 500);
    assert!(receipt(&failed).is_none(), "no receipt of a failure");
    fails.store(false, Ordering::SeqCst);
    let statuses = at_once(64, |_| scene.at(TOOL, &credential).status);
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 403, 409].contains(status)), "{statuses:?}");
    assert_eq!(scene.upstream.hits(), 2);
    let spent = scene.at(TOOL, &credential);
    assert_refused(&spent, 403, "verification_failed", "nothing_taken");
    assert!(challenges(&spent).is_empty());
    assert_eq!(scene.deposits(), 1);
}

/// MPP 10.2: opened, drawn on, filled up, ended; each answer with its receipt.
#[test]
fn mpp_28_a_session_from_its_first_invoice_to_its_last() {
    let scene = Scene::new();
    let session = scene.opened();
    let answer = scene.call(&session.bearer());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = receipt(&answer).unwrap();
    assert_eq!((told.reference.as_str(), told.intent.as_deref()), (session.id.as_str(), Some("session")));
    assert_eq!(told.challenge_id.as_deref(), Some(&*session.challenge.id));
    // Shown again, what opened it draws on it.
    assert_eq!(scene.call(&session.open()).status, 200);
    let further = offered(&scene.gateway, &ask());
    for _ in 0..3 {
        let told = session.show(&scene.gateway, &further, &ask());
        assert_eq!((told.status, told.text().as_str()), (200, r#"{"status":"ok"}"#));
        assert_eq!(receipt(&told).unwrap().reference, session.id);
        assert_eq!(told.must("cache-control"), "no-store");
    }
    assert_eq!(scene.upstream.hits(), 3, "a top-up makes no call");
    assert_eq!(
        (scene.deposits(), scene.gateway.settled_balance(&session.key)),
        (2, 2 * DEPOSIT * SAT - 3 * FRIENDLY_COST)
    );

    let closed = scene.call(&session.close());
    assert_eq!(closed.status, 200, "{}", closed.text());
    // 99.91 satoshi: whole ones go back.
    let body = json!({"status": "closed", "refundSats": 99, "refundStatus": "succeeded"});
    assert_eq!(closed.json(), body);
    let told = receipt(&closed).unwrap();
    assert_eq!((told.refund_sats, told.refund_status), (Some(99), Some(RefundStatus::Succeeded)));
    let orders = scene.node.orders();
    assert_eq!((orders.len(), &orders[0]["payment_request"]), (1, &json!(session.return_invoice)));
    assert_eq!((orders[0]["amt_msat"].as_str(), scene.node.paid_msat()), (Some("99000"), 99_000));
    assert_eq!(scene.gateway.settled_balance(&session.key), SAT - 3 * FRIENDLY_COST);
    // The same again is told the same; everything else finds it closed.
    assert_eq!(scene.call(&session.close()).json(), body);
    let other = Session { challenge: offered(&scene.gateway, &ask()), ..session.clone() };
    for credential in [other.close(), session.bearer(), session.open(), other.bearer()] {
        assert_problem(&scene.call(&credential), "lightning/session-closed");
    }
    assert_problem(&session.top_up(&scene.gateway, &ask()).1, "lightning/session-closed");
    assert_eq!((scene.node.orders().len(), scene.deposits(), scene.upstream.hits()), (1, 2, 3));
}

/// MPP 10.2: what proves nothing, in the words of this method; nothing is taken and nothing opened.
#[test]
fn mpp_28_attacks_on_a_session() {
    let scene = Scene::new();
    let session = scene.opened();
    let paid_for = Session::pay(&scene.gateway, &ask());
    let wrong = "ab".repeat(32);
    let act = |challenge: &Challenge, payload: Value| scene.call(&authorization(challenge, payload));
    let (id, preimage, own) = (&session.id, &session.preimage, &session.challenge);
    let mainnet = invoice_made_at(1_790_000_000, 1, 60, Currency::Bitcoin);
    let open =
        |invoice: &str| json!({"action": "open", "preimage": paid_for.preimage, "returnInvoice": invoice});
    for (challenge, payload, problem) in [
        (own, json!({"action": "bearer", "sessionId": id, "preimage": wrong}), "invalid-preimage"),
        (own, json!({"action": "close", "sessionId": id, "preimage": wrong}), "invalid-preimage"),
        (own, json!({"action": "topUp", "sessionId": id, "topUpPreimage": wrong}), "invalid-preimage"),
        (own, json!({"action": "open", "preimage": wrong, "returnInvoice": "lnbcrt1"}), "invalid-preimage"),
        (
            own,
            json!({"action": "bearer", "sessionId": paid_for.id, "preimage": paid_for.preimage}),
            "session-not-found",
        ),
        (
            own,
            json!({"action": "close", "sessionId": paid_for.id, "preimage": paid_for.preimage}),
            "session-not-found",
        ),
        (own, json!({"action": "bearer", "sessionId": "x", "preimage": preimage}), "malformed-credential"),
        (own, json!({"action": "bearer", "sessionId": id}), "malformed-credential"),
        (own, json!({"action": "rob", "sessionId": id}), "malformed-credential"),
        (own, json!({}), "malformed-credential"),
        // What opened it fills up none, itself neither.
        (own, json!({"action": "topUp", "sessionId": id, "topUpPreimage": preimage}), "unknown-challenge"),
        (&paid_for.challenge, open(&invoice_of_holder(1_000, 3_600)), "invalid-return-invoice"),
        (&paid_for.challenge, open(&mainnet), "invalid-return-invoice"),
        (&paid_for.challenge, open(&return_invoice(1)), "invalid-return-invoice"),
        (&paid_for.challenge, open("lnbcrt1"), "invalid-return-invoice"),
    ] {
        assert_problem(&act(challenge, payload), &format!("lightning/{problem}"));
    }
    // A bearer's challenge may be old; that of a payment which nobody has seen may not.
    let forge = Forge::of(&scene.gateway);
    let late = |challenge: &Challenge| {
        forge.bound(challenge, |challenge, _| challenge.expires = Some("2026-01-01T00:00:00.000Z".to_owned()))
    };
    let old = Session { challenge: late(own), ..session.clone() };
    assert_eq!(scene.call(&old.bearer()).status, 200);
    let too_late = Session { challenge: late(&paid_for.challenge), ..paid_for.clone() };
    assert_problem(&scene.call(&too_late.open()), "lightning/challenge-expired");
    assert_eq!(scene.deposits(), 1);
    // A payment of one session opens no other, and the reverse.
    assert_eq!(session.show(&scene.gateway, &paid_for.challenge, &ask()).status, 200);
    assert_problem(&scene.call(&paid_for.open()), "lightning/unknown-challenge");
    let second = scene.opened();
    let filled = session.show(&scene.gateway, &second.challenge, &ask());
    assert_problem(&filled, "lightning/unknown-challenge");
    // Nor does a key's account pay for it: which of the two should?
    let headers = [("authorization", session.bearer()), ("x-api-key", second.key.clone())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let both = http::post(scene.gateway.address, CHAT, &headers, &ask());
    assert_refused(&both, 400, "ambiguous_credentials", "nothing_taken");
    assert_eq!((scene.deposits(), scene.node.orders().len()), (3, 0));
}

/// MPP-28: whoever shows one payment at once opens one session with one deposit, and draws on it.
#[test]
fn mpp_28_one_payment_opens_one_session() {
    let scene = Scene::new();
    let session = Session::pay(&scene.gateway, &small());
    let credential = session.open();
    let answers = at_once(32, |_| call(&scene.gateway, &credential, &small()));
    assert!(answers.iter().all(|answer| answer.status == 200));
    let keys = answers.iter().filter(|answer| answer.header("farthing-key").is_some()).count();
    assert_eq!((scene.deposits(), keys), (1, 1));
    let further = offered(&scene.gateway, &ask());
    let statuses = at_once(16, |_| session.show(&scene.gateway, &further, &ask()).status);
    assert!(statuses.iter().all(|status| *status == 200));
    assert_eq!(scene.deposits(), 2);
    let closes = at_once(16, |_| scene.call(&session.close()));
    let told: Vec<_> = closes.iter().map(|answer| (answer.status, answer.text())).collect();
    assert!(told.iter().all(|(status, text)| *status == 200 && *text == told[0].1), "{told:?}");
    assert_eq!(scene.node.orders().len(), 1);
}

/// MPP-29: what cannot go back stays owed, and the session closed.
#[test]
fn mpp_29_a_refund_that_fails_stays_a_liability() {
    let scene = Scene::paying([Does::Fails]);
    let session = scene.opened();
    let body = json!({"status": "closed", "refundSats": 49, "refundStatus": "failed"});
    for _ in 0..2 {
        let closed = scene.call(&session.close());
        assert_eq!((closed.status, closed.json()), (200, body.clone()));
        assert_eq!(receipt(&closed).unwrap().refund_status, Some(RefundStatus::Failed));
    }
    assert_eq!(scene.node.orders().len(), 1, "one attempt");
    assert_eq!(scene.gateway.settled_balance(&session.key), DEPOSIT * SAT - FRIENDLY_COST, "owed");
    assert_problem(&scene.call(&session.bearer()), "lightning/session-closed");
    wait_for("the alarm", || scene.gateway.log().contains("ALARM: the rest of a session").then_some(()));
}

/// MPP-22, MPP-29: where the node does not say, nobody says that it went back, and nothing is paid in its place.
#[test]
fn mpp_29_a_refund_whose_end_is_unknown_is_asked_for_again() {
    let mut scene = Scene::paying([Does::LosesTheAnswer, Does::Pays(0)]);
    let session = scene.opened();
    let unknown = scene.call(&session.close());
    assert_refused(&unknown, 503, "settlement_unknown", "unknown");
    assert!(unknown.header("retry-after").is_some() && challenges(&unknown).is_empty());
    scene.gateway.crash_and_restart();
    assert_problem(&scene.call(&session.bearer()), "lightning/session-closed");
    scene.node.ends(&session.return_invoice, Stands::Paid(0));
    let closed = wait_for("the end of the refund", || {
        Some(scene.call(&session.close())).filter(|answer| answer.status == 200)
    });
    assert_eq!(closed.json(), json!({"status": "closed", "refundSats": 49, "refundStatus": "succeeded"}));
    assert_eq!(scene.node.orders().len(), 1);
    assert_eq!(scene.gateway.settled_balance(&session.key), SAT - FRIENDLY_COST);
}

/// kill -9 between the end of a session and its refund: the next process pays it back, once.
#[test]
fn mpp_29_an_end_that_a_crash_cut_off_goes_on() {
    let mut scene = Scene::paying([Does::SaysNothing]);
    let session = scene.opened();
    let headers = [("authorization", &*session.close())];
    let asked = http::posted(scene.gateway.address, CHAT, &headers, &ask());
    let mut socket = Socket::connect(scene.gateway.address);
    socket.send(asked);
    wait_for("the order", || (scene.node.orders().len() == 1).then_some(()));
    scene.gateway.crash_and_restart();
    scene.node.ends(&session.return_invoice, Stands::Paid(0));
    let closed = wait_for("the end of the refund", || {
        Some(scene.call(&session.close())).filter(|answer| answer.status == 200)
    });
    assert_eq!(closed.json()["refundStatus"], "succeeded");
    assert_eq!(scene.node.orders().len(), 1, "paid once");
    assert_eq!(scene.gateway.settled_balance(&session.key), SAT - FRIENDLY_COST);
    scene.gateway.signal(15);
    assert!(scene.gateway.wait().success());
    let checked = scene.gateway.command(&["fsck"]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

/// A session that nothing is asked of gives back what is left by itself.
#[test]
fn mpp_29_an_idle_session_is_closed() {
    let scene = Scene::of(Upstream::friendly(), [Does::Pays(0)], "{ sessions: { idle: 1s } }");
    let session = scene.opened();
    wait_for("the refund", || (scene.node.paid_msat() == 49_000).then_some(()));
    wait_for("its end", || {
        let answer = scene.call(&session.close());
        (answer.status == 402).then(|| assert_problem(&answer, "lightning/session-closed"))
    });
    assert_eq!(scene.gateway.settled_balance(&session.key), SAT - FRIENDLY_COST);
}

/// Less than a satoshi is nothing to move; what a payment was for that came in as a charge goes back too.
#[test]
fn mpp_29_what_is_left_after_a_charge_goes_back_by_whole_satoshi() {
    let scene = Scene::new();
    let answer = scene.unpaid(CHAT);
    let (charged, opening) = (challenge(&answer, "charge"), challenge(&answer, "session"));
    let preimage = paid(&charge_asked(&charged).method_details.invoice);
    assert_eq!(scene.call(&charge(&charged, &preimage)).status, 200);
    let id = asked(&opening).payment_hash;
    let session = Session {
        id,
        preimage,
        deposit_sats: 50,
        return_invoice: return_invoice(3_600),
        challenge: opening,
        key: String::new(),
    };
    assert_eq!(scene.call(&session.open()).status, 200, "its payment is in already");
    let closed = scene.call(&session.close()).json();
    assert_eq!((&closed["refundSats"], &closed["refundStatus"]), (&json!(49), &json!("succeeded")));

    // Where the holder has taken the rest himself there is nothing to be tried.
    let scene = Scene::new();
    let session = scene.opened();
    let invoice = json!({"invoice": invoice_of_holder(49_000, 3_600)});
    let key = [("x-api-key", session.key.as_str())];
    // The key is written down behind the answer that it came with.
    scene.gateway.books_after(1);
    assert_eq!(http::post(scene.gateway.address, "/farthing/refund", &key, &invoice).status, 200);
    let closed = scene.call(&session.close());
    assert_eq!(closed.json(), json!({"status": "closed", "refundSats": 0, "refundStatus": "skipped"}));
    assert_eq!(receipt(&closed).unwrap().refund_status, Some(RefundStatus::Skipped));
    assert_eq!(scene.node.orders().len(), 1, "the holder's own");
}

/// Where nothing can go back no session is offered; a charge is.
#[test]
fn mpp_29_without_refunds_there_are_no_sessions() {
    let upstream = Upstream::friendly();
    let rails = with_rules(farthing_tests::lightning::TEST_NODE, "{}");
    let gateway = Gateway::start(upstream.address, &rails);
    let answer = http::post(gateway.address, CHAT, &[], &ask());
    let offered: Vec<_> = challenges(&answer).iter().map(|c| format!("{}/{}", c.method, c.intent)).collect();
    assert_eq!(offered, ["lightning/charge", "credit/session"]);
    let charged = challenge(&answer, "charge");
    let credential = charge(&charged, &paid(&charge_asked(&charged).method_details.invoice));
    assert_eq!(call(&gateway, &credential, &ask()).status, 200);
}
