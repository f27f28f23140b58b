//! What is left with a seller: asked back from a channel, or opened with the wallet's signature.

use proof::siwx::{Host, NonceKey, verify};
use serde_json::{Value, json};
use wire::rfc3339;
use wire::x402::siwx::{Answer, Challenge, Info, SignatureType, SupportedChain};

use super::schemes::{Till, challenge_of, kept, payment, spent};
use super::seller::{Payer, Reply, Seen, Seller, fresh_key, now, papers, post, problem, test_offer, till};
use crate::{RefundError, Request, SignInError, Step, Target};

fn quiet(_: Step<'_>) {}

#[tokio::test]
async fn what_is_left_in_a_channel_comes_back_and_the_channel_stays() {
    let serving = Till::default();
    let seller = Seller::open(move |seen, _| serving.serve(seen, 10_000, 1_858)).await;
    let payer = Payer::new("0.05usd");
    payer.client.call(&post(&seller.url("/"), "1"), &mut quiet).await.unwrap();
    let name = kept(&payer)[0].name();
    let refunded = payer.client.refund(&post(&seller.url("/"), ""), &name, &mut quiet).await.unwrap();
    assert_eq!((refunded.amount, refunded.transaction.as_str()), (Some(38_142), "0xabc"));
    let sent = seller.seen().last().and_then(payment).unwrap();
    assert_eq!(sent.payload["type"], "refund");
    assert_eq!(sent.payload["voucher"]["maxClaimableAmount"], "1858", "nothing more is promised");
    let [channel] = &kept(&payer)[..] else { panic!() };
    assert_eq!((channel.charged, channel.balance, channel.free()), (1_858, 1_858, 0));
    // It can be used again: what a call may cost is put in.
    payer.client.call(&post(&seller.url("/"), "2"), &mut quiet).await.unwrap();
    let [channel] = &kept(&payer)[..] else { panic!() };
    assert_eq!((channel.charged, channel.balance), (3_716, 41_858));
    assert_eq!(spent(&payer), (80_000, 3_716, 0));
}

#[tokio::test]
async fn a_refund_that_is_refused_changes_nothing() {
    let serving = Till::default();
    let seller = Seller::open(move |seen, number| match payment(seen) {
        Some(payment) if payment.payload["type"] == "refund" => problem(503, "facilitator_failed", vec![]),
        _ if number > 3 && seen.path == "/free" => Reply::Answer(200, vec![], vec![]),
        _ => serving.serve(seen, 10_000, 1_858),
    })
    .await;
    let payer = Payer::new("0.05usd");
    payer.client.call(&post(&seller.url("/"), "1"), &mut quiet).await.unwrap();
    let before = kept(&payer);
    let name = before[0].name();
    let ask = |path: &str, name: &str| {
        let (client, request, name) = (payer.again("0.05usd"), post(&seller.url(path), ""), name.to_owned());
        async move { client.refund(&request, &name, &mut |_| {}).await.unwrap_err() }
    };
    let error = ask("/", &name).await;
    assert!(matches!(&error, RefundError::Refused { code, .. } if code == "facilitator_failed"), "{error}");
    assert!(matches!(ask("/free", &name).await, RefundError::NoOffer(_)));
    assert!(matches!(ask("/", "0xabc").await, RefundError::Unknown(_)));
    assert_eq!(kept(&payer), before);
}

/// A gateway's sign-in, checked as a gateway does.
fn sign_in(seen: &Seen, domain: &str, uri: &str) -> Reply {
    let nonces = NonceKey::new(&[3; 32]);
    let chain = "eip155:84532";
    let Some(header) = seen.header("sign-in-with-x") else {
        let info = Info {
            domain: domain.to_owned(),
            uri: uri.to_owned(),
            statement: None,
            version: "1".into(),
            nonce: nonces.mint(domain, [1; 8], now()),
            issued_at: rfc3339::format(now()).unwrap(),
            expiration_time: None,
            not_before: None,
            request_id: None,
            resources: None,
        };
        let chains = vec![SupportedChain {
            chain_id: chain.into(),
            signature_type: SignatureType::Eip191,
            signature_scheme: None,
        }];
        let terms = Challenge { info, supported_chains: chains };
        return challenge_of(402, "payment_required", vec![], Some(json!({"sign-in-with-x": terms})));
    };
    let host = Host { domain, origin: uri.trim_end_matches("/farthing/sign-in"), chains: &[chain] };
    verify(&nonces, &Answer::parse(header).unwrap(), &host, now()).unwrap();
    let answer = json!({"key": fresh_key(7), "balance": {"amount": "0.500000000", "currency": "TEST"}, "account": "a"});
    Reply::Answer(200, vec![], answer.to_string().into_bytes())
}

/// A seller whose calls cost 1000 nano, and whose own sign-in is as `domain` says.
async fn gateway(domain: Option<&'static str>) -> Seller {
    Seller::open(move |seen, _| {
        let host = seen.header("host").unwrap().to_owned();
        let domain = domain.map_or_else(|| host.clone(), str::to_owned);
        if let Some(paper) = papers(seen, &till(), &till()) {
            return paper;
        }
        if seen.path == "/farthing/sign-in" {
            return sign_in(seen, &domain, &format!("http://{domain}/farthing/sign-in"));
        }
        let key = seen.header("authorization").unwrap_or_default();
        if key.contains(&fresh_key(7)[..40]) {
            return Reply::Answer(200, vec![("farthing-receipt", "req_1".into())], b"by key".to_vec());
        }
        if !key.is_empty() {
            return problem(401, "key_unknown", vec![]);
        }
        match payment(seen) {
            None => {
                let terms = json!({"sign-in-with-x": serde_json::from_value::<Value>(json!({
                    "info": {"domain": domain, "uri": format!("http://{domain}/"), "version": "1",
                             "nonce": "00", "issuedAt": "2026-01-01T00:00:00Z"},
                    "supportedChains": [{"chainId": "eip155:84532", "type": "eip191"}]})).unwrap()});
                challenge_of(402, "pay", vec![test_offer(1_000).requirements_v2()], Some(terms))
            }
            Some(_) => Reply::Answer(
                200,
                vec![("farthing-key", fresh_key(1)), ("farthing-receipt", "req_1".into())],
                b"paid".to_vec(),
            ),
        }
    })
    .await
}

#[tokio::test]
async fn x402_35_a_lost_key_is_got_back_by_signing_in_and_nothing_is_paid() {
    let seller = gateway(None).await;
    let payer = Payer::new("0.05usd");
    let request = post(&seller.url("/"), "x");
    // Nobody signs in where he never was a customer.
    let response = payer.client.call(&request, &mut quiet).await.unwrap();
    payer.client.receipt(response.receipt.as_ref().unwrap(), &mut quiet).await.unwrap();
    assert!(seller.seen().iter().all(|seen| seen.path != "/farthing/sign-in"));
    // The key that came along is not known any more, or it is gone from this machine.
    for lose_the_file in [false, true] {
        if lose_the_file {
            std::fs::remove_file(payer.home.path().join("keys.json")).unwrap();
        }
        let paid_before = seller.payments().len();
        let response = payer.again("0.05usd").call(&request, &mut quiet).await.unwrap();
        assert_eq!(response.body.collect(100).await.unwrap(), "by key");
        assert_eq!(seller.payments().len(), paid_before, "nothing was paid");
    }
    let keys = std::fs::read_to_string(payer.home.path().join("keys.json")).unwrap();
    assert!(keys.contains(&fresh_key(7)));
}

#[tokio::test]
async fn a24_a_signature_for_another_host_is_not_given() {
    for (domain, offered) in [(Some("evil.example"), true), (None, true)] {
        let seller = gateway(domain).await;
        let payer = Payer::new("0.05usd");
        let target = Target::parse(&seller.url("/v1/chat")).unwrap();
        let signed = payer.client.sign_in(&target, &mut quiet).await;
        match (domain, signed) {
            (Some(_), Err(SignInError::Elsewhere { domain, .. })) => assert_eq!(domain, "evil.example"),
            (None, Ok(signed)) => assert_eq!(signed.balance.unwrap().amount, "0.5"),
            (_, other) => panic!("{other:?}"),
        }
        let signatures = seller.seen().iter().filter(|seen| seen.header("sign-in-with-x").is_some()).count();
        assert_eq!(signatures, usize::from(domain.is_none() && offered));
    }
    let plain = Seller::open(|_, _| Reply::Answer(404, vec![], vec![])).await;
    let payer = Payer::new("0.05usd");
    let target = Target::parse(&plain.url("/")).unwrap();
    let error = payer.client.sign_in(&target, &mut quiet).await.unwrap_err();
    assert!(matches!(error, SignInError::NotOffered(_)), "{error}");
    // In clear text to another machine nothing is signed.
    let far = Request::new(http::Method::GET, "http://192.0.2.1/").unwrap();
    assert!(payer.client.sign_in(far.target(), &mut quiet).await.is_err());
}
