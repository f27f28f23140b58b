//! L402 (once LSAT): challenge, credential, identifier, and their gRPC form.
//!
//! Nothing here is verified: whether we minted a token, whether its preimage opens its payment hash and
//! whether its caveats hold is decided in `proof::l402`. Rule numbers are those of `specs/l402.md`.

pub mod challenge;
pub mod credential;
pub mod grpc;
pub mod identifier;
pub mod offered;
pub mod preimage;
pub mod token;

pub use challenge::{Challenge, ChallengeError};
pub use credential::{Credential, CredentialError};
pub use identifier::{Identifier, Terms};
pub use offered::{Offered, OfferedError, Scheme};
pub use preimage::{PaymentHash, Preimage};
pub use token::{Token, TokenError};

#[cfg(test)]
mod tests;
