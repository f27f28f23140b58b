//! Tables, vectors and properties that run through the public interface.

mod choices;
mod lists;
mod litellm_map;
mod properties;
mod vectors;
mod windows;

use money::{Rate, parse_rate};

use crate::{Catalogue, CatalogueError, Item, Rates, SkipReason, Tariff, Terms, moment_ms};

/// A moment from `2026-11-17T01:00:00Z`.
fn at(text: &str) -> i64 {
    moment_ms(text).unwrap()
}

/// A rate from `0.15`, in USD per million tokens.
fn mtok(text: &str) -> Rate {
    parse_rate(&format!("{text} USD/Mtok")).unwrap()
}

/// A plain price for input and output.
fn flat(input: &str, output: &str) -> Rates {
    Rates { input: mtok(input), output: mtok(output), ..Rates::default() }
}

/// What is charged for an item, as people read it.
fn shown(rates: &Rates, item: Item) -> String {
    rates.rate(item).map_or_else(|| "-".to_owned(), |rate| item.price(rate))
}

/// The one model of a list that has a second one, or why it has no price.
fn one(catalogue: Result<Catalogue, CatalogueError>) -> Result<Tariff, SkipReason> {
    let mut catalogue = catalogue.unwrap();
    match catalogue.skipped.pop() {
        Some(skipped) => Err(skipped.reason),
        None => Ok(catalogue.entries.remove(0).tariff),
    }
}

/// What is charged for an item of a call.
fn charged(tariff: &Tariff, terms: &Terms<'_>, item: Item) -> String {
    shown(&tariff.rates(terms).rates, item)
}

/// Members of a map's model with a plain price.
const PLAIN: &str = r#""input_cost_per_token":1e-6,"output_cost_per_token":4e-6"#;
