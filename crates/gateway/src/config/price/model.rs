//! The price of one model, as an operator writes it.

use money::{Rate, parse_rate};
use tariff::{Changes, Entry, Item, Length, Rates, Tariff, moment_ms};

use super::{Calendars, window};
use crate::config::section::{Keys, Section, joined};
use crate::config::value;
use crate::config::yaml::{Key, Kind, Node};

/// What has a rate, by the key it is written under.
const ITEMS: [(&str, Item); 15] = [
    ("input", Item::Input),
    ("output", Item::Output),
    ("cache_read", Item::CacheRead),
    ("cache_write", Item::CacheWrite),
    // What lives for five minutes is what a write is unless it says more.
    ("cache_write_5m", Item::CacheWrite),
    ("cache_write_1h", Item::CacheWrite1h),
    ("cache_write_12h", Item::CacheWrite12h),
    ("reasoning", Item::Reasoning),
    ("audio_input", Item::AudioIn),
    ("audio_output", Item::AudioOut),
    ("image_input", Item::ImageIn),
    ("image_output", Item::ImageOut),
    ("per_image", Item::Image),
    ("per_character", Item::Character),
    ("per_second", Item::Second),
];

/// The keys of [`ITEMS`].
const ITEM_KEYS: [&str; ITEMS.len()] = {
    let mut keys = [""; ITEMS.len()];
    let mut at = 0;
    while at < ITEMS.len() {
        keys[at] = ITEMS[at].0;
        at += 1;
    }
    keys
};
const PRICE_KEYS: [&str; 22] = joined(
    &ITEM_KEYS,
    &["per_call", "max_output", "max_seconds", "tiers", "windows", "service_tiers", "effective_from"],
);
const KEYS: Keys = Keys::new(&PRICE_KEYS, &["min"]);
const LENGTH_KEYS: [&str; 16] = joined(&ITEM_KEYS, &["input_up_to"]);
const TIER_KEYS: Keys = Keys::new(&LENGTH_KEYS, &[]);
const SERVICE_TIER_KEYS: Keys = Keys::new(&ITEM_KEYS, &[]);
const HOURS_KEYS: [&str; 20] = joined(&ITEM_KEYS, &["name", "hours", "days", "except", "zone"]);
/// Of a window: its prices, and when it is open.
pub(super) const WINDOW_KEYS: Keys = Keys::new(&HOURS_KEYS, &[]);

pub(super) fn read_all(
    section: &Section<'_>,
    entries: Vec<(&Key, &Node)>,
    calendars: &Calendars,
) -> Vec<Entry> {
    let mut models = Vec::new();
    for (key, node) in entries {
        let path = section.path_of(&key.text);
        // A list: what it cost before, and from when on it costs something else.
        let history = match &node.kind {
            Kind::List(items) => {
                items.iter().enumerate().map(|(at, item)| (format!("{path}[{at}]"), item)).collect()
            }
            Kind::Null | Kind::Scalar(_) | Kind::Map(_) => vec![(path, node)],
        };
        for (path, node) in history {
            let Some(price) = Section::open(section.context, &path, node, KEYS) else { continue };
            let since_ms = price.value("effective_from", |text| moment_ms(text).map_err(|e| e.to_string()));
            if let Some(tariff) = read_one(&price, calendars) {
                models.push(Entry { model: key.text.clone(), since_ms, tariff });
            }
        }
    }
    models
}

fn read_one(price: &Section<'_>, calendars: &Calendars) -> Option<Tariff> {
    let mut rates = Rates {
        per_call: price.value("per_call", value::usd),
        max_output_tokens: price.value("max_output", value::count).map(u64::from),
        max_seconds: price.value("max_seconds", value::count).map(u64::from),
        ..Rates::default()
    };
    let mut written = changes(price);
    let (first, longer) = read_tiers(price, &written)?;
    first.iter().for_each(|(item, rate)| written.set(item, rate));
    // A rate left out would be a model given away, so free has to be written.
    let has = |item: Item| written.get(item).is_some() || is_written(price, item);
    let by_unit =
        [Item::Image, Item::Character, Item::Second].into_iter().any(has) || rates.per_call.is_some();
    let missing = match (has(Item::Input), has(Item::Output)) {
        (true, false) => Some("output"),
        (false, true) => Some("input"),
        (false, false) if !by_unit => Some("input and output, or per_call"),
        (true, true) | (false, false) => None,
    };
    if let Some(missing) = missing {
        let place = &price.path;
        price.missing(format!("{place} has no price for {missing}; write 0 USD/Mtok if it is free"));
        return None;
    }
    written.iter().for_each(|(item, rate)| rates.set(item, rate));
    let mut tariff: Tariff = rates.into();
    for length in longer {
        tariff = tariff.with_length(length);
    }
    for (name, changes) in read_service_tiers(price) {
        tariff = tariff.with_tier(&name, changes);
    }
    for window in window::read(price, calendars) {
        tariff = tariff.with_window(window);
    }
    Some(tariff)
}

/// Whether a map names a rate, well written or not: one mistake is one finding.
fn is_written(section: &Section<'_>, item: Item) -> bool {
    ITEMS.iter().any(|(key, known)| *known == item && section.get(key).is_some())
}

/// Whether a map names any rate.
pub(super) fn is_priced(section: &Section<'_>) -> bool {
    ITEMS.iter().any(|(key, _)| section.get(key).is_some())
}

/// Every rate that a map names.
pub(super) fn changes(section: &Section<'_>) -> Changes {
    let mut changes = Changes::default();
    for (key, item) in ITEMS {
        let Some(rate) = section.value(key, |text| rate(item, text)) else { continue };
        if changes.get(item).is_some() {
            section.complain(key, format!("{}: cache_write and {key} are the same", section.path));
        }
        changes.set(item, rate);
    }
    changes
}

/// A rate in the unit of its item: a bare `0.10 USD` would be 0.10 USD for each token.
fn rate(item: Item, text: &str) -> Result<Rate, String> {
    if item.is_token() {
        return value::token_rate(text);
    }
    let units: &[&str] = if item == Item::Character { &["Mchar", "Kchar", "char"] } else { &[] };
    let rate = parse_rate(text).map_err(|error| format!("\"{text}\": {error}"))?;
    let example = if units.is_empty() { "0.04 USD" } else { "15 USD/Mchar" };
    let unit = text.trim().rsplit_once('/').map(|(_, unit)| unit);
    let fits = unit.map_or(units.is_empty(), |unit| units.contains(&unit));
    if fits { Ok(rate) } else { Err(format!("\"{text}\" has another unit; write it like {example}")) }
}

/// Prices by the length of the prompt: those of the shortest, and what changes above each bound. The whole call is
/// charged at the tier its prompt falls into.
fn read_tiers(price: &Section<'_>, written: &Changes) -> Option<(Changes, Vec<Length>)> {
    let Some(node) = price.get("tiers") else { return Some((Changes::default(), Vec::new())) };
    let Kind::List(items) = &node.kind else {
        price.complain("tiers", format!("{}.tiers must be a list, not {}", price.path, node.what()));
        return None;
    };
    let mut tiers: Vec<(Option<u32>, Changes)> = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let path = format!("{}.tiers[{at}]", price.path);
        let section = Section::open(price.context, &path, item, TIER_KEYS)?;
        let bound = section.value("input_up_to", value::count);
        let changes = changes(&section);
        let is_last = at + 1 == items.len();
        if bound.is_none() && !is_last {
            section.missing(format!("{path} needs \"input_up_to\": only the last tier has no end"));
            return None;
        }
        if let (Some(bound), Some((Some(before), _))) = (bound, tiers.last())
            && bound <= *before
        {
            section.complain("input_up_to", format!("{path}.input_up_to must be more than {before}"));
            return None;
        }
        if let Some((item, _)) = changes.iter().find(|(item, _)| written.get(*item).is_some()) {
            let name = item.name();
            section.complain("input_up_to", format!("{path}: {name} stands outside of the tiers too"));
            return None;
        }
        // What only one of them says would be sold at the price of another by silence.
        let names = |changes: &Changes| changes.iter().map(|(item, _)| item).collect::<Vec<_>>();
        if tiers.first().is_some_and(|(_, first)| names(first) != names(&changes)) {
            section.missing(format!("{path} does not price the same things as the first tier"));
            return None;
        }
        tiers.push((bound, changes));
    }
    let mut tiers = tiers.into_iter();
    let (mut bound, first) = tiers.next()?;
    let mut longer = Vec::new();
    for (next, changes) in tiers {
        longer.push(Length { over: u64::from(bound?), changes, tiers: Vec::new() });
        bound = next;
    }
    Some((first, longer))
}

fn read_service_tiers(price: &Section<'_>) -> Vec<(String, Changes)> {
    let Some(node) = price.get("service_tiers") else { return Vec::new() };
    let Some(named) = Section::open_any(price.context, &price.path_of("service_tiers"), node) else {
        return Vec::new();
    };
    let read = |(key, node): (&Key, &Node)| {
        let path = named.path_of(&key.text);
        let section = Section::open(price.context, &path, node, SERVICE_TIER_KEYS)?;
        if tariff::is_standard(&key.text) {
            let message = format!("{path}: this is the tier without a name; its rates stand beside");
            price.context.report.add(key.span, message);
        }
        Some((key.text.clone(), changes(&section)))
    };
    named.entries().filter_map(read).collect()
}
