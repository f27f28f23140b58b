//! The operator's commands: the same whether a gateway runs or not, safe to repeat, and clear when they cannot
//! (UX-4, UX-5).
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::path::Path;
use std::process::{Command, Output};

use farthing_tests::gateway::{Gateway, binary, free_address, wait_for};
use farthing_tests::http;
use farthing_tests::upstream::{KEY, Upstream};
use serde_json::{Value, json};

fn run(folder: &Path, words: &[&str]) -> Output {
    Command::new(binary())
        .args(words)
        .current_dir(folder)
        .env_clear()
        .env("UPSTREAM_KEY", KEY)
        .env("HOME", folder)
        .output()
        .unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Whether a gateway runs must make no difference.
fn books(gateway: &Gateway) {
    let made = gateway.operator(&["key", "new", "--credit", "2 TEST", "--label", "agent", "--expires", "1h"]);
    let (account, key, key_id) =
        (made["account"].as_str().unwrap(), made["key"].as_str().unwrap(), made["key_id"].as_str().unwrap());
    let credit = |id: &str, amount: &str| gateway.operator(&["credit", account, amount, "--id", id]);
    assert_eq!(credit("a", "1 TEST")["done"], "credited");
    assert_eq!(credit("a", "1 TEST")["done"], "already credited");
    assert_eq!(credit("b", "1 TEST")["done"], "credited");
    // The id of one credit is not that of another.
    let output = gateway.command(&["credit", account, "3 TEST", "--id", "a"]);
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(told(&output).contains("used for another credit"), "{}", told(&output));
    for (words, why) in [
        (["credit", account, "1 USD"], "holds TEST"),
        (["credit", account, "-1 TEST"], "-1"),
        (["credit", account, "0 TEST"], "above zero"),
        (["credit", account, "1"], "amount"),
        (["credit", "xyz", "1 TEST"], "32 hex digits"),
    ] {
        let output = gateway.command(&words);
        assert!(!output.status.success() && told(&output).contains(why), "{words:?}: {}", told(&output));
    }
    let shown = gateway.operator(&["ledger", "show", "--account", account]);
    assert_eq!(shown["entries"].as_array().unwrap().len(), 3, "{shown}");
    assert_eq!(shown["balances"][0]["balance"]["amount"], "4.000000000", "{shown}");
    let inspected = gateway.operator(&["key", "inspect", key]);
    assert_eq!((&inspected["account"], &inspected["key_id"]), (&json!(account), &json!(key_id)));
    assert!(inspected["caveats"][0].as_str().unwrap().starts_with("expires="), "{inspected}");
    let listed = |revoked: bool| {
        let keys = gateway.operator(&["key", "list"]);
        let keys = keys["keys"].as_array().unwrap();
        assert!(
            keys.iter().any(|known| known["key_id"] == key_id && known["revoked"] == revoked),
            "{keys:?}"
        );
    };
    listed(false);
    gateway.operator(&["key", "revoke", key_id]);
    gateway.operator(&["key", "revoke", key]);
    listed(true);
}

#[test]
fn ux_4_operators_commands_on_a_running_gateway_and_on_its_store_alone() {
    let upstream = Upstream::friendly();
    let mut gateway = Gateway::start(upstream.address, "");
    books(&gateway);
    let key = gateway.key("1 TEST");
    let balance =
        http::get(gateway.address, "/farthing/balance", &[("authorization", &format!("Bearer {key}"))]);
    assert_eq!(balance.status, 200);
    gateway.operator(&["key", "revoke", &key]);
    let balance =
        http::get(gateway.address, "/farthing/balance", &[("authorization", &format!("Bearer {key}"))]);
    assert_eq!((balance.status, balance.code().as_str()), (401, "key_revoked"));
    gateway.signal(15);
    assert_eq!(gateway.wait().code(), Some(0));
    books(&gateway);
    for words in [["reload"], ["drain"]] {
        let output = gateway.command(&words);
        assert_eq!(output.status.code(), Some(2), "{}", told(&output));
        assert!(told(&output).contains("only a running gateway"), "{}", told(&output));
    }
}

#[test]
fn init_writes_what_check_accepts_and_overwrites_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let first = run(folder.path(), &["init"]);
    assert!(first.status.success(), "{}", told(&first));
    let text = std::fs::read_to_string(folder.path().join("farthing.yaml")).unwrap();
    let checked = run(folder.path(), &["check", "--offline"]);
    assert_eq!(checked.status.code(), Some(0), "{}", told(&checked));
    let again = run(folder.path(), &["init"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(told(&again).contains("nothing was changed"), "{}", told(&again));
    assert_eq!(std::fs::read_to_string(folder.path().join("farthing.yaml")).unwrap(), text);
}

#[test]
fn check_tells_a_broken_file_from_a_dead_upstream() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::friendly();
    let write = |name: &str, address: &str, more: &str| {
        let text = format!(
            "mode: test\nstore: {{ path: store }}\nupstreams: {{ up: {{ url: \"http://{address}\", dialect: openai }} }}\n\
             prices: {{ \"*\": {{ input: 1 USD/Mtok, output: 1 USD/Mtok }} }}\nrails: {{ test: {{}} }}\n{more}"
        );
        std::fs::write(folder.path().join(name), text).unwrap();
    };
    write("good.yaml", &upstream.address.to_string(), "");
    write("dead.yaml", &free_address().to_string(), "");
    write("bad.yaml", &upstream.address.to_string(), "servr: {}\n");
    write("unset.yaml", &upstream.address.to_string(), "");
    let text = std::fs::read_to_string(folder.path().join("unset.yaml")).unwrap();
    let text = text.replace("dialect: openai", "dialect: openai, auth: { bearer: \"${env:NOT_THERE}\" }");
    std::fs::write(folder.path().join("unset.yaml"), text).unwrap();
    for (file, offline, code) in [
        ("good.yaml", false, 0),
        ("dead.yaml", false, 1),
        ("dead.yaml", true, 0),
        ("bad.yaml", true, 3),
        ("unset.yaml", true, 3),
        ("absent.yaml", true, 3),
    ] {
        let mut words = vec!["check", "--config", file];
        words.extend(offline.then_some("--offline"));
        let output = run(folder.path(), &words);
        assert_eq!(output.status.code(), Some(code), "{file}: {}", told(&output));
        match code {
            3 => assert!(told(&output).contains(file), "{}", told(&output)),
            _ => {
                let said: Value = serde_json::from_slice(&output.stdout).unwrap();
                assert_eq!(said["valid"], true, "{said}");
                assert_eq!(
                    said["probes"].as_array().unwrap().iter().all(|probe| probe["ok"] == true),
                    code == 0
                );
            }
        }
    }
    assert!(told(&run(folder.path(), &["check", "--config", "bad.yaml"])).contains("server"), "a hint");
    assert_eq!(upstream.hits(), 0, "a probe asks nothing");
}

#[test]
fn a_second_gateway_on_the_same_address_or_store_says_so_and_leaves_the_first_alone() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    let second = |name: &str, text: &str| {
        let path = gateway.folder().join(name);
        std::fs::write(&path, text).unwrap();
        run(gateway.folder(), &["serve", "--config", path.to_str().unwrap()])
    };
    let output = second("same-address.yaml", &text.replace("/store\"", "/other-store\""));
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(told(&output).contains(&gateway.address.to_string()), "{}", told(&output));
    let moved = text
        .replace(&gateway.address.to_string(), &free_address().to_string())
        .replace(&gateway.admin.to_string(), &free_address().to_string());
    let output = second("same-store.yaml", &moved);
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    let said = told(&output);
    assert!(said.contains("admin.sock") || said.contains("store"), "{said}");
    assert!(said.contains("in use") || said.contains("already"), "{said}");
    // With a socket of its own it is the store itself that refuses.
    let own = moved.replace(
        "admin: {",
        &format!("admin: {{ socket: \"{}\",", gateway.folder().join("b.sock").display()),
    );
    assert_ne!(own, moved);
    let output = second("own-socket.yaml", &own);
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(told(&output).contains("store") && told(&output).contains("open"), "{}", told(&output));
    // The first one has not noticed.
    let key = gateway.key("1 TEST");
    assert_eq!(gateway.balance(&key), (1_000_000_000, 0));
}

/// Started beside its file, with paths that begin there: a reload of the same file changes nothing.
#[test]
fn a_reload_reads_the_file_under_the_name_it_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let (address, admin) = (free_address(), free_address());
    let text = format!(
        "server: {{ listen: [\"{address}\"] }}\nstore: {{ path: books }}\nadmin: {{ listen: \"{admin}\" }}\n\
         upstreams: {{ a: {{ url: http://127.0.0.1:9, dialect: openai }} }}\nprices: {{ \"*\": {{ per_call: 1 USD }} }}\nrails: {{ test: {{}} }}\n"
    );
    std::fs::write(folder.path().join("farthing.yaml"), text).unwrap();
    let mut serving = Command::new(binary())
        .arg("serve")
        .current_dir(folder.path())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let ready = || http::try_get(admin, "/readyz").filter(|answer| answer.status == 200);
    wait_for("the gateway to be ready", ready);
    let reloaded = run(folder.path(), &["reload", "--json"]);
    serving.kill().unwrap();
    serving.wait().unwrap();
    let said: Value = serde_json::from_slice(&reloaded.stdout).unwrap();
    assert_eq!(
        (&said["notes"], &said["prices"], &said["changes"]),
        (&json!([]), &json!("unchanged"), &json!([])),
        "{said}"
    );
}
