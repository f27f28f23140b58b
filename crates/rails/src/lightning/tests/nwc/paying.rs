//! Payments by the wallet: paid, failed or unknown, and never twice.

use serde_json::{Value, json};

use super::relay::{Manner, Nature, Relay, now_s};
use super::{dead_port, node, node_within};
use crate::lightning::{Outgoing, Sent, Wanted, bolt11, test_node};

/// What a wallet may let the way cost.
const FEE_MSAT: u64 = 10_000;

/// Somebody's invoice, which this wallet's node can pay.
fn invoice() -> String {
    let wanted = Wanted { amount_msat: 1_000, description: "refund", expiry_s: 300, label: "" };
    test_node::mint(&wanted, now_s()).unwrap()
}

fn outgoing(state: &str) -> Value {
    json!({"type": "outgoing", "state": state, "amount": 1000})
}

/// The end in a word, and that a proof is the invoice's.
fn word(sent: &Sent, bolt11: &str) -> &'static str {
    match sent {
        Sent::Paid { preimage, fee_msat: 3 } => {
            assert_eq!(preimage.payment_hash().0, bolt11::decode(bolt11).unwrap().payment_hash);
            "paid"
        }
        Sent::Paid { .. } => "paid for another fee",
        Sent::Failed(_) => "failed",
        Sent::Unknown => "unknown",
    }
}

#[tokio::test]
async fn l402_73_what_a_wallet_says_of_a_payment_table() {
    for (manner, expected, asked_after) in [
        (None, "paid", false),
        // The wallet looked at it and has done nothing, and its books agree.
        (Some(Manner::Error("QUOTA_EXCEEDED")), "failed", true),
        (Some(Manner::Error("INSUFFICIENT_BALANCE")), "failed", true),
        (Some(Manner::Error("RATE_LIMITED")), "failed", true),
        (Some(Manner::Error("RESTRICTED")), "failed", true),
        // It says that the payment ended, and its books agree, or not.
        (Some(Manner::Error("PAYMENT_FAILED")), "failed", true),
        (Some(Manner::DoneBut("PAYMENT_FAILED")), "paid", true),
        // It says nothing that decides: its books do, or nothing does.
        (Some(Manner::Error("INTERNAL")), "unknown", true),
        (Some(Manner::Error("OTHER")), "unknown", true),
        (Some(Manner::DoneBut("INTERNAL")), "paid", true),
        (Some(Manner::Garbage), "unknown", true),
        (Some(Manner::HangUp), "unknown", true),
        // A relay's word on it counts for nothing.
        (Some(Manner::Blocked), "unknown", true),
        // A proof that proves nothing.
        (Some(Manner::With(json!({"preimage": "00".repeat(32)}))), "paid", true),
        (Some(Manner::Says(json!({"result_type": "pay_invoice", "result": {}}))), "unknown", true),
        (Some(Manner::Twice), "paid", false),
        (Some(Manner::Forgeries), "paid", false),
    ] {
        let relay = Relay::start(Nature::default()).await;
        let node = node(&relay);
        let said = format!("{manner:?}");
        if let Some(manner) = manner {
            relay.next("pay_invoice", manner);
        }
        let bolt11 = invoice();
        assert_eq!(word(&node.pay(&bolt11, FEE_MSAT).await, &bolt11), expected, "{said}");
        let mut asked = vec!["lookup_invoice", "pay_invoice"];
        if asked_after {
            asked.push("lookup_invoice");
        }
        assert_eq!(relay.asked(), asked, "{said}");
    }
}

#[tokio::test]
async fn l402_73_what_is_paid_or_under_way_is_not_paid_again() {
    let relay = Relay::start(Nature::default()).await;
    let node = node(&relay);
    let bolt11 = invoice();
    let hash = bolt11::decode(&bolt11).unwrap().payment_hash;
    relay.set(&hash, outgoing("pending"));
    assert_eq!(word(&node.pay(&bolt11, FEE_MSAT).await, &bolt11), "unknown");
    assert!(matches!(node.outgoing(&bolt11).await, Ok(Outgoing::UnderWay)));
    relay.set(&hash, outgoing("failed"));
    assert!(matches!(node.outgoing(&bolt11).await, Ok(Outgoing::Failed(_))));
    assert_eq!(relay.asked().iter().filter(|method| *method == "pay_invoice").count(), 0);

    assert_eq!(word(&node.pay(&bolt11, FEE_MSAT).await, &bolt11), "paid");
    assert_eq!(word(&node.pay(&bolt11, FEE_MSAT).await, &bolt11), "paid");
    assert!(matches!(node.outgoing(&bolt11).await, Ok(Outgoing::Paid { fee_msat: 3, .. })));
    assert_eq!(relay.asked().iter().filter(|method| *method == "pay_invoice").count(), 1);
}

/// The order was lost on the way there or back: the wallet's books tell later.
#[tokio::test]
async fn l402_73_an_unknown_payment_is_resolved_by_looking_it_up() {
    let relay = Relay::start(Nature::default()).await;
    let node = node(&relay);
    let bolt11 = invoice();
    relay.next("pay_invoice", Manner::HangUp);
    assert_eq!(word(&node.pay(&bolt11, FEE_MSAT).await, &bolt11), "unknown");
    assert!(matches!(node.outgoing(&bolt11).await, Ok(Outgoing::Absent)));
    let preimage = test_node::preimage_of(&bolt11).unwrap();
    let mut entry = outgoing("settled");
    entry["preimage"] = json!("00".repeat(32));
    relay.set(&preimage.payment_hash().0, entry.clone());
    assert!(matches!(node.outgoing(&bolt11).await, Ok(Outgoing::UnderWay)), "a proof that proves nothing");
    entry["preimage"] = json!(wire::hex::encode(preimage.as_bytes()));
    relay.set(&preimage.payment_hash().0, entry);
    assert!(matches!(node.outgoing(&bolt11).await, Ok(Outgoing::Paid { .. })));
    assert_eq!(relay.asked().iter().filter(|method| *method == "pay_invoice").count(), 1);
}

#[tokio::test]
async fn l402_73_nothing_is_paid_whose_end_could_not_be_told() {
    let relay = Relay::start(Nature { methods: "pay_invoice", ..Nature::default() }).await;
    let bolt11 = invoice();
    assert_eq!(word(&node(&relay).pay(&bolt11, FEE_MSAT).await, &bolt11), "failed");
    assert!(relay.asked().is_empty());

    let relay = Relay::start(Nature { methods: "lookup_invoice", ..Nature::default() }).await;
    assert_eq!(word(&node(&relay).pay(&bolt11, FEE_MSAT).await, &bolt11), "failed");
    assert_eq!(relay.asked(), ["lookup_invoice"]);

    let (_held, dead) = dead_port();
    let nobody = node_within(&[dead], super::TIME_MAX);
    assert_eq!(word(&nobody.pay(&bolt11, FEE_MSAT).await, &bolt11), "failed");
    assert_eq!(word(&nobody.pay("lnbcrt1", FEE_MSAT).await, &bolt11), "failed");
}

/// The protocol has no limit of the fee: what a wallet may take for the way has to be allowed.
#[tokio::test]
async fn l402_73_nothing_is_paid_whose_fee_may_be_more_than_is_allowed() {
    let relay = Relay::start(Nature::default()).await;
    let node = node(&relay);
    for (amount_msat, max_fee_msat, expected) in [
        (1_000, 9_999, "failed"),
        (1_000, 10_000, "paid"),
        (1_000_000, 10_000, "paid"),
        (1_000_001, 10_000, "failed"),
        (5_000_000, 50_000, "paid"),
    ] {
        let wanted = Wanted { amount_msat, description: "refund", expiry_s: 300, label: "" };
        let bolt11 = test_node::mint(&wanted, now_s()).unwrap();
        let asked = relay.asked().len();
        assert_eq!(word(&node.pay(&bolt11, max_fee_msat).await, &bolt11), expected, "{amount_msat}");
        assert_eq!(relay.asked().len() > asked, expected == "paid", "{amount_msat}");
    }
}
