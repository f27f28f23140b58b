//! What is sold, and at which price.

use serde_json::{Value, json};

use crate::call::Arrived;
use crate::selling;

/// The priced models by exact name, in OpenAI's list shape.
pub(super) fn models(arrived: &Arrived) -> Value {
    let markup_bp = arrived.snapshot.config.prices.markup.of(None);
    let usd = |rate| selling::usd(rate, markup_bp);
    let data: Vec<Value> = arrived
        .snapshot
        .prices
        .iter()
        .filter(|(name, _)| !name.contains('*'))
        .map(|(name, price)| {
            json!({"id": name, "object": "model", "owned_by": "farthing",
                   "pricing": {"prompt": usd(price.input), "completion": usd(price.output)}})
        })
        .collect();
    json!({"object": "list", "data": data})
}
