//! A session that is paid over Lightning (MPP 10.2): what came into it, and how it ends.

use std::fmt;

use ledger::Draft;
use serde::{Deserialize, Serialize};

use crate::Payment;

/// Where a session stands, whole. What was spent of it is not here: it is gone from the balance of its account, so that no
/// crash can make the two differ. `Debug` hides the invoice.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LightningSession {
    /// The account that it draws on.
    pub account: [u8; 16],
    /// Asset code.
    pub asset: u8,
    /// What came in, in millisatoshi ...
    pub msat: u64,
    /// ... and what that came to in the account.
    pub credit: i64,
    /// BOLT11 without an amount: where the rest goes.
    pub return_invoice: String,
    /// Unix milliseconds.
    pub opened_ms: u64,
    /// Its end: from here on nothing begins on it.
    pub closing: Option<SessionClose>,
}

/// How a session ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionClose {
    /// The challenge whose answer closed it; empty where the gateway did.
    pub challenge: String,
    /// Unix milliseconds.
    pub at_ms: u64,
    /// Satoshis that go back.
    pub sats: u64,
    /// What became of them.
    pub refund: SessionRefund,
}

/// What became of the rest of a session. It is paid back once or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionRefund {
    /// Nobody has tried yet, or it is not known how that ended: the payout of the return invoice tells.
    Pending,
    /// It went back.
    Succeeded,
    /// It could not be paid back, and stays in the account.
    Failed,
    /// There was nothing.
    Skipped,
}

impl LightningSession {
    /// When it may be forgotten, Unix seconds; none while its end is not known.
    #[must_use]
    pub fn forgotten_s(&self) -> Option<u64> {
        let closing = self.closing.as_ref().filter(|closing| closing.refund != SessionRefund::Pending)?;
        Some((closing.at_ms / 1000).saturating_add(KEPT_SECONDS))
    }
}

/// Seconds after its end that a session is kept, for late questions.
const KEPT_SECONDS: u64 = 7 * 24 * 3600;

impl fmt::Debug for LightningSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LightningSession({} msat, {:?}, invoice hidden)", self.msat, self.closing)
    }
}

/// One step of a session, with the money that comes in by it: one write, or nothing of it.
#[derive(Clone, Debug)]
pub struct SessionWrite {
    /// Payment hash of the invoice that opened it.
    pub id: [u8; 32],
    /// Where it stands from now on.
    pub session: LightningSession,
    /// The deposit that it opens with or is topped up by.
    pub deposit: Option<SessionDeposit>,
}

/// Money that comes into a session.
#[derive(Clone, Debug)]
pub struct SessionDeposit {
    /// Deposit key.
    pub key: [u8; 32],
    /// The payment; its state is set by the store.
    pub payment: Payment,
    /// The deposit entry.
    pub entry: Draft,
}
