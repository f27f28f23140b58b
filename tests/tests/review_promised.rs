//! What somebody tries who wants calls for nothing, or a key to what is another's, where payments come late; and what
//! must not become of somebody who pays.
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use farthing_tests::facilitator::{Conduct, Facilitator, Reply, failure};
use farthing_tests::gateway::{Gateway, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::payer::{BASE_SEPOLIA, Payment, Wallet, challenge, decode, now_s, offer};
use farthing_tests::refused::assert_refused;
use farthing_tests::scene::{CHAT, ask};
use farthing_tests::upstream::{Upstream, friendly_answer};
use serde_json::json;

struct Scene {
    upstream: Upstream,
    facilitator: Facilitator,
    gateway: Gateway,
}

impl Scene {
    fn new(keys: &str, sections: &str) -> Self {
        Self::before(Upstream::friendly(), keys, sections)
    }

    fn before(upstream: Upstream, keys: &str, sections: &str) -> Self {
        let facilitator = Facilitator::start([]);
        let rails = Facilitator::rails_with(&[facilitator.address], keys);
        // Long enough that a proof may be too short for it.
        let rails = rails.replace("settle_timeout: 1s", "settle_timeout: 20s");
        let gateway = Gateway::start(upstream.address, &format!("{rails}{sections}"));
        let scene = Self { upstream, facilitator, gateway };
        if keys.contains("upto") {
            scene.wait_for_the_offer_of_a_ceiling();
        }
        scene
    }

    fn wait_for_the_offer_of_a_ceiling(&self) {
        wait_for("the offer of a ceiling", || {
            let offers = challenge(&self.unpaid())["accepts"].clone();
            offers.as_array().unwrap().iter().any(|offer| offer["scheme"] == "upto").then_some(())
        });
    }

    fn unpaid(&self) -> Answer {
        http::post(self.gateway.address, CHAT, &[], &ask())
    }

    fn exact(&self, wallet: u8) -> Payment {
        Wallet::new(wallet).pay(&self.unpaid(), BASE_SEPOLIA)
    }

    fn ceiling(&self, wallet: u8) -> Payment {
        Wallet::new(wallet).permit(&self.unpaid(), |offer| offer["scheme"] == "upto")
    }

    fn pay(&self, payment: &Payment) -> Answer {
        http::post(self.gateway.address, CHAT, &[("payment-signature", &payment.v2())], &ask())
    }

    fn pay_beside(&self, key: &str, payment: &Payment) -> Answer {
        let fields = [("x-api-key", key), ("payment-signature", &payment.v2())];
        http::post(self.gateway.address, CHAT, &fields, &ask())
    }

    fn new_key(&self) -> String {
        self.gateway.operator(&["key", "new"])["key"].as_str().unwrap().to_owned()
    }
}

/// A4, X402-42: a signature over money that is not there, or over a nonce that was used elsewhere, costs nothing. It gets
/// no call before its settlement is known, and no key to the account of whoever has signed.
#[test]
fn a_transfer_that_nobody_vouches_for_runs_ahead_of_nothing() {
    let settle = Arc::new(AtomicBool::new(false));
    let scene = Scene::new(", schemes: [exact], settle: after", "");
    scene.facilitator.next(Conduct::SettleWhen(Arc::clone(&settle)));
    for code in ["invalid_exact_evm_insufficient_balance", "invalid_exact_evm_nonce_already_used"] {
        let said = json!({"isValid": false, "invalidReason": code}).to_string();
        scene.facilitator.opine(Reply::Says(200, said));
        let refused = scene.pay(&scene.exact(1));
        assert_refused(&refused, 402, "settlement_failed", "nothing_taken");
        assert_eq!(
            (refused.header("farthing-key"), refused.json()["error"]["reason"].as_str()),
            (None, Some(code))
        );
    }
    assert_eq!((scene.upstream.hits(), scene.facilitator.settles().len()), (0, 0));
    // One that is good is served while it settles.
    let served = scene.pay(&scene.exact(1));
    assert_eq!((served.status, scene.facilitator.verifies().len()), (200, 3), "{}", served.text());
    settle.store(true, Ordering::SeqCst);
}

/// X402-18: who signs for a few seconds would keep his money, were he served before his turn to settle comes.
#[test]
fn a_transfer_that_is_about_to_be_over_settles_first() {
    let scene = Scene::new(", schemes: [exact], settle: after", "");
    let long = scene.exact(1);
    let accepted = offer(&challenge(&scene.unpaid()), BASE_SEPOLIA);
    let payload = Wallet::new(1).evm_payload(&accepted, |transfer| transfer.valid_before = now_s() + 15);
    let short = Payment { payload, accepted, resource: long.resource.clone() };
    scene.facilitator.next(Conduct::Only(failure("insufficient_funds")));
    assert_refused(&scene.pay(&short), 402, "settlement_failed", "nothing_taken");
    assert_eq!((scene.upstream.hits(), scene.gateway.metric("farthing_debtors")), (0, 0));
    let served = scene.pay(&long);
    assert_eq!((served.status, served.header("payment-response")), (200, None), "{}", served.text());
}

/// X402-17: what was settled before the answer began is told at its end as well, to whoever asks; nothing breaks.
#[test]
fn a_settlement_that_is_faster_than_the_answer_is_told_twice() {
    let open = Arc::new(AtomicBool::new(false));
    let is_open = Arc::clone(&open);
    let upstream = Upstream::start(move |request, stream| {
        wait_for("the upstream to be let go", || is_open.load(Ordering::SeqCst).then_some(()));
        let _ = stream.write_all(&friendly_answer(request));
    });
    let scene = Scene::before(upstream, ", schemes: [exact], settle: after", "");
    let payment = scene.exact(1);
    let (address, header) = (scene.gateway.address, payment.v2());
    let call = std::thread::spawn(move || {
        http::post(address, CHAT, &[("payment-signature", header.as_str()), ("te", "trailers")], &ask())
    });
    wait_for("the upstream to be asked", || (scene.upstream.hits() == 1).then_some(()));
    wait_for("the settlement", || (scene.gateway.metric("farthing_intents_open") == 0).then_some(()));
    open.store(true, Ordering::SeqCst);
    let answer = call.join().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(decode(answer.must("payment-response"))["transaction"], payment.transaction());
    let told = answer.trailers.iter().find(|(name, _)| name == "payment-response");
    assert_eq!(
        told.map(|(_, value)| value.as_str()),
        answer.header("payment-response"),
        "{:?}",
        answer.trailers
    );
    assert!(!scene.gateway.log().contains("panicked"), "{}", scene.gateway.log());
}

/// What the account refuses it refuses before it is paid into.
#[test]
fn a_frozen_account_is_not_charged_for_calls_that_it_cannot_make() {
    let scene = Scene::new(", schemes: [exact]", "");
    let first = scene.exact(1);
    assert_eq!(scene.pay(&first).status, 200);
    let account = Wallet::new(1).account(&first);
    scene.gateway.operator(&["account", "set", &account, "--freeze"]);
    let second = scene.exact(1);
    assert_refused(&scene.pay(&second), 403, "account_frozen", "nothing_taken");
    assert_eq!((scene.facilitator.transfers(), scene.upstream.hits()), (1, 1));
    // Who paid before is told what he was told then.
    assert_eq!(scene.pay(&first).header("farthing-replayed"), Some("true"));
    scene.gateway.operator(&["account", "set", &account, "--unfreeze"]);
    assert_eq!(scene.pay(&second).status, 200, "the proof is as good as new");
}

/// A3: a wallet that owes owes under every key: what stands behind its signatures is there once.
#[test]
fn a3_a_wallet_that_owes_promises_nothing_under_another_key() {
    let mut scene = Scene::new(", schemes: [upto]", "");
    let (one, other) = (scene.new_key(), scene.new_key());
    scene.facilitator.next(Conduct::Only(failure("insufficient_funds")));
    assert_eq!(scene.pay_beside(&one, &scene.ceiling(1)).status, 200);
    wait_for("the debt", || (scene.gateway.metric("farthing_debtors") == 1).then_some(()));
    for round in ["before a restart", "after it"] {
        for key in [Some(&one), Some(&other), None] {
            let payment = scene.ceiling(1);
            let refused = key.map_or_else(|| scene.pay(&payment), |key| scene.pay_beside(key, &payment));
            assert_refused(&refused, 402, "insufficient_balance", "nothing_taken");
            assert_eq!(refused.json()["error"]["limit_source"], "debt", "{round}");
        }
        // Neither does anybody else pay for him, nor does he close the door to others.
        assert_eq!(scene.pay_beside(&other, &scene.ceiling(2)).status, 200, "{round}");
        scene.gateway.crash_and_restart();
        scene.wait_for_the_offer_of_a_ceiling();
    }
    assert_eq!(scene.upstream.hits(), 3);
}

/// X402-46: a new wallet for each signature buys no more questions to a facilitator than the source may spoil.
#[test]
fn payments_that_the_rail_refuses_are_counted_for_their_source() {
    let limits = "limits: { unpaid: { per_ip: 1000/min }, invalid_proofs: { per_ip: 1/min, burst: 2 } }\n";
    for keys in [", schemes: [exact]", ", schemes: [permit2]"] {
        let scene = Scene::new(keys, limits);
        scene.facilitator.fund(0);
        let offers = scene.unpaid();
        let answers = (1..=6).map(|wallet| {
            let wallet = Wallet::new(wallet);
            let said = json!({"isValid": false, "invalidReason": "permit2_insufficient_balance"}).to_string();
            scene.facilitator.opine(Reply::Says(200, said));
            let payment = match keys {
                ", schemes: [exact]" => wallet.pay(&offers, BASE_SEPOLIA),
                _ => wallet.permit(&offers, |offer| offer["network"] == BASE_SEPOLIA),
            };
            scene.pay(&payment).status
        });
        let answers: Vec<u16> = answers.collect();
        assert_eq!(answers, [402, 402, 402, 429, 429, 429], "{keys}");
        let asked = scene.facilitator.settles().len() + scene.facilitator.verifies().len();
        assert_eq!((asked, scene.upstream.hits()), (3, 0), "{keys}");
    }
}
