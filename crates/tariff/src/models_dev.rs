//! The list of models.dev (`api.json`): providers, their models, USD per million tokens. It knows no time of day and no
//! service tiers.

use serde_json::value::RawValue;

use crate::book::Entry;
use crate::catalogue::{Catalogue, CatalogueError, SkipReason, text};
use crate::json;
use crate::rates::{Item, Rates};
use crate::tariff::{Changes, Length, Tariff};

const COSTS: [(&str, Item); 7] = [
    ("input", Item::Input),
    ("output", Item::Output),
    ("reasoning", Item::Reasoning),
    ("cache_read", Item::CacheRead),
    ("cache_write", Item::CacheWrite),
    ("input_audio", Item::AudioIn),
    ("output_audio", Item::AudioOut),
];

/// The prompt above which the older member for long prompts applies.
const OLDER_LENGTH: u64 = 200_000;

/// Reads the list. With a provider (`deepseek`) only its models are read, under their own names; without one every
/// name begins with its provider's (`deepseek/`).
///
/// # Errors
/// [`CatalogueError`]: nothing of it can be used. A single bad model is passed over and told in the result.
pub fn read(bytes: &[u8], provider: Option<&str>) -> Result<Catalogue, CatalogueError> {
    let providers = json::document(text(bytes)?).ok_or(CatalogueError::NotAnObject)?;
    let mut catalogue = Catalogue::default();
    for (id, value) in providers.iter().filter(|(id, _)| provider.is_none_or(|wanted| wanted == id)) {
        let models = json::object(value).and_then(|members| json::object(find(&members, "models")?));
        for (name, model) in models.unwrap_or_default() {
            let model_name = if provider.is_some() { name } else { format!("{id}/{name}") };
            let entry = |tariff| Entry { model: model_name.clone(), since_ms: None, tariff };
            let read = tariff_of(model).map(entry);
            catalogue.take(model_name, read);
        }
    }
    catalogue.settled()
}

fn find<'a>(members: &[(String, &'a RawValue)], name: &str) -> Option<&'a RawValue> {
    let found = members.iter().find(|(known, _)| known == name).map(|(_, value)| *value);
    found.filter(|value| !json::is_null(value))
}

fn tariff_of(model: &RawValue) -> Result<Tariff, SkipReason> {
    let bad = |name: &str| SkipReason::Member(name.to_owned());
    let members = unique(json::object(model).ok_or_else(|| bad("model"))?)?;
    let cost = find(&members, "cost").ok_or(SkipReason::Unpriced("anything"))?;
    let cost = unique(json::object(cost).ok_or_else(|| bad("cost"))?)?;
    if find(&cost, "per_minute").is_some() {
        return Err(SkipReason::Uncounted("per_minute".to_owned()));
    }
    let plain = changes(&cost)?;
    for (item, what) in [(Item::Input, "input"), (Item::Output, "output")] {
        plain.get(item).ok_or(SkipReason::Unpriced(what))?;
    }
    let limits = find(&members, "limit").and_then(json::object).unwrap_or_default();
    let limit = |name| find(&limits, name).and_then(json::whole).filter(|limit| *limit > 0);
    let mut base = Rates {
        max_input_tokens: limit("input").or_else(|| limit("context")),
        max_output_tokens: limit("output"),
        ..Rates::default()
    };
    plain.iter().for_each(|(item, rate)| base.set(item, rate));
    base.reasoning = base.reasoning.filter(|rate| *rate != base.output);
    let lengths = lengths(&cost)?;
    Ok(lengths.into_iter().fold(Tariff::from(base), Tariff::with_length))
}

/// `tiers` say their own length. Without them `context_over_200k` stands for it, which also holds prices of longer ones:
/// then between 200,000 tokens and their length the hold and the bill are too high, never too low.
fn lengths(cost: &[(String, &RawValue)]) -> Result<Vec<Length>, SkipReason> {
    let bad = || SkipReason::Member("tiers".to_owned());
    let length = |over, changes| Length { over, changes, tiers: Vec::new() };
    let Some(tiers) = find(cost, "tiers") else {
        let Some(older) = find(cost, "context_over_200k") else { return Ok(Vec::new()) };
        let members = unique(json::object(older).ok_or_else(bad)?)?;
        return Ok(vec![length(OLDER_LENGTH, changes(&members)?)]);
    };
    let mut lengths: Vec<Length> = Vec::new();
    for tier in json::array(tiers).ok_or_else(bad)? {
        let members = unique(json::object(tier).ok_or_else(bad)?)?;
        let kind = find(&members, "tier").and_then(json::object).ok_or_else(bad)?;
        let by_context = find(&kind, "type").and_then(json::string).as_deref() == Some("context");
        let over = find(&kind, "size").and_then(json::whole).filter(|_| by_context).ok_or_else(bad)?;
        if lengths.iter().any(|known| known.over == over) {
            return Err(bad());
        }
        lengths.push(length(over, changes(&members)?));
    }
    Ok(lengths)
}

fn changes(cost: &[(String, &RawValue)]) -> Result<Changes, SkipReason> {
    let priced = COSTS.iter().filter_map(|(name, item)| Some((name, *item, find(cost, name)?)));
    priced
        .map(|(name, item, value)| {
            let rate = json::rate(value, 9).ok_or_else(|| SkipReason::Member((*name).to_owned()))?;
            Ok((item, rate))
        })
        .collect()
}

fn unique(members: Vec<(String, &RawValue)>) -> Result<Vec<(String, &RawValue)>, SkipReason> {
    match json::twice(&members) {
        Some(name) => Err(SkipReason::MemberTwice(name.to_owned())),
        None => Ok(members),
    }
}
