//! Our own entry of `accepts` that is paid from a channel.

use std::sync::Arc;

use serde_json::Value;
use wire::x402::batch::{ChannelState, SCHEME, VoucherState, state};
use wire::x402::{Address, v2};

use crate::x402_echo;
use crate::x402_exact::EvmToken;

/// One way to pay that we offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What is paid, and where.
    pub token: Arc<EvmToken>,
    /// Who is paid.
    pub receiver: Address,
    /// Whose key signs our claims and refunds; not zero (X402-32).
    pub receiver_authorizer: Address,
    /// Seconds between a payer's wish to withdraw and the withdrawal; 900 to 2592000.
    pub withdraw_delay: u64,
    /// What a deposit should bring at least, in atomic units; what stock clients then deposit.
    pub min_deposit: Option<u128>,
    /// The most that this call may cost, in atomic units.
    pub amount: u128,
    /// How long a deposit's authorization may stay valid.
    pub max_timeout_s: u64,
    /// See [`crate::quote`]; must come back unaltered when set.
    pub quote: Option<String>,
}

impl Offer {
    /// As version 2 writes it. There is no version 1 of this scheme.
    #[must_use]
    pub fn requirements_v2(&self) -> v2::PaymentRequirements {
        let mut extra = self.token.extra();
        let authorizer = self.receiver_authorizer.to_string();
        extra.insert("receiverAuthorizer".to_owned(), Value::String(authorizer));
        extra.insert("withdrawDelay".to_owned(), Value::from(self.withdraw_delay));
        if let Some(min_deposit) = self.min_deposit {
            extra.insert("minDeposit".to_owned(), Value::String(min_deposit.to_string()));
        }
        v2::PaymentRequirements {
            scheme: SCHEME.to_owned(),
            network: self.token.network().to_owned(),
            amount: self.amount.to_string(),
            asset: self.token.contract_text().to_owned(),
            pay_to: self.receiver.to_string(),
            max_timeout_seconds: self.max_timeout_s,
            extra: Some(x402_echo::with_quote(extra, self.quote.as_deref())),
        }
    }

    /// The offer of a corrective challenge: it tells the payer where his channel stands (X402-29). The answer that
    /// carries it has no `PAYMENT-RESPONSE`, or stock clients do not look at it.
    #[must_use]
    pub fn corrective_v2(
        &self,
        channel: &ChannelState,
        voucher: Option<&VoucherState>,
    ) -> v2::PaymentRequirements {
        let mut requirements = self.requirements_v2();
        state::correct(requirements.extra.get_or_insert_default(), channel, voucher);
        requirements
    }
}
