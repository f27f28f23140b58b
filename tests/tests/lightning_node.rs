//! A Lightning node asked over HTTP, against one that is slow, lies, repeats itself and breaks off.
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use farthing_tests::gateway::PATIENCE;
use farthing_tests::lnd::{Conduct, Door, Lie, Lnd, MACAROON};
use rails::Secret;
use rails::dial::{Dialer, Origin};
use rails::lightning::test_node::node_key;
use rails::lightning::{
    Backend, Expect, InvoiceState, LightningNode, Network, NodeError, Outgoing, Sent, Wanted,
};

fn node(lnd: &Lnd, macaroon: &str) -> LightningNode {
    node_within(lnd, macaroon, PATIENCE)
}

fn node_within(lnd: &Lnd, macaroon: &str, time_max: Duration) -> LightningNode {
    let origin = Origin { tls: false, host: lnd.address.ip().to_string(), port: lnd.address.port() };
    let backend = Backend::Lnd { origin, base: String::new(), macaroon: Secret::new(macaroon) };
    let expect = Expect { network: Network::Regtest, node_key: None };
    let dialer = Dialer::new(&[], PATIENCE).unwrap();
    LightningNode::new(backend, expect, dialer, time_max)
}

fn wanted() -> Wanted<'static> {
    Wanted { amount_msat: 21_001, description: "farthing: chat", expiry_s: 300, label: "farthing-1" }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn lightning_an_invoice_is_made_paid_and_told_of() {
    let (ours, theirs) = (Lnd::start(), Lnd::start());
    theirs.charge(7);
    let (seller, payer) = (node(&ours, MACAROON), node(&theirs, MACAROON));
    let invoice = seller.create_invoice(&wanted(), now_s()).await.unwrap();
    assert_eq!(seller.look_up(&invoice.payment_hash).await, Ok(InvoiceState::Unpaid));

    let Sent::Failed(reason) = payer.pay(&invoice.bolt11, 6).await else { panic!("paid above its limit") };
    assert_eq!(reason, "FAILURE_REASON_NO_ROUTE");
    assert!(matches!(payer.outgoing(&invoice.bolt11).await, Ok(Outgoing::Failed(_))));
    let Sent::Paid { preimage, fee_msat: 7 } = payer.pay(&invoice.bolt11, 7).await else {
        panic!("not paid")
    };
    assert_eq!(preimage.payment_hash().0, invoice.payment_hash);

    let state = seller.look_up(&invoice.payment_hash).await.unwrap();
    assert!(matches!(state, InvoiceState::Settled { at_s: Some(_), msat: 21_001 }), "{state:?}");
    let told = seller.next_settled(0).await.unwrap();
    assert_eq!((told[0].payment_hash, told[0].msat, told[0].cursor), (invoice.payment_hash, 21_001, 1));
    assert_eq!(seller.about().await.unwrap().node_key, Some(node_key()));

    let again = payer.pay(&invoice.bolt11, 7).await;
    assert!(matches!(again, Sent::Paid { fee_msat: 7, .. }), "the same payment, told again: {again:?}");
    assert_eq!((theirs.payments(), theirs.hits(Door::Send)), (1, 2));
}

#[tokio::test]
async fn lightning_l402_60_a_lying_node_makes_no_invoice() {
    for (lie, expected) in Lie::ALL {
        let lnd = Lnd::start();
        let seller = node(&lnd, MACAROON);
        assert!(seller.create_invoice(&wanted(), now_s()).await.is_ok());
        lnd.next(Door::Create, Conduct::Lies(lie));
        let answer = seller.create_invoice(&wanted(), now_s()).await;
        assert_eq!(answer, Err(NodeError::Lied(expected)), "{lie:?}");
        assert!(seller.create_invoice(&wanted(), now_s()).await.is_ok(), "{lie:?}: once");
    }
}

#[tokio::test]
async fn lightning_slow_silent_and_refusing_nodes() {
    let lnd = Lnd::start();
    let seller = node(&lnd, MACAROON);
    let open = Arc::new(AtomicBool::new(false));
    lnd.next(Door::Create, Conduct::WellWhen(Arc::clone(&open)));
    let wanted_late = wanted();
    let (creating, ()) = tokio::join!(seller.create_invoice(&wanted_late, now_s()), async {
        open.store(true, Ordering::SeqCst);
    });
    assert!(creating.is_ok(), "late is not lost");
    for (conduct, expected) in [
        (Conduct::Hangup, NodeError::Lost),
        (Conduct::DoesThenHangup, NodeError::Lost),
        (Conduct::Says(503, String::new()), NodeError::Lost),
        (
            Conduct::Says(500, r#"{"code":2,"message":"wallet locked"}"#.to_owned()),
            NodeError::Refused("wallet locked".to_owned()),
        ),
    ] {
        lnd.next(Door::Create, conduct.clone());
        assert_eq!(seller.create_invoice(&wanted(), now_s()).await, Err(expected), "{conduct:?}");
    }
    lnd.next(Door::Create, Conduct::Silence);
    let impatient = node_within(&lnd, MACAROON, Duration::from_millis(100));
    assert!(impatient.create_invoice(&wanted(), now_s()).await.is_err(), "it gives up");

    let stranger = node(&lnd, "00");
    let refused = stranger.create_invoice(&wanted(), now_s()).await;
    assert!(matches!(refused, Err(NodeError::Refused(_))), "{refused:?}");
}

/// The answer is lost after the money has moved: the payment is found, and not made again.
#[tokio::test]
async fn lightning_a_payment_whose_answer_is_lost() {
    let lnd = Lnd::start();
    let both = node(&lnd, MACAROON);
    let one = both.create_invoice(&wanted(), now_s()).await.unwrap();
    lnd.next(Door::Send, Conduct::DoesThenHangup);
    assert!(matches!(both.pay(&one.bolt11, 0).await, Sent::Paid { .. }));

    let other = both.create_invoice(&wanted(), now_s()).await.unwrap();
    lnd.next(Door::Send, Conduct::DoesThenHangup);
    lnd.next(Door::Track, Conduct::Well);
    lnd.next(Door::Track, Conduct::Hangup);
    assert!(matches!(both.pay(&other.bolt11, 0).await, Sent::Unknown));
    assert!(matches!(both.outgoing(&other.bolt11).await, Ok(Outgoing::Paid { .. })), "resolved later");

    let third = both.create_invoice(&wanted(), now_s()).await.unwrap();
    lnd.next(Door::Send, Conduct::Hangup);
    assert!(matches!(both.pay(&third.bolt11, 0).await, Sent::Unknown), "an order may be on its way still");
    assert!(matches!(both.outgoing(&third.bolt11).await, Ok(Outgoing::Absent)));
    assert_eq!((lnd.payments(), lnd.hits(Door::Send)), (2, 3));

    lnd.next(Door::Send, Conduct::Fails);
    assert!(matches!(both.pay(&third.bolt11, 0).await, Sent::Failed(_)));
}

/// Settlements come while somebody waits, after a break, twice and backwards.
#[tokio::test]
async fn lightning_settlements_are_told_as_they_come() {
    let lnd = Lnd::start();
    let seller = node(&lnd, MACAROON);
    let mut hashes = Vec::new();
    for _ in 0..4 {
        hashes.push(seller.create_invoice(&wanted(), now_s()).await.unwrap().payment_hash);
    }
    lnd.settle(&hashes[0]);
    let first = seller.next_settled(0).await.unwrap();
    assert_eq!(first.iter().map(|one| one.cursor).collect::<Vec<_>>(), [1]);

    let settling = async {
        while lnd.hits(Door::Subscribe) == 0 {
            tokio::task::yield_now().await;
        }
        lnd.settle(&hashes[1]);
    };
    let (told, ()) = tokio::join!(seller.next_settled(1), settling);
    assert_eq!(told.unwrap()[0].payment_hash, hashes[1], "while waiting");

    lnd.settle(&hashes[2]);
    lnd.settle(&hashes[3]);
    lnd.tell_twice_and_backwards();
    let told = seller.next_settled(2).await.unwrap();
    assert_eq!(told.iter().map(|one| one.cursor).collect::<Vec<_>>(), [4, 3, 4, 3]);
    lnd.next(Door::Subscribe, Conduct::Hangup);
    assert_eq!(seller.next_settled(2).await, Err(NodeError::Lost));
    assert_eq!(
        seller.next_settled(3).await.unwrap().last().unwrap().payment_hash,
        hashes[3],
        "after the break"
    );
}
