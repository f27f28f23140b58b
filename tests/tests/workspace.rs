//! What holds between the crates: who may depend on whom, what the core never sees, what every
//! manifest says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Each crate and those of ours that it may depend on: `gateway -> rails, store, proof, meter ->
/// wire, ledger -> money`. The client stands beside the gateway, the binary above both.
const MAY_USE: [(&str, &[&str]); 10] = [
    ("money", &[]),
    ("ledger", &["money"]),
    ("wire", &["money"]),
    ("proof", &["money", "ledger", "wire"]),
    ("meter", &["money", "ledger", "wire"]),
    ("rails", &["money", "ledger", "wire", "proof", "meter"]),
    ("store", &["money", "ledger", "wire", "proof", "meter"]),
    ("gateway", &["money", "ledger", "wire", "proof", "meter", "rails", "store"]),
    ("client", &["money", "ledger", "wire", "proof", "meter"]),
    ("farthing", &["money", "ledger", "wire", "proof", "meter", "rails", "store", "gateway", "client"]),
];

/// Bytes, `now`, nonces and keys are arguments here.
const CORE: [&str; 5] = ["money", "ledger", "wire", "proof", "meter"];

/// Packages that work on the project and that nothing may depend on.
const TOOLS: [&str; 3] = ["xtask", "farthing-tests", "farthing-bench"];

/// What would bring sockets, files, clocks, randomness or a runtime into the core, however deep.
const KEPT_OUT: [&str; 34] = [
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
    "jiff",
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

/// `cargo metadata`, from what is on this machine.
fn metadata(more: &[&str]) -> Value {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version", "1", "--locked", "--offline"]).args(more).current_dir(root());
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

#[test]
fn dependencies_point_one_way() {
    let metadata = metadata(&["--no-deps"]);
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

#[test]
fn the_core_sees_no_runtime_no_files_no_clock_and_no_randomness() {
    let host = Command::new("rustc").arg("-vV").output().unwrap();
    let host = String::from_utf8(host.stdout).unwrap();
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let metadata = metadata(&["--filter-platform", host]);
    let names: BTreeMap<&str, &str> =
        list(&metadata["packages"]).iter().map(|p| (text(&p["id"]), text(&p["name"]))).collect();
    let nodes: BTreeMap<&str, &Value> =
        list(&metadata["resolve"]["nodes"]).iter().map(|node| (text(&node["id"]), node)).collect();
    // `kind` is null for what is compiled into the crate; tests and build scripts do not count.
    let normal =
        |dependency: &&Value| list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
    for core in CORE {
        let start = nodes.keys().find(|id| names[*id] == core).unwrap();
        let mut open = vec![(*start, core.to_owned())];
        let mut done = BTreeSet::new();
        while let Some((id, way)) = open.pop() {
            if !done.insert(id) {
                continue;
            }
            assert!(!KEPT_OUT.contains(&names[id]), "{way}");
            for dependency in list(&nodes[id]["deps"]).iter().filter(normal) {
                let next = text(&dependency["pkg"]);
                open.push((next, format!("{way} -> {}", names[next])));
            }
        }
        assert!(core == "money" || done.len() > 2, "{core}: the tree was not read");
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
    let metadata = metadata(&["--no-deps"]);
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
        for forbidden in ["deny(", "allow("] {
            let found = sources(Path::new(text(&package["manifest_path"])).parent().unwrap())
                .into_iter()
                .find(|file| fs::read_to_string(file).unwrap().contains(&format!("#![{forbidden}warnings")));
            assert_eq!(found, None, "{name} changes every lint at once");
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
    let index = "\"registry+https://github.com/rust-lang/crates.io-index\"";
    assert_eq!(sources, BTreeSet::from([index]));
    let packages = lock.matches("[[package]]").count();
    let ours = MAY_USE.len() + TOOLS.len();
    assert_eq!(lock.matches("\nchecksum = ").count(), packages - ours, "a package without its checksum");
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path),
            }
        }
    }
    found.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "rs")).collect()
}
