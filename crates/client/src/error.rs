//! Why a call has no answer to show. Each says what happened to the money.

use std::path::PathBuf;

use http::StatusCode;
use money::{Amount, Asset};

use crate::budget::BudgetError;
use crate::challenge::{ChallengeError, Said};
use crate::folder::FileError;
use crate::payment::PaymentError;
use crate::policy::PolicyError;

/// Why a call failed. Unless a variant says otherwise, nothing was paid.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// A credential would cross the network in clear text (SEC-33).
    #[error(
        "{0} is neither this machine nor reached by https: no credential is sent there, nothing was paid"
    )]
    ClearText(String),
    /// The credit key was used with another origin before (SEC-33).
    #[error("this credit key belongs to {known}, it is not sent to {asked}; nothing was paid")]
    KeyOfAnotherOrigin {
        /// Where it was used first.
        known: String,
        /// Where it would go.
        asked: String,
    },
    /// The credit key is bound to a key pair that is not here (IDN-26).
    #[error(
        "this credit key opens only with the signature of {0}: name its key pair with --identity; nothing was paid"
    )]
    NotHolder(String),
    /// A private file cannot be used, so nothing could be written down before paying.
    #[error("{0}; nothing was paid")]
    File(#[from] FileError),
    /// There is no folder to write a payment down in.
    #[error("no folder for pending payments: set HOME or name a wallet file; nothing was paid")]
    NoFolder,
    /// The system gives no randomness.
    #[error("the operating system gives no random bytes; nothing was paid")]
    Randomness,
    /// A fault of ours, found before sending.
    #[error("{0}; nothing was paid")]
    Payment(#[from] PaymentError),
    /// No answer, and no payment was on its way.
    #[error("{0}; nothing was paid")]
    Network(String),
    /// A 402 that nobody can pay.
    #[error("{error}; nothing was paid{}", quoted(.said))]
    Challenge {
        /// What is wrong with it.
        error: ChallengeError,
        /// What it says.
        said: Box<Said>,
    },
    /// The limits say no.
    #[error("{0}; nothing was paid")]
    Policy(#[from] PolicyError),
    /// The budget says no.
    #[error("{0}; nothing was paid")]
    Budget(#[from] BudgetError),
    /// There is nothing to pay with.
    #[error("the call costs {}, and there is neither a wallet nor a credit key with enough credit; nothing was paid", dollars(*.price))]
    NoWallet {
        /// Of the cheapest offer.
        price: Option<Amount>,
    },
    /// The credit key does not cover the call.
    #[error("the credit key was refused with {status}; nothing was paid{}", quoted(.said))]
    KeyRefused {
        /// The answer.
        status: StatusCode,
        /// What it says.
        said: Box<Said>,
    },
    /// The seller did not take the payment. It is not signed anew (H12).
    #[error("the seller refused the payment of {paid} with {status}{}; it was not paid again. The signed payment stays valid for {seconds} s: until then the same command sends the same one", quoted(.said))]
    Refused {
        /// The answer.
        status: StatusCode,
        /// What it says.
        said: Box<Said>,
        /// `0.02 TEST to ...`
        paid: String,
        /// For how long the seller could still take it.
        seconds: u64,
    },
    /// The token's owner has not let Permit2 move it.
    #[error("{0}")]
    Allowance(Box<Allowance>),
    /// The seller did not take a voucher. What it promises is contained in the next one of its channel.
    #[error("the seller refused the voucher of {paid} with {status}{}; it was not paid again. The voucher moves no money by itself, and the next one of the channel takes its place", quoted(.said))]
    VoucherRefused {
        /// The answer.
        status: StatusCode,
        /// What it says.
        said: Box<Said>,
        /// `0.02 USDC from channel ...`
        paid: String,
    },
    /// There is an invoice, and no wallet that pays it.
    #[error("no Lightning wallet is set: farthing wallet lightning set; nothing was paid")]
    NoLightning,
    /// The Lightning wallet says no.
    #[error("the Lightning wallet did not pay {what}: {reason}; nothing was paid")]
    NotPaid {
        /// `21 sat (0.02 USD) over Lightning to ...`
        what: String,
        /// What it says.
        reason: String,
    },
    /// The Lightning wallet says yes, and shows something that is no proof of it.
    #[error("the Lightning wallet says that it paid {paid}, and its preimage does not open the invoice: nothing was sent to the seller, and nothing more is paid for this call (kept in {})", path.display())]
    WalletLied {
        /// `21 sat (0.02 USD) over Lightning to ...`
        paid: String,
        /// Where the payment is kept.
        path: PathBuf,
    },
    /// The invoice was paid, and the seller does not serve.
    #[error("{paid} was paid, and the seller answered {status} all the same{}; nothing more is paid for this call. For {seconds} s the same command shows the same proof of payment", quoted(.said))]
    TokenRefused {
        /// The answer.
        status: StatusCode,
        /// What it says.
        said: Box<Said>,
        /// `21 sat (0.02 USD) over Lightning to ...`
        paid: String,
        /// For how long no other invoice is paid for it.
        seconds: u64,
    },
    /// Another call took the channel between choosing and signing.
    #[error("another call has just taken the payment channel; nothing was paid, run the same command again")]
    ChannelTaken,
    /// Nobody can say whether the payment was taken.
    #[error("it is not known whether the payment of {paid} was taken: {why}. The same command again sends the same payment and cannot pay twice (kept in {})", path.display())]
    Unknown {
        /// `0.02 TEST to ...`
        paid: String,
        /// What happened last.
        why: String,
        /// Where the payment is kept.
        path: PathBuf,
    },
}

/// What the owner of a token must do before a permit can move it. Nothing was paid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{network}: the token {token} does not let Permit2 move {paid}; nothing was paid. Its owner, {owner}, must once \
     call approve({permit2}, amount) on it, or pay another way: --scheme exact. For {seconds} s the same command sends \
     the same permit"
)]
pub struct Allowance {
    /// CAIP-2.
    pub network: String,
    /// The token's contract.
    pub token: String,
    /// Our address.
    pub owner: String,
    /// The contract that must be allowed.
    pub permit2: String,
    /// `0.02 USDC to ...`
    pub paid: String,
    /// For how long the permit could still be taken.
    pub seconds: u64,
}

impl CallError {
    /// What the seller said, where it said something.
    #[must_use]
    pub const fn said(&self) -> Option<&Said> {
        match self {
            Self::Challenge { said, .. }
            | Self::KeyRefused { said, .. }
            | Self::Refused { said, .. }
            | Self::VoucherRefused { said, .. }
            | Self::TokenRefused { said, .. } => Some(said),
            Self::ClearText(_)
            | Self::KeyOfAnotherOrigin { .. }
            | Self::NotHolder(_)
            | Self::File(_)
            | Self::NoFolder
            | Self::Randomness
            | Self::Payment(_)
            | Self::Network(_)
            | Self::Policy(_)
            | Self::Budget(_)
            | Self::NoWallet { .. }
            | Self::Allowance(_)
            | Self::NoLightning
            | Self::NotPaid { .. }
            | Self::WalletLied { .. }
            | Self::ChannelTaken
            | Self::Unknown { .. } => None,
        }
    }
}

fn quoted(said: &Said) -> String {
    match (said.code.as_str(), said.message.as_str()) {
        ("", "") => String::new(),
        (code, "") => format!(" ({code})"),
        ("", message) => format!(" (\"{message}\")"),
        (code, message) => format!(" ({code}: \"{message}\")"),
    }
}

fn dollars(price: Option<Amount>) -> String {
    price.map_or_else(
        || "an amount we cannot tell".to_owned(),
        |price| format!("{} USD", price.short(Asset::Usd)),
    )
}
