//! The bundled client against the real gateway, as a person runs it.
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::path::Path;
use std::process::{Command, Output};

use farthing_tests::gateway::{Gateway, binary};
use farthing_tests::upstream::{FRIENDLY_COST, Upstream};

const BODY: &str =
    r#"{"model":"m","max_tokens":100,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

fn farthing(home: &Path, words: &[&str]) -> Output {
    Command::new(binary())
        .args(words)
        .env_clear()
        .env("HOME", home)
        .env("PATH", std::env::var_os("PATH").unwrap())
        .output()
        .unwrap()
}

fn curl(home: &Path, gateway: &Gateway, max: &str) -> (Option<i32>, String, String) {
    let url = format!("http://{}/v1/chat/completions", gateway.address);
    let output = farthing(home, &["curl", "--max", max, "--json", BODY, &url]);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn curl_pays_within_its_cap_and_spends_the_change_with_the_key() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "rails: { test: { deposit: 0.01 USD } }\n");
    let home = tempfile::tempdir().unwrap();
    let (home, gateway) = (home.path(), &gateway);
    assert!(farthing(home, &["wallet", "new"]).status.success());
    let shown = String::from_utf8(farthing(home, &["wallet", "show"]).stdout).unwrap();
    assert!(shown.contains("0x"), "{shown}");

    let (code, out, said) = curl(home, gateway, "0.001usd");
    assert_eq!((code, upstream.hits(), gateway.books().count("deposit")), (Some(5), 0, 0), "{out} {said}");

    let (code, out, said) = curl(home, gateway, "0.05usd");
    assert_eq!(code, Some(0), "{said}");
    assert!(out.contains("five words are said here"), "{out}");
    assert!(said.contains("paid 0.00003 TEST") && said.contains("verified"), "{said}");

    // The second call needs no payment: the key that came with the first answer pays.
    let (code, _, said) = curl(home, gateway, "0.05usd");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("balance 0.00994 TEST"), "{said}");
    let books = gateway.books();
    assert_eq!((books.count("deposit"), books.count("capture"), upstream.hits()), (1, 2, 2));
    assert_eq!(FRIENDLY_COST, 30_000);
}

#[test]
fn the_demo_shows_the_whole_exchange_and_leaves_nothing_behind() {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(binary()).arg("demo").env("TMPDIR", home.path()).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown} {}", String::from_utf8_lossy(&output.stderr));
    for part in [
        "402 Payment Required",
        "exact on farthing:test",
        "payment-signature",
        "200 OK",
        "counted exactly.",
        "receipt req_",
        "verified",
        "rail_clearing:test",
        "usage:play-1",
        "with authorization",
        "What is left",
    ] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "its folder is gone");
}
