//! What the budget makes of each end of a call: nothing unknown is given back, nothing is counted twice.

use super::seller::{Payer, Reply, Seller, challenge, fresh_key, papers, post, problem, test_offer, till};
use crate::budget::{Budget, BudgetError, Limits, SpanCap, Spent, Stop};
use crate::{CallError, Key, Step, now_unix_s};

fn quiet(_: Step<'_>) {}

fn ok(headers: Vec<(&'static str, String)>) -> Reply {
    Reply::Answer(200, headers, b"done".to_vec())
}

/// Paid, used and held today, in nano units.
fn spent(payer: &Payer) -> (i64, i64, i64) {
    let mut budget = Budget::load(&payer.home.path().join("budget.json")).unwrap();
    let (_, Spent { paid, used }, _) = budget.lines(now_unix_s())[0].spent[1];
    (paid.units(), used.units(), budget.held().1.counted().units())
}

fn limit(payer: &Payer, cap: &str) {
    let cap: SpanCap = cap.parse().unwrap();
    let limits = Limits::default().with(cap);
    let file = payer.home.path().join("budget.json");
    Budget::change(&file, |budget| budget.set(None, limits, now_unix_s())).unwrap().unwrap();
}

#[tokio::test]
async fn ux_14_a_seller_that_refuses_again_and_again_is_paid_no_more() {
    let seller = Seller::open(|seen, _| match seen.payment() {
        None => challenge(&[test_offer(1_000)]),
        Some(_) => problem(402, "settlement_failed", vec![]),
    })
    .await;
    let payer = Payer::new("0.05usd");
    for body in ["1", "2", "3"] {
        let error = payer.client.call(&post(&seller.url("/"), body), &mut quiet).await.unwrap_err();
        assert!(matches!(error, CallError::Refused { .. }), "{error}");
    }
    assert_eq!(spent(&payer), (3_000, 3_000, 3_000), "what was signed can still be taken");
    let error = payer.client.call(&post(&seller.url("/"), "4"), &mut quiet).await.unwrap_err();
    let CallError::Budget(BudgetError::Stopped { stop: Stop::Failures { .. }, .. }) = error else {
        panic!("{error}")
    };
    assert_eq!((seller.payments().len(), payer.pending().len()), (3, 3));
    // The same payment once more costs nothing more, and may be how its answer is reached.
    let error = payer.client.call(&post(&seller.url("/"), "1"), &mut quiet).await.unwrap_err();
    assert!(matches!(error, CallError::Refused { .. }), "{error}");
    assert_eq!(spent(&payer), (3_000, 3_000, 3_000));
}

#[tokio::test]
async fn a_payment_of_unknown_end_is_counted_once() {
    let seller = Seller::open(|seen, number| match seen.payment() {
        None => challenge(&[test_offer(1_000)]),
        Some(_) if number <= 4 => Reply::HangUp,
        Some(_) => ok(vec![]),
    })
    .await;
    let payer = Payer::new("0.05usd");
    limit(&payer, "0.000001usd/day");
    let request = post(&seller.url("/"), "x");
    let error = payer.client.call(&request, &mut quiet).await.unwrap_err();
    assert!(matches!(error, CallError::Unknown { .. }), "{error}");
    assert_eq!(spent(&payer), (1_000, 1_000, 1_000));
    let error = payer.client.call(&post(&seller.url("/"), "y"), &mut quiet).await.unwrap_err();
    assert!(matches!(error, CallError::Budget(BudgetError::Over(_))), "{error}");
    // The cap is spent by this very payment, so it goes through.
    payer.again("0.05usd").call(&request, &mut quiet).await.unwrap();
    assert_eq!(spent(&payer), (1_000, 1_000, 0));
}

#[tokio::test]
async fn what_never_left_and_what_was_not_allowed_is_not_spent() {
    let payer = Payer::new("0.05usd");
    let seller = Seller::open(|_, _| challenge(&[test_offer(1_000)])).await;
    limit(&payer, "0.0000009usd/hour");
    payer.client.call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap_err();
    assert_eq!(spent(&payer), (0, 0, 0));
    let url = super::hostile::vanishing_seller(false).await;
    limit(&payer, "1usd/hour");
    let error = payer.client.call(&post(&url, "x"), &mut quiet).await.unwrap_err();
    assert!(matches!(error, CallError::Network(_)), "{error}");
    assert_eq!(spent(&payer), (0, 0, 0));
}

/// A deposit of 1000 whose call failed is paid and not used: the key that came with it will use it.
#[tokio::test]
async fn a_deposit_without_its_call_is_only_paid() {
    let seller = super::hostile::taking_and_failing().await;
    let payer = Payer::new("0.05usd");
    payer.client.call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap();
    assert_eq!(spent(&payer), (1_000, 0, 0));
}

/// Each answer to a call with a key that was narrowed to 50 million: used and held afterwards.
#[tokio::test]
async fn a_key_has_spent_what_its_seller_does_not_deny() {
    let id = || ("farthing-request-id", "req_1".to_owned());
    for (situation, status, headers, expected) in [
        ("a receipt of 415600", 200, vec![id(), ("farthing-receipt", "req_1".into())], (415_600, 0)),
        ("free", 200, vec![id()], (0, 0)),
        ("who says so?", 200, vec![], (50_000_000, 0)),
        ("failed and not charged", 502, vec![id()], (0, 0)),
        ("a proxy in between", 502, vec![], (50_000_000, 0)),
        ("not permitted", 403, vec![id()], (0, 0)),
        ("not known", 401, vec![id()], (0, 0)),
        ("no answer", 0, vec![], (50_000_000, 50_000_000)),
    ] {
        let seller = Seller::open(move |seen, _| match papers(seen, &till(), &till()) {
            Some(paper) => paper,
            None if status == 0 => Reply::HangUp,
            None => Reply::Answer(status, headers.clone(), b"{}".to_vec()),
        })
        .await;
        let payer = Payer::new("0.05usd");
        let key = proof::credit_key::attenuate(&fresh_key(1), "budget=a:TEST:9000000000").unwrap();
        let client = payer.again("0.05usd").with_key(Key::given(&key).unwrap());
        let answer = client.call(&post(&seller.url("/"), "x"), &mut quiet).await;
        if let Some(reference) = answer.ok().and_then(|answer| answer.receipt) {
            assert_eq!(spent(&payer).1, 50_000_000, "{situation}: until the receipt is there");
            client.receipt(&reference, &mut quiet).await.unwrap();
            client.receipt(&reference, &mut quiet).await.unwrap();
        }
        let (paid, used, held) = spent(&payer);
        assert_eq!((paid, (used, held)), (0, expected), "{situation}");
    }
}

#[tokio::test]
async fn a_key_carries_what_the_budget_has_left() {
    let seller = Seller::open(|_, _| ok(vec![])).await;
    let payer = Payer::new("0.05usd");
    limit(&payer, "0.06usd/day");
    let key = proof::credit_key::attenuate(&fresh_key(1), "budget=a:TEST:9000000000").unwrap();
    let client = payer.again("0.05usd").with_key(Key::given(&key).unwrap());
    for _ in 0..2 {
        client.call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap();
    }
    let error = client.call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap_err();
    assert!(matches!(error, CallError::Budget(BudgetError::Over(_))), "{error}");
    let bearer = |seen: &super::seller::Seen| {
        let key = seen.header("authorization").unwrap().strip_prefix("Bearer ").unwrap().to_owned();
        super::seller::per_call(&key)
    };
    let sent: Vec<_> = seller.seen().iter().map(bearer).collect();
    assert_eq!(sent, [["per_call=TEST:50000000"], ["per_call=TEST:10000000"]]);
}
