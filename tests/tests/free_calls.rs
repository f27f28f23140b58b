//! Calls that a route gives away: so many for each source and window, metered and remembered, and after that it is 402.

use std::io::Write as _;

use farthing_tests::gateway::{Gateway, nano};
use farthing_tests::http::{self, Answer};
use farthing_tests::refused::assert_refused;
use farthing_tests::scene::{CHAT, ask};
use farthing_tests::upstream::{FRIENDLY_COST, Upstream};
use serde_json::json;

const ROUTES: &str = "routes:
  - { match: { method: POST, path: /v1/chat/completions }, upstream: openai, price: by_model, freebies: { calls: 3, per: day } }
  - { match: { method: POST, path: /v1/responses }, upstream: openai, price: by_model }
";

fn gateway(upstream: &Upstream, trusted: &str) -> Gateway {
    let server = format!("server: {{ listen: [\"{{address}}\"], threads: 2{trusted} }}\n{ROUTES}");
    Gateway::start(upstream.address, &server)
}

fn ask_with(gateway: &Gateway, fields: &[(&str, &str)]) -> Answer {
    http::post(gateway.address, CHAT, fields, &ask())
}

/// So many, and then it costs; a restart gives no second quota, and neither does a made-up address.
#[test]
fn a_quota_survives_a_restart_and_a_made_up_address() {
    let upstream = Upstream::friendly();
    let mut gateway = gateway(&upstream, "");
    let first = ask_with(&gateway, &[]);
    assert_eq!((first.status, first.must("farthing-free-calls-left")), (200, "2"), "{}", first.text());
    assert_eq!((first.header("farthing-receipt"), first.header("farthing-key")), (None, None));
    // It is metered and on record: what it would have cost, and that nothing was taken.
    let call = first.must("farthing-request-id").to_owned();
    let facts = gateway.operator(&["explain", &call]);
    assert_eq!((&facts["protocol"], &facts["agrees"]), (&json!("free"), &json!(true)), "{facts}");
    assert_eq!(nano(&facts["charged"]["amount"]), 0);
    assert_eq!(facts["cost"]["amount"], "0.00003", "{FRIENDLY_COST} nano-dollars");
    assert_eq!(ask_with(&gateway, &[]).must("farthing-free-calls-left"), "1");
    gateway.operator(&["ledger", "show"]);
    gateway.crash_and_restart();
    let last = ask_with(&gateway, &[("x-forwarded-for", "198.51.100.7")]);
    assert_eq!((last.status, last.must("farthing-free-calls-left")), (200, "0"), "{}", last.text());
    for fields in [vec![], vec![("x-forwarded-for", "198.51.100.8")], vec![("forwarded", "for=198.51.100.8")]]
    {
        let refused = ask_with(&gateway, &fields);
        assert_refused(&refused, 402, "payment_required", "nothing_taken");
    }
    assert_eq!((upstream.hits(), gateway.books().entries.len()), (3, 0));
    let store = gateway.store_file();
    assert!(!store.contains("127.0.0.1") && !store.contains("198.51.100"), "no address is kept");
}

/// Whoever shows a credential means to pay: nothing is given to a key, good or bad, and a paid call costs no free one.
#[test]
fn nothing_is_given_to_who_shows_a_credential() {
    let upstream = Upstream::friendly();
    let gateway = gateway(&upstream, "");
    let key = gateway.key("1 TEST");
    for _ in 0..5 {
        let paid = ask_with(&gateway, &[("x-api-key", &key)]);
        assert_eq!((paid.status, paid.header("farthing-free-calls-left")), (200, None));
    }
    assert_eq!(1_000_000_000 - gateway.settled_balance(&key), 5 * FRIENDLY_COST);
    let bad = key.replace("fk_test_A", "fk_test_B");
    assert_eq!(ask_with(&gateway, &[("x-api-key", &bad)]).status, 401);
    let odd = ask_with(&gateway, &[("payment-signature", "bm9uZQ==")]);
    assert_refused(&odd, 402, "malformed_credential", "nothing_taken");
    assert_eq!(ask_with(&gateway, &[]).must("farthing-free-calls-left"), "2");
    // A route that gives nothing away.
    let elsewhere = http::post(gateway.address, "/v1/responses", &[], &json!({"model": "m", "input": "hi"}));
    assert_eq!(elsewhere.status, 402, "{}", elsewhere.text());
}

/// What is given away has a bound that no payer sets: a call that names no limit, or a large one, goes up with the usual one.
#[test]
fn a_free_call_is_bounded_as_one_without_a_limit() {
    let upstream = Upstream::friendly();
    let routes = ROUTES.replace("calls: 3", "calls: 20");
    let more = format!("metering: {{ hold: {{ default_output: 1000, min_output: 10 }} }}\n{routes}");
    let gateway = Gateway::start(upstream.address, &more);
    let key = gateway.key("1 TEST");
    for (own, goes_up, told) in [
        (json!({}), json!({"max_tokens": 1000}), Some("max_tokens=1000")),
        (json!({"stream": true}), json!({"max_tokens": 1000}), Some("max_tokens=1000")),
        (json!({"max_tokens": 30_000_000}), json!({"max_tokens": 1000}), Some("max_tokens=1000")),
        (
            json!({"max_completion_tokens": 5000, "stream": true}),
            json!({"max_completion_tokens": 1000}),
            Some("max_tokens=1000"),
        ),
        (json!({"n": 8, "max_tokens": 126}), json!({"max_tokens": 125}), Some("max_tokens=125")),
        (json!({"n": 8, "max_tokens": 125}), json!({"max_tokens": 125}), None),
        (json!({"max_tokens": 1000}), json!({"max_tokens": 1000}), None),
    ] {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        body.as_object_mut().unwrap().extend(own.as_object().cloned().unwrap());
        let given = http::post(gateway.address, CHAT, &[], &body);
        assert_eq!(given.status, 200, "{own}: {}", given.text());
        assert!(given.header("farthing-free-calls-left").is_some());
        assert_eq!(given.header("farthing-clamped"), told, "{own}");
        let up: serde_json::Value = serde_json::from_slice(&upstream.seen().pop().unwrap().body).unwrap();
        for name in ["max_tokens", "max_completion_tokens"] {
            assert_eq!(up[name], goes_up[name], "{own}");
        }
    }
    // Who pays gets what he asks for.
    let mut body = ask();
    body["max_tokens"] = json!(5000);
    let paid = http::post(gateway.address, CHAT, &[("x-api-key", &key)], &body);
    assert_eq!((paid.status, paid.header("farthing-clamped")), (200, None));
}

/// What is sold by its bytes ends where that of a payer would.
#[test]
fn a_free_answer_ends_where_a_paid_one_would() {
    let upstream = Upstream::start(|_, stream| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\nconnection: close\r\n\r\n";
        let _ = stream.write_all(head.as_bytes());
        // For as long as anybody reads.
        while stream.write_all(&[b'x'; 4096]).is_ok() {}
    });
    let gateway = Gateway::start(
        upstream.address,
        &format!(
            "upstreams: {{ u: {{ url: \"http://{}\", dialect: raw }} }}\nroutes: [ {{ match: {{ path: /x }}, upstream: u, price: {{ per_byte_out: 0.05 USD/MB, hold: 10kB }}, freebies: {{ calls: 2 }} }} ]\n",
            upstream.address
        ),
    );
    let given = http::get(gateway.address, "/x", &[]);
    assert_eq!((given.status, given.must("farthing-free-calls-left"), given.body.len()), (200, "1", 10_000));
}

/// Behind a trusted proxy each client has its own, and 32 at once get no more than there is.
#[test]
fn each_client_of_a_trusted_proxy_has_its_own() {
    let upstream = Upstream::friendly();
    let gateway = gateway(&upstream, ", trusted_proxies: [127.0.0.1]");
    for client in ["198.51.100.1", "2001:db8::1"] {
        let served = std::thread::scope(|scope| {
            let asking: Vec<_> = (0..32)
                .map(|_| scope.spawn(|| ask_with(&gateway, &[("x-forwarded-for", client)]).status))
                .collect();
            asking.into_iter().map(|one| one.join().unwrap()).filter(|status| *status == 200).count()
        });
        assert_eq!(served, 3, "{client}");
    }
    assert_eq!(ask_with(&gateway, &[("x-forwarded-for", "2001:db8::ffff")]).status, 402, "the same network");
    assert_eq!(upstream.hits(), 6);
}
