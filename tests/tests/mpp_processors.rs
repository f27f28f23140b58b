//! Payments that a processor makes of what a payer grants: shared payment tokens of Stripe, encrypted cards. One charge,
//! whoever shows a grant how often, and nothing that was granted is lost or spent behind the payer's back.
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use farthing_tests::card_processor::{self, CardProcessor};
use farthing_tests::crowd::at_once;
use farthing_tests::gateway::{Gateway, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::mpp::{call, challenge, challenges, credential, receipt, with_rules};
use farthing_tests::refused::assert_refused;
use farthing_tests::scene::{CHAT, ask};
use farthing_tests::stripe::{self, Conduct, PROFILE, Stripe};
use farthing_tests::upstream::{FRIENDLY_COST, Upstream, friendly_answer, plain};
use serde_json::{Value, json};
use wire::mpp::{Challenge, Credential, Problem};

/// What is asked for where a call costs less: one dollar.
const DEPOSIT: i64 = 1_000_000_000;
const RAILS: &str = "rails: { test: {} }\n";

/// A gateway that takes shared payment tokens.
struct Stage {
    upstream: Upstream,
    stripe: Stripe,
    gateway: Gateway,
}

impl Stage {
    fn new(plan: impl IntoIterator<Item = Conduct>) -> Self {
        Self::of(Upstream::friendly(), plan)
    }

    fn of(upstream: Upstream, plan: impl IntoIterator<Item = Conduct>) -> Self {
        let stripe = Stripe::start(plan);
        let rails = with_rules(RAILS, &stripe.rules());
        let gateway = Gateway::start_in(upstream.address, &rails, &[("STRIPE_KEY", stripe::KEY)]);
        Self { upstream, stripe, gateway }
    }

    fn asked(&self) -> Challenge {
        challenge(&http::post(self.gateway.address, CHAT, &[], &ask()), "stripe")
    }

    fn granted(&self, token: &str) -> Credential {
        credential(self.asked(), None, json!({ "spt": token }))
    }

    fn call(&self, shown: &Credential) -> Answer {
        call(&self.gateway, CHAT, shown, &ask())
    }

    /// So many charges at Stripe, deposits, calls.
    #[track_caller]
    fn assert_counts(&self, charges: usize, deposits: usize, calls: usize) {
        let books = self.gateway.books();
        assert_eq!(
            (self.stripe.charges(), books.count("deposit"), self.upstream.hits()),
            (charges, deposits, calls)
        );
    }
}

/// A 402 that asks for another payment, of this type.
#[track_caller]
fn assert_problem(answer: &Answer, problem: Problem, reason: &str) {
    let body = answer.json();
    assert_eq!((answer.status, body["type"].as_str()), (402, Some(&*problem.uri())), "{}", answer.text());
    assert_eq!(body["error"]["reason"], reason, "{}", answer.text());
    assert_eq!(body["money"], "nothing_taken", "{}", answer.text());
    assert!(!challenges(answer).is_empty(), "a fresh challenge goes with it");
    assert!(!answer.text().contains("spt_"), "{}", answer.text());
}

/// RAIL-15, MPP-23: one PaymentIntent under one key, a deposit by its name, change on the account.
#[test]
fn a_token_is_charged_served_and_told() {
    let stage = Stage::new([]);
    let asked = stage.asked();
    let request = asked.request_object().unwrap();
    assert_eq!((&request["amount"], &request["currency"]), (&json!("100"), &json!("usd")));
    assert_eq!(request["methodDetails"]["networkId"], PROFILE);
    assert_eq!(request["methodDetails"]["paymentMethodTypes"], json!(["card", "link"]));

    let shown = credential(asked.clone(), None, json!({"spt": "spt_a"}));
    let answer = stage.call(&shown);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = receipt(&answer).unwrap();
    assert_eq!((told.method.as_str(), told.reference.as_str()), ("stripe", "pi_1"));
    assert_eq!(told.challenge_id.as_deref(), Some(&*asked.id));
    let key = answer.must("farthing-key").to_owned();
    assert_eq!(stage.gateway.settled_balance(&key), DEPOSIT - FRIENDLY_COST);
    stage.assert_counts(1, 1, 1);

    let sent = &stage.stripe.asked()[0];
    assert_eq!(sent.header("idempotency-key"), Some(&*format!("{}_spt_a", asked.id)));
    let form = stripe::form(&sent.body);
    assert_eq!((form["amount"].as_str(), form["currency"].as_str()), ("100", "usd"));
    assert_eq!(form["metadata[challenge_id]"], asked.id);
    let log = stage.gateway.log();
    assert!(!log.contains("spt_a") && !log.contains(stripe::KEY), "a grant is a secret");
}

/// MPP-24: the same request again gets what it got, any other none; nothing is charged for either, and no key is told.
#[test]
fn a_token_that_was_charged_opens_nothing_a_second_time() {
    let stage = Stage::new([]);
    let shown = stage.granted("spt_a");
    let first = stage.call(&shown);
    assert_eq!(first.status, 200, "{}", first.text());
    let again = stage.call(&shown);
    assert_eq!((again.status, again.text()), (200, first.text()), "what was stored");
    assert_eq!(again.header("farthing-key"), None);

    let other = json!({"model": "m", "messages": [{"role": "user", "content": "else"}], "max_tokens": 5});
    let elsewhere = call(&stage.gateway, CHAT, &shown, &other);
    let with_fresh = credential(
        challenge(&http::post(stage.gateway.address, CHAT, &[], &other), "stripe"),
        None,
        json!({"spt": "spt_a"}),
    );
    for answer in [elsewhere, call(&stage.gateway, CHAT, &with_fresh, &other)] {
        assert_refused(&answer, 403, "verification_failed", "nothing_taken");
        assert!(challenges(&answer).is_empty(), "paying again would not help");
    }
    stage.assert_counts(1, 1, 1);
    assert_eq!(stage.stripe.asked().len(), 1);
}

/// RAIL-15, RAIL-20: a decline is a verdict; why a bank suspects somebody is nobody's business.
#[test]
fn a_decline_asks_for_another_payment() {
    for (code, reason) in [("insufficient_funds", "insufficient_funds"), ("stolen_card", "declined")] {
        let stage = Stage::new([Conduct::Declines(code)]);
        let answer = stage.call(&stage.granted("spt_a"));
        assert_problem(&answer, Problem::VerificationFailed, reason);
        assert!(!answer.text().contains("stolen") && !answer.text().contains("words for the seller"));
        stage.assert_counts(0, 0, 0);
        // Nothing is held against the payer: another token pays.
        assert_eq!(stage.call(&stage.granted("spt_b")).status, 200);
    }
}

/// What waits for its payer is cancelled, so that nothing moves later.
#[test]
fn a_payment_that_needs_its_payer_is_cancelled_first() {
    let stage = Stage::new([Conduct::RequiresAction]);
    let answer = stage.call(&stage.granted("spt_a"));
    assert_problem(&answer, Problem::PaymentActionRequired, "authentication_required");
    assert_eq!(stage.stripe.statuses(), ["canceled"]);
    stage.assert_counts(0, 0, 0);
}

/// MPP-22: nobody said what became of it. The same request finds out, without a second charge and without a challenge.
#[test]
fn mpp_22_an_answer_that_was_lost_after_the_charge() {
    for conduct in [Conduct::ChargesInSilence, Conduct::ChargesAndFails] {
        let stage = Stage::new([conduct]);
        let shown = stage.granted("spt_a");
        let first = stage.call(&shown);
        assert_refused(&first, 503, "settlement_unknown", "unknown");
        assert!(challenges(&first).is_empty(), "nobody is to pay twice");
        let answer =
            wait_for("the payment", || Some(stage.call(&shown)).filter(|answer| answer.status == 200));
        assert_eq!(receipt(&answer).unwrap().reference, "pi_1");
        stage.assert_counts(1, 1, 1);
        let keys: Vec<_> = stage
            .stripe
            .asked()
            .iter()
            .map(|seen| seen.header("idempotency-key").unwrap().to_owned())
            .collect();
        assert!(keys.len() > 1 && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    }
}

/// LED-23: also after a kill, and without the payer.
#[test]
fn a_payment_is_found_after_a_crash() {
    let mut stage = Stage::new([Conduct::ChargesInSilence]);
    let shown = stage.granted("spt_a");
    assert_eq!(stage.call(&shown).status, 503);
    stage.gateway.crash_and_restart();
    wait_for("the deposit", || (stage.gateway.books().count("deposit") == 1).then_some(()));
    let answer = stage.call(&shown);
    assert_eq!(answer.status, 200, "{}", answer.text());
    stage.assert_counts(1, 1, 1);
}

/// What was never begun, and what is under way.
#[test]
fn a_payment_that_takes_its_time() {
    let stage = Stage::new([Conduct::Silence]);
    let shown = stage.granted("spt_a");
    assert_refused(&stage.call(&shown), 503, "settlement_unknown", "unknown");
    let answer = wait_for("the payment", || Some(stage.call(&shown)).filter(|answer| answer.status == 200));
    assert_eq!(receipt(&answer).unwrap().reference, "pi_1");
    stage.assert_counts(1, 1, 1);

    let stage = Stage::new([Conduct::Processes]);
    assert_eq!(stage.call(&stage.granted("spt_a")).status, 200);
    stage.assert_counts(1, 1, 1);

    let stage = Stage::new([Conduct::Busy]);
    let shown = stage.granted("spt_a");
    assert_refused(&stage.call(&shown), 503, "facilitator_failed", "nothing_taken");
    assert_eq!(stage.call(&shown).status, 200, "the token is unharmed");
    stage.assert_counts(1, 1, 1);
}

/// A sum that was not asked for is no payment, and no reason to ask the payer for another.
#[test]
fn what_stripe_says_is_held_against_what_was_asked() {
    let stage = Stage::new([Conduct::ChargesLess]);
    let answer = stage.call(&stage.granted("spt_a"));
    assert_refused(&answer, 503, "settlement_unknown", "unknown");
    stage.assert_counts(1, 0, 0);
    assert!(stage.gateway.log().contains("ALARM"));
}

/// MPP-25: whoever comes first.
#[test]
fn mpp_25_one_token_at_once() {
    let stage = Stage::new([]);
    let shown = stage.granted("spt_a");
    let answers = at_once(16, |_| stage.call(&shown));
    for answer in &answers {
        assert!([200, 409].contains(&answer.status), "{}", answer.text());
    }
    assert!(answers.iter().any(|answer| answer.status == 200));
    stage.assert_counts(1, 1, 1);
}

/// MPP-18, MPP-24: the upstream failed, so the money is there: no receipt, and the same request is served from it.
#[test]
fn mpp_24_a_failed_upstream_keeps_the_deposit() {
    let is_broken = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&is_broken);
    let upstream = Upstream::start(move |request, stream| {
        let answer = if switch.load(Ordering::SeqCst) {
            plain(500, "application/json", r#"{"error":{"message":"no","type":"server_error"}}"#)
        } else {
            friendly_answer(request)
        };
        let _ = stream.write_all(&answer);
    });
    let stage = Stage::of(upstream, []);
    let failed = stage.call(&stage.granted("spt_a"));
    assert!(failed.status >= 500, "{}", failed.text());
    assert_eq!(receipt(&failed), None);
    let key = failed.must("farthing-key").to_owned();
    assert_eq!(stage.gateway.settled_balance(&key), DEPOSIT);
    is_broken.store(false, Ordering::SeqCst);
    let bearer = format!("Bearer {key}");
    let answer = http::post(stage.gateway.address, CHAT, &[("authorization", &bearer)], &ask());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(stage.gateway.settled_balance(&key), DEPOSIT - FRIENDLY_COST);
    assert_eq!(stage.stripe.charges(), 1);
}

/// MPP-13: what is no token is never asked about.
#[test]
fn mpp_13_shapes_of_a_token() {
    let stage = Stage::new([]);
    for payload in [
        json!({}),
        json!({"spt": 1}),
        json!({"spt": "pm_1"}),
        json!({"spt": "spt_/../x"}),
        json!({"spt": format!("spt_{}", "a".repeat(200))}),
    ] {
        let answer = stage.call(&credential(stage.asked(), None, payload.clone()));
        assert_problem(&answer, Problem::MalformedCredential, "payload");
    }
    assert_eq!(stage.stripe.asked().len(), 0);
}

/// The vectors of encrypted cards: the processor's public key, and cards for it.
fn cards() -> Value {
    serde_json::from_str(include_str!("../../specs/vectors/rails/mpp_card_jwe.json")).unwrap()
}

fn card(name: &str) -> String {
    let file = cards();
    let case = file["cases"].as_array().unwrap().iter().find(|case| case["name"] == name).unwrap();
    case["encryptedPayload"].as_str().unwrap().to_owned()
}

struct CardStage {
    upstream: Upstream,
    processor: CardProcessor,
    gateway: Gateway,
}

impl CardStage {
    fn new(plan: impl IntoIterator<Item = card_processor::Conduct>) -> Self {
        let (upstream, processor) = (Upstream::friendly(), CardProcessor::start(plan));
        let rails = with_rules(RAILS, &processor.rules(&cards()["server_public_jwk"]));
        let gateway = Gateway::start_in(upstream.address, &rails, &[("CARD_KEY", "key-of-a-test")]);
        Self { upstream, processor, gateway }
    }

    fn shown(&self, encrypted: &str, network: &str) -> Credential {
        let asked = challenge(&http::post(self.gateway.address, CHAT, &[], &ask()), "card");
        let payload = json!({
            "encryptedPayload": encrypted, "network": network, "panLastFour": "4242", "panExpirationMonth": "06",
            "panExpirationYear": "2034",
        });
        credential(asked, None, payload)
    }

    fn call(&self, shown: &Credential) -> Answer {
        call(&self.gateway, CHAT, shown, &ask())
    }
}

/// CARD-2: passed on as it came, charged once, told by the processor's name for it.
#[test]
fn card_2_a_card_is_passed_on_unopened() {
    let stage = CardStage::new([]);
    let shown = stage.shown(&card("valid"), "visa");
    let request = shown.challenge.request_object().unwrap();
    assert_eq!(request["methodDetails"]["encryptionJwk"], cards()["server_public_jwk"]);
    assert_eq!(request["methodDetails"]["acceptedNetworks"], json!(["visa"]));
    let answer = stage.call(&shown);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = receipt(&answer).unwrap();
    assert_eq!((told.method.as_str(), told.reference.as_str()), ("card", "pay_1"));
    assert_eq!(stage.gateway.settled_balance(answer.must("farthing-key")), DEPOSIT - FRIENDLY_COST);
    let sent = &stage.processor.asked()[0];
    let body: Value = serde_json::from_slice(&sent.body).unwrap();
    assert_eq!(body["encryptedPayload"], card("valid"));
    assert_eq!((&body["amount"], &body["network"]), (&json!("100"), &json!("visa")));
    assert_eq!(sent.header("authorization"), Some("Bearer key-of-a-test"));
    assert_eq!(stage.call(&shown).status, 200, "what was stored");
    assert_eq!((stage.processor.charges(), stage.upstream.hits()), (1, 1));
    assert!(!stage.gateway.log().contains(&card("valid")), "a card is a secret");
}

/// CARD-1: what is not encrypted as it was asked for never reaches the processor.
#[test]
fn card_1_a_wrong_header_is_refused_here() {
    let stage = CardStage::new([]);
    for name in ["alg_rsa_oaep_sha1", "enc_a128gcm", "unknown_kid", "zip_present"] {
        let answer = stage.call(&stage.shown(&card(name), "visa"));
        assert_problem(&answer, Problem::VerificationFailed, "jwe_header");
    }
    let answer = stage.call(&stage.shown("no.jwe", "visa"));
    assert_problem(&answer, Problem::MalformedCredential, "jwe");
    let answer = stage.call(&stage.shown(&card("valid"), "diners"));
    assert_problem(&answer, Problem::VerificationFailed, "card_network");
    assert_eq!((stage.processor.asked().len(), stage.upstream.hits()), (0, 0));
}

/// CARD-3.
#[test]
fn card_3_verdicts_and_silence() {
    use card_processor::Conduct as C;
    let stage = CardStage::new([C::Declines("insufficient_funds"), C::ChargesInSilence]);
    let answer = stage.call(&stage.shown(&card("valid"), "visa"));
    assert_problem(&answer, Problem::VerificationFailed, "insufficient_funds");
    let shown = stage.shown(&card("valid"), "visa");
    assert_refused(&stage.call(&shown), 503, "settlement_unknown", "unknown");
    let answer = wait_for("the payment", || Some(stage.call(&shown)).filter(|answer| answer.status == 200));
    assert_eq!(receipt(&answer).unwrap().reference, "pay_2");
    assert_eq!((stage.processor.charges(), stage.upstream.hits()), (1, 1));
}
