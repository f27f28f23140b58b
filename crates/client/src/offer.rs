//! One way to pay, as the seller wrote it and as far as we can pay it.

use std::sync::Arc;

use money::{Amount, Asset, ledger_from_atomic_down};
use proof::test_rail;
use proof::x402_exact::{EvmToken, Method};
use serde_json::{Map, Value};
use wire::hex;
use wire::x402::exact::decimal;
use wire::x402::network::{self, FARTHING_TEST};
use wire::x402::{Address, SCHEME_EXACT, asset, v1, v2};

/// Which version of x402 made the offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Body of the 402, paid in `X-PAYMENT`.
    V1,
    /// Header of the 402, paid in `PAYMENT-SIGNATURE`.
    V2,
}

/// One entry of `accepts`.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// As it came: what a version 2 payment echoes.
    pub(crate) entry: Entry,
    /// What it costs and to whom it goes, or why we cannot pay it.
    pub terms: Result<Terms, Unpayable>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    V1(v1::PaymentRequirements),
    V2(v2::PaymentRequirements),
}

/// What an offer asks for, read strictly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Atomic units of the token.
    pub atomic: u128,
    /// The same in the ledger unit of `asset`; all our assets here stand at a dollar.
    pub price: Amount,
    /// What is paid.
    pub asset: Asset,
    /// How long the signature is to stay valid.
    pub max_timeout_s: u64,
    /// Token and payee. Chain, contract and domain come from our own table, never from the seller.
    pub method: Method,
}

/// Why an offer cannot be paid by us. Never an error: another offer may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unpayable {
    /// A scheme we do not sign.
    #[error("scheme not supported")]
    Scheme,
    /// A network we have no key for.
    #[error("network not supported")]
    Network,
    /// A token we do not know: neither its worth nor what its signatures cover.
    #[error("token not known")]
    Asset,
    /// The token shall move in another way than by EIP-3009.
    #[error("transfer method not supported")]
    Transfer,
    /// Not a positive number of atomic units within our range.
    #[error("amount is not usable")]
    Amount,
    /// Not an address of the network.
    #[error("payee is not an address")]
    Payee,
    /// Too short a time to settle, so it could only fail.
    #[error("time limit is too short")]
    Window,
    /// Header and body of the same 402 name different amounts or payees for the same token.
    #[error("the 402 contradicts itself about amount or payee")]
    Contradiction,
}

/// Longest time we let a signature stand (README item 7).
const WINDOW_S_MAX: u64 = 480;

impl Offer {
    pub(crate) fn v2(entry: v2::PaymentRequirements) -> Self {
        let terms = terms(&Fields {
            scheme: &entry.scheme,
            network: Some(&entry.network),
            amount: &entry.amount,
            asset: &entry.asset,
            pay_to: &entry.pay_to,
            max_timeout_s: entry.max_timeout_seconds,
            extra: entry.extra.as_ref(),
        });
        Self { entry: Entry::V2(entry), terms }
    }

    pub(crate) fn v1(entry: v1::PaymentRequirements) -> Self {
        let terms = terms(&Fields {
            scheme: &entry.scheme,
            network: network::caip2_from_v1(&entry.network),
            amount: &entry.max_amount_required,
            asset: &entry.asset,
            pay_to: &entry.pay_to,
            max_timeout_s: entry.max_timeout_seconds,
            extra: entry.extra.as_ref(),
        });
        Self { entry: Entry::V1(entry), terms }
    }

    /// Which version it is of.
    #[must_use]
    pub const fn version(&self) -> Version {
        match self.entry {
            Entry::V1(_) => Version::V1,
            Entry::V2(_) => Version::V2,
        }
    }

    /// CAIP-2 id, or the seller's word where there is none.
    #[must_use]
    pub fn network(&self) -> &str {
        match &self.entry {
            Entry::V1(entry) => network::caip2_from_v1(&entry.network).unwrap_or(&entry.network),
            Entry::V2(entry) => &entry.network,
        }
    }

    /// The scheme's name.
    #[must_use]
    pub fn scheme(&self) -> &str {
        match &self.entry {
            Entry::V1(entry) => &entry.scheme,
            Entry::V2(entry) => &entry.scheme,
        }
    }

    /// The payee as the seller wrote it.
    #[must_use]
    pub fn pay_to(&self) -> &str {
        match &self.entry {
            Entry::V1(entry) => &entry.pay_to,
            Entry::V2(entry) => &entry.pay_to,
        }
    }

    /// The amount as the seller wrote it, in atomic units.
    #[must_use]
    pub fn amount(&self) -> &str {
        match &self.entry {
            Entry::V1(entry) => &entry.max_amount_required,
            Entry::V2(entry) => &entry.amount,
        }
    }

    /// Whether it is play money.
    #[must_use]
    pub fn is_test_rail(&self) -> bool {
        self.network() == FARTHING_TEST
    }

    /// Makes the offer unpayable if the other version of the same 402 offers the same token only at
    /// another price or to another payee: whoever reads one of the two must see the same.
    pub(crate) fn hold_against(&mut self, others: &[Self]) {
        let agrees = |other: &Self| other.terms == self.terms;
        if !others.iter().any(agrees) && others.iter().any(|other| self.contradicts(other)) {
            self.terms = Err(Unpayable::Contradiction);
        }
    }

    fn contradicts(&self, other: &Self) -> bool {
        let (Ok(mine), Ok(theirs)) = (&self.terms, &other.terms) else { return false };
        let token = |method: &Method| match method {
            Method::Evm { token, .. } => Some((token.chain_id(), *token.contract())),
            Method::Test { .. } => None,
        };
        token(&mine.method) == token(&theirs.method)
            && (mine.atomic != theirs.atomic || mine.method != theirs.method)
    }
}

struct Fields<'a> {
    scheme: &'a str,
    network: Option<&'a str>,
    amount: &'a str,
    asset: &'a str,
    pay_to: &'a str,
    max_timeout_s: u64,
    extra: Option<&'a Map<String, Value>>,
}

fn terms(fields: &Fields<'_>) -> Result<Terms, Unpayable> {
    if fields.scheme != SCHEME_EXACT {
        return Err(Unpayable::Scheme);
    }
    let network = fields.network.ok_or(Unpayable::Network)?;
    let (method, asset, decimals) = if network == FARTHING_TEST {
        if fields.asset != test_rail::ASSET {
            return Err(Unpayable::Asset);
        }
        let pay_to = hex::decode_array(fields.pay_to).map_err(|_| Unpayable::Payee)?;
        (Method::Test { pay_to }, Asset::Test, test_rail::DECIMALS)
    } else {
        evm(fields, network)?
    };
    let atomic = decimal(fields.amount).filter(|atomic| *atomic > 0).ok_or(Unpayable::Amount)?;
    let price = ledger_from_atomic_down(atomic, asset.exponent(), decimals).map_err(|_| Unpayable::Amount)?;
    if fields.max_timeout_s < proof::x402_exact::SETTLE_MARGIN_S {
        return Err(Unpayable::Window);
    }
    let max_timeout_s = fields.max_timeout_s.min(WINDOW_S_MAX);
    Ok(Terms { atomic, price, asset, max_timeout_s, method })
}

fn evm(fields: &Fields<'_>, network: &str) -> Result<(Method, Asset, u32), Unpayable> {
    let known = asset::default_token(network).ok_or(Unpayable::Network)?;
    let contract: Address = fields.asset.parse().map_err(|_| Unpayable::Asset)?;
    // Rounding the price down is exact for these, so nothing is ever cheaper than it seems.
    if contract != known.address || !known.asset.is_dollar_parity() || known.decimals > known.asset.exponent()
    {
        return Err(Unpayable::Asset);
    }
    let transfer = fields.extra.and_then(|extra| extra.get("assetTransferMethod"));
    if transfer.is_some_and(|method| method != "eip3009") {
        return Err(Unpayable::Transfer);
    }
    let pay_to: Address = fields.pay_to.parse().map_err(|_| Unpayable::Payee)?;
    if pay_to == Address::ZERO {
        return Err(Unpayable::Payee);
    }
    let token =
        EvmToken::new(network, contract, known.name, known.version).map_err(|_| Unpayable::Network)?;
    Ok((Method::Evm { token: Arc::new(token), pay_to }, known.asset, known.decimals))
}
