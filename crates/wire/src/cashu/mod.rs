//! Cashu: ecash of a mint, as a request carries it (NUT-24) and as a mint talks about it.
//!
//! Splits and decodes. Whether proofs are genuine is known to their mint alone, by a swap; what can be checked here
//! and now is in `proof::cashu`. Rules CASHU-n are those of `specs/cashu.md`.

mod cbor;
mod keyset;
pub mod mint;
mod request;
mod token;

pub use keyset::{KeysetId, Point};
pub use request::PaymentRequest;
pub use token::{Dleq, PROOFS_MAX, Proof, SECRET_BYTES_MAX, TOKEN_BYTES_MAX, Token, TokenError};

/// The one header of NUT-24: the request for payment in a 402, the token in the next try.
pub const X_CASHU: &str = "x-cashu";

/// The unit that we take.
pub const UNIT_SAT: &str = "sat";
