//! What holds between the crates: who may depend on whom, what the core never sees, what every
//! manifest says.
#![expect(clippy::unwrap_used, reason = "helpers of a test fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Each crate and those of ours that it may depend on: `gateway -> rails, store, proof, meter ->
/// wire, ledger -> money`. The client stands beside the gateway, the binary above both.
const MAY_USE: [(&str, &[&str]); 11] = [
    ("money", &[]),
    ("ledger", &["money"]),
    ("wire", &["money"]),
    ("proof", &["money", "ledger", "wire"]),
    ("tariff", &["money"]),
    ("meter", &["money", "ledger", "wire", "tariff"]),
    ("rails", &["money", "ledger", "wire", "proof", "meter"]),
    ("store", &["money", "ledger", "wire", "proof", "meter"]),
    ("gateway", &["money", "ledger", "wire", "proof", "tariff", "meter", "rails", "store"]),
    // Of the rails it uses the dialer and the Lightning nodes.
    ("client", &["money", "ledger", "wire", "proof", "meter", "rails"]),
    (
        "farthing",
        &["money", "ledger", "wire", "proof", "tariff", "meter", "rails", "store", "gateway", "client"],
    ),
];

/// Bytes, `now`, nonces and keys are arguments here.
const CORE: [&str; 6] = ["money", "ledger", "wire", "proof", "tariff", "meter"];

/// Packages that work on the project and that nothing may depend on.
const TOOLS: [&str; 4] = ["xtask", "farthing-tests", "farthing-bench", "farthing-counts"];

/// What would bring sockets, files, clocks, randomness or a runtime into the core, however deep.
const KEPT_OUT: [&str; 33] = [
    "async-std",
    "chrono",
    "clap",
    "fastrand",
    "getrandom",
    "governor",
    "h2",
    "http",
    "http-body",
    "hyper",
    "hyper-util",
    "mio",
    "nix",
    "quinn",
    "rand",
    "rand_chacha",
    "redb",
    "reqwest",
    "rustix",
    "rustls",
    "smol",
    "socket2",
    "tempfile",
    "time",
    "tokio",
    "tokio-rustls",
    "tracing",
    "tracing-subscriber",
    "ureq",
    "uuid",
    "web-time",
    "webpki-roots",
    "prometheus-client",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// What cargo says, from what is on this machine.
fn cargo(args: &[&str]) -> String {
    let mut cargo = Command::new(env!("CARGO"));
    let output = cargo.args(args).args(["--locked", "--offline"]).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn metadata() -> Value {
    serde_json::from_str(&cargo(&["metadata", "--format-version", "1", "--no-deps"])).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

#[test]
fn dependencies_point_one_way() {
    let metadata = metadata();
    let rules: BTreeMap<&str, &[&str]> = MAY_USE.into_iter().collect();
    let mut seen = BTreeSet::new();
    for package in list(&metadata["packages"]) {
        let name = text(&package["name"]);
        seen.insert(name);
        let ours = list(&package["dependencies"]).iter().filter(|dependency| !dependency["path"].is_null());
        for dependency in ours.map(|dependency| text(&dependency["name"])) {
            assert!(rules.contains_key(dependency), "{name} depends on {dependency}, which is a tool");
            if let Some(allowed) = rules.get(name) {
                assert!(allowed.contains(&dependency), "{name} must not depend on {dependency}");
            }
        }
    }
    let expected: BTreeSet<&str> = rules.keys().copied().chain(TOOLS).collect();
    assert_eq!(seen, expected, "a crate that this test does not know, or the reverse");
}

/// `cargo tree` and not the resolve of `cargo metadata`: that one lists optional packages that are
/// never built. Features are those of a build of the whole workspace.
#[test]
fn the_core_sees_no_runtime_no_files_no_clock_and_no_randomness() {
    let tree = [
        "tree",
        "--workspace",
        "--edges",
        "normal",
        "--prefix",
        "depth",
        "--no-dedupe",
        "--format",
        " {p}|{f}",
    ];
    let tree = cargo(&tree);
    let mut zones = 0;
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    // Names on the way from a crate of the workspace down to the current line.
    let mut way: Vec<&str> = Vec::new();
    for line in tree.lines().filter(|line| !line.is_empty()) {
        let mut words = line.split(' ');
        let (depth, name) = (words.next().unwrap().parse().unwrap(), words.next().unwrap());
        way.truncate(depth);
        way.push(name);
        if CORE.contains(&way[0]) {
            *sizes.entry(way[0]).or_default() += 1;
            assert!(!KEPT_OUT.contains(&name), "{}", way.join(" -> "));
            if name == "jiff" {
                // Without `std` it knows neither the clock nor the zones of the machine.
                let features = line.split('|').nth(1).unwrap();
                assert!(!features.split(',').any(|feature| feature == "std"), "{}", way.join(" -> "));
                zones += 1;
            }
        }
    }
    assert!(zones > 0, "the one dependency that could have a clock was not seen");
    for core in CORE {
        assert!(sizes.get(core).is_some_and(|size| *size > 1), "{core}: its tree was not read");
    }
}

/// The lints that keep files, sockets, clocks and floats out of the core's own code.
#[test]
fn the_core_has_its_lints() {
    let crates = root().join("crates");
    let expected = fs::read_to_string(crates.join("core-clippy.toml")).unwrap();
    for core in CORE {
        let own = fs::read_to_string(crates.join(core).join("clippy.toml")).unwrap_or_default();
        assert_eq!(own, expected, "{core}/clippy.toml is a copy of core-clippy.toml");
        assert!(!crates.join(core).join("build.rs").exists(), "{core} has a build script");
    }
}

#[test]
fn every_manifest_inherits() {
    let metadata = metadata();
    for package in list(&metadata["packages"]) {
        let manifest = fs::read_to_string(text(&package["manifest_path"])).unwrap();
        let name = text(&package["name"]);
        assert!(manifest.contains("[lints]\nworkspace = true\n"), "{name} does not inherit the lints");
        for key in ["version", "edition", "rust-version", "license", "publish"] {
            assert!(manifest.contains(&format!("{key}.workspace = true")), "{name} has its own {key}");
        }
        for dependency in dependency_lines(&manifest) {
            let (_, value) = dependency.split_once(['.', '=']).unwrap();
            assert!(value.contains("workspace = true"), "{name}: `{dependency}` is not the workspace's");
        }
    }
}

fn dependency_lines(manifest: &str) -> Vec<&str> {
    let mut inside = false;
    let mut lines = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.contains("dependencies");
        } else if inside && !line.trim().is_empty() && !line.starts_with('#') {
            lines.push(line);
        }
    }
    lines
}

/// A dependency costs audits and build time: each says what it is for, alone or as one of a group.
#[test]
fn every_dependency_has_a_reason() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, section) = manifest.split_once("[workspace.dependencies]\n").unwrap();
    let section = section.split("\n[").next().unwrap();
    let mut grouped = false;
    let mut count = 0;
    for line in section.lines() {
        match line.trim() {
            "" => grouped = false,
            comment if comment.starts_with('#') => grouped = true,
            dependency => {
                count += 1;
                assert!(grouped || dependency.contains(" # "), "`{dependency}` has no reason");
            }
        }
    }
    assert!(count > 10, "the section was not read");
}

/// Nothing comes from a branch, a fork or another registry.
#[test]
fn the_lock_file_knows_one_source() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let sources: BTreeSet<&str> = lock.lines().filter_map(|line| line.strip_prefix("source = ")).collect();
    assert_eq!(sources.len(), 1, "{sources:?}");
    assert!(sources.iter().all(|source| source.starts_with("\"registry+")), "{sources:?}");
    let packages = lock.matches("[[package]]").count();
    let ours = MAY_USE.len() + TOOLS.len();
    assert_eq!(lock.matches("\nchecksum = ").count(), packages - ours, "a package without its checksum");
}
