//! The bundled client signs: as the holder of a key that is bound to its key pair, and as an agent, against the real gateway
//! (IDN-26 to IDN-30, IDN-13).
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::path::Path;
use std::process::{Command, Output};

use farthing_tests::gateway::{Gateway, binary};
use farthing_tests::http;
use farthing_tests::upstream::{FRIENDLY_COST, Upstream};
use proof::identity::directory::{Response, Unsigned, keys};
use serde_json::{Value, json};

const BODY: &str = r#"{"model":"m","max_tokens":100,"messages":[{"role":"user","content":"hi"}]}"#;

fn farthing(home: &Path, words: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(binary())
        .args(words)
        .env_clear()
        .env("HOME", home)
        .env("PATH", std::env::var_os("PATH").unwrap())
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn answered(home: &Path, words: &[&str], environment: &[(&str, &str)]) -> Value {
    let output = farthing(home, words, environment);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A home with a key pair, and its public half.
fn holder(home: &Path) -> Value {
    answered(home, &["key", "holder", "new", "--json"], &[])
}

fn curl(
    home: &Path,
    gateway: &Gateway,
    path: &str,
    key: &str,
    more: &[&str],
) -> (Option<i32>, String, String) {
    let url = format!("http://{}{path}", gateway.address);
    let words = [&["curl", "--json", BODY, &url][..], more].concat();
    let output = farthing(home, &words, &[("FARTHING_KEY", key)]);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

const CHAT: &str = "/v1/chat/completions";

#[test]
fn idn_26_a_key_that_is_bound_to_a_holder_opens_with_his_signature_and_with_nothing_else() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    let (home, thief) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let public = holder(home.path());
    let public = public["holder"].as_str().unwrap();
    let narrow = ["key", "attenuate", "--holder", public, "--budget", "0.5 TEST", "--json"];
    let bound = answered(home.path(), &narrow, &[("FARTHING_KEY", &key)]);
    let bound = bound["key"].as_str().unwrap();

    // By hand, without a signature: 401, and the answer says what to sign.
    let body: Value = serde_json::from_str(BODY).unwrap();
    let answer = http::post(gateway.address, CHAT, &[("x-api-key", bound)], &body);
    assert_eq!((answer.status, answer.code().as_str()), (401, "holder_proof_missing"), "{}", answer.text());

    let (code, out, said) = curl(home.path(), &gateway, CHAT, bound, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(out.contains("five words are said here"), "{out}");
    // The receipt is fetched with the same key, and so with another signature.
    assert!(said.contains("paid 0.00003 TEST") && said.contains("verified"), "{said}");
    let (code, _, said) = curl(home.path(), &gateway, "/v1/chat/completions?x=1", bound, &[]);
    assert_eq!(code, Some(0), "a query is signed too: {said}");
    let hits = upstream.hits();
    assert_eq!((hits, gateway.settled_balance(&key)), (2, 1_000_000_000 - 2 * FRIENDLY_COST));

    // Whoever stole the key: without a key pair, or with another one, nothing is even sent.
    for with_a_pair in [false, true] {
        if with_a_pair {
            holder(thief.path());
        }
        let (code, _, said) = curl(thief.path(), &gateway, CHAT, bound, &[]);
        assert_eq!(code, Some(5), "{said}");
        assert!(said.contains(public) && said.contains("nothing was paid"), "{said}");
    }
    // Nor does what the holder has sent open anything a second time: the upstream saw no signature at all.
    for seen in upstream.seen() {
        for field in ["signature", "signature-input", "authorization", "content-digest"] {
            let value = seen.header(field).unwrap_or_default();
            assert!(!value.contains("farthing-holder") && !value.contains("fk_test_"), "{field}: {value}");
        }
        assert_eq!((seen.header("signature"), seen.header("signature-input")), (None, None));
    }
    assert_eq!((upstream.hits(), gateway.settled_balance(&key)), (hits, 1_000_000_000 - 2 * FRIENDLY_COST));
}

#[test]
fn idn_2_a_route_that_requires_an_agent_takes_the_bundled_client_as_one() {
    let upstream = Upstream::friendly();
    let home = tempfile::tempdir().unwrap();
    let made = holder(home.path());
    let x = made["holder"].as_str().unwrap().strip_prefix("ed25519:").unwrap().to_owned();
    let gateway = Gateway::start(
        upstream.address,
        &format!(
            "identity: {{ keyring: [{{ name: bot, x: \"{x}\", origin: \"https://agent.example\" }}] }}\n\
             routes: [{{ name: chat, match: {{ method: POST, path: {CHAT} }}, upstream: openai, price: by_model, identity: require }}]\n"
        ),
    );
    let key = gateway.key("1 TEST");
    let (code, _, said) = curl(home.path(), &gateway, CHAT, &key, &[]);
    assert_eq!(code, Some(1), "nobody signs: {said}");
    let (code, _, said) = curl(home.path(), &gateway, CHAT, &key, &["--agent", "https://other.example"]);
    assert_eq!(code, Some(1), "the same key is another agent there: {said}");
    let (code, _, said) = curl(home.path(), &gateway, CHAT, &key, &["--agent", "agent.example"]);
    assert_eq!(code, Some(2), "{said}");
    assert_eq!(upstream.hits(), 0);
    for _ in 0..2 {
        let (code, _, said) = curl(home.path(), &gateway, CHAT, &key, &["--agent", "https://agent.example"]);
        assert_eq!(code, Some(0), "{said}");
    }
    assert_eq!((upstream.hits(), gateway.settled_balance(&key)), (2, 1_000_000_000 - 2 * FRIENDLY_COST));
}

/// What the command prints is a directory that our own fetcher would take.
#[test]
fn idn_16_an_agents_directory_is_made_on_the_command_line() {
    let home = tempfile::tempdir().unwrap();
    let made = holder(home.path());
    let shown = answered(home.path(), &["key", "holder", "show", "--json"], &[]);
    assert_eq!((&shown["holder"], &shown["thumbprint"]), (&made["holder"], &made["thumbprint"]));
    let directory = answered(home.path(), &["key", "holder", "directory", "agent.example", "--json"], &[]);
    let field = |name: &str| directory["headers"][name].as_str().unwrap().as_bytes();
    let response = Response {
        authority: "agent.example",
        inputs: &[field("signature-input")],
        signatures: &[field("signature")],
        digests: &[],
        body: directory["body"].as_str().unwrap().as_bytes(),
    };
    let now_s = directory["expires"].as_u64().unwrap() - 60;
    let listed = keys(&response, Unsigned::Refuse, now_s).unwrap();
    assert_eq!(json!(listed[0].key.thumbprint()), made["thumbprint"]);
    assert_eq!(directory["path"], "/.well-known/http-message-signatures-directory");
    for bad in ["https://agent.example", "AGENT.example", "agent.example/x"] {
        assert_eq!(
            farthing(home.path(), &["key", "holder", "directory", bad], &[]).status.code(),
            Some(2),
            "{bad}"
        );
    }
    assert_eq!(
        farthing(home.path(), &["key", "holder", "new"], &[]).status.code(),
        Some(2),
        "never replaced"
    );
}
