//! A payment becomes a deposit, the call draws on it, the change stays with the payer: test rail, both
//! versions of the protocol.

use farthing_tests::gateway::{Gateway, nano};
use farthing_tests::http::{self, Answer};
use farthing_tests::payer::{Payment, TEST, Wallet, challenge, decode};
use farthing_tests::refused::assert_refused;
use farthing_tests::upstream::{FRIENDLY_COST, Upstream, plain};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

fn ask(text: &str) -> Value {
    json!({"model": "m", "max_tokens": 1000, "messages": [{"role": "user", "content": text}]})
}

fn unpaid(gateway: &Gateway, path: &str, body: &Value) -> Answer {
    let answer = http::post(gateway.address, path, &[], body);
    assert_refused(&answer, 402, "payment_required", "nothing_taken");
    answer
}

fn pay_v2(gateway: &Gateway, path: &str, payment: &Payment, body: &Value) -> Answer {
    http::post(gateway.address, path, &[("payment-signature", &payment.v2())], body)
}

fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

/// X402-6.
#[test]
fn unpaid_call_gets_every_offer_in_both_versions_and_both_shapes() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    for (path, error_type) in
        [(CHAT, "payment_required"), ("/v1/responses", "payment_required"), (MESSAGES, "billing_error")]
    {
        let mut body = ask("hi");
        body["input"] = json!("hi");
        let answer = unpaid(&gateway, path, &body);
        let v2 = challenge(&answer);
        let v1 = answer.json();
        assert_eq!(v1["error"]["type"], error_type, "{path}");
        assert_eq!(v2["x402Version"], 2);
        assert_eq!(v2["resource"]["url"], format!("http://{}{path}", gateway.address));
        let (two, one) = (&v2["accepts"][0], &v1["accepts"][0]);
        assert_eq!((&two["scheme"], &two["network"]), (&json!("exact"), &json!(TEST)));
        assert_eq!((&one["scheme"], &one["network"]), (&json!("exact"), &json!("farthing-test")));
        assert_eq!(two["amount"], one["maxAmountRequired"]);
        assert_eq!(two["payTo"], one["payTo"]);
        assert_eq!(one["resource"], v2["resource"]["url"]);
        let need = &v1["error"]["need"];
        let need = if need.is_null() { &v1["error"]["details"]["need"] } else { need };
        assert_eq!(nano(need).to_string(), two["amount"].as_str().unwrap(), "what is said is what is asked");
    }
    assert_eq!(upstream.hits(), 0);
    assert_eq!(gateway.books().entries.len(), 0);
}

#[test]
fn paid_call_is_served_and_the_change_can_be_spent() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    for (wallet, (path, v1)) in [(CHAT, false), (MESSAGES, false), (CHAT, true)].into_iter().enumerate() {
        let wallet = Wallet::new(u8::try_from(wallet + 1).unwrap());
        let body = ask("hi");
        let payment = wallet.pay(&unpaid(&gateway, path, &body), TEST);
        let (name, value, result) = if v1 {
            ("x-payment", payment.v1(), "x-payment-response")
        } else {
            ("payment-signature", payment.v2(), "payment-response")
        };
        let answer = http::post(gateway.address, path, &[(name, &value)], &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let settled = decode(answer.header(result).unwrap());
        assert_eq!(settled["success"], true);
        assert_eq!(settled["network"], if v1 { "farthing-test" } else { TEST });
        assert_eq!(settled["payer"], payment.payload["authorization"]["from"]);
        assert!(answer.header("farthing-receipt").unwrap().starts_with("req_"));

        let key = answer.header("farthing-key").unwrap().to_owned();
        assert!(key.starts_with("fk_test_"));
        assert_eq!(gateway.settled_balance(&key), payment.nano() - FRIENDLY_COST);
        let again = http::post(gateway.address, path, &[("authorization", &bearer(&key))], &body);
        assert_eq!(again.status, 200, "{}", again.text());
        assert_eq!(again.header("farthing-key"), None, "a key is handed out once");
        assert_eq!(gateway.settled_balance(&key), payment.nano() - 2 * FRIENDLY_COST);
    }
    assert_eq!(upstream.hits(), 6);
    let books = gateway.books_after(6);
    assert_eq!((books.count("deposit"), books.count("capture")), (3, 6));
}

#[test]
fn one_payment_in_both_versions_is_one_deposit() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let body = ask("hi");
    let payment = Wallet::new(1).pay(&unpaid(&gateway, CHAT, &body), TEST);
    let first = http::post(gateway.address, CHAT, &[("x-payment", &payment.v1())], &body);
    assert_eq!(first.status, 200, "{}", first.text());
    let key = first.header("farthing-key").unwrap();
    gateway.settled_balance(key);
    let second = farthing_tests::gateway::wait_for("the first call's record", || {
        let answer = pay_v2(&gateway, CHAT, &payment, &body);
        (answer.status != 409).then_some(answer)
    });
    assert_eq!(second.status, 200);
    assert_eq!(second.header("farthing-replayed"), Some("true"));
    assert_eq!(second.body, first.body);
    assert_eq!(upstream.hits(), 1);
    assert_eq!(gateway.settled_balance(key), payment.nano() - FRIENDLY_COST);
    assert_eq!(gateway.books_after(1).count("deposit"), 1);
}

#[test]
fn payment_beside_a_key_tops_up_the_account_of_the_key() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let body = ask("hi");
    // A key that has something, and one that nobody has paid into yet.
    let funded = gateway.key("0.001 TEST");
    let empty = gateway.operator(&["key", "new"])["key"].as_str().unwrap().to_owned();
    for (key, before) in [(funded, 1_000_000), (empty, 0)] {
        let refused = http::post(gateway.address, CHAT, &[("authorization", &bearer(&key))], &body);
        assert_refused(&refused, 402, "insufficient_balance", "nothing_taken");
        assert_eq!(nano(&refused.json()["balance"]["amount"]), before);
        let payment = Wallet::new(9).pay(&refused, TEST);
        let fields = [("authorization", bearer(&key)), ("payment-signature", payment.v2())];
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let paid = http::post(gateway.address, CHAT, &fields, &body);
        assert_eq!(paid.status, 200, "{}", paid.text());
        assert_eq!(paid.header("farthing-key"), None, "the payer has a key already");
        assert!(paid.header("payment-response").is_some());
        assert_eq!(gateway.settled_balance(&key), before + payment.nano() - FRIENDLY_COST);
    }
    assert_eq!(upstream.hits(), 2);
}

#[test]
fn top_up_sells_balance_alone() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let target = "/farthing/topup?amount=0.25";
    let offer = http::request(gateway.address, "POST", target, &[], b"");
    assert_refused(&offer, 402, "payment_required", "nothing_taken");
    let payment = Wallet::new(1).pay(&offer, TEST);
    assert_eq!(payment.nano(), 250_000_000);
    let header = payment.v2();
    let fields = [("payment-signature", header.as_str())];
    let paid = http::request(gateway.address, "POST", target, &fields, b"");
    assert_eq!(paid.status, 200, "{}", paid.text());
    assert_eq!(nano(&paid.json()["deposited"]["amount"]), 250_000_000);
    let key = paid.header("farthing-key").unwrap().to_owned();
    assert_eq!(gateway.balance(&key), (250_000_000, 0));

    // Into the account of a key: no other key comes back.
    let payment = Wallet::new(2).pay(&offer, TEST);
    let (header, bearer) = (payment.v2(), bearer(&key));
    let fields = [("payment-signature", header.as_str()), ("authorization", bearer.as_str())];
    let paid = http::request(gateway.address, "POST", target, &fields, b"");
    assert_eq!((paid.status, paid.header("farthing-key")), (200, None), "{}", paid.text());
    assert_eq!(gateway.balance(&key), (500_000_000, 0));

    for bad in ["0", "-1", "1000.000000001", "1001", "1,5", "", "0.0000000001"] {
        let target = format!("/farthing/topup?amount={bad}");
        let refused = http::request(gateway.address, "POST", &target, &[], b"");
        assert_refused(&refused, 400, "bad_request", "nothing_taken");
    }
    assert_eq!(upstream.hits(), 0);
    assert_eq!(gateway.books().count("deposit"), 2);
}

#[test]
fn deposit_survives_an_upstream_that_fails_and_serves_the_same_request_later() {
    // Each way to fail before the first byte of an answer.
    type Failure = (&'static str, u16, &'static str, fn() -> Vec<u8>);
    let failures: [Failure; 7] = [
        ("500", 500, "", || plain(500, "application/json", r#"{"error":{"message":"broken"}}"#)),
        ("429", 429, "", || plain(429, "application/json", r#"{"error":{"message":"busy"}}"#)),
        ("error in a 200", 200, "", || plain(200, "application/json", r#"{"error":{"message":"broken"}}"#)),
        ("401", 502, "upstream_failed", || plain(401, "application/json", "{}")),
        ("402", 502, "upstream_failed", || plain(402, "application/json", r#"{"accepts":[]}"#)),
        ("403", 502, "upstream_failed", || plain(403, "application/json", "{}")),
        ("reset before the head", 502, "upstream_failed", Vec::new),
    ];
    for (what, status, code, failure) in failures {
        let fails = std::sync::atomic::AtomicBool::new(true);
        let upstream = Upstream::start(move |request, stream| {
            use std::io::Write as _;
            let bytes = if fails.swap(false, std::sync::atomic::Ordering::SeqCst) {
                failure()
            } else {
                farthing_tests::upstream::friendly_answer(request)
            };
            let _ = stream.write_all(&bytes);
        });
        let gateway = Gateway::start(upstream.address, "");
        let body = ask("hi");
        let payment = Wallet::new(1).pay(&unpaid(&gateway, CHAT, &body), TEST);
        let failed = pay_v2(&gateway, CHAT, &payment, &body);
        assert_eq!(failed.status, status, "{what}: {}", failed.text());
        if code.is_empty() {
            // A 200 has promised one before its body said otherwise.
            assert!(
                status == 200 || failed.header("farthing-receipt").is_none(),
                "{what}: no receipt for nothing"
            );
        } else {
            assert_refused(&failed, status, code, "deposit_kept");
        }
        let settled = decode(failed.header("payment-response").unwrap());
        assert_eq!(settled["success"], true, "{what}");
        let key = failed.header("farthing-key").unwrap_or_else(|| panic!("{what}: no key")).to_owned();
        assert_eq!(gateway.settled_balance(&key), payment.nano(), "{what}");

        let served = pay_v2(&gateway, CHAT, &payment, &body);
        assert_eq!(served.status, 200, "{what}: {}", served.text());
        assert_eq!(served.header("farthing-key"), None, "{what}");
        assert_eq!(gateway.settled_balance(&key), payment.nano() - FRIENDLY_COST, "{what}");
        assert_eq!(upstream.hits(), 2, "{what}");
        let books = gateway.books_after(1);
        assert_eq!((books.count("deposit"), books.count("capture")), (1, 1), "{what}");
    }
}

#[test]
fn deposit_survives_an_upstream_that_is_down() {
    let gateway = Gateway::start(farthing_tests::gateway::free_address(), "");
    for path in [CHAT, MESSAGES] {
        let body = ask("hi");
        let wallet = Wallet::new(if path == CHAT { 1 } else { 2 });
        let payment = wallet.pay(&unpaid(&gateway, path, &body), TEST);
        let failed = pay_v2(&gateway, path, &payment, &body);
        assert_refused(&failed, 502, "upstream_failed", "deposit_kept");
        let key = failed.header("farthing-key").unwrap();
        assert_eq!(gateway.settled_balance(key), payment.nano());
    }
    assert_eq!(gateway.books().count("deposit"), 2);
}

/// A limit is looked at before money moves, be it one of the account or of the key beside the payment.
#[test]
fn limits_come_before_money() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "limits: { default: { rpm: 1 } }\n");
    let body = ask("hi");
    let payment = Wallet::new(1).pay(&unpaid(&gateway, CHAT, &body), TEST);
    let served = pay_v2(&gateway, CHAT, &payment, &body);
    assert_eq!(served.status, 200, "{}", served.text());
    let before = gateway.settled_balance(served.must("farthing-key"));
    let payment = Wallet::new(1).pay(&unpaid(&gateway, CHAT, &body), TEST);
    let refused = pay_v2(&gateway, CHAT, &payment, &body);
    assert_refused(&refused, 429, "rate_limited", "nothing_taken");
    assert_eq!(gateway.settled_balance(served.must("farthing-key")), before);
    assert_eq!(gateway.books().count("deposit"), 1);

    let small = gateway.operator(&["key", "new", "--budget", "0.000001 TEST"]);
    let bearer = bearer(small["key"].as_str().unwrap());
    let header = Wallet::new(2).pay(&unpaid(&gateway, CHAT, &body), TEST).v2();
    let fields = [("authorization", bearer.as_str()), ("payment-signature", header.as_str())];
    let refused = http::post(gateway.address, CHAT, &fields, &body);
    assert_refused(&refused, 402, "over_token_budget", "nothing_taken");
    assert_eq!((upstream.hits(), gateway.books().count("deposit")), (1, 1));
    // The proof is as good as new, for whoever may spend it.
    let served = http::post(gateway.address, CHAT, &[("payment-signature", header.as_str())], &body);
    assert_eq!(served.status, 200, "{}", served.text());
}
