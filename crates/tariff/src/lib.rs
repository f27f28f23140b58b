//! What a model costs.
//!
//! Invariant: a price is exact decimal text until it is an integer, and the same catalogue bytes give the same version
//! and the same rates. Pure: no file, clock or network; zones come from a bundled database. Rules MTR-n are those of
//! `specs/metering.md`.
//!
//! ```
//! use tariff::{Item, Layer, Origin, PriceBook, Terms, builtin, moment_ms};
//!
//! let entries = builtin(&[]).unwrap().entries;
//! let book = PriceBook::new([Layer { origin: Origin::BuiltIn, entries }], []).unwrap();
//! let at_ms = moment_ms("2026-11-17T02:30:00Z").unwrap();
//! let found = book.lookup("deepseek-flash", None, at_ms).unwrap();
//! let resolved = found.tariff.rates(&Terms { at_ms, input_total: 2006, ..Terms::default() });
//! assert_eq!(Item::Output.price(resolved.rates.output), "1.2 USD/Mtok");
//! assert_eq!(resolved.rule(Item::Output).to_string(), "peak hours");
//! assert!(book.lookup("a-model-nobody-priced", None, at_ms).is_none());
//! ```
#![deny(clippy::float_arithmetic)]

mod book;
mod builtin;
mod catalogue;
mod diff;
mod facts;
mod json;
pub mod litellm;
pub mod models_dev;
pub mod own;
mod rates;
mod resolve;
mod tariff;
mod window;

#[cfg(test)]
mod tests;

pub use book::{Entry, Found, Layer, Origin, PriceBook, PriceBookError};
pub use builtin::builtin;
pub use catalogue::{CATALOGUE_BYTES_MAX, Catalogue, CatalogueError, SkipReason, Skipped};
pub use diff::{Difference, diff};
pub use facts::Fact;
pub use rates::{Item, Rates, Unit};
pub use resolve::{Bounds, Resolved, Rule, SearchContext, Terms};
pub use tariff::{Changes, Dimension, Length, Multiplier, Tariff, Tier, UNIT_BP, Window, is_standard};
pub use window::{Calendar, Hours, Times, Weekdays, When, WindowError, Zone, moment_ms, moment_text};
