//! The client against an honest seller: 402, payment, streamed 200, key, receipt.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::seller::{
    Payer, Reply, Seller, challenge, check, fresh_key, papers, per_call, post, settled, test_offer, till,
    usdc_offer,
};
use crate::{Key, Paid, Step};
use tokio::sync::mpsc;
use wire::x402::{self, ExactPayload};

fn ok(headers: Vec<(&'static str, String)>) -> Reply {
    Reply::Answer(200, headers, b"done".to_vec())
}

fn quiet(_: Step<'_>) {}

#[tokio::test]
async fn pays_on_the_test_rail_and_shows_every_step() {
    let offers = [usdc_offer(20_000), test_offer(20_000_000)];
    let expected = offers[1].clone();
    let seller = Seller::open(move |seen, _| {
        if let Some(paper) = papers(seen, &till(), &till()) {
            let key = seen.path.contains("receipts").then(|| format!("Bearer {}", fresh_key(1)));
            assert_eq!(seen.header("authorization"), key.as_deref());
            return paper;
        }
        if seen.payment().is_none() {
            return challenge(&offers);
        }
        check(seen, &expected);
        ok(vec![
            settled("farthing:test"),
            ("farthing-key", fresh_key(1)),
            ("farthing-receipt", "req_1".into()),
        ])
    })
    .await;
    let payer = Payer::new("0.05usd");
    let (mut steps, mut shown) = (Vec::new(), String::new());
    let request = post(&seller.url("/v1/chat?x=1"), "{\"a\":1}");
    let mut response = payer
        .client
        .call(&request, &mut |step| {
            let text = format!("{step:?}");
            shown.push_str(&text);
            steps.push(text.split([' ', '(', '{']).next().unwrap().to_owned());
        })
        .await
        .unwrap();
    assert_eq!(steps, ["Request", "Challenge", "Paying", "Request", "KeySaved", "Response"]);
    assert_eq!(response.status, 200);
    assert!(
        matches!(&response.paid, Paid::Taken { what, transaction } if what.starts_with("0.02 TEST to ") && transaction == "test:1")
    );
    assert_eq!(response.key.as_ref().unwrap().expose(), fresh_key(1));
    assert!(response.headers.get("farthing-key").is_none());
    assert_eq!(response.body.chunk().await.unwrap().unwrap(), "done");
    assert_eq!(response.body.chunk().await.unwrap(), None);
    let receipt = payer.client.receipt(response.receipt.as_ref().unwrap(), &mut quiet).await.unwrap();
    assert_eq!(receipt.line(), "paid 0.0004156 TEST · balance 0.0195844 TEST · receipt req_1 verified");

    assert!(!shown.contains("fk_") && !shown.contains(&seller.payments()[0]), "no secret is shown");
    let seen = seller.seen();
    assert_eq!(seen.len(), 4, "two attempts, receipt, keys");
    for attempt in &seen[..2] {
        assert_eq!((attempt.path.as_str(), &attempt.body[..]), ("/v1/chat?x=1", &b"{\"a\":1}"[..]));
    }
    assert!(payer.pending().is_empty());
}

#[tokio::test]
async fn pays_usdc_in_both_versions() {
    for version in [1, 2] {
        let offer = usdc_offer(10_000);
        let seller = Seller::open(move |seen, _| {
            let Reply::Answer(status, headers, body) = challenge(std::slice::from_ref(&offer)) else {
                unreachable!()
            };
            match (version, seen.payment()) {
                (1, None) => Reply::Answer(status, vec![], body),
                (_, None) => Reply::Answer(status, headers, b"{}".to_vec()),
                (1, Some(_)) => {
                    let payment = x402::decode_x_payment(seen.header("x-payment").unwrap()).unwrap();
                    assert_eq!(payment.network, "base-sepolia");
                    proof::x402_exact::verify_v1(
                        &payment,
                        std::slice::from_ref(&offer),
                        super::seller::now(),
                    )
                    .unwrap();
                    ok(vec![])
                }
                (_, Some(_)) => {
                    check(seen, &offer);
                    ok(vec![])
                }
            }
        })
        .await;
        let payer = Payer::new("0.01usd");
        let response = payer.client.call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap();
        assert_eq!(response.status, 200, "version {version}");
        assert!(response.receipt.is_none() && response.key.is_none());
    }
}

#[tokio::test]
async fn the_body_arrives_as_it_is_sent() {
    let (sender, receiver) = mpsc::channel(1);
    let mut pipe = Some(receiver);
    let offer = test_offer(1);
    let seller = Seller::open(move |seen, _| match seen.payment() {
        None => challenge(std::slice::from_ref(&offer)),
        Some(_) => Reply::Stream(vec![], pipe.take().unwrap()),
    })
    .await;
    let payer = Payer::new("0.05usd");
    let mut response = payer.client.call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap();
    // The next chunk is sent only when the one before has been delivered.
    for chunk in ["data: a\n\n", "data: b\n\n"] {
        sender.send(chunk.into()).await.unwrap();
        assert_eq!(response.body.chunk().await.unwrap().unwrap(), chunk);
    }
    drop(sender);
    assert_eq!(response.body.chunk().await.unwrap(), None);
}

#[tokio::test]
async fn a_returned_key_is_kept_privately_and_pays_the_next_call_under_the_cap() {
    let offer = test_offer(20_000_000);
    let seller = Seller::open(move |seen, _| {
        if seen.header("authorization").is_some() {
            return ok(vec![("farthing-receipt", "req_2".into())]);
        }
        match seen.payment() {
            None => challenge(std::slice::from_ref(&offer)),
            Some(_) => ok(vec![("farthing-key", fresh_key(1))]),
        }
    })
    .await;
    let payer = Payer::new("0.05usd");
    payer.client.call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap();
    let file = payer.home.path().join("keys.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    let response = payer.again("0.03usd").call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap();
    assert_eq!(response.paid, Paid::Nothing);
    let seen = seller.seen();
    assert_eq!(seen.len(), 3, "one request is enough with a key");
    let key = seen[2].header("authorization").unwrap().strip_prefix("Bearer ").unwrap();
    assert_eq!(per_call(key), ["per_call=TEST:30000000"], "the cap travels with the key");

    let elsewhere = Seller::open(move |_, _| Reply::Answer(200, vec![], vec![])).await;
    payer.again("0.03usd").call(&post(&elsewhere.url("/"), "x"), &mut quiet).await.unwrap();
    assert!(elsewhere.seen()[0].header("authorization").is_none(), "SEC-33");
}

#[tokio::test]
async fn a_key_is_not_kept_when_nobody_wants_that() {
    let offer = test_offer(1);
    let seller = Seller::open(move |seen, _| match seen.payment() {
        None => challenge(std::slice::from_ref(&offer)),
        Some(_) => ok(vec![("farthing-key", fresh_key(1))]),
    })
    .await;
    let payer = Payer::new("0.05usd");
    let client = payer.again("0.05usd").without_saving_keys();
    let response = client.call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap();
    assert!(response.key.is_some());
    assert!(!payer.home.path().join("keys.json").exists());
}

#[tokio::test]
async fn a_saved_key_that_its_seller_forgot_is_replaced_by_paying() {
    let offer = test_offer(1);
    let seller = Seller::open(move |seen, number| match (seen.header("authorization"), seen.payment()) {
        (Some(_), _) => super::seller::problem(401, "key_unknown", vec![]),
        (None, None) => challenge(std::slice::from_ref(&offer)),
        (None, Some(_)) => ok(vec![("farthing-key", fresh_key(if number == 1 { 1 } else { 2 }))]),
    })
    .await;
    let payer = Payer::new("0.05usd");
    for id in [1, 2] {
        let response = payer.again("0.05usd").call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap();
        assert_eq!(response.key.unwrap().expose(), fresh_key(id));
    }
    assert_eq!(seller.seen().len(), 5);
}

#[tokio::test]
async fn an_empty_key_is_topped_up_in_the_same_call() {
    let offer = test_offer(1);
    let seller = Seller::open(move |seen, _| match (seen.header("authorization"), seen.payment()) {
        (_, Some(_)) => ok(vec![]),
        (Some(_), None) => {
            let Reply::Answer(status, headers, _) = challenge(std::slice::from_ref(&offer)) else {
                unreachable!()
            };
            Reply::Answer(status, headers, br#"{"error":{"code":"insufficient_balance"}}"#.to_vec())
        }
        (None, None) => challenge(std::slice::from_ref(&offer)),
    })
    .await;
    let narrowed = proof::credit_key::attenuate(&fresh_key(1), "budget=a:TEST:9000000000").unwrap();
    let payer = Payer::new("0.05usd");
    let client = payer.again("0.05usd").with_key(Key::given(&narrowed).unwrap());
    client.call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap();
    let seen = seller.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen[1].payment().is_some());
    assert_eq!(seen[1].header("authorization"), seen[0].header("authorization"));
}

#[tokio::test]
async fn a_given_key_that_cannot_carry_the_cap_asks_for_the_price_first() {
    for (price, served) in [(50_000_000, true), (50_000_001, false)] {
        let offer = test_offer(price);
        let seller = Seller::open(move |seen, _| match seen.header("authorization") {
            None => challenge(std::slice::from_ref(&offer)),
            Some(_) => ok(vec![]),
        })
        .await;
        let payer = Payer::new("0.05usd");
        let client = payer.again("0.05usd").with_key(Key::given(&fresh_key(1)).unwrap());
        let called = client.call(&post(&seller.url("/"), "x"), &mut quiet).await;
        assert_eq!(called.is_ok(), served);
        let keys: Vec<bool> =
            seller.seen().iter().map(|seen| seen.header("authorization").is_some()).collect();
        assert_eq!(keys, if served { vec![false, true] } else { vec![false] });
        assert!(seller.payments().is_empty());
    }
}

#[tokio::test]
async fn a_quote_pays_nothing_and_sends_no_credential() {
    let offer = test_offer(7);
    let seller = Seller::open(move |_, _| challenge(std::slice::from_ref(&offer))).await;
    let payer = Payer::new("0.05usd");
    let client = payer.again("0.05usd").with_key(Key::given(&fresh_key(1)).unwrap());
    let quote = client.quote(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap();
    assert!(quote.has_key);
    let challenge = quote.challenge.unwrap();
    let terms = client.policy().choose(&challenge, &[]).unwrap().terms;
    assert_eq!(terms.price.units(), 7);
    assert_eq!(seller.seen().len(), 1);
    assert!(seller.seen()[0].header("authorization").is_none() && seller.payments().is_empty());
    assert!(payer.pending().is_empty());
}

/// What was signed is what was asked for, nothing else: each call signs its own nonce.
#[tokio::test]
async fn two_calls_are_two_payments() {
    let offer = test_offer(5);
    let seller = Seller::open(move |seen, _| match seen.payment() {
        None => challenge(std::slice::from_ref(&offer)),
        Some(_) => ok(vec![]),
    })
    .await;
    let payer = Payer::new("0.05usd");
    for _ in 0..2 {
        payer.client.call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap();
    }
    let nonce = |text: &String| {
        let payment = x402::decode_payment_signature(text).unwrap();
        ExactPayload::from_value(&payment.payload).unwrap().authorization.nonce
    };
    let nonces: Vec<String> = seller.payments().iter().map(nonce).collect();
    assert_eq!(nonces.len(), 2);
    assert_ne!(nonces[0], nonces[1]);
}
