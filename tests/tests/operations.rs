//! A gateway in its operator's hands: stopping, reloading, probes, the admin side, logs (UX-21, UX-22, UX-23,
//! UX-25, SEC-60, SEC-63).
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;
use std::sync::mpsc;

use farthing_tests::gateway::{Gateway, PATIENCE, wait_for};
use farthing_tests::http;
use farthing_tests::socket::Socket;
use farthing_tests::upstream::{FRIENDLY_COST, STREAM_HEAD, Upstream};
use serde_json::{Value, json};

const EVENT: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"five words are said here\"}}]}\n\n";
const END: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5,\"total_tokens\":15}}\n\ndata: [DONE]\n\n";
const WHOLE: i64 = 1_000_000_000;

/// An upstream whose streams end when told to, one by one.
fn held_upstream() -> (Upstream, mpsc::Sender<()>) {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let upstream = Upstream::start(move |request, stream| {
        let told: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let _ = stream.write_all(format!("{STREAM_HEAD}{EVENT}").as_bytes());
        if told["model"] == "held" {
            let _ = released.lock().unwrap().recv_timeout(PATIENCE);
        }
        let _ = stream.write_all(END.as_bytes());
    });
    (upstream, release)
}

fn stream(gateway: &Gateway, key: &str, model: &str) -> Socket {
    let body = json!({"model": model, "max_tokens": 100, "stream": true, "messages": []}).to_string();
    let mut socket = Socket::connect(gateway.address);
    socket.send(format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        gateway.address,
        body.len()
    ));
    socket
}

/// Captures of the journal, newest first, with the store opened alone.
fn captures(gateway: &Gateway) -> Vec<i64> {
    let shown = gateway.operator(&["ledger", "show", "--limit", "1000"]);
    let captured = |entry: &Value| {
        let leg = entry["legs"].as_array().unwrap().first().unwrap().clone();
        let amount = leg["amount"]["amount"].as_str().unwrap().trim_start_matches('-').to_owned();
        farthing_tests::gateway::nano(&Value::from(amount))
    };
    let entries = shown["entries"].as_array().unwrap().iter().filter(|entry| entry["kind"] == "capture");
    entries.map(captured).collect()
}

#[test]
fn ux_22_terminated_while_a_stream_runs_it_ends_the_stream_takes_no_new_call_and_leaves_with_0() {
    let (upstream, release) = held_upstream();
    let mut gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    let mut running = stream(&gateway, &key, "held");
    assert!(running.read_until("five words"));
    // Kept alive from before: it may ask once more, and is told that nobody serves here any more.
    let mut waiting = Socket::connect(gateway.address);
    waiting.send(format!("GET /farthing/health HTTP/1.1\r\nhost: {}\r\n\r\n", gateway.address));
    assert_eq!(waiting.answer().unwrap().status, 200);
    gateway.signal(15);
    let admin = gateway.admin;
    wait_for("the gateway to say that it drains", || {
        http::try_get(admin, "/readyz").filter(|answer| answer.status == 503)
    });
    // A new connection is refused or told so; neither reaches the upstream.
    wait_for("new calls to be refused", || {
        let body = json!({"model": "m", "max_tokens": 1, "messages": []}).to_string();
        let key = format!("Bearer {key}");
        let headers = [("authorization", key.as_str()), ("content-type", "application/json")];
        let answer =
            http::try_request(gateway.address, "POST", "/v1/chat/completions", &headers, body.as_bytes());
        answer.is_none_or(|answer| answer.status == 503 && answer.code() == "draining").then_some(())
    });
    assert_eq!(upstream.hits(), 1);
    release.send(()).unwrap();
    let answer = running.answer().unwrap();
    assert!(answer.text().contains("[DONE]"), "{}", answer.text());
    assert_eq!(gateway.wait().code(), Some(0));
    assert_eq!(captures(&gateway), [FRIENDLY_COST]);
}

#[test]
fn ux_22_told_twice_it_leaves_at_once_and_charges_what_was_delivered() {
    let (upstream, _release) = held_upstream();
    let mut gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    let mut running = stream(&gateway, &key, "held");
    assert!(running.read_until("five words"));
    gateway.signal(15);
    let admin = gateway.admin;
    wait_for("the gateway to drain", || {
        http::try_get(admin, "/readyz").filter(|answer| answer.status == 503)
    });
    gateway.signal(15);
    let status = gateway.wait();
    assert_eq!(status.code(), Some(0), "{}", gateway.log());
    let captured = captures(&gateway);
    assert_eq!(captured.len(), 1, "the stream's hold ended");
    assert!(captured[0] > 0 && captured[0] < WHOLE);
}

#[test]
fn ux_21_a_new_price_is_for_new_calls_and_an_old_stream_keeps_its_own() {
    let (upstream, release) = held_upstream();
    let gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    let mut old = stream(&gateway, &key, "held");
    assert!(old.read_until("five words"));
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    let dearer =
        text.replace("input: 1 USD/Mtok, output: 4 USD/Mtok", "input: 2 USD/Mtok, output: 8 USD/Mtok");
    assert_ne!(text, dearer);
    std::fs::write(gateway.config(), dearer).unwrap();
    gateway.signal(1);
    wait_for("the reload", || gateway.log().contains("configuration reloaded").then_some(()));
    let before = gateway.balance(&key);
    let mut new = stream(&gateway, &key, "m");
    assert_eq!(new.answer().unwrap().status, 200);
    wait_for("the new call's end", || (gateway.balance(&key).1 == before.1).then_some(()));
    release.send(()).unwrap();
    assert_eq!(old.answer().unwrap().status, 200);
    assert_eq!(gateway.settled_balance(&key), WHOLE - FRIENDLY_COST - 2 * FRIENDLY_COST);
}

#[test]
fn ux_21_a_broken_file_changes_nothing_and_says_why() {
    let upstream = Upstream::friendly();
    let mut gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    let good = std::fs::read_to_string(gateway.config()).unwrap();
    let broken = good.replace("4 USD/Mtok", "4 USD/Mtokk");
    std::fs::write(gateway.config(), &broken).unwrap();
    gateway.signal(1);
    wait_for("the log to say so", || gateway.log().contains("the old one stands").then_some(()));
    let output = gateway.command(&["reload"]);
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("prices") && told.contains("farthing.yaml"), "{told}");
    assert_eq!(stream(&gateway, &key, "m").answer().unwrap().status, 200);
    assert_eq!(gateway.settled_balance(&key), WHOLE - FRIENDLY_COST);
    std::fs::write(gateway.config(), &good).unwrap();
    let output = gateway.command(&["reload"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // A mode is for life.
    std::fs::write(
        gateway.config(),
        good.replace("mode: test", "mode: live").replace("rails: { test: {} }\n", ""),
    )
    .unwrap();
    let output = gateway.command(&["reload"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("mode"), "{told}");
    std::fs::write(gateway.config(), &good).unwrap();
    assert!(gateway.command(&["drain"]).status.success());
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn sec_63_probes_and_metrics_are_the_operators_and_health_says_nothing_but_a_status() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    assert_eq!(stream(&gateway, &key, "m").answer().unwrap().status, 200);
    gateway.settled_balance(&key);
    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/", 404)] {
        assert_eq!(http::get(gateway.admin, path, &[]).status, status, "{path}");
        // In public they are paths that nobody sells.
        assert_eq!(http::get(gateway.address, path, &[]).status, 404, "{path} in public");
    }
    let page = http::get(gateway.admin, "/metrics", &[]).text();
    for line in [
        r#"farthing_requests_total{route="/v1/chat/completions",outcome="served"} 1"#,
        r#"farthing_charge_nano_total{asset="TEST"} 30000"#,
        r#"farthing_proof_total{protocol="key",verdict="good"}"#,
        "farthing_holds_open 0",
        "farthing_upstream_seconds_count 1",
    ] {
        assert!(page.contains(line), "{line} in {page}");
    }
    let health = http::get(gateway.address, "/farthing/health", &[]);
    assert_eq!((health.status, health.body.len()), (200, 0));
}

#[test]
fn sec_60_the_admin_side_is_for_its_owner() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let mode = std::fs::metadata(gateway.folder().join("store/admin.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // A page that a name of its own leads here is no operator.
    for (host, status) in [
        ("evil.test", 421),
        ("localhost", 200),
        ("localhost:9", 200),
        ("127.0.0.1:1", 200),
        ("", 421),
        ("127.0.0.1.evil.test", 421),
    ] {
        let mut socket = Socket::connect(gateway.admin);
        socket.send(format!("GET /metrics HTTP/1.1\r\nhost: {host}\r\n\r\n"));
        assert_eq!(socket.answer().unwrap().status, status, "{host}");
    }
}

#[test]
fn ux_25_a_call_is_one_line_of_json_with_what_an_operator_asks_for() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    for _ in 0..3 {
        assert_eq!(stream(&gateway, &key, "m").answer().unwrap().status, 200);
    }
    gateway.settled_balance(&key);
    assert_eq!(http::get(gateway.address, "/nothing", &[]).status, 404);
    // They are gathered for a moment. A refusal has one too.
    let log = wait_for("the lines", || {
        let log = gateway.log();
        let count = |message: &str| log.matches(&format!("\"message\":\"{message}\"")).count();
        ((count("call"), count("refused")) == (3, 1)).then_some(log)
    });
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |message: &str| -> Vec<&Value> {
        lines.iter().filter(|line| line["fields"]["message"] == message).collect()
    };
    let (calls, refused) = (of("call"), of("refused"));
    assert_eq!((calls.len(), refused.len()), (3, 1), "{log}");
    assert_eq!(
        (&refused[0]["fields"]["code"], &refused[0]["fields"]["status"]),
        (&json!("route_not_found"), &json!(404))
    );
    let account = gateway.operator(&["key", "list"])["keys"][0]["account"].clone();
    for call in calls {
        let span = &call["span"];
        assert!(span["id"].as_str().unwrap().starts_with("req_"), "{call}");
        assert_eq!(span["route"], "/v1/chat/completions", "{call}");
        assert_eq!(span["protocol"], "key", "{call}");
        assert_eq!(span["payer"], account, "{call}");
        assert!(span["quote"].as_i64().unwrap() >= FRIENDLY_COST, "{call}");
        assert_eq!(span["captured"].to_string().trim_matches('"'), FRIENDLY_COST.to_string(), "{call}");
    }
    assert!(!log.contains(&key));
}

/// What was gathered is written before the process ends, and the lines can be left out.
#[test]
fn ux_25_lines_of_calls_are_written_to_the_last_one_or_not_at_all() {
    for (filter, lines) in [("info", 1), ("info,gateway::call=warn", 0)] {
        let upstream = Upstream::friendly();
        let mut gateway = Gateway::start_in(upstream.address, "", &[("RUST_LOG", filter)]);
        let key = gateway.key("1 TEST");
        assert_eq!(stream(&gateway, &key, "m").answer().unwrap().status, 200);
        gateway.signal(15);
        assert_eq!(gateway.wait().code(), Some(0), "{}", gateway.log());
        let log = gateway.log();
        assert_eq!(log.matches("\"message\":\"call\"").count(), lines, "{filter}: {log}");
        assert!(log.contains("\"stopped\""), "{log}");
    }
}
