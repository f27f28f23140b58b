//! x402 facilitators: the services that put an authorization on a chain (x402.md section 10).
//!
//! Their answers are hostile input: bounded, parsed strictly, and believed only where they agree with
//! what we checked ourselves (X402-43).

mod catalogue;
mod expected;
mod settle;
mod supported;
mod transaction;
mod verify;

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;
use wire::x402::{Address, base58, code};

use crate::EvmNode;
use crate::dial::{Dialer, Origin};

pub use expected::{Expected, Moves};
pub use supported::{Kind, Supports};
pub use verify::{Invalid, Verification};

/// Time for an answer to `/verify` and `/supported` (X402-40).
const ASK_TIME_MAX: Duration = Duration::from_secs(5);

/// Longest code of a facilitator that is kept.
const CODE_CHARS_MAX: usize = 96;

/// One facilitator of the configuration.
#[derive(Clone, Debug)]
pub struct Facilitator {
    /// Where it listens.
    pub origin: Origin,
    /// Path prefix, without a trailing slash.
    pub base: String,
    name: String,
}

/// The facilitators of the configuration, in the operator's order.
#[derive(Clone, Debug)]
pub struct Facilitators {
    /// At least one.
    pub list: Vec<Facilitator>,
    /// Opens connections.
    pub dialer: Dialer,
    /// Time a settlement may take.
    pub settle_max: Duration,
    /// Settlements that one facilitator is asked for at the same time.
    pub at_once_max: usize,
    /// Nodes of the operator by CAIP-2 network: what they do not show is not believed.
    pub nodes: HashMap<String, EvmNode>,
}

impl Facilitator {
    /// The one that listens at `origin`, below `base`.
    #[must_use]
    pub fn new(origin: Origin, base: String) -> Self {
        let scheme = if origin.tls { "https" } else { "http" };
        let name = format!("{scheme}://{}{base}", origin.authority());
        Self { origin, base, name }
    }

    /// How the journal names it: the URL of the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Facilitators {
    /// The facilitator of this name. None: it has left the configuration, and nobody else may be asked in its
    /// place (X402-44).
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Facilitator> {
        self.list.iter().find(|facilitator| facilitator.name() == name)
    }
}

/// The code of a reason, without free text, bounded (X402-19).
fn code_of(reason: &str) -> String {
    code::of(reason).chars().take(CODE_CHARS_MAX).collect()
}

/// Whether two texts name one party: an address in any letter case, or a key of Solana.
fn same_party(one: &str, other: &str) -> bool {
    if let (Ok(one), Ok(other)) = (one.parse::<Address>(), other.parse::<Address>()) {
        return one == other;
    }
    let key = base58::decode_array::<32>;
    matches!((key(one), key(other)), (Ok(one), Ok(other)) if one == other)
}

/// Whether an answer that names a payer names one of these. One that names none contradicts nobody, and where
/// we know of no payer anybody may be named.
fn names_payer(said: Option<&str>, payers: &[String]) -> bool {
    said.is_none_or(|said| {
        said.is_empty() || payers.is_empty() || payers.iter().any(|payer| same_party(said, payer))
    })
}

fn object(body: &[u8]) -> Option<Value> {
    wire::json::parse_strict(body).ok().filter(Value::is_object)
}

#[cfg(test)]
mod tests {
    use super::{Facilitator, names_payer};
    use crate::dial::Origin;

    /// X402-44: two facilitators of one configuration never share a name.
    #[test]
    fn a_facilitator_is_named_by_its_url() {
        let name = |tls, port, base: &str| {
            let origin = Origin { tls, host: "f.example".into(), port };
            Facilitator::new(origin, base.into()).name().to_owned()
        };
        for (named, expected) in [
            (name(true, 443, ""), "https://f.example"),
            (name(true, 443, "/x402"), "https://f.example/x402"),
            (name(true, 8443, ""), "https://f.example:8443"),
            (name(false, 80, ""), "http://f.example"),
        ] {
            assert_eq!(named, expected);
        }
    }

    /// X402-9, X402-43.
    #[test]
    fn payers_are_compared_by_what_they_are() {
        let evm = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
        let svm = "GmaDrppBC7P5ARKV8g3djiwP89vz1jLK23V2GBjuAEGB";
        let lower = evm.to_ascii_lowercase();
        let svm_lower = svm.to_ascii_lowercase();
        for (said, payers, same) in [
            (Some(lower.as_str()), &[evm][..], true),
            (Some(evm), &[svm], false),
            (Some(evm), &[svm, evm], true),
            (Some(svm), &[svm], true),
            (Some(svm_lower.as_str()), &[svm], false),
            (Some("0x976EA74026E726554dB657fA54763abd0C3a0aa9"), &[evm], false),
            (Some("somebody"), &["somebody"], false),
            (Some(evm), &[], true),
            (Some(""), &[evm], true),
            (None, &[evm], true),
        ] {
            let payers: Vec<String> = payers.iter().map(|payer| (*payer).to_owned()).collect();
            assert_eq!(names_payer(said, &payers), same, "{said:?} {payers:?}");
        }
    }
}
