//! A payer who keeps receipts can convict a gateway that changes its books (LED-41), with the bundled client
//! as a person runs it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use farthing_tests::gateway::{Gateway, binary};
use farthing_tests::http;
use farthing_tests::upstream::Upstream;
use serde_json::{Value, json};

const BODY: &str = r#"{"model":"m","max_tokens":100,"messages":[]}"#;

/// Somebody who pays.
struct Payer {
    home: tempfile::TempDir,
}

impl Payer {
    fn new() -> Self {
        let payer = Self { home: tempfile::tempdir().unwrap() };
        assert!(payer.farthing(&["wallet", "new"]).status.success());
        payer
    }

    fn farthing(&self, words: &[&str]) -> Output {
        let path = std::env::var_os("PATH").unwrap();
        let mut command = Command::new(binary());
        command.args(words).env_clear().env("HOME", self.home.path()).env("PATH", path).output().unwrap()
    }

    fn pays(&self, gateway: &Gateway) {
        let url = format!("http://{}/v1/chat/completions", gateway.address);
        let output = self.farthing(&["curl", "--json", BODY, &url]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Exit code and rows of `receipts verify`.
    fn verify(&self, words: &[&str]) -> (Option<i32>, Vec<Value>) {
        let output = self.farthing(&[&["receipts", "verify"], words].concat());
        let told: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code(), told["receipts"].as_array().unwrap().clone())
    }

    fn files(&self) -> Vec<PathBuf> {
        let folder = self.home.path().join(".local/state/farthing/receipts");
        let mut files: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
}

fn public_key(gateway: &Gateway) -> String {
    let keys = http::get(gateway.address, "/.well-known/farthing-keys.json", &[]).json();
    keys["keys"][0]["x"].as_str().unwrap().to_owned()
}

fn store_file(gateway: &Gateway) -> PathBuf {
    gateway.folder().join("store/farthing.redb")
}

fn stop(gateway: &mut Gateway) {
    gateway.signal(15);
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn receipts_are_proven_online_kept_and_proven_again_offline() {
    let upstream = Upstream::friendly();
    let mut gateway = Gateway::start(upstream.address, "");
    let payer = Payer::new();
    for _ in 0..3 {
        payer.pays(&gateway);
    }
    let listed = payer.farthing(&["receipts", "list", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed["receipts"].as_array().unwrap().len(), 3);
    assert_eq!(listed["receipts"][0]["proven"], false);
    let (code, rows) = payer.verify(&["--offline"]);
    assert_eq!((code, &rows[0]["journal"]), (Some(1), &json!("not proven")), "{rows:?}");

    let (code, rows) = payer.verify(&[]);
    assert_eq!(code, Some(0), "{rows:?}");
    for row in &rows {
        assert_eq!((&row["signature"], &row["journal"]), (&json!("stands"), &json!("has it")), "{row}");
        assert_eq!(row["charged"]["amount"], "0.000030000", "{row}");
        assert!(row["lsn"].as_u64() <= row["head_size"].as_u64(), "{row}");
    }
    let public = public_key(&gateway);
    stop(&mut gateway);
    // Nobody is there to be asked.
    assert_eq!(payer.verify(&["--offline"]).0, Some(0));
    let (code, rows) = payer.verify(&[]);
    assert_eq!(code, Some(1), "{rows:?}");
    assert!(rows[0]["journal"] == "has it" && rows[0]["not_renewed"].is_string(), "{rows:?}");
    // Anybody else can check the file, with a public key and nothing else.
    let auditor = Payer::new();
    let file = payer.files()[0].display().to_string();
    let (code, rows) = auditor.verify(&[&file, "--key", &public]);
    assert_eq!((code, &rows[0]["journal"]), (Some(0), &json!("has it")), "{rows:?}");
    let (code, rows) = auditor.verify(&[&file, "--key", &"ab".repeat(32)]);
    assert_eq!(code, Some(7), "{rows:?}");
    let altered = auditor.home.path().join("altered.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let kept: Value = serde_json::from_str(&text).unwrap();
    let entry = kept["proof"]["entry"].as_str().unwrap();
    std::fs::write(&altered, text.replace(entry, &entry.replacen("75", "74", 1))).unwrap();
    let (code, rows) = auditor.verify(&[altered.to_str().unwrap(), "--key", &public]);
    assert_eq!(code, Some(7), "{rows:?}");
}

/// LED-41: an operator who goes back to older books and goes on from there contradicts heads that payers keep.
#[test]
fn a_gateway_that_forgets_a_charge_convicts_itself() {
    let upstream = Upstream::friendly();
    let mut gateway = Gateway::start(upstream.address, "");
    let payer = Payer::new();
    payer.pays(&gateway);
    stop(&mut gateway);
    let older = std::fs::read(store_file(&gateway)).unwrap();
    gateway.restart();
    payer.pays(&gateway);
    payer.pays(&gateway);
    assert_eq!(payer.verify(&[]).0, Some(0));
    stop(&mut gateway);
    // Not by `farthing restore`, which says that it happened.
    std::fs::write(store_file(&gateway), older).unwrap();
    gateway.restart();
    payer.pays(&gateway);
    let (code, rows) = payer.verify(&[]);
    assert_eq!(code, Some(7), "{rows:?}");
    let alarms: Vec<&Value> = rows
        .iter()
        .filter(|row| row["error"].as_str().is_some_and(|error| error.starts_with("ALARM")))
        .collect();
    assert!(!alarms.is_empty(), "{rows:?}");
    for alarm in alarms {
        // Both heads, with both signatures, to be shown around.
        for head in ["known", "shown"] {
            assert_eq!(alarm["evidence"][head]["signature"].as_str().unwrap().len(), 128, "{alarm}");
        }
    }
    // It does not pass with time: what is known stays known.
    assert_eq!(payer.verify(&[]).0, Some(7));
}

/// A file that somebody sends must not lead our key to him.
#[test]
fn a_foreign_receipt_file_makes_nobody_call() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let payer = Payer::new();
    payer.pays(&gateway);
    let trap = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let file = payer.files()[0].clone();
    let sent: PathBuf = payer.home.path().join("sent.json");
    let mut kept: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    kept["origin"] = format!("http://{}", trap.local_addr().unwrap()).into();
    std::fs::write(&sent, kept.to_string()).unwrap();
    let (code, _) = payer.verify(&[Path::new(&sent).to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(trap.accept().is_err(), "somebody called");
}
