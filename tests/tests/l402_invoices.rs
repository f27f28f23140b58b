//! Invoices: for whom they are made and how many, what a node may say, and what a 402 says without one.
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::collections::HashSet;

use farthing_tests::crowd::at_once;
use farthing_tests::gateway::{Gateway, free_address, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::lightning::{Offered, call, offered};
use farthing_tests::lnd::{self, Conduct, Door, Lie, Lnd};
use farthing_tests::mint::Mint;
use farthing_tests::refused::assert_refused;
use farthing_tests::scene::{CHAT, ask};
use farthing_tests::socket::Socket;
use farthing_tests::upstream::Upstream;

const MACAROON: (&str, &str) = ("MACAROON", lnd::MACAROON);

/// A gateway before this node; `rails` beside it, `more` in `rails.l402`.
fn before(upstream: &Upstream, lnd: &Lnd, rails: &str, more: &str) -> Gateway {
    let node = lnd.section("\"${env:MACAROON}\"");
    let rails = format!(
        "rails: {{ {rails}l402: {{ {node}, price: {{ usd_per_btc: 100000 }}, mint: {{ per_source_per_second: 1000, per_source_burst: 1000 }}{more} }} }}\n"
    );
    Gateway::start_in(upstream.address, &rails, &[MACAROON])
}

fn unpaid(gateway: &Gateway, headers: &[(&str, &str)]) -> Answer {
    http::post(gateway.address, CHAT, headers, &ask())
}

/// Asks so often on one connection, and keeps the payment hashes.
fn asked_on_one_connection(gateway: &Gateway, times: usize, header: &str) -> Vec<[u8; 32]> {
    let body = ask().to_string();
    let mut socket = Socket::connect(gateway.address);
    let ask_once = |_| {
        let sent = socket.send(format!(
            "POST {CHAT} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n{header}content-length: {}\r\n\r\n{body}",
            gateway.address,
            body.len()
        ));
        assert!(sent);
        Offered::of(&socket.answer().unwrap()).decoded().payment_hash
    };
    (0..times).map(ask_once).collect()
}

/// L402-64: whoever asks again on the same connection is shown the same invoice, until it was paid. Two clients never get the
/// same payment hash; a proxy's connection is many clients'.
#[test]
fn l402_64_an_invoice_is_one_clients() {
    let (upstream, lnd) = (Upstream::friendly(), Lnd::start());
    let gateway = before(&upstream, &lnd, "", "");
    let hashes = asked_on_one_connection(&gateway, 100, "");
    assert_eq!(HashSet::<[u8; 32]>::from_iter(hashes.clone()).len(), 1);
    assert_eq!(lnd.issued().len(), 1);
    let others = at_once(8, |_| offered(gateway.address, CHAT, &ask()).decoded().payment_hash);
    let all: HashSet<_> = others.iter().chain([&hashes[0]]).collect();
    assert_eq!(all.len(), 9, "each has its own");
    for header in ["x-forwarded-for: 203.0.113.9\r\n", "forwarded: for=203.0.113.9\r\n", "via: 1.1 proxy\r\n"]
    {
        let hashes = asked_on_one_connection(&gateway, 3, header);
        assert_eq!(HashSet::<[u8; 32]>::from_iter(hashes).len(), 3, "{header}");
    }
}

/// L402-64: an invoice that was paid is not shown again, not even to the one who paid it.
#[test]
fn l402_64_a_paid_invoice_is_not_shown_again() {
    let (upstream, lnd) = (Upstream::friendly(), Lnd::start());
    let gateway = before(&upstream, &lnd, "", "");
    let body = ask().to_string();
    let mut socket = Socket::connect(gateway.address);
    let mut send = |credential: &str| {
        socket.send(format!(
            "POST {CHAT} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n{credential}content-length: {}\r\n\r\n{body}",
            gateway.address,
            body.len()
        ));
        socket.answer().unwrap()
    };
    let first = Offered::of(&send(""));
    let paid = format!("authorization: {}\r\n", first.paid());
    assert_eq!(send(&paid).status, 200);
    let second = Offered::of(&send(""));
    assert_ne!(first.decoded().payment_hash, second.decoded().payment_hash);
}

/// L402-61: one for each source and for all of them together, and no more open than may be; then the challenge goes out without,
/// and where nothing else pays the client is told when to come back (L402-62).
#[test]
fn l402_61_62_the_budget_is_kept() {
    let (upstream, lnd) = (Upstream::friendly(), Lnd::start());
    let node = lnd.section("\"${env:MACAROON}\"");
    for (mint, most) in [
        ("per_source_burst: 3, per_source_per_second: 1", 3..=9),
        ("per_source_burst: 1000, per_source_per_second: 1000, burst: 4, per_second: 1", 4..=10),
        ("per_source_burst: 1000, per_source_per_second: 1000, open_max: 5", 5..=5),
    ] {
        for (rails, refused) in [("", "rate_limited"), ("test: {}, ", "payment_required")] {
            let config = format!(
                "rails: {{ {rails}l402: {{ {node}, price: {{ usd_per_btc: 100000 }}, mint: {{ {mint} }} }} }}\n"
            );
            let gateway = Gateway::start_in(upstream.address, &config, &[MACAROON]);
            let before = lnd.issued().len();
            let answers: Vec<Answer> = (0..40).map(|_| unpaid(&gateway, &[])).collect();
            let made = lnd.issued().len() - before;
            let with = answers.iter().filter(|answer| Offered::find(answer).is_some()).count();
            assert_eq!(with, made, "each is shown to somebody");
            // A slow machine has time for some more.
            assert!(most.contains(&made), "{mint}: {made}");
            let without = answers.iter().find(|answer| Offered::find(answer).is_none()).unwrap();
            let status = if rails.is_empty() { 429 } else { 402 };
            assert_refused(without, status, refused, "nothing_taken");
            assert_eq!(without.header("retry-after").is_some(), status == 429);
            assert_eq!(
                gateway.counted("farthing_invoices_total{outcome=\"made\"}"),
                i64::try_from(made).unwrap()
            );
        }
    }
}

/// L402-62, CASHU-4: with a node and a mint it is the same: a 402 can be paid in one of the ways, and where none is left it is
/// no 402.
#[test]
fn l402_62_a_402_can_be_paid_in_one_of_its_ways() {
    let (upstream, lnd) = (Upstream::friendly(), Lnd::start());
    let address = free_address();
    let cashu = format!(
        "cashu: {{ mints: [\"http://{address}\"], price: {{ usd_per_btc: 100000 }}, timeout: 1s }}, "
    );
    let gateway = before(&upstream, &lnd, &cashu, "");
    let ways = |answer: &Answer| (Offered::find(answer).is_some(), answer.header("x-cashu").is_some());
    // The mint is away.
    let answer = unpaid(&gateway, &[]);
    assert_refused(&answer, 402, "payment_required", "nothing_taken");
    assert_eq!(ways(&answer), (true, false));
    // Both are.
    lnd.always(Door::Create, Conduct::Hangup);
    for path in [CHAT, "/farthing/topup"] {
        let answer = http::post(gateway.address, path, &[], &ask());
        assert_refused(&answer, 503, "facilitator_failed", "nothing_taken");
        assert_eq!((answer.must("retry-after"), ways(&answer)), ("5", (false, false)));
        assert_eq!(answer.header("payment-required"), None);
    }
    // The node is.
    let _mint = Mint::start_at(address, 0, []);
    let answer = wait_for("a request for ecash", || {
        let answer = unpaid(&gateway, &[]);
        (answer.status == 402).then_some(answer)
    });
    assert_eq!(ways(&answer), (false, true));
    // The mint is away, and so many invoices were made that there is none.
    let node = lnd.section("\"${env:MACAROON}\"");
    let config = format!(
        "rails: {{ cashu: {{ mints: [\"http://{}\"], price: {{ usd_per_btc: 100000 }} }}, \
         l402: {{ {node}, price: {{ usd_per_btc: 100000 }}, mint: {{ open_max: 1 }} }} }}\n",
        free_address()
    );
    lnd.behave();
    let gateway = Gateway::start_in(upstream.address, &config, &[MACAROON]);
    assert_eq!(ways(&unpaid(&gateway, &[])), (true, false));
    let answer = unpaid(&gateway, &[]);
    assert_refused(&answer, 429, "rate_limited", "nothing_taken");
    assert!(answer.header("retry-after").is_some());
    assert_eq!(ways(&answer), (false, false));
}

/// L402-61: `mint.when: asked` and routes of their own; what a client asks for decides.
#[test]
fn l402_61_invoices_are_made_for_who_wants_them() {
    let (upstream, lnd) = (Upstream::friendly(), Lnd::start());
    let node = lnd.section("\"${env:MACAROON}\"");
    let config = format!(
        "rails: {{ test: {{}}, l402: {{ {node}, price: {{ usd_per_btc: 100000 }}, mint: {{ when: asked }} }} }}\n"
    );
    let gateway = Gateway::start_in(upstream.address, &config, &[MACAROON]);
    let shown = |headers: &[(&str, &str)], query: &str| {
        let answer = http::post(gateway.address, &format!("{CHAT}{query}"), headers, &ask());
        assert_eq!(answer.status, 402);
        Offered::find(&answer).is_some()
    };
    assert!(!shown(&[], ""));
    assert!(!shown(&[("accept-payment", "evm/charge")], ""));
    assert_eq!(lnd.issued().len(), 0);
    assert!(shown(&[("accept-payment", "evm/charge, lightning/charge;q=0.5")], ""));
    assert!(shown(&[("authorization", "LSAT nothing:")], ""));
    assert!(shown(&[], "?pay=lightning"));
    assert_eq!(lnd.issued().len(), 3);
}

/// L402-60: an invoice that is not what was asked for is shown to nobody, and the operator is told.
#[test]
fn l402_60_a_node_that_lies_is_found_out() {
    let upstream = Upstream::friendly();
    for (lie, field) in Lie::ALL {
        let lnd = Lnd::start();
        let gateway = before(&upstream, &lnd, "test: {}, ", "");
        if lie == Lie::Again {
            assert!(Offered::find(&unpaid(&gateway, &[])).is_some());
        }
        lnd.next(Door::Create, Conduct::Lies(lie));
        let answer = unpaid(&gateway, &[]);
        assert_refused(&answer, 402, "payment_required", "nothing_taken");
        assert!(Offered::find(&answer).is_none(), "{lie:?}");
        assert!(gateway.log().contains("ALARM") && gateway.log().contains(field), "{lie:?}");
    }
}

/// L402-61, L402-62: a node that fails, stalls or is away costs a challenge its invoice and nothing else; where nothing else pays,
/// the client is told to come back. What was paid before is as good as ever: no node is asked.
#[test]
fn l402_50_62_nobody_needs_the_node_who_has_paid() {
    let (upstream, lnd) = (Upstream::friendly(), Lnd::start());
    let gateway = before(&upstream, &lnd, "", ", timeout: 200ms");
    let offer = offered(gateway.address, CHAT, &ask());
    lnd.always(Door::Create, Conduct::Hangup);
    let answer = unpaid(&gateway, &[]);
    assert_refused(&answer, 503, "facilitator_failed", "nothing_taken");
    assert_eq!(answer.must("retry-after"), "5");
    let asked = lnd.seen().len();
    for _ in 0..5 {
        assert_eq!(call(gateway.address, CHAT, &offer.paid(), &ask()).status, 200);
    }
    let after = lnd.seen().iter().skip(asked).filter(|seen| seen.method == "POST").count();
    assert_eq!(after, 0, "no call asked the node");
    // After some failures it is left alone for a while; then it is asked again.
    wait_for("the node to be asked again", || {
        let before = lnd.hits(Door::Create);
        unpaid(&gateway, &[]);
        (lnd.hits(Door::Create) == before).then_some(())
    });
    lnd.behave();
    wait_for("an invoice", || Offered::find(&unpaid(&gateway, &[])));
}

/// L402-50: with `strict` a preimage alone is not enough, because a node may give it away: it must have the money.
#[test]
fn l402_50_strict_wants_the_money_at_the_node() {
    let (upstream, lnd) = (Upstream::friendly(), Lnd::start());
    let gateway = before(&upstream, &lnd, "", ", strict: true");
    let offer = offered(gateway.address, CHAT, &ask());
    let answer = call(gateway.address, CHAT, &offer.paid(), &ask());
    assert_refused(&answer, 402, "proof_invalid", "nothing_taken");
    assert_eq!(answer.json()["error"]["reason"], "not_settled");
    lnd.always(Door::LookUp, Conduct::Hangup);
    let answer = call(gateway.address, CHAT, &offer.paid(), &ask());
    assert_refused(&answer, 503, "settlement_unknown", "unknown");
    assert_eq!(gateway.books().entries.len(), 0);
    lnd.behave();
    lnd.settle(&offer.decoded().payment_hash);
    for _ in 0..3 {
        assert_eq!(call(gateway.address, CHAT, &offer.paid(), &ask()).status, 200);
    }
    assert_eq!(gateway.books_after(3).count("deposit"), 1);
    assert!(lnd.hits(Door::LookUp) <= 3, "once it is in, nobody asks");
    // What was settled before the gateway listened is not counted.
    wait_for("the node to tell", || {
        lnd.settle(&offered(gateway.address, CHAT, &ask()).decoded().payment_hash);
        (gateway.counted("farthing_invoices_paid_total") > 0).then_some(())
    });
}

/// Routes that are not sold over Lightning have no invoice.
#[test]
fn a_route_may_have_no_invoices() {
    let (upstream, lnd) = (Upstream::friendly(), Lnd::start());
    let node = lnd.section("\"${env:MACAROON}\"");
    let config = format!(
        "routes: [{{ name: chat, match: {{ method: POST, path: {CHAT} }}, upstream: openai, price: by_model, l402: {{ mint: never }} }}]\n\
         rails: {{ test: {{}}, l402: {{ {node}, price: {{ usd_per_btc: 100000 }} }} }}\n"
    );
    let gateway = Gateway::start_in(upstream.address, &config, &[MACAROON]);
    let answer = unpaid(&gateway, &[("accept-payment", "lightning")]);
    assert_refused(&answer, 402, "payment_required", "nothing_taken");
    assert!(Offered::find(&answer).is_none());
    assert_eq!(lnd.issued().len(), 0);
}

/// After a reload a client is shown a new invoice: the token of the old one may be worth nothing by then.
#[test]
fn l402_64_a_reload_shows_no_old_invoices() {
    let (upstream, lnd) = (Upstream::friendly(), Lnd::start());
    let gateway = before(&upstream, &lnd, "", "");
    let body = ask().to_string();
    let mut socket = Socket::connect(gateway.address);
    let mut asked = || {
        socket.send(format!(
            "POST {CHAT} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            gateway.address,
            body.len()
        ));
        Offered::of(&socket.answer().unwrap())
    };
    let first = asked();
    assert_eq!(first.invoice, asked().invoice);
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    std::fs::write(gateway.config(), text.replace("l402: {", "l402: { service: another,")).unwrap();
    gateway.operator(&["reload"]);
    let second = asked();
    assert_ne!(first.invoice, second.invoice);
    assert_eq!(call(gateway.address, CHAT, &second.paid(), &ask()).status, 200);
}

/// L402-61: a client that leaves before its invoice is there makes the node work no more than one that waits.
#[test]
fn l402_61_leaving_early_buys_nothing() {
    let (upstream, lnd) = (Upstream::friendly(), Lnd::start());
    let node = lnd.section("\"${env:MACAROON}\"");
    let config = format!(
        "rails: {{ test: {{}}, l402: {{ {node}, price: {{ usd_per_btc: 100000 }}, mint: {{ per_source_burst: 3, per_source_per_second: 1 }} }} }}\n"
    );
    let gateway = Gateway::start_in(upstream.address, &config, &[MACAROON]);
    let body = ask().to_string();
    for _ in 0..40 {
        let mut socket = Socket::connect(gateway.address);
        socket.send(format!(
            "POST {CHAT} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            gateway.address,
            body.len()
        ));
        drop(socket);
    }
    // Whoever asks now is told by the same budget.
    unpaid(&gateway, &[]);
    let made = || gateway.counted("farthing_invoices_total{outcome=\"made\"}");
    wait_for("an invoice", || (made() > 0).then_some(()));
    let asked = lnd.hits(Door::Create);
    assert!((1..=9).contains(&asked), "{asked}");
}
