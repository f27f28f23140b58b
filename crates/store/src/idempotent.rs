//! What is remembered of a request that named itself (LED-24).

use serde::{Deserialize, Serialize};

use crate::Outcome;

/// The end of a call that came with an idempotency key, under SHA-256 of account and key. Never holds a body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idempotent {
    /// SHA-256 over method, path and body of the request.
    pub fingerprint: [u8; 32],
    /// What the same request gets.
    pub outcome: Outcome,
    /// Unix seconds after which it is forgotten.
    pub expires_s: u64,
}
