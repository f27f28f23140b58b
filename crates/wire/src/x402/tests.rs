//! Captured traffic of a stock client, seller and facilitator.

use super::header::{HeaderError as E, READ_BYTES_MAX};
use super::{
    ExactPayload, Permit2Payload, SettlementResponse, decode, decode_payment_signature, decode_x_payment,
    encode, facilitator, v1, v2,
};
use crate::base64;
use crate::json::JsonError;
use proptest::prelude::*;
use serde_json::{Value, json};

const V1: &str = include_str!("../../../../specs/vectors/x402/v1_exact_eip3009.json");
const V2: &str = include_str!("../../../../specs/vectors/x402/v2_exact_eip3009.json");

fn vector(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn request_header(vector: &Value, name: &str) -> String {
    vector["steps"][1]["request"]["headers"][name].as_str().unwrap().to_owned()
}

/// Our objects hold every member that was captured, and write them back.
fn same<T: serde::Serialize + serde::de::DeserializeOwned>(captured: &Value) {
    let object: T = serde_json::from_value(captured.clone()).unwrap();
    assert_eq!(serde_json::to_value(object).unwrap(), *captured);
}

#[test]
fn v2_captured_flow_reads_and_writes() {
    let vector = vector(V2);
    let challenge = vector["steps"][0]["response"]["headers"]["payment-required"].as_str().unwrap();
    let required: v2::PaymentRequired = decode(challenge).unwrap();
    assert_eq!(serde_json::to_value(&required).unwrap(), vector["steps"][0]["decoded"]["payment-required"]);
    assert_eq!(decode::<v2::PaymentRequired>(&encode(&required)), Ok(required));

    let payment = decode_payment_signature(&request_header(&vector, "payment-signature")).unwrap();
    assert_eq!(serde_json::to_value(&payment).unwrap(), vector["steps"][1]["decoded"]["payment-signature"]);
    let transfer = ExactPayload::from_value(&payment.payload).unwrap().evm().unwrap();
    assert_eq!((transfer.value, transfer.valid_before), (10_000, 1_795_170_558));

    let response = vector["steps"][1]["response"]["headers"]["payment-response"].as_str().unwrap();
    assert!(decode::<SettlementResponse>(response).unwrap().success);
    same::<SettlementResponse>(&vector["steps"][1]["decoded"]["payment-response"]);
    same::<facilitator::VerifyRequest>(&vector["facilitator"][0]["request"]);
    same::<facilitator::VerifyResponse>(&vector["facilitator"][0]["response"]);
    same::<facilitator::SettleRequest>(&vector["facilitator"][1]["request"]);
    same::<SettlementResponse>(&vector["facilitator"][1]["response"]);
}

#[test]
fn v1_captured_flow_reads_and_writes() {
    let vector = vector(V1);
    let body: Value = serde_json::from_str(vector["steps"][0]["response"]["body"].as_str().unwrap()).unwrap();
    same::<v1::PaymentRequired>(&body);
    let payment = decode_x_payment(&request_header(&vector, "x-payment")).unwrap();
    assert_eq!(serde_json::to_value(&payment).unwrap(), vector["steps"][1]["decoded"]["x-payment"]);
    same::<SettlementResponse>(&vector["steps"][1]["decoded"]["x-payment-response"]);
    same::<facilitator::VerifyRequest>(&vector["facilitator"][0]["request"]);
}

/// X402-4: the JS client accepts unpadded base64url, so somebody sends it.
#[test]
fn x402_4_every_spelling_of_base64() {
    let value = request_header(&vector(V2), "payment-signature");
    let bytes = base64::decode_any(&value, READ_BYTES_MAX).unwrap();
    for text in
        [value.trim_end_matches('=').to_owned(), base64::encode_url(&bytes), base64::encode_std(&bytes)]
    {
        assert!(decode_payment_signature(&text).is_ok(), "{text}");
    }
    for text in [format!(" {value}"), format!("{value} "), format!("{value}\n"), "!".to_owned()] {
        assert_eq!(decode_payment_signature(&text), Err(E::Base64), "{text}");
    }
}

#[test]
fn x402_5_refused_table() {
    let payment = vector(V2)["steps"][1]["decoded"]["payment-signature"].clone();
    let text = payment.to_string();
    let header = |json: &str| base64::encode_std(json.as_bytes());
    let deep = text.replacen('{', &format!("{{\"x\":{}1{},", "[".repeat(20), "]".repeat(20)), 1);
    let twice = text.replacen('{', "{\"x402Version\":2,", 1);
    let mut v1_object = payment.clone();
    v1_object["x402Version"] = json!(1);
    let mut no_accepted = payment.clone();
    no_accepted.as_object_mut().unwrap().remove("accepted");
    let mut numeric = payment.clone();
    numeric["accepted"]["amount"] = json!(10_000);
    for (rule, value, expected) in [
        ("X402-5 over 16 KiB", "A".repeat(READ_BYTES_MAX + 1), E::TooLong(READ_BYTES_MAX + 1)),
        ("X402-5 depth", header(&deep), E::Json(JsonError::TooDeep)),
        ("X402-5 duplicate key", header(&twice), E::Json(JsonError::DuplicateKey)),
        ("no JSON", header("hello"), E::Json(JsonError::Syntax)),
        ("empty", String::new(), E::Json(JsonError::Syntax)),
        ("X402-51 v1 in the v2 header", header(&v1_object.to_string()), E::Version { found: 1, expected: 2 }),
        ("accepted missing", header(&no_accepted.to_string()), E::Shape),
        ("amount as a number", header(&numeric.to_string()), E::Shape),
    ] {
        assert_eq!(decode_payment_signature(&value).map(|_| ()), Err(expected), "{rule}");
    }
    let mut v2_in_v1 = vector(V1)["steps"][1]["decoded"]["x-payment"].clone();
    v2_in_v1["x402Version"] = json!(2);
    let refused = decode_x_payment(&header(&v2_in_v1.to_string())).map(|_| ());
    assert_eq!(refused, Err(E::Version { found: 2, expected: 1 }));
}

#[test]
fn unknown_members_are_ignored() {
    let mut payment = vector(V2)["steps"][1]["decoded"]["payment-signature"].clone();
    payment["new"] = json!({"weight": 0.5});
    payment["accepted"]["new"] = json!(1);
    assert!(decode_payment_signature(&base64::encode_std(payment.to_string().as_bytes())).is_ok());
}

/// One strange offer must not hide the others from the paying client.
#[test]
fn a_challenge_with_a_strange_offer_keeps_the_known_ones() {
    let mut challenge = vector(V2)["steps"][0]["decoded"]["payment-required"].clone();
    let offers = challenge["accepts"].as_array_mut().unwrap();
    offers.insert(0, json!({"scheme": "alipay", "anything": true}));
    offers.push(json!("text"));
    let required: v2::PaymentRequired = serde_json::from_value(challenge).unwrap();
    assert_eq!(required.accepts.len(), 1);

    let body = json!({"x402Version": 1, "error": {"message": "pay", "type": "x"}, "accepts": [1], "title": "Payment required"});
    let required: v1::PaymentRequired = serde_json::from_value(body).unwrap();
    assert!(required.accepts.is_empty() && required.error.unwrap().is_object());
}

const PERMIT2_FLOWS: [&str; 3] = [
    include_str!("../../../../specs/vectors/x402/v2_exact_permit2.json"),
    include_str!("../../../../specs/vectors/x402/v2_exact_permit2_no_allowance.json"),
    include_str!("../../../../specs/vectors/x402/v2_upto_permit2.json"),
];

/// Every header, facilitator request and answer of a captured flow reads and writes.
fn same_flow(vector: &Value) {
    for step in vector["steps"].as_array().unwrap() {
        let decoded = &step["decoded"];
        if let Some(required) = decoded.get("payment-required") {
            same::<v2::PaymentRequired>(required);
        }
        if let Some(payment) = decoded.get("payment-signature") {
            same::<v2::PaymentPayload>(payment);
            let header = step["request"]["headers"]["payment-signature"].as_str().unwrap();
            assert_eq!(serde_json::to_value(decode_payment_signature(header).unwrap()).unwrap(), *payment);
        }
        if let Some(response) = decoded.get("payment-response") {
            same::<SettlementResponse>(response);
        }
    }
    for call in vector["facilitator"].as_array().unwrap() {
        same::<facilitator::SettleRequest>(&call["request"]);
        match call["op"].as_str() {
            Some("verify") => same::<facilitator::VerifyResponse>(&call["response"]),
            _ => same::<SettlementResponse>(&call["response"]),
        }
    }
}

#[test]
fn permit2_captured_flows_read_and_write() {
    for text in PERMIT2_FLOWS {
        let vector = vector(text);
        same_flow(&vector);
        let payload = &vector["steps"][1]["decoded"]["payment-signature"]["payload"];
        same::<Permit2Payload>(payload);
        let permit = Permit2Payload::from_value(payload).unwrap().permit().unwrap();
        assert_eq!(ExactPayload::from_value(payload), None);
        // Written anew from values, it is the same object.
        let signature = payload["signature"].as_str().unwrap();
        let signature = crate::hex::decode_0x_array(signature).unwrap();
        let written = Permit2Payload::from_permit(&permit, &signature);
        assert_eq!(serde_json::to_value(written).unwrap(), *payload);
    }
}

/// The answer to a missing allowance is a challenge whose `error` is this code; its status is 412.
#[test]
fn a_missing_permit2_allowance_is_a_challenge_of_its_own() {
    let vector = vector(PERMIT2_FLOWS[1]);
    let answer = &vector["steps"][1]["response"];
    assert_eq!(answer["status"], 412);
    let required: v2::PaymentRequired =
        decode(answer["headers"]["payment-required"].as_str().unwrap()).unwrap();
    assert_eq!(required.error.as_deref(), Some(super::permit2::ALLOWANCE_REQUIRED));
    assert_eq!(required.accepts.len(), 1);
}

/// The handler failed: verified, never settled, and no result header.
#[test]
fn a_failed_handler_reads_and_writes() {
    let vector = vector(include_str!("../../../../specs/vectors/x402/v2_exact_handler_500.json"));
    same_flow(&vector);
    assert_eq!(vector["facilitator"].as_array().unwrap().len(), 1);
    assert_eq!(vector["steps"][1]["response"]["status"], 500);
}

/// The files that the tests of `wire` and `proof` include. One that joins them has to be run, and named here.
#[test]
fn every_vector_file_is_run() {
    let index = vector(include_str!("../../../../specs/vectors/x402/index.json"));
    let files: Vec<&String> = index["files"].as_object().unwrap().keys().collect();
    assert_eq!(
        files,
        [
            "eip712_vectors.json",
            "offer_receipt_vectors.json",
            "siwx_vectors.json",
            "v1_exact_eip3009.json",
            "v2_batch_settlement_claim_settle.json",
            "v2_batch_settlement_deposit.json",
            "v2_batch_settlement_voucher.json",
            "v2_batch_settlement_voucher2.json",
            "v2_exact_eip3009.json",
            "v2_exact_handler_500.json",
            "v2_exact_permit2.json",
            "v2_exact_permit2_no_allowance.json",
            "v2_exact_svm.json",
            "v2_upto_permit2.json",
        ]
    );
}

#[test]
fn a_malformed_permit_is_refused() {
    let vector = vector(PERMIT2_FLOWS[2]);
    let good = &vector["steps"][1]["decoded"]["payment-signature"]["payload"];
    for (member, value) in [
        ("/permit2Authorization/from", json!("0x00")),
        ("/permit2Authorization/permitted/token", json!("USDC")),
        ("/permit2Authorization/permitted/amount", json!("-1")),
        ("/permit2Authorization/permitted/amount", json!("0x4e20")),
        ("/permit2Authorization/spender", json!("")),
        ("/permit2Authorization/nonce", json!("01")),
        ("/permit2Authorization/nonce", json!(1)),
        ("/permit2Authorization/deadline", json!("18446744073709551616")),
        ("/permit2Authorization/deadline", json!(null)),
        ("/permit2Authorization/witness/to", json!("merchant")),
        ("/permit2Authorization/witness/facilitator", json!("0x")),
        ("/permit2Authorization/witness/validAfter", json!("later")),
        ("/permit2Authorization/witness", json!({})),
        ("/signature", json!(7)),
    ] {
        let mut altered = good.clone();
        *altered.pointer_mut(member).unwrap() = value.clone();
        let read = Permit2Payload::from_value(&altered).and_then(|payload| payload.permit());
        assert_eq!(read, None, "{member} = {value}");
    }
    // One nonce, two spellings: the same number.
    let mut hexadecimal = good.clone();
    let nonce = Permit2Payload::from_value(good).unwrap().permit().unwrap().nonce;
    hexadecimal["permit2Authorization"]["nonce"] = json!(crate::hex::encode_0x(&nonce));
    let read = Permit2Payload::from_value(&hexadecimal).unwrap().permit().unwrap();
    assert_eq!(read.nonce, nonce);
}

proptest! {
    #[test]
    fn any_value_is_a_payment_or_an_error(value in "[A-Za-z0-9+/=_-]{0,200}") {
        let _ = decode_payment_signature(&value);
        let _ = decode_x_payment(&value);
    }

    /// One changed byte of a captured payment never panics.
    #[test]
    fn a_changed_byte_is_a_payment_or_an_error(index in 0usize..700, to in any::<u8>()) {
        let mut bytes = base64::decode_any(&request_header(&vector(V2), "payment-signature"), READ_BYTES_MAX).unwrap();
        let at = index % bytes.len();
        bytes[at] = to;
        if let Ok(payment) = decode_payment_signature(&base64::encode_std(&bytes)) {
            let _ = ExactPayload::from_value(&payment.payload).and_then(|payload| payload.evm());
        }
    }
}
