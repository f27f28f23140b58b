//! Rules that one entry keeps or breaks by itself.

use money::{Amount, FEMTO_PER_NANO};

use crate::{Entry, Leg, asset_of_code};

/// Whether legs sum to zero per asset, in assets we have (LED-39).
pub(super) fn is_balanced(legs: &[Leg]) -> bool {
    legs.iter().all(|leg| asset_of_code(leg.asset).is_some())
        && legs
            .chunk_by(|a, b| a.asset == b.asset)
            .all(|side| side.iter().map(|leg| i128::from(leg.amount.units())).sum::<i128>() == 0)
}

/// Whether `0 <= charged * 10^6 - cost < 10^6` (LED-3), for assets that have the unit of the prices. A
/// report that could not be priced has no cost and says that it was estimated; a charge that was cut says so, and is
/// less than its cost.
pub(super) fn is_rounded(entry: &Entry) -> bool {
    let draft = &entry.draft;
    let charged = entry.legs.iter().filter(|leg| {
        leg.amount > Amount::ZERO
            && asset_of_code(leg.asset).is_some_and(|(asset, memo)| !memo && asset.is_dollar_parity())
    });
    let charged: u128 = charged.map(|leg| u128::from(leg.amount.units().unsigned_abs())).sum();
    if charged == 0 || (draft.flags.estimated && draft.cost_femto == 0) {
        return true;
    }
    let charged = charged.saturating_mul(FEMTO_PER_NANO);
    if draft.flags.cut {
        return charged < draft.cost_femto;
    }
    charged.checked_sub(draft.cost_femto).is_some_and(|over| over < FEMTO_PER_NANO)
}

/// The entries that an income is of (LED-40): `lsn 12-90`.
pub(super) fn lsn_range(reference: &str) -> Option<(u64, u64)> {
    let (from, to) = reference.strip_prefix("lsn ")?.split_once('-')?;
    Some((from.parse().ok()?, to.parse().ok()?))
}
