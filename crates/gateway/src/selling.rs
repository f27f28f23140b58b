//! Rates as they are sold: with the markup, exact, as decimal text.

use money::{Amount, Asset, Femto, Rate};
use serde_json::{Value, json};
use tariff::{Item, Resolved, Rule};

use crate::config::UnitPrice;

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

/// The rates of a call as they are sold, and what chose each.
pub(crate) fn rate_lines(resolved: &Resolved<'_>, markup_bp: u32) -> Vec<Value> {
    let priced = Item::ALL.into_iter().filter_map(|item| Some((item, resolved.rates.own(item)?)));
    let line = |(item, rate): (Item, Rate)| {
        let mut line = rate_line(item, rate, markup_bp);
        line["rule"] = resolved.rule(item).to_string().into();
        line
    };
    let fee = resolved.rates.per_call.filter(|fee| *fee > Amount::ZERO);
    let fee = fee.map(|fee| {
        json!({"bucket": "call", "unit": "call", "amount": fee_text(fee, markup_bp), "currency": "USD",
               "rule": Rule::Base.to_string()})
    });
    priced.map(line).chain(fee).collect()
}

/// One rate as it is sold.
pub(crate) fn rate_line(item: Item, rate: Rate, markup_bp: u32) -> Value {
    json!({"bucket": item.name(), "unit": item.unit().name(), "amount": usd(rate, markup_bp), "currency": "USD"})
}

/// A fee as it is sold.
pub(crate) fn fee_text(fee: Amount, markup_bp: u32) -> String {
    let femto = u64::try_from(fee.units()).unwrap_or(0).saturating_mul(1_000_000);
    usd(Rate::from_femto(femto), markup_bp)
}

/// A fee that does not depend on what is used.
pub(crate) fn fee_lines(fee: Amount) -> Vec<Value> {
    vec![json!({"bucket": "call", "unit": "call", "amount": fee.short(Asset::Usd), "currency": "USD"})]
}

/// What a route with a price of its own is sold at.
pub(crate) fn unit_lines(price: &UnitPrice) -> Vec<Value> {
    let line = |bucket: &str, unit: &str, amount: String| json!({"bucket": bucket, "unit": unit, "amount": amount, "currency": "USD"});
    let fee =
        |bucket: &str, fee: Amount| (fee > Amount::ZERO).then(|| line(bucket, "call", fee_text(fee, 0)));
    let rates = [
        ("request_byte", "byte", price.byte_in),
        ("response_byte", "byte", price.byte_out),
        ("second", "second", price.second),
        ("character", "character", price.character),
        ("image", "image", price.image),
    ];
    let rates = rates.into_iter().filter_map(|(bucket, unit, rate)| Some(line(bucket, unit, usd(rate?, 0))));
    fee("call", price.call).into_iter().chain(rates).chain(fee("at_least", price.min)).collect()
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
