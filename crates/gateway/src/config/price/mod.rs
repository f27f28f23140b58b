//! `prices`: what a model costs, and where that is known from.

mod model;
mod source;
mod window;

use std::collections::BTreeMap;
use std::sync::Arc;

use tariff::{Calendar, Entry};

use super::glob::Glob;
use super::section::{Keys, Section, scalar};
use super::value;
use super::yaml::{Key, Kind, Node};

pub use source::{Format, Place, PriceSource};

/// Where prices come from, the later ones above the earlier: what ships with the program, the sources, the
/// operator's own list, and that of a group.
#[derive(Clone, Debug, Default)]
pub struct Prices {
    /// Whether the list that ships with the program counts.
    pub builtin: bool,
    /// Catalogues; a later one counts before an earlier.
    pub sources: Vec<PriceSource>,
    /// The operator's own prices; a model's own name counts before a pattern.
    pub models: Vec<Entry>,
    /// Prices for the accounts of a group.
    pub groups: BTreeMap<String, Vec<Entry>>,
    /// Days that windows may leave out, in every list.
    pub calendars: Vec<Arc<Calendar>>,
    /// Other names of models, with the names they stand for.
    pub aliases: Vec<(String, String)>,
    /// What happens to a model without a price.
    pub unknown_model: UnknownModel,
    /// Raise over every metered price.
    pub markup: Markup,
    /// When changed prices count after a reload.
    pub apply: Apply,
}

/// A model without a price.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UnknownModel {
    /// Refused, nothing sent upstream.
    #[default]
    Refuse,
    /// Sold at this model's price.
    PriceAs(String),
}

/// When changed prices count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Apply {
    /// With the reload that finds them.
    #[default]
    Now,
    /// When somebody has looked at them: `farthing prices apply`.
    Review,
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

/// Keys that are not model names.
const KEYS: Keys = Keys::new(
    &["models", "unknown_model", "markup", "sources", "builtin", "calendars", "aliases", "groups", "apply"],
    &[],
);
const UNKNOWN_KEYS: Keys = Keys::new(&["price_as"], &[]);
const MARKUP_KEYS: Keys = Keys::new(&["default", "groups"], &[]);

/// Calendars of the file, by name.
type Calendars = BTreeMap<String, Arc<Calendar>>;

pub(super) fn read(top: &Section<'_>) -> Prices {
    let Some(node) = top.get("prices") else { return Prices::default() };
    let is_key = |key: &Key| KEYS.known.contains(&key.text.as_str());
    let long =
        matches!(&node.kind, Kind::Map(entries) if entries.iter().any(|(key, _)| key.text == "models"));
    let section = if long {
        Section::open(top.context, "prices", node, KEYS)
    } else {
        Section::open_any(top.context, "prices", node)
    };
    let Some(section) = section else { return Prices::default() };
    let calendars = window::read_calendars(&section);
    let models = match section.get("models") {
        Some(models) => match Section::open_any(top.context, "prices.models", models) {
            Some(models) => model::read_all(&models, models.entries().collect(), &calendars),
            None => Vec::new(),
        },
        None => {
            let entries = section.entries().filter(|(key, _)| !is_key(key)).collect();
            model::read_all(&section, entries, &calendars)
        }
    };
    let prices = Prices {
        builtin: section.value("builtin", value::flag).unwrap_or(true),
        sources: source::read(&section),
        groups: read_groups(&section, &calendars),
        aliases: read_aliases(&section),
        unknown_model: read_unknown(&section).unwrap_or_default(),
        markup: read_markup(&section).unwrap_or_default(),
        apply: section.value("apply", read_apply).unwrap_or_default(),
        calendars: calendars.values().cloned().collect(),
        models,
    };
    let meant = prices.aliases.iter().map(|(_, meant)| ("aliases", meant));
    let other = match &prices.unknown_model {
        UnknownModel::Refuse => None,
        UnknownModel::PriceAs(other) => Some(("unknown_model", other)),
    };
    for (key, name) in meant.chain(other) {
        // What a catalogue knows is only seen when it is read.
        if prices.sources.is_empty() && !prices.knows(name) {
            section.complain(key, format!("prices.{key}: \"{name}\" has no price itself"));
        }
    }
    if let Some(twice) = prices.priced_twice() {
        section.complain("models", format!("prices: \"{twice}\" is priced twice from the same day on"));
    }
    prices
}

impl Prices {
    /// Whether any model could have a price.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.models.is_empty() && self.groups.is_empty() && self.sources.is_empty() && !self.builtin
    }

    /// Every group that is named.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        let priced = self.groups.keys().map(String::as_str);
        let raised = self.markup.groups.keys().map(String::as_str);
        priced.chain(raised.filter(|group| !self.groups.contains_key(*group)))
    }

    fn knows(&self, model: &str) -> bool {
        let builtin = if self.builtin { tariff::builtin(&[]).ok() } else { None };
        let builtin = builtin.iter().flat_map(|builtin| &builtin.entries);
        self.models.iter().chain(builtin).any(|entry| Glob::new(&entry.model).matches(model))
    }

    fn priced_twice(&self) -> Option<&str> {
        std::iter::once(&self.models).chain(self.groups.values()).find_map(|entries| {
            let mut seen: Vec<(&str, Option<i64>)> = Vec::new();
            entries.iter().find_map(|entry| {
                let this = (entry.model.as_str(), entry.since_ms);
                let again = seen.contains(&this);
                seen.push(this);
                again.then_some(this.0)
            })
        })
    }
}

fn read_apply(text: &str) -> Result<Apply, String> {
    match text {
        "now" => Ok(Apply::Now),
        "review" => Ok(Apply::Review),
        _ => Err(format!("\"{text}\" is neither now nor review")),
    }
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
    let mut groups = BTreeMap::new();
    for (key, path, node) in named(&section, "groups") {
        if let Some(points) = scalar(prices.context, &path, node, value::percent) {
            groups.insert(key.text.clone(), points);
        }
    }
    Some(Markup { default_bp: section.value("default", value::percent).unwrap_or(0), groups })
}

fn read_groups(prices: &Section<'_>, calendars: &Calendars) -> BTreeMap<String, Vec<Entry>> {
    let mut groups = BTreeMap::new();
    for (key, path, node) in named(prices, "groups") {
        if let Some(models) = Section::open_any(prices.context, &path, node) {
            groups.insert(key.text.clone(), model::read_all(&models, models.entries().collect(), calendars));
        }
    }
    groups
}

fn read_aliases(prices: &Section<'_>) -> Vec<(String, String)> {
    let Some(node) = prices.get("aliases") else { return Vec::new() };
    let Some(section) = Section::open_any(prices.context, &prices.path_of("aliases"), node) else {
        return Vec::new();
    };
    let read = |(key, node): (&Key, &Node)| {
        let meant = scalar(prices.context, &section.path_of(&key.text), node, value::some_text)?;
        Some((key.text.clone(), meant))
    };
    section.entries().filter_map(read).collect()
}

/// The entries of a map whose keys are names of groups.
fn named<'a>(section: &Section<'a>, key: &str) -> Vec<(&'a Key, String, &'a Node)> {
    let Some(node) = section.get(key) else { return Vec::new() };
    let Some(inner) = Section::open_any(section.context, &section.path_of(key), node) else {
        return Vec::new();
    };
    let check = |(key, node): (&'a Key, &'a Node)| {
        if let Err(why) = value::name(&key.text) {
            section.context.report.add(key.span, why);
            return None;
        }
        Some((key, inner.path_of(&key.text), node))
    };
    inner.entries().filter_map(check).collect()
}
