//! Codecs of the payment protocols.
//!
//! Invariant: bytes in, values out; total on any input; bounded work; no configured key, no clock.
//! Whether something decoded here is genuine is decided in `proof`.

pub mod alipay;
pub mod authenticate;
pub mod base64;
pub mod cashu;
pub mod caveat;
pub mod content_digest;
pub mod credit_key;
pub mod form;
pub mod hex;
pub mod jcs;
pub mod json;
pub mod json_text;
pub mod jws;
pub mod l402;
pub mod macaroon;
pub mod message_signature;
pub mod mpp;
pub mod rfc3339;
pub mod structured_field;
pub mod template;
#[cfg(test)]
mod third_party_vectors;
pub mod x402;
