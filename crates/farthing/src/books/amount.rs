//! Totals as exact decimal text.

use money::Asset;

/// Every place of the asset: `-0.002100000`. Wide, because a total of many accounts may leave the range
/// of one balance (LED-2).
pub(super) fn decimal(units: i128, asset: Asset) -> String {
    let scale = 10u128.pow(asset.exponent());
    let magnitude = units.unsigned_abs();
    let sign = if units < 0 { "-" } else { "" };
    let width = asset.exponent() as usize;
    format!("{sign}{}.{:0width$}", magnitude / scale, magnitude % scale)
}

#[cfg(test)]
mod tests {
    use money::{Amount, Asset};

    use super::decimal;

    /// LED-2: the same text as a single amount has, and no bound at its range.
    #[test]
    fn as_an_amount_and_beyond() {
        for asset in Asset::ALL {
            for units in [0, 1, -1, 1_234_567_890_123, i64::MIN, i64::MAX] {
                assert_eq!(decimal(i128::from(units), asset), Amount::from_units(units).decimal(asset));
            }
        }
        assert_eq!(decimal(2 * i128::from(i64::MAX), Asset::Usd), "18446744073.709551614");
    }
}
