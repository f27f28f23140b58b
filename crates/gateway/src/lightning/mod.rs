//! L402: a payment over Lightning becomes a deposit that its token draws on (l402.md).
//!
//! A challenge costs a node an invoice, so [`desk`] makes few; a credential costs nothing but CPU, so [`token`] asks nobody;
//! [`claim`] makes a payment that was never seen before a deposit, once.

mod acts;
mod claim;
mod closing;
mod configured;
mod desk;
mod invoices;
mod sessions;
mod token;
mod watching;

pub(crate) use acts::{Act, What, act, bearer};
pub(crate) use claim::{Claiming, Door, Paid, RAIL, receive};
pub(crate) use closing::keep as keep_sessions;
pub(crate) use configured::rate_settings;
pub(crate) use desk::{Desk, invoice, offer};
pub(crate) use invoices::{Invoices, Made, NoInvoice};
pub(crate) use sessions::Sessions;
pub(crate) use token::{HEX_FIELDS, KnownTokens, OpenToken, TokenUse, is_shown};
pub(crate) use watching::watch;

/// The name in logs and receipts.
pub(crate) const PROTOCOL: &str = "l402";
