//! What is ordered, of whom, and how often.

use std::sync::{Arc, Mutex};

use super::fake::{Does, Fake, Kind, Made, NOW_S, made, wanted};
use super::paying::{PAID, UNKNOWN, absent, looks, told};
use super::shapes::{cln_list, lnbits_sent, lnd_payment, phoenixd_sent};
use crate::lightning::{NodeError, Outgoing, Sent};

/// What is ordered, in each node's words: with a limit for the fee where the node takes one.
#[tokio::test]
async fn each_kind_is_ordered_in_its_own_words() {
    let bodies: Arc<Mutex<Vec<String>>> = Arc::default();
    for kind in Kind::ALL {
        let ours = Arc::clone(&bodies);
        let fake = Fake::start(move |asked| {
            if looks(kind, asked) {
                return absent(kind);
            }
            if asked.method == "POST" {
                ours.lock().unwrap().push(asked.body.clone());
            }
            Does::Says(200, r#"{"fee_reserve":0}"#.to_owned())
        });
        let one = made(&wanted(), NOW_S);
        assert_eq!(told(&fake.node(kind).pay(&one.bolt11, 5_000).await), UNKNOWN);
        let body = bodies.lock().unwrap().drain(..).next().unwrap().replace(&one.bolt11, "I");
        assert_eq!(
            body,
            match kind {
                Kind::Lnd => {
                    r#"{"fee_limit_msat":"5000","no_inflight_updates":true,"payment_request":"I","timeout_seconds":60}"#
                }
                Kind::Cln => r#"{"invstring":"I","maxfee":5000,"retry_for":60}"#,
                Kind::Phoenixd => "invoice=I",
                Kind::LnBits => r#"{"bolt11":"I","out":true}"#,
            }
        );
    }
}

#[tokio::test]
async fn nothing_is_sent_for_what_is_no_order() {
    let mainnet = include_str!("../../../../../specs/vectors/l402/invoices.json");
    let mainnet: serde_json::Value = serde_json::from_str(mainnet).unwrap();
    let text = |index: usize| mainnet["invoices"][index]["bolt11"].as_str().unwrap().to_owned();
    for kind in Kind::ALL {
        let fake = Fake::start(|_| Does::Hangup);
        for bolt11 in [String::new(), "lnbcrt1".to_owned(), text(0), text(3)] {
            assert!(
                matches!(fake.node(kind).pay(&bolt11, 5_000).await, Sent::Failed(_)),
                "{kind:?}: {bolt11}"
            );
        }
        assert!(fake.lines().is_empty(), "{kind:?}");
    }
}

/// An unreachable node was ordered nothing.
#[tokio::test]
async fn a_node_that_is_not_there() {
    let one = made(&wanted(), NOW_S);
    for kind in Kind::ALL {
        let mut fake = Fake::start(|_| Does::Hangup);
        fake.origin.port = 1;
        let node = fake.node(kind);
        assert_eq!(
            told(&node.pay(&one.bolt11, 5_000).await),
            "failed: the node was not asked to pay: not asked",
            "{kind:?}"
        );
        assert!(matches!(node.outgoing(&one.bolt11).await, Err(NodeError::NotAsked)), "{kind:?}");
        assert_eq!(node.create_invoice(&wanted(), NOW_S).await, Err(NodeError::NotAsked), "{kind:?}");
    }
}

/// An invoice is ordered once: what is made or under way is not ordered again, and nothing is ordered of a node that
/// does not say.
#[tokio::test]
async fn what_is_made_or_under_way_is_not_ordered_again() {
    let one = made(&wanted(), NOW_S);
    for (kind, done, under_way) in [
        (Kind::Lnd, lnd_payment(&one, "SUCCEEDED", &one.preimage), lnd_payment(&one, "IN_FLIGHT", "")),
        (Kind::Cln, cln_list(&one, &["complete"]), cln_list(&one, &["pending"])),
        (Kind::Phoenixd, phoenixd_sent(&one, true, "2"), phoenixd_sent(&one, false, "null")),
        (
            Kind::LnBits,
            lnbits_sent(&one, true, "success", -21_001),
            lnbits_sent(&one, false, "pending", -21_001),
        ),
    ] {
        let refused = "{}".to_owned();
        let not_asked = "failed: the node was not asked to pay: refused: status 500";
        for (status, body, expected) in
            [(200, done, PAID), (200, under_way, UNKNOWN), (500, refused, not_asked)]
        {
            let fake = Fake::start(move |_| Does::Says(status, body.clone()));
            assert_eq!(told(&fake.node(kind).pay(&one.bolt11, 5_000).await), expected, "{kind:?}");
            assert_eq!(fake.lines().len(), 1, "{kind:?}: looked, and ordered nothing");
        }
    }
}

/// Later, what became of an order: a claim without proof is not an end.
#[tokio::test]
async fn what_became_of_an_order() {
    let one = made(&wanted(), NOW_S);
    let proofless = |made: &Made, body: String| body.replace(&made.preimage, &"00".repeat(32));
    for (kind, body) in [
        (Kind::Lnd, lnd_payment(&one, "SUCCEEDED", &one.preimage)),
        (Kind::Cln, cln_list(&one, &["complete"])),
        (Kind::Phoenixd, phoenixd_sent(&one, true, "2")),
        (Kind::LnBits, lnbits_sent(&one, true, "success", -21_001)),
    ] {
        let (said, unproved) = (body.clone(), proofless(&one, body));
        let fake = Fake::start(move |_| Does::Says(200, said.clone()));
        let known = fake.node(kind).outgoing(&one.bolt11).await.unwrap();
        assert!(matches!(known, Outgoing::Paid { fee_msat: 1234, .. }), "{kind:?}: {known:?}");
        let fake = Fake::start(move |_| Does::Says(200, unproved.clone()));
        let known = fake.node(kind).outgoing(&one.bolt11).await.unwrap();
        assert!(matches!(known, Outgoing::UnderWay), "{kind:?}: {known:?}");
    }
}
