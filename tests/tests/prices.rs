//! What a call costs can be known before it, while it runs and after it, and it is always the same figure.

use farthing_tests::gateway::{Gateway, nano};
use farthing_tests::http::{self, Answer};
use farthing_tests::payer::{TEST, Wallet, challenge};
use farthing_tests::refused::assert_refused;
use farthing_tests::upstream::{FRIENDLY_COST, Upstream};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

fn ask(max_tokens: u64) -> Value {
    json!({"model": "m", "max_tokens": max_tokens, "messages": [{"role": "user", "content": "hi"}]})
}

fn quote(gateway: &Gateway, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    http::post(gateway.address, &format!("/farthing/quote?path={path}"), headers, body)
}

/// Offers without what is different in each: the quote that is minted with them.
fn offers(offered: &Value) -> Vec<Value> {
    let mut all = offered["accepts"].as_array().cloned().unwrap_or_default();
    all.iter_mut().for_each(|offer| offer["extra"]["quote"] = Value::Null);
    all
}

#[test]
fn a_quote_says_what_the_402_would_and_takes_nothing() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    for path in [CHAT, MESSAGES] {
        let told = quote(&gateway, path, &[], &ask(1000));
        assert_eq!(told.status, 200, "{}", told.text());
        assert_eq!(told.header("cache-control"), Some("no-store"));
        let refused = http::post(gateway.address, path, &[], &ask(1000));
        assert_refused(&refused, 402, "payment_required", "nothing_taken");
        let (body, problem) = (told.json(), refused.json());
        assert_eq!(offers(&body), offers(&problem));
        assert_eq!(offers(&body["payment_required"]), offers(&challenge(&refused)));
        assert_eq!(offers(&challenge(&told)), offers(&challenge(&refused)), "the header too");
        let amount = body["accepts"][0]["maxAmountRequired"].as_str().unwrap();
        // An offer covers a byte for each token: what is not used of that is balance.
        let asked = amount.parse::<i64>().unwrap() - nano(&body["ceiling"]["amount"]);
        let body_bytes = i64::try_from(ask(1000).to_string().len()).unwrap();
        assert_eq!(asked, body_bytes / 2 * 1000);
        assert_eq!(
            (&body["model"], &body["route"], &body["method"]),
            (&json!("m"), &json!(path), &json!("POST"))
        );
        assert_eq!((&body["output_tokens_max"], &body["choices"]), (&json!(1000), &json!(1)));
        let input = body["input_tokens_max"].as_i64().unwrap();
        assert_eq!(nano(&body["ceiling"]["amount"]), input * 1000 + 1000 * 4000);
        let rates = body["rates"].as_array().unwrap();
        assert_eq!(
            rates[0],
            json!({"bucket": "input", "unit": "token", "amount": "0.000001", "currency": "USD", "rule": "list price"})
        );
        assert_eq!(rates[1]["amount"], "0.000004");
        assert_eq!(body["price_version"].as_str().unwrap().len(), 64);
        assert_eq!(body["account"], Value::Null);
    }
    assert_eq!(upstream.hits(), 0);
    assert_eq!(gateway.books().entries.len(), 0);
}

/// The offer of a quote is one: a payment made for it is taken for the call that it is for, and for no other.
#[test]
fn an_offer_of_a_quote_pays_the_call() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let told = quote(&gateway, "%2Fv1%2Fchat%2Fcompletions", &[], &ask(1000));
    let payment = Wallet::new(1).pay(&told, TEST);
    let elsewhere =
        http::post(gateway.address, MESSAGES, &[("payment-signature", &payment.v2())], &ask(1000));
    assert_eq!(elsewhere.status, 402, "{}", elsewhere.text());
    let paid = http::post(gateway.address, CHAT, &[("payment-signature", &payment.v2())], &ask(1000));
    assert_eq!(paid.status, 200, "{}", paid.text());
    let key = paid.must("farthing-key");
    assert_eq!(gateway.settled_balance(key), payment.nano() - FRIENDLY_COST);
    assert_eq!(upstream.hits(), 1);
}

/// MTR-34: what a balance covers is told before the call, and the call gets just that.
#[test]
fn a_quote_tells_the_clamp_that_the_call_gets() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    for (credit, max_tokens, clamp) in [("0.002 TEST", 100_000, true), ("1 TEST", 1000, false)] {
        let key = gateway.key(credit);
        let told = quote(&gateway, CHAT, &[("x-api-key", &key)], &ask(max_tokens)).json();
        assert_eq!(told["account"]["fits"], true, "{told}");
        let before = gateway.balance(&key);
        assert_eq!(before.1, 0, "a quote holds nothing");
        let answer = http::post(gateway.address, CHAT, &[("x-api-key", &key)], &ask(max_tokens));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let held = told["account"]["hold"]["amount"].as_str().unwrap();
        assert_eq!(answer.must("farthing-hold"), format!("{held} TEST"));
        let clamped = told["account"]["max_tokens"].as_u64().map(|tokens| format!("max_tokens={tokens}"));
        assert_eq!(clamped.is_some(), clamp);
        assert_eq!(answer.header("farthing-clamped"), clamped.as_deref());
    }
    let poor = gateway.key("0.0005 TEST");
    let told = quote(&gateway, CHAT, &[("x-api-key", &poor)], &ask(1000)).json();
    let refused = http::post(gateway.address, CHAT, &[("x-api-key", &poor)], &ask(1000));
    assert_refused(&refused, 402, "insufficient_balance", "nothing_taken");
    let error = &refused.json()["error"];
    assert_eq!(told["account"]["fits"], false);
    for member in ["need", "balance", "currency", "limit_source", "affordable_max_tokens"] {
        assert_eq!(told["account"]["refused"][member], error[member], "{member}: {told}");
    }
    assert_eq!(told["account"]["refused"]["code"], "insufficient_balance");
}

#[test]
fn what_cannot_be_quoted_is_refused_clearly() {
    let upstream = Upstream::friendly();
    let gateway =
        Gateway::start(upstream.address, "prices: { m: { input: 1 USD/Mtok, output: 4 USD/Mtok } }\n");
    let unknown = json!({"model": "unheard-of", "messages": []});
    for (target, body, status, code) in [
        ("/farthing/quote", ask(5), 400, "bad_request"),
        ("/farthing/quote?path=", ask(5), 400, "bad_request"),
        ("/farthing/quote?path=v1/chat/completions", ask(5), 400, "bad_request"),
        ("/farthing/quote?path=http://127.0.0.1/v1/chat/completions", ask(5), 400, "bad_request"),
        ("/farthing/quote?path=/v1/../v1/chat/completions", ask(5), 400, "bad_request"),
        ("/farthing/quote?path=%2", ask(5), 400, "bad_request"),
        ("/farthing/quote?path=/v1/messages&path=/v1/chat/completions", ask(5), 400, "bad_request"),
        ("/farthing/quote?path=/v1/chat/completions&model=m", ask(5), 400, "bad_request"),
        ("/farthing/quote?path=/v1/unsold", ask(5), 404, "route_not_found"),
        ("/farthing/quote?path=/farthing/topup", ask(5), 404, "route_not_found"),
        ("/farthing/quote?path=/v1/chat/completions&method=PUT", ask(5), 405, "method_not_allowed"),
        ("/farthing/quote?path=/v1/chat/completions", unknown, 404, "model_not_priced"),
        ("/farthing/quote?path=/v1/chat/completions", json!([]), 400, "bad_body"),
    ] {
        assert_refused(&http::post(gateway.address, target, &[], &body), status, code, "nothing_taken");
    }
    let target = "/farthing/quote?path=/v1/chat/completions";
    assert_refused(&http::get(gateway.address, target, &[]), 405, "method_not_allowed", "nothing_taken");
    let payment = Wallet::new(1).pay(&quote(&gateway, CHAT, &[], &ask(5)), TEST);
    let paying = quote(&gateway, CHAT, &[("payment-signature", &payment.v2())], &ask(5));
    assert_refused(&paying, 400, "bad_request", "nothing_taken");
    let key = quote(&gateway, CHAT, &[("x-api-key", "fk_test_AAAA")], &ask(5));
    assert_refused(&key, 401, "key_unknown", "nothing_taken");
    let free = quote(&gateway, "/v1/messages/count_tokens", &[], &ask(5)).json();
    assert_eq!((nano(&free["ceiling"]["amount"]), &free["accepts"]), (0, &Value::Null), "{free}");
    assert_eq!(upstream.hits(), 0);
    assert_eq!(gateway.books().entries.len(), 0);
}

#[test]
fn quotes_are_rated_as_other_unpaid_requests_are() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "limits: { unpaid: { per_ip: 2/min } }\n");
    let statuses = [(); 4].map(|()| quote(&gateway, CHAT, &[], &ask(5)).status);
    assert_eq!(statuses, [200, 200, 429, 429]);
}

/// MTR-32: where tokens are counted, the count decides which length a prompt is held at: hexadecimal digits are more
/// tokens than half their bytes.
#[test]
fn a_prompt_that_counts_as_long_is_held_as_long() {
    let upstream = Upstream::friendly();
    let prices = "prices: { \"*\": { tiers: [{ input_up_to: 940, input: 1 USD/Mtok, output: 4 USD/Mtok }, \
                  { input: 2 USD/Mtok, output: 4 USD/Mtok }] } }\n";
    let gateway = Gateway::start(upstream.address, prices);
    // Too little to be held by every byte: so the tokens are counted.
    let key = gateway.key("0.0025 TEST");
    let digits = |n: u64| format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let content: String = (1..=106).map(digits).collect();
    let body = json!({"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": content}]});
    let told = quote(&gateway, CHAT, &[("x-api-key", &key)], &body).json();
    let input = told["input_tokens_max"].as_u64().unwrap();
    assert!(body.to_string().len() / 2 + 4 < 940 && input > 940, "{input} tokens: {told}");
    let nano = input * 2000 + 10 * 4000;
    assert_eq!(told["ceiling"]["amount"], format!("0.{nano:09}"), "{told}");
    let answer = http::post(gateway.address, CHAT, &[("x-api-key", &key)], &body);
    assert_eq!(answer.must("farthing-hold"), format!("0.{nano:09} TEST"));
}

/// One balance, whoever is asked: header, trailer, endpoint, quote, refusal, receipt, operator, journal.
#[test]
fn r15_one_source_of_truth() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let new = gateway.operator(&["key", "new", "--credit", "0.005 TEST"]);
    let (key, account) = (new["key"].as_str().unwrap(), new["account"].as_str().unwrap());
    let paid = http::post(gateway.address, CHAT, &[("x-api-key", key), ("te", "trailers")], &ask(1000));
    let told = paid.trailers.iter().find(|(name, _)| name == "farthing-balance").unwrap();
    assert_eq!(told.1, "0.004970000 TEST");
    let hold = nano(&json!(paid.must("farthing-hold").trim_end_matches(" TEST")));
    let available = nano(&json!(paid.must("farthing-balance").trim_end_matches(" TEST")));
    assert_eq!(hold + available, 5_000_000);
    assert_eq!(gateway.settled_balance(key), 4_970_000);
    assert_eq!(gateway.books_after(1).balance(account), 4_970_000);
    let mut big = ask(2000);
    big["n"] = json!(100);
    let refused = http::post(gateway.address, CHAT, &[("x-api-key", key)], &big);
    assert_refused(&refused, 402, "insufficient_balance", "nothing_taken");
    let quoted = quote(&gateway, CHAT, &[("x-api-key", key)], &big).json();
    let explained = gateway.operator(&["explain", paid.must("farthing-request-id")]);
    let shown = gateway.operator(&["account", "show", account]);
    for (who, amount) in [
        ("the refusal", &refused.json()["balance"]),
        ("a quote", &quoted["account"]["balance"]),
        ("the bill of the last call", &explained["balance_after"]),
        ("the operator", &shown["balance"]),
    ] {
        assert_eq!(*amount, json!({"amount": "0.004970000", "currency": "TEST"}), "{who}");
    }
    assert_eq!(refused.json()["error"]["balance"], "0.004970000");
    let books = gateway.books();
    assert_eq!(
        books.entries.iter().filter_map(|entry| entry["lsn"].as_u64()).max(),
        Some(books.entries.len() as u64)
    );
    assert_eq!(books.balance(account), 4_970_000, "and the journal has not moved since");
}

/// Members that hold money.
const MONEY: [&str; 16] = [
    "balance",
    "held",
    "held_first",
    "charged",
    "overrun",
    "ceiling",
    "hold",
    "balance_after",
    "deposited",
    "need",
    "cost",
    "sum",
    "rounding",
    "rate",
    "overdraft",
    "per_call",
];

/// Every amount in a document says what it is an amount of, as exact text.
fn check_money(place: &str, value: &Value) {
    match value {
        Value::Object(members) => {
            // What a payment protocol defines says the token and its network.
            if members.contains_key("payTo") {
                assert!(members["asset"].is_string() && members["network"].is_string(), "{place}: {value}");
                return;
            }
            if let Some(amount) = members.get("amount").filter(|amount| !amount.is_object()) {
                let currency = members.get("currency").and_then(Value::as_str);
                assert!(
                    currency.is_some_and(|currency| ["TEST", "USD"].contains(&currency)),
                    "{place}: {value}"
                );
                assert!(is_exact(amount), "{place}: {value}");
            }
            for (name, member) in members {
                let in_words = member.is_string() && members.get("currency").is_some_and(Value::is_string);
                let is_amount = member.get("amount").is_some() || in_words && is_exact(member);
                let said = !MONEY.contains(&name.as_str()) || member.is_null() || is_amount;
                assert!(said, "{place}: {name} is {member}");
                check_money(place, member);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| check_money(place, item)),
        Value::Number(number) => {
            assert!(number.is_i64() || number.is_u64(), "{place}: {number} is no integer")
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

fn is_exact(value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && money::Decimal::parse(digits).is_ok() && !digits.contains(['e', 'E'])
}

/// No amount stands alone: in each body and header its currency stands beside it, and its text is exact.
#[test]
fn r22_currency_is_explicit() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let new = gateway.operator(&["key", "new", "--credit", "0.02 TEST"]);
    let (key, account) = (new["key"].as_str().unwrap(), new["account"].as_str().unwrap());
    check_money("key new", &new);
    gateway.operator(&["account", "set", account, "--per-call", "1 TEST", "--overdraft", "0.001 TEST"]);
    let bearer = format!("Bearer {key}");
    let with_key = [("authorization", bearer.as_str()), ("te", "trailers")];
    let offered = http::post(gateway.address, CHAT, &[], &ask(100));
    let payment = Wallet::new(5).pay(&offered, TEST);
    let answers = [
        ("402", offered),
        (
            "402 with a key",
            http::post(
                gateway.address,
                CHAT,
                &with_key,
                &json!({"model": "m", "n": 100, "max_tokens": 9000, "messages": []}),
            ),
        ),
        ("anthropic 402", http::post(gateway.address, MESSAGES, &[], &ask(100))),
        ("top-up", http::request(gateway.address, "POST", "/farthing/topup", &[], b"")),
        ("quote", quote(&gateway, CHAT, &with_key, &ask(100))),
        (
            "quote refused",
            quote(
                &gateway,
                CHAT,
                &with_key,
                &json!({"model": "m", "n": 100, "max_tokens": 9000, "messages": []}),
            ),
        ),
        ("models", http::get(gateway.address, "/v1/models", &[])),
        ("call", http::post(gateway.address, CHAT, &with_key, &ask(100))),
        ("paid call", http::post(gateway.address, CHAT, &[("payment-signature", &payment.v2())], &ask(100))),
        ("balance", http::get(gateway.address, "/farthing/balance", &with_key)),
    ];
    let (mut checked, mut call) = (0, String::new());
    for (place, answer) in &answers {
        check_money(place, &answer.json());
        let told = answer.headers.iter().chain(&answer.trailers);
        for (_, value) in told.filter(|(name, _)| {
            ["farthing-hold", "farthing-balance", "farthing-charge"].contains(&name.as_str())
        }) {
            let (amount, currency) = value.split_once(' ').unwrap();
            assert!(is_exact(&json!(amount)) && currency == "TEST", "{place}: {value}");
            checked += 1;
        }
        if let Some(receipt) = answer.header("farthing-receipt") {
            call = receipt.to_owned();
        }
    }
    assert!(checked >= 6, "{checked} headers");
    gateway.books_after(2);
    check_money("explain", &gateway.operator(&["explain", &call]));
    check_money("account show", &gateway.operator(&["account", "show", account]));
    check_money("ledger show", &gateway.operator(&["ledger", "show"]));
}

/// MTR-53: each group of accounts has its own raise, from the next call on and in every figure that is told.
#[test]
fn an_account_has_the_prices_of_its_group() {
    let upstream = Upstream::friendly();
    let prices = "prices: { models: { m: { input: 1 USD/Mtok, output: 4 USD/Mtok } }, markup: { default: 20%, groups: { partner: 5%, staff: 0% } } }\n";
    let mut gateway = Gateway::start(upstream.address, prices);
    let new = gateway.operator(&["key", "new", "--credit", "1 TEST"]);
    let (key, account) = (new["key"].as_str().unwrap(), new["account"].as_str().unwrap());
    for (group, shown, cost) in [
        (None, Value::Null, 36_000),
        (Some("partner"), json!("partner"), 31_500),
        (Some("staff"), json!("staff"), 30_000),
        (Some("unheard-of"), json!("unheard-of"), 36_000),
        (Some("none"), Value::Null, 36_000),
        (Some("partner"), json!("partner"), 31_500),
    ] {
        if let Some(group) = group {
            assert_eq!(gateway.operator(&["account", "set", account, "--group", group])["group"], shown);
        }
        let told = quote(&gateway, CHAT, &[("x-api-key", key)], &ask(5)).json();
        let before = gateway.settled_balance(key);
        let answer = http::post(gateway.address, CHAT, &[("x-api-key", key)], &ask(5));
        assert_eq!(before - gateway.settled_balance(key), cost, "{group:?}");
        let held = answer.must("farthing-hold").trim_end_matches(" TEST").to_owned();
        assert_eq!(told["account"]["hold"]["amount"], held, "{group:?}");
    }
    gateway.crash_and_restart();
    let before = gateway.settled_balance(key);
    assert_eq!(http::post(gateway.address, CHAT, &[("x-api-key", key)], &ask(5)).status, 200);
    assert_eq!(before - gateway.settled_balance(key), 31_500, "after a crash");
    let bad = gateway.command(&["account", "set", account, "--group", "no name"]);
    assert!(!bad.status.success());
}

/// An offer is made to nobody in particular: whoever has a key may take it, whatever the call costs him. Only where
/// it would not cover the call is he told so, and asked for more.
#[test]
fn an_offer_can_be_taken_with_any_key() {
    let upstream = Upstream::friendly();
    let prices = "prices: { models: { m: { input: 1 USD/Mtok, output: 4 USD/Mtok } }, markup: { default: 20%, groups: { partner: 5%, dear: 300% } } }\n";
    let gateway = Gateway::start(upstream.address, prices);
    let offered = http::post(gateway.address, CHAT, &[], &ask(1000));
    for (group, markup, taken) in [("none", 20, true), ("partner", 5, true), ("dear", 300, false)] {
        // A balance that is short of the call.
        let new = gateway.operator(&["key", "new", "--credit", "0.0001 TEST"]);
        let (key, account) = (new["key"].as_str().unwrap(), new["account"].as_str().unwrap());
        gateway.operator(&["account", "set", account, "--group", group]);
        let pay = |answer: &Answer| {
            let payment = Wallet::new(7).pay(answer, TEST);
            let headers = [("x-api-key", key), ("payment-signature", &payment.v2())];
            (payment.nano(), http::post(gateway.address, CHAT, &headers, &ask(1000)))
        };
        let (mut paid, mut answer) = pay(&offered);
        assert_eq!(answer.status == 200, taken, "{group}: {}", answer.text());
        if !taken {
            assert_refused(&answer, 402, &answer.code(), "nothing_taken");
            (paid, answer) = pay(&answer);
        }
        assert_eq!(answer.status, 200, "{group}: {}", answer.text());
        let left = 100_000 + paid - FRIENDLY_COST * (100 + markup) / 100;
        assert_eq!(gateway.settled_balance(key), left, "{group}");
    }
}
