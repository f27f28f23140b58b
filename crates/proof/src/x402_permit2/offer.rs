//! Our own entry of `accepts` that is paid by Permit2.

use std::sync::Arc;

use serde_json::{Map, Value};
use wire::x402::facilitator::SettleRequest;
use wire::x402::permit2::TRANSFER_METHOD;
use wire::x402::{Address, SCHEME_EXACT, SCHEME_UPTO, v2};

use super::Permit2Payment;
use crate::x402_echo;
use crate::x402_exact::EvmToken;

/// Which contract spends the permit, and how much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spends {
    /// Scheme `exact`: all of it, by any facilitator.
    Exact,
    /// Scheme `upto`: as much as the call cost, by this facilitator only. Its address comes from its `/supported`.
    Upto {
        /// Sender of the transaction.
        facilitator: Address,
    },
}

/// One way to pay that we offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What is paid, and where.
    pub token: Arc<EvmToken>,
    /// Who is paid.
    pub pay_to: Address,
    /// Atomic units: the price under `exact`, the ceiling under `upto`.
    pub amount: u128,
    /// How it is spent.
    pub spends: Spends,
    /// How long a permit may stay valid.
    pub max_timeout_s: u64,
    /// What must be left of a permit's time: [`crate::x402_exact::SETTLE_MARGIN_S`] if it is settled before the
    /// call, and the time of the call besides if after (X402-18).
    pub margin_s: u64,
    /// See [`crate::quote`]; must come back unaltered when set.
    pub quote: Option<String>,
}

/// Why nothing is asked of a facilitator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChargeError {
    /// The call cost nothing: no transaction, and the result says so with an empty one.
    #[error("nothing to settle")]
    Nothing,
    /// Not the amount that was signed, or above the ceiling that was.
    #[error("{charge} of {signed} atomic units")]
    NotSigned {
        /// What was to be taken.
        charge: u128,
        /// What the permit allows.
        signed: u128,
    },
}

impl Offer {
    /// `exact` or `upto`.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        match self.spends {
            Spends::Exact => SCHEME_EXACT,
            Spends::Upto { .. } => SCHEME_UPTO,
        }
    }

    /// As version 2 writes it.
    #[must_use]
    pub fn requirements_v2(&self) -> v2::PaymentRequirements {
        v2::PaymentRequirements {
            scheme: self.scheme().to_owned(),
            network: self.token.network().to_owned(),
            amount: self.amount.to_string(),
            asset: self.token.contract_text().to_owned(),
            pay_to: self.pay_to.to_string(),
            max_timeout_seconds: self.max_timeout_s,
            extra: Some(x402_echo::with_quote(self.public_extra(), self.quote.as_deref())),
        }
    }

    /// What `/verify` is asked about a payment that passed here.
    #[must_use]
    pub fn verify_request(
        &self,
        payment: &Permit2Payment,
        resource: Option<v2::ResourceInfo>,
    ) -> SettleRequest {
        self.request(payment, resource, self.amount)
    }

    /// What `/settle` is asked: `paymentRequirements.amount` is what the call cost, while what the payer accepted
    /// keeps the ceiling.
    ///
    /// # Errors
    /// [`ChargeError`]; ask nobody.
    pub fn settle_request(
        &self,
        payment: &Permit2Payment,
        resource: Option<v2::ResourceInfo>,
        charge: u128,
    ) -> Result<SettleRequest, ChargeError> {
        let signed = payment.permit.amount;
        let fits = match self.spends {
            Spends::Exact => charge == signed,
            Spends::Upto { .. } => charge <= signed,
        };
        if !fits {
            return Err(ChargeError::NotSigned { charge, signed });
        }
        if charge == 0 {
            return Err(ChargeError::Nothing);
        }
        Ok(self.request(payment, resource, charge))
    }

    fn request(
        &self,
        payment: &Permit2Payment,
        resource: Option<v2::ResourceInfo>,
        amount: u128,
    ) -> SettleRequest {
        x402_echo::facilitator_request(self.requirements_v2(), &payment.to_wire(), resource, amount)
    }

    fn public_extra(&self) -> Map<String, Value> {
        let mut extra = self.token.extra();
        extra.insert("assetTransferMethod".to_owned(), Value::String(TRANSFER_METHOD.to_owned()));
        if let Spends::Upto { facilitator } = self.spends {
            extra.insert("facilitatorAddress".to_owned(), Value::String(facilitator.to_string()));
        }
        extra
    }
}
