//! What is left of a session goes back to the invoice that its holder opened it with: once, whole satoshi, within the same
//! bounds as every other refund (MPP-29).

use std::sync::Arc;

use ledger::{Account, AccountRef};
use money::Amount;
use rails::lightning::Network;
use store::{Lot, Payout, Taken};

use super::begin::{self, WHOLE_BP};
use super::invoice::Invoice;
use crate::config::LightningRefunds;
use crate::gate::Gate;
use crate::payments::store_refusal;
use crate::refusal::Refusal;
use crate::snapshot::Snapshot;

const MSAT_PER_SAT: u64 = 1000;

/// Whether the rest of a session could go back to this invoice.
pub(crate) fn takes_back(text: &str, network: Network, now_s: u64) -> bool {
    Invoice::read_return(text).is_ok_and(|invoice| invoice.can_be_paid(network, now_s))
}

/// What became of a return invoice; none where nobody has tried to pay it.
///
/// # Errors
/// It cannot be known, or somebody else has handed it in.
pub(crate) fn returned(gate: &Gate, account: &Account, text: &str) -> Result<Option<Payout>, Refusal> {
    begin::known(gate, account, &Invoice::read_return(text)?.hash)
}

/// Whole satoshi of the balance that can go back within the bounds of refunds, with the most that moving them may cost
/// beside them: 0 where that is less than the least.
///
/// # Errors
/// It cannot be known.
pub(crate) fn sats_left(gate: &Gate, account: &Account, rules: &LightningRefunds) -> Result<u64, Refusal> {
    let lots = gate.store.reader().lots(account.id()).map_err(|error| store_refusal(&error))?;
    let sats = sats_within(&lots, account.available().min(rules.max), rules.fee_max_bp);
    let worth =
        Lot::take(&lots, sats.saturating_mul(MSAT_PER_SAT)).map_or(0, |taken| Taken::credit_of(&taken));
    Ok(if worth < rules.min.units() { 0 } else { sats })
}

/// The most whole satoshi that these deposits give for this balance. More satoshi never cost less, so it is found by halves.
fn sats_within(lots: &[Lot], available: Amount, fee_max_bp: u32) -> u64 {
    let most_msat =
        lots.iter().fold(0u64, |sum, lot| sum.saturating_add(lot.msat.saturating_sub(lot.back_msat)));
    let fits = |sats: u64| {
        let msat = sats.saturating_mul(MSAT_PER_SAT);
        let fee = msat.saturating_mul(u64::from(fee_max_bp)) / WHOLE_BP;
        let taken = Lot::take(lots, msat.saturating_add(fee));
        taken.is_some_and(|taken| Taken::credit_of(&taken) <= available.units())
    };
    let (mut good, mut bad) = (0, most_msat / MSAT_PER_SAT + 1);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if fits(middle) { good = middle } else { bad = middle }
    }
    good
}

/// Pays so much of the balance to the return invoice. What became of that, [`returned`] tells; where the node has not said,
/// it is asked until it has.
///
/// # Errors
/// Nothing was taken and nothing will be: it stays in the account.
///
/// # Cancel safety
/// None: run it in a task that a lost connection does not end.
pub(crate) async fn give_back(
    gate: &Arc<Gate>,
    snapshot: &Arc<Snapshot>,
    account: &AccountRef,
    text: &str,
    sats: u64,
) -> Result<Payout, Refusal> {
    let invoice = Invoice::read_return(text)?.of(sats.saturating_mul(MSAT_PER_SAT));
    begin::pay(gate, snapshot, account, invoice).await.map(|(_, payout)| payout)
}

#[cfg(test)]
mod tests {
    use money::Amount;
    use store::Lot;

    use super::sats_within;

    /// MPP-29: nothing beyond the balance, nothing beyond what came in, room for the way kept.
    #[test]
    fn mpp_29_whole_satoshi_that_a_balance_gives() {
        let (ten, dear) = (Lot::new([1; 32], 1_000, 10_000), Lot::new([2; 32], 3_000, 10_000));
        let gone = Lot { back_credit: 1_000, back_msat: 10_000, ..ten.clone() };
        for (lots, available, fee_bp, expected) in [
            (vec![ten.clone()], 1_000, 0, 10),
            (vec![ten.clone()], 999, 0, 9),
            (vec![ten.clone()], 99, 0, 0),
            (vec![ten.clone()], 9_999, 0, 10),
            // A tenth is kept for the way: 9.9 of 10 satoshi.
            (vec![ten.clone()], 1_000, 1_000, 9),
            (vec![ten.clone()], -5, 0, 0),
            (vec![ten.clone(), dear.clone()], 3_500, 0, 15),
            (vec![ten.clone(), dear], 2_999, 0, 9),
            (vec![gone], 1_000, 0, 0),
            (vec![], 1_000, 0, 0),
        ] {
            assert_eq!(sats_within(&lots, Amount::from_units(available), fee_bp), expected, "{available}");
        }
    }
}
