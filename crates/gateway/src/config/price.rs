//! `prices`: what a model costs.

use std::collections::BTreeMap;

use money::{Amount, Rate};

use super::glob::Glob;
use super::section::{Keys, Section, scalar};
use super::value;
use super::yaml::{Key, Kind, Node};

/// The price list.
#[derive(Clone, Debug)]
pub struct Prices {
    /// Patterns in the order of the file; a model's own name counts before a pattern.
    pub models: Vec<(Glob, ModelPrice)>,
    /// What happens to a model that no pattern matches.
    pub unknown_model: UnknownModel,
    /// Raise over every metered price.
    pub markup: Markup,
}

/// Raises over metered prices, in basis points.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Markup {
    /// For whoever has no other.
    pub default_bp: u32,
    /// For the accounts of a group.
    pub groups: BTreeMap<String, u32>,
}

impl Markup {
    /// The raise for an account of that group.
    #[must_use]
    pub fn of(&self, group: Option<&str>) -> u32 {
        group.and_then(|group| self.groups.get(group)).copied().unwrap_or(self.default_bp)
    }
}

/// A model that no pattern matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnknownModel {
    /// Refused, nothing sent upstream.
    Refuse,
    /// Sold at this model's price.
    PriceAs(String),
}

/// Rates in femto-USD per token; what is not written follows from what is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelPrice {
    /// Uncached input.
    pub input: Rate,
    /// Output that is seen.
    pub output: Rate,
    /// Input read from a cache; default: as input.
    pub cache_read: Rate,
    /// Input written to a cache; default: as input.
    pub cache_write: Rate,
    /// Output that is not seen; default: as output.
    pub reasoning: Rate,
    /// On top, per call; nano-USD.
    pub per_call: Amount,
    /// Most output tokens the model gives; caps the hold.
    pub max_output: Option<u32>,
}

/// Keys that are not model names.
const KEYS: Keys = Keys::new(&["models", "unknown_model", "markup"], &["sources", "calendars"]);
const MODEL_KEYS: Keys = Keys::new(
    &["input", "output", "cache_read", "cache_write", "reasoning", "per_call", "max_output"],
    &[
        "windows",
        "tiers",
        "per_image",
        "per_second",
        "per_character",
        "audio_input",
        "audio_output",
        "cache_write_5m",
        "cache_write_1h",
        "image_input",
        "min",
    ],
);
const UNKNOWN_KEYS: Keys = Keys::new(&["price_as"], &[]);
const MARKUP_KEYS: Keys = Keys::new(&["default", "groups"], &[]);

pub(super) fn read(top: &Section<'_>) -> Prices {
    let none =
        || Prices { models: Vec::new(), unknown_model: UnknownModel::Refuse, markup: Markup::default() };
    let Some(node) = top.get("prices") else { return none() };
    let is_key = |key: &Key| KEYS.known.iter().chain(KEYS.later).any(|known| *known == key.text);
    let long =
        matches!(&node.kind, Kind::Map(entries) if entries.iter().any(|(key, _)| key.text == "models"));
    let section = if long {
        Section::open(top.context, "prices", node, KEYS)
    } else {
        Section::open_any(top.context, "prices", node)
    };
    let Some(section) = section else { return none() };
    if !long {
        for (key, _) in section.entries().filter(|(key, _)| KEYS.later.contains(&key.text.as_str())) {
            section.context.report.add(key.span, format!("\"{}\" in prices is not supported yet", key.text));
        }
    }
    let models = match section.get("models") {
        Some(models) => match Section::open_any(top.context, "prices.models", models) {
            Some(models) => read_models(&models, models.entries().collect()),
            None => Vec::new(),
        },
        None => read_models(&section, section.entries().filter(|(key, _)| !is_key(key)).collect()),
    };
    let prices = Prices {
        unknown_model: read_unknown(&section).unwrap_or(UnknownModel::Refuse),
        markup: read_markup(&section).unwrap_or_default(),
        models,
    };
    if let UnknownModel::PriceAs(name) = &prices.unknown_model
        && !prices.models.is_empty()
        && !prices.models.iter().any(|(glob, _)| glob.matches(name))
    {
        section.complain("unknown_model", format!("prices.unknown_model: \"{name}\" has no price itself"));
    }
    prices
}

fn read_models(section: &Section<'_>, entries: Vec<(&Key, &Node)>) -> Vec<(Glob, ModelPrice)> {
    let mut models: Vec<(Glob, ModelPrice)> = Vec::new();
    for (key, node) in entries {
        let glob = Glob::new(&key.text);
        let entry = Section::open(section.context, &section.path_of(&key.text), node, MODEL_KEYS);
        if let Some(price) = entry.and_then(|entry| read_model(&entry)) {
            models.push((glob, price));
        }
    }
    models
}

fn read_model(section: &Section<'_>) -> Option<ModelPrice> {
    let rate = |key: &str| section.value(key, value::token_rate);
    let (input, output) = (rate("input"), rate("output"));
    let (cache_read, cache_write, reasoning) = (rate("cache_read"), rate("cache_write"), rate("reasoning"));
    let per_call = section.value("per_call", value::usd);
    let max_output = section.value("max_output", value::count);
    let written = |key: &str| section.get(key).is_some();
    // A rate left out would be a model given away, so free has to be written.
    let missing = match (written("input"), written("output"), written("per_call")) {
        (true, false, _) => Some("output"),
        (false, true, _) => Some("input"),
        (false, false, false) => Some("input and output, or per_call"),
        (true, true, _) | (false, false, true) => None,
    };
    if let Some(missing) = missing {
        let place = &section.path;
        let message = format!("{place} has no price for {missing}; write 0 USD/Mtok if it is free");
        section.missing(message);
        return None;
    }
    let (input, output) = (input.unwrap_or(Rate::FREE), output.unwrap_or(Rate::FREE));
    Some(ModelPrice {
        input,
        output,
        cache_read: cache_read.unwrap_or(input),
        cache_write: cache_write.unwrap_or(input),
        reasoning: reasoning.unwrap_or(output),
        per_call: per_call.unwrap_or(Amount::ZERO),
        max_output,
    })
}

fn read_unknown(prices: &Section<'_>) -> Option<UnknownModel> {
    let node = prices.get("unknown_model")?;
    let path = prices.path_of("unknown_model");
    if let Kind::Map(_) = &node.kind {
        let section = Section::open(prices.context, &path, node, UNKNOWN_KEYS)?;
        return section.required("price_as", value::some_text).map(UnknownModel::PriceAs);
    }
    scalar(prices.context, &path, node, |text| match text {
        "refuse" => Ok(UnknownModel::Refuse),
        _ => Err(format!("\"{text}\" is neither refuse nor {{ price_as: <model> }}")),
    })
}

fn read_markup(prices: &Section<'_>) -> Option<Markup> {
    let node = prices.get("markup")?;
    let Kind::Map(_) = &node.kind else {
        let default_bp = prices.value("markup", value::percent)?;
        return Some(Markup { default_bp, ..Markup::default() });
    };
    let section = prices.section("markup", MARKUP_KEYS)?;
    let default_bp = section.value("default", value::percent).unwrap_or(0);
    let mut groups = BTreeMap::new();
    if let Some(node) = section.get("groups") {
        let named = Section::open_any(prices.context, &section.path_of("groups"), node)?;
        for (key, node) in named.entries() {
            let path = named.path_of(&key.text);
            if let Err(why) = value::name(&key.text) {
                prices.context.report.add(key.span, why);
            }
            if let Some(points) = scalar(prices.context, &path, node, value::percent) {
                groups.insert(key.text.clone(), points);
            }
        }
    }
    Some(Markup { default_bp, groups })
}
