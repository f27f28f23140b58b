//! MPP: the HTTP authentication scheme `Payment` (draft-ryan-httpauth-payment).
//!
//! A server offers challenges, a client answers one with a credential, a paid answer carries a receipt. Every challenge
//! is bound by its id, an HMAC over the other parameters **as text**: so `request` and `opaque` are carried here as the
//! base64url text that came, and decoded only by whoever has checked the id (`proof::mpp`, MPP-7). Rule numbers are
//! those of `specs/mpp.md`.

pub mod accept;
pub mod card;
pub mod challenge;
pub mod credential;
pub mod credit;
pub mod digest;
pub mod event;
pub mod evm;
pub mod lightning;
pub mod mcp;
pub mod offered;
pub mod opaque;
pub mod payload;
pub mod problem;
pub mod receipt;
pub mod solana;
pub mod stripe;
pub mod tempo;

pub use accept::AcceptPayment;
pub use challenge::{Challenge, ChallengeError, Parts, RequestError};
pub use credential::{Credential, CredentialError, Field};
pub use offered::challenges;
pub use opaque::Opaque;
pub use payload::PayloadError;
pub use problem::Problem;
pub use receipt::Receipt;

/// The name of the authentication scheme.
pub const SCHEME: &str = "Payment";
/// The field for a credential whose challenge asked for it: `Authorization` is then somebody else's (MPP-15).
pub const PAYMENT_AUTHORIZATION: &str = "Payment-Authorization";
/// The field of a receipt.
pub const PAYMENT_RECEIPT: &str = "Payment-Receipt";
/// The field with which a client says what it can pay with.
pub const ACCEPT_PAYMENT: &str = "Accept-Payment";

/// One payment for one request.
pub const CHARGE: &str = "charge";
/// Many requests on one deposit.
pub const SESSION: &str = "session";

#[cfg(test)]
mod tests;
