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
    let entries = gateway.operator(&["ledger", "show", "--limit", "100"]);
    assert_eq!(entries["entries"].as_array().unwrap().len(), 9);
}
