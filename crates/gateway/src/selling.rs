//! Rates as they are sold: with the markup, exact, as decimal text.

use meter::ModelPrice;
use money::{Amount, Asset, Femto, Rate};
use serde_json::{Value, json};

/// Places of a femto-USD, and of a basis point of one.
const PLACES: usize = 19;
const SCALE: u128 = 10u128.pow(19);

/// USD for one unit at this rate, raised by so many basis points.
pub(crate) fn usd(rate: Rate, markup_bp: u32) -> String {
    // A rate has 64 bits and a markup 32: the product fits.
    let units = u128::from(rate.femto()) * (10_000 + u128::from(markup_bp));
    let text = format!("{}.{:0PLACES$}", units / SCALE, units % SCALE);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// An exact cost in USD.
pub(crate) fn femto_text(cost: Femto) -> String {
    let scale = 10u128.pow(15);
    let text = format!("{}.{:015}", cost.units() / scale, cost.units() % scale);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What is priced of a model: bucket, the unit it is counted in, and the rate of one.
pub(crate) fn rates(price: &ModelPrice) -> Vec<(&'static str, &'static str, Rate)> {
    let fee = price.per_call.unwrap_or(Amount::ZERO).units();
    let fee = u64::try_from(fee).unwrap_or(0).saturating_mul(1_000_000);
    [
        ("input", "token", Some(price.input)),
        ("output", "token", Some(price.output)),
        ("cache_read", "token", Some(price.cache_read_rate())),
        ("cache_write", "token", Some(price.cache_write_rate())),
        ("cache_write_1h", "token", price.cache_write_1h),
        ("cache_write_12h", "token", price.cache_write_12h),
        ("reasoning", "token", price.reasoning),
        ("web_search", "search", price.web_search),
        ("image", "image", price.image),
        ("character", "character", price.character),
        ("second", "second", price.second),
        ("response_byte", "byte", price.response_byte),
        ("call", "call", (fee > 0).then_some(Rate::from_femto(fee))),
    ]
    .into_iter()
    .filter_map(|(bucket, unit, rate)| Some((bucket, unit, rate?)))
    .collect()
}

/// The same for machines.
pub(crate) fn rate_lines(price: &ModelPrice, markup_bp: u32) -> Vec<Value> {
    let line = |(bucket, unit, rate)| json!({"bucket": bucket, "unit": unit, "amount": usd(rate, markup_bp), "currency": "USD"});
    rates(price).into_iter().map(line).collect()
}

/// A fee that does not depend on what is used.
pub(crate) fn fee_lines(fee: Amount) -> Vec<Value> {
    vec![json!({"bucket": "call", "unit": "call", "amount": fee.short(Asset::Usd), "currency": "USD"})]
}

#[cfg(test)]
mod tests {
    use super::usd;
    use money::Rate;

    #[test]
    fn decimal_text_is_exact() {
        for (femto, markup_bp, text) in [
            (100_000_000, 0, "0.0000001"),
            (100_000_000, 2000, "0.00000012"),
            (1, 1, "0.0000000000000010001"),
            (0, 2000, "0"),
            (2_000_000_000_000_000, 0, "2"),
            (u64::MAX, u32::MAX, "7922834696.3258330611055581425"),
        ] {
            assert_eq!(usd(Rate::from_femto(femto), markup_bp), text);
        }
    }
}
