//! The `Payment` scheme, the server's side (specs/mpp.md).
//!
//! A 402 carries one challenge for each way to pay; a credential echoes one of them and proves a payment. What comes of
//! it is what comes of every payment: a deposit, and a call that draws on it. Nothing of an unpaid request is stored: the
//! id of a challenge is a MAC over what it says (MPP-4, MPP-7).
//!
//! ```text
//! 402:        offers  -> methods::offers    which challenges this route makes, in which order
//! credential: echo    -> is the challenge ours, for this request, in time (MPP-13.3 to 13.6)
//!             methods::verify               does the payload pay for it (13.7): what it brings
//!             admission, payments, ...      claim, deposit, hold: as for the other protocols (13.8)
//! answer:     receipt                       Payment-Receipt, on a paid 2xx only (MPP-18)
//! ```
//!
//! **The seam.** A method is one file of [`methods`] and one arm of each `match` there:
//! - `intents`: the intents it has, and which of its credentials must not be late (`is_timed`).
//! - `offers(demand, intent)`: the `request` of each challenge, as an [`Offer`]; more than one where there are several
//!   tokens. What has to be asked of somebody first says [`Making::Spent`] or [`Making::Out`].
//! - `verify(demand, echo)`: compares the request of the challenge with what the route demands *now*, and checks the
//!   payload with the CPU only. It answers [`Proven::Brings`] for whatever money comes in, [`Proven::Opens`] where it is
//!   there already and a key has said whose, [`Proven::Draws`] where the credential says whose. A new kind of money is a
//!   variant of `admission::Brings`, received in `serving` and `top_up`.
//! - `listed`: what a catalogue says of its offers, without asking anybody to make one.
//! - `seen`: for public proofs, what became of one that was shown before, whatever is wrong with its challenge by now.
//!
//! A method refuses with [`refused`], which gives the refusal its problem type. What is about a session alone goes through
//! [`session`]; [`wallet`] is a proof that pays nothing.

mod decoded;
mod desk;
mod echo;
mod listed;
mod methods;
mod offers;
pub(crate) mod processor;
mod receipt;
mod refused;
pub(crate) mod session;
mod verify;
pub(crate) mod wallet;

pub(crate) use decoded::Decoded;
pub(crate) use desk::{Desk, written};
pub(crate) use echo::Echo;
pub(crate) use listed::{Listed, listed};
pub(crate) use methods::credit::key as credit_key;
pub(crate) use methods::evm::{Signed, SignedPayload, request as evm_request};
pub(crate) use offers::{Making, Offer, offer};
pub(crate) use receipt::{Paid, Told};
pub(crate) use refused::{problem_of, refused, undecodable};
pub(crate) use verify::{Demand, Proven, verify};

/// The name in logs and receipts.
pub(crate) const PROTOCOL: &str = "mpp";
