//! Keys made of keys, offline: what a sub-agent can do, whose budgets it spends, and how its branch is ended
//! (L402-43, L402-44, L402-51, L402-55).
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, mpsc};

use farthing_tests::crowd::at_once;
use farthing_tests::gateway::{Gateway, PATIENCE, binary, nano, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::refused::assert_refused;
use farthing_tests::socket::Socket;
use farthing_tests::upstream::{FRIENDLY_COST, STREAM_HEAD, Upstream, plain};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

fn ask() -> Value {
    json!({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]})
}

fn call(gateway: &Gateway, key: &str) -> Answer {
    http::post(gateway.address, CHAT, &[("x-api-key", key)], &ask())
}

/// `farthing key attenuate` where there is nothing else: no configuration, no home, no gateway.
fn run(folder: &Path, words: &[&str], stdin: &str, environment: &[(&str, &str)]) -> Output {
    let mut child = Command::new(binary())
        .args(["key", "attenuate"])
        .args(words)
        .current_dir(folder)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Who has the key from elsewhere does not read it.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

/// A narrowed key and the links of what was added.
fn narrowed(key: &str, words: &[&str]) -> (String, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &[words, &["--json"]].concat(), key, &[]);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    let links = made["added"].as_array().unwrap().iter().map(|added| text(&added["link"]));
    (text(&made["key"]), links.collect())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[test]
fn key_6_a_key_is_narrowed_offline_from_wherever_it_is_kept() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("parent.key"), format!("{key}\n")).unwrap();
    let words = ["--budget", "0.01 TEST", "--expires", "1h", "--max-call", "0.005test", "--models", "m"];
    let of_file = [&words[..], &["--key-file", "parent.key"]].concat();
    let of_stdin = [&words[..], &["--key-file", "-"]].concat();
    for (what, output) in [
        ("standard input", run(folder.path(), &words, &key, &[])),
        ("standard input, named", run(folder.path(), &of_stdin, &format!("{key}\n"), &[])),
        ("file", run(folder.path(), &of_file, "", &[])),
        ("environment", run(folder.path(), &words, "", &[("FARTHING_KEY", &key)])),
        // What is meant for the command goes before what happens to be set.
        ("input before environment", run(folder.path(), &words, &key, &[("FARTHING_KEY", "fk_test_x")])),
        ("file before environment", run(folder.path(), &of_file, "", &[("FARTHING_KEY", "fk_test_x")])),
    ] {
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{what}: {told}");
        let child = String::from_utf8(output.stdout).unwrap();
        assert!(child.starts_with("fk_test_") && child.trim_end() != key, "{what}");
        let answer = call(&gateway, child.trim_end());
        assert_eq!(answer.status, 200, "{what}: {}", answer.text());
        let other = json!({"model": "n", "max_tokens": 5, "messages": []});
        let answer = http::post(gateway.address, CHAT, &[("x-api-key", child.trim_end())], &other);
        assert_refused(&answer, 403, "key_forbidden", "nothing_taken");
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing is written: {left:?}");
    assert_eq!(gateway.settled_balance(&key), 1_000_000_000 - 6 * FRIENDLY_COST);
}

#[test]
fn l402_51_a_key_is_never_widened_and_the_refusal_says_so() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let folder = tempfile::tempdir().unwrap();
    let (child, _) = narrowed(
        &gateway.key("1 TEST"),
        &["--models", "m,n-*", "--expires", "@1900000000", "--routes", "chat"],
    );
    for (words, why) in [
        (&["--models", "*"][..], "it has `models=m,n-*`"),
        (&["--models", "m,o"], "allow more"),
        (&["--expires", "@1900000001"], "it has `expires=1900000000`"),
        (&["--routes", "chat,messages"], "it has `routes=chat`"),
        (&["--holder", "ed25519:short"], "malformed"),
        (&["--expires", "soon"], "write 30s"),
        (&[], "nothing to narrow"),
    ] {
        let output = run(folder.path(), words, &child, &[]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{words:?}: {told}");
        assert!(told.contains(why), "{words:?}: {told}");
        assert!(!told.contains("fk_test_"), "a key is no part of a message: {told}");
    }
}

/// Three levels, siblings and forks, all at once: each call costs what it holds, so that in any interleaving every
/// ancestor is spent to what fits and not a unit beyond.
#[test]
fn l402_55_no_ancestor_is_overspent_by_a_tree_of_keys_at_once() {
    let probe = Upstream::friendly();
    let hold = {
        let gateway = Gateway::start(probe.address, "");
        let answer = call(&gateway, &gateway.key("1 TEST"));
        answer.told("farthing-hold")
    };
    let exact = Upstream::start(move |_, stream| {
        let output = (hold - 10_000) / 4000;
        let input = (hold - output * 4000) / 1000;
        let body = json!({"object": "chat.completion",
                          "choices": [{"index": 0, "message": {"content": "a"}}],
                          "usage": {"prompt_tokens": input, "completion_tokens": output, "total_tokens": 1}});
        let _ = stream.write_all(&plain(200, "application/json", &body.to_string()));
    });
    let gateway = Gateway::start(exact.address, "");
    let made = gateway.operator(&["key", "new", "--credit", "1 TEST"]);
    let (root, account) = (text(&made["key"]), text(&made["account"]));
    let below = |key: &str, calls: i64| {
        let amount = calls * hold + hold / 2;
        narrowed(key, &["--budget", &format!("0.{amount:09} TEST")]).0
    };
    // Of the parent's 40 calls each child may have 25, and each grandchild 15 of its own parent's.
    let parent = below(&root, 40);
    let children = [below(&parent, 25), below(&parent, 25)];
    let grandchildren = [below(&children[0], 15), below(&children[0], 15), below(&children[1], 15)];
    let (fork, _) = narrowed(&children[1], &["--models", "m"]);
    let keys = [&grandchildren[0], &grandchildren[1], &grandchildren[2], &fork, &children[0], &parent];
    let served = at_once(60, |at| {
        let mut served = 0;
        for _ in 0..6 {
            let answer = call(&gateway, keys[at % keys.len()]);
            if answer.status == 200 {
                served += 1;
            } else {
                assert_refused(&answer, 402, "over_token_budget", "nothing_taken");
            }
        }
        (at % keys.len(), served)
    });
    let of = |wanted: &[usize]| -> i64 {
        served.iter().filter(|(key, _)| wanted.contains(key)).map(|(_, served)| served).sum()
    };
    for (what, keys, most) in [
        ("the first grandchild", &[0][..], 15),
        ("its sibling", &[1], 15),
        ("the other child's", &[2], 15),
        ("the first child with all below", &[0, 1, 4], 25),
        ("the second child with its fork", &[2, 3], 25),
    ] {
        assert!(of(keys) <= most, "{what}: {} calls of {most}", of(keys));
    }
    // 360 tries: the parent's budget is gone to the last call that fits, whoever had it.
    assert_eq!(of(&[0, 1, 2, 3, 4, 5]), 40);
    assert_eq!(gateway.settled_balance(&root), 1_000_000_000 - 40 * hold);
    for key in keys {
        assert_refused(&call(&gateway, key), 402, "over_token_budget", "nothing_taken");
    }
    assert_eq!(call(&gateway, &root).status, 200, "the root has no budget");
    assert_eq!(gateway.books_after(41).charged(&account), 41 * hold);
}

/// When `key revoke` has answered, no thread takes a descendant any more, whatever it has verified before.
#[test]
fn l402_44_revoking_any_ancestor_ends_all_below_it_and_nothing_beside() {
    let upstream = Upstream::friendly();
    let mut gateway = Gateway::start(upstream.address, "");
    let grown = |gateway: &Gateway| {
        let made = gateway.operator(&["key", "new", "--credit", "1 TEST"]);
        let root = text(&made["key"]);
        let (parent, links) = narrowed(&root, &["--budget", "0.5 TEST", "--models", "m"]);
        let (child, _) = narrowed(&parent, &["--budget", "0.4 TEST"]);
        let (grandchild, last) = narrowed(&child, &["--expires", "1h"]);
        (made, [root, parent, child, grandchild], links, last)
    };
    // By what is revoked: how many of root, parent, child and grandchild go on.
    for (what, alive) in
        [("account", 0), ("key_id", 0), ("budget's link", 1), ("models' link", 1), ("last", 3)]
    {
        let (made, keys, links, last) = grown(&gateway);
        let (beside, _) = narrowed(&keys[0], &["--budget", "0.5 TEST"]);
        let name = match what {
            "budget's link" => links[0].clone(),
            "models' link" => links[1].clone(),
            "last" => last[0].clone(),
            member => text(&made[member]),
        };
        for key in keys.iter().chain([&beside]).cycle().take(40) {
            assert_eq!(call(&gateway, key).status, 200, "{what}");
        }
        let hits = upstream.hits();
        gateway.operator(&["key", "revoke", &name]);
        for restart in [false, true] {
            if restart {
                gateway.crash_and_restart();
            }
            // Each try is a connection, and the threads share them: both are asked.
            for key in keys[alive..].iter().cycle().take(24) {
                assert_refused(&call(&gateway, key), 401, "key_revoked", "nothing_taken");
            }
            assert_eq!(upstream.hits(), hits, "{what}");
        }
        for key in keys[..alive].iter().chain((alive > 0).then_some(&beside)) {
            assert_eq!(call(&gateway, key).status, 200, "{what}: what stands beside goes on");
        }
    }
}

/// A stream of a revoked key ends where its hold would have grown, with the bill for what was delivered.
#[test]
fn l402_44_a_running_stream_of_a_revoked_branch_ends_at_the_next_step_of_its_hold() {
    const TEN_TOKENS: &str = "0123456789012345678901234567890123456789";
    let event =
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{TEN_TOKENS}\"}}}}]}}\n\n");
    let (release, released) = mpsc::channel::<usize>();
    let released = Mutex::new(released);
    let upstream = Upstream::start(move |_, stream| {
        let _ = stream.write_all(STREAM_HEAD.as_bytes());
        for _ in 0..2 {
            let count = released.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            // The gateway hangs up in the midst of the second.
            let _ = stream.write_all(event.repeat(count).as_bytes());
        }
    });
    let gateway = Gateway::start(
        upstream.address,
        "metering: { hold: { step: 16, default_output: 16, min_output: 4 } }\n",
    );
    for what in ["account", "key_id", "link"] {
        let made = gateway.operator(&["key", "new", "--credit", "1 TEST"]);
        let root = text(&made["key"]);
        let (parent, links) = narrowed(&root, &["--budget", "0.9 TEST"]);
        let (child, _) = narrowed(&parent, &["--models", "m"]);
        let body = json!({"model": "m", "stream": true, "messages": []}).to_string();
        let mut socket = Socket::connect(gateway.address);
        socket.send(format!(
            "POST {CHAT} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {child}\r\n\
             content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            gateway.address,
            body.len()
        ));
        release.send(1).unwrap();
        assert!(socket.read_until(TEN_TOKENS), "{what}");
        let name = if what == "link" { links[0].clone() } else { text(&made[what]) };
        gateway.operator(&["key", "revoke", &name]);
        socket.got.clear();
        // Far more than is held: what goes on is what the hold of before covers, and at most a piece more.
        release.send(50).unwrap();
        assert!(socket.read_until("[DONE]"), "{what}: {}", String::from_utf8_lossy(&socket.got));
        let said = String::from_utf8_lossy(&socket.got).into_owned();
        assert!(said.contains("key_revoked"), "{what}: {said}");
        assert!(said.matches(TEN_TOKENS).count() <= 8, "{what}: {said}");
        let note = said.lines().filter_map(|line| line.strip_prefix("data: "));
        let note = note.filter_map(|data| serde_json::from_str::<Value>(data).ok());
        let note = note.filter_map(|event| event.get("farthing").cloned()).next().unwrap();
        let charged = nano(&note["charged"]["amount"]);
        assert!(charged > 0, "{what}: {note}");
        let account = text(&made["account"]);
        let books = wait_for("the charge", || {
            let shown = gateway.operator(&["ledger", "show", "--account", &account]);
            let balance = nano(&shown["balances"][0]["balance"]["amount"]);
            (balance < 1_000_000_000).then_some(balance)
        });
        assert_eq!(books, 1_000_000_000 - charged, "{what}: the bill is what was taken");
        drop(socket);
    }
}
