//! `farthing explain`: every bill can be computed again from what was written down, equal to the nano; one that
//! cannot is told loudly.

use std::io::Write as _;

use farthing_tests::gateway::{Gateway, nano};
use farthing_tests::http;
use farthing_tests::payer::{TEST, Wallet};
use farthing_tests::upstream::{STREAM_HEAD, Upstream, plain};
use redb::{Database, ReadableTable as _, TableDefinition};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

/// What a call was about, and its bill.
type Served = (&'static str, String, i64);

fn ask(max_tokens: u64) -> Value {
    json!({"model": "m", "max_tokens": max_tokens, "messages": [{"role": "user", "content": "hi"}]})
}

/// Runs the command; its answer, and its exit code.
fn explain(gateway: &Gateway, call: &str) -> (Value, Option<i32>, String) {
    let output = gateway.command(&["explain", call, "--json"]);
    let told = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (told, output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// An upstream that reports, keeps silent or exaggerates, as the request asks in its `user` member.
fn upstream() -> Upstream {
    Upstream::start(|request, stream| {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let usage = match body["user"].as_str() {
            Some("cached") => {
                json!({"prompt_tokens": 100, "completion_tokens": 33, "total_tokens": 133,
                       "prompt_tokens_details": {"cached_tokens": 77}, "completion_tokens_details": {"reasoning_tokens": 11}})
            }
            Some("huge") => {
                json!({"prompt_tokens": 10, "completion_tokens": 1_000_000, "total_tokens": 1_000_010})
            }
            Some("over") => json!({"prompt_tokens": 10, "completion_tokens": 1200, "total_tokens": 1210}),
            Some("silent") => Value::Null,
            _ => json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}),
        };
        let answer = if body["stream"] == true {
            let event = json!({"choices": [{"index": 0, "delta": {"content": "x".repeat(400)}}]});
            let last = json!({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 9_000, "total_tokens": 9_010}});
            let events = format!("data: {event}\n\n").repeat(100);
            format!("{STREAM_HEAD}{events}data: {last}\n\ndata: [DONE]\n\n").into_bytes()
        } else {
            let mut document = json!({"object": "chat.completion", "model": "m",
                "choices": [{"index": 0, "message": {"role": "assistant", "content": "five words are said here"}}]});
            if !usage.is_null() {
                document["usage"] = usage;
            }
            plain(200, "application/json", &document.to_string())
        };
        let _ = stream.write_all(&answer);
    })
}

/// Calls of every kind of bill, all settled.
fn served(gateway: &Gateway) -> Vec<Served> {
    let mut served = Vec::new();
    let cases = [
        ("plain", "1 TEST", 5),
        ("cached", "1 TEST", 50),
        ("silent", "1 TEST", 50),
        ("huge", "0.02 TEST", 1000),
        ("over", "0.0046 TEST", 800),
        ("clamped", "0.003 TEST", 90_000),
    ];
    for (what, credit, max_tokens) in cases {
        let key = gateway.key(credit);
        let mut body = ask(max_tokens);
        body["user"] = what.into();
        let before = gateway.balance(&key).0;
        let answer = http::post(gateway.address, CHAT, &[("x-api-key", &key)], &body);
        assert_eq!(answer.status, 200, "{what}: {}", answer.text());
        assert_eq!(answer.header("farthing-clamped").is_some(), what == "clamped");
        let cost = before - gateway.settled_balance(&key);
        served.push((what, answer.must("farthing-request-id").to_owned(), cost));
    }
    let key = gateway.key("1 TEST");
    let mut body = ask(20_000);
    body["stream"] = true.into();
    let answer = http::post(gateway.address, CHAT, &[("x-api-key", &key)], &body);
    let cost = 1_000_000_000 - gateway.settled_balance(&key);
    served.push(("grown", answer.must("farthing-request-id").to_owned(), cost));
    let payment = Wallet::new(3).pay(&http::post(gateway.address, CHAT, &[], &ask(5)), TEST);
    let paid = http::post(gateway.address, CHAT, &[("payment-signature", &payment.v2())], &ask(5));
    let cost = payment.nano() - gateway.settled_balance(paid.must("farthing-key"));
    served.push(("paid", paid.must("farthing-request-id").to_owned(), cost));
    served
}

#[test]
fn every_bill_is_computed_again() {
    let upstream = upstream();
    let prices = "prices: { models: { m: { input: 1.0000001 USD/Mtok, output: 4 USD/Mtok, cache_read: 0.1 USD/Mtok, reasoning: 5 USD/Mtok, per_call: 0.00001 USD } }, markup: 2.5% }\n";
    let mut gateway = Gateway::start(upstream.address, prices);
    let calls = served(&gateway);
    gateway.books_after(calls.len());
    for stopped in [false, true] {
        if stopped {
            gateway.signal(15);
            assert!(gateway.wait().success());
        }
        for (what, call, cost) in &calls {
            let (told, code, errors) = explain(&gateway, call);
            assert_eq!((code, &told["agrees"]), (Some(0), &json!(true)), "{what}: {told} {errors}");
            assert_eq!(nano(&told["charged"]["amount"]), *cost, "{what}");
            assert_eq!(told["call"], call.as_str());
            assert_eq!(
                (&told["markup_bp"], &told["estimated"]),
                (&json!(250), &json!(*what == "silent")),
                "{what}"
            );
            assert_eq!(told["price_version"].as_str().unwrap().len(), 64);
            let (first, last) = (nano(&told["held_first"]["amount"]), nano(&told["held"]["amount"]));
            assert_eq!(last > first, *what == "grown", "{what}: {first} {last}");
            assert_eq!(told["max_tokens_set"].is_u64(), *what == "clamped", "{what}");
            assert_eq!(nano(&told["overrun"]["amount"]) > 0, *what == "over", "{what}");
            assert_eq!(told["capped_at"].is_object(), *what == "huge", "{what}");
            assert!(
                told["lsn"].is_u64() && told["entry_hash"].is_string() && told["balance_after"].is_object()
            );
            assert_eq!(told["payment"].is_object(), *what == "paid");
            // As the ledger shows it.
            let bare = call.strip_prefix("req_").unwrap();
            assert_eq!(explain(&gateway, bare).0, told);
        }
        let (cached, ..) = explain(&gateway, &calls[1].1);
        let buckets: Vec<_> = cached["lines"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| (&line["bucket"], &line["quantity"]))
            .collect();
        assert_eq!(
            json!(buckets),
            json!([["call", 1], ["input", 23], ["cache_read", 77], ["output", 22], ["reasoning", 11]])
        );
        assert_eq!(cached["sum"]["amount"], "0.0001837000023");
        assert_eq!(cached["cost"]["amount"], "0.000188292502358");
        assert_eq!(cached["charged"]["amount"], "0.000188293");
        assert_eq!(cached["rounding"]["amount"], "0.000000000497642");
        for absent in [&format!("req_{}", "ab".repeat(16)), "nonsense"] {
            assert_eq!(explain(&gateway, absent).1, Some(2), "{absent}");
        }
    }
}

/// A row of the store that somebody changed is found, and said so with the exit code of a finding.
#[test]
fn a_changed_bill_is_told_loudly() {
    const JOURNAL: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("journal");
    let upstream = upstream();
    let mut gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    let answer = http::post(gateway.address, CHAT, &[("x-api-key", &key)], &ask(5));
    let call = answer.must("farthing-request-id");
    gateway.settled_balance(&key);
    gateway.books_after(1);
    gateway.signal(15);
    assert!(gateway.wait().success());
    {
        let database = Database::open(gateway.folder().join("store/farthing.redb")).unwrap();
        let write = database.begin_write().unwrap();
        {
            let mut table = write.open_table(JOURNAL).unwrap();
            let rows: Vec<(u64, Vec<u8>)> = table
                .iter()
                .unwrap()
                .map(|row| row.map(|(lsn, row)| (lsn.value(), row.value().to_vec())).unwrap())
                .collect();
            // The quantity of a line, which is a number of one byte.
            let packed = |quantity| [store::Fact::Quantity as u8, 3, quantity];
            let (said, says) = (packed(5), packed(6));
            let mut changes = 0;
            for (lsn, mut row) in rows {
                while let Some(at) = row.windows(said.len()).position(|part| part == said) {
                    row[at..at + said.len()].copy_from_slice(&says);
                    changes += 1;
                }
                table.insert(lsn, row.as_slice()).unwrap();
            }
            assert_eq!(changes, 1);
        }
        write.commit().unwrap();
    }
    let (told, code, errors) = explain(&gateway, call);
    assert_eq!((code, &told["agrees"]), (Some(1), &json!(false)), "{told}");
    assert!(errors.contains("THE BILL DOES NOT AGREE"), "{errors}");
    assert_eq!(told["differences"].as_array().map(Vec::len), Some(2), "{told}");
}

/// MTR-53: a receipt says what the payer was sold, and its lines come to what was charged; what the operator pays
/// and adds is his.
#[test]
fn a_receipt_has_selling_prices() {
    let upstream = upstream();
    let prices = "prices: { models: { m: { input: 1 USD/Mtok, output: 4 USD/Mtok } }, markup: 20% }\n";
    let gateway = Gateway::start(upstream.address, prices);
    let key = gateway.key("1 TEST");
    let answer = http::post(gateway.address, CHAT, &[("x-api-key", &key)], &ask(5));
    let call = answer.must("farthing-receipt");
    assert_eq!(gateway.settled_balance(&key), 1_000_000_000 - 36_000);
    let bearer = format!("Bearer {key}");
    let receipt =
        http::get(gateway.address, &format!("/farthing/receipts/{call}"), &[("authorization", &bearer)]);
    let payload = receipt.text().split('.').nth(1).map(ToOwned::to_owned).unwrap();
    let facts: Value =
        serde_json::from_slice(&wire::base64::decode_any(&payload, 64 * 1024).unwrap()).unwrap();
    assert_eq!(facts["charged"]["amount"], "0.000036000");
    assert_eq!(
        facts["lines"],
        json!([
            {"bucket": "input", "quantity": 10, "rate": {"amount": "0.0000012", "currency": "USD"}},
            {"bucket": "output", "quantity": 5, "rate": {"amount": "0.0000048", "currency": "USD"}},
        ])
    );
    assert_eq!(facts["cost_femto_usd"], "36000000000");
    assert!(!receipt.text().contains("markup") && facts["markup_bp"].is_null());
}
