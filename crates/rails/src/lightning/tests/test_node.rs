//! The node for play money.

use std::time::Duration;

use crate::dial::Dialer;
use crate::lightning::bolt11::{self, Description};
use crate::lightning::test_node::{node_key, preimage_of};
use crate::lightning::{Backend, Expect, LightningNode, Network, NodeError, Sent, Wanted};

const NOW_S: u64 = 1_790_000_000;

fn wanted(amount_msat: u64) -> Wanted<'static> {
    Wanted { amount_msat, description: "farthing: llm", expiry_s: 300, label: "one" }
}

fn node(network: Network, key: Option<[u8; 33]>) -> LightningNode {
    let dialer = Dialer::new(&[], Duration::from_secs(1)).unwrap();
    LightningNode::new(Backend::Test, Expect { network, node_key: key }, dialer, Duration::from_secs(1))
}

#[tokio::test]
async fn l402_60_its_invoices_are_real_and_anybody_can_pay_them() {
    let node = node(Network::Regtest, Some(node_key()));
    let one = node.create_invoice(&wanted(21_001), NOW_S).await.unwrap();
    let other = node.create_invoice(&wanted(21_001), NOW_S).await.unwrap();
    assert_ne!(one.payment_hash, other.payment_hash, "two clients never share a hash");

    let read = bolt11::decode(&one.bolt11).unwrap();
    assert!(one.bolt11.starts_with("lnbcrt210010p1"), "{}", one.bolt11);
    assert_eq!(read.amount_msat, Some(21_001));
    assert_eq!((read.payment_hash, read.payee), (one.payment_hash, node_key()));
    assert_eq!((read.issued_at_s, read.expires_at_s), (NOW_S, NOW_S + 300));
    assert_eq!(read.description, Description::Text("farthing: llm".to_owned()));
    assert_eq!(one.expires_at_s, NOW_S + 300);

    let preimage = preimage_of(&one.bolt11).unwrap();
    assert_eq!(preimage.payment_hash().0, one.payment_hash);
    let Sent::Paid { preimage: paid, fee_msat: 0 } = node.pay(&one.bolt11, 0).await else {
        panic!("not paid")
    };
    assert_eq!(paid.as_bytes(), preimage.as_bytes());
}

#[tokio::test]
async fn it_pays_and_opens_nothing_else() {
    let real = include_str!("../../../../../specs/vectors/l402/paid_regtest_ldk.json");
    let real: serde_json::Value = serde_json::from_str(real).unwrap();
    let foreign = real["payments"][0]["bolt11"].as_str().unwrap();
    let node = node(Network::Regtest, None);
    for bolt11 in [foreign, "lnbcrt1", ""] {
        assert!(preimage_of(bolt11).is_none(), "{bolt11}");
        assert!(matches!(node.pay(bolt11, 0).await, Sent::Failed(_)), "{bolt11}");
    }
}

#[tokio::test]
async fn l402_63_what_no_node_is_asked_for() {
    let node = node(Network::Regtest, None);
    let long = "x".repeat(640);
    for (case, wanted) in [
        ("no amount", wanted(0)),
        ("too short a time", Wanted { expiry_s: 59, ..wanted(1) }),
        ("too long a time", Wanted { expiry_s: 601, ..wanted(1) }),
        ("too long a description", Wanted { description: &long, ..wanted(1) }),
        ("control characters", Wanted { description: "a\nb", ..wanted(1) }),
    ] {
        let answer = node.create_invoice(&wanted, NOW_S).await;
        assert!(matches!(answer, Err(NodeError::Refused(_))), "{case}: {answer:?}");
    }
    for expiry_s in [60, 600] {
        let invoice = node.create_invoice(&Wanted { expiry_s, ..wanted(1) }, NOW_S).await.unwrap();
        assert_eq!(invoice.expires_at_s, NOW_S + u64::from(expiry_s));
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_for_regtest_and_says_what_it_cannot_know() {
    let live = node(Network::Mainnet, None);
    assert_eq!(live.create_invoice(&wanted(1), NOW_S).await, Err(NodeError::Lied("network")));
    let node = node(Network::Regtest, None);
    assert!(matches!(node.look_up(&[7; 32]).await, Err(NodeError::Refused(_))));
    assert_eq!(node.next_settled(0).await.unwrap(), []);
    assert_eq!(node.about().await.unwrap().node_key, Some(node_key()));
}
