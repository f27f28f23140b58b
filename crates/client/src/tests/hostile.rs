//! The client against sellers and networks that are broken or dishonest. Each time: at most one payment
//! is signed, it goes to the one who asked, and what is not known is not paid again.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::seller::{
    Payer, Reply, Seller, challenge, fresh_key, papers, post, problem, required, settled, test_offer, till,
    usdc_offer,
};
use crate::{CallError, Key, Paid, PolicyError, ReceiptError, Step, Target};
use http::Method;
use proof::SigningKey;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wire::x402;

fn quiet(_: Step<'_>) {}

fn ok() -> Reply {
    Reply::Answer(200, vec![], b"done".to_vec())
}

fn all_equal(payments: &[String]) -> bool {
    payments.windows(2).all(|pair| pair[0] == pair[1])
}

#[tokio::test]
async fn a_price_above_the_cap_is_not_paid() {
    let seller = Seller::open(|_, _| challenge(&[usdc_offer(50_001), test_offer(50_000_001)])).await;
    let payer = Payer::new("0.05usd");
    let error = payer.client.call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap_err();
    assert!(matches!(error, CallError::Policy(PolicyError::OverCap { .. })), "{error}");
    assert_eq!(seller.seen().len(), 1);
    assert!(payer.pending().is_empty());
}

/// Somebody in the middle, or a seller with two faces: the header names another payee than the body.
#[tokio::test]
async fn a_payee_that_differs_between_header_and_body_is_not_paid() {
    let seller = Seller::open(|_, _| {
        let honest = test_offer(1_000);
        let mut forged = required(std::slice::from_ref(&honest));
        forged.accepts[0].pay_to = "ab".repeat(32);
        let Reply::Answer(status, _, body) = challenge(&[honest]) else { unreachable!() };
        Reply::Answer(status, vec![("payment-required", x402::encode(&forged))], body)
    })
    .await;
    let payer = Payer::new("0.05usd");
    let error = payer.client.call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap_err();
    assert!(matches!(error, CallError::Policy(PolicyError::NothingPayable { .. })), "{error}");
    assert!(seller.payments().is_empty());
}

/// The seller changes payee and price after it was paid: nothing is signed for the new terms.
#[tokio::test]
async fn h12_a_second_402_is_not_paid() {
    let seller = Seller::open(|seen, number| {
        let price = if number == 0 { 1_000 } else { 2_000 };
        let Reply::Answer(status, mut headers, body) = challenge(&[test_offer(price)]) else {
            unreachable!()
        };
        if seen.payment().is_some() {
            headers.push(settled("farthing:test"));
        }
        Reply::Answer(status, headers, body)
    })
    .await;
    let payer = Payer::new("0.05usd");
    let request = post(&seller.url("/"), "x");
    let error = payer.client.call(&request, &mut quiet).await.unwrap_err();
    assert!(
        matches!(error, CallError::Refused { ref paid, .. } if paid.starts_with("0.000001 TEST")),
        "{error}"
    );
    assert_eq!(seller.payments().len(), 1);
    // The signed payment is still good, so the same command sends it again and signs no other.
    assert_eq!(payer.pending().len(), 1);
    payer.again("0.05usd").call(&request, &mut quiet).await.unwrap_err();
    assert_eq!(seller.payments().len(), 2);
    assert!(all_equal(&seller.payments()));
}

#[tokio::test]
async fn an_unknown_outcome_is_asked_again_with_the_same_bytes() {
    let seller = Seller::open(|seen, number| match (seen.payment(), number) {
        (None, _) => challenge(&[test_offer(1_000)]),
        (Some(_), 1) => problem(503, "settlement_unknown", vec![("retry-after", "0".into())]),
        (Some(_), 2) => Reply::HangUp,
        (Some(_), 3) => problem(409, "in_progress", vec![]),
        (Some(_), _) => ok(),
    })
    .await;
    let payer = Payer::new("0.05usd");
    let mut waits = 0;
    let mut see = |step: Step<'_>| waits += usize::from(matches!(step, Step::Waiting { .. }));
    let response = payer.client.call(&post(&seller.url("/"), "x"), &mut see).await.unwrap();
    assert_eq!(response.status, 200);
    assert_eq!(waits, 3);
    assert_eq!(seller.payments().len(), 4);
    assert!(all_equal(&seller.payments()));
    assert!(payer.pending().is_empty());
}

#[tokio::test]
async fn a_lost_connection_keeps_the_payment_for_the_next_run() {
    let seller = Seller::open(|seen, number| match seen.payment() {
        None => challenge(&[test_offer(1_000)]),
        Some(_) if number <= 4 => Reply::HangUp,
        Some(_) => ok(),
    })
    .await;
    let payer = Payer::new("0.05usd");
    let request = post(&seller.url("/"), "x");
    let error = payer.client.call(&request, &mut quiet).await.unwrap_err();
    let CallError::Unknown { path, .. } = &error else { panic!("{error}") };
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(payer.pending().len(), 1);
    assert_eq!(seller.payments().len(), 4, "one try and three replays");

    // Another request is another payment, and leaves this one alone.
    payer.again("0.05usd").call(&post(&seller.url("/"), "y"), &mut quiet).await.unwrap();
    assert_eq!(payer.pending().len(), 1);

    let mut resumed = false;
    let mut see = |step: Step<'_>| resumed |= matches!(step, Step::Resuming { .. });
    let response = payer.again("0.05usd").call(&request, &mut see).await.unwrap();
    assert!(resumed && matches!(response.paid, Paid::Taken { .. }));
    let of_x: Vec<String> = seller
        .seen()
        .iter()
        .filter(|seen| &seen.body[..] == b"x")
        .filter_map(super::seller::Seen::payment)
        .collect();
    assert_eq!(of_x.len(), 5);
    assert!(all_equal(&of_x));
    assert!(payer.pending().is_empty());
    // The credit is used up and known to be: the next call is a new one.
    payer.again("0.05usd").call(&request, &mut quiet).await.unwrap();
    let last = seller.payments();
    assert_ne!(last[last.len() - 1], of_x[0]);
}

#[tokio::test]
async fn a_seller_that_asks_for_too_much_patience_leaves_the_outcome_unknown() {
    let seller = Seller::open(|seen, _| match seen.payment() {
        None => challenge(&[test_offer(1_000)]),
        Some(_) => problem(503, "settlement_unknown", vec![("retry-after", "3600".into())]),
    })
    .await;
    let payer = Payer::new("0.05usd");
    let error = payer.client.call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap_err();
    assert!(matches!(error, CallError::Unknown { .. }), "{error}");
    assert_eq!((seller.payments().len(), payer.pending().len()), (1, 1));
}

#[tokio::test]
async fn a_redirect_takes_no_credential_along() {
    let elsewhere = Seller::open(|_, _| ok()).await;
    for (situation, paid_first) in [("instead of a 402", false), ("after the payment", true)] {
        let target = elsewhere.url("/steal");
        let seller = Seller::open(move |seen, _| match seen.payment() {
            None if paid_first => challenge(&[test_offer(1_000)]),
            _ => Reply::Answer(307, vec![("location", target.clone())], vec![]),
        })
        .await;
        let payer = Payer::new("0.05usd");
        let budget = proof::credit_key::attenuate(&fresh_key(1), "budget=a:TEST:9000000000").unwrap();
        let client = payer.again("0.05usd").with_key(Key::given(&budget).unwrap());
        let response = client.call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap();
        assert_eq!(response.status, 307, "{situation}");
        assert_eq!(matches!(response.paid, Paid::Kept { .. }), paid_first, "{situation}");
        assert_eq!(payer.pending().len(), usize::from(paid_first), "{situation}");
    }
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn sec_33_a_key_goes_to_one_origin() {
    let (one, two) = (Seller::open(|_, _| ok()).await, Seller::open(|_, _| ok()).await);
    let payer = Payer::new("0.05usd");
    let budget = proof::credit_key::attenuate(&fresh_key(1), "budget=a:TEST:9000000000").unwrap();
    let client = payer.again("0.05usd").with_key(Key::given(&budget).unwrap());
    client.call(&post(&one.url("/"), "x"), &mut quiet).await.unwrap();
    let error = client.call(&post(&two.url("/"), "x"), &mut quiet).await.unwrap_err();
    assert!(matches!(error, CallError::KeyOfAnotherOrigin { .. }), "{error}");
    assert!(two.seen().is_empty());
}

/// A name that claims to be local, and is reached by an address that is not.
#[tokio::test]
async fn sec_33_no_credential_in_clear_text_beyond_this_machine() {
    let payer = Payer::new("0.05usd");
    let budget = proof::credit_key::attenuate(&fresh_key(1), "budget=a:TEST:9000000000").unwrap();
    let client = payer.again("0.05usd").with_key(Key::given(&budget).unwrap());
    let request = crate::Request::new(Method::GET, "http://192.0.2.1/").unwrap();
    let error = client.call(&request, &mut quiet).await.unwrap_err();
    assert!(matches!(error, CallError::ClearText(_)), "{error}");
    let own = request.clone().header("x-api-key", "fk_test_A").unwrap();
    let error = payer.client.call(&own, &mut quiet).await.unwrap_err();
    assert!(matches!(error, CallError::ClearText(_)), "{error}");
    assert!(!Target::parse("http://192.0.2.1/").unwrap().may_carry_credentials());
}

/// A seller that asks for payment, and is gone: before the paid attempt connects, or while it is under way.
pub(super) async fn vanishing_seller(takes_the_payment: bool) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let Reply::Answer(_, headers, _) = challenge(&[test_offer(1_000)]) else { unreachable!() };
    let (name, value) = headers[0].clone();
    tokio::spawn(async move {
        let mut bytes = [0; 4096];
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut bytes).await;
        let text = format!("HTTP/1.1 402 Pay\r\n{name}: {value}\r\ncontent-length: 2\r\n\r\n{{}}");
        if !takes_the_payment {
            drop(listener);
            stream.write_all(text.as_bytes()).await.unwrap();
            return;
        }
        stream.write_all(text.as_bytes()).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        drop(listener);
        let _ = stream.read(&mut bytes).await;
    });
    url
}

#[tokio::test]
async fn nothing_is_kept_of_a_payment_that_never_left() {
    let url = vanishing_seller(false).await;
    let payer = Payer::new("0.05usd");
    let error = payer.client.call(&post(&url, "x"), &mut quiet).await.unwrap_err();
    assert!(matches!(error, CallError::Network(_)), "{error}");
    assert!(payer.pending().is_empty());
}

/// That later attempts cannot even connect says nothing about the first one.
#[tokio::test]
async fn a_payment_that_left_once_is_kept_when_the_seller_is_gone() {
    let url = vanishing_seller(true).await;
    let payer = Payer::new("0.05usd");
    for _ in 0..2 {
        let error = payer.again("0.05usd").call(&post(&url, "x"), &mut quiet).await.unwrap_err();
        assert!(matches!(error, CallError::Unknown { .. }), "{error}");
        assert_eq!(payer.pending().len(), 1);
    }
}

#[tokio::test]
async fn a_receipt_is_believed_only_from_the_key_of_this_origin() {
    let (stranger, other) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
    // Which key signs, which is published, for each call in turn.
    let rows = [
        (stranger.clone(), till(), "unknown"),
        (till(), till(), "good"),
        (other.clone(), other, "changed"),
        (till(), till(), "good"),
    ];
    let keys = rows.clone();
    let turn = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let now = std::sync::Arc::clone(&turn);
    let seller = Seller::open(move |seen, _| {
        let (signer, published, _) = &keys[now.load(std::sync::atomic::Ordering::SeqCst)];
        if let Some(paper) = papers(seen, signer, published) {
            return paper;
        }
        match seen.payment() {
            None => challenge(&[test_offer(1_000)]),
            Some(_) => Reply::Answer(200, vec![("farthing-receipt", "req_1".into())], vec![]),
        }
    })
    .await;
    let payer = Payer::new("0.05usd");
    for (index, (_, _, expected)) in rows.iter().enumerate() {
        turn.store(index, std::sync::atomic::Ordering::SeqCst);
        let response = payer.client.call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap();
        let checked = payer.client.receipt(&response.receipt.unwrap(), &mut quiet).await;
        let (word, refused) = match &checked {
            Ok(_) => ("good", false),
            Err(error @ ReceiptError::Signature(_)) => ("unknown", error.is_refused()),
            Err(error @ ReceiptError::Untrusted { .. }) => ("changed", error.is_refused()),
            Err(error) => panic!("{error}"),
        };
        assert_eq!((word, refused), (*expected, *expected != "good"), "row {index}");
    }
}

#[tokio::test]
async fn a_forged_or_borrowed_receipt_is_refused() {
    let good = proof::receipt::sign(&till(), &super::seller::facts("req_1")).unwrap();
    let borrowed = proof::receipt::sign(&till(), &super::seller::facts("req_2")).unwrap();
    let (head, signature) = good.rsplit_once('.').unwrap();
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    let forged = format!("{head}.{flipped}{}", &signature[1..]);
    for (situation, text) in [("forged", forged), ("borrowed", borrowed), ("no receipt at all", "x".into())] {
        let seller = Seller::open(move |seen, _| {
            if seen.path.starts_with("/farthing/receipts/") {
                return Reply::Answer(200, vec![], text.clone().into_bytes());
            }
            if let Some(paper) = papers(seen, &till(), &till()) {
                return paper;
            }
            Reply::Answer(200, vec![("farthing-receipt", "req_1".into())], vec![])
        })
        .await;
        let payer = Payer::new("0.05usd");
        let response = payer.client.call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap();
        let error = payer.client.receipt(&response.receipt.unwrap(), &mut quiet).await.unwrap_err();
        assert!(error.is_refused(), "{situation}: {error}");
    }
}

/// Takes 1000 and fails: the deposit stays, and a key to it comes along.
pub(crate) async fn taking_and_failing() -> Seller {
    Seller::open(|seen, _| match seen.payment() {
        None => challenge(&[test_offer(1_000)]),
        Some(_) => {
            problem(502, "upstream_failed", vec![settled("farthing:test"), ("farthing-key", fresh_key(1))])
        }
    })
    .await
}

/// The upstream failed, the deposit stays: said, kept as a key, and not paid again.
#[tokio::test]
async fn a_failed_answer_with_a_deposit_is_an_answer() {
    let seller = taking_and_failing().await;
    let payer = Payer::new("0.05usd");
    let response = payer.client.call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap();
    assert_eq!(response.status, 502);
    assert!(matches!(response.paid, Paid::Taken { .. }));
    assert!(payer.pending().is_empty() && payer.home.path().join("keys.json").exists());
    assert_eq!(seller.payments().len(), 1);
}

#[tokio::test]
async fn refusals_about_the_key_are_not_paid_over() {
    for (status, code, limit) in
        [(401, "key_revoked", ""), (403, "key_forbidden", "per_call"), (402, "over_token_budget", "")]
    {
        let seller = Seller::open(move |_, _| {
            let Reply::Answer(_, headers, _) = challenge(&[test_offer(1_000)]) else { unreachable!() };
            let body = json!({"error": {"code": code, "limit_source": limit}}).to_string();
            Reply::Answer(status, headers, body.into_bytes())
        })
        .await;
        let payer = Payer::new("0.05usd");
        let budget = proof::credit_key::attenuate(&fresh_key(1), "budget=a:TEST:9000000000").unwrap();
        let client = payer.again("0.05usd").with_key(Key::given(&budget).unwrap());
        let error = client.call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap_err();
        let CallError::KeyRefused { said, .. } = &error else { panic!("{error}") };
        assert_eq!((said.code.as_str(), said.limit_source.as_str()), (code, limit));
        assert!(seller.payments().is_empty(), "{code}");
    }
}

/// What a stranger sends is bounded and never trusted to be well-formed.
#[tokio::test]
async fn garbage_is_refused_and_not_paid() {
    for (situation, headers, body) in [
        ("no offers", vec![], b"{}".to_vec()),
        ("no JSON", vec![], b"\xff\xfe".to_vec()),
        ("garbage header", vec![("payment-required", "!!!".to_owned())], b"{}".to_vec()),
        ("endless body", vec![], vec![b' '; 300 * 1024]),
    ] {
        let mut reply = Some((headers, body));
        let seller = Seller::open(move |_, _| {
            let (headers, body) = reply.take().unwrap();
            Reply::Answer(402, headers, body)
        })
        .await;
        let payer = Payer::new("0.05usd");
        let error = payer.client.call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap_err();
        assert!(matches!(error, CallError::Challenge { .. } | CallError::Network(_)), "{situation}: {error}");
        assert!(payer.pending().is_empty());
    }
}
