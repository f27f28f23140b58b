//! Our own entry of `accepts`: the only source of price, asset, chain and domain (X402-10).

use std::sync::Arc;

use serde_json::{Map, Value};
use wire::hex;
use wire::x402::network::{self, FARTHING_TEST};
use wire::x402::{Address, SCHEME_EXACT, v1, v2};

use crate::eip712::{self, Domain, Separator};
use crate::{test_rail, x402_echo};

/// A token we take, with the hash of its domain. Built once per configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvmToken {
    network: String,
    chain_id: u64,
    contract: Address,
    contract_text: String,
    name: String,
    version: String,
    separator: Separator,
    permit2: Separator,
    batch: Separator,
}

/// A network that is not `eip155:<chain id>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an `eip155:` network")]
pub struct NetworkError;

impl EvmToken {
    /// Name and version are those the contract signs under.
    ///
    /// # Errors
    /// [`NetworkError`]
    pub fn new(network: &str, contract: Address, name: &str, version: &str) -> Result<Self, NetworkError> {
        let chain_id = network::chain_id(network).ok_or(NetworkError)?;
        let separator = Domain { name, version, chain_id, verifying_contract: contract }.separator();
        let (network, name, version) = (network.to_owned(), name.to_owned(), version.to_owned());
        let (permit2, batch) = (eip712::permit2_separator(chain_id), eip712::batch_separator(chain_id));
        let contract_text = contract.to_string();
        Ok(Self { network, chain_id, contract, contract_text, name, version, separator, permit2, batch })
    }

    /// CAIP-2.
    #[must_use]
    pub fn network(&self) -> &str {
        &self.network
    }

    /// EIP-155 id.
    #[must_use]
    pub const fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// The token.
    #[must_use]
    pub const fn contract(&self) -> &Address {
        &self.contract
    }

    /// The same, as offers write it.
    #[must_use]
    pub fn contract_text(&self) -> &str {
        &self.contract_text
    }

    /// The hash of its domain.
    #[must_use]
    pub const fn separator(&self) -> &Separator {
        &self.separator
    }

    /// The hash of the Permit2 contract's domain on its chain.
    #[must_use]
    pub const fn permit2_separator(&self) -> &Separator {
        &self.permit2
    }

    /// The hash of the channel contract's domain on its chain.
    #[must_use]
    pub const fn batch_separator(&self) -> &Separator {
        &self.batch
    }

    /// Name and version, as every offer in it says them.
    #[must_use]
    pub fn extra(&self) -> Map<String, Value> {
        Map::from_iter([
            ("name".to_owned(), Value::String(self.name.clone())),
            ("version".to_owned(), Value::String(self.version.clone())),
        ])
    }
}

/// How an offer is paid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// EIP-3009 on an EVM chain.
    Evm {
        /// What is paid.
        token: Arc<EvmToken>,
        /// Who is paid.
        pay_to: Address,
    },
    /// The built-in test rail.
    Test {
        /// The gateway's public key.
        pay_to: [u8; 32],
    },
}

/// One way to pay that we offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What, where and to whom.
    pub method: Method,
    /// Atomic units.
    pub amount: u128,
    /// How long a proof may stay valid.
    pub max_timeout_s: u64,
    /// See [`crate::quote`]; must come back unaltered when set.
    pub quote: Option<String>,
}

impl Offer {
    /// CAIP-2.
    #[must_use]
    pub fn network(&self) -> &str {
        match &self.method {
            Method::Evm { token, .. } => token.network(),
            Method::Test { .. } => FARTHING_TEST,
        }
    }

    /// As version 2 writes it.
    #[must_use]
    pub fn requirements_v2(&self) -> v2::PaymentRequirements {
        let extra = x402_echo::with_quote(self.public_extra(), self.quote.as_deref());
        v2::PaymentRequirements {
            scheme: SCHEME_EXACT.to_owned(),
            network: self.network().to_owned(),
            amount: self.amount.to_string(),
            asset: self.asset_text(),
            pay_to: self.pay_to_text(),
            max_timeout_seconds: self.max_timeout_s,
            extra: (!extra.is_empty()).then_some(extra),
        }
    }

    /// As version 1 writes it; `None` where version 1 has no name for the network. It carries no quote:
    /// version 1 payers do not echo the offer.
    #[must_use]
    pub fn requirements_v1(
        &self,
        resource: &str,
        description: &str,
        mime_type: &str,
    ) -> Option<v1::PaymentRequirements> {
        let extra = self.public_extra();
        Some(v1::PaymentRequirements {
            scheme: SCHEME_EXACT.to_owned(),
            network: network::v1_from_caip2(self.network())?.to_owned(),
            max_amount_required: self.amount.to_string(),
            resource: resource.to_owned(),
            description: description.to_owned(),
            mime_type: mime_type.to_owned(),
            output_schema: None,
            pay_to: self.pay_to_text(),
            max_timeout_seconds: self.max_timeout_s,
            asset: self.asset_text(),
            extra: (!extra.is_empty()).then_some(extra),
        })
    }

    /// The members of `extra` that anybody may see, a facilitator included (X402-11).
    #[must_use]
    pub fn public_extra(&self) -> Map<String, Value> {
        match &self.method {
            Method::Evm { token, .. } => token.extra(),
            Method::Test { .. } => Map::new(),
        }
    }

    fn asset_text(&self) -> String {
        match &self.method {
            Method::Evm { token, .. } => token.contract_text.clone(),
            Method::Test { .. } => test_rail::ASSET.to_owned(),
        }
    }

    fn pay_to_text(&self) -> String {
        match &self.method {
            Method::Evm { pay_to, .. } => pay_to.to_string(),
            Method::Test { pay_to } => hex::encode(pay_to),
        }
    }
}
