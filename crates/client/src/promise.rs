//! What a seller may still take under `upto`, until he says how much he took.
//!
//! The whole ceiling counts as spent until then. What takes its place is the seller's word, in a result or in a signed
//! receipt: the client asks no node. It never takes the place of more than was signed.

use money::{Amount, Asset, atomic_from_ledger_up, ledger_from_atomic_down};
use wire::x402::exact::decimal;

use crate::budget::Spent;
use crate::client::{Client, Response, See, Step};
use crate::pending::Sum;
use crate::reservation::{End, Reservation};
use crate::verdict::{self, Paid};

/// A ceiling that was signed, and what was set aside for it.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    pub(crate) sum: Sum,
    pub(crate) asset: Asset,
    pub(crate) network: String,
    pub(crate) reserved: Option<Reservation>,
}

/// A result that does not fit what was signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misfit {
    #[error(
        "the seller says that it took {told} of at most {signed} atomic units; only what was signed can move"
    )]
    More { told: String, signed: u128 },
    #[error("the seller says that it took {told} atomic units where {signed} were signed")]
    Other { told: String, signed: u128 },
}

/// What was taken of a ceiling, by what a result says.
pub(crate) fn taken(sum: &Sum, told: &str) -> Result<u128, Misfit> {
    decimal(told)
        .filter(|taken| *taken <= sum.atomic)
        .ok_or_else(|| Misfit::More { told: crate::printable(told), signed: sum.atomic })
}

/// That a result names the price that was signed, if it names one.
pub(crate) fn whole(sum: &Sum, told: Option<&str>) -> Result<(), Misfit> {
    match told {
        Some(told) if decimal(told) != Some(sum.atomic) => {
            Err(Misfit::Other { told: crate::printable(told), signed: sum.atomic })
        }
        Some(_) | None => Ok(()),
    }
}

/// What counts as spent of a ceiling of which `atomic` units were taken.
pub(crate) fn spent(sum: &Sum, asset: Asset, atomic: u128) -> Option<Spent> {
    let worth = ledger_from_atomic_down(atomic, asset.exponent(), sum.decimals).ok()?;
    Some(Spent { paid: worth, used: worth })
}

/// What a receipt's charge took out of the wallet: whole atomic units, and never more than was signed.
pub(crate) fn took(sum: &Sum, charged: Amount) -> End {
    let nano = Asset::Usd.exponent();
    let atomic = atomic_from_ledger_up(charged, nano, sum.decimals).unwrap_or(sum.atomic).min(sum.atomic);
    let paid = ledger_from_atomic_down(atomic, nano, sum.decimals).unwrap_or(charged);
    End::Took(Spent { paid, used: charged.min(paid) })
}

impl Client {
    /// Reads what the end of an answer says the call took, where its head did not: call it when the body has ended.
    /// What nobody tells stays spent as it was signed, until a receipt does.
    pub fn finish(&self, response: &mut Response, see: &mut See<'_>) {
        let Some(promise) = response.promise.take() else { return };
        let trailers = response.body.trailers();
        let told = trailers.and_then(|trailers| verdict::result(trailers, &promise.network));
        let Some((transaction, amount)) = told.and_then(|told| Some((told.transaction, told.amount?))) else {
            response.promise = Some(promise);
            return;
        };
        match taken(&promise.sum, &amount) {
            Ok(atomic) => {
                let spent = spent(&promise.sum, promise.asset, atomic);
                if let Some(spent) = spent {
                    self.end(promise.reserved.as_ref(), End::Took(spent), see);
                    let what = describe(spent.paid, promise.asset, &promise.sum.pay_to);
                    response.paid = Paid::Taken { what, transaction };
                }
            }
            Err(misfit) => {
                self.end(promise.reserved.as_ref(), End::Open, see);
                see(Step::Doubt(&misfit.to_string()));
            }
        }
    }
}

/// `0.02 USDC to 0xabc`
pub(crate) fn describe(amount: Amount, asset: Asset, pay_to: &str) -> String {
    format!("{} {} to {}", amount.short(asset), asset.name(), crate::printable(pay_to))
}
