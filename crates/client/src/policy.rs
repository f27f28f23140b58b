//! What may be paid: a cap per call, a threshold that needs a yes, networks. Decided before signing (UX-14).

use money::{Amount, Asset, Decimal, DecimalError};

use crate::challenge::Challenge;
use crate::channel::Standing;
use crate::offer::{Offer, Scheme, Terms};

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
    /// Ways that may be paid by, the most liked first; `None` for all of them in our own order.
    pub schemes: Option<Vec<Scheme>>,
    /// The most that may go into a payment channel at once; `None`: no more than `max`.
    pub deposit_max: Option<Amount>,
}

/// What pays a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice<'c> {
    /// As the seller wrote it.
    pub offer: &'c Offer,
    /// As we read it.
    pub terms: &'c Terms,
    /// What goes into a payment channel with it; zero for other schemes, and where the channel has enough.
    pub deposit: Amount,
    /// The same in atomic units.
    pub(crate) deposit_atomic: u128,
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
        Self {
            max,
            approve_above: APPROVE_ABOVE,
            approved: false,
            networks: None,
            schemes: None,
            deposit_max: None,
        }
    }

    /// The best payable offer within the limits. `standings` tells of each offer that a channel pays what that takes.
    ///
    /// Our own order: the test rail; a channel that is open and has enough, because nothing leaves the wallet; a
    /// deposit that the caller allows by name; a transfer or an invoice, whichever is cheaper with its fee, and whose
    /// change a seller like us gives a key for; a deposit within the cap of the call; `upto` and Permit2 last, because
    /// they fail where the token's owner has not let Permit2 move it. Among invoices the cheapest, among other equals
    /// the seller's order.
    ///
    /// # Errors
    /// [`PolicyError`]
    pub(crate) fn choose<'c>(
        &self,
        challenge: &'c Challenge,
        standings: &[Option<Standing>],
    ) -> Result<Choice<'c>, PolicyError> {
        let standing = |place: usize| standings.get(place).copied().flatten();
        let mut payable: Vec<(usize, Choice<'c>)> = challenge
            .offers
            .iter()
            .enumerate()
            .filter_map(|(place, offer)| self.rank(offer, standing(place)))
            .collect();
        let transfers = payable.iter().filter(|(_, choice)| choice.terms.scheme() == Scheme::Exact);
        let transfer = transfers.map(|(_, choice)| choice.terms.price).min();
        payable.sort_by_key(|(rank, choice)| match choice.terms.scheme() {
            Scheme::L402 => {
                let price = choice.terms.price;
                (*rank, transfer.is_some_and(|transfer| transfer <= price), price)
            }
            Scheme::Exact => (*rank, true, Amount::ZERO),
            Scheme::Permit2 | Scheme::Upto | Scheme::Batch => (*rank, false, Amount::ZERO),
        });
        let within = payable.iter().find(|(_, choice)| choice.terms.price <= self.max);
        let Some(&(_, choice)) = within else {
            return Err(match payable.iter().map(|(_, choice)| choice.terms.price).min() {
                Some(price) => PolicyError::OverCap { price, max: self.max },
                None => self.nothing_payable(challenge, standings),
            });
        };
        self.approve(choice.terms.price.max(choice.deposit))?;
        Ok(choice)
    }

    /// An offer that may be paid now, and how much it is liked: less is better.
    fn rank<'c>(&self, offer: &'c Offer, standing: Option<Standing>) -> Option<(usize, Choice<'c>)> {
        let terms = offer.terms.as_ref().ok().filter(|_| self.allows(offer.network()))?;
        let deposit_atomic = match (terms.scheme(), standing) {
            (Scheme::Batch, Some(Standing::Deposit(atomic))) => atomic,
            (_, Some(Standing::NoKey | Standing::NoBlockhash | Standing::TooDear(_) | Standing::Busy))
            | (Scheme::Batch, None) => return None,
            (Scheme::Batch, Some(Standing::Open))
            | (Scheme::Exact | Scheme::Permit2 | Scheme::Upto | Scheme::L402, _) => 0,
        };
        let deposit = terms.worth(deposit_atomic)?;
        let rank = match &self.schemes {
            Some(liked) => liked.iter().position(|scheme| *scheme == terms.scheme())?,
            None => match terms.scheme() {
                Scheme::Exact if offer.is_test_rail() => 0,
                Scheme::Batch if deposit_atomic == 0 => 1,
                Scheme::Batch if self.deposit_max.is_some() => 2,
                Scheme::Exact | Scheme::L402 => 3,
                Scheme::Batch => 4,
                Scheme::Upto => 5,
                Scheme::Permit2 => 6,
            },
        };
        Some((rank, Choice { offer, terms, deposit, deposit_atomic }))
    }

    /// The most that may go into a channel at once.
    pub(crate) fn deposit_most(&self) -> Amount {
        self.deposit_max.unwrap_or(self.max)
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

    pub(crate) fn nothing_payable(
        &self,
        challenge: &Challenge,
        standings: &[Option<Standing>],
    ) -> PolicyError {
        let reason = |(place, offer): (usize, &Offer)| {
            let network = crate::printable(offer.network());
            let terms = match &offer.terms {
                Ok(terms) => terms,
                Err(why) => return format!("{network}: {why}"),
            };
            if !self.allows(offer.network()) {
                return format!("{network}: network not allowed");
            }
            match standings.get(place).copied().flatten() {
                Some(Standing::TooDear(least)) => {
                    let least = terms.worth(least).unwrap_or(Amount::MAX).short(Asset::Usd);
                    let most = self.deposit_most().short(Asset::Usd);
                    format!(
                        "{network}: a channel needs {least} USD put in at least, --deposit allows {most} USD"
                    )
                }
                Some(Standing::Busy) => {
                    format!("{network}: all channels with this seller have calls on their way")
                }
                Some(Standing::NoBlockhash) => {
                    format!("{network}: the offer names no blockhash: name a node with --solana-node")
                }
                Some(Standing::NoKey) => format!("{network}: this wallet has no key for it"),
                Some(Standing::Open | Standing::Deposit(_)) | None => {
                    format!("{network}: {} not allowed", terms.scheme())
                }
            }
        };
        let reasons: Vec<String> = challenge.offers.iter().enumerate().take(8).map(reason).collect();
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
            let chosen = policy.choose(&challenge, &[]).map(|choice| choice.offer);
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
            policy.choose(&challenge, &[]).map(drop),
            Err(E::NotApproved { price: nano(1_500_000_000), threshold })
        );
        policy.approved = true;
        assert!(policy.choose(&challenge, &[]).is_ok());
        policy.networks = Some(vec!["farthing:test".into()]);
        assert!(matches!(policy.choose(&challenge, &[]), Err(E::NothingPayable { offers: 1, .. })));
    }
}
