//! Why a payment from a channel is not taken.

use wire::x402::batch::{CUMULATIVE_BELOW_CLAIMED, CUMULATIVE_MISMATCH};

use crate::secp::SignatureError;
use crate::x402_exact::ExactError;

/// Nothing was consumed in any of these cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// As for any payment of this kind.
    #[error(transparent)]
    Terms(#[from] ExactError),
    /// No deposit, voucher or refund.
    #[error("payload is none of this scheme")]
    PayloadType,
    /// The channel is not the one that was described.
    #[error("channel id is not the hash of the channel")]
    ChannelIdMismatch,
    /// It holds another token.
    #[error("channel holds another token")]
    TokenMismatch,
    /// It pays somebody else.
    #[error("channel pays somebody else")]
    ReceiverMismatch,
    /// Somebody else would sign our claims.
    #[error("channel names another receiver authorizer")]
    ReceiverAuthorizerMismatch,
    /// Its payer could withdraw earlier than we ask for.
    #[error("channel has another withdraw delay")]
    WithdrawDelayMismatch,
    /// The payer's contract would decide: a facilitator must be asked.
    #[error("the payer's contract decides about signatures")]
    ContractSigner,
    /// Not canonical, or somebody else's.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The signature under the deposit is not canonical, or not the payer's.
    #[error("deposit: {0}")]
    DepositSignature(SignatureError),
    /// The deposit is smaller than our offer asks for.
    #[error("deposit is below the minimum")]
    DepositBelowMin,
    /// The deposit would not go where deposits of this kind go.
    #[error("deposit goes elsewhere")]
    DepositElsewhere,
    /// Another call on the channel is under way. The same payment again, a second later.
    #[error("channel is busy")]
    Busy,
    /// The voucher does not start where the channel stands. Corrective.
    #[error("voucher does not continue from {charged}")]
    CumulativeMismatch {
        /// What was charged in all.
        charged: u128,
    },
    /// The voucher is not above what is claimed already. Corrective.
    #[error("voucher is not above what was claimed")]
    BelowClaimed,
    /// The channel does not hold so much.
    #[error("channel does not hold what the voucher promises")]
    ExceedsBalance,
    /// Our view of the chain is too old to decide: a facilitator must be asked.
    #[error("the channel's state is not known freshly enough")]
    StaleMirror,
    /// Nothing is left to give back.
    #[error("nothing to refund")]
    RefundNoBalance,
    /// Zero, or more than is left.
    #[error("refund amount is impossible")]
    RefundAmount,
}

impl BatchError {
    /// The scheme's own code, in its deployed spelling, where it has one: stock clients test for it (X402-20).
    #[must_use]
    pub const fn scheme_code(&self) -> Option<&'static str> {
        Some(match self {
            Self::Terms(_) | Self::ContractSigner | Self::StaleMirror | Self::DepositElsewhere => {
                return None;
            }
            Self::PayloadType => "invalid_batch_settlement_evm_payload_type",
            Self::ChannelIdMismatch => "invalid_batch_settlement_evm_channel_id_mismatch",
            Self::TokenMismatch => "invalid_batch_settlement_evm_token_mismatch",
            Self::ReceiverMismatch => "invalid_batch_settlement_evm_receiver_mismatch",
            Self::ReceiverAuthorizerMismatch => "invalid_batch_settlement_evm_receiver_authorizer_mismatch",
            Self::WithdrawDelayMismatch => "invalid_batch_settlement_evm_withdraw_delay_mismatch",
            Self::Signature(_) => "invalid_batch_settlement_evm_voucher_signature",
            Self::DepositSignature(_) => "invalid_batch_settlement_evm_receive_authorization_signature",
            Self::DepositBelowMin => "invalid_batch_settlement_evm_deposit_below_min_deposit",
            Self::Busy => "invalid_batch_settlement_evm_channel_busy",
            Self::CumulativeMismatch { .. } => CUMULATIVE_MISMATCH,
            Self::BelowClaimed => CUMULATIVE_BELOW_CLAIMED,
            Self::ExceedsBalance => "invalid_batch_settlement_evm_cumulative_exceeds_balance",
            Self::RefundNoBalance => "invalid_batch_settlement_evm_refund_no_balance",
            Self::RefundAmount => "invalid_batch_settlement_evm_refund_amount_invalid",
        })
    }

    /// Whether only a facilitator can tell: it is asked, and the payer is not told of it.
    #[must_use]
    pub const fn needs_facilitator(&self) -> bool {
        matches!(self, Self::ContractSigner | Self::StaleMirror)
    }

    /// The code for the refusal's body.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Terms(error) => error.code(),
            Self::PayloadType => "malformed_credential",
            Self::TokenMismatch => "wrong_asset",
            Self::ReceiverMismatch => "wrong_payee",
            Self::ExceedsBalance => "proof_underpaid",
            Self::Busy => "in_progress",
            Self::ChannelIdMismatch
            | Self::ReceiverAuthorizerMismatch
            | Self::WithdrawDelayMismatch
            | Self::ContractSigner
            | Self::Signature(_)
            | Self::DepositSignature(_)
            | Self::DepositBelowMin
            | Self::DepositElsewhere
            | Self::CumulativeMismatch { .. }
            | Self::BelowClaimed
            | Self::StaleMirror
            | Self::RefundNoBalance
            | Self::RefundAmount => "proof_invalid",
        }
    }
}
