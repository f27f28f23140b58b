//! What is sold, and at which price.

use serde_json::{Value, json};
use tariff::Terms;

use crate::call::Arrived;
use crate::selling;

/// The priced models by exact name, in OpenAI's list shape.
pub(super) fn models(arrived: &Arrived) -> Value {
    let markup_bp = arrived.snapshot.config.prices.markup.of(None);
    let usd = |rate| selling::usd(rate, markup_bp);
    let at_ms = i64::try_from(arrived.now.millis()).unwrap_or(i64::MAX);
    let data: Vec<Value> = arrived
        .snapshot
        .prices
        .listed(None, at_ms)
        .filter(|found| !found.name.contains('*'))
        .map(|found| {
            let price = found.tariff.rates(&Terms { at_ms, ..Terms::default() }).rates;
            json!({"id": found.name, "object": "model", "owned_by": "farthing",
                   "pricing": {"prompt": usd(price.input), "completion": usd(price.output)}})
        })
        .collect();
    json!({"object": "list", "data": data})
}
