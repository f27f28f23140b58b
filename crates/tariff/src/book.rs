//! The prices of all models, in layers, as one version.

use std::sync::Arc;

use money::Amount;
use sha2::{Digest as _, Sha256};

use crate::tariff::Tariff;

/// Where a price comes from. The order of the variants is that in which they are asked (MTR-46).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The operator's override for a group of accounts.
    Group(String),
    /// The operator's own list.
    Models,
    /// A catalogue, by its name. Of several the last one given is asked first.
    Source(String),
    /// What ships with the program.
    BuiltIn,
}

impl Origin {
    const fn rank(&self) -> u8 {
        match self {
            Self::Group(_) => 0,
            Self::Models => 1,
            Self::Source(_) => 2,
            Self::BuiltIn => 3,
        }
    }

    /// The group it is for, if it is for one only.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        match self {
            Self::Group(name) => Some(name),
            Self::Models | Self::Source(_) | Self::BuiltIn => None,
        }
    }

    /// In words.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Group(name) => format!("group {name}"),
            Self::Models => "own list".to_owned(),
            Self::Source(name) => format!("source {name}"),
            Self::BuiltIn => "built in".to_owned(),
        }
    }
}

/// The price of a model from some moment on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The model's name; `*` in it stands for any text.
    pub model: String,
    /// From when on it is in force, in milliseconds since 1970; always where absent.
    pub since_ms: Option<i64>,
    /// The price.
    pub tariff: Tariff,
}

/// A list of prices of one origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Where it comes from.
    pub origin: Origin,
    /// Its prices, in any order.
    pub entries: Vec<Entry>,
}

/// Why a price list cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceBookError {
    /// One name, two prices from the same moment on.
    #[error("model `{0}` is priced twice")]
    Duplicate(String),
    /// A model needs a name.
    #[error("a price has no model")]
    NoName,
    /// A fee below zero would pay the payer.
    #[error("model `{0}` has a negative fee")]
    NegativeFee(String),
}

/// A price, and from when on it is in force.
pub(crate) type Dated = (Option<i64>, Arc<Tariff>);

/// A model's prices, the earliest first.
type History = Vec<Dated>;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Indexed {
    origin: Origin,
    /// Sorted by name.
    exact: Vec<(String, History)>,
    /// Names with `*`; the most specific first.
    globs: Vec<(String, History)>,
}

/// The prices of all models, as one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceBook {
    /// In the order in which they are asked.
    layers: Vec<Indexed>,
    /// Sorted by name.
    aliases: Vec<(String, String)>,
    version: String,
}

/// A price that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// The price.
    pub tariff: &'a Arc<Tariff>,
    /// The name or pattern it stands under.
    pub name: &'a str,
    /// Where it comes from.
    pub origin: &'a Origin,
    /// Since when it is in force.
    pub since_ms: Option<i64>,
}

impl PriceBook {
    /// A book of these layers, given in any order but for sources, of which the last wins. An alias is another name
    /// of a model, with the name to look for.
    ///
    /// # Errors
    /// [`PriceBookError`]: the operator has to mend the list.
    pub fn new(
        layers: impl IntoIterator<Item = Layer>,
        aliases: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, PriceBookError> {
        let mut layers = layers.into_iter().map(Indexed::new).collect::<Result<Vec<_>, _>>()?;
        layers.reverse();
        layers.sort_by_key(|layer| layer.origin.rank());
        let mut aliases: Vec<_> = aliases.into_iter().collect();
        aliases.sort();
        if let Some(pair) = aliases.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(PriceBookError::Duplicate(pair[0].0.clone()));
        }
        let version = version(&layers, &aliases);
        Ok(Self { layers, aliases, version })
    }

    /// A book of the operator's own list alone.
    ///
    /// # Errors
    /// As [`PriceBook::new`].
    pub fn of_models(prices: impl IntoIterator<Item = (String, Tariff)>) -> Result<Self, PriceBookError> {
        let entry = |(model, tariff)| Entry { model, since_ms: None, tariff };
        let entries = prices.into_iter().map(entry).collect();
        Self::new([Layer { origin: Origin::Models, entries }], [])
    }

    /// The price of a model that is in force at that moment, for an account of that group (MTR-46): of each layer the
    /// exact name, then what its alias means, then the most specific pattern. `None` means that the call must be
    /// refused, never that it is free (MTR-47).
    #[must_use]
    pub fn lookup(&self, model: &str, group: Option<&str>, at_ms: i64) -> Option<Found<'_>> {
        let alias = search(&self.aliases, model).map(|(_, meant)| meant.as_str());
        let names: Vec<&str> = std::iter::once(model).chain(alias).collect();
        self.asked(group).find_map(|layer| layer.lookup(&names, at_ms))
    }

    fn asked<'a, 'g>(&'a self, group: Option<&'g str>) -> impl Iterator<Item = &'a Indexed> + use<'a, 'g> {
        self.layers.iter().filter(move |layer| match &layer.origin {
            Origin::Group(name) => Some(name.as_str()) == group,
            Origin::Models | Origin::Source(_) | Origin::BuiltIn => true,
        })
    }

    /// A hash over everything that decides a price: charges name it, so that they can be computed again (MTR-51).
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Every name and pattern, each once, with the price in force at that moment for an account of that group.
    pub fn listed<'a>(&'a self, group: Option<&'a str>, at_ms: i64) -> impl Iterator<Item = Found<'a>> {
        self.asked(group).enumerate().flat_map(move |(depth, layer)| {
            let own = layer.exact.iter().chain(&layer.globs);
            own.filter_map(move |(name, history)| {
                let mut above = self.asked(group).take(depth);
                let hidden = above.any(|above| above.under(name, at_ms).is_some());
                layer.found(name, history, at_ms).filter(|_| !hidden)
            })
        })
    }

    /// Every name of every layer with all its prices, in the order in which layers are asked.
    pub(crate) fn histories(&self) -> impl Iterator<Item = (&Origin, &str, &[Dated])> {
        self.layers.iter().flat_map(|layer| {
            let all = layer.exact.iter().chain(&layer.globs);
            all.map(move |(name, history)| (&layer.origin, name.as_str(), history.as_slice()))
        })
    }

    /// Other names of models, with the names they stand for.
    pub fn aliases(&self) -> impl Iterator<Item = (&str, &str)> {
        self.aliases.iter().map(|(name, meant)| (name.as_str(), meant.as_str()))
    }
}

impl Indexed {
    fn new(layer: Layer) -> Result<Self, PriceBookError> {
        let mut entries = layer.entries;
        entries.sort_by(|a, b| (&a.model, a.since_ms).cmp(&(&b.model, b.since_ms)));
        let mut all: Vec<(String, History)> = Vec::new();
        for entry in entries {
            if entry.model.is_empty() {
                return Err(PriceBookError::NoName);
            }
            if entry.tariff.base().per_call.is_some_and(|fee| fee < Amount::ZERO) {
                return Err(PriceBookError::NegativeFee(entry.model));
            }
            let priced = (entry.since_ms, Arc::new(entry.tariff));
            match all.last_mut().filter(|(name, _)| *name == entry.model) {
                Some((_, history)) if history.last().is_some_and(|last| last.0 == entry.since_ms) => {
                    return Err(PriceBookError::Duplicate(entry.model));
                }
                Some((_, history)) => history.push(priced),
                None => all.push((entry.model, vec![priced])),
            }
        }
        let (mut globs, exact): (Vec<_>, Vec<_>) = all.into_iter().partition(|(name, _)| name.contains('*'));
        // The more a pattern says, the more it means; by name among equals, so the order is total.
        globs.sort_by_key(|(name, _)| std::cmp::Reverse(name.bytes().filter(|b| *b != b'*').count()));
        Ok(Self { origin: layer.origin, exact, globs })
    }

    fn lookup(&self, names: &[&str], at_ms: i64) -> Option<Found<'_>> {
        let exact = names.iter().find_map(|name| search(&self.exact, name));
        let by_name = exact.and_then(|(name, history)| self.found(name, history, at_ms));
        by_name.or_else(|| {
            let fitting = |name: &&str| self.globs.iter().find(|(glob, _)| matches(glob, name));
            let (name, history) = names.iter().find_map(fitting)?;
            self.found(name, history, at_ms)
        })
    }

    /// What stands under this very name or pattern.
    fn under(&self, name: &str, at_ms: i64) -> Option<Found<'_>> {
        let glob = || self.globs.iter().find(|(glob, _)| glob == name);
        let (name, history) = search(&self.exact, name).or_else(glob)?;
        self.found(name, history, at_ms)
    }

    fn found<'a>(&'a self, name: &'a str, history: &'a History, at_ms: i64) -> Option<Found<'a>> {
        let begun = |since: Option<i64>| since.is_none_or(|since| since <= at_ms);
        let (since_ms, tariff) = history.iter().rev().find(|(since, _)| begun(*since))?;
        Some(Found { tariff, name, origin: &self.origin, since_ms: *since_ms })
    }
}

fn search<'a, T>(sorted: &'a [(String, T)], name: &str) -> Option<&'a (String, T)> {
    sorted.binary_search_by(|(known, _)| known.as_str().cmp(name)).ok().and_then(|at| sorted.get(at))
}

fn version(layers: &[Indexed], aliases: &[(String, String)]) -> String {
    let mut hash = Sha256::new();
    hash.update(b"farthing/prices/2");
    let mut put = |text: &str| {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    };
    for layer in layers {
        put(&layer.origin.text());
        put(&(layer.exact.len() + layer.globs.len()).to_string());
        for (name, history) in layer.exact.iter().chain(&layer.globs) {
            put(name);
            put(&history.len().to_string());
            for (since, tariff) in history {
                put(&since.map_or_else(String::new, |since| since.to_string()));
                let facts = tariff.facts();
                put(&facts.len().to_string());
                for fact in facts {
                    put(&fact.what);
                    put(&fact.value);
                }
            }
        }
    }
    put("aliases");
    for (name, meant) in aliases {
        put(name);
        put(meant);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether `*` in the pattern can be filled so that it becomes the name. Greedy from the left, which
/// is enough when `*` is the only wildcard.
fn matches(glob: &str, name: &str) -> bool {
    let mut parts = glob.split('*');
    let Some(mut rest) = parts.next().and_then(|head| name.strip_prefix(head)) else {
        return false;
    };
    let parts: Vec<_> = parts.collect();
    let Some((tail, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::{Entry, Layer, Origin, PriceBook, PriceBookError};
    use crate::rates::Rates;
    use crate::tariff::Tariff;
    use money::{Amount, Rate};

    fn price(input: u64) -> Tariff {
        Rates { input: Rate::from_femto(input), ..Rates::default() }.into()
    }

    fn book(prices: &[(&str, u64)]) -> Result<PriceBook, PriceBookError> {
        PriceBook::of_models(prices.iter().map(|(name, input)| ((*name).to_owned(), price(*input))))
    }

    fn layer(origin: Origin, prices: &[(&str, u64)]) -> Layer {
        let entry = |(name, input): &(&str, u64)| Entry {
            model: (*name).to_owned(),
            since_ms: None,
            tariff: price(*input),
        };
        Layer { origin, entries: prices.iter().map(entry).collect() }
    }

    fn input_of(book: &PriceBook, model: &str, group: Option<&str>, at_ms: i64) -> Option<u64> {
        book.lookup(model, group, at_ms).map(|found| found.tariff.base().input.femto())
    }

    #[test]
    fn lookup_table() {
        let book = book(&[("gpt-*", 1), ("gpt-6", 2), ("gpt-*-mini", 3), ("*", 4), ("a*b*c", 5)]).unwrap();
        for (rule, model, expected) in [
            ("MTR-46 exact before pattern", "gpt-6", 2),
            ("MTR-46 pattern", "gpt-6-luna", 1),
            ("MTR-46 the more specific pattern", "gpt-6-mini", 3),
            ("MTR-46 several stars", "a-b-b-c", 5),
            ("MTR-46 parts do not overlap", "abc", 5),
            ("MTR-46 all", "claude", 4),
            ("MTR-46 case counts", "GPT-6", 4),
        ] {
            assert_eq!(input_of(&book, model, None, 0), Some(expected), "{rule}");
        }
    }

    #[test]
    fn an_unknown_model_has_no_price() {
        let book = book(&[("gpt-6", 2), ("x*x", 1)]).unwrap();
        for model in ["gpt-6-luna", "gpt", "", "x"] {
            assert_eq!(book.lookup(model, None, 0), None, "MTR-47 {model}");
        }
    }

    #[test]
    fn a_bad_list_is_refused() {
        assert_eq!(book(&[("a", 1), ("a", 2)]), Err(PriceBookError::Duplicate("a".into())));
        assert_eq!(book(&[("", 1)]), Err(PriceBookError::NoName));
        let fee = Rates { per_call: Some(Amount::from_units(-1)), ..Rates::default() };
        let refused = PriceBook::of_models([("a".to_owned(), fee.into())]);
        assert_eq!(refused, Err(PriceBookError::NegativeFee("a".into())));
        let twice = [("a".to_owned(), "b".to_owned()), ("a".to_owned(), "c".to_owned())];
        assert_eq!(PriceBook::new([], twice), Err(PriceBookError::Duplicate("a".into())));
    }

    #[test]
    fn layers_table() {
        let source = |name: &str| Origin::Source(name.to_owned());
        let layers = [
            layer(Origin::BuiltIn, &[("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1)]),
            layer(source("one"), &[("a", 2), ("b", 2), ("c", 2), ("d", 2)]),
            layer(source("two"), &[("a", 3), ("b", 3), ("c", 3)]),
            layer(Origin::Models, &[("a", 4), ("b", 4), ("z*", 4)]),
            layer(Origin::Group("gold".to_owned()), &[("a", 5)]),
        ];
        let alias = |name: &str, meant: &str| (name.to_owned(), meant.to_owned());
        let aliases =
            [alias("ep-1", "d"), alias("ep-2", "a"), alias("zed", "e"), alias("ep-3", "zz"), alias("b", "a")];
        let book = PriceBook::new(layers, aliases).unwrap();
        for (rule, model, group, expected) in [
            ("an override for the group", "a", Some("gold"), Some(5)),
            ("only for that group", "a", Some("silver"), Some(4)),
            ("the operator's list", "a", None, Some(4)),
            ("the last source", "c", None, Some(3)),
            ("a source before it", "d", None, Some(2)),
            ("built in", "e", None, Some(1)),
            ("an alias", "ep-1", None, Some(2)),
            ("an alias finds the override", "ep-2", Some("gold"), Some(5)),
            ("a name before its alias", "b", None, Some(4)),
            ("a pattern of a layer above before an exact name below", "zed", None, Some(4)),
            ("an alias may mean a pattern", "ep-3", None, Some(4)),
            ("none of them", "f", None, None),
        ] {
            assert_eq!(input_of(&book, model, group, 0), expected, "MTR-46 {rule}");
        }
        let listed = |group| -> Vec<_> {
            let listed = book.listed(group, 0);
            listed.map(|found| (found.name, found.tariff.base().input.femto())).collect()
        };
        assert_eq!(listed(None), [("a", 4), ("b", 4), ("z*", 4), ("c", 3), ("d", 2), ("e", 1)]);
        assert_eq!(listed(Some("gold")), [("a", 5), ("b", 4), ("z*", 4), ("c", 3), ("d", 2), ("e", 1)]);
    }

    /// MTR-51: the price in force at the call's start.
    #[test]
    fn history_table() {
        let entry = |since_ms, input| Entry { model: "a".to_owned(), since_ms, tariff: price(input) };
        let own = Layer { origin: Origin::Models, entries: vec![entry(Some(200), 3), entry(Some(100), 2)] };
        let book = PriceBook::new([own, layer(Origin::BuiltIn, &[("a", 1)])], []).unwrap();
        for (at, expected) in [(99, 1), (100, 2), (199, 2), (200, 3), (i64::MAX, 3)] {
            assert_eq!(input_of(&book, "a", None, at), Some(expected), "at {at}");
        }
        let twice = Layer { origin: Origin::Models, entries: vec![entry(Some(1), 3), entry(Some(1), 2)] };
        assert_eq!(PriceBook::new([twice], []), Err(PriceBookError::Duplicate("a".into())));
    }

    #[test]
    fn the_version_is_that_of_the_content() {
        let one = book(&[("a", 1), ("b", 2)]).unwrap();
        assert_eq!(one.version(), book(&[("b", 2), ("a", 1)]).unwrap().version(), "order is no content");
        for other in [&[("a", 1), ("b", 3)][..], &[("a", 1)], &[("a", 1), ("c", 2)]] {
            assert_ne!(one.version(), book(other).unwrap().version());
        }
        let free = Rates { cache_read: Some(Rate::FREE), input: Rate::from_femto(1), ..Rates::default() };
        let free = PriceBook::of_models([("a".to_owned(), free.into())]);
        let absent = book(&[("a", 1)]).unwrap();
        assert_ne!(free.unwrap().version(), absent.version(), "a price of zero is not the same as none");
        let lists = [
            PriceBook::new([layer(Origin::BuiltIn, &[("a", 1)])], []),
            PriceBook::new([layer(Origin::Models, &[("a", 1)])], [("b".to_owned(), "a".to_owned())]),
        ];
        for other in lists {
            assert_ne!(other.unwrap().version(), absent.version());
        }
    }
}
