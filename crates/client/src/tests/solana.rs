//! `exact` on Solana against a seller that checks as a facilitator's client does, with a node that names a blockhash.

use std::sync::Arc;

use proof::x402_svm::{self, SvmToken};
use serde_json::json;
use wire::x402::base58;
use wire::x402::svm::SvmPayload;

use super::schemes::{challenge_of, payment, spent};
use super::seller::{Payer, Reply, Seller, post};
use crate::{CallError, Paid, Step, Target};

const NETWORK: &str = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1";
const MINT: &str = "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU";

fn quiet(_: Step<'_>) {}

fn offer() -> x402_svm::Offer {
    let token = SvmToken::new(NETWORK, base58::decode_array(MINT).unwrap(), [6; 32]).unwrap();
    let (token, fee_payer) = (Arc::new(token), [9; 32]);
    x402_svm::Offer {
        token,
        amount: 10_000,
        fee_payer,
        memo: None,
        max_timeout_s: 60,
        quote: Some("q".into()),
    }
}

#[tokio::test]
async fn a_transaction_is_signed_with_the_nodes_blockhash_and_sent_once() {
    let seller = Seller::open(|seen, number| match payment(seen) {
        None => challenge_of(402, "pay", vec![offer().requirements_v2()], None),
        Some(payment) => {
            let payload = SvmPayload::from_value(&payment.payload).unwrap();
            x402_svm::verify(&offer(), &payload).unwrap();
            assert_eq!(payload.transaction().unwrap().message.recent_blockhash, [0xbb; 32]);
            if number == 2 { Reply::HangUp } else { Reply::Answer(200, vec![], vec![]) }
        }
    })
    .await;
    let node = Seller::open(|seen, _| {
        assert!(seen.body.starts_with(b"{") && seen.payment().is_none());
        let said = json!({"result": {"value": {"blockhash": base58::encode(&[0xbb; 32])}}});
        Reply::Answer(200, vec![], said.to_string().into_bytes())
    })
    .await;
    let payer = Payer::new("0.05usd");
    let request = post(&seller.url("/"), "x");
    // Nobody names a blockhash: nothing is signed.
    let error = payer.client.call(&request, &mut quiet).await.unwrap_err();
    assert!(matches!(&error, CallError::Policy(_)) && error.to_string().contains("--solana-node"), "{error}");
    let client = payer.again("0.05usd").with_solana_node(Target::parse(&node.url("/")).unwrap());
    let response = client.call(&request, &mut quiet).await.unwrap();
    assert!(matches!(&response.paid, Paid::Taken { what, .. } if what.starts_with("0.01 USDC to ")));
    let payments = seller.payments();
    assert_eq!((payments.len(), node.seen().len()), (2, 1));
    assert_eq!(payments[0], payments[1], "lost, and sent again as it was");
    assert_eq!(spent(&payer), (10_000, 10_000, 0));
}
