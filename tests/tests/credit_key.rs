//! Prepaid credit keys: what an unmodified SDK does all day.

use farthing_tests::gateway::Gateway;
use farthing_tests::http;
use farthing_tests::upstream::{FRIENDLY_COST, Upstream};
use serde_json::json;

#[test]
fn key_call_is_charged_exactly_what_it_used() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    for (path, header, value) in [
        ("/v1/chat/completions", "authorization", format!("Bearer {key}")),
        ("/v1/chat/completions", "api-key", key.clone()),
        ("/v1/messages", "x-api-key", key.clone()),
        ("/v1/messages", "x-goog-api-key", key.clone()),
    ] {
        for stream in [false, true] {
            let before = gateway.settled_balance(&key);
            let body = json!({"model": "m", "max_tokens": 100, "stream": stream,
                              "messages": [{"role": "user", "content": "hi"}]});
            let answer = http::post(gateway.address, path, &[(header, &value)], &body);
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert!(answer.text().contains("five words are said here"));
            assert_eq!(before - gateway.settled_balance(&key), FRIENDLY_COST, "{path} {stream}");
        }
    }
    assert_eq!(upstream.hits(), 8);
    let books = gateway.books();
    assert_eq!((books.count("deposit"), books.count("capture")), (1, 8));
}

/// What cannot be bounded or priced is refused before anything goes up.
#[test]
fn what_is_not_sold_is_refused_and_costs_nothing() {
    let upstream = Upstream::friendly();
    let routes = "routes: [{ match: { path: \"/v1/**\" }, upstream: openai, price: by_model }]\n";
    let gateway = Gateway::start(upstream.address, routes);
    let key = gateway.key("1 TEST");
    let chat = "/v1/chat/completions";
    for (path, status, code, body) in [
        (chat, 400, "bad_body", json!({"model": "m", "web_search_options": {}})),
        ("/v1/responses", 400, "bad_body", json!({"model": "m", "tools": [{"type": "web_search"}]})),
        ("/v1/responses", 400, "bad_body", json!({"model": "m", "previous_response_id": "r"})),
        (chat, 400, "bad_body", json!({"model": "m", "service_tier": "priority"})),
        ("/v1/files", 404, "route_not_found", json!({"model": "m"})),
        ("/v1/%63hat/completions", 404, "route_not_found", json!({"model": "m"})),
        ("/v1/chat/completions/", 404, "route_not_found", json!({"model": "m"})),
    ] {
        let answer = http::post(gateway.address, path, &[("x-api-key", &key)], &body);
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{path} {body}");
        assert_eq!(answer.json()["money"], "nothing_taken");
    }
    assert_eq!((upstream.hits(), gateway.balance(&key)), (0, (1_000_000_000, 0)));
}

/// An answer without a limit of its own gets the one it is held for.
#[test]
fn an_open_end_is_held_for_what_it_may_become() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    for (credit, limit) in [("1 TEST", 32 * 1024), ("0.02 TEST", 4096)] {
        let key = gateway.key(credit);
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        let answer = http::post(gateway.address, "/v1/chat/completions", &[("x-api-key", &key)], &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("farthing-clamped"), Some(format!("max_tokens={limit}").as_str()));
        let sent: serde_json::Value = serde_json::from_slice(&upstream.seen().last().unwrap().body).unwrap();
        assert_eq!(sent["max_tokens"], limit);
        let held = answer.header("farthing-hold").unwrap().trim_end_matches(" TEST");
        let held = farthing_tests::gateway::nano(&json!(held));
        assert!(held >= limit * 4000, "{held} held for {limit} tokens");
    }
}
