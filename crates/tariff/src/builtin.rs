//! The prices that ship with the program: a start, which operators confirm or replace.

use std::sync::Arc;

use crate::catalogue::{Catalogue, CatalogueError};
use crate::own;
use crate::window::Calendar;

/// As of 2026-11-20; each model names the page its figures are from.
const PRICES: &str = include_str!("builtin.json");

/// The list. Its windows know the public holidays of the PRC for 2026 (calendar `prc`); a later calendar of that
/// name takes their place.
///
/// # Errors
/// None for the list as it ships.
pub fn builtin(calendars: &[Arc<Calendar>]) -> Result<Catalogue, CatalogueError> {
    own::read(PRICES.as_bytes(), calendars)
}
