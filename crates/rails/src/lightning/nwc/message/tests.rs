//! Answers as wallets write them.

use super::{Code, Failure, Info, Looked, Made, Proof, Request, Stage, received};
use crate::lightning::port::{InvoiceState, Network, NodeError};

const HASH: [u8; 32] = [0xab; 32];

fn look() -> Request<'static> {
    Request::LookupInvoice { payment_hash: wire::hex::encode(&HASH) }
}

fn answer(result: &str) -> String {
    format!(r#"{{"result_type":"lookup_invoice","error":null,"result":{result}}}"#)
        .replace("HASH", &"ab".repeat(32))
}

#[test]
fn questions_are_those_of_the_protocol() {
    for (request, expected) in [
        (
            Request::MakeInvoice { amount: 21_000, description: "a \"b\"", expiry: 300 },
            r#"{"method":"make_invoice","params":{"amount":21000,"description":"a \"b\"","expiry":300}}"#,
        ),
        (
            Request::LookupInvoice { payment_hash: "ab".into() },
            r#"{"method":"lookup_invoice","params":{"payment_hash":"ab"}}"#,
        ),
        (
            Request::PayInvoice { invoice: "lnbc1", amount: None },
            r#"{"method":"pay_invoice","params":{"invoice":"lnbc1"}}"#,
        ),
        (
            Request::PayInvoice { invoice: "lnbc1", amount: Some(9_000) },
            r#"{"method":"pay_invoice","params":{"invoice":"lnbc1","amount":9000}}"#,
        ),
        (Request::GetInfo {}, r#"{"method":"get_info","params":{}}"#),
    ] {
        assert_eq!(serde_json::to_string(&request).unwrap(), expected);
        assert!(expected.contains(request.method()));
    }
}

#[test]
fn states_of_an_invoice_table() {
    let settled = |at_s, msat| Ok(InvoiceState::Settled { at_s, msat });
    for (result, expected) in [
        (
            r#"{"type":"incoming","state":"pending","payment_hash":"HASH","amount":1000}"#,
            Ok(InvoiceState::Unpaid),
        ),
        (r#"{"state":"accepted","amount":1000}"#, Ok(InvoiceState::Unpaid)),
        (r#"{"state":"something new","amount":1000,"settled_at":5}"#, Ok(InvoiceState::Unpaid)),
        (r#"{"state":"settled","amount":1000,"settled_at":5}"#, settled(Some(5), 1000)),
        (r#"{"state":"settled","amount":1000}"#, settled(None, 1000)),
        (r#"{"state":"settled","amount":0}"#, Err(NodeError::Lied("amount"))),
        (r#"{"state":"settled"}"#, Err(NodeError::Lied("amount"))),
        (r#"{"state":"expired","amount":1000}"#, Ok(InvoiceState::Cancelled)),
        (r#"{"state":"failed"}"#, Ok(InvoiceState::Cancelled)),
        (r#"{"amount":1000,"settled_at":null}"#, Ok(InvoiceState::Unpaid)),
        (r#"{"amount":1000,"settled_at":0}"#, Ok(InvoiceState::Unpaid)),
        (r#"{"amount":1000,"settled_at":7,"preimage":"00","metadata":{"a":[1]}}"#, settled(Some(7), 1000)),
        (r#"{"type":"outgoing","state":"settled","amount":1000}"#, Err(NodeError::Lied("type"))),
        (r#"{"payment_hash":"cd","state":"settled","amount":1000}"#, Err(NodeError::Lied("payment hash"))),
    ] {
        let looked: Looked = look().result(&answer(result)).unwrap();
        assert_eq!(looked.invoice(&HASH), expected, "{result}");
    }
}

#[test]
fn stages_of_a_payment_table() {
    for (result, expected) in [
        (r#"{"type":"outgoing","state":"pending","payment_hash":"HASH"}"#, Ok(Stage::Open)),
        (r#"{"type":"outgoing","state":"settled"}"#, Ok(Stage::Settled)),
        (r#"{"type":"outgoing","settled_at":1}"#, Ok(Stage::Settled)),
        (r#"{"type":"outgoing","state":"failed"}"#, Ok(Stage::Over)),
        (r#"{"type":"incoming","state":"settled"}"#, Err(NodeError::Lied("type"))),
        (r#"{"payment_hash":"","state":"settled"}"#, Err(NodeError::Lied("payment hash"))),
    ] {
        let looked: Looked = look().result(&answer(result)).unwrap();
        assert_eq!(looked.payment(&HASH), expected, "{result}");
    }
}

/// Wallets tell the preimage of an invoice when they make it, and again when they look it up.
#[test]
fn l402_70_a_preimage_of_ours_is_not_read() {
    let preimage = "5a".repeat(32);
    let told = format!(
        r#"{{"type":"incoming","state":"settled","invoice":"lnbcrt1","payment_hash":"HASH","amount":1,"preimage":"{preimage}"}}"#
    );
    let made: Made = look().result(&answer(&told)).unwrap();
    let looked: Looked = look().result(&answer(&told)).unwrap();
    let printed = format!("{made:?} {looked:?}");
    assert!(printed.contains("lnbcrt1") && printed.contains("settled"), "{printed}");
    assert!(!printed.contains(&preimage), "{printed}");
}

#[test]
fn refusals_table() {
    for (code, expected) in [
        ("NOT_FOUND", Code::NotFound),
        ("PAYMENT_FAILED", Code::PaymentFailed),
        ("RATE_LIMITED", Code::Declined),
        ("NOT_IMPLEMENTED", Code::Declined),
        ("INSUFFICIENT_BALANCE", Code::Declined),
        ("QUOTA_EXCEEDED", Code::Declined),
        ("RESTRICTED", Code::Declined),
        ("UNAUTHORIZED", Code::Declined),
        ("UNSUPPORTED_ENCRYPTION", Code::Declined),
        ("INTERNAL", Code::Unclear),
        ("OTHER", Code::Unclear),
        ("", Code::Unclear),
    ] {
        let said =
            format!(r#"{{"result_type":"x","error":{{"code":"{code}","message":"no"}},"result":null}}"#);
        let reason = format!("{code}: no");
        let failure = look().result::<Looked>(&said).unwrap_err();
        assert_eq!(failure, Failure::Refused { code: expected, reason: reason.clone() });
        assert_eq!(NodeError::from(failure), NodeError::Refused(reason));
    }
}

#[test]
fn what_is_no_answer() {
    for (said, field) in [
        ("", "answer"),
        ("[]", "answer"),
        (r#"{"result_type":"lookup_invoice"}"#, "answer"),
        (r#"{"result_type":"lookup_invoice","result":null}"#, "answer"),
        (r#"{"result_type":"lookup_invoice","result":{"amount":"many"}}"#, "answer"),
        (r#"{"result_type":"lookup_invoice","result":{"amount":-1}}"#, "answer"),
        (r#"{"result_type":"lookup_invoice","result":{"amount":1,"amount":2}}"#, "answer"),
        (r#"{"result_type":"pay_invoice","result":{"amount":1}}"#, "result_type"),
    ] {
        assert_eq!(look().result::<Looked>(said).unwrap_err(), Failure::Malformed(field), "{said}");
    }
    assert!(look().result::<Looked>(r#"{"result":{"amount":1}}"#).is_ok(), "a type that is left out");
}

#[test]
fn the_hash_of_an_invoice_is_the_wallets_word() {
    let made = |text: &str| serde_json::from_str::<Made>(text).unwrap().payment_hash([1; 32]);
    assert_eq!(made(&format!(r#"{{"invoice":"x","payment_hash":"{}"}}"#, "ab".repeat(32))), Ok(HASH));
    assert_eq!(made(r#"{"invoice":"x"}"#), Ok([1; 32]));
    assert_eq!(made(r#"{"invoice":"x","payment_hash":"ab"}"#), Err(NodeError::Lied("payment hash")));
}

#[test]
fn a_proof_opens_the_hash_or_is_none() {
    let preimage = wire::l402::Preimage::new([5; 32]);
    let hash = preimage.payment_hash().0;
    let proof = |text: &str| serde_json::from_str::<Proof>(&text.replace("GOOD", &"05".repeat(32))).unwrap();
    for (text, expected) in [
        (r#"{"preimage":"GOOD","fees_paid":21}"#, Some(21)),
        (r#"{"preimage":"GOOD"}"#, Some(0)),
        (r#"{"preimage":"05"}"#, None),
        (r#"{"preimage":null}"#, None),
        ("{}", None),
    ] {
        let read = proof(text).of(&hash);
        assert_eq!(read.as_ref().map(|(_, fee)| *fee), expected, "{text}");
        assert!(proof(text).of(&HASH).is_none(), "{text}");
    }
}

#[test]
fn what_a_wallet_says_of_itself() {
    let info = |text: &str| serde_json::from_str::<Info>(text).unwrap();
    let key = format!(r#"{{"pubkey":"02{}","network":"regtest","methods":[]}}"#, "ab".repeat(32));
    assert_eq!(info(&key).node_key().unwrap()[..2], [2, 0xab]);
    assert_eq!(info(&key).network(), Some(Network::Regtest));
    assert_eq!(info(r#"{"network":"bitcoin"}"#).network(), Some(Network::Mainnet));
    for text in ["{}", r#"{"pubkey":"","network":""}"#, r#"{"pubkey":null,"network":null}"#] {
        assert_eq!((info(text).node_key(), info(text).network()), (None, None), "{text}");
    }
}

#[test]
fn notifications_table() {
    let told = |kind: &str, body: &str| {
        let body = body.replace("HASH", &"ab".repeat(32));
        received(&format!(r#"{{"notification_type":"{kind}","notification":{body}}}"#))
    };
    let settled =
        r#"{"type":"incoming","state":"settled","payment_hash":"HASH","amount":1000,"settled_at":9}"#;
    assert_eq!(told("payment_received", settled), Some((HASH, 1000)));
    assert_eq!(told("payment_received", &settled.replace(r#""state":"settled","#, "")), Some((HASH, 1000)));
    assert_eq!(told("payment_sent", settled), None);
    assert_eq!(told("payment_received", &settled.replace("incoming", "outgoing")), None);
    assert_eq!(told("payment_received", &settled.replace("settled\"", "pending\"")), None);
    assert_eq!(told("payment_received", &settled.replace("1000", "0")), None);
    assert_eq!(told("payment_received", &settled.replace("payment_hash", "hash")), None);
    assert_eq!(received("{}"), None);
}
