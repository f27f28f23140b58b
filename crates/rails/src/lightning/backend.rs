//! Which node, and the key to it.

/// A node of the configuration.
#[derive(Clone, Debug)]
pub enum Backend {
    /// No node: invoices for play money, which anybody can pay (`mode: test` only).
    Test,
}
