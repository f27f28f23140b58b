//! Which node, and the key to it.

use super::nwc;

/// A node of the configuration.
#[derive(Clone, Debug)]
pub enum Backend {
    /// No node: invoices for play money, which anybody can pay (`mode: test` only).
    Test,
    /// A wallet that is reached over Nostr relays (NIP-47).
    Nwc(nwc::Wallet),
}
