//! Price lists in our own words, as JSON: rates with their units, tiers, lengths, hours with zones and calendars, and
//! prices from a day on.
//!
//! ```json
//! {"calendars": {"prc": ["2026-10-01"]},
//!  "models": {"m": {"input": "0.15 USD/Mtok", "output": "0.6 USD/Mtok",
//!    "tiers": {"flex": {"input": "0.1 USD/Mtok"}},
//!    "over": {"272000": {"input": "0.3 USD/Mtok", "tiers": {"flex": {"input": "0.2 USD/Mtok"}}}},
//!    "windows": [{"name": "peak", "zone": "Asia/Shanghai", "days": ["mon", "tue"], "hours": ["09:00-12:00"],
//!                 "except": "prc", "input": "0.3 USD/Mtok"}],
//!    "multipliers": {"geo us": "1.1"}}}}
//! ```
//! A model may be a list of such objects, each with `since`. What is not understood is no price: unlike other
//! people's lists, this one is read strictly.

use std::sync::Arc;

use money::{Asset, Decimal, parse_money, parse_rate};
use serde_json::value::RawValue;

use crate::book::Entry;
use crate::catalogue::{Catalogue, CatalogueError, SkipReason, text};
use crate::json;
use crate::rates::{Item, Rates};
use crate::tariff::{Changes, Dimension, Length, Multiplier, Tariff, Tier, Window};
use crate::window::{Calendar, Hours, Times, Weekdays, When, Zone, moment_ms};

type Members<'a> = Vec<(String, &'a RawValue)>;

/// Reads a list. Calendars that are given replace those of the same name in it.
///
/// # Errors
/// [`CatalogueError`]: nothing of it can be used. A single bad model is passed over and told in the result.
pub fn read(bytes: &[u8], calendars: &[Arc<Calendar>]) -> Result<Catalogue, CatalogueError> {
    let members = json::document(text(bytes)?).ok_or(CatalogueError::NotAnObject)?;
    let part = |name: &str| members.iter().find(|(known, _)| known == name).map(|(_, value)| *value);
    let object = |value| json::object(value).ok_or(CatalogueError::NotAnObject);
    let mut known = calendars.to_vec();
    for (name, value) in part("calendars").map(object).transpose()?.unwrap_or_default() {
        let dates: Option<Vec<String>> =
            json::array(value).and_then(|dates| dates.into_iter().map(json::string).collect());
        let calendar = dates.and_then(|dates| Calendar::new(&name, dates.iter().map(String::as_str)).ok());
        // One that cannot be read is not known: prices that name it are passed over.
        known.extend(calendar.map(Arc::new));
    }
    let mut catalogue = Catalogue::default();
    for (model, value) in object(part("models").ok_or(CatalogueError::NotAnObject)?)? {
        for value in json::array(value).unwrap_or_else(|| vec![value]) {
            let read = entry(&model, value, &known);
            catalogue.take(model.clone(), read);
        }
    }
    catalogue.settled()
}

fn bad(name: &str) -> SkipReason {
    SkipReason::Member(name.to_owned())
}

fn members<'a>(value: &'a RawValue, name: &str) -> Result<Members<'a>, SkipReason> {
    let members = json::object(value).ok_or_else(|| bad(name))?;
    match json::twice(&members) {
        Some(name) => Err(SkipReason::MemberTwice(name.to_owned())),
        None => Ok(members),
    }
}

fn entry(model: &str, value: &RawValue, calendars: &[Arc<Calendar>]) -> Result<Entry, SkipReason> {
    let members = members(value, "model")?;
    let mut rates = Rates::default();
    let (mut plain, mut since_ms) = (Changes::default(), None);
    let mut parts: Vec<(&str, &RawValue)> = Vec::new();
    for (name, value) in &members {
        let wrong = || bad(name);
        match name.as_str() {
            "source" => {}
            "since" => {
                since_ms = Some(json::string(value).and_then(|day| moment_ms(&day).ok()).ok_or_else(wrong)?)
            }
            "per_call" => {
                let fee = json::string(value).and_then(|text| parse_money(&text).ok());
                let fee = fee.filter(|(_, asset)| *asset == Asset::Usd).ok_or_else(wrong)?;
                rates.per_call = Some(fee.0);
            }
            "max_input_tokens" => rates.max_input_tokens = Some(limit(value).ok_or_else(wrong)?),
            "max_output_tokens" => rates.max_output_tokens = Some(limit(value).ok_or_else(wrong)?),
            "max_seconds" => rates.max_seconds = Some(limit(value).ok_or_else(wrong)?),
            "max_response_bytes" => rates.max_response_bytes = Some(limit(value).ok_or_else(wrong)?),
            "tiers" | "over" | "windows" | "multipliers" => parts.push((name, value)),
            _ => set(&mut plain, name, value)?,
        }
    }
    let priced = |item| plain.get(item).is_some();
    let sold =
        (priced(Item::Input) && priced(Item::Output)) || (plain.is_empty() && rates.per_call.is_some());
    let units = [Item::Image, Item::Character, Item::Second, Item::ResponseByte].into_iter().any(priced);
    if !sold && !units {
        return Err(SkipReason::Unpriced(if priced(Item::Input) { "output" } else { "input" }));
    }
    plain.iter().for_each(|(item, rate)| rates.set(item, rate));
    let mut tariff = Tariff::from(rates);
    for (name, value) in parts {
        tariff = match name {
            "tiers" => {
                tiers(value)?.into_iter().fold(tariff, |all, tier| all.with_tier(&tier.name, tier.changes))
            }
            "over" => lengths(value)?.into_iter().fold(tariff, Tariff::with_length),
            "windows" => windows(value, calendars)?.into_iter().fold(tariff, Tariff::with_window),
            _ => multipliers(value)?.into_iter().fold(tariff, Tariff::with_multiplier),
        };
    }
    let unpriced = changed(&tariff).find(|item| !item.is_token() && tariff.base().rate(*item).is_none());
    match unpriced {
        Some(item) => Err(bad(item.name())),
        None => Ok(Entry { model: model.to_owned(), since_ms, tariff }),
    }
}

/// Everything that tiers, lengths and windows change. What the plain price is not for they cannot be for.
fn changed(tariff: &Tariff) -> impl Iterator<Item = Item> {
    let lengths = tariff.lengths().iter();
    let tiers = tariff.tiers().iter().chain(lengths.clone().flat_map(|length| &length.tiers));
    let all = tiers.map(|tier| &tier.changes).chain(lengths.map(|length| &length.changes));
    all.chain(tariff.windows().iter().map(|window| &window.changes))
        .flat_map(Changes::iter)
        .map(|(item, _)| item)
}

/// A limit of zero would make holds that cover nothing.
fn limit(value: &RawValue) -> Option<u64> {
    json::whole(value).filter(|limit| *limit > 0)
}

fn set(changes: &mut Changes, name: &str, value: &RawValue) -> Result<(), SkipReason> {
    let item = Item::from_name(name).ok_or_else(|| bad(name))?;
    let rate = json::string(value).and_then(|text| parse_rate(&text).ok()).ok_or_else(|| bad(name))?;
    changes.set(item, rate);
    Ok(())
}

fn tiers(value: &RawValue) -> Result<Vec<Tier>, SkipReason> {
    let tier = |(name, value): (String, &RawValue)| {
        let mut changes = Changes::default();
        members(value, "tiers")?.iter().try_for_each(|(item, value)| set(&mut changes, item, value))?;
        Ok(Tier { name, changes })
    };
    members(value, "tiers")?.into_iter().map(tier).collect()
}

fn lengths(value: &RawValue) -> Result<Vec<Length>, SkipReason> {
    let mut lengths: Vec<Length> = Vec::new();
    for (over, value) in members(value, "over")? {
        let over: u64 = over.parse().map_err(|_| bad("over"))?;
        let mut length = Length { over, changes: Changes::default(), tiers: Vec::new() };
        for (name, value) in members(value, "over")? {
            match name.as_str() {
                "tiers" => length.tiers = tiers(value)?,
                _ => set(&mut length.changes, &name, value)?,
            }
        }
        if lengths.iter().any(|known| known.over == over) {
            return Err(bad("over"));
        }
        lengths.push(length);
    }
    Ok(lengths)
}

fn windows(value: &RawValue, calendars: &[Arc<Calendar>]) -> Result<Vec<Window>, SkipReason> {
    let wrong = || bad("windows");
    json::array(value).ok_or_else(wrong)?.into_iter().map(|value| window(value, calendars)).collect()
}

fn window(value: &RawValue, calendars: &[Arc<Calendar>]) -> Result<Window, SkipReason> {
    let wrong = || bad("windows");
    let words = |value: &RawValue| -> Option<Vec<String>> {
        json::array(value)?.into_iter().map(json::string).collect()
    };
    let (mut window_name, mut zone, mut days, mut except) = (None, Zone::utc(), Weekdays::ALL, None);
    let (mut hours, mut changes) = (Vec::new(), Changes::default());
    for (name, value) in members(value, "windows")? {
        match name.as_str() {
            "name" => window_name = json::string(value),
            "zone" => {
                zone = json::string(value).and_then(|name| Zone::named(&name).ok()).ok_or_else(wrong)?
            }
            "days" => {
                let named = words(value).ok_or_else(wrong)?;
                days = Weekdays::parse(named.iter().map(String::as_str)).map_err(|_| wrong())?;
            }
            "hours" => {
                for text in words(value).ok_or_else(wrong)? {
                    hours.push(Hours::parse(&text).map_err(|_| wrong())?);
                }
            }
            "except" => {
                let name = json::string(value).ok_or_else(wrong)?;
                let known = calendars.iter().find(|calendar| calendar.name() == name);
                except = Some(Arc::clone(known.ok_or_else(wrong)?));
            }
            _ => set(&mut changes, &name, value)?,
        }
    }
    if hours.is_empty() || changes.is_empty() {
        return Err(wrong());
    }
    let when = When { zone, day_zone: None, times: vec![Times { days, hours }], except };
    Ok(Window { name: window_name.ok_or_else(wrong)?, when, changes })
}

fn multipliers(value: &RawValue) -> Result<Vec<Multiplier>, SkipReason> {
    let wrong = || bad("multipliers");
    let read = |(of, value): (String, &RawValue)| {
        let (dimension, of) = of.split_once(' ')?;
        let dimension = [Dimension::Geo, Dimension::Speed, Dimension::Region]
            .into_iter()
            .find(|known| known.name() == dimension)?;
        let factor = Decimal::parse(&json::string(value)?).ok()?.exact(4)?;
        let factor_bp = u32::try_from(factor).ok().filter(|factor| (1..=1_000_000).contains(factor))?;
        Some(Multiplier { dimension, value: of.to_owned(), factor_bp })
    };
    members(value, "multipliers")?.into_iter().map(|entry| read(entry).ok_or_else(wrong)).collect()
}
