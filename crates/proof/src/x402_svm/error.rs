//! Why a payment on Solana is not taken.

use wire::x402::svm::TransactionError;

use crate::x402_exact::ExactError;

/// Nothing was consumed in any of these cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SvmError {
    /// As for any payment of this kind.
    #[error(transparent)]
    Terms(#[from] ExactError),
    /// Not a transaction we read.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    /// Somebody else would pay the fee, or has signed already.
    #[error("fee payer is not the facilitator's, or has signed")]
    FeePayer,
    /// An instruction could take the fee payer's money.
    #[error("an instruction names the fee payer")]
    FeePayerTouched,
    /// Fewer than three instructions, or more than seven.
    #[error("{0} instructions")]
    InstructionCount(usize),
    /// An instruction that is none of a payment's, or not in its place.
    #[error("instruction {0} is not one of a payment here")]
    Instruction(usize),
    /// The fee payer would pay too much for the block's space.
    #[error("compute unit price is too high")]
    ComputePrice,
    /// Our offer names a memo and the transaction has another, several or none.
    #[error("memo is not the one we asked for")]
    Memo,
}

impl SvmError {
    /// The code for the refusal's body.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Terms(error) => error.code(),
            Self::Transaction(_) => "malformed_credential",
            Self::FeePayer
            | Self::FeePayerTouched
            | Self::InstructionCount(_)
            | Self::Instruction(_)
            | Self::ComputePrice
            | Self::Memo => "proof_invalid",
        }
    }

    /// The finer reason beside the code.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Terms(error) => error.reason(),
            Self::Transaction(_) => "malformed_transaction",
            Self::FeePayer => "fee_payer_mismatch",
            Self::FeePayerTouched => "fee_payer_not_isolated",
            Self::InstructionCount(_) | Self::Instruction(_) => "instruction_not_allowed",
            Self::ComputePrice => "compute_price_too_high",
            Self::Memo => "memo_mismatch",
        }
    }
}
