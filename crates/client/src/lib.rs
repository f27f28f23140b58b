//! The paying client: sends a request, pays the 402 it gets, hands the answer on as it arrives.
//!
//! Invariant: it never pays above its cap or its budget, never pays twice for one call, and never sends a credential
//! to another origin than the one that asked for it.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use client::{Client, Folder, Policy, Request, Wallet};
//! use rails::dial::Dialer;
//!
//! let folder = Folder::beside(std::path::Path::new("/home/ada/play/wallet.json"));
//! let dialer = Dialer::new(&[], std::time::Duration::from_secs(10))?;
//! let client = Client::new(dialer, Policy::up_to(client::parse_cap("0.05usd")?))
//!     .with_wallet(Wallet::load(&folder.wallet_file())?)
//!     .with_folder(folder);
//! let request = Request::new(http::Method::GET, "http://127.0.0.1:8402/v1/models")?;
//! let mut response = client.call(&request, &mut |step| println!("{step:?}")).await?;
//! while let Some(chunk) = response.body.chunk().await? {
//!     println!("{} bytes", chunk.len());
//! }
//! # Ok(()) }
//! ```

mod atomic;
mod attested;
mod budget;
mod call;
mod challenge;
mod channel;
mod client;
mod connection;
mod drawing;
mod error;
mod folder;
mod heads;
mod identity_key;
mod inclusion;
mod judged;
mod kept;
mod keyring;
mod lightning;
mod offer;
mod pauses;
mod payment;
mod pending;
mod pins;
mod policy;
mod promise;
mod receipt;
mod refund;
mod request;
mod reservation;
mod sale;
mod secret;
mod sign_in;
mod signer;
mod solana;
mod target;
#[cfg(test)]
mod tests;
mod unpayable;
mod verdict;
mod wallet;

pub use attested::{Attested, AttestedError};
pub use budget::{
    Budget, BudgetError, Cap, Host, HostError, Limits, Line, Over, Span, SpanCap, SpanCapError, Spent, Stop,
};
pub use challenge::{Challenge, ChallengeError, Said};
pub use channel::{Channel, find as find_channel, list as channels};
pub use client::{Client, Patience, Quote, Response, See, Step};
pub use connection::{Body, BodyError, roots_from_pem};
pub use error::{Allowance, CallError};
pub use folder::{FileError, FileProblem, Folder};
pub use heads::{HeadAlarm, Progress};
pub use identity_key::{IdentityKey, IdentityKeyError};
pub use inclusion::{Inclusion, InclusionError, SignedHead};
pub use kept::{Booked, Checked, KeptReceipt, Trust};
pub use keyring::Key;
pub use lightning::{
    CheckError, FeeMax, Found, InvoiceTerms, Lightning, LightningFile, LightningFileError, NodeSettings,
    PriceSettings,
};
pub use offer::{ChannelTerms, Offer, Scheme, SchemeError, Terms, Version, Way};
pub use payment::Payment;
pub use policy::{CapError, Choice, Policy, PolicyError, parse_cap};
pub use receipt::{Money, Receipt, ReceiptError, ReceiptRef};
pub use refund::{RefundError, Refunded};
pub use request::{Request, RequestError};
pub use secret::Secret;
pub use sign_in::{SignInError, SignedIn};
pub use signer::Signer;
pub use solana::SolanaTerms;
pub use target::{Target, TargetError};
pub use unpayable::Unpayable;
pub use verdict::Paid;
pub use wallet::{Wallet, WalletError};

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix seconds; a clock before 1970 reads as 1970.
fn now_unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A stranger's text, fit for a terminal: one line, no control or direction characters, not endless.
fn printable(text: &str) -> String {
    const CHARACTERS_MAX: usize = 300;
    let harmless = |c: &char| {
        !c.is_control()
            && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().filter(harmless).take(CHARACTERS_MAX).collect()
}
