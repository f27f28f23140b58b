//! L402: a payment over Lightning becomes a deposit that its token draws on (l402.md).
//!
//! A challenge costs a node an invoice, so [`desk`] makes few; a credential costs nothing but CPU, so [`token`] asks nobody;
//! [`claim`] makes a payment that was never seen before a deposit, once.

mod claim;
mod configured;
mod desk;
mod invoices;
mod token;
mod watching;

pub(crate) use claim::{Claiming, RAIL, receive};
pub(crate) use configured::rate_settings;
pub(crate) use desk::{Desk, offer};
pub(crate) use invoices::Invoices;
pub(crate) use token::{KnownTokens, OpenToken, TokenUse, is_shown};
pub(crate) use watching::watch;

/// The name in logs and receipts.
pub(crate) const PROTOCOL: &str = "l402";
