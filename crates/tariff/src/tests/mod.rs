//! Tables, vectors and properties that run through the public interface.

mod choices;
mod lists;
mod properties;
mod vectors;
mod windows;

use money::{Rate, parse_rate};

use crate::{Item, Rates, moment_ms};

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
