//! One way to pay, as the seller wrote it and as far as we can pay it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use money::{Amount, Asset, atomic_from_ledger_up, ledger_from_atomic_down};
use proof::test_rail;
use proof::x402_exact::{EvmToken, Method, SETTLE_MARGIN_S};
use proof::x402_permit2::Spends;
use proof::{x402_batch, x402_permit2};
use serde_json::{Map, Value};
use wire::hex;
use wire::l402::{Offered, OfferedError};
use wire::x402::exact::decimal;
use wire::x402::network::{self, FARTHING_TEST};
use wire::x402::offer_receipt::{self, Signed};
use wire::x402::permit2::TRANSFER_METHOD;
use wire::x402::{Address, SCHEME_EXACT, SCHEME_UPTO, asset, base58, batch, v1, v2};

use crate::attested;
use crate::lightning::{Invoice, InvoiceTerms};
use crate::solana::{self, SolanaTerms};
use crate::unpayable::Unpayable;

/// Which protocol made the offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// x402: body of the 402, paid in `X-PAYMENT`.
    V1,
    /// x402: header of the 402, paid in `PAYMENT-SIGNATURE`.
    V2,
    /// L402: `WWW-Authenticate`, paid over Lightning and shown in `Authorization`.
    L402,
}

/// One entry of `accepts`, or an L402 challenge.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// As it came: what a version 2 payment echoes.
    pub(crate) entry: Entry,
    /// What it costs and to whom it goes, or why we cannot pay it.
    pub terms: Result<Terms, Unpayable>,
    /// The same under the seller's signature, if he gave one. Not checked yet.
    pub(crate) promise: Option<Box<Signed<offer_receipt::Offer>>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    V1(v1::PaymentRequirements),
    V2(v2::PaymentRequirements),
    L402(Box<Invoice>),
}

/// What an offer asks for, read strictly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Atomic units of the token: the price, or under `upto` and `batch-settlement` the most that the call can cost.
    /// Of an invoice millisatoshi, without the fee of the way.
    pub atomic: u128,
    /// The same in the ledger unit of `asset`; all our assets here stand at a dollar. Of an invoice with the highest fee,
    /// by the wallet's own price of bitcoin.
    pub price: Amount,
    /// What is paid.
    pub asset: Asset,
    /// Decimal places of the atomic unit.
    pub decimals: u32,
    /// How long the signature is to stay valid.
    pub max_timeout_s: u64,
    /// How it is paid. Chain, contract and domain come from our own table, never from the seller.
    pub way: Way,
}

/// How an offer is paid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// `exact`: the token itself takes a signature, or the test rail does.
    Transfer(Method),
    /// `exact` by Permit2, and `upto`.
    Permit {
        /// What is paid.
        token: Arc<EvmToken>,
        /// Who is paid.
        pay_to: Address,
        /// All of it, or as much as the call cost.
        spends: Spends,
    },
    /// `batch-settlement`: a voucher of a channel.
    Channel(ChannelTerms),
    /// `exact` on Solana: a transaction.
    Solana(SolanaTerms),
    /// L402: an invoice.
    Invoice(InvoiceTerms),
}

/// What a channel that pays an offer must be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelTerms {
    /// What is paid.
    pub token: Arc<EvmToken>,
    /// Who is paid.
    pub receiver: Address,
    /// Whose key signs claims and refunds for the receiver; not zero.
    pub receiver_authorizer: Address,
    /// Seconds between asking for a withdrawal and having it.
    pub withdraw_delay: u64,
    /// What a deposit shall bring at least, in atomic units.
    pub min_deposit: Option<u128>,
}

/// A way to pay, by the name it has in configurations and on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// The token itself takes a signature, or the test rail does.
    Exact,
    /// `exact` by Permit2.
    Permit2,
    /// Permit2, for as much as the call cost.
    Upto,
    /// A payment channel.
    Batch,
    /// An invoice over Lightning.
    L402,
}

/// Text that names no scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a scheme: exact, permit2, upto, batch-settlement, l402")]
pub struct SchemeError;

impl Scheme {
    const ALL: [Self; 5] = [Self::Exact, Self::Permit2, Self::Upto, Self::Batch, Self::L402];

    /// As people write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Permit2 => "permit2",
            Self::Upto => "upto",
            Self::Batch => "batch-settlement",
            Self::L402 => "l402",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scheme {
    type Err = SchemeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|scheme| scheme.name() == text).ok_or(SchemeError)
    }
}

impl Terms {
    /// Which scheme it is.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        match &self.way {
            Way::Transfer(_) | Way::Solana(_) => Scheme::Exact,
            Way::Permit { spends: Spends::Exact, .. } => Scheme::Permit2,
            Way::Permit { spends: Spends::Upto { .. }, .. } => Scheme::Upto,
            Way::Channel(_) => Scheme::Batch,
            Way::Invoice(_) => Scheme::L402,
        }
    }

    /// The token's contract; empty on the test rail and over Lightning.
    pub(crate) fn token(&self) -> String {
        let token = match &self.way {
            Way::Transfer(Method::Evm { token, .. }) | Way::Permit { token, .. } => token,
            Way::Channel(channel) => &channel.token,
            Way::Solana(solana) => return base58::encode(solana.token.mint()),
            Way::Transfer(Method::Test { .. }) | Way::Invoice(_) => return String::new(),
        };
        token.contract().to_string()
    }

    /// What so many atomic units are worth; `None` beyond what we count.
    pub(crate) fn worth(&self, atomic: u128) -> Option<Amount> {
        if let Way::Invoice(invoice) = &self.way {
            return invoice.worth_up(u64::try_from(atomic).ok()?);
        }
        ledger_from_atomic_down(atomic, self.asset.exponent(), self.decimals).ok()
    }

    /// The most atomic units that are worth no more than `amount`.
    pub(crate) fn atomic_within(&self, amount: Amount) -> u128 {
        let up = atomic_from_ledger_up(amount, self.asset.exponent(), self.decimals).unwrap_or_default();
        let too_much = self.worth(up).is_none_or(|worth| worth > amount);
        up.saturating_sub(u128::from(too_much))
    }
}

impl ChannelTerms {
    /// As a seller checks what is sent for it.
    pub(crate) fn offer(&self, amount: u128, max_timeout_s: u64) -> x402_batch::Offer {
        x402_batch::Offer {
            token: Arc::clone(&self.token),
            receiver: self.receiver,
            receiver_authorizer: self.receiver_authorizer,
            withdraw_delay: self.withdraw_delay,
            min_deposit: self.min_deposit,
            amount,
            max_timeout_s,
            quote: None,
        }
    }
}

/// Longest time we let a signature stand (README item 7).
const WINDOW_S_MAX: u64 = 480;
/// The same under `upto`, whose payment is settled when the call has ended: the call's own time is part of it.
const UPTO_WINDOW_S_MAX: u64 = 3_600;

impl Offer {
    pub(crate) fn v2(entry: v2::PaymentRequirements) -> Self {
        let terms = terms(&Fields {
            version: Version::V2,
            scheme: &entry.scheme,
            network: Some(&entry.network),
            amount: &entry.amount,
            asset: &entry.asset,
            pay_to: &entry.pay_to,
            max_timeout_s: entry.max_timeout_seconds,
            extra: entry.extra.as_ref(),
        });
        Self { entry: Entry::V2(entry), terms, promise: None }
    }

    pub(crate) fn v1(entry: v1::PaymentRequirements) -> Self {
        let terms = terms(&Fields {
            version: Version::V1,
            scheme: &entry.scheme,
            network: network::caip2_from_v1(&entry.network),
            amount: &entry.max_amount_required,
            asset: &entry.asset,
            pay_to: &entry.pay_to,
            max_timeout_s: entry.max_timeout_seconds,
            extra: entry.extra.as_ref(),
        });
        Self { entry: Entry::V1(entry), terms, promise: None }
    }

    /// Not payable until a Lightning wallet says what it is worth.
    pub(crate) fn l402(offered: Result<Offered, OfferedError>) -> Self {
        let invoice = Invoice::new(offered);
        let terms = Err(invoice.without_wallet());
        Self { entry: Entry::L402(Box::new(invoice)), terms, promise: None }
    }

    /// Which version it is of.
    #[must_use]
    pub const fn version(&self) -> Version {
        match self.entry {
            Entry::V1(_) => Version::V1,
            Entry::V2(_) => Version::V2,
            Entry::L402(_) => Version::L402,
        }
    }

    /// CAIP-2 id, or the seller's word where there is none; of an invoice `lightning:` and the chain.
    #[must_use]
    pub fn network(&self) -> &str {
        match &self.entry {
            Entry::V1(entry) => network::caip2_from_v1(&entry.network).unwrap_or(&entry.network),
            Entry::V2(entry) => &entry.network,
            Entry::L402(invoice) => invoice.network(),
        }
    }

    /// The scheme's name.
    #[must_use]
    pub fn scheme(&self) -> &str {
        match &self.entry {
            Entry::V1(entry) => &entry.scheme,
            Entry::V2(entry) => &entry.scheme,
            Entry::L402(_) => Scheme::L402.name(),
        }
    }

    /// The payee as the seller wrote it; of an invoice the key of the node that made it.
    #[must_use]
    pub fn pay_to(&self) -> &str {
        match &self.entry {
            Entry::V1(entry) => &entry.pay_to,
            Entry::V2(entry) => &entry.pay_to,
            Entry::L402(invoice) => invoice.pay_to(),
        }
    }

    /// The amount as the seller wrote it, in atomic units; of an invoice millisatoshi, empty if it names none.
    #[must_use]
    pub fn amount(&self) -> &str {
        match &self.entry {
            Entry::V1(entry) => &entry.max_amount_required,
            Entry::V2(entry) => &entry.amount,
            Entry::L402(invoice) => invoice.amount(),
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

    /// Takes over what the seller signed about it; unpayable if that is something else (A18).
    pub(crate) fn hold_to_promises(
        &mut self,
        place: usize,
        resource_url: Option<&str>,
        promises: &[Signed<offer_receipt::Offer>],
    ) {
        let Entry::V2(entry) = &self.entry else { return };
        match attested::covering(place, entry, resource_url, promises) {
            Ok(promise) => self.promise = promise.map(Box::new),
            Err(()) => self.terms = Err(Unpayable::Promise),
        }
    }

    /// Version 1 offers nothing but transfers, so other ways have nothing to agree with.
    fn contradicts(&self, other: &Self) -> bool {
        let (Ok(mine), Ok(theirs)) = (&self.terms, &other.terms) else { return false };
        let (Way::Transfer(pays), Way::Transfer(asks)) = (&mine.way, &theirs.way) else { return false };
        let token = |method: &Method| match method {
            Method::Evm { token, .. } => Some((token.chain_id(), *token.contract())),
            Method::Test { .. } => None,
        };
        token(pays) == token(asks) && (mine.atomic != theirs.atomic || pays != asks)
    }
}

struct Fields<'a> {
    version: Version,
    scheme: &'a str,
    network: Option<&'a str>,
    amount: &'a str,
    asset: &'a str,
    pay_to: &'a str,
    max_timeout_s: u64,
    extra: Option<&'a Map<String, Value>>,
}

impl Fields<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        self.extra?.get(name)?.as_str()
    }

    fn address(&self, name: &str) -> Option<Address> {
        self.text(name)?.parse().ok().filter(|address| *address != Address::ZERO)
    }
}

fn terms(fields: &Fields<'_>) -> Result<Terms, Unpayable> {
    let known = [SCHEME_EXACT, SCHEME_UPTO, batch::SCHEME].contains(&fields.scheme);
    if !known || (fields.version == Version::V1 && fields.scheme != SCHEME_EXACT) {
        return Err(Unpayable::Scheme);
    }
    let network = fields.network.ok_or(Unpayable::Network)?;
    let (way, asset, decimals) = if network == FARTHING_TEST {
        (test(fields)?, Asset::Test, test_rail::DECIMALS)
    } else if network.starts_with("solana:") {
        (on_solana(fields, network)?, Asset::Usdc, u32::from(solana::DECIMALS))
    } else {
        evm(fields, network)?
    };
    let atomic = decimal(fields.amount).filter(|atomic| *atomic > 0).ok_or(Unpayable::Amount)?;
    let price = ledger_from_atomic_down(atomic, asset.exponent(), decimals).map_err(|_| Unpayable::Amount)?;
    if fields.max_timeout_s < SETTLE_MARGIN_S {
        return Err(Unpayable::Window);
    }
    let longest = if fields.scheme == SCHEME_UPTO { UPTO_WINDOW_S_MAX } else { WINDOW_S_MAX };
    let max_timeout_s = fields.max_timeout_s.min(longest);
    Ok(Terms { atomic, price, asset, decimals, max_timeout_s, way })
}

fn test(fields: &Fields<'_>) -> Result<Way, Unpayable> {
    if fields.scheme != SCHEME_EXACT {
        return Err(Unpayable::Scheme);
    }
    if fields.asset != test_rail::ASSET {
        return Err(Unpayable::Asset);
    }
    let pay_to = hex::decode_array(fields.pay_to).map_err(|_| Unpayable::Payee)?;
    Ok(Way::Transfer(Method::Test { pay_to }))
}

fn on_solana(fields: &Fields<'_>, network: &str) -> Result<Way, Unpayable> {
    if fields.scheme != SCHEME_EXACT {
        return Err(Unpayable::Scheme);
    }
    let (_, mint) = solana::USDC.iter().find(|(known, _)| *known == network).ok_or(Unpayable::Network)?;
    if fields.asset != *mint {
        return Err(Unpayable::Asset);
    }
    base58::decode_array::<32>(fields.pay_to).map_err(|_| Unpayable::Payee)?;
    let member = |name: &str| fields.text(name).map(str::to_owned);
    SolanaTerms::read(network, mint, fields.pay_to, member).map(Way::Solana).ok_or(Unpayable::Members)
}

fn evm(fields: &Fields<'_>, network: &str) -> Result<(Way, Asset, u32), Unpayable> {
    let known = asset::default_token(network).ok_or(Unpayable::Network)?;
    let contract: Address = fields.asset.parse().map_err(|_| Unpayable::Asset)?;
    // Rounding the price down is exact for these, so nothing is ever cheaper than it seems.
    if contract != known.address || !known.asset.is_dollar_parity() || known.decimals > known.asset.exponent()
    {
        return Err(Unpayable::Asset);
    }
    let pay_to: Address = fields.pay_to.parse().map_err(|_| Unpayable::Payee)?;
    if pay_to == Address::ZERO {
        return Err(Unpayable::Payee);
    }
    let token =
        EvmToken::new(network, contract, known.name, known.version).map_err(|_| Unpayable::Network)?;
    let way = way(fields, Arc::new(token), pay_to)?;
    Ok((way, known.asset, known.decimals))
}

fn way(fields: &Fields<'_>, token: Arc<EvmToken>, pay_to: Address) -> Result<Way, Unpayable> {
    let by_permit2 = match fields.extra.and_then(|extra| extra.get("assetTransferMethod")) {
        None => false,
        Some(method) if method == "eip3009" => false,
        Some(method) if method == TRANSFER_METHOD && fields.version == Version::V2 => true,
        Some(_) => return Err(Unpayable::Transfer),
    };
    if fields.scheme == SCHEME_UPTO {
        let facilitator = fields.address("facilitatorAddress").ok_or(Unpayable::Members)?;
        return Ok(Way::Permit { token, pay_to, spends: Spends::Upto { facilitator } });
    }
    if fields.scheme == batch::SCHEME {
        // Our deposits move by the token's own signature: no allowance is needed for them.
        if by_permit2 {
            return Err(Unpayable::Transfer);
        }
        return channel(fields, token, pay_to).map(Way::Channel).ok_or(Unpayable::Members);
    }
    if by_permit2 {
        return Ok(Way::Permit { token, pay_to, spends: Spends::Exact });
    }
    Ok(Way::Transfer(Method::Evm { token, pay_to }))
}

fn channel(fields: &Fields<'_>, token: Arc<EvmToken>, receiver: Address) -> Option<ChannelTerms> {
    let withdraw_delay = fields.extra?.get("withdrawDelay")?.as_u64()?;
    if !(batch::WITHDRAW_DELAY_S_MIN..=batch::WITHDRAW_DELAY_S_MAX).contains(&withdraw_delay) {
        return None;
    }
    let min_deposit = match fields.text("minDeposit") {
        Some(text) => Some(decimal(text)?),
        None => None,
    };
    let receiver_authorizer = fields.address("receiverAuthorizer")?;
    Some(ChannelTerms { token, receiver, receiver_authorizer, withdraw_delay, min_deposit })
}

/// As a seller checks a permit for it.
pub(crate) fn permit_offer(terms: &Terms) -> Option<x402_permit2::Offer> {
    let Way::Permit { token, pay_to, spends } = &terms.way else { return None };
    Some(x402_permit2::Offer {
        token: Arc::clone(token),
        pay_to: *pay_to,
        amount: terms.atomic,
        spends: *spends,
        max_timeout_s: terms.max_timeout_s,
        margin_s: SETTLE_MARGIN_S,
        quote: None,
    })
}
