//! What an operator does: start, stop, reload, look, give and take away.

#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::{Arc, Barrier};

use farthing_tests::gateway::{Gateway, binary, free_address, wait_for};
use farthing_tests::http;
use farthing_tests::upstream::{FRIENDLY_COST, KEY, STREAM_HEAD, Upstream};
use serde_json::{Value, json};

const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"half \"}}]}\n\n";
const REST: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5,\"total_tokens\":15}}\n\ndata: [DONE]\n\n";

/// An upstream that sends half an answer, and the rest when the test lets it.
fn halting() -> (Upstream, Arc<Barrier>) {
    let gate = Arc::new(Barrier::new(2));
    let inside = Arc::clone(&gate);
    let upstream = Upstream::start(move |_, stream| {
        let _ = stream.write_all(format!("{STREAM_HEAD}{EVENT}").as_bytes());
        inside.wait();
        let _ = stream.write_all(REST.as_bytes());
    });
    (upstream, gate)
}

fn ask() -> Value {
    json!({"model": "m", "max_tokens": 100, "stream": true, "stream_options": {"include_usage": true},
           "messages": [{"role": "user", "content": "hi"}]})
}

fn run(words: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(binary()).args(words).env("UPSTREAM_KEY", KEY).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn sigterm_lets_a_running_stream_finish_and_settles_it() {
    let (upstream, gate) = halting();
    let mut gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    let (address, bearer) = (gateway.address, format!("Bearer {key}"));
    let call = std::thread::spawn(move || {
        http::post(address, "/v1/chat/completions", &[("authorization", &bearer)], &ask())
    });
    wait_for("the call to be open", || (gateway.balance(&key).1 > 0).then_some(()));
    wait_for("the upstream to be asked", || (upstream.hits() == 1).then_some(()));
    gateway.signal(15);
    // New calls are refused from now on, whichever way: the listener is closed or the call is told to go.
    wait_for("new calls to be refused", || {
        match http::try_request(address, "POST", "/v1/chat/completions", &[], b"{}") {
            None => Some(()),
            Some(answer) => (answer.status == 503).then_some(()),
        }
    });
    gate.wait();
    let answer = call.join().unwrap();
    assert_eq!((answer.status, answer.text()), (200, format!("{EVENT}{REST}")));
    assert!(gateway.wait().success());
    let shown = gateway.operator(&["ledger", "show"]);
    let entries = shown["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 2, "deposit and capture: {shown}");
    assert_eq!(entries[1]["cost_femto_usd"], (FRIENDLY_COST * 1_000_000).to_string());
}

#[test]
fn a_reload_changes_new_calls_and_leaves_running_ones_alone() {
    let (upstream, gate) = halting();
    let gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    let (address, bearer) = (gateway.address, format!("Bearer {key}"));
    let calling = bearer.clone();
    let call = std::thread::spawn(move || {
        http::post(address, "/v1/chat/completions", &[("authorization", &calling)], &ask())
    });
    wait_for("the call to be open", || (gateway.balance(&key).1 > 0).then_some(()));
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    let dearer =
        text.replace("input: 1 USD/Mtok, output: 4 USD/Mtok", "input: 2 USD/Mtok, output: 8 USD/Mtok");
    std::fs::write(gateway.config(), &dearer).unwrap();
    let config = gateway.config();
    let told = run(&["reload", "--json", "--config", config.to_str().unwrap()]);
    assert_eq!(told.0, Some(0), "{told:?}");
    assert!(told.1.contains("prices"), "{told:?}");
    gate.wait();
    assert_eq!(call.join().unwrap().status, 200);
    let after_old = gateway.settled_balance(&key);
    assert_eq!(after_old, 1_000_000_000 - FRIENDLY_COST, "the old stream keeps the old price");
    let second = std::thread::spawn(move || {
        http::post(address, "/v1/chat/completions", &[("authorization", &bearer)], &ask())
    });
    gate.wait();
    assert_eq!(second.join().unwrap().status, 200);
    assert_eq!(gateway.settled_balance(&key), after_old - 2 * FRIENDLY_COST, "a new one the new price");

    std::fs::write(gateway.config(), dearer.replace("upstreams:", "upstrems:")).unwrap();
    let told = run(&["reload", "--config", config.to_str().unwrap()]);
    assert_ne!(told.0, Some(0));
    assert!(told.2.contains("did you mean \"upstreams\"?"), "{told:?}");
    gateway.signal(1);
    wait_for("the failed reload in the log", || gateway.log().contains("the old one stands").then_some(()));
    assert_eq!(gateway.balance(&key).1, 0, "it still serves");
}

#[test]
fn operators_commands_do_the_same_with_and_without_a_gateway() {
    let upstream = Upstream::friendly();
    let mut gateway = Gateway::start(upstream.address, "");
    let made =
        gateway.operator(&["key", "new", "--credit", "1 TEST", "--label", "agent-7", "--expires", "1h"]);
    let (account, key) = (made["account"].as_str().unwrap(), made["key"].as_str().unwrap());
    let credit = ["credit", account, "0.5 TEST", "--id", "order-7"];
    assert_eq!(gateway.operator(&credit)["done"], "credited");
    assert_eq!(gateway.operator(&credit)["done"], "already credited");
    assert_eq!(gateway.balance(key).0, 1_500_000_000);
    let listed = gateway.operator(&["key", "list"]);
    assert_eq!(listed["keys"][0]["label"], "agent-7");
    assert!(!listed.to_string().contains(key), "keys are not stored");
    let shown = gateway.operator(&["key", "inspect", key]);
    assert!(shown["caveats"][0].as_str().unwrap().starts_with("expires="));

    gateway.signal(15);
    assert!(gateway.wait().success());
    assert_eq!(gateway.operator(&credit)["done"], "already credited");
    let alone = ["credit", account, "0.25 TEST", "--id", "order-8"];
    assert_eq!(gateway.operator(&alone)["done"], "credited");
    gateway.operator(&["key", "revoke", made["key_id"].as_str().unwrap()]);
    assert_eq!(gateway.operator(&["key", "list"])["keys"][0]["revoked"], true);
    let balances = gateway.operator(&["ledger", "show", "--account", account]);
    assert_eq!(balances["balances"][0]["balance"]["amount"], "1.750000000");

    gateway.restart();
    let answer = http::get(gateway.address, "/farthing/balance", &[("x-api-key", key)]);
    assert_eq!((answer.status, answer.code().as_str()), (401, "key_revoked"));
}

#[test]
fn the_admin_side_is_for_its_owner() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let socket = gateway.folder().join("store/admin.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/other", 404)] {
        assert_eq!(http::get(gateway.admin, path, &[]).status, status, "{path}");
    }
    let mut foreign = std::net::TcpStream::connect(gateway.admin).unwrap();
    foreign.write_all(b"GET /metrics HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n").unwrap();
    assert_eq!(http::read_answer(&mut foreign).unwrap().status, 421);
    let health = http::get(gateway.address, "/farthing/health", &[]);
    assert_eq!((health.status, health.body.len()), (200, 0));
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(http::get(gateway.address, path, &[]).status, 404, "{path} is not public");
    }
    for file in ["store/farthing.redb", "store/master-1.key", "store/receipt.key"] {
        let mode = std::fs::metadata(gateway.folder().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let second = run(&["serve", "--config", gateway.config().to_str().unwrap()]);
    assert_ne!(second.0, Some(0));
    assert!(second.2.contains("listen on") || second.2.contains("store"), "{second:?}");
}

#[test]
fn one_line_of_log_says_what_a_call_was() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    let secret = "a-prompt-that-nobody-logs";
    let body = json!({"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": secret}]});
    let answer = http::post(gateway.address, "/v1/chat/completions", &[("x-api-key", &key)], &body);
    let id = answer.header("farthing-request-id").unwrap().to_owned();
    let line = wait_for("the line of the call", || {
        gateway.log().lines().map(str::to_owned).find(|line| line.contains("\"call\"") && line.contains(&id))
    });
    let line: Value = serde_json::from_str(&line).unwrap();
    let span = &line["span"];
    assert_eq!(span["route"], "/v1/chat/completions");
    assert_eq!(span["protocol"], "key");
    assert_eq!(span["captured"], FRIENDLY_COST.to_string());
    assert!(span["quote"].as_i64().unwrap() >= FRIENDLY_COST);
    assert_eq!(line["fields"]["basis"], "reported");
    let log = gateway.log();
    assert!(!log.contains(secret) && !log.contains(&key) && !log.contains("five words"));
    let metrics = http::get(gateway.admin, "/metrics", &[]).text();
    assert!(
        metrics.contains(&format!("farthing_charge_nano_total{{asset=\"TEST\"}} {FRIENDLY_COST}")),
        "{metrics}"
    );
}

#[test]
fn init_writes_a_file_that_check_accepts_and_never_overwrites() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("farthing.yaml");
    let file = file.to_str().unwrap();
    assert_eq!(run(&["init", "--config", file]).0, Some(0));
    assert_eq!(run(&["check", "--offline", "--config", file]).0, Some(0));
    let first = std::fs::read(file).unwrap();
    let again = run(&["init", "--config", file]);
    assert!(again.0 != Some(0) && again.2.contains("nothing was changed"), "{again:?}");
    assert_eq!(std::fs::read(file).unwrap(), first);

    let dead = free_address();
    let text = format!(
        "upstreams: {{ a: {{ url: \"http://{dead}\", dialect: openai }} }}\nprices: {{ \"*\": {{ input: 1 USD/Mtok, output: 1 USD/Mtok }} }}\n"
    );
    std::fs::write(file, &text).unwrap();
    assert_eq!(run(&["check", "--offline", "--config", file]).0, Some(0));
    let probed = run(&["check", "--config", file]);
    assert_eq!(probed.0, Some(1), "{probed:?}");
    std::fs::write(file, text.replace("input", "inptu")).unwrap();
    let broken = run(&["check", "--offline", "--config", file]);
    assert_eq!(broken.0, Some(3));
    assert!(broken.2.contains(":2:") && broken.2.contains("did you mean \"input\"?"), "{broken:?}");
}
