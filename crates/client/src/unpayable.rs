//! Why an offer is passed over.

use rails::lightning::Network;
use rails::lightning::bolt11::Bolt11Error;
use wire::l402::OfferedError;

/// Why an offer cannot be paid by us. Never an error: another offer may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unpayable {
    /// A scheme we do not sign.
    #[error("scheme not supported")]
    Scheme,
    /// A network we have no key for.
    #[error("network not supported")]
    Network,
    /// A token we do not know: neither its worth nor what its signatures cover.
    #[error("token not known")]
    Asset,
    /// The token shall move in a way that we do not sign.
    #[error("transfer method not supported")]
    Transfer,
    /// What the scheme needs besides is missing or malformed: a facilitator, an authorizer, a delay, a blockhash.
    #[error("members that the scheme needs are missing or malformed")]
    Members,
    /// Not a positive number of atomic units within our range.
    #[error("amount is not usable")]
    Amount,
    /// Not an address of the network.
    #[error("payee is not an address")]
    Payee,
    /// Too short a time to settle, so it could only fail.
    #[error("time limit is too short")]
    Window,
    /// The seller signed something else than he asks for.
    #[error("the seller's signed offer promises something else")]
    Promise,
    /// Header and body of the same 402 name different amounts or payees for the same token.
    #[error("the 402 contradicts itself about amount or payee")]
    Contradiction,
    /// An L402 challenge, and nothing to pay it with.
    #[error("no Lightning wallet is set: farthing wallet lightning set")]
    NoLightning,
    /// An L402 challenge that has no usable token, or contradicts itself.
    #[error("{0}")]
    Challenge(OfferedError),
    /// An L402 challenge whose invoice is none.
    #[error("{0}")]
    Invoice(Bolt11Error),
    /// The payer would have to choose.
    #[error("the invoice names no amount")]
    Amountless,
    /// Of another chain than the wallet's.
    #[error("the invoice is of {asked}, the Lightning wallet is on {ours}")]
    OtherChain {
        /// The invoice's.
        asked: Network,
        /// The wallet's.
        ours: Network,
    },
    /// Too late to pay it.
    #[error("the invoice has expired, or is about to")]
    Expired,
    /// Nobody can say what it is worth.
    #[error(
        "no price of bitcoin is known, so no cap can be held: farthing wallet lightning set --usd-per-btc"
    )]
    NoPrice,
}
