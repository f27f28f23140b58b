//! `rails.l402.refunds`: what of a balance may go back over Lightning (l402.md section 11). Absent: nothing.

use money::Amount;

use super::section::{Keys, Section};
use super::value;

/// Bounds on money that goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LightningRefunds {
    /// One refund at most, fee included.
    pub max: Amount,
    /// All refunds of one day (UTC) at most.
    pub per_day: Amount,
    /// One refund at least, fee not included.
    pub min: Amount,
    /// The most that moving it may cost, in basis points of the invoice.
    pub fee_max_bp: u32,
}

const KEYS: Keys = Keys::new(&["max", "per_day", "min", "fee_max"], &[]);

/// 1 %.
const FEE_MAX_BP: u32 = 100;
/// A tenth of a cent.
const MIN: Amount = Amount::from_units(1_000_000);

pub(super) fn read(l402: &Section<'_>) -> Option<LightningRefunds> {
    let section = l402.section("refunds", KEYS)?;
    let max = section.required("max", value::some_usd);
    let per_day = section.required("per_day", value::some_usd);
    let min = section.value("min", value::some_usd).unwrap_or(MIN);
    let fee_max_bp = section.value("fee_max", value::percent).unwrap_or(FEE_MAX_BP);
    let (max, per_day) = (max?, per_day?);
    if min > max {
        section.complain("min", "rails.l402.refunds.min is more than max");
    }
    if per_day < max {
        section.complain("per_day", "rails.l402.refunds.per_day is less than max");
    }
    if fee_max_bp > 10_000 {
        section.complain("fee_max", "rails.l402.refunds.fee_max is more than what is moved");
    }
    Some(LightningRefunds { max, per_day, min, fee_max_bp })
}
