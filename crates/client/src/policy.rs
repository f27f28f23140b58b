//! What may be paid: a cap per call, a threshold that needs a yes, networks. Decided before signing (UX-14).

use money::{Amount, Asset, Decimal, DecimalError};

use crate::challenge::Challenge;
use crate::offer::{Offer, Terms};

/// Limits of one caller. Amounts are nano-dollars; USDC, USDT and TEST count as dollars.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The most that one call may cost.
    pub max: Amount,
    /// Above this a call needs [`Policy::approved`], even within `max`.
    pub approve_above: Amount,
    /// Somebody said yes to whatever is within `max`.
    pub approved: bool,
    /// CAIP-2 ids that may be paid on; `None` for every network we can pay on.
    pub networks: Option<Vec<String>>,
}

/// Why nothing of a challenge is paid. Nothing was signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// No offer is one that we can pay.
    #[error("none of the {offers} offers can be paid: {reasons}")]
    NothingPayable {
        /// How many there were.
        offers: usize,
        /// Why not, offer by offer.
        reasons: String,
    },
    /// The cheapest payable offer is above the cap.
    #[error("costs {} USD, the cap is {} USD", .price.short(Asset::Usd), .max.short(Asset::Usd))]
    OverCap {
        /// Of the cheapest.
        price: Amount,
        /// The cap.
        max: Amount,
    },
    /// Within the cap, above what goes without asking.
    #[error("costs {} USD: more than {} USD needs approval", .price.short(Asset::Usd), .threshold.short(Asset::Usd))]
    NotApproved {
        /// Of the chosen offer.
        price: Amount,
        /// The threshold.
        threshold: Amount,
    },
}

/// A cap that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapError {
    /// Not a number we hold.
    #[error(transparent)]
    Number(#[from] DecimalError),
    /// No unit, or one that is no dollar.
    #[error("needs a dollar unit, such as 0.05usd")]
    Unit,
}

/// What stock x402 clients pay at most without being asked (X402-47).
const APPROVE_ABOVE: Amount = Amount::from_units(1_000_000_000);

impl Policy {
    /// Pays up to `max` per call, on every network; above one dollar only when approved.
    #[must_use]
    pub const fn up_to(max: Amount) -> Self {
        Self { max, approve_above: APPROVE_ABOVE, approved: false, networks: None }
    }

    /// The first payable offer within the limits, in this order: test rail, then the seller's order.
    ///
    /// # Errors
    /// [`PolicyError`]
    pub fn choose<'c>(&self, challenge: &'c Challenge) -> Result<(&'c Offer, &'c Terms), PolicyError> {
        let mut payable: Vec<(&Offer, &Terms)> = challenge
            .offers
            .iter()
            .filter(|offer| self.allows(offer.network()))
            .filter_map(|offer| Some((offer, offer.terms.as_ref().ok()?)))
            .collect();
        payable.sort_by_key(|(offer, _)| !offer.is_test_rail());
        let within = payable.iter().find(|(_, terms)| terms.price <= self.max);
        let Some(&(offer, terms)) = within else {
            return Err(match payable.iter().map(|(_, terms)| terms.price).min() {
                Some(price) => PolicyError::OverCap { price, max: self.max },
                None => self.nothing_payable(challenge),
            });
        };
        self.approve(terms.price)?;
        Ok((offer, terms))
    }

    /// That a price needs no yes, or has it.
    fn approve(&self, price: Amount) -> Result<(), PolicyError> {
        if price > self.approve_above && !self.approved {
            return Err(PolicyError::NotApproved { price, threshold: self.approve_above });
        }
        Ok(())
    }

    /// That a call whose price is known may be made with a credit key.
    pub(crate) fn admit(&self, price: Amount) -> Result<(), PolicyError> {
        if price > self.max {
            return Err(PolicyError::OverCap { price, max: self.max });
        }
        self.approve(price)
    }

    /// The most that a call may cost without anybody being asked.
    pub(crate) fn unasked(&self) -> Amount {
        if self.approved { self.max } else { self.max.min(self.approve_above) }
    }

    fn allows(&self, network: &str) -> bool {
        self.networks.as_ref().is_none_or(|allowed| allowed.iter().any(|name| name == network))
    }

    pub(crate) fn nothing_payable(&self, challenge: &Challenge) -> PolicyError {
        let reason = |offer: &Offer| {
            let network = crate::printable(offer.network());
            match &offer.terms {
                Ok(_) => format!("{network}: network not allowed"),
                Err(why) => format!("{network}: {why}"),
            }
        };
        let reasons: Vec<String> = challenge.offers.iter().take(8).map(reason).collect();
        PolicyError::NothingPayable { offers: challenge.offers.len(), reasons: reasons.join("; ") }
    }
}

/// Reads a cap as people write it: `0.05usd`, `0.05 USD`, `1 USDC`.
///
/// # Errors
/// [`CapError`]; finer than a nano-dollar is refused, not rounded.
pub fn parse_cap(text: &str) -> Result<Amount, CapError> {
    let text = text.trim();
    // Not the `e` of an exponent: a unit has three letters at least.
    let unit_at = text.len() - text.bytes().rev().take_while(u8::is_ascii_alphabetic).count();
    let (number, unit) = text.split_at(unit_at);
    let asset = Asset::from_name(&unit.to_ascii_uppercase()).filter(|asset| asset.is_dollar_parity());
    let asset = asset.ok_or(CapError::Unit)?;
    let units = Decimal::parse(number.trim_end())?;
    let units = units.exact(asset.exponent()).ok_or(DecimalError::TooPrecise("the cap"))?;
    Ok(Amount::from_wide(units).map_err(|_| DecimalError::OutOfRange)?)
}

#[cfg(test)]
mod tests {
    use super::{CapError, Policy, PolicyError as E, parse_cap};
    use crate::challenge::{Challenge, Said};
    use crate::offer::Offer;
    use money::Amount;
    use serde_json::json;

    fn offer(network: &str, amount: &str) -> Offer {
        let (asset, pay_to) = if network == "farthing:test" {
            ("TEST", "ab".repeat(32))
        } else {
            (
                "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
                "0x976EA74026E726554dB657fA54763abd0C3a0aa9".into(),
            )
        };
        let entry = json!({"scheme": "exact", "network": network, "amount": amount, "asset": asset,
                           "payTo": pay_to, "maxTimeoutSeconds": 60});
        Offer::v2(serde_json::from_value(entry).unwrap())
    }

    fn nano(units: i64) -> Amount {
        Amount::from_units(units)
    }

    #[test]
    fn cap_table() {
        for (text, expected) in [
            ("0.05usd", Ok(50_000_000)),
            ("0.05 USD", Ok(50_000_000)),
            (" 1usdc ", Ok(1_000_000_000)),
            ("0usd", Ok(0)),
            ("0.000000001TEST", Ok(1)),
            ("0.05", Err(CapError::Unit)),
            ("0.05 EUR", Err(CapError::Unit)),
            ("usd", Err(CapError::Number(money::DecimalError::NotANumber))),
            ("-1usd", Err(CapError::Number(money::DecimalError::Negative))),
            ("0.0000000001usd", Err(CapError::Number(money::DecimalError::TooPrecise("the cap")))),
        ] {
            assert_eq!(parse_cap(text), expected.map(nano), "{text}");
        }
    }

    #[test]
    fn ux_14_the_first_within_the_cap_and_never_above() {
        let usdc = |atomic: &str| offer("eip155:84532", atomic);
        let test = |atomic: &str| offer("farthing:test", atomic);
        let mut policy = Policy::up_to(nano(50_000_000));
        for (situation, offers, expected) in [
            ("test rail goes first", vec![usdc("1"), test("20000000")], Ok(1)),
            ("too dear on the test rail", vec![test("50000001"), usdc("50000")], Ok(1)),
            ("exactly the cap", vec![usdc("50000")], Ok(0)),
            (
                "the cheapest is named",
                vec![usdc("50002"), usdc("50001")],
                Err(E::OverCap { price: nano(50_001_000), max: nano(50_000_000) }),
            ),
        ] {
            let challenge = Challenge { offers, resource: None, extensions: None, refusal: Said::default() };
            let chosen = policy.choose(&challenge).map(|(offer, _)| offer);
            assert_eq!(chosen, expected.map(|index: usize| &challenge.offers[index]), "{situation}");
        }
        let challenge = Challenge {
            offers: vec![usdc("1500000")],
            resource: None,
            extensions: None,
            refusal: Said::default(),
        };
        policy.max = nano(2_000_000_000);
        let threshold = nano(1_000_000_000);
        assert_eq!(
            policy.choose(&challenge).map(drop),
            Err(E::NotApproved { price: nano(1_500_000_000), threshold })
        );
        policy.approved = true;
        assert!(policy.choose(&challenge).is_ok());
        policy.networks = Some(vec!["farthing:test".into()]);
        assert!(matches!(policy.choose(&challenge), Err(E::NothingPayable { offers: 1, .. })));
    }
}
