//! The adapter against Alby's wallet service, which `cargo xtask interop --only nwc` starts behind the relay
//! `NWC_RELAY`: one wallet makes invoices, another pays them.
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::time::{Duration, SystemTime};

use rails::dial::Dialer;
use rails::lightning::nwc::Connection;
use rails::lightning::{
    Backend, Expect, Invoice, InvoiceState, LightningNode, Network, NodeError, Outgoing, Sent, Wanted,
    test_node,
};

const TIME_MAX: Duration = Duration::from_secs(10);
/// What a wallet may let the way cost.
const FEE_MSAT_MAX: u64 = 10_000;

/// A wallet's public key, and our secret for it: test keys, as `tests/interop/lightning/nwc_wallets.mjs` has them.
type Keys = (&'static str, &'static str);

const SELLER: Keys = ("6360e856310ce5d294e8be33fc807077dc56ac80d95d9cd4ddbd21325eff73f7", "11");
const PAYER: Keys = ("ff8adab52623bcb2717fc71d7edc6f55e98396e6c234dff01f307a12b2af1c99", "13");

fn wallet((wallet, secret): Keys) -> LightningNode {
    let relay = std::env::var("NWC_RELAY").unwrap();
    let uri = format!("nostr+walletconnect://{wallet}?relay={relay}&secret={}", secret.repeat(32));
    let expect = Expect { network: Network::Regtest, node_key: None };
    let dialer = Dialer::new(&[], TIME_MAX).unwrap();
    LightningNode::new(Backend::Nwc(Connection::parse(&uri).unwrap()), expect, dialer, TIME_MAX)
}

fn seller() -> LightningNode {
    wallet(SELLER)
}

fn payer() -> LightningNode {
    wallet(PAYER)
}

async fn invoice(node: &LightningNode, amount_msat: u64) -> Invoice {
    let now_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let wanted = Wanted { amount_msat, description: "by a wallet of Alby's", expiry_s: 300, label: "" };
    node.create_invoice(&wanted, now_s).await.unwrap()
}

#[tokio::test]
#[ignore = "needs Alby's wallet service: cargo xtask interop --only nwc"]
async fn makes_an_invoice_in_whole_satoshis() {
    let node = seller();
    let about = node.about().await.unwrap();
    assert_eq!((about.node_key, about.network), (Some(test_node::node_key()), Some(Network::Regtest)));
    let made = invoice(&node, 1_001).await;
    assert_eq!(made.amount_msat, 2_000);
    assert_eq!(node.look_up(&made.payment_hash).await.unwrap(), InvoiceState::Unpaid);
    let unknown = node.look_up(&[7; 32]).await;
    assert_eq!(unknown, Err(NodeError::Refused("NOT_FOUND: not found".to_owned())));
}

#[tokio::test]
#[ignore = "needs Alby's wallet service: cargo xtask interop --only nwc"]
async fn is_paid_once_and_tells_it() {
    let (seller, payer) = (seller(), payer());
    let made = invoice(&seller, 3_000).await;
    assert!(matches!(payer.outgoing(&made.bolt11).await, Ok(Outgoing::Absent)));
    for _ in 0..2 {
        let Sent::Paid { preimage, fee_msat } = payer.pay(&made.bolt11, FEE_MSAT_MAX).await else {
            panic!("not paid");
        };
        assert_eq!((preimage.payment_hash().0, fee_msat), (made.payment_hash, 1));
    }
    let settled = seller.next_settled(0).await.unwrap();
    assert_eq!((settled.len(), settled[0].payment_hash, settled[0].msat), (1, made.payment_hash, 3_000));
    let state = seller.look_up(&made.payment_hash).await.unwrap();
    assert!(matches!(state, InvoiceState::Settled { at_s: Some(_), msat: 3_000 }), "{state:?}");
}

#[tokio::test]
#[ignore = "needs Alby's wallet service: cargo xtask interop --only nwc"]
async fn what_a_wallet_does_not_offer_is_not_asked() {
    let made = invoice(&seller(), 1_000).await;
    assert!(matches!(seller().pay(&made.bolt11, FEE_MSAT_MAX).await, Sent::Failed(_)));
    let wanted = Wanted { amount_msat: 1_000, description: "", expiry_s: 300, label: "" };
    let refused = payer().create_invoice(&wanted, made.expires_at_s - 300).await;
    assert_eq!(refused, Err(NodeError::Refused("the wallet does not offer make_invoice".to_owned())));
}
