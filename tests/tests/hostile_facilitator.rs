//! The hostile-facilitator battery against the gateway (x402.md section 14), for payments by EIP-3009 and by Permit2. Each
//! time (X402-15, X402-43, X402-44): nobody is served twice or for nothing, nobody is asked to pay a second time, and the
//! books have what the chain has.

use std::iter::repeat_n;

use farthing_tests::facilitator::{Conduct, FACILITATOR, Facilitator, Reply, SUCCESS, failure, supports};
use farthing_tests::gateway::{Gateway, wait_for};
use farthing_tests::http;
use farthing_tests::payer::{BASE_SEPOLIA, Payment, challenge, decode};
use farthing_tests::refused::assert_refused;
use farthing_tests::scene::{CHAT, Scene, Signs, ask, assert_unknown, pay};
use farthing_tests::solana::SolanaWallet;
use farthing_tests::upstream::Upstream;
use serde_json::json;

fn moved(reply: Reply) -> Conduct {
    Conduct::MoveThen(reply)
}

fn says(text: &str) -> Reply {
    Reply::Says(200, text.to_owned())
}

const PENDING: &str =
    r#"{"success":false,"errorReason":"settlement_pending","transaction":"HASH","network":"NETWORK"}"#;

/// An answer after which nobody knows whether money moved. Whatever the truth, the payer is told to ask again with the
/// same payment; when the facilitator comes to its senses he is served once.
#[track_caller]
fn assert_unclear(what: &str, conduct: &Conduct) {
    for signs in Signs::ALL {
        let what = format!("{what}, {signs:?}");
        // It stays out of its senses until we have looked: the gateway asks again by itself, whenever that is.
        let plan = std::iter::once(conduct.clone()).chain(repeat_n(Conduct::Only(Reply::Hangup), 100));
        let scene = Scene::signing(signs, plan);
        assert_unknown(&scene.pay());
        assert_eq!(scene.upstream.hits(), 0, "{what}");
        assert_eq!(scene.gateway.books().count("deposit"), 0, "{what}");
        // Never an invitation to pay anew, for whatever it is presented.
        let elsewhere = json!({"model": "m", "max_tokens": 1000, "messages": []});
        let header = scene.payment.v2();
        let other = wait_for("a moment at which nobody is asked", || {
            let fields = [("payment-signature", header.as_str())];
            let other = http::post(scene.gateway.address, CHAT, &fields, &elsewhere);
            (other.status != 503).then_some(other)
        });
        assert_refused(&other, 403, "verification_failed", "nothing_taken");
        scene.facilitator.behave();
        scene.assert_served_once(&scene.pay_until_served(), &what);
        scene.assert_asked_again(&what);
    }
}

#[test]
fn h01_moves_and_never_answers() {
    assert_unclear("silence", &moved(Reply::Silence));
    assert_unclear("hangs up", &moved(Reply::Hangup));
}

#[test]
fn h02_moves_and_answers_502() {
    assert_unclear("502", &moved(Reply::Says(502, String::new())));
    assert_unclear("502 with a success", &moved(Reply::Says(502, SUCCESS.to_owned())));
}

/// Once more at once, with the same bytes: who came with a payment that was merely slow is served.
#[test]
fn h03_pending_then_success() {
    for signs in Signs::ALL {
        for first in [moved(says(PENDING)), Conduct::Only(failure("settlement_pending: wait for it"))] {
            let scene = Scene::signing(signs, [first]);
            let served = scene.pay();
            // He is the first to show it: his key comes with it.
            assert!(served.header("farthing-key").is_some());
            scene.assert_served_once(&served, &format!("{signs:?}"));
            scene.assert_asked(2, "once more");
        }
    }
}

/// A failure after that may speak of the second try alone. The hash that was named is kept for whoever looks at the
/// chain; nothing is credited, and nobody is asked to pay again.
#[test]
fn h03_pending_then_failure() {
    for signs in Signs::ALL {
        let failed = repeat_n(Conduct::Only(failure("invalid_exact_evm_transaction_failed")), 100);
        let scene = Scene::signing(signs, std::iter::once(Conduct::Only(says(PENDING))).chain(failed));
        assert_unknown(&scene.pay());
        assert_eq!((scene.upstream.hits(), scene.facilitator.transfers()), (0, 0));
        let books = scene.gateway.operator(&["ledger", "show"]);
        assert_eq!(books["unsettled"][0]["transaction"], scene.payment.transaction());
        let intents = scene.gateway.operator(&["ledger", "intents"]);
        assert_eq!(intents["intents"][0]["transaction"], scene.payment.transaction());
        assert_unknown(&scene.pay());
        scene.facilitator.behave();
        scene.assert_served_once(&scene.pay_until_served(), &format!("{signs:?}"));
    }
}

/// It did nothing: that is found out by asking again, and until then nobody is served.
#[test]
fn h04_does_nothing_and_times_out() {
    assert_unclear("silence", &Conduct::Only(Reply::Silence));
    assert_unclear("hangs up", &Conduct::Only(Reply::Hangup));
}

/// What a facilitator thinks of a bad signature is not asked.
#[test]
fn h05_calls_a_bad_signature_valid() {
    for signs in Signs::ALL {
        let mut scene = Scene::signing(signs, []);
        let signature = scene.payment.payload["signature"].as_str().unwrap();
        let other = if signature.ends_with("1b") { "1c" } else { "1b" };
        scene.payment.payload["signature"] = json!(format!("{}{other}", &signature[..signature.len() - 2]));
        assert_refused(&scene.pay(), 402, "proof_invalid", "nothing_taken");
        assert_eq!((scene.facilitator.settles().len(), scene.facilitator.verifies().len()), (0, 0));
        assert_eq!(scene.upstream.hits(), 0);
    }
}

#[test]
fn h06_success_without_a_hash() {
    assert_unclear("empty", &moved(says(r#"{"success":true,"transaction":"","network":"NETWORK"}"#)));
    assert_unclear("none", &moved(says(r#"{"success":true,"network":"NETWORK"}"#)));
    assert_unclear("no hash", &moved(says(r#"{"success":true,"transaction":"0x12","network":"NETWORK"}"#)));
}

/// A facilitator that invents a transfer takes no more than what one payment asked for, and its invention stands in the
/// books under the name it gave it.
#[test]
fn h06_success_with_an_invented_hash() {
    for signs in Signs::ALL {
        let invented = format!("0x{}", "ee".repeat(32));
        let scene = Scene::signing(signs, [Conduct::Only(says(&SUCCESS.replace("HASH", &invented)))]);
        let served = scene.pay();
        assert_eq!(served.status, 200, "{}", served.text());
        assert_eq!(decode(served.must("payment-response"))["transaction"], invented);
        let books = scene.gateway.books_after(1);
        let deposits: Vec<_> = books.entries.iter().filter(|entry| entry["kind"] == "deposit").collect();
        assert_eq!(deposits.len(), 1);
        assert_eq!(deposits[0]["reference"], invented);
        assert_eq!(books.count("capture"), 1);
        assert_eq!(scene.facilitator.transfers(), 0);
        // Its invention buys this payment nothing more.
        let other = json!({"model": "m", "max_tokens": 1000, "messages": []});
        let header = scene.payment.v2();
        let again = http::post(scene.gateway.address, CHAT, &[("payment-signature", &header)], &other);
        assert_refused(&again, 403, "verification_failed", "nothing_taken");
        assert_eq!(scene.upstream.hits(), 1);
    }
}

#[test]
fn h07_failure_but_the_money_moved() {
    let failed = r#"{"success":false,"errorReason":"invalid_exact_evm_transaction_failed","transaction":"HASH","network":"NETWORK"}"#;
    assert_unclear("failure with a hash", &moved(says(failed)));
    assert_unclear("failure without a reason", &moved(says(r#"{"success":false,"transaction":""}"#)));
}

#[test]
fn h08_an_answer_that_contradicts_what_was_asked() {
    let stranger = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
    for (what, answer) in [
        ("payer", SUCCESS.replace("PAYER", stranger)),
        ("network", SUCCESS.replace("NETWORK", "eip155:8453")),
        ("amount", SUCCESS.replace("\"success\":true", "\"success\":true,\"amount\":\"1\"")),
        ("shape of the transaction", SUCCESS.replace("HASH", "HASH00")),
    ] {
        assert_unclear(what, &moved(says(&answer)));
    }
}

#[test]
fn h09_an_answer_that_is_none() {
    let deep = format!("{{\"success\":true,\"x\":{}{}}}", "[".repeat(2000), "]".repeat(2000));
    let twice =
        r#"{"success":true,"success":false,"transaction":"HASH","network":"NETWORK","payer":"PAYER"}"#;
    for (what, reply) in [
        ("10 MiB", Reply::Flood),
        ("slow drip", Reply::Drip),
        ("redirect", Reply::Redirect("http://127.0.0.1:1/settle".to_owned())),
        ("NUL", says("\u{0}")),
        ("deep", says(&deep)),
        ("one member twice", says(twice)),
        ("no JSON", says("ok")),
        ("no object", says("[]")),
    ] {
        assert_unclear(what, &moved(reply));
    }
}

/// X402-40: a redirect leads nowhere.
#[test]
fn h09_a_redirect_is_not_followed() {
    let elsewhere = Facilitator::start([]);
    let to = format!("http://{}/settle", elsewhere.address);
    let scene = Scene::of([Conduct::Only(Reply::Redirect(to))]);
    assert_unknown(&scene.pay());
    assert_eq!(elsewhere.seen().len(), 0);
}

/// Whom it settles for is told anew while an offer is out: the old offer goes to whoever still settles it, and where
/// nobody does it is refused cleanly.
#[test]
fn h10_supported_drops_a_kind_after_the_offer() {
    for signs in Signs::ALL {
        let upstream = Upstream::friendly();
        let (first, second) = (Facilitator::start([]), Facilitator::start([]));
        let rails = Facilitator::rails_with(&[first.address, second.address], signs.keys());
        let gateway = Gateway::start(upstream.address, &rails);
        let (old, older) = (signs.payment(&gateway, 1), signs.payment(&gateway, 2));
        first.support(Some(json!({"kinds": []})));
        ask_what_is_supported(&gateway, &[&first, &second]);
        let served = pay(&gateway, &old);
        assert_eq!(served.status, 200, "{}", served.text());
        assert_eq!((first.settles().len(), second.transfers()), (0, 1));

        second.support(Some(
            json!({"kinds": [{"x402Version": 2, "scheme": "exact", "network": "eip155:8453"}]}),
        ));
        ask_what_is_supported(&gateway, &[&first, &second]);
        let offers = challenge(&http::post(gateway.address, CHAT, &[], &ask()));
        let offers = offers["accepts"].as_array().unwrap();
        assert!(offers.iter().all(|offer| offer["network"] != BASE_SEPOLIA), "{offers:?}");
        let refused = pay(&gateway, &older);
        assert_eq!(refused.json()["money"], "nothing_taken", "{}", refused.text());
        assert_ne!(refused.status, 200);
        assert_eq!((first.settles().len(), second.settles().len()), (0, 1));
        assert_eq!(upstream.hits(), 1);
    }
}

/// Lets the gateway ask once more what is settled, and waits until it knows.
fn ask_what_is_supported(gateway: &Gateway, facilitators: &[&Facilitator]) {
    let told = |facilitator: &Facilitator| {
        let name = format!("http://{}", facilitator.address);
        let of = format!(r#"{{facilitator="{name}",question="supported",outcome="told"}}"#);
        gateway.counted(&format!("farthing_facilitator_answers_total{of}"))
    };
    let first =
        |facilitator: &&Facilitator| wait_for("the first", || Some(told(facilitator)).filter(|n| *n > 0));
    let before: Vec<_> = facilitators.iter().map(first).collect();
    gateway.operator(&["reload"]);
    wait_for("the facilitators to be asked", || {
        let mut all = facilitators.iter().zip(&before);
        all.all(|(facilitator, before)| told(facilitator) > *before).then_some(())
    });
}

/// A used nonce is a refusal at first, and a sign of success after an unclear attempt. So is every other reason that
/// the first attempt may itself have caused.
#[test]
fn h11_nonce_already_used() {
    for (signs, used) in
        [(Signs::Transfer, "invalid_exact_evm_nonce_already_used"), (Signs::Permit, "permit2_invalid_nonce")]
    {
        let scene = Scene::signing(signs, [Conduct::Only(failure(used))]);
        assert_refused(&scene.pay(), 402, "settlement_failed", "nothing_taken");
        for later in [
            used,
            "invalid_exact_evm_insufficient_balance",
            "invalid_exact_evm_payload_authorization_valid_before",
        ] {
            let later_on = std::iter::repeat_n(Conduct::Only(failure(later)), 100);
            let plan = std::iter::once(moved(Reply::Hangup)).chain(later_on);
            let scene = Scene::signing(signs, plan);
            assert_unknown(&scene.pay());
            assert_unknown(&scene.pay());
            scene.facilitator.behave();
            scene.assert_served_once(&scene.pay_until_served(), later);
        }
    }
}

/// `upto`: the call is served before anything is settled. Whatever the facilitator says then, what was metered moves once,
/// nobody else is asked for it, and the payer is asked for nothing more.
#[test]
fn h01_h02_h03_h07_h08_h09_a_metered_charge_is_settled_once() {
    let failed = r#"{"success":false,"errorReason":"invalid_upto_evm_transaction_failed","transaction":"HASH","network":"NETWORK"}"#;
    let ceiling = SUCCESS.replace("\"success\":true", "\"success\":true,\"amount\":\"4078\"");
    for (what, conduct) in [
        ("H1 silence", moved(Reply::Silence)),
        ("H1 hangs up", moved(Reply::Hangup)),
        ("H2 502", moved(Reply::Says(502, SUCCESS.to_owned()))),
        ("H3 pending", Conduct::Only(says(PENDING))),
        ("H4 nothing", Conduct::Only(Reply::Hangup)),
        ("H6 no hash", moved(says(r#"{"success":true,"transaction":"","network":"NETWORK"}"#))),
        ("H7 failed with a hash", moved(says(failed))),
        ("H8 the ceiling instead of the charge", moved(says(&ceiling))),
        ("H9 flood", moved(Reply::Flood)),
    ] {
        let scene = Scene::signing(Signs::Ceiling, [conduct]);
        let served = scene.pay();
        assert_eq!(served.status, 200, "{what}: {}", served.text());
        wait_for("the settlement", || (scene.gateway.books().count("deposit") == 1).then_some(()));
        assert_eq!((scene.facilitator.transfers(), scene.facilitator.moved()), (1, METERED), "{what}");
        let books = scene.gateway.books_after(1);
        assert_eq!((books.count("deposit"), books.count("capture")), (1, 1), "{what}");
        assert_eq!(books.balance(&scene.account()), 0, "{what}");
        scene.assert_asked(2, what);
        let again = scene.pay();
        assert_eq!((again.status, again.header("farthing-replayed")), (200, Some("true")), "{what}");
        assert_eq!((scene.upstream.hits(), scene.gateway.counted("farthing_debtors")), (1, 0), "{what}");
    }
}

/// What a friendly call costs, in atomic units.
const METERED: u128 = 30;

/// What the facilitator thinks of a ceiling is asked before it is served; where its answer is none, nothing is served and
/// nothing taken.
#[test]
fn h05_h09_an_opinion_that_is_none() {
    let deep = format!("{{\"isValid\":true,\"x\":{}{}}}", "[".repeat(2000), "]".repeat(2000));
    for (what, reply) in [
        ("10 MiB", Reply::Flood),
        ("hangs up", Reply::Hangup),
        ("redirect", Reply::Redirect("http://127.0.0.1:1/verify".to_owned())),
        ("NUL", says("\u{0}")),
        ("deep", says(&deep)),
        ("one member twice", says(r#"{"isValid":true,"isValid":false,"payer":"PAYER"}"#)),
        ("another payer", says(r#"{"isValid":true,"payer":"0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"}"#)),
        (
            "its own trouble",
            Reply::Says(500, r#"{"isValid":false,"invalidReason":"unexpected_verify_error"}"#.into()),
        ),
    ] {
        let scene = Scene::signing(Signs::Ceiling, []);
        scene.facilitator.opine(reply);
        assert_refused(&scene.pay(), 503, "facilitator_failed", "nothing_taken");
        assert_eq!((scene.upstream.hits(), scene.facilitator.settles().len()), (0, 0), "{what}");
        // The permit is as good as before.
        assert_eq!(scene.pay().status, 200, "{what}");
    }
    let mut scene = Scene::signing(Signs::Ceiling, []);
    scene.payment.payload["signature"] = json!(format!("0x{}1b", "12".repeat(64)));
    assert_refused(&scene.pay(), 402, "proof_invalid", "nothing_taken");
    assert_eq!((scene.facilitator.settles().len(), scene.facilitator.verifies().len()), (0, 0));
}

/// A ceiling names the facilitator that settles it. It goes to that one, also when that goes by another name since, and
/// never to one that has taken its name.
#[test]
fn h10_a_ceiling_goes_to_the_facilitator_it_names() {
    let (old, new) = (FACILITATOR, "0x976EA74026E726554dB657fA54763abd0C3a0aa9");
    let upstream = Upstream::friendly();
    let (first, second) = (Facilitator::start([]), Facilitator::start([]));
    second.support(Some(supports("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266")));
    let rails = Facilitator::rails_with(&[first.address, second.address], Signs::Ceiling.keys());
    let gateway = Gateway::start(upstream.address, &rails);
    let payments: Vec<_> = (1..=3).map(|wallet| Signs::Ceiling.payment(&gateway, wallet)).collect();
    assert!(payments.iter().all(|payment| payment.accepted["extra"]["facilitatorAddress"] == old));

    first.support(Some(supports(new)));
    second.support(Some(supports(old)));
    ask_what_is_supported(&gateway, &[&first, &second]);
    assert_eq!(pay(&gateway, &payments[0]).status, 200);
    wait_for("the settlement", || (first.transfers() == 1).then_some(()));
    // It settles nothing of the kind any more: what it has offered is still its own.
    first.support(Some(json!({"kinds": []})));
    ask_what_is_supported(&gateway, &[&first, &second]);
    assert_eq!(pay(&gateway, &payments[1]).status, 200);
    wait_for("the settlement", || (first.transfers() == 2).then_some(()));
    // It is gone: nobody is asked in its place.
    for _ in 0..3 {
        first.opine(Reply::Hangup);
    }
    assert_refused(&pay(&gateway, &payments[2]), 503, "facilitator_failed", "nothing_taken");
    assert_eq!((second.settles().len(), second.verifies().len(), upstream.hits()), (0, 0, 2));
}

/// On Solana: a transaction is settled by the one that pays its fee, once, whatever is said about it.
#[test]
fn h01_h02_h07_h08_h10_on_solana() {
    let fee_payer = wire::x402::base58::encode(&[9; 32]);
    let kind =
        json!({"x402Version": 2, "scheme": "exact", "network": DEVNET, "extra": {"feePayer": fee_payer}});
    let failed = r#"{"success":false,"errorReason":"invalid_exact_svm_transaction_failed","transaction":"HASH","network":"NETWORK"}"#;
    let foreign = SUCCESS.replace("HASH", &format!("0x{}", "ee".repeat(32)));
    for (what, conduct) in [
        ("H1", moved(Reply::Hangup)),
        ("H2", moved(Reply::Says(502, SUCCESS.to_owned()))),
        ("H7", moved(says(failed))),
        ("H8 a hash of another chain", moved(says(&foreign))),
        ("H8 network", moved(says(&SUCCESS.replace("NETWORK", BASE_SEPOLIA)))),
        ("H8 payer", moved(says(&SUCCESS.replace("PAYER", "2KW2XRd9kwqet15Aha2oK3tYvd3nWbTFH1MBiRAv1BE1")))),
    ] {
        let upstream = Upstream::friendly();
        let (ours, other) = (Facilitator::start([conduct]), Facilitator::start([]));
        ours.support(Some(json!({"kinds": [kind]})));
        // It would settle there as well, and from another key.
        let mut others = kind.clone();
        others["extra"]["feePayer"] = json!(wire::x402::base58::encode(&[8; 32]));
        other.support(Some(json!({"kinds": [others]})));
        let rails = format!(
            "rails: {{ test: {{}}, x402: {{ networks: {{ \"{DEVNET}\": {{ pay_to: \"2KW2XRd9kwqet15Aha2oK3tYvd3nWbTFH1MBiRAv1BE1\" }} }}, \
             facilitators: [\"http://{}\", \"http://{}\"], settle_timeout: 1s }} }}\n",
            ours.address, other.address
        );
        let gateway = Gateway::start(upstream.address, &rails);
        let named = |offer: &serde_json::Value| offer["extra"]["feePayer"] == fee_payer;
        let offered = wait_for("the offer", || {
            let offered = challenge(&http::post(gateway.address, CHAT, &[], &ask()));
            offered["accepts"].as_array().unwrap().iter().any(named).then_some(offered)
        });
        let accepted =
            offered["accepts"].as_array().unwrap().iter().find(|offer| named(offer)).unwrap().clone();
        let amount: u64 = accepted["amount"].as_str().unwrap().parse().unwrap();
        let payload = SolanaWallet::new(1).payload(&accepted, amount);
        let payment = Payment { payload, accepted, resource: offered["resource"].clone() };
        assert_unknown(&pay(&gateway, &payment));
        assert_eq!((upstream.hits(), gateway.books().count("deposit")), (0, 0), "{what}");
        let served = wait_for("the payment to be served", || {
            Some(pay(&gateway, &payment)).filter(|answer| answer.status == 200)
        });
        assert_eq!(served.header("farthing-key"), None, "{what}");
        let books = gateway.books_after(1);
        assert_eq!((books.count("deposit"), books.count("capture")), (1, 1), "{what}");
        assert_eq!((upstream.hits(), ours.transfers(), ours.moved()), (1, 1, amount.into()), "{what}");
        assert_eq!(other.settles().len(), 0, "{what}");
    }
}

const DEVNET: &str = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1";

/// Told twice that one payment is settled: credited once.
#[test]
fn double_success_is_one_deposit() {
    for signs in Signs::ALL {
        let scene = Scene::signing(signs, [moved(Reply::Hangup), moved(says(SUCCESS)), moved(says(SUCCESS))]);
        assert_unknown(&scene.pay());
        scene.assert_served_once(&scene.pay_until_served(), &format!("{signs:?}"));
        let again = scene.pay();
        assert_eq!(
            (again.status, again.header("farthing-replayed")),
            (200, Some("true")),
            "{}",
            again.text()
        );
        assert_eq!(scene.gateway.books().count("deposit"), 1);
    }
}
