//! x402 `exact` by EIP-3009 through facilitators: what they are asked, who is asked, and what a crash in between
//! leaves. Those that err and lie are in `hostile_facilitator`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use farthing_tests::facilitator::{Conduct, Facilitator, Reply, failure};
use farthing_tests::gateway::{Gateway, free_address, wait_for};
use farthing_tests::http;
use farthing_tests::payer::{BASE_SEPOLIA, Payment, Wallet, decode};
use farthing_tests::refused::assert_refused;
use farthing_tests::scene::{CHAT, Scene, Signs, ask, assert_unknown, pay};
use farthing_tests::upstream::{FRIENDLY_COST, Upstream, friendly_answer, plain};
use serde_json::{Value, json};

fn new_payment(gateway: &Gateway, wallet: u8) -> Payment {
    Signs::Transfer.payment(gateway, wallet)
}

#[test]
fn authorization_is_settled_and_served() {
    let scene = Scene::of([]);
    let served = scene.pay();
    scene.assert_served_once(&served, "plain");
    let key = served.must("farthing-key");
    assert_eq!(scene.gateway.settled_balance(key), scene.payment.nano() - FRIENDLY_COST);
    // A version 1 payer has no quote to echo.
    let payment = new_payment(&scene.gateway, 2);
    let answer = http::post(scene.gateway.address, CHAT, &[("x-payment", &payment.v1())], &ask());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(decode(answer.header("x-payment-response").unwrap())["network"], "base-sepolia");
    assert_eq!(scene.facilitator.transfers(), 2);
}

/// X402-11: ours are the values, and nothing private goes out.
#[test]
fn settle_request_holds_what_a_facilitator_needs_and_nothing_else() {
    let scene = Scene::of([]);
    let mut payment = scene.payment.clone();
    payment.payload["secret"] = json!("canary");
    payment.accepted["extra"]["assetTransferMethod"] = json!("eip3009");
    let answer = pay(&scene.gateway, &payment);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body: Value = serde_json::from_slice(&scene.facilitator.settles()[0]).unwrap();
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(names(&body), "paymentPayload paymentRequirements x402Version");
    assert_eq!(names(&body["paymentPayload"]), "accepted payload x402Version");
    assert_eq!(names(&body["paymentPayload"]["payload"]), "authorization signature");
    assert_eq!(
        names(&body["paymentRequirements"]),
        "amount asset extra maxTimeoutSeconds network payTo scheme"
    );
    assert_eq!(names(&body["paymentRequirements"]["extra"]), "name version");
    assert_eq!(body["paymentPayload"]["accepted"], body["paymentRequirements"]);
    let text = body.to_string();
    assert!(!text.contains("quote") && !text.contains("canary") && !text.contains("q1."), "{text}");
}

/// What went unknown stays so through a crash, until somebody knows better.
#[test]
fn unknown_survives_a_crash() {
    let silent = std::iter::repeat_n(Conduct::Only(Reply::Hangup), 100);
    let mut scene = Scene::of(std::iter::once(Conduct::MoveThen(Reply::Hangup)).chain(silent));
    assert_unknown(&scene.pay());
    for _ in 0..2 {
        scene.gateway.crash_and_restart();
        assert_unknown(&scene.pay());
    }
    scene.facilitator.behave();
    scene.assert_served_once(&scene.pay_until_served(), "after two crashes");
}

/// The process dies while the facilitator is being asked: the intent was on disk before.
#[test]
fn crash_while_settling_asks_again() {
    let mut scene = Scene::of([Conduct::MoveThen(Reply::Silence)]);
    let (address, header) = (scene.gateway.address, scene.payment.v2());
    let asking = std::thread::spawn(move || {
        let body = ask().to_string();
        http::try_request(
            address,
            "POST",
            CHAT,
            &[("content-type", "application/json"), ("payment-signature", &header)],
            body.as_bytes(),
        )
    });
    farthing_tests::gateway::wait_for("the settlement to begin", || {
        (scene.facilitator.settles().len() == 1).then_some(())
    });
    // In flight, for whoever asks meanwhile.
    assert_refused(&scene.pay(), 409, "in_progress", "first_attempt_decides");
    scene.gateway.crash_and_restart();
    assert!(asking.join().unwrap().is_none());
    scene.assert_served_once(&scene.pay_until_served(), "after the crash");
}

/// Facilitator settles and times out: 503, the replay succeeds, the payer has paid once; also when his proof
/// has expired by then.
#[test]
fn aws_x402_40() {
    let scene = Scene::of([Conduct::MoveThen(Reply::Silence)]);
    assert_unknown(&scene.pay());
    scene.assert_served_once(&scene.pay_until_served(), "replay");

    let late = std::iter::repeat_n(Conduct::Only(late_failure()), 100);
    let mut scene = Scene::of(std::iter::once(Conduct::MoveThen(Reply::Hangup)).chain(late));
    let valid_before = farthing_tests::payer::now_s() + 7;
    scene.payment.payload =
        Wallet::new(1).evm_payload(&scene.payment.accepted, |transfer| transfer.valid_before = valid_before);
    assert_unknown(&scene.pay());
    std::thread::sleep(std::time::Duration::from_millis(2100));
    // It says that the proof is too late. That says nothing about the first attempt.
    assert_unknown(&scene.pay());
    scene.facilitator.behave();
    scene.assert_served_once(&scene.pay_until_served(), "late replay");
}

fn late_failure() -> Reply {
    failure("invalid_exact_evm_payload_authorization_valid_before")
}

/// Refused for certain: both headers, nothing taken, the proof is free again; no words of the facilitator.
#[test]
fn certain_refusal_takes_nothing() {
    let inner = "invalid_exact_evm_transaction_failed: The contract function reverted at 0xdeadbeef";
    for (reason, code) in [
        (inner, "invalid_exact_evm_transaction_failed"),
        ("invalid_exact_evm_insufficient_balance", "invalid_exact_evm_insufficient_balance"),
    ] {
        let scene = Scene::of([Conduct::Only(failure(reason))]);
        let refused = scene.pay();
        assert_refused(&refused, 402, "settlement_failed", "nothing_taken");
        assert!(!refused.text().contains("0xdeadbeef"), "{}", refused.text());
        let said = decode(refused.header("payment-response").unwrap());
        assert_eq!((&said["success"], &said["errorReason"]), (&json!(false), &json!(code)));
        assert_eq!(refused.json()["error"]["reason"], code);
        assert_eq!(scene.upstream.hits(), 0);
        // The same proof may be settled after all.
        scene.assert_served_once(&scene.pay(), reason);
    }
}

/// LED-17. Nothing was sent: the claim is let go, nothing is unknown, and the same proof is taken when the facilitator
/// is there again.
#[test]
fn bindu_520() {
    let upstream = Upstream::friendly();
    let address = free_address();
    let gateway = Gateway::start(upstream.address, &Facilitator::rails(&[address]));
    let payment = new_payment(&gateway, 1);
    for _ in 0..2 {
        let refused = pay(&gateway, &payment);
        assert_refused(&refused, 503, "facilitator_failed", "nothing_taken");
        assert!(refused.header("retry-after").is_some());
    }
    assert_eq!(upstream.hits(), 0);
    // The proof is not burnt: it stands for another request as well.
    let other = json!({"model": "m", "max_tokens": 1000, "messages": []});
    let refused = http::post(gateway.address, CHAT, &[("x-payment", &payment.v1())], &other);
    assert!(
        refused.status == 503 || refused.code() == "proof_underpaid" || refused.code() == "proof_invalid",
        "{}",
        refused.text()
    );
    assert_eq!(gateway.books().entries.len(), 0);
    let facilitator = Facilitator::start_at(address, []);
    let served = pay(&gateway, &payment);
    assert_eq!(served.status, 200, "{}", served.text());
    assert!(served.header("farthing-key").is_some());
    assert_eq!((facilitator.transfers(), upstream.hits()), (1, 1));
    assert_eq!(gateway.books_after(1).count("deposit"), 1);
}

/// X402-44: the next facilitator is asked only when the one before surely did nothing.
#[test]
fn failover_only_before_anything_was_sent() {
    let upstream = Upstream::friendly();
    // Nobody listens there.
    let second = Facilitator::start([]);
    let gateway = Gateway::start(upstream.address, &Facilitator::rails(&[free_address(), second.address]));
    let served = pay(&gateway, &new_payment(&gateway, 1));
    assert_eq!(served.status, 200, "{}", served.text());
    assert_eq!(second.transfers(), 1);

    // A clean refusal at the door.
    let first = Facilitator::start([Conduct::Only(Reply::Says(429, "slow down".to_owned()))]);
    let second = Facilitator::start([]);
    let gateway = Gateway::start(upstream.address, &Facilitator::rails(&[first.address, second.address]));
    let served = pay(&gateway, &new_payment(&gateway, 1));
    assert_eq!(served.status, 200, "{}", served.text());
    assert_eq!((first.transfers(), second.transfers()), (0, 1));

    // Anything unclear, and any certain refusal.
    for (conduct, status) in [
        (Conduct::MoveThen(Reply::Hangup), 503),
        (Conduct::MoveThen(Reply::Says(500, String::new())), 503),
        (Conduct::Only(failure("invalid_exact_evm_insufficient_balance")), 402),
    ] {
        let first = Facilitator::start([conduct]);
        let second = Facilitator::start([]);
        let gateway = Gateway::start(upstream.address, &Facilitator::rails(&[first.address, second.address]));
        let answer = pay(&gateway, &new_payment(&gateway, 1));
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!((first.settles().len(), second.settles().len()), (1, 0));
    }
}

/// Calls that are paid from a balance ask no rail.
#[test]
fn prepaid_call_asks_no_facilitator() {
    let scene = Scene::of([]);
    let key = scene.pay().header("farthing-key").unwrap().to_owned();
    let before = scene.facilitator.seen().len();
    for _ in 0..5 {
        let answer = http::post(scene.gateway.address, CHAT, &[("x-api-key", &key)], &ask());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(scene.facilitator.seen().len(), before);
}

/// A key whose account nobody has paid into yet takes what the first payment brings.
#[test]
fn empty_key_is_topped_up_with_a_stablecoin() {
    let scene = Scene::of([]);
    let key = scene.gateway.operator(&["key", "new"])["key"].as_str().unwrap().to_owned();
    let header = scene.payment.v2();
    let fields = [("x-api-key", key.as_str()), ("payment-signature", header.as_str())];
    let paid = http::post(scene.gateway.address, CHAT, &fields, &ask());
    assert_eq!(paid.status, 200, "{}", paid.text());
    assert_eq!(scene.gateway.settled_balance(&key), scene.payment.nano() - FRIENDLY_COST);

    // An account holds one asset: a payment in another is refused before anything is taken.
    let funded = scene.gateway.key("1 TEST");
    let limited =
        scene.gateway.operator(&["key", "new", "--budget", "1 TEST"])["key"].as_str().unwrap().to_owned();
    for key in [funded, limited] {
        let header = new_payment(&scene.gateway, 3).v2();
        let fields = [("x-api-key", key.as_str()), ("payment-signature", header.as_str())];
        let refused = http::post(scene.gateway.address, CHAT, &fields, &ask());
        assert_refused(&refused, 402, "wrong_asset", "nothing_taken");
    }
    assert_eq!(scene.facilitator.transfers(), 1);
}

/// X402-41: a facilitator that settles elsewhere only takes the network out of the offers; silence does not.
#[test]
fn a_network_that_no_facilitator_settles_is_not_offered() {
    let networks = |gateway: &Gateway| -> Vec<Value> {
        let answer = http::post(gateway.address, CHAT, &[], &ask());
        let required = decode(answer.must("payment-required"));
        required["accepts"].as_array().unwrap().iter().map(|offer| offer["network"].clone()).collect()
    };
    let upstream = Upstream::friendly();
    let elsewhere = Upstream::start(|_, stream| {
        let body = r#"{"kinds":[{"x402Version":2,"scheme":"exact","network":"eip155:8453"}]}"#;
        let _ = std::io::Write::write_all(stream, &plain(200, "application/json", body));
    });
    let rails = Facilitator::rails(&[elsewhere.address]);
    let gateway = Gateway::start(upstream.address, &rails);
    let offered = wait_for("the network to go", || {
        let offered = networks(&gateway);
        (!offered.contains(&json!(BASE_SEPOLIA))).then_some(offered)
    });
    assert_eq!(offered, [json!("farthing:test")]);
    let silent = Gateway::start(upstream.address, &Facilitator::rails(&[free_address(), elsewhere.address]));
    wait_for("the facilitators to be asked", || (elsewhere.hits() >= 1).then_some(()));
    assert!(networks(&silent).contains(&json!(BASE_SEPOLIA)), "one of two has not answered");
}

/// Where a payment settles before it is served, the upstream is asked when the money is there and not before; a
/// payment that does not arrive asks nobody. A ceiling settles when its call is over, for what that cost. (That a voucher is
/// on disk before its answer begins is shown by kills: `channels::a20_a_kill_after_the_head_loses_nothing`.)
#[test]
fn r12_settlement_order_per_route() {
    for (signs, when_asked) in
        [(Signs::Transfer, [1, 2, 3]), (Signs::Permit, [1, 2, 3]), (Signs::Ceiling, [0, 1, 2])]
    {
        let facilitator = Arc::new(Facilitator::start([]));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let upstream = {
            let (facilitator, seen) = (Arc::clone(&facilitator), Arc::clone(&seen));
            Upstream::start(move |request, stream| {
                seen.lock().unwrap().push(facilitator.transfers());
                let _ = std::io::Write::write_all(stream, &friendly_answer(request));
            })
        };
        let rails = Facilitator::rails_with(&[facilitator.address], signs.keys());
        let gateway = Gateway::start(upstream.address, &rails);
        for paid in 1..=3 {
            assert_eq!(pay(&gateway, &signs.payment(&gateway, paid)).status, 200, "{signs:?}");
            wait_for("the payment to settle", || (facilitator.transfers() == u32::from(paid)).then_some(()));
        }
        if signs != Signs::Ceiling {
            facilitator.next(Conduct::Only(failure("insufficient_funds")));
            let refused = pay(&gateway, &signs.payment(&gateway, 4));
            assert_refused(&refused, 402, "settlement_failed", "nothing_taken");
        }
        assert_eq!(*seen.lock().unwrap(), when_asked, "{signs:?}: transfers when the upstream was asked");
    }
}

/// X402-46: a facilitator that fails again and again is left alone, and asked once when its rest is over.
#[test]
fn a_failing_facilitator_is_left_alone() {
    let upstream = Upstream::friendly();
    let failing = Facilitator::start([]);
    let second = Facilitator::start([]);
    for _ in 0..100 {
        failing.next(Conduct::Only(Reply::Says(503, "busy".to_owned())));
    }
    let rails = Facilitator::rails(&[failing.address, second.address]);
    let gateway = Gateway::start(upstream.address, &rails);
    let is_asked = || {
        let name = format!("http://{}", failing.address);
        gateway.counted(&format!(r#"farthing_facilitator_asked{{facilitator="{name}"}}"#))
    };
    // Each of these is unknown for ever, and its own payer's: the second is not asked in the place of the first.
    let unclear: Vec<Payment> = (1..=5).map(|wallet| new_payment(&gateway, wallet)).collect();
    for payment in &unclear {
        assert_unknown(&pay(&gateway, payment));
        assert_eq!(second.settles().len(), 0);
    }
    wait_for("the circuit to open", || (is_asked() == 0).then_some(()));
    let served = pay(&gateway, &new_payment(&gateway, 9));
    assert_eq!(served.status, 200, "{}", served.text());
    assert_eq!(second.transfers(), 1);
    // Payments it may have settled are still its own to tell about; the first word of sense closes the circuit.
    failing.behave();
    for payment in &unclear {
        let served = wait_for("the first to tell", || {
            Some(pay(&gateway, payment)).filter(|answer| answer.status == 200)
        });
        assert!(served.header("farthing-key").is_none());
    }
    assert_eq!(is_asked(), 1);
    assert_eq!((failing.transfers(), second.transfers()), (5, 1));
}

/// X402-46: a payer whose payments come to nothing is let ask ten times a minute, and nobody else waits for that.
#[test]
fn a_payer_who_never_pays_is_bounded() {
    let scene = Scene::of([]);
    for _ in 0..10 {
        scene.facilitator.next(Conduct::Only(failure("invalid_exact_evm_insufficient_balance")));
        let refused = pay(&scene.gateway, &new_payment(&scene.gateway, 2));
        assert_refused(&refused, 402, "settlement_failed", "nothing_taken");
    }
    let refused = pay(&scene.gateway, &new_payment(&scene.gateway, 2));
    assert_refused(&refused, 503, "facilitator_failed", "nothing_taken");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(scene.facilitator.settles().len(), 10);
    scene.assert_served_once(&scene.pay(), "somebody else");
}

/// X402-46: a facilitator is asked for so many settlements at once; who would be one too many waits a moment, and is
/// told to come again.
#[test]
fn settlements_at_once_are_bounded() {
    let upstream = Upstream::friendly();
    let open = Arc::new(AtomicBool::new(false));
    let facilitator = Facilitator::start([Conduct::SettleWhen(Arc::clone(&open))]);
    let rails = Facilitator::rails_with(&[facilitator.address], ", settle_at_once: 1");
    let rails = rails.replace("settle_timeout: 1s", "settle_timeout: 20s");
    let gateway = Gateway::start(upstream.address, &rails);
    let (first, second) = (new_payment(&gateway, 1), new_payment(&gateway, 2));
    std::thread::scope(|scope| {
        let served = scope.spawn(|| pay(&gateway, &first));
        wait_for("the settlement to begin", || (facilitator.settles().len() == 1).then_some(()));
        let refused = pay(&gateway, &second);
        assert_refused(&refused, 503, "facilitator_failed", "nothing_taken");
        assert_eq!(facilitator.settles().len(), 1);
        open.store(true, Ordering::SeqCst);
        assert_eq!(served.join().unwrap().status, 200);
    });
    assert_eq!(pay(&gateway, &second).status, 200);
    assert_eq!(facilitator.transfers(), 2);
}
