//! An L402 challenge as an offer: what its invoice says, and what that is worth to the payer.
//!
//! The invoice alone says what is paid. What a body says beside it is neither believed nor needed.

use std::fmt;

use money::{Amount, Asset, BitcoinPrice};
use rails::lightning::Network;
use rails::lightning::bolt11::{self, Decoded};
use wire::hex;
use wire::l402::{Offered, OfferedError, PaymentHash};

use super::Lightning;
use crate::offer::{Terms, Way};
use crate::unpayable::Unpayable;

/// An invoice that ends sooner is not paid: the payment could be on its way when it does.
const LEFT_S_MIN: u64 = 10;
/// Decimal places of a millisatoshi.
const MSAT_DECIMALS: u32 = Asset::Btc.exponent();

/// An L402 challenge as it came. `Debug` hides the token.
#[derive(Clone, PartialEq)]
pub(crate) struct Invoice {
    /// What can be answered, as read.
    read: Result<(Offered, Decoded), Unpayable>,
    network: &'static str,
    pay_to: String,
    amount: String,
}

/// What is paid for an L402 token. `Debug` hides the token.
#[derive(Clone, PartialEq, Eq)]
pub struct InvoiceTerms {
    /// Token and invoice.
    pub(crate) offered: Offered,
    /// Names the payment.
    pub payment_hash: PaymentHash,
    /// What the seller gets, millisatoshi.
    pub amount_msat: u64,
    /// What the way may cost besides, millisatoshi.
    pub fee_max_msat: u64,
    /// Unix seconds: from then on it cannot be paid.
    pub expires_at_s: u64,
    /// By which it is valued.
    pub price: BitcoinPrice,
}

impl Invoice {
    pub(crate) fn new(offered: Result<Offered, OfferedError>) -> Self {
        let read = offered.map_err(Unpayable::Challenge).and_then(|offered| {
            let decoded = bolt11::decode(offered.invoice()).map_err(Unpayable::Invoice)?;
            Ok((offered, decoded))
        });
        let decoded = read.as_ref().ok().map(|(_, decoded)| decoded);
        Self {
            network: decoded.map_or("lightning", |decoded| network(decoded.network)),
            pay_to: decoded.map(|decoded| hex::encode(&decoded.payee)).unwrap_or_default(),
            amount: decoded
                .and_then(|decoded| decoded.amount_msat)
                .map(|msat| msat.to_string())
                .unwrap_or_default(),
            read,
        }
    }

    /// `lightning:regtest`
    pub(crate) const fn network(&self) -> &'static str {
        self.network
    }

    /// The key of the node that made it; empty where that cannot be read.
    pub(crate) fn pay_to(&self) -> &str {
        &self.pay_to
    }

    /// Millisatoshi; empty where it names none.
    pub(crate) fn amount(&self) -> &str {
        &self.amount
    }

    /// Why it cannot be paid, whatever wallet there is; else that there is no wallet.
    pub(crate) fn without_wallet(&self) -> Unpayable {
        self.read.as_ref().err().copied().unwrap_or(Unpayable::NoLightning)
    }

    /// What it asks of this wallet, valued by `price`.
    ///
    /// # Errors
    /// [`Unpayable`]
    pub(crate) fn terms(
        &self,
        wallet: &Lightning,
        price: Option<BitcoinPrice>,
        now_unix_s: u64,
    ) -> Result<Terms, Unpayable> {
        let (offered, decoded) = self.read.as_ref().map_err(|why| *why)?;
        let ours = wallet.network();
        if decoded.network != ours {
            return Err(Unpayable::OtherChain { asked: decoded.network, ours });
        }
        let amount_msat = decoded.amount_msat.ok_or(Unpayable::Amountless)?;
        if amount_msat == 0 {
            return Err(Unpayable::Amountless);
        }
        let left_s = decoded.expires_at_s.saturating_sub(now_unix_s);
        if left_s < LEFT_S_MIN {
            return Err(Unpayable::Expired);
        }
        let fee_max_msat = wallet.fee_max().of(amount_msat);
        let invoice = InvoiceTerms {
            offered: offered.clone(),
            payment_hash: PaymentHash(decoded.payment_hash),
            amount_msat,
            fee_max_msat,
            expires_at_s: decoded.expires_at_s,
            price: price.ok_or(Unpayable::NoPrice)?,
        };
        let most = amount_msat.checked_add(fee_max_msat).ok_or(Unpayable::Amount)?;
        let price = invoice.worth_up(most).ok_or(Unpayable::Amount)?;
        Ok(Terms {
            atomic: amount_msat.into(),
            price,
            asset: Asset::Usd,
            decimals: MSAT_DECIMALS,
            max_timeout_s: left_s,
            way: Way::Invoice(invoice),
        })
    }
}

impl InvoiceTerms {
    /// What so many millisatoshi are worth. Rounds **up**: nothing is ever dearer than it seems.
    pub(crate) fn worth_up(&self, msat: u64) -> Option<Amount> {
        worth_up(self.price.fraction(), msat)
    }
}

/// Nano-dollars that cover `msat`, of which one is worth `num / den`; `None` beyond what we count.
pub(super) fn worth_up((num, den): (u64, u64), msat: u64) -> Option<Amount> {
    let nano = (u128::from(msat) * u128::from(num)).checked_add(u128::from(den).checked_sub(1)?)?;
    Amount::from_wide(nano / u128::from(den)).ok()
}

/// `21.053 sat`
pub(super) fn sat(msat: u64) -> String {
    match msat % 1000 {
        0 => format!("{} sat", msat / 1000),
        part => format!("{} sat", format!("{}.{part:03}", msat / 1000).trim_end_matches('0')),
    }
}

const fn network(network: Network) -> &'static str {
    match network {
        Network::Mainnet => "lightning:mainnet",
        Network::Testnet => "lightning:testnet",
        Network::Signet => "lightning:signet",
        Network::Regtest => "lightning:regtest",
    }
}

impl fmt::Debug for Invoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invoice({}, {} msat to {})", self.network, self.amount, self.pay_to)
    }
}

impl fmt::Debug for InvoiceTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "InvoiceTerms({} msat, fee at most {} msat, {})",
            self.amount_msat, self.fee_max_msat, self.payment_hash
        )
    }
}
