//! Are the books in order? `fsck` looks at a store from inside, `verify` at the journal from outside.

mod fsck;
mod verify;

use std::process::ExitCode;

use serde_json::{Value, json};
use wire::jws::Jwks;

pub(crate) use fsck::FsckArgs;
pub(crate) use fsck::run as fsck;
pub(crate) use verify::VerifyArgs;
pub(crate) use verify::run as verify;

/// What was found in a store, as `fsck` tells it.
pub(crate) fn tell(report: &store::Report, json: bool) -> ExitCode {
    fsck::verdict(report).tell(json)
}

/// Something that is not as it should be, and at which entry, where it is about one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    lsn: Option<u64>,
    problem: String,
}

/// What a check came to.
#[derive(Debug)]
struct Verdict {
    /// By entry; those that are about none come first.
    found: Vec<Found>,
    more: u64,
    facts: Value,
}

impl Verdict {
    fn new(mut found: Vec<Found>, more: u64, facts: Value) -> Self {
        found.sort();
        found.dedup();
        Self { found, more, facts }
    }

    fn first_bad(&self) -> Option<u64> {
        self.found.iter().find_map(|found| found.lsn)
    }

    /// Prints it; findings are an exit code of their own.
    fn tell(&self, json: bool) -> ExitCode {
        let findings: Vec<Value> =
            self.found.iter().map(|found| json!({"lsn": found.lsn, "problem": found.problem})).collect();
        let mut document = self.facts.clone();
        document["clean"] = self.found.is_empty().into();
        document["first_bad_lsn"] = self.first_bad().into();
        document["findings"] = findings.into();
        document["more_findings"] = self.more.into();
        crate::table::show(&document, json);
        if self.found.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(crate::FINDINGS) }
    }
}

/// Reads a public key: hexadecimal, or base64url as in a JWK.
pub(crate) fn public_key(text: &str) -> Result<[u8; 32], String> {
    let hex = wire::hex::decode_array(text).ok();
    let url = || wire::base64::decode_url(text, 43).ok()?.try_into().ok();
    hex.or_else(url).ok_or_else(|| format!("key {text}: neither 64 hex digits nor 43 of base64url"))
}

fn keys(texts: &[String]) -> Result<Jwks, String> {
    let mut keys = Vec::new();
    for text in texts {
        let public = public_key(text)?;
        keys.push(
            proof::VerifyingKey::from_bytes(&public).map_err(|_| format!("key {text}: not on the curve"))?,
        );
    }
    Ok(proof::receipt::jwks(&keys))
}

#[cfg(test)]
mod tests {
    use super::public_key;

    #[test]
    fn a_public_key_is_hex_or_base64url() {
        let bytes = [7; 32];
        assert_eq!(public_key(&wire::hex::encode(&bytes)), Ok(bytes));
        assert_eq!(public_key(&wire::base64::encode_url(&bytes)), Ok(bytes));
        assert!(public_key("abc").is_err());
    }
}
