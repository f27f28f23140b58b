//! The adapter against a real LNbits, which `cargo xtask interop --only lnbits` starts: `LNBITS_URL`, a key that makes
//! invoices, and one of another wallet that pays.
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::time::{Duration, SystemTime};

use rails::Secret;
use rails::dial::{Dialer, Origin};
use rails::lightning::{
    Backend, Expect, Invoice, InvoiceState, LightningNode, Network, NodeError, Outgoing, Sent, Wanted,
};

const TIME_MAX: Duration = Duration::from_secs(10);

/// The wallet whose key is in this variable.
fn wallet(key: &str) -> LightningNode {
    let said = |name: &str| std::env::var(name).unwrap();
    let url = said("LNBITS_URL");
    let (host, port) = url.strip_prefix("http://").and_then(|rest| rest.split_once(':')).unwrap();
    let origin = Origin { tls: false, host: host.to_owned(), port: port.parse().unwrap() };
    let backend = Backend::LnBits { origin, base: String::new(), key: Secret::new(said(key)) };
    let expect = Expect { network: Network::Mainnet, node_key: None };
    LightningNode::new(backend, expect, Dialer::new(&[], TIME_MAX).unwrap(), TIME_MAX)
}

fn seller() -> LightningNode {
    wallet("LNBITS_INVOICE_KEY")
}

fn payer() -> LightningNode {
    wallet("LNBITS_PAYER_KEY")
}

async fn invoice(amount_msat: u64, description: &str) -> Invoice {
    let now_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let wanted = Wanted { amount_msat, description, expiry_s: 300, label: description };
    seller().create_invoice(&wanted, now_s).await.unwrap()
}

/// What its preimage opens, and what the way cost, if it was paid.
fn opened(sent: &Sent) -> Option<([u8; 32], u64)> {
    match sent {
        Sent::Paid { preimage, fee_msat } => Some((preimage.payment_hash().0, *fee_msat)),
        Sent::Failed(_) | Sent::Unknown => None,
    }
}

#[tokio::test]
#[ignore = "needs LNbits: cargo xtask interop --only lnbits"]
async fn makes_an_invoice_in_whole_satoshis() {
    let made = invoice(1_001, "one and a bit").await;
    assert_eq!(made.amount_msat, 2_000);
    assert_eq!(seller().look_up(&made.payment_hash).await.unwrap(), InvoiceState::Unpaid);
    assert!(matches!(payer().outgoing(&made.bolt11).await.unwrap(), Outgoing::Absent));
    let unknown = seller().look_up(&[7; 32]).await;
    assert!(matches!(unknown, Err(NodeError::Refused(_))), "{unknown:?}");
}

#[tokio::test]
#[ignore = "needs LNbits: cargo xtask interop --only lnbits"]
async fn is_paid_once_and_tells_it() {
    let (seller, payer) = (seller(), payer());
    let made = invoice(3_000, "three").await;
    assert_eq!(opened(&payer.pay(&made.bolt11, 10_000).await), Some((made.payment_hash, 0)));

    let state = seller.look_up(&made.payment_hash).await.unwrap();
    assert!(matches!(state, InvoiceState::Settled { msat: 3_000, .. }), "{state:?}");
    let settled = seller.next_settled(0).await.unwrap();
    let ours = settled.iter().find(|one| one.payment_hash == made.payment_hash).unwrap();
    assert_eq!(ours.msat, 3_000);
    // From there on it is not news any more.
    let cursor = settled.iter().map(|one| one.cursor).max().unwrap();
    let next = invoice(4_000, "four").await;
    assert!(matches!(payer.pay(&next.bolt11, 10_000).await, Sent::Paid { .. }));
    let later = seller.next_settled(cursor).await.unwrap();
    assert!(later.iter().any(|one| one.payment_hash == next.payment_hash));
    assert!(later.iter().all(|one| one.payment_hash != made.payment_hash));
}

/// An order that is given again is the payment that was made, and not another one.
#[tokio::test]
#[ignore = "needs LNbits: cargo xtask interop --only lnbits"]
async fn pays_once() {
    let payer = payer();
    let made = invoice(5_000, "five").await;
    for _ in 0..2 {
        assert_eq!(opened(&payer.pay(&made.bolt11, 10_000).await), Some((made.payment_hash, 0)));
    }
    assert!(matches!(payer.outgoing(&made.bolt11).await.unwrap(), Outgoing::Paid { .. }));
}

/// A key that only makes invoices pays nothing, and says so before anything moves.
#[tokio::test]
#[ignore = "needs LNbits: cargo xtask interop --only lnbits"]
async fn invoice_key_cannot_pay() {
    let made = invoice(6_000, "six").await;
    let sent = seller().pay(&made.bolt11, 10_000).await;
    assert!(matches!(sent, Sent::Failed(_)), "{sent:?}");
    assert_eq!(seller().look_up(&made.payment_hash).await.unwrap(), InvoiceState::Unpaid);
}
