//! The payload of scheme `exact` on Solana: a transaction that the payer signed and the fee payer did not yet.

pub mod transaction;
pub mod voucher;

pub use transaction::{Instruction, Message, Transaction, TransactionError};
pub use voucher::SvmVoucher;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base64;

/// Longest transaction that a Solana node takes.
pub const TRANSACTION_BYTES_MAX: usize = 1232;
/// Its base64.
const TEXT_BYTES_MAX: usize = TRANSACTION_BYTES_MAX.div_ceil(3) * 4;

/// `{transaction}` as it stands on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SvmPayload {
    /// Base64.
    pub transaction: String,
}

impl SvmPayload {
    /// Reads the scheme's part of a payment; `None` if the member is missing or of another type.
    #[must_use]
    pub fn from_value(payload: &Value) -> Option<Self> {
        Self::deserialize(payload).ok()
    }

    /// Writes a transaction.
    #[must_use]
    pub fn from_bytes(transaction: &[u8]) -> Self {
        Self { transaction: base64::encode_std(transaction) }
    }

    /// Takes the transaction apart.
    ///
    /// # Errors
    /// [`TransactionError`]
    pub fn transaction(&self) -> Result<Transaction, TransactionError> {
        let bytes =
            base64::decode_any(&self.transaction, TEXT_BYTES_MAX).map_err(|_| TransactionError::Malformed)?;
        Transaction::parse(&bytes)
    }
}
