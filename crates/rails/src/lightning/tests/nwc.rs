//! A wallet behind Nostr relays.

mod paying;
mod relay;

use std::time::Duration;

use relay::{Manner, Nature, Relay, now_s, until, uri};
use serde_json::json;
use tokio::net::TcpSocket;

use crate::dial::Dialer;
use crate::lightning::nwc::Connection;
use crate::lightning::{Backend, Expect, InvoiceState, LightningNode, Network, NodeError, Wanted, test_node};

/// Longer than any answer takes here.
const TIME_MAX: Duration = Duration::from_secs(20);
/// For answers that never come.
const NO_TIME: Duration = Duration::from_secs(1);

const OLD: Nature = Nature {
    methods: "make_invoice,lookup_invoice,get_info",
    encryption: None,
    is_known: true,
    asks_who: false,
    names_us: false,
    floods: false,
};

fn node_within(ports: &[u16], time_max: Duration) -> LightningNode {
    let wallet = Connection::parse(&uri(ports)).unwrap();
    let expect = Expect { network: Network::Regtest, node_key: Some(test_node::node_key()) };
    let dialer = Dialer::new(&[], Duration::from_secs(5)).unwrap();
    LightningNode::new(Backend::Nwc(wallet), expect, dialer, time_max)
}

fn node(relay: &Relay) -> LightningNode {
    node_within(&[relay.port], TIME_MAX)
}

fn wanted(amount_msat: u64) -> Wanted<'static> {
    Wanted { amount_msat, description: "farthing: llm", expiry_s: 300, label: "one" }
}

/// Opens the connection, however long that takes here.
async fn warm(node: &LightningNode) {
    while node.about().await.is_err() {}
}

/// A port where nobody listens, nor anybody else while the socket is held.
fn dead_port() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

#[tokio::test]
async fn l402_60_invoices_and_what_became_of_them() {
    for nature in [Nature::default(), OLD] {
        let relay = Relay::start(nature).await;
        let node = node(&relay);
        let invoice = node.create_invoice(&wanted(20_001), now_s()).await.unwrap();
        assert_eq!(invoice.amount_msat, 21_000, "whole satoshi, rounded up");
        let params = relay.last_params();
        assert_eq!(params, json!({"amount": 21_000, "description": "farthing: llm", "expiry": 300}));
        assert_eq!(node.look_up(&invoice.payment_hash).await, Ok(InvoiceState::Unpaid));

        let (told, ()) = tokio::join!(node.next_settled(0), async { relay.receive(&invoice.bolt11) });
        let told = told.unwrap();
        assert_eq!((told.len(), told[0].payment_hash, told[0].msat), (1, invoice.payment_hash, 21_000));
        assert!(told[0].cursor > 0);
        let state = node.look_up(&invoice.payment_hash).await.unwrap();
        assert!(matches!(state, InvoiceState::Settled { at_s: Some(_), msat: 21_000 }), "{state:?}");
        assert!(
            matches!(node.look_up(&[1; 32]).await, Err(NodeError::Refused(reason)) if reason == "NOT_FOUND: no")
        );

        let about = node.about().await.unwrap();
        assert_eq!((about.node_key, about.network), (Some(test_node::node_key()), Some(Network::Regtest)));
        assert_eq!(relay.connections(), (1, 0), "one connection for all of it");
    }
}

/// L402-60: each field that a wallet may change.
#[tokio::test]
async fn l402_60_a_wallet_that_answers_something_else_is_told_on() {
    let relay = Relay::start(Nature::default()).await;
    let node = node(&relay);
    let mint = |amount_msat, description, expiry_s, at_s| {
        let wanted = Wanted { amount_msat, description, expiry_s, label: "" };
        json!({"invoice": test_node::mint(&wanted, at_s).unwrap(), "payment_hash": null})
    };
    for (field, members) in [
        ("payment hash", json!({"payment_hash": "00".repeat(32)})),
        ("payment hash", json!({"payment_hash": "no hash"})),
        ("invoice", json!({"invoice": "lnbcrt1"})),
        ("amount", mint(20_000, "farthing: llm", 300, now_s())),
        ("expiry", mint(21_000, "farthing: llm", 3600, now_s())),
        ("timestamp", mint(21_000, "farthing: llm", 300, now_s() - 100)),
        ("description", mint(21_000, "something else", 300, now_s())),
    ] {
        relay.next("make_invoice", Manner::With(members));
        let made = node.create_invoice(&wanted(20_001), now_s()).await;
        assert_eq!(made, Err(NodeError::Lied(field)));
        assert!(node.create_invoice(&wanted(1), now_s()).await.is_ok(), "it is asked again");
    }
    relay.next("make_invoice", Manner::Garbage);
    assert_eq!(node.create_invoice(&wanted(1), now_s()).await, Err(NodeError::Lied("seal")));
    relay.next("make_invoice", Manner::Says(json!({"result_type": "get_info", "result": {}})));
    assert_eq!(node.create_invoice(&wanted(1), now_s()).await, Err(NodeError::Lied("result_type")));
    assert!(node.create_invoice(&wanted(1), now_s()).await.is_ok());
}

#[tokio::test]
async fn l402_60_another_payee_is_told_on() {
    let relay = Relay::start(Nature::default()).await;
    let wallet = Connection::parse(&uri(&[relay.port])).unwrap();
    let expect = Expect { network: Network::Regtest, node_key: Some([2; 33]) };
    let dialer = Dialer::new(&[], Duration::from_secs(5)).unwrap();
    let node = LightningNode::new(Backend::Nwc(wallet), expect, dialer, TIME_MAX);
    assert_eq!(node.create_invoice(&wanted(1), now_s()).await, Err(NodeError::Lied("payee")));
}

#[tokio::test]
async fn refusals_of_wallet_and_relay_are_told_in_their_words() {
    let relay = Relay::start(Nature::default()).await;
    let node = node(&relay);
    for code in [
        "RATE_LIMITED",
        "QUOTA_EXCEEDED",
        "NOT_IMPLEMENTED",
        "RESTRICTED",
        "UNAUTHORIZED",
        "INTERNAL",
        "OTHER",
    ] {
        relay.next("make_invoice", Manner::Error(code));
        let made = node.create_invoice(&wanted(1), now_s()).await;
        assert_eq!(made, Err(NodeError::Refused(format!("{code}: no"))));
    }
    relay.next("make_invoice", Manner::Blocked);
    let made = node.create_invoice(&wanted(1), now_s()).await;
    assert_eq!(made, Err(NodeError::Refused("the relay: blocked: not you".to_owned())));
}

#[tokio::test]
async fn l402_72_answers_count_once_and_only_from_the_wallet() {
    let relay = Relay::start(Nature::default()).await;
    let node = node(&relay);
    for manner in [Manner::Twice, Manner::Forgeries] {
        relay.next("make_invoice", manner);
        assert!(node.create_invoice(&wanted(1), now_s()).await.is_ok());
    }
    assert!(node.create_invoice(&wanted(1), now_s()).await.is_ok());
    assert_eq!(relay.asked().len(), 3, "nothing was asked again");
}

#[tokio::test]
async fn l402_72_answers_find_their_questions_in_any_order() {
    let relay = Relay::start(Nature::default()).await;
    let node = node(&relay);
    relay.next("make_invoice", Manner::LaterThanNext);
    relay.next("make_invoice", Manner::LaterThanNext);
    let (few, more, most) = (wanted(1_000), wanted(2_000), wanted(3_000));
    let (one, two, three) = tokio::join!(
        node.create_invoice(&few, now_s()),
        node.create_invoice(&more, now_s()),
        node.create_invoice(&most, now_s())
    );
    let amounts = [one, two, three].map(|made| made.unwrap().amount_msat);
    assert_eq!(amounts, [1_000, 2_000, 3_000]);
}

#[tokio::test]
async fn l402_72_who_does_not_answer_in_time_is_lost_and_harms_nobody() {
    let relay = Relay::start(Nature::default()).await;
    let node = node_within(&[relay.port], NO_TIME);
    warm(&node).await;
    relay.next("make_invoice", Manner::LaterThanNext);
    assert_eq!(node.create_invoice(&wanted(1), now_s()).await, Err(NodeError::Lost));
    // The late answer comes with this one, and is nobody's.
    let invoice = node.create_invoice(&wanted(5_000), now_s()).await.unwrap();
    assert_eq!(invoice.amount_msat, 5_000);
}

#[tokio::test]
async fn l402_74_a_relay_that_hangs_up_is_dialled_again() {
    let relay = Relay::start(Nature::default()).await;
    let node = node(&relay);
    assert!(node.create_invoice(&wanted(1), now_s()).await.is_ok());
    relay.next("make_invoice", Manner::HangUp);
    assert_eq!(node.create_invoice(&wanted(1), now_s()).await, Err(NodeError::Lost));
    assert!(node.create_invoice(&wanted(1), now_s()).await.is_ok());
    assert_eq!(relay.connections(), (2, 1));
}

#[tokio::test]
async fn l402_74_nobody_there_is_not_asked_and_soon_said() {
    let (socket, port) = dead_port();
    let node = node_within(&[port], TIME_MAX);
    let asked_at = tokio::time::Instant::now();
    assert_eq!(node.create_invoice(&wanted(1), now_s()).await, Err(NodeError::NotAsked));
    assert!(asked_at.elapsed() < TIME_MAX / 2, "a 402 does not wait for it");

    let relay = Relay::on(socket.listen(8).unwrap(), Nature::default());
    until(|| relay.connections().0 == 1).await;
    assert!(node.create_invoice(&wanted(1), now_s()).await.is_ok());
}

#[tokio::test]
async fn l402_74_relays_are_tried_in_their_order() {
    let unknowing = Relay::start(Nature { is_known: false, ..Nature::default() }).await;
    let good = Relay::start(Nature::default()).await;
    let spare = Relay::start(Nature::default()).await;
    let (_held, dead) = dead_port();
    let ports = [dead, unknowing.port, good.port, spare.port];
    let node = node_within(&ports, TIME_MAX);
    for _ in 0..3 {
        assert!(node.create_invoice(&wanted(1), now_s()).await.is_ok());
    }
    assert_eq!((unknowing.asked().len(), good.asked().len(), spare.connections()), (0, 3, (0, 0)));
    assert_eq!(unknowing.connections().0, 1);
}

#[tokio::test]
async fn l402_74_a_wallet_that_is_deaf_over_one_relay_is_asked_over_the_next() {
    let deaf = Relay::start(Nature::default()).await;
    let good = Relay::start(Nature::default()).await;
    let node = node_within(&[deaf.port, good.port], NO_TIME);
    warm(&node).await;
    let asked = deaf.asked().len();
    for _ in 0..2 {
        deaf.next("make_invoice", Manner::Silence);
        assert_eq!(node.create_invoice(&wanted(1), now_s()).await, Err(NodeError::Lost));
    }
    // It has been of use before, so it gets another connection first, over which nothing is answered either.
    for _ in 0..2 {
        deaf.next("make_invoice", Manner::Silence);
        until(|| deaf.connections().0 == 2).await;
        assert_eq!(node.create_invoice(&wanted(1), now_s()).await, Err(NodeError::Lost));
    }
    until(|| good.connections().0 == 1).await;
    assert!(node.create_invoice(&wanted(1), now_s()).await.is_ok());
    assert_eq!((deaf.asked().len() - asked, good.asked().len()), (4, 1));
}

#[tokio::test]
async fn l402_74_a_relay_that_floods_is_left() {
    let flood = Relay::start(Nature { floods: true, ..Nature::default() }).await;
    let good = Relay::start(Nature::default()).await;
    let node = node_within(&[flood.port, good.port], TIME_MAX);
    assert!(node.create_invoice(&wanted(1), now_s()).await.is_ok());
    assert_eq!((flood.asked().len(), good.asked().len()), (0, 1));
}

#[tokio::test]
async fn a_relay_that_wants_to_know_who_asks_is_told() {
    let relay = Relay::start(Nature { asks_who: true, ..Nature::default() }).await;
    assert!(node(&relay).create_invoice(&wanted(1), now_s()).await.is_ok());
}

#[tokio::test]
async fn what_is_not_offered_is_not_asked() {
    let relay = Relay::start(Nature { methods: "pay_invoice", ..Nature::default() }).await;
    let node = node(&relay);
    let made = node.create_invoice(&wanted(1), now_s()).await;
    assert_eq!(made, Err(NodeError::Refused("the wallet does not offer make_invoice".to_owned())));
    assert_eq!(node.about().await, Ok(crate::lightning::About::default()));
    assert!(relay.asked().is_empty());
}

#[tokio::test]
async fn the_connection_ends_with_the_last_who_has_it() {
    let relay = Relay::start(Nature::default()).await;
    let node = node(&relay);
    assert!(node.create_invoice(&wanted(1), now_s()).await.is_ok());
    assert_eq!(relay.connections(), (1, 0));
    drop(node);
    until(|| relay.connections() == (1, 1)).await;
}

#[tokio::test]
async fn l402_23_debug_hides_the_secret() {
    let printed = format!("{:?}", node_within(&[1], TIME_MAX));
    assert!(printed.contains("127.0.0.1:1") && !printed.contains("0707"), "{printed}");
}
