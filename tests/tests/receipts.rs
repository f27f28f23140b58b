//! Receipts: signed, true to the journal, without a secret, and there for nobody but the account's own.

use farthing_tests::gateway::{Gateway, nano};
use farthing_tests::http;
use farthing_tests::payer::{BASE_SEPOLIA, TEST, Wallet};
use farthing_tests::refused::assert_refused;
use farthing_tests::upstream::{FRIENDLY_COST, Upstream};
use proof::credit_key::attenuate;
use proof::receipt;
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

fn ask() -> Value {
    json!({"model": "m", "max_tokens": 1000, "messages": [{"role": "user", "content": "a secret prompt"}]})
}

fn fetch(gateway: &Gateway, id: &str, key: &str) -> http::Answer {
    http::get(gateway.address, &format!("/farthing/receipts/{id}"), &[("x-api-key", key)])
}

#[test]
fn receipt_says_what_was_paid_used_and_charged() {
    let upstream = Upstream::friendly();
    let facilitator = farthing_tests::facilitator::Facilitator::start([]);
    let rails = farthing_tests::facilitator::Facilitator::rails(&[facilitator.address]);
    let mut gateway = Gateway::start(upstream.address, &rails);
    for network in [TEST, BASE_SEPOLIA] {
        let offered = http::post(gateway.address, CHAT, &[], &ask());
        let payment = Wallet::new(1).pay(&offered, network);
        let paid = http::post(gateway.address, CHAT, &[("payment-signature", &payment.v2())], &ask());
        let (key, id) = (paid.must("farthing-key").to_owned(), paid.must("farthing-receipt").to_owned());
        assert_eq!(paid.must("farthing-request-id"), id);

        let signed = fetch(&gateway, &id, &key);
        assert_eq!((signed.status, signed.header("cache-control")), (200, Some("no-store")));
        assert_eq!(signed.header("content-type"), Some("application/jose"));
        let keys = http::get(gateway.address, "/.well-known/farthing-keys.json", &[]);
        let keys: wire::jws::Jwks = serde_json::from_slice(&keys.body).unwrap();
        let facts: Value = receipt::verify(&signed.text(), &keys).unwrap();
        assert_eq!(facts["call"], id.as_str());
        assert_eq!(facts["charged"]["amount"], "0.000030000");
        assert_eq!(facts["charged"]["currency"], if network == TEST { "TEST" } else { "USDC" });
        assert_eq!(nano(&facts["balance_after"]["amount"]), payment.nano() - FRIENDLY_COST);
        assert_eq!(nano(&facts["payment"]["deposited"]["amount"]), payment.nano());
        assert_eq!(facts["payment"]["network"], network);
        assert_eq!(
            (&facts["usage"]["input_total"], &facts["usage"]["output_total"]),
            (&json!(10), &json!(5))
        );
        assert_eq!((&facts["basis"], &facts["estimated"]), (&json!("reported"), &json!(false)));
        assert_eq!((&facts["route"], &facts["model"]), (&json!(CHAT), &json!("m")));
        // The lines sum to the charge.
        let femto = |rate: &Value| {
            assert_eq!(rate["currency"], "USD");
            money::Decimal::parse(rate["amount"].as_str().unwrap()).unwrap().exact(15).unwrap()
        };
        let lines = facts["lines"].as_array().unwrap().iter();
        let sum: u128 =
            lines.map(|line| u128::from(line["quantity"].as_u64().unwrap()) * femto(&line["rate"])).sum();
        assert_eq!(facts["cost_femto_usd"], sum.to_string());
        // The journal has it where it says.
        let books = gateway.books();
        let entry = books.entries.iter().find(|entry| entry["lsn"] == facts["lsn"]).unwrap();
        assert_eq!(format!("req_{}", entry["id"].as_str().unwrap()), id);
        // Nothing of what was said, and no key.
        let text = facts.to_string();
        for canary in
            ["fk_test", "secret prompt", "five words", payment.payload["signature"].as_str().unwrap()]
        {
            assert!(!text.contains(canary), "{canary}");
        }
        // The same after a crash.
        gateway.crash_and_restart();
        let again: Value = receipt::verify(&fetch(&gateway, &id, &key).text(), &keys).unwrap();
        assert_eq!(again, facts);
    }
    let file = gateway.store_file();
    for canary in ["secret prompt", "five words are", "fk_test_"] {
        assert!(!file.contains(canary) && !gateway.log().contains(canary), "{canary}");
    }
}

/// ledger.md 8.3: the entry of a receipt is in the journal that the gateway has signed.
#[test]
fn the_entry_of_a_receipt_is_proven_to_be_in_the_signed_journal() {
    let upstream = Upstream::friendly();
    let mut gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    let ids: Vec<String> = (0..5)
        .map(|_| {
            http::post(gateway.address, CHAT, &[("x-api-key", &key)], &ask())
                .must("farthing-receipt")
                .to_owned()
        })
        .collect();
    let keys = http::get(gateway.address, "/.well-known/farthing-keys.json", &[]);
    let keys: wire::jws::Jwks = serde_json::from_slice(&keys.body).unwrap();
    let mut sizes = Vec::new();
    for restarted in [false, true] {
        if restarted {
            gateway.crash_and_restart();
        }
        for id in &ids {
            let facts: Value = receipt::verify(&fetch(&gateway, id, &key).text(), &keys).unwrap();
            let proof = fetch(&gateway, &format!("{id}/proof"), &key);
            assert_eq!(proof.status, 200, "{}", proof.text());
            let proof = proof.json();
            let hex = |value: &Value| wire::hex::decode(value.as_str().unwrap()).unwrap();
            let entry = ledger::Entry::parse(&hex(&proof["entry"])).unwrap();
            assert_eq!((facts["lsn"].as_u64(), &facts["leaf"]), (Some(entry.lsn), &proof["leaf"]));
            let leaf = ledger::merkle::leaf_hash(&hex(&proof["entry"]));
            assert_eq!(hex(&proof["leaf"]), leaf);
            let head = &proof["head"];
            let number = |value: &Value| value.as_u64().unwrap();
            let signed = ledger::TreeHead {
                store_id: hex(&head["store_id"]).try_into().unwrap(),
                epoch: number(&head["epoch"]),
                size: number(&head["size"]),
                root: hex(&head["root"]).try_into().unwrap(),
                last_hash: hex(&head["last_hash"]).try_into().unwrap(),
                time_ms: number(&head["time_ms"]),
            };
            let path: Vec<[u8; 32]> =
                proof["path"].as_array().unwrap().iter().map(|node| hex(node).try_into().unwrap()).collect();
            let index = number(&proof["leaf_index"]);
            assert!(ledger::merkle::verify_inclusion(&leaf, index, signed.size, &path, &signed.root));
            assert!(!ledger::merkle::verify_inclusion(&leaf, index + 1, signed.size, &path, &signed.root));
            let public = keys.keys.iter().find(|known| head["kid"] == known.kid).unwrap().public().unwrap();
            let signature: [u8; 64] = hex(&head["signature"]).try_into().unwrap();
            proof::tree_head::verify(&public, &signed, &signature).unwrap();
            sizes.push(signed.size);
        }
    }
    assert!(sizes.is_sorted(), "a later head is never smaller: {sizes:?}");
    let other = gateway.key("1 TEST");
    assert_refused(
        &fetch(&gateway, &format!("{}/proof", ids[0]), &other),
        404,
        "receipt_not_found",
        "nothing_taken",
    );
}

/// To everybody else a receipt does not exist.
#[test]
fn foreign_receipt_is_like_an_absent_one() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let (key, stranger) = (gateway.key("1 TEST"), gateway.key("1 TEST"));
    let paid = http::post(gateway.address, CHAT, &[("x-api-key", &key)], &ask());
    let id = paid.must("farthing-receipt").to_owned();
    assert_eq!(fetch(&gateway, &id, &key).status, 200);
    // Whoever holds any key of the account.
    assert_eq!(fetch(&gateway, &id, &attenuate(&key, "models=x").unwrap()).status, 200);
    let body = |answer: &http::Answer| {
        let mut body = answer.json();
        body["request_id"] = Value::Null;
        body["instance"] = Value::Null;
        body
    };
    let absent = fetch(&gateway, &format!("req_{}", "ab".repeat(16)), &stranger);
    assert_refused(&absent, 404, "receipt_not_found", "nothing_taken");
    let foreign = fetch(&gateway, &id, &stranger);
    assert_refused(&foreign, 404, "receipt_not_found", "nothing_taken");
    assert_eq!(body(&foreign), body(&absent));
    let garbage = fetch(&gateway, "req_%41", &key);
    assert_eq!(body(&garbage), body(&absent));
    let nobody = http::get(gateway.address, &format!("/farthing/receipts/{id}"), &[]);
    assert_refused(&nobody, 401, "key_unknown", "nothing_taken");
}
