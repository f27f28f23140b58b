//! What a model costs.
//!
//! Invariant: a price is exact decimal text until it is an integer, and the same catalogue bytes give the same version
//! and the same rates. Pure: no file, clock or network; zones come from a bundled database. Rules MTR-n are those of
//! `specs/metering.md`.
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
pub use rates::{Item, Rates};
pub use resolve::{Bounds, Resolved, Rule, SearchContext, Terms};
pub use tariff::{Changes, Dimension, Length, Multiplier, Tariff, Tier, UNIT_BP, Window, is_standard};
pub use window::{Calendar, Hours, Times, Weekdays, When, WindowError, Zone, moment_ms, moment_text};
