//! What a key may do is written in the key: limits hold for everything below the point where they were
//! written, through restarts and under load.

use std::sync::atomic::{AtomicUsize, Ordering};

use farthing_tests::crowd::at_once;
use farthing_tests::gateway::{Gateway, nano};
use farthing_tests::http::{self, Answer};
use farthing_tests::payer::now_s;
use farthing_tests::refused::assert_refused;
use farthing_tests::upstream::{FRIENDLY_COST, Upstream};
use proof::credit_key::attenuate;
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

/// Holds (117 bytes / 2 + 3) x 1000 + 5 x 4000 nano at most: a little more than it costs.
fn ask() -> Value {
    json!({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]})
}

fn call(gateway: &Gateway, key: &str) -> Answer {
    http::post(gateway.address, CHAT, &[("x-api-key", key)], &ask())
}

/// What a call holds.
fn hold_of(gateway: &Gateway, key: &str) -> i64 {
    let answer = call(gateway, key);
    assert_eq!(answer.status, 200, "{}", answer.text());
    nano(&json!(answer.must("farthing-hold").trim_end_matches(" TEST")))
}

fn narrowed(key: &str, caveats: &[&str]) -> String {
    caveats.iter().fold(key.to_owned(), |key, caveat| attenuate(&key, caveat).unwrap_or_default())
}

fn made(gateway: &Gateway, words: &[&str]) -> String {
    let words: Vec<&str> = ["key", "new"].iter().chain(words).copied().collect();
    gateway.operator(&words)["key"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn key_does_what_its_caveats_allow_and_no_more() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let words = ["--credit", "1 TEST", "--models", "m,n-*", "--routes", CHAT, "--max-call", "0.001 TEST"];
    let key = made(&gateway, &words);
    let mut expected = 0;
    for (what, path, body, status, code) in [
        ("allowed", CHAT, ask(), 200, ""),
        ("model by pattern", CHAT, json!({"model": "n-1", "max_tokens": 5, "messages": []}), 200, ""),
        (
            "another model",
            CHAT,
            json!({"model": "mm", "max_tokens": 5, "messages": []}),
            403,
            "key_forbidden",
        ),
        ("another route", MESSAGES, ask(), 403, "key_forbidden"),
        // 0.001 covers 249 tokens and the input: below the least useful output.
        ("dear", CHAT, json!({"model": "m", "max_tokens": 1000, "messages": []}), 403, "key_forbidden"),
    ] {
        let answer = http::post(gateway.address, path, &[("x-api-key", &key)], &body);
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        if status == 200 {
            expected += FRIENDLY_COST;
        } else {
            assert_refused(&answer, status, code, "nothing_taken");
        }
    }
    assert_eq!(gateway.settled_balance(&key), 1_000_000_000 - expected);
    assert_eq!(upstream.hits(), 2);

    // A larger limit per call makes room by clamping.
    let key = made(&gateway, &["--credit", "1 TEST", "--max-call", "0.002 TEST"]);
    let body = json!({"model": "m", "max_tokens": 100_000, "messages": []});
    let answer = http::post(gateway.address, CHAT, &[("x-api-key", &key)], &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(nano(&json!(answer.must("farthing-hold").trim_end_matches(" TEST"))) <= 2_000_000);
    assert!(answer.must("farthing-clamped").starts_with("max_tokens="));

    // Times.
    let key = made(&gateway, &["--credit", "1 TEST", "--expires", "1h"]);
    assert_eq!(call(&gateway, &key).status, 200);
    let over = narrowed(&key, &[&format!("expires={}", now_s() - 1)]);
    assert_refused(&call(&gateway, &over), 401, "key_expired", "nothing_taken");
}

/// Children made offline spend from every budget above them, and siblings from the one they share.
#[test]
fn r19_nested_budgets() {
    let upstream = Upstream::friendly();
    let mut gateway = Gateway::start(upstream.address, "");
    let root = made(&gateway, &["--credit", "1 TEST"]);
    let hold = hold_of(&gateway, &root);
    // Room for 4 calls at the parent: 3 x cost + one hold.
    let limit = 3 * FRIENDLY_COST + hold;
    let parent = narrowed(&root, &[&format!("budget=p:TEST:{limit}")]);
    let first = narrowed(&parent, &[&format!("budget=a:TEST:{}", FRIENDLY_COST + hold)]);
    let second = narrowed(&parent, &["budget=b:TEST:900000000", "models=m"]);
    for (what, key, served) in [
        ("first 1", &first, true),
        ("first 2", &first, true),
        ("first is spent", &first, false),
        ("second 1", &second, true),
        ("second 2", &second, true),
        ("the parent is spent", &second, false),
        ("the parent is spent", &parent, false),
        ("the first too", &first, false),
        ("the root goes on", &root, true),
    ] {
        let answer = call(&gateway, key);
        if served {
            assert_eq!(answer.status, 200, "{what}: {}", answer.text());
            gateway.settled_balance(&root);
        } else {
            assert_refused(&answer, 402, "over_token_budget", "nothing_taken");
            assert_eq!(answer.json()["error"]["limit_source"], "token_budget", "{what}");
        }
    }
    // Looked at from any key of the account, there is one balance.
    let left = 1_000_000_000 - 6 * FRIENDLY_COST;
    for key in [&root, &parent, &first, &second] {
        assert_eq!(gateway.settled_balance(key), left);
    }
    gateway.books_after(6);
    gateway.crash_and_restart();
    for key in [&first, &second, &parent] {
        assert_refused(&call(&gateway, key), 402, "over_token_budget", "nothing_taken");
    }
    assert_eq!(call(&gateway, &root).status, 200);
    // A budget with the same text under another parent is another budget.
    let cousin = narrowed(&root, &["models=m", &format!("budget=p:TEST:{limit}")]);
    assert_eq!(call(&gateway, &cousin).status, 200);
}

#[test]
fn revocation_ends_every_descendant_at_once_and_for_good() {
    let upstream = Upstream::friendly();
    let mut gateway = Gateway::start(upstream.address, "");
    let new = gateway.operator(&["key", "new", "--credit", "1 TEST"]);
    let (key, id) = (new["key"].as_str().unwrap_or_default(), new["key_id"].as_str().unwrap_or_default());
    let child = narrowed(key, &["models=m"]);
    let grandchild = narrowed(&child, &["budget=x:TEST:500000000"]);
    // Another key of the same account is another matter.
    let sibling = made(&gateway, &["--account", new["account"].as_str().unwrap_or_default()]);
    // Both threads know the keys.
    for _ in 0..8 {
        for key in [key, &child, &grandchild, &sibling] {
            assert_eq!(call(&gateway, key).status, 200);
        }
    }
    let hits = upstream.hits();
    gateway.operator(&["key", "revoke", id]);
    for restart in [false, true] {
        if restart {
            gateway.crash_and_restart();
        }
        for _ in 0..8 {
            for key in [key, &child, &grandchild] {
                assert_refused(&call(&gateway, key), 401, "key_revoked", "nothing_taken");
            }
        }
        assert_eq!(upstream.hits(), hits);
    }
    assert_eq!(call(&gateway, &sibling).status, 200);
}

/// Balance for exactly K calls, ten times as many at once over 64 connections: K are served, in any
/// interleaving, on every budget of the chain too.
#[test]
fn r01_budget_holds_under_concurrency() {
    const K: usize = 60;
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let probe = gateway.key("1 TEST");
    let hold = hold_of(&gateway, &probe);
    assert!((FRIENDLY_COST..4 * FRIENDLY_COST).contains(&hold), "{hold}");
    // Every call costs what it holds, or the order in which holds end would matter.
    let exact = Upstream::start(move |_, stream| {
        use std::io::Write as _;
        let output = (hold - 10_000) / 4000;
        let text = format!(
            r#"{{"object":"chat.completion","choices":[{{"index":0,"message":{{"content":"a"}}}}],"usage":{{"prompt_tokens":{},"completion_tokens":{output},"total_tokens":1}}}}"#,
            (hold - output * 4000) / 1000
        );
        let _ = stream.write_all(&farthing_tests::upstream::plain(200, "application/json", &text));
    });
    let gateway = Gateway::start(exact.address, "");
    let budget = i64::try_from(K).unwrap_or_default() * hold;
    let credit = format!("0.{:09} TEST", budget);
    let rich = gateway.operator(&["key", "new", "--credit", "1 TEST"]);
    let rich_key = rich["key"].as_str().unwrap_or_default();
    let budgeted = narrowed(rich_key, &[&format!("budget=k:TEST:{budget}"), "models=m"]);
    let poor = gateway.operator(&["key", "new", "--credit", &credit]);
    let poor_key = poor["key"].as_str().unwrap_or_default().to_owned();
    for (what, key, code) in
        [("balance", &poor_key, "insufficient_balance"), ("budget", &budgeted, "over_token_budget")]
    {
        let before = exact.hits();
        let served = AtomicUsize::new(0);
        at_once(64, |_| {
            for _ in 0..10 * K / 64 + 1 {
                let answer = call(&gateway, key);
                if answer.status == 200 {
                    served.fetch_add(1, Ordering::SeqCst);
                } else {
                    assert_refused(&answer, 402, code, "nothing_taken");
                }
                let balance = answer.header("farthing-balance").unwrap_or("0");
                assert!(!balance.starts_with('-'), "{balance}");
            }
        });
        assert_eq!(served.load(Ordering::SeqCst), K, "{what}");
        assert_eq!(exact.hits() - before, K, "{what}");
    }
    assert_eq!(gateway.settled_balance(&poor_key), 0);
    assert_eq!(gateway.settled_balance(rich_key), 1_000_000_000 - budget);
    let books = gateway.books_after(2 * K);
    assert_eq!(books.balance(poor["account"].as_str().unwrap_or_default()), 0);
    assert_eq!(books.charged(rich["account"].as_str().unwrap_or_default()), budget);
}
