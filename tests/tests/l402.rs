//! A payment over Lightning: what is offered, what is credited, and what a token is good for.

use farthing_tests::gateway::Gateway;
use farthing_tests::http;
use farthing_tests::lightning::{Offered, TEST_NODE, call, offered};
use farthing_tests::refused::assert_refused;
use farthing_tests::scene::{CHAT, ask};
use farthing_tests::upstream::{FRIENDLY_COST, Upstream};

/// L402-1, L402-2, L402-60: one line, first of its kind; its invoice is for what the call may cost, the token over its
/// payment hash says the same.
#[test]
fn l402_1_2_60_a_challenge_has_an_invoice_and_its_token() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, TEST_NODE);
    let answer = http::post(gateway.address, CHAT, &[], &ask());
    assert_refused(&answer, 402, "payment_required", "nothing_taken");
    assert_eq!(answer.must("cache-control"), "no-store");
    assert!(answer.must("access-control-expose-headers").contains("WWW-Authenticate"));
    let offer = Offered::of(&answer);
    let line = answer.must("www-authenticate");
    assert_eq!(
        line,
        format!(
            "L402 macaroon=\"{0}\", invoice=\"{1}\", version=\"0\", token=\"{0}\"",
            offer.token, offer.invoice
        )
    );
    let (invoice, terms) = (offer.decoded(), offer.terms());
    assert_eq!(invoice.payment_hash, offer.decoded_token().identifier().payment_hash.0);
    let need = farthing_tests::gateway::nano(&answer.json()["error"]["need"]);
    assert_eq!(terms.credit.units(), need);
    assert_eq!(invoice.amount_msat, Some(terms.amount_msat));
    assert_eq!(
        terms.amount_msat,
        u64::try_from(need).unwrap().div_ceil(1000),
        "100,000 USD: 1000 nano-dollars a millisatoshi"
    );
    assert_eq!(upstream.hits(), 0);
    assert_eq!(gateway.books().entries.len(), 0, "nothing is stored for a challenge");
}

/// The first time a payment is shown it is a deposit; then its token draws what calls cost, until nothing is left.
#[test]
fn a_token_draws_down_its_payment() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, TEST_NODE);
    let offer = offered(gateway.address, CHAT, &ask());
    let credit = offer.terms().credit.units();
    let first = call(gateway.address, CHAT, &offer.paid(), &ask());
    assert_eq!(first.status, 200, "{}", first.text());
    let key = first.must("farthing-key").to_owned();
    assert_eq!(gateway.settled_balance(&key), credit - FRIENDLY_COST);
    let mut calls = 1;
    let refused = loop {
        let again = call(gateway.address, CHAT, &offer.paid(), &ask());
        if again.status != 200 {
            break again;
        }
        assert!(again.header("farthing-key").is_none(), "a key is handed out once");
        calls += 1;
        assert_eq!(gateway.settled_balance(&key), credit - calls * FRIENDLY_COST);
        assert!(calls < 1000);
    };
    assert_refused(&refused, 402, "insufficient_balance", "nothing_taken");
    assert!(Offered::find(&refused).is_some(), "how to go on");
    let books = gateway.books_after(usize::try_from(calls).unwrap());
    assert_eq!(books.count("deposit"), 1);
    assert_eq!(i64::try_from(upstream.hits()).unwrap(), calls);
}
