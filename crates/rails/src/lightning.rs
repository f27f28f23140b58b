//! Lightning: invoices that a node of the operator's makes, what became of them, and payments by that node.
//!
//! Invariant: an [`Invoice`] has been decoded and is what was asked for (L402-60), whatever the node says; a preimage
//! that a node tells about our own invoices reaches no value here (L402-70); a payment whose end nobody told is
//! [`Sent::Unknown`], never failed.

mod backend;
pub mod bolt11;
mod cln;
mod lnbits;
mod lnd;
mod node;
mod number;
pub mod nwc;
mod payment;
mod phoenixd;
mod polling;
mod port;
pub mod rate;
mod recent;
mod rest;
pub mod test_node;
#[cfg(test)]
mod tests;

pub use backend::Backend;
pub use node::LightningNode;
pub use port::{
    About, EXPIRY_S, Expect, Invoice, InvoiceState, Network, NodeError, Outgoing, Sent, Settled,
    UnknownNetwork, Wanted,
};
