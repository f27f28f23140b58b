//! What a facilitator says, held against a node of the operator's own (X402-45): nothing is credited that the chain does not
//! show, and what it does show is credited whatever is said.

use farthing_tests::facilitator::{Conduct, Facilitator, Reply, SUCCESS, failure};
use farthing_tests::gateway::{Gateway, free_address};
use farthing_tests::http;
use farthing_tests::payer::decode;
use farthing_tests::refused::assert_refused;
use farthing_tests::scene::{Scene, Signs, assert_unknown, pay};
use farthing_tests::upstream::Upstream;

const STRANGER: &str = "0x976EA74026E726554dB657fA54763abd0C3a0aa9";

fn says(text: &str) -> Reply {
    Reply::Says(200, text.to_owned())
}

#[test]
fn a_settlement_that_the_chain_shows_counts() {
    for signs in Signs::ALL {
        let scene = Scene::with_node(signs, []);
        let served = scene.pay();
        assert!(served.header("farthing-key").is_some(), "{}", served.text());
        scene.assert_served_once(&served, &format!("{signs:?}"));
    }
}

/// A hash that nobody knows, and the hash of an earlier payment of the same sum.
#[test]
fn h06_an_invented_transfer_is_not_credited() {
    for signs in Signs::ALL {
        let scene = Scene::with_node(signs, []);
        let earlier = signs.payment(&scene.gateway, 1);
        assert_eq!(pay(&scene.gateway, &earlier).status, 200);
        let invented = format!("0x{}", "ee".repeat(32));
        for told in [invented, earlier.transaction()] {
            scene.facilitator.next(Conduct::Only(says(&SUCCESS.replace("HASH", &told))));
            for _ in 0..20 {
                scene.facilitator.next(Conduct::Only(Reply::Hangup));
            }
            let payment = signs.payment(&scene.gateway, 1);
            assert_unknown(&pay(&scene.gateway, &payment));
            assert_eq!((scene.upstream.hits(), scene.gateway.books().count("deposit")), (1, 1), "{told}");
            assert!(scene.gateway.log().contains("ALARM"));
        }
        scene.facilitator.behave();
    }
}

/// Whatever it says, and if it says nothing: the money is there, so the call is served, by one transfer.
#[test]
fn h01_h02_h07_money_that_moved_is_found() {
    let with_hash = r#"{"success":false,"errorReason":"invalid_exact_evm_transaction_failed","transaction":"HASH","network":"NETWORK"}"#;
    for (what, signs, reply) in [
        ("silence", Signs::Transfer, Reply::Silence),
        ("502", Signs::Transfer, Reply::Says(502, String::new())),
        ("refused", Signs::Transfer, failure("invalid_exact_evm_insufficient_balance")),
        ("failed with a hash", Signs::Transfer, says(with_hash)),
        ("failed with a hash, permit", Signs::Permit, says(with_hash)),
        ("another payer, permit", Signs::Permit, says(&SUCCESS.replace("PAYER", STRANGER))),
    ] {
        let scene = Scene::with_node(signs, [Conduct::MoveThen(reply)]);
        scene.assert_served_once(&scene.pay(), what);
        scene.assert_asked(1, what);
    }
}

/// Permit2 does not tell which transaction used a nonce. Told that it was refused although its nonce is used, we know that
/// we do not know.
#[test]
fn h07_a_used_permit_is_not_refused() {
    let scene = Scene::with_node(Signs::Permit, [Conduct::MoveThen(failure("permit2_simulation_failed"))]);
    assert_unknown(&scene.pay());
    scene.assert_served_once(&scene.pay_until_served(), "told later");
}

/// H4 to its end: nothing moved, and by the chain's own clock nothing can any more. The payer is free to pay anew.
#[test]
fn h03_h04_a_payment_that_never_moved_is_let_go() {
    for signs in Signs::ALL {
        for first in [Conduct::Only(Reply::Silence), Conduct::Only(failure("settlement_pending"))] {
            let hangups = std::iter::repeat_n(Conduct::Only(Reply::Hangup), 50);
            let scene = Scene::with_node(signs, std::iter::once(first).chain(hangups));
            assert_unknown(&scene.pay());
            scene.facilitator.pass(100);
            assert_unknown(&scene.pay());
            scene.facilitator.pass(400);
            let refused = farthing_tests::gateway::wait_for("the end of its time", || {
                Some(scene.pay()).filter(|answer| answer.status == 402)
            });
            assert_eq!(refused.json()["money"], "nothing_taken", "{}", refused.text());
            let intents = scene.gateway.operator(&["ledger", "intents"]);
            assert_eq!(intents["intents"].as_array().map(Vec::len), Some(0));
            scene.facilitator.behave();
            assert_eq!(pay(&scene.gateway, &signs.payment(&scene.gateway, 1)).status, 200);
            assert_eq!((scene.facilitator.transfers(), scene.upstream.hits()), (1, 1));
        }
    }
}

/// A node that does not answer confirms nothing: nothing is credited on a facilitator's word alone.
#[test]
fn without_its_node_nothing_is_believed() {
    let upstream = Upstream::friendly();
    let facilitator = Facilitator::start([]);
    let node = free_address();
    let rails = Facilitator::rails_with(&[facilitator.address], Signs::Transfer.keys());
    let rails = rails.replace("asset: USDC,", &format!("asset: USDC, rpc: \"http://{node}/\","));
    let gateway = Gateway::start(upstream.address, &rails);
    // A refusal needs no node. First, while the gateway asks nothing by itself.
    facilitator.next(Conduct::Only(failure("insufficient_funds")));
    let refused = pay(&gateway, &Signs::Transfer.payment(&gateway, 2));
    assert_refused(&refused, 402, "settlement_failed", "nothing_taken");
    assert_eq!(decode(refused.must("payment-response"))["success"], false);
    let payment = Signs::Transfer.payment(&gateway, 1);
    assert_unknown(&pay(&gateway, &payment));
    assert_eq!((upstream.hits(), gateway.books().count("deposit")), (0, 0));
    assert_eq!(facilitator.transfers(), 1);
    // A key is served all the same.
    let key = gateway.key("1 TEST");
    let fields = [("x-api-key", key.as_str())];
    let body = farthing_tests::scene::ask();
    assert_eq!(http::post(gateway.address, farthing_tests::scene::CHAT, &fields, &body).status, 200);
}
