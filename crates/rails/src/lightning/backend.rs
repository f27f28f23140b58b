//! Which node, and the key to it.

use super::nwc::Connection;
use crate::Secret;
use crate::dial::Origin;

/// A node of the configuration. Each key is the least that the work needs (L402-70): what makes and looks up
/// invoices, and more only where refunds are paid. `base` stands before every path: empty, or with a leading and
/// without a closing slash.
#[derive(Clone, Debug)]
pub enum Backend {
    /// No node: invoices for play money, which anybody can pay (`mode: test` only).
    Test,
    /// LND's REST interface.
    Lnd {
        /// Where it listens.
        origin: Origin,
        /// Before every path.
        base: String,
        /// In hexadecimal. `invoice.macaroon`, for refunds with `offchain:read` and `offchain:write`; with `info:read`
        /// the node's key can be learnt.
        macaroon: Secret,
    },
    /// Core Lightning's CLNRest.
    Cln {
        /// Where it listens.
        origin: Origin,
        /// Before every path.
        base: String,
        /// For `invoice`, `listinvoices` and `waitanyinvoice`, for refunds `xpay`, `pay` and `listpays`; with `getinfo`
        /// the node's key can be learnt.
        rune: Secret,
    },
    /// phoenixd.
    Phoenixd {
        /// Where it listens.
        origin: Origin,
        /// Before every path.
        base: String,
        /// The limited one; for refunds the full one.
        password: Secret,
    },
    /// LNbits.
    LnBits {
        /// Where it listens.
        origin: Origin,
        /// Before every path.
        base: String,
        /// A wallet's invoice key; for refunds its admin key.
        key: Secret,
    },
    /// A wallet that is reached over Nostr relays (NIP-47): its connection string is made with leave for `make_invoice`,
    /// `lookup_invoice` and `get_info`, for refunds also for `pay_invoice`.
    Nwc(Connection),
}
