//! What a reload changes, model by model (MTR-52).

use std::collections::BTreeMap;

use crate::book::PriceBook;
use crate::window::moment_text;

/// One fact of a price that is no longer what it was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// The model's name or pattern, with its group where the price is an override for one.
    pub model: String,
    /// Which fact: `input`, `output, service tier flex`.
    pub what: String,
    /// What it was; absent if it is new.
    pub old: Option<String>,
    /// What it is; absent if it is gone.
    pub new: Option<String>,
}

/// What differs between two books, sorted by model. Empty where they charge the same from the same lists.
#[must_use]
pub fn diff(old: &PriceBook, new: &PriceBook) -> Vec<Difference> {
    if old.version() == new.version() {
        return Vec::new();
    }
    let (before, after) = (prices(old), prices(new));
    let none = BTreeMap::new();
    let mut models: Vec<&String> = before.keys().chain(after.keys()).collect();
    models.sort_unstable();
    models.dedup();
    let mut differences = Vec::new();
    for model in models {
        let (was, is) = (before.get(model).unwrap_or(&none), after.get(model).unwrap_or(&none));
        let mut facts: Vec<&String> = was.keys().chain(is.keys()).collect();
        facts.sort_unstable();
        facts.dedup();
        let changed = facts.into_iter().filter(|what| was.get(*what) != is.get(*what));
        differences.extend(changed.map(|what| Difference {
            model: model.clone(),
            what: what.clone(),
            old: was.get(what).cloned(),
            new: is.get(what).cloned(),
        }));
    }
    differences
}

/// The facts of every name: of the layer that is asked first, and of its whole history.
fn prices(book: &PriceBook) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut all: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for (origin, name, history) in book.histories() {
        let model = match origin.group() {
            Some(group) => format!("{name} (group {group})"),
            None => name.to_owned(),
        };
        if all.contains_key(&model) {
            continue;
        }
        let mut facts = BTreeMap::from([("from".to_owned(), origin.text())]);
        for (since, tariff) in history {
            let from = since.map_or_else(String::new, |since| format!(", from {}", moment_text(since)));
            facts.extend(tariff.facts().into_iter().map(|fact| (format!("{}{from}", fact.what), fact.value)));
        }
        all.insert(model, facts);
    }
    for (name, meant) in book.aliases() {
        all.entry(name.to_owned()).or_default().insert("alias of".to_owned(), meant.to_owned());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::diff;
    use crate::book::{Entry, Layer, Origin, PriceBook};
    use crate::rates::Rates;
    use crate::tariff::Tariff;
    use money::Rate;

    fn price(input: u64) -> Tariff {
        Rates { input: Rate::from_femto(input * 1_000_000), ..Rates::default() }.into()
    }

    fn layer(origin: Origin, prices: &[(&str, Option<i64>, u64)]) -> Layer {
        let entry = |(model, since_ms, input): &(&str, _, _)| Entry {
            model: (*model).to_owned(),
            since_ms: *since_ms,
            tariff: price(*input),
        };
        Layer { origin, entries: prices.iter().map(entry).collect() }
    }

    #[test]
    fn differences_table() {
        let source = || Origin::Source("map".to_owned());
        let group = || Origin::Group("gold".to_owned());
        let alias = |name: &str, meant: &str| (name.to_owned(), meant.to_owned());
        let old = PriceBook::new(
            [
                layer(source(), &[("a", None, 1), ("b", None, 1), ("gone", None, 1), ("over", None, 1)]),
                layer(Origin::Models, &[("over", None, 5)]),
                layer(group(), &[("a", None, 1)]),
            ],
            [alias("x", "a")],
        );
        let new = PriceBook::new(
            [
                layer(source(), &[("a", None, 2), ("b", None, 1), ("b", Some(0), 3), ("over", None, 2)]),
                layer(Origin::Models, &[("over", None, 5)]),
                layer(group(), &[("a", None, 9)]),
            ],
            [alias("x", "b")],
        );
        let (old, new) = (old.unwrap(), new.unwrap());
        let lines: Vec<String> = diff(&old, &new)
            .into_iter()
            .map(|d| format!("{} | {} | {:?} | {:?}", d.model, d.what, d.old, d.new))
            .collect();
        let expected = [
            r#"a | input | Some("0.001 USD/Mtok") | Some("0.002 USD/Mtok")"#,
            r#"a (group gold) | input | Some("0.001 USD/Mtok") | Some("0.009 USD/Mtok")"#,
            r#"b | input, from 1970-01-01T00:00:00Z | None | Some("0.003 USD/Mtok")"#,
            r#"b | output, from 1970-01-01T00:00:00Z | None | Some("0 USD/Mtok")"#,
            r#"gone | from | Some("source map") | None"#,
            r#"gone | input | Some("0.001 USD/Mtok") | None"#,
            r#"gone | output | Some("0 USD/Mtok") | None"#,
            r#"x | alias of | Some("a") | Some("b")"#,
        ];
        assert_eq!(lines, expected, "r16: what the operator overrides is not touched by a source");
        assert_eq!(diff(&old, &old), []);
        assert_eq!(diff(&old, &new).len(), diff(&new, &old).len());
    }
}
