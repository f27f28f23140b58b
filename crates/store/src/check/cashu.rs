//! Ecash, against the payments it was for.

use redb::ReadTransaction;

use super::Report;
use super::finding::Finding;
use super::rows::rows;
use crate::read::unavailable;
use crate::tables::{CASHU_COINS, CASHU_SWAPS, PAYMENTS};
use crate::{CashuState, CashuSwap, Payment, StoreError};

/// Each coin of a payer leads to its payment; coins of ours that are said to be here are signed; a deposit has its coins.
pub(super) fn check(transaction: &ReadTransaction, report: &mut Report) -> Result<(), StoreError> {
    let coins = transaction.open_table(CASHU_COINS).map_err(unavailable)?;
    let payments = transaction.open_table(PAYMENTS).map_err(unavailable)?;
    for (key, swap) in rows::<32, CashuSwap>(transaction, CASHU_SWAPS, "cashu_swaps", report)? {
        for coin in &swap.spent {
            if coins.get(coin).map_err(unavailable)?.is_none_or(|found| *found.value() != key) {
                report.find(Finding::Cashu { key, problem: "a coin of its payer could be shown again" });
            }
        }
        let signed = swap.coins.iter().filter(|coin| coin.signature.is_some()).count();
        let expected = if swap.is_held() { swap.coins.len() } else { 0 };
        if signed != expected || swap.coins.is_empty() {
            report.find(Finding::Cashu { key, problem: "its coins are not what its state says" });
        }
        let Some(row) = payments.get(&key).map_err(unavailable)? else {
            report.find(Finding::Cashu { key, problem: "it has no payment" });
            continue;
        };
        // Rows that cannot be read are found with the payments.
        let payment = serde_json::from_slice::<Payment>(row.value());
        if swap.state == CashuState::Asked && payment.is_ok_and(|payment| payment.state.is_deposited()) {
            report.find(Finding::Cashu { key, problem: "it is deposited, and its coins are not here" });
        }
    }
    Ok(())
}
