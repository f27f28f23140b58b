//! Our own entry of `accepts` that is paid on Solana.

use std::sync::Arc;

use serde_json::{Map, Value};
use wire::x402::{SCHEME_EXACT, base58, network, v1, v2};

use super::token_account::{self, TokenProgram};
use crate::x402_echo;

/// A token we take and the accounts we take it in. Built once per configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SvmToken {
    network: String,
    mint: [u8; 32],
    pay_to: [u8; 32],
    /// In the order of [`TokenProgram::ALL`]: the payer says which program made the mint.
    destinations: [[u8; 32]; 2],
}

impl SvmToken {
    /// `network` is CAIP-2, `pay_to` the owner of the accounts. `None`: no account can be derived.
    #[must_use]
    pub fn new(network: &str, mint: [u8; 32], pay_to: [u8; 32]) -> Option<Self> {
        let [token, token_2022] =
            TokenProgram::ALL.map(|program| token_account::derive(&pay_to, program, &mint));
        Some(Self { network: network.to_owned(), mint, pay_to, destinations: [token?, token_2022?] })
    }

    /// CAIP-2.
    #[must_use]
    pub fn network(&self) -> &str {
        &self.network
    }

    /// The token.
    #[must_use]
    pub const fn mint(&self) -> &[u8; 32] {
        &self.mint
    }

    /// Where it must arrive.
    #[must_use]
    pub const fn destination(&self, program: TokenProgram) -> &[u8; 32] {
        let [token, token_2022] = &self.destinations;
        match program {
            TokenProgram::Token => token,
            TokenProgram::Token2022 => token_2022,
        }
    }
}

/// One way to pay that we offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What is paid, where and to whom.
    pub token: Arc<SvmToken>,
    /// Atomic units.
    pub amount: u64,
    /// Who pays the fee: an account of the facilitator, from its `/supported`.
    pub fee_payer: [u8; 32],
    /// What the transaction's memo must say, at most 256 bytes.
    pub memo: Option<String>,
    /// How long a proof may stay valid. The chain's own limit is the life of a blockhash, 60 to 90 seconds.
    pub max_timeout_s: u64,
    /// See [`crate::quote`]; must come back unaltered when set.
    pub quote: Option<String>,
}

impl Offer {
    /// As version 2 writes it.
    #[must_use]
    pub fn requirements_v2(&self) -> v2::PaymentRequirements {
        v2::PaymentRequirements {
            scheme: SCHEME_EXACT.to_owned(),
            network: self.token.network.clone(),
            amount: self.amount.to_string(),
            asset: base58::encode(&self.token.mint),
            pay_to: base58::encode(&self.token.pay_to),
            max_timeout_seconds: self.max_timeout_s,
            extra: Some(x402_echo::with_quote(self.public_extra(), self.quote.as_deref())),
        }
    }

    /// As version 1 writes it; `None` where version 1 has no name for the network.
    #[must_use]
    pub fn requirements_v1(
        &self,
        resource: &str,
        description: &str,
        mime_type: &str,
    ) -> Option<v1::PaymentRequirements> {
        Some(v1::PaymentRequirements {
            scheme: SCHEME_EXACT.to_owned(),
            network: network::v1_from_caip2(&self.token.network)?.to_owned(),
            max_amount_required: self.amount.to_string(),
            resource: resource.to_owned(),
            description: description.to_owned(),
            mime_type: mime_type.to_owned(),
            output_schema: None,
            pay_to: base58::encode(&self.token.pay_to),
            max_timeout_seconds: self.max_timeout_s,
            asset: base58::encode(&self.token.mint),
            extra: Some(self.public_extra()),
        })
    }

    fn public_extra(&self) -> Map<String, Value> {
        let mut extra = Map::new();
        extra.insert("feePayer".to_owned(), Value::String(base58::encode(&self.fee_payer)));
        if let Some(memo) = &self.memo {
            extra.insert("memo".to_owned(), Value::String(memo.clone()));
        }
        extra
    }
}
