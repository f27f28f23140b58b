//! Vectors of others, read in place and skipped where they are absent.

use serde_json::Value;

/// The file, or `None` with a line that says so.
#[expect(clippy::disallowed_methods, reason = "tests read vectors that may not be copied into the project")]
pub(crate) fn read(name: &str) -> Option<Value> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors");
    let folder = std::env::var("FARTHING_VECTORS").unwrap_or_else(|_| beside.to_owned());
    let Ok(text) = std::fs::read_to_string(format!("{folder}/{name}.json")) else {
        println!("skipped: {name}.json is not in {folder}");
        return None;
    };
    Some(serde_json::from_str(&text).unwrap())
}
