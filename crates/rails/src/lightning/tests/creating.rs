//! Invoices from every kind of node: what is asked, what is believed, and when nobody is asked any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::fake::{Asked, Does, Fake, KEY, Kind, Made, NOW_S, made, wanted};
use crate::CircuitState;
use crate::lightning::{NodeError, Wanted};

/// A node that makes what it is asked for.
fn honest(kind: Kind) -> Fake {
    Fake::start(move |_| kind.created(&made(&Wanted { amount_msat: kind.amount_msat(), ..wanted() }, NOW_S)))
}

#[tokio::test]
async fn l402_60_70_each_kind_is_asked_in_its_own_words() {
    for kind in Kind::ALL {
        let fake = honest(kind);
        let node = fake.node(kind);
        let invoice = node.create_invoice(&wanted(), NOW_S).await.unwrap();
        assert_eq!(invoice.amount_msat, kind.amount_msat(), "{kind:?}");
        assert_eq!(invoice.expires_at_s, NOW_S + 300, "{kind:?}");

        let asked = fake.asked();
        let [Asked { head, body, .. }] = asked.as_slice() else { panic!("{kind:?} asked {asked:?}") };
        let (line, key) = match kind {
            Kind::Lnd => ("POST /below/v1/invoices", format!("grpc-metadata-macaroon: {KEY}")),
            Kind::Cln => ("POST /below/v1/invoice", format!("rune: {KEY}")),
            Kind::Phoenixd => {
                let basic = wire::base64::encode_std(format!(":{KEY}").as_bytes());
                ("POST /below/createinvoice", format!("authorization: Basic {basic}"))
            }
            Kind::LnBits => ("POST /below/api/v1/payments", format!("x-api-key: {KEY}")),
        };
        assert_eq!(asked[0].line(), line);
        assert!(head.contains(&key), "{head}");
        let sent = match kind {
            Kind::Lnd => r#"{"expiry":"300","memo":"farthing: llm & co","value_msat":"21001"}"#,
            Kind::Cln => {
                r#"{"amount_msat":21001,"description":"farthing: llm & co","expiry":300,"label":"farthing-1"}"#
            }
            Kind::Phoenixd => {
                assert!(head.contains("content-type: application/x-www-form-urlencoded"), "{head}");
                "amountSat=22&description=farthing%3A+llm+%26+co&expirySeconds=300&externalId=farthing-1"
            }
            Kind::LnBits => {
                r#"{"amount":22,"expiry":300,"memo":"farthing: llm & co","out":false,"unit":"sat"}"#
            }
        };
        assert_eq!(body, sent);
        let shown = format!("{node:?} {:?}", kind.backend(fake.origin.clone()));
        assert!(!shown.contains("secret"), "{shown}");
    }
}

/// How a node may lie, and the field that gives it away.
type Lie = (&'static str, fn(Kind) -> Made, &'static str);

fn lies() -> Vec<Lie> {
    fn with(kind: Kind, change: impl Fn(&mut Wanted<'_>), now_s: u64) -> Made {
        let mut other = Wanted { amount_msat: kind.amount_msat(), ..wanted() };
        change(&mut other);
        made(&other, now_s)
    }
    vec![
        ("more", |kind| with(kind, |it| it.amount_msat += 1000, NOW_S), "amount"),
        ("less", |kind| with(kind, |it| it.amount_msat -= 1000, NOW_S), "amount"),
        ("longer", |kind| with(kind, |it| it.expiry_s = 3600, NOW_S), "expiry"),
        ("for something else", |kind| with(kind, |it| it.description = "rent", NOW_S), "description"),
        ("an old one", |kind| with(kind, |_| {}, NOW_S - 3600), "timestamp"),
        ("the hash of another", |kind| Made { hash: [7; 32], ..with(kind, |_| {}, NOW_S) }, "payment hash"),
        ("no invoice", |kind| Made { bolt11: "lnbcrt1".to_owned(), ..with(kind, |_| {}, NOW_S) }, "invoice"),
    ]
}

#[tokio::test]
async fn l402_60_a_node_that_lies_makes_no_invoice() {
    for kind in Kind::ALL {
        for (case, lie, expected) in lies() {
            let fake = Fake::start(move |_| kind.created(&lie(kind)));
            let answer = fake.node(kind).create_invoice(&wanted(), NOW_S).await;
            assert_eq!(answer, Err(NodeError::Lied(expected)), "{kind:?}: {case}");
        }
        let fake = honest(kind);
        let stranger = fake.node_of(kind, Some([2; 33]));
        let answer = stranger.create_invoice(&wanted(), NOW_S).await;
        assert_eq!(answer, Err(NodeError::Lied("payee")), "{kind:?}");
    }
}

/// Two clients would share a hash, and one the other's preimage.
#[tokio::test]
async fn l402_60_64_the_same_invoice_twice_is_a_lie() {
    for kind in Kind::ALL {
        let one = made(&Wanted { amount_msat: kind.amount_msat(), ..wanted() }, NOW_S);
        let fake = Fake::start(move |_| kind.created(&one));
        let node = fake.node(kind);
        assert!(node.create_invoice(&wanted(), NOW_S).await.is_ok(), "{kind:?}");
        let again = node.create_invoice(&wanted(), NOW_S).await;
        assert_eq!(again, Err(NodeError::Lied("payment hash")), "{kind:?}");
    }
}

#[tokio::test]
async fn l402_71_what_is_no_answer() {
    type Case = (&'static str, fn() -> Does, NodeError);
    let refused = |reason: &str| NodeError::Refused(reason.to_owned());
    let cases: [Case; 9] = [
        ("silence", || Does::Silence, NodeError::Lost),
        ("hangs up", || Does::Hangup, NodeError::Lost),
        ("half", || Does::Half, NodeError::Lost),
        ("flood", || Does::Flood, NodeError::Lost),
        ("not JSON", || Does::Says(200, "<html>".to_owned()), NodeError::Lost),
        ("other JSON", || Does::Says(200, "{}".to_owned()), NodeError::Lost),
        ("nobody behind the proxy", || Does::Says(502, "{}".to_owned()), NodeError::Lost),
        (
            "no",
            || Does::Says(500, r#"{"code":2,"message":"permission denied"}"#.to_owned()),
            refused("permission denied"),
        ),
        ("elsewhere", || Does::Says(302, String::new()), refused("status 302")),
    ];
    for kind in Kind::ALL {
        for (case, does, expected) in &cases {
            let does = *does;
            let is_silent = matches!(does(), Does::Silence);
            let fake = Fake::start(move |_| does());
            let node = if is_silent { fake.impatient(kind) } else { fake.node(kind) };
            let answer = node.create_invoice(&wanted(), NOW_S).await;
            assert_eq!(answer.as_ref(), Err(expected), "{kind:?}: {case}");
            assert_eq!(fake.lines().len(), 1, "{kind:?}: {case}: asked once");
        }
    }
}

/// Who signs is learnt from the node, once, where it says so; an invoice of anybody else's is then a lie.
#[tokio::test]
async fn l402_60_the_signer_is_learnt_once() {
    let info = |key: &str| {
        format!(r#"{{"identity_pubkey":"{key}","chains":[{{"chain":"bitcoin","network":"regtest"}}]}}"#)
    };
    let ours = wire::hex::encode(&crate::lightning::test_node::node_key());
    let theirs = format!("02{}", "11".repeat(32));
    for (key, expected) in [(ours, Ok(())), (theirs, Err(NodeError::Lied("payee")))] {
        let body = info(&key);
        let fake = Fake::start(move |asked| match asked.target.as_str() {
            "/below/v1/getinfo" => Does::Says(200, body.clone()),
            "/below/v1/invoices" => Kind::Lnd.created(&made(&wanted(), NOW_S)),
            _ => Does::Says(500, r#"{"code":2,"message":"permission denied"}"#.to_owned()),
        });
        let node = fake.node_of(Kind::Lnd, None);
        for _ in 0..2 {
            let made = node.create_invoice(&wanted(), NOW_S).await;
            assert_eq!(made.map(|_| ()), expected);
        }
        if expected.is_ok() {
            let asked = fake.lines();
            assert_eq!(asked.iter().filter(|line| line.contains("getinfo")).count(), 1, "{asked:?}");
        }
    }
}

/// A macaroon for invoices only may not ask who the node is: its invoices are taken, and it is not asked again.
#[tokio::test]
async fn l402_60_70_the_least_key_does() {
    let fake = Fake::start(|asked| match asked.target.as_str() {
        "/below/v1/invoices" => Kind::Lnd.created(&made(&wanted(), NOW_S)),
        _ => Does::Says(500, r#"{"code":2,"message":"permission denied"}"#.to_owned()),
    });
    let node = fake.node_of(Kind::Lnd, None);
    for _ in 0..2 {
        node.create_invoice(&wanted(), NOW_S).await.unwrap();
    }
    assert_eq!(fake.lines(), ["GET /below/v1/getinfo", "POST /below/v1/invoices", "POST /below/v1/invoices"]);
}

#[tokio::test]
async fn after_failures_in_a_row_nobody_is_asked() {
    let broken = Arc::new(AtomicBool::new(true));
    let hits = Arc::new(AtomicUsize::new(0));
    let (is_broken, counted) = (Arc::clone(&broken), Arc::clone(&hits));
    let fake = Fake::start(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        if is_broken.load(Ordering::SeqCst) {
            Does::Hangup
        } else {
            Kind::Lnd.created(&made(&wanted(), NOW_S))
        }
    });
    let node = fake.node(Kind::Lnd);
    for _ in 0..5 {
        assert_eq!(node.circuit(), CircuitState::Closed);
        assert_eq!(node.create_invoice(&wanted(), NOW_S).await, Err(NodeError::Lost));
    }
    assert!(matches!(node.circuit(), CircuitState::Open { .. }));
    broken.store(false, Ordering::SeqCst);
    for _ in 0..100 {
        assert_eq!(node.create_invoice(&wanted(), NOW_S).await, Err(NodeError::NotAsked));
    }
    assert_eq!(hits.load(Ordering::SeqCst), 5, "left alone");

    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(10)).await;
    tokio::time::resume();
    assert!(node.create_invoice(&wanted(), NOW_S).await.is_ok(), "one try after the rest");
    assert_eq!(node.circuit(), CircuitState::Closed);
}

#[tokio::test]
async fn a_refusal_closes_lightning_for_nobody_else() {
    let fake = Fake::start(|_| Does::Says(400, r#"{"message":"amount too large"}"#.to_owned()));
    let node = fake.node(Kind::Cln);
    for _ in 0..10 {
        let refused = node.create_invoice(&wanted(), NOW_S).await;
        assert_eq!(refused, Err(NodeError::Refused("amount too large".to_owned())));
    }
    assert_eq!(node.circuit(), CircuitState::Closed);
}

/// The one who tries after a rest may go away: the next one has to be let in again some time, and not in two minutes.
#[tokio::test]
async fn a_try_that_is_dropped_is_a_failure() {
    let fake = Fake::start(|_| Does::Silence);
    let node = fake.impatient(Kind::Lnd);
    let dropped = std::time::Duration::from_millis(50);
    for _ in 0..5 {
        let gone = tokio::time::timeout(dropped, node.create_invoice(&wanted(), NOW_S)).await;
        assert!(gone.is_err());
    }
    assert_eq!(node.circuit(), CircuitState::Closed, "who goes away early has shown nothing");
    for _ in 0..5 {
        assert_eq!(node.create_invoice(&wanted(), NOW_S).await, Err(NodeError::Lost));
    }
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(10)).await;
    tokio::time::resume();
    let gone = tokio::time::timeout(dropped, node.create_invoice(&wanted(), NOW_S)).await;
    assert!(gone.is_err());
    assert!(matches!(node.circuit(), CircuitState::Open { .. }), "{:?}", node.circuit());
}
