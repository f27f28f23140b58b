//! Payments that a processor makes of what a payer grants: a shared payment token of Stripe, an encrypted card (mpp.md
//! sections 10.7 and 10.8).
//!
//! A grant is worth one charge to whoever holds it, and only its processor knows whether it is good. So it is charged before
//! anything is served, under a key that the processor remembers, and never opens anything a second time. Until the
//! processor has named the payment the grant is what is taken; from then on the payment's own name is its deposit key
//! (reference item 12).

mod asking;
mod counter;
mod receive;

use ledger::AccountId;
use money::{Amount, Asset};
use proof::{account_id, deposit_key};
use serde::{Deserialize, Serialize};
use wire::hex;

pub(crate) use asking::{again, settled_later};
pub(super) use counter::Counter;
pub(crate) use receive::receive;

use crate::gate::Gate;
use crate::payments::{replayed_elsewhere, store_refusal};
use crate::refusal::Refusal;

/// What deposits by cards are held in.
pub(super) const ASSET: Asset = Asset::Usd;
/// Its name in challenges.
pub(super) const CURRENCY: &str = "usd";
/// Ledger units of one cent.
const CENT: i64 = 10_000_000;

/// The processors, each of which is a rail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rail {
    /// Stripe, by whichever of its products: one payment is never credited through two (RAIL-10).
    Stripe,
    /// A processor of encrypted cards.
    Card,
}

impl Rail {
    /// In journal and metrics, and in deposit keys.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Stripe => "stripe",
            Self::Card => "card",
        }
    }

    /// The processor of a rail; none for rails of other kinds.
    pub(crate) fn of(rail: &str) -> Option<Self> {
        [Self::Stripe, Self::Card].into_iter().find(|known| known.name() == rail)
    }

    /// The key of a payment as its processor names it.
    fn deposit_key(self, reference: &str) -> [u8; 32] {
        deposit_key::rail(self.name(), reference)
    }
}

/// What a processor is asked to charge. The text that is kept of it until it is decided holds the grant.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    Stripe(rails::stripe::Order),
    Card(rails::card::Order),
}

impl Order {
    const fn rail(&self) -> Rail {
        match self {
            Self::Stripe(_) => Rail::Stripe,
            Self::Card(_) => Rail::Card,
        }
    }

    const fn cents(&self) -> u64 {
        match self {
            Self::Stripe(order) => order.amount,
            Self::Card(order) => order.amount,
        }
    }
}

/// A grant that is worth what was asked for, if its processor says so; or one that was seen before.
#[derive(Debug)]
pub(crate) struct Granted {
    order: Order,
    /// What is taken while it is charged: the token of Stripe; the card with its challenge.
    grant: [u8; 32],
}

impl Granted {
    /// A shared payment token is one grant whatever it is shown for.
    pub(super) fn of_token(order: rails::stripe::Order) -> Self {
        let grant = deposit_key::grant(Rail::Stripe.name(), &order.token);
        Self { order: Order::Stripe(order), grant }
    }

    /// A card may pay again, for another challenge. Its text is part of the grant: a challenge alone is no secret.
    pub(super) fn of_card(order: rails::card::Order) -> Self {
        let text = format!("{}.{}", order.challenge_id, order.encrypted);
        let grant = deposit_key::grant(Rail::Card.name(), &text);
        Self { order: Order::Card(order), grant }
    }

    /// The account it goes to when no key names one. Whoever pays so has no name: each grant has an account of its own.
    pub(crate) fn account(&self) -> AccountId {
        AccountId(account_id::granted(&self.grant))
    }

    /// What an account has from it.
    pub(crate) fn brings(&self) -> (Amount, Asset) {
        let cents = i64::try_from(self.order.cents()).unwrap_or(i64::MAX);
        (Amount::from_units(cents.saturating_mul(CENT)), ASSET)
    }

    /// What a receipt calls the payer.
    fn payer(&self) -> String {
        format!("{}:{}", self.order.rail().name(), hex::encode(&self.grant[..8]))
    }

    /// What is known of it: under which key, as what.
    fn known(&self, gate: &Gate) -> Result<Option<([u8; 32], store::Payment)>, Refusal> {
        let reader = gate.store.reader();
        let charged = reader.charged(&self.grant).map_err(|error| store_refusal(&error))?;
        let key = charged.unwrap_or(self.grant);
        let payment = reader.payment(&key).map_err(|error| store_refusal(&error))?;
        Ok(payment.map(|payment| (key, payment)))
    }

    /// Whether it came before.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn is_known(&self, gate: &Gate) -> Result<bool, Refusal> {
        self.known(gate).map(|known| known.is_some())
    }

    /// Itself, if it came before and for the same request, whatever is wrong with its challenge by now.
    ///
    /// # Errors
    /// It came for another request: a proven replay gets no challenge.
    pub(super) fn seen(self, gate: &Gate, fingerprint: &[u8; 32]) -> Result<Option<Self>, Refusal> {
        match self.known(gate)? {
            None => Ok(None),
            Some((_, payment)) if payment.fingerprint == *fingerprint => Ok(Some(self)),
            Some(_) => Err(replayed_elsewhere()),
        }
    }
}

/// Cents for an amount, rounded up.
pub(super) fn cents_up(amount: Amount) -> Option<u64> {
    u64::try_from(amount.units()).ok().map(|units| units.div_ceil(CENT.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use money::Amount;

    use super::{Granted, Rail, cents_up};

    fn token(challenge: &str, token: &str) -> Granted {
        let (challenge_id, token) = (challenge.to_owned(), token.to_owned());
        Granted::of_token(rails::stripe::Order {
            challenge_id,
            token,
            amount: 150,
            currency: "usd".to_owned(),
        })
    }

    #[test]
    fn amounts_are_whole_cents_and_never_too_few() {
        for (units, cents) in
            [(0, Some(0)), (1, Some(1)), (10_000_000, Some(1)), (10_000_001, Some(2)), (-1, None)]
        {
            assert_eq!(cents_up(Amount::from_units(units)), cents, "{units}");
        }
        assert_eq!(token("c", "spt_1").brings().0, Amount::from_units(1_500_000_000));
    }

    /// A token is one grant for every challenge; a card with another challenge is another.
    #[test]
    fn what_a_grant_is() {
        assert_eq!(token("c1", "spt_1").grant, token("c2", "spt_1").grant);
        assert_ne!(token("c1", "spt_1").grant, token("c1", "spt_2").grant);
        let card = |challenge: &str, encrypted: &str| {
            let (challenge_id, encrypted) = (challenge.to_owned(), encrypted.to_owned());
            let (network, currency) = ("visa".to_owned(), "usd".to_owned());
            let order = rails::card::Order {
                challenge_id,
                encrypted,
                network,
                amount: 1,
                currency,
                billing_address: None,
            };
            Granted::of_card(order).grant
        };
        assert_ne!(card("c1", "a"), card("c2", "a"));
        assert_ne!(card("c1", "a"), card("c1", "b"));
        for rail in [Rail::Stripe, Rail::Card] {
            assert_eq!(Rail::of(rail.name()), Some(rail));
        }
        assert_eq!(Rail::of("cashu:https://mint.example"), None);
    }
}
