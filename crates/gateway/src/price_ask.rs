//! What a call would cost, asked without making it: the same rates, the same sum, the same rounding.

use money::{AmountError, Asset, Femto, Rate};
use serde_json::{Value, json};
use tariff::{Item, Resolved, Terms, moment_text};

use crate::facts;
use crate::price_list::{PriceList, percent};
use crate::selling;

/// What is asked about. Tokens as providers report them: those of a cache are part of the input, those of reasoning
/// of the output.
#[derive(Clone, Debug, Default)]
pub struct PriceAsk {
    /// As a request would name it.
    pub model: String,
    /// Of the account that would pay.
    pub group: Option<String>,
    /// When the call would begin, in milliseconds since 1970.
    pub at_ms: i64,
    /// The service tier that would serve it.
    pub tier: Option<String>,
    /// Prompt tokens.
    pub input: u64,
    /// Generated tokens.
    pub output: u64,
    /// Prompt tokens out of a cache.
    pub cached: u64,
    /// Prompt tokens into a cache.
    pub cache_write: u64,
    /// Generated tokens of reasoning.
    pub reasoning: u64,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceAskError {
    /// Calls for it are refused.
    #[error("the model \"{0}\" has no price here")]
    Unpriced(String),
    /// Its calls cannot name this tier.
    #[error("the service tier \"{0}\" of this model has no price here")]
    Tier(String),
    /// More of a part than of the whole.
    #[error("{0}")]
    Parts(&'static str),
    /// Beyond any balance.
    #[error("the cost is out of range")]
    OutOfRange,
}

impl From<AmountError> for PriceAskError {
    fn from(_: AmountError) -> Self {
        Self::OutOfRange
    }
}

/// The bill of such a call, and the rule that chose each rate. For the operator: with his own rates and his raise.
///
/// # Errors
/// [`PriceAskError`].
pub fn price(list: &PriceList, ask: &PriceAsk) -> Result<Value, PriceAskError> {
    let group = ask.group.as_deref();
    let unpriced = || PriceAskError::Unpriced(ask.model.clone());
    let found = list.lookup(&ask.model, group, ask.at_ms).ok_or_else(unpriced)?;
    if !found.tariff.sells_tier(ask.tier.as_deref()) {
        return Err(PriceAskError::Tier(ask.tier.clone().unwrap_or_default()));
    }
    let read = ask.cached.checked_add(ask.cache_write);
    let plain = read.and_then(|read| ask.input.checked_sub(read));
    let plain = plain.ok_or(PriceAskError::Parts("--cached and --cache-write are part of --in"))?;
    let seen = ask.output.checked_sub(ask.reasoning);
    let seen = seen.ok_or(PriceAskError::Parts("--reasoning is part of --out"))?;
    let terms = Terms {
        at_ms: ask.at_ms,
        input_total: ask.input,
        service_tier: ask.tier.as_deref(),
        ..Terms::default()
    };
    let resolved = found.tariff.rates(&terms);
    let mut bare = Femto::ZERO;
    let mut lines = Vec::new();
    for (item, quantity) in [
        (Item::Input, plain),
        (Item::CacheRead, ask.cached),
        (Item::CacheWrite, ask.cache_write),
        (Item::Output, seen),
        (Item::Reasoning, ask.reasoning),
    ] {
        if quantity > 0 {
            let rate = resolved.rates.rate_or_free(item);
            bare = bare.add_units(quantity, rate)?;
            lines.push(line(item.name(), quantity, rate, &rule(&resolved, item))?);
        }
    }
    if let Some(fee) = resolved.rates.per_call.filter(|fee| fee.units() > 0) {
        let fee = u64::try_from(fee.units()).map_err(|_| PriceAskError::OutOfRange)?;
        let rate = Rate::from_femto(fee.checked_mul(1_000_000).ok_or(PriceAskError::OutOfRange)?);
        bare = bare.add_units(1, rate)?;
        lines.push(line("call", 1, rate, "list price")?);
    }
    let markup_bp = list.markup(group);
    let cost = bare.marked_up(markup_bp)?;
    Ok(json!({
        "model": ask.model, "priced_as": found.name, "from": found.origin.text(),
        "since": found.since_ms.map(moment_text), "at": moment_text(ask.at_ms), "group": ask.group,
        "price_version": list.version(), "lines": lines, "sum": usd(bare), "markup": percent(markup_bp),
        "cost": usd(cost), "charge": facts::amount(cost.to_nano_up()?, Asset::Usd),
    }))
}

fn usd(femto: Femto) -> Value {
    json!({"amount": selling::femto_text(femto), "currency": Asset::Usd.name()})
}

fn line(bucket: &str, quantity: u64, rate: Rate, rule: &str) -> Result<Value, AmountError> {
    let cost = Femto::ZERO.add_units(quantity, rate)?;
    Ok(json!({"bucket": bucket, "quantity": quantity, "cost": usd(cost), "rule": rule,
              "rate": {"amount": selling::usd(rate, 0), "currency": Asset::Usd.name()}}))
}

/// What chose the rate, and whose rate it is where the item has none of its own.
fn rule(resolved: &Resolved<'_>, item: Item) -> String {
    let (rule, by) = (resolved.rule(item).to_string(), resolved.rates.charged_as(item));
    if by == item { rule } else { format!("{rule}, as {}", by.name()) }
}
