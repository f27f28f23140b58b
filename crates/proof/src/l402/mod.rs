//! L402 tokens: minting, checking, what they permit (L402-40..57).
//!
//! [`verify`] checks preimage and chain; its success may be cached under the whole header value. [`permits`]
//! checks revocation, clock and caveats, for every request. [`first_claim`] is asked once, when the ledger
//! does not know the payment hash yet. No node is asked and nothing is looked up.
//!
//! ```
//! use money::{Amount, Asset};
//! use proof::l402::{self, Sale};
//! use proof::{EpochState, MasterKey, MasterKeys};
//! use wire::l402::{Credential, Preimage};
//!
//! let master = MasterKey { epoch: 7, state: EpochState::Mint, secret: [0x42; 32].into() };
//! let keys = MasterKeys::new([master]).unwrap();
//! let preimage = Preimage::new([5; 32]); // only the payer's node learns it
//! let sale = Sale {
//!     asset: Asset::Btc,
//!     credit: Amount::from_units(10_000),
//!     amount_msat: 10_000,
//!     issued_at_s: 1_790_000_000,
//!     random: [9; 8],
//! };
//! let token = l402::mint(&keys, preimage.payment_hash(), &sale, &["services=inference:0".into()]).unwrap();
//!
//! let paid = Credential::new(token.clone(), preimage);
//! let verified = l402::verify(&keys, &paid).unwrap();
//! assert_eq!(verified.tokens[0].terms.credit, Amount::from_units(10_000));
//!
//! let guessed = Credential::new(token, Preimage::new([6; 32]));
//! assert_eq!(l402::verify(&keys, &guessed).unwrap_err().reason(), "preimage_mismatch");
//! ```

mod error;
mod mint;
mod verify;

pub use error::{L402Error, MintError};
pub use mint::{CAVEATS_MAX, LOCATION, Sale, TOKEN_BYTES_MAX, mint};
pub use verify::{FirstClaim, Verified, VerifiedToken, first_claim, permits, verify};
pub use wire::l402::Terms;

#[cfg(test)]
mod tests;
