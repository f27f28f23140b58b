//! Every key, right and wrong: texts in, a configuration or exact messages out.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use zeroize::Zeroizing;

use super::{Config, ConfigErrors, FileBytes, parse};

/// What a canary looks like: it must not appear in anything that is shown.
const CANARY: &str = "sk-canary-7Jq2";

/// Reads with a fixed environment and a fixed file system.
fn check(text: &str) -> Result<Config, ConfigErrors> {
    let env =
        HashMap::from([("HOME", "/home/ann"), ("API_KEY", CANARY), ("EMPTY", ""), ("SHORT_KEY", "abcd")]);
    let hex = "3f".repeat(31) + "40\n";
    let files: HashMap<&str, (&str, u32)> = HashMap::from([
        ("/etc/farthing/api.key", (CANARY, 0o600)),
        ("/etc/farthing/open.key", (CANARY, 0o644)),
        ("/etc/farthing/master-1.key", (hex.as_str(), 0o600)),
        ("/etc/farthing/tls.key", ("pem", 0o600)),
        ("/etc/farthing/tls.pem", ("pem", 0o644)),
    ]);
    let seven = "07".repeat(32);
    let read = |path: &Path| match path.to_str() {
        Some("/etc/farthing/seven.key") => file(seven.as_bytes(), 0o600),
        Some(path) => match files.get(path) {
            Some((text, mode)) => file(text.as_bytes(), *mode),
            None => Err(io::ErrorKind::NotFound.into()),
        },
        None => Err(io::ErrorKind::NotFound.into()),
    };
    parse(text, "/etc/farthing/farthing.yaml", &|name| env.get(name).map(|v| (*v).to_owned()), &read)
}

fn file(bytes: &[u8], mode: u32) -> io::Result<FileBytes> {
    Ok(FileBytes { bytes: Zeroizing::new(bytes.to_vec()), mode })
}

const MINIMAL: &str = r#"# yaml-language-server: $schema=https://example.invalid/farthing.schema.json
upstreams:
  ollama: { url: http://127.0.0.1:11434, dialect: openai }
prices:
  "*": { input: 0.10 USD/Mtok, output: 0.30 USD/Mtok }
rails:
  test: {}            # fake money for trying; replace with x402, mpp, l402, stripe, alipay ...
"#;

#[test]
fn the_minimal_file_is_enough() {
    let config = check(MINIMAL).unwrap();
    assert_eq!(config.server.listen, ["127.0.0.1:4402".parse().unwrap()]);
    assert_eq!(config.store.path, Path::new("/home/ann/.local/share/farthing"));
    assert_eq!(config.routes.len(), 4);
    assert!(config.rails.test.is_some());
}
