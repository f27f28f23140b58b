//! What an operator decides about one account.

use serde::{Deserialize, Serialize};

/// Limits and state of an account. Everything has a default, so that rows of older versions still read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AccountSettings {
    /// Ledger units the account may go below zero; 0 for none.
    pub overdraft: i64,
    /// Whether it may be drawn on.
    pub state: AccountMode,
    /// Most one call may cost, in ledger units.
    pub per_call: Option<i64>,
    /// Most that may be spent in one day, in ledger units.
    pub per_day: Option<i64>,
    /// The group whose prices it has, if not everybody's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The largest overdraft there ever was: a balance of the past is held against it. The store keeps it, what
    /// is handed in can only raise it.
    pub overdraft_max: i64,
}

impl AccountSettings {
    /// The largest overdraft the account ever had, this one included.
    #[must_use]
    pub fn overdraft_ever(&self) -> i64 {
        self.overdraft_max.max(self.overdraft)
    }

    pub(crate) fn remembering(&self, before: Option<&Self>) -> Self {
        let ever = before.map_or(0, Self::overdraft_ever).max(self.overdraft_ever());
        Self { overdraft_max: ever, ..self.clone() }
    }
}

/// Whether an account may be drawn on (LED-8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountMode {
    /// Everything.
    #[default]
    Open,
    /// Ends of calls and deposits, no new call.
    Frozen,
    /// Nothing more; its balance is zero.
    Closed,
}
