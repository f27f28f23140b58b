//! What is paid for by the `Payment` scheme: once, whoever shows it how often, and told of where it was served.
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use farthing_tests::crowd::at_once;
use farthing_tests::facilitator::{Conduct, Reply, failure};
use farthing_tests::gateway::{Gateway, nano, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::mpp::{asked, call, challenge, challenges, credential, receipt, with_mpp};
use farthing_tests::mpp_stage::{Stage, TOOL};
use farthing_tests::payer::{BASE_SEPOLIA, Wallet};
use farthing_tests::refused::assert_refused;
use farthing_tests::scene::{CHAT, ask};
use farthing_tests::upstream::{FRIENDLY_COST, KEY, STREAM_HEAD, Upstream, friendly_answer, plain};
use serde_json::{Value, json};
use wire::mpp::Credential;

const CENT: i64 = 10_000_000;

/// Where payments of the wallet go that come without a key.
fn account(stage: &Stage, shown: &Credential) -> String {
    let token = asked(&shown.challenge).currency.parse().unwrap();
    wire::hex::encode(&proof::account_id::evm(BASE_SEPOLIA, &stage.wallet.address(), &token))
}

/// Nano-dollars of what was signed for.
fn paid(shown: &Credential) -> i64 {
    asked(&shown.challenge).amount.parse::<i64>().unwrap() * 1000
}

fn nonce(shown: &Credential) -> String {
    shown.payload["nonce"].as_str().unwrap().to_owned()
}

/// MPP-18, MPP-19, MPP-23: one transfer, one deposit, one charge, and a receipt that names the transfer and no secret.
#[test]
fn mpp_18_a_charge_is_settled_served_and_told() {
    let stage = Stage::new();
    let shown = stage.signed(CHAT, &ask());
    let answer = stage.call(CHAT, &shown, &ask());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = receipt(&answer).unwrap();
    assert_eq!((told.method.as_str(), told.status.as_str()), ("evm", "success"));
    assert_eq!(
        (told.intent.as_deref(), told.challenge_id.as_deref()),
        (Some("charge"), Some(&*shown.challenge.id))
    );
    assert_eq!(told.reference, nonce(&shown), "what the stand-in calls its transfer");
    assert_eq!(told.more["farthing"], answer.must("farthing-receipt"));
    assert!(answer.must("cache-control").contains("private"), "{:?}", answer.headers);
    assert!(answer.must("access-control-expose-headers").contains("Payment-Receipt"));
    assert_eq!(answer.header("payment-response"), None, "that is for clients of x402");
    stage.assert_counts(1, 1, 1);
    let books = stage.gateway.books();
    assert_eq!(books.balance(&account(&stage, &shown)), paid(&shown) - FRIENDLY_COST);
    let key = answer.must("farthing-key").to_owned();
    assert_eq!(stage.gateway.settled_balance(&key), paid(&shown) - FRIENDLY_COST);
    // The facilitator has got a payment of x402 and nothing of the challenge.
    let asked: Value = serde_json::from_slice(&stage.facilitator.settles()[0]).unwrap();
    assert_eq!(asked["paymentPayload"]["payload"]["authorization"]["nonce"], nonce(&shown));
    assert_eq!(asked["paymentRequirements"]["amount"], shown.payload["value"]);
    assert!(!asked.to_string().contains(&shown.challenge.id));
}

/// MPP-17: nothing that pays goes on to the upstream.
#[test]
fn mpp_17_no_credential_reaches_the_upstream() {
    let stage = Stage::new();
    let secret = "canary-of-a-credential";
    let shown = stage.signed(CHAT, &ask()).to_value();
    let mut fields =
        vec![("payment-authorization", shown.as_str()), ("authorization", "Bearer canary-of-a-credential")];
    for name in
        ["x-api-key", "x-goog-api-key", "proxy-authorization", "macaroon", "grpc-metadata-macaroon", "cookie"]
    {
        fields.push((name, secret));
    }
    let answer = http::post(stage.gateway.address, CHAT, &fields, &ask());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = &stage.upstream.seen()[0];
    assert_eq!(seen.header("authorization"), Some(&*format!("Bearer {KEY}")), "the operator's own");
    for (name, _) in fields.iter().filter(|(name, _)| *name != "authorization") {
        assert_eq!(seen.header(name), None);
    }
    assert!(!format!("{seen:?}").contains(secret));
    assert!(!stage.gateway.log().contains(&shown[8..40]), "nor a log");
}

/// A stream is paid like a document; its receipt stands at its head.
#[test]
fn a_stream_is_paid_and_told_at_its_head() {
    let events = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hello\"}}]}\n\n\
                  data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5,\"total_tokens\":15}}\n\ndata: [DONE]\n\n";
    let upstream = Upstream::start(move |_, stream| {
        let _ = stream.write_all(STREAM_HEAD.as_ref());
        let _ = stream.write_all(events.as_bytes());
    });
    let stage = Stage::of(upstream, []);
    let mut body = ask();
    body["stream"] = json!(true);
    let shown = stage.signed(CHAT, &body);
    let answer = stage.call(CHAT, &shown, &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("hello") && answer.text().contains("[DONE]"));
    assert_eq!(receipt(&answer).unwrap().reference, nonce(&shown));
    stage.assert_counts(1, 1, 1);
    assert_eq!(stage.gateway.books().balance(&account(&stage, &shown)), paid(&shown) - FRIENDLY_COST);
}

/// MPP-18, MPP-24: an upstream that fails takes nothing and gets no receipt; the same credential pays for the next try,
/// also where each call costs the same.
#[test]
fn mpp_24_a_failed_upstream_takes_nothing() {
    for (path, body, cost) in [(CHAT, ask(), FRIENDLY_COST), (TOOL, json!({}), CENT)] {
        let hits = AtomicUsize::new(0);
        let upstream = Upstream::start(move |request, stream| {
            let answer = match hits.fetch_add(1, Ordering::SeqCst) {
                0 => plain(500, "application/json", "{}"),
                1 => plain(429, "application/json", "{}"),
                2 => return,
                _ => friendly_answer(request),
            };
            let _ = stream.write_all(&answer);
        });
        let stage = Stage::of(upstream, []);
        let shown = stage.signed(path, &body);
        let mut key = None;
        for status in [500, 429, 502] {
            let answer = stage.call(path, &shown, &body);
            assert_eq!((answer.status, receipt(&answer)), (status, None), "{}", answer.text());
            key = answer.header("farthing-key").map(str::to_owned).or(key);
            assert_eq!(stage.gateway.settled_balance(key.as_deref().unwrap()), paid(&shown));
        }
        let answer = stage.call(path, &shown, &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(receipt(&answer).unwrap().reference, nonce(&shown));
        assert_eq!(stage.gateway.settled_balance(&key.unwrap()), paid(&shown) - cost);
        stage.assert_counts(4, 1, 1);
    }
}

/// Reference items 5 and 14: what is public by now opens nothing again. The same request is told what it got; any other
/// is refused without a challenge, whatever the credential wraps the proof in.
#[test]
fn a_replay_is_told_or_refused() {
    let stage = Stage::new();
    let mut other = ask();
    other["max_tokens"] = json!(10);
    for (path, body) in [(TOOL, ask()), (CHAT, ask())] {
        let shown = stage.signed(path, &body);
        let first = stage.call(path, &shown, &body);
        assert_eq!(first.status, 200, "{}", first.text());
        let again = stage.call(path, &shown, &body);
        assert_eq!((again.status, again.text()), (200, first.text()));
        assert_eq!(again.header("farthing-replayed"), Some("true"));
        assert_eq!(receipt(&again), receipt(&first), "in what is stored too");
        assert_eq!(again.header("farthing-key"), None);
        let elsewhere = if path == CHAT { TOOL } else { CHAT };
        for (path, body) in [(path, &other), (elsewhere, &body)] {
            let refused = stage.call(path, &shown, body);
            assert_refused(&refused, 403, "verification_failed", "nothing_taken");
            assert_eq!(refused.json()["type"], "https://paymentauth.org/problems/verification-failed");
            assert!(challenges(&refused).is_empty() && receipt(&refused).is_none());
        }
        // The same transfer through the other door.
        let unpaid = http::post(stage.gateway.address, path, &[], &other);
        let refused = http::post(
            stage.gateway.address,
            path,
            &[("payment-signature", &x402(&stage, &unpaid, &shown))],
            &other,
        );
        assert_refused(&refused, 403, "verification_failed", "nothing_taken");
        // And what was paid through that door, through this one.
        let signed = stage.wallet.charge(&challenge(&unpaid, "evm"));
        let first = http::post(
            stage.gateway.address,
            path,
            &[("payment-signature", &x402(&stage, &unpaid, &signed))],
            &other,
        );
        assert_eq!(first.status, 200, "{}", first.text());
        let again = stage.call(path, &signed, &other);
        assert_eq!(
            (again.status, again.header("farthing-replayed")),
            (200, Some("true")),
            "{}",
            again.text()
        );
    }
    stage.assert_counts(4, 4, 4);
}

/// A transfer that was signed for a challenge of this scheme, as a payment of x402.
fn x402(stage: &Stage, unpaid: &Answer, signed: &Credential) -> String {
    let mut payment = stage.wallet.pay(unpaid, BASE_SEPOLIA);
    let member = |name: &str| (name.to_owned(), signed.payload[name].clone());
    let names = ["from", "to", "value", "validAfter", "validBefore", "nonce"];
    let authorization: Value = names.into_iter().map(member).collect();
    payment.payload = json!({"signature": signed.payload["signature"], "authorization": authorization});
    payment.v2()
}

/// MPP-25, reference item 14: however many show one payment at once, one call is made.
#[test]
fn mpp_25_sixty_four_at_once_are_one_call() {
    let is_over = Arc::new(AtomicBool::new(false));
    let waits = Arc::clone(&is_over);
    let upstream = Upstream::start(move |request, stream| {
        wait_for("the others", || waits.load(Ordering::SeqCst).then_some(()));
        let _ = stream.write_all(&friendly_answer(request));
    });
    let stage = Stage::of(upstream, []);
    let shown = stage.signed(TOOL, &json!({}));
    let refused = AtomicUsize::new(0);
    let answers = at_once(64, |_| {
        let answer = stage.call(TOOL, &shown, &json!({}));
        if answer.status == 409 && refused.fetch_add(1, Ordering::SeqCst) == 62 {
            is_over.store(true, Ordering::SeqCst);
        }
        answer
    });
    let served: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!(served.len(), 1);
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        assert_refused(answer, 409, "in_progress", "first_attempt_decides");
        assert!(answer.header("retry-after").is_some() && receipt(answer).is_none());
    }
    let told = stage.call(TOOL, &shown, &json!({}));
    assert_eq!((told.status, told.text()), (200, served[0].text()));
    stage.assert_counts(1, 1, 1);
}

/// MPP-22: nobody knows whether the money moved. The same credential again finds out, and no new one is asked for.
#[test]
fn mpp_22_an_unknown_outcome_is_never_paid_again() {
    let stage = Stage::of(Upstream::friendly(), [Conduct::MoveThen(Reply::Hangup)]);
    let shown = stage.signed(CHAT, &ask());
    let answer = stage.call(CHAT, &shown, &ask());
    assert_refused(&answer, 503, "settlement_unknown", "unknown");
    assert!(challenges(&answer).is_empty() && answer.header("retry-after").is_some());
    let served = wait_for("the payment to be served", || {
        let answer = stage.call(CHAT, &shown, &ask());
        let waits = ["in_progress", "settlement_unknown"].contains(&answer.refusal().as_str());
        (!waits).then_some(answer)
    });
    assert_eq!(served.status, 200, "{}", served.text());
    assert_eq!(receipt(&served).unwrap().reference, nonce(&shown));
    stage.assert_counts(1, 1, 1);
}

/// A receipt says that the money has moved: so it moves first, whatever x402 is allowed.
#[test]
fn a_charge_is_settled_before_its_call() {
    let stage = Stage::by(Upstream::friendly(), [], ", settle: after");
    let shown = stage.signed(CHAT, &ask());
    let answer = stage.call(CHAT, &shown, &ask());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(receipt(&answer).unwrap().reference, nonce(&shown));
    let refusing =
        Stage::by(Upstream::friendly(), [Conduct::Only(failure("insufficient_funds"))], ", settle: after");
    let shown = refusing.signed(CHAT, &ask());
    assert_eq!(refusing.call(CHAT, &shown, &ask()).status, 402);
    assert_eq!(refusing.upstream.hits(), 0, "nothing is served on a promise");
}

/// MPP-24: a gateway that is killed while it serves a payment has it when it comes back, and serves it then.
#[test]
fn mpp_24_a_payment_outlives_the_gateway() {
    let (called, hits) = (Arc::new(AtomicBool::new(false)), AtomicUsize::new(0));
    let told = Arc::clone(&called);
    let upstream = Upstream::start(move |request, stream| {
        if hits.fetch_add(1, Ordering::SeqCst) > 0 {
            let _ = stream.write_all(&friendly_answer(request));
        } else {
            told.store(true, Ordering::SeqCst);
            // Until the gateway is gone.
            let _ = std::io::copy(stream, &mut std::io::sink());
        }
    });
    let mut stage = Stage::of(upstream, []);
    let shown = stage.signed(CHAT, &ask());
    let (address, value) = (stage.gateway.address, shown.to_value());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let body = ask().to_string();
            let fields = [("authorization", value.as_str()), ("content-type", "application/json")];
            http::try_request(address, "POST", CHAT, &fields, body.as_bytes())
        });
        wait_for("the call", || called.load(Ordering::SeqCst).then_some(()));
        stage.gateway.signal(9);
    });
    stage.gateway.wait();
    stage.gateway.restart();
    let answer = stage.call(CHAT, &shown, &ask());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(receipt(&answer).unwrap().reference, nonce(&shown));
    stage.assert_counts(2, 1, 1);
    let again = stage.call(CHAT, &shown, &ask());
    assert_eq!((again.status, again.text()), (200, answer.text()));
    // Its body is in memory only. What is left to be said is an error, and has no receipt (MPP-18).
    stage.gateway.crash_and_restart();
    let over = stage.call(CHAT, &shown, &ask());
    assert_refused(&over, 409, "already_served", "captured");
    assert_eq!((receipt(&over), challenges(&over).len()), (None, 0));
    assert_eq!(stage.upstream.hits(), 2);
}

/// What a facilitator refuses has moved nothing, and another payment may be made.
#[test]
fn what_is_refused_can_be_paid_anew() {
    let stage = Stage::of(Upstream::friendly(), [Conduct::Only(failure("insufficient_funds"))]);
    let shown = stage.signed(CHAT, &ask());
    let answer = stage.call(CHAT, &shown, &ask());
    assert_refused(&answer, 402, "settlement_failed", "nothing_taken");
    assert_eq!(answer.json()["type"], "https://paymentauth.org/problems/verification-failed");
    assert_eq!(answer.header("payment-response"), None);
    let fresh = challenge(&answer, "evm");
    assert_eq!(stage.call(CHAT, &stage.wallet.charge(&fresh), &ask()).status, 200);
    stage.assert_counts(1, 1, 1);
}

/// Reference item 13: a key beside one payment is a top-up of its account, and the call draws on it.
#[test]
fn mpp_16_a_key_beside_a_payment_is_paid_into() {
    let stage = Stage::new();
    // The account of a key holds what is paid into it first.
    let funding = stage.signed(TOOL, &json!({}));
    let key = stage.call(TOOL, &funding, &json!({})).must("farthing-key").to_owned();
    assert_eq!(stage.gateway.settled_balance(&key), 0);
    let wallet = Wallet::new(2);
    let bearer = format!("Bearer {key}");
    let unpaid = http::post(stage.gateway.address, CHAT, &[("authorization", &bearer)], &ask());
    assert_refused(&unpaid, 402, "insufficient_balance", "nothing_taken");
    assert_eq!(unpaid.json()["type"], "https://paymentauth.org/problems/payment-insufficient");
    let shown = wallet.charge(&challenge(&unpaid, "evm"));
    let fields = [("authorization", bearer.as_str()), ("payment-authorization", &shown.to_value())];
    let answer = http::post(stage.gateway.address, CHAT, &fields, &ask());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("farthing-key"), None);
    assert_eq!(receipt(&answer).unwrap().reference, nonce(&shown));
    assert_eq!(stage.gateway.settled_balance(&key), paid(&shown) - FRIENDLY_COST);
}

/// Balance can be bought by this scheme too, and a key's own account paid into; a credit key buys none.
#[test]
fn a_top_up_is_payable_too() {
    let stage = Stage::new();
    let path = "/farthing/topup?amount=0.25";
    let shown = stage.signed(path, &json!({}));
    assert_eq!(paid(&shown), 250_000_000);
    let unpaid = http::post(stage.gateway.address, path, &[], &json!({}));
    assert!(challenges(&unpaid).iter().all(|challenge| challenge.method != "credit"));
    // Bought for a call it is no balance, and the reverse.
    let refused = stage.call(path, &stage.signed(TOOL, &json!({})), &json!({}));
    assert_refused(&refused, 402, "proof_invalid", "nothing_taken");
    assert_eq!(refused.json()["type"], "https://paymentauth.org/problems/invalid-challenge");
    assert_eq!(stage.call(TOOL, &shown, &json!({})).status, 402);
    let answer = stage.call(path, &shown, &json!({}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = receipt(&answer).unwrap();
    assert_eq!((told.reference.as_str(), told.more["asset"].as_str()), (&*nonce(&shown), Some("USDC")));
    assert_eq!(nano(&answer.json()["deposited"]["amount"]), 250_000_000);
    assert_eq!(answer.json()["protocol"], "mpp");
    let key = answer.must("farthing-key").to_owned();
    assert_eq!(stage.gateway.settled_balance(&key), 250_000_000);
    assert_eq!(stage.call(path, &shown, &json!({})).text(), answer.text(), "told again");
    assert_eq!(stage.gateway.settled_balance(&key), 250_000_000);
}

/// MPP-26: a request that names itself is served once, whichever payment comes with it.
#[test]
fn mpp_26_a_named_request_is_served_once() {
    let stage = Stage::new();
    let named = |shown: &Credential, body: &Value| {
        let value = shown.to_value();
        let fields = [("authorization", value.as_str()), ("idempotency-key", "one")];
        http::post(stage.gateway.address, CHAT, &fields, body)
    };
    let shown = stage.signed(CHAT, &ask());
    let first = named(&shown, &ask());
    assert_eq!(first.status, 200, "{}", first.text());
    let again = named(&stage.signed(CHAT, &ask()), &ask());
    assert_eq!((again.status, again.text()), (200, first.text()));
    assert_eq!(receipt(&again), receipt(&first));
    let mut other = ask();
    other["max_tokens"] = json!(10);
    let refused = named(&stage.signed(CHAT, &other), &other);
    assert_refused(&refused, 422, "idempotency_mismatch", "nothing_taken");
    stage.assert_counts(1, 1, 1);
}

/// mpp.md 10.9: a credit key in a credential of this scheme spends as it does in any field, as often as there is balance.
#[test]
fn a_credit_key_is_spent_by_this_scheme() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, &with_mpp("rails: { test: {} }\n"));
    let key = gateway.key("0.01 TEST");
    let unpaid = http::post(gateway.address, CHAT, &[], &ask());
    let credit = challenge(&unpaid, "credit");
    assert_eq!(credit.intent, "session");
    let request = credit.request_object().unwrap();
    assert_eq!(request["currency"], "usd");
    assert_eq!(request["methodDetails"]["decimals"], 9);
    assert!(request["methodDetails"]["topUpUrl"].as_str().unwrap().ends_with("/farthing/topup"));
    let need = nano(&unpaid.json()["error"]["need"]);
    assert_eq!(request["amount"], need.to_string());
    let shown = credential(credit.clone(), None, json!({"token": key}));
    for calls in 1..=2 {
        let answer = call(&gateway, CHAT, &shown, &ask());
        assert_eq!(answer.status, 200, "{}", answer.text());
        let told = receipt(&answer).unwrap();
        assert_eq!((told.method.as_str(), told.intent.as_deref()), ("credit", Some("session")));
        assert_eq!(told.reference, answer.must("farthing-receipt"), "public, and not the key");
        assert_eq!(nano(&told.more["held"]), answer.told("farthing-hold"));
        assert_eq!(nano(&told.more["balance"]), answer.told("farthing-balance"));
        assert_eq!(gateway.settled_balance(&key), CENT - calls * FRIENDLY_COST);
        assert_eq!(answer.header("farthing-key"), None);
    }
    // What the key may not, it may not here.
    let narrow = proof::credit_key::attenuate(&key, "models=other").unwrap();
    let refused = call(&gateway, CHAT, &credential(credit.clone(), None, json!({"token": narrow})), &ask());
    assert_refused(&refused, 403, "key_forbidden", "nothing_taken");
    let refused =
        call(&gateway, CHAT, &credential(credit.clone(), None, json!({"token": "fk_test_AA"})), &ask());
    assert_refused(&refused, 401, "key_unknown", "nothing_taken");
    for (payload, problem) in
        [(json!({}), "malformed-credential"), (json!({"token": 1}), "malformed-credential")]
    {
        let refused = call(&gateway, CHAT, &credential(credit.clone(), None, payload), &ask());
        assert_eq!(
            (refused.status, refused.json()["type"].as_str()),
            (402, Some(&*format!("https://paymentauth.org/problems/{problem}")))
        );
    }
    // A good key does not make up for a challenge that is none of ours.
    let mut foreign = credit;
    foreign.realm = "api.example".to_owned();
    let refused = call(&gateway, CHAT, &credential(foreign, None, json!({"token": key})), &ask());
    assert_refused(&refused, 402, "proof_invalid", "nothing_taken");
    // And where nothing is left, the difference is asked for.
    let poor = gateway.key("0.000001 TEST");
    let refused =
        call(&gateway, CHAT, &credential(challenge(&unpaid, "credit"), None, json!({"token": poor})), &ask());
    assert_refused(&refused, 402, "insufficient_balance", "nothing_taken");
    assert_eq!(upstream.hits(), 2);
}
