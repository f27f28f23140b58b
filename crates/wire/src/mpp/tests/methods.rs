//! Requests and payloads of each method, in the shape that deployed software writes.

use serde_json::{Value, json};

use super::object;
use crate::mpp::{Opaque, card, credit, evm, lightning, payload, solana, stripe, tempo};

/// Reads a value, writes it again, and expects the same.
fn same<T: serde::Serialize + serde::de::DeserializeOwned>(value: &Value) -> T {
    let read: T = payload::read(&object(value)).unwrap_or_else(|_| panic!("{value}"));
    assert_eq!(Value::Object(payload::write(&read)), *value);
    read
}

#[test]
fn lightning_shapes() {
    same::<lightning::ChargeRequest>(&json!({
        "amount": "1", "currency": "sat", "description": "d", "externalId": "e",
        "methodDetails": {"invoice": "lnbcrt1", "network": "regtest", "paymentHash": "ab"},
    }));
    same::<lightning::SessionRequest>(&json!({
        "amount": "3", "currency": "sat", "unitType": "token", "depositInvoice": "lnbc500n1p",
        "paymentHash": "aa", "depositAmount": "5000", "idleTimeout": "900",
    }));
    for (action, shown) in [
        (json!({"action": "open", "preimage": "aa", "returnInvoice": "lnbc1"}), "SessionPayload(open)"),
        (json!({"action": "bearer", "sessionId": "bb", "preimage": "aa"}), "SessionPayload(bearer)"),
        (json!({"action": "topUp", "sessionId": "bb", "topUpPreimage": "aa"}), "SessionPayload(topUp)"),
        (json!({"action": "close", "sessionId": "bb", "preimage": "aa"}), "SessionPayload(close)"),
    ] {
        assert_eq!(format!("{:?}", same::<lightning::SessionPayload>(&action)), shown);
    }
}

#[test]
fn evm_shapes() {
    same::<evm::ChargeRequest>(&json!({
        "amount": "1", "currency": "0xaa", "recipient": "0xbb",
        "methodDetails": {"chainId": 84532, "credentialTypes": ["authorization"], "decimals": 6},
    }));
    let witness = json!({"challengeHash": "0x00", "externalId": ""});
    for value in [
        json!({"type": "authorization", "from": "0xaa", "to": "0xbb", "value": "1", "validAfter": "0",
            "validBefore": "9", "nonce": "0x00", "signature": "0x11"}),
        json!({"type": "permit2", "permit": {"permitted": [{"token": "0xaa", "amount": "1"}], "nonce": "1",
            "deadline": "9"}, "transferDetails": [{"to": "0xbb", "requestedAmount": "1"}], "witness": witness,
            "signature": "0x11"}),
        json!({"type": "transaction", "transaction": "0x02"}),
        json!({"type": "hash", "hash": "0x03"}),
    ] {
        same::<evm::ChargePayload>(&value);
    }
}

#[test]
fn session_shapes_of_channels() {
    same::<tempo::SessionRequest>(&json!({
        "amount": "25", "unitType": "llm_token", "suggestedDeposit": "10000000", "currency": "0x20", "recipient": "0x74",
        "methodDetails": {"escrowContract": "0x4d", "chainId": 4217, "sessionProtocol": "v2"},
    }));
    for value in [
        json!({"action": "open", "type": "transaction", "channelId": "0x1", "transaction": "0x2",
            "cumulativeAmount": "0", "signature": "0x3"}),
        json!({"action": "topUp", "type": "transaction", "channelId": "0x1", "transaction": "0x2",
            "additionalDeposit": "5"}),
        json!({"action": "voucher", "channelId": "0x1", "cumulativeAmount": "5", "signature": "0x3"}),
        json!({"action": "close", "channelId": "0x1", "cumulativeAmount": "5", "signature": "0x3"}),
    ] {
        same::<tempo::SessionPayload>(&value);
    }
    same::<tempo::ChargePayload>(&json!({"type": "proof", "signature": "0x3"}));
    let voucher = json!({"voucher": {"channelId": "a", "cumulativeAmount": "5"}, "signer": "b", "signature": "c",
        "signatureType": "ed25519"});
    same::<solana::SessionRequest>(&json!({
        "amount": "25", "unitType": "request", "suggestedDeposit": "1000000", "minimumDeposit": "10000",
        "currency": "m", "recipient": "r",
        "methodDetails": {"network": "mainnet", "channelProgram": "p", "recentBlockhash": "h", "recentSlot": "9",
            "decimals": 6, "gracePeriodSeconds": 900},
    }));
    for value in [
        json!({"action": "open", "channelId": "a", "payer": "b", "payee": "c", "mint": "d", "authorizedSigner": "e",
            "salt": "1", "depositAmount": "5", "gracePeriodSeconds": 900, "openSlot": "7", "transaction": "AQ=="}),
        json!({"action": "voucher", "channelId": "a", "voucher": voucher}),
        json!({"action": "use", "channelId": "a"}),
        json!({"action": "topUp", "channelId": "a", "additionalAmount": "5", "transaction": "AQ=="}),
        json!({"action": "close", "channelId": "a", "voucher": voucher}),
    ] {
        same::<solana::SessionPayload>(&value);
    }
    same::<solana::SignedVoucher>(&voucher);
}

#[test]
fn shapes_of_rails_and_of_our_own_method() {
    same::<stripe::ChargeRequest>(&json!({
        "amount": "5000", "currency": "usd",
        "methodDetails": {"networkId": "profile_1", "paymentMethodTypes": ["card"], "metadata": {"a": "b"}},
    }));
    let spt = same::<stripe::ChargePayload>(&json!({"spt": "spt_1", "externalId": "e"}));
    assert_eq!(format!("{spt:?}"), "ChargePayload(token hidden)");
    same::<card::ChargeRequest>(&json!({
        "amount": "5000", "currency": "usd",
        "methodDetails": {"acceptedNetworks": ["visa"], "merchantName": "m", "encryptionJwk": {"kty": "RSA"}},
    }));
    let card = same::<card::ChargePayload>(&json!({
        "encryptedPayload": "a.b.c.d.e", "network": "visa", "panLastFour": "4242", "panExpirationMonth": "06",
        "panExpirationYear": "2034",
    }));
    assert_eq!(format!("{card:?}"), "ChargePayload(visa card, token hidden)");
    same::<credit::SessionRequest>(&json!({
        "amount": "5000000", "currency": "usd", "methodDetails": {"decimals": 9, "asset": "USD"},
    }));
    let key = same::<credit::SessionPayload>(&json!({"token": "fk_live_x"}));
    assert_eq!(format!("{key:?}"), "SessionPayload(token hidden)");
}

/// Members of another type are not read, whatever the method.
#[test]
fn other_types_are_refused() {
    assert!(payload::read::<stripe::ChargePayload>(&object(&json!({"spt": 1}))).is_err());
    assert!(payload::read::<lightning::ChargePayload>(&object(&json!({}))).is_err());
    assert!(payload::read::<evm::ChargePayload>(&object(&json!({"type": "gift"}))).is_err());
    assert!(
        payload::read::<lightning::SessionPayload>(&object(&json!({"action": "open", "preimage": "aa"})))
            .is_err()
    );
}

/// MPP-5.
#[test]
fn mpp_5_what_our_challenges_carry() {
    let opaque = Opaque {
        store_epoch: 7,
        key_epoch: 3,
        route: "chat".into(),
        prices: "2026-11".into(),
        quote: Some("q1.x".into()),
        credit: None,
    };
    let text = opaque.encode();
    let json = String::from_utf8(crate::base64::decode_url(&text, 200).unwrap()).unwrap();
    assert_eq!(json, r#"{"ep":"7.3","px":"2026-11","q":"q1.x","rt":"chat"}"#);
    assert_eq!(Opaque::decode(&text), Ok(opaque.clone()));
    let credited = Opaque { credit: Some(50_000_000), ..opaque.clone() };
    assert_eq!(Opaque::decode(&credited.encode()), Ok(credited));
    let without = Opaque { quote: None, ..opaque };
    assert_eq!(Opaque::decode(&without.encode()), Ok(without));
    for other in [
        r#"{"ep":"7","rt":"a","px":"b"}"#,
        r#"{"ep":"7.x","rt":"a","px":"b"}"#,
        r#"{"ep":"7.3","px":"b"}"#,
        r#"{"ep":"7.3","rt":"a","px":1}"#,
        r#"{"ep":"7.3","rt":"a","px":"b","q":1}"#,
        r#"{"ep":"7.70000","rt":"a","px":"b"}"#,
        r#"{"cr":"x","ep":"7.3","rt":"a","px":"b"}"#,
        r#"{"cr":5,"ep":"7.3","rt":"a","px":"b"}"#,
        "[]",
        "x",
    ] {
        assert!(Opaque::decode(&crate::base64::encode_url(other.as_bytes())).is_err(), "{other}");
    }
}
