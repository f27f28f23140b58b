//! What everything is sold for: one set of prices with its markups, swapped whole (MTR-46 to MTR-53).

use std::fmt::Write as _;
use std::path::Path;

use http::HeaderValue;
use sha2::{Digest as _, Sha256};
use tariff::{Catalogue, Entry, Found, Layer, Origin, PriceBook, diff, litellm, models_dev, own};

use crate::catalogues::{self, CatalogueFault};
use crate::clock::Now;
use crate::config::{Format, Markup, PriceSource, Prices, UnknownModel};

/// Why there are no prices.
#[derive(Debug, thiserror::Error)]
pub enum PriceListError {
    /// A source cannot be had.
    #[error("prices.sources: {0}: {1}")]
    Source(String, CatalogueFault),
    /// A source is no catalogue of its format.
    #[error("prices.sources: {0}: {1}")]
    Catalogue(String, tariff::CatalogueError),
    /// The lists contradict themselves.
    #[error("prices: {0}")]
    Book(#[from] tariff::PriceBookError),
    /// A name that is to be sold at the price of another, which has none.
    #[error("prices: \"{0}\" is to be sold as \"{1}\", which has no price")]
    Unpriced(String, String),
}

/// How much of a version people are shown.
const LABEL_CHARS: usize = 12;

/// One set of prices.
#[derive(Debug)]
pub struct PriceList {
    book: PriceBook,
    markup: Markup,
    unknown_model: UnknownModel,
    version: String,
    label: HeaderValue,
}

/// Something about prices that is no longer what it was.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PriceChange {
    /// Model or pattern; `markup` for raises.
    pub model: String,
    /// Which of its prices.
    pub what: String,
    /// What it was; none if it is new.
    pub old: Option<String>,
    /// What it is; none if it is gone.
    pub new: Option<String>,
}

impl PriceList {
    /// Reads every list that the configuration names. Catalogues of elsewhere are kept in `folder`, so that they
    /// are fetched once.
    ///
    /// # Errors
    /// [`PriceListError`]: what was sold until now goes on.
    pub async fn load(prices: &Prices, folder: &Path) -> Result<Self, PriceListError> {
        let mut layers = Vec::new();
        if prices.builtin {
            let builtin = tariff::builtin(&prices.calendars);
            let builtin = builtin.map_err(|error| PriceListError::Catalogue("built in".to_owned(), error))?;
            layers.push(Layer { origin: Origin::BuiltIn, entries: builtin.entries });
        }
        for source in &prices.sources {
            let name = source.to_string();
            let bytes = catalogues::read(source, folder).await;
            let bytes = bytes.map_err(|fault| PriceListError::Source(name.clone(), fault))?;
            let read = read(source, &bytes, prices);
            let Catalogue { entries, skipped } =
                read.map_err(|error| PriceListError::Catalogue(name.clone(), error))?;
            tracing::info!(source = %name, models = entries.len(), passed_over = skipped.len(), "prices read");
            layers.push(Layer { origin: Origin::Source(name), entries });
        }
        layers.push(Layer { origin: Origin::Models, entries: prices.models.clone() });
        let of_group = |(group, entries): (&String, &Vec<Entry>)| Layer {
            origin: Origin::Group(group.clone()),
            entries: entries.clone(),
        };
        layers.extend(prices.groups.iter().map(of_group));
        let book = PriceBook::new(layers, prices.aliases.iter().cloned())?;
        let version = version(&book, &prices.markup, &prices.unknown_model);
        let label = version.get(..LABEL_CHARS).and_then(|label| HeaderValue::from_str(label).ok());
        let list = Self {
            label: label.unwrap_or_else(|| HeaderValue::from_static("")),
            version,
            book,
            markup: prices.markup.clone(),
            unknown_model: prices.unknown_model.clone(),
        };
        list.check(prices)?;
        Ok(list)
    }

    /// A name that stands for another must come to a price, now or later.
    fn check(&self, prices: &Prices) -> Result<(), PriceListError> {
        let other = match &prices.unknown_model {
            UnknownModel::Refuse => None,
            UnknownModel::PriceAs(other) => Some(("unknown_model", other.as_str())),
        };
        let aliases = prices.aliases.iter().map(|(name, meant)| (name.as_str(), meant.as_str()));
        for (name, meant) in aliases.chain(other) {
            if self.book.lookup(meant, None, i64::MAX).is_none() {
                return Err(PriceListError::Unpriced(name.to_owned(), meant.to_owned()));
            }
        }
        Ok(())
    }

    /// The price of a model at that moment for an account of a group, by the operator's rule for names without
    /// one.
    #[must_use]
    pub fn lookup(&self, model: &str, group: Option<&str>, at_ms: i64) -> Option<Found<'_>> {
        self.book.lookup(model, group, at_ms).or_else(|| match &self.unknown_model {
            UnknownModel::Refuse => None,
            UnknownModel::PriceAs(other) => self.book.lookup(other, group, at_ms),
        })
    }

    /// Every name that is sold to everybody at that moment, aliases too, with its price.
    pub fn sold(&self, at_ms: i64) -> impl Iterator<Item = (&str, Found<'_>)> {
        let listed = self.book.listed(None, at_ms).map(|found| found.name);
        let names =
            listed.filter(|name| !name.contains('*')).chain(self.book.aliases().map(|(name, _)| name));
        let mut names: Vec<&str> = names.collect();
        names.sort_unstable();
        names.dedup();
        // Under a name another list may stand that is asked first.
        names.into_iter().filter_map(move |name| Some((name, self.book.lookup(name, None, at_ms)?)))
    }

    /// Patterns that are priced for everybody.
    pub fn patterns(&self, at_ms: i64) -> impl Iterator<Item = Found<'_>> {
        self.book.listed(None, at_ms).filter(|found| found.name.contains('*'))
    }

    /// Raise for an account of that group, in basis points.
    #[must_use]
    pub fn markup(&self, group: Option<&str>) -> u32 {
        self.markup.of(group)
    }

    /// A hash over everything that decides a price: charges name it (MTR-51).
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The version as people are shown it, in headers.
    pub(crate) fn label(&self) -> HeaderValue {
        self.label.clone()
    }

    /// What is different in a newer list.
    #[must_use]
    pub fn changes(&self, newer: &Self) -> Vec<PriceChange> {
        let of_models = diff(&self.book, &newer.book).into_iter().map(|difference| PriceChange {
            model: difference.model,
            what: difference.what,
            old: difference.old,
            new: difference.new,
        });
        let (before, after) = (raises(&self.markup), raises(&newer.markup));
        let groups: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let of_markup =
            groups.into_iter().filter(|group| before.get(*group) != after.get(*group)).map(|group| {
                let text = |raises: &Raises| raises.get(group).map(|points| percent(*points));
                PriceChange {
                    model: "markup".to_owned(),
                    what: group.clone(),
                    old: text(&before),
                    new: text(&after),
                }
            });
        let unknown = (self.unknown_model != newer.unknown_model).then(|| PriceChange {
            model: "unknown_model".to_owned(),
            what: "sold as".to_owned(),
            old: sold_as(&self.unknown_model),
            new: sold_as(&newer.unknown_model),
        });
        of_models.chain(of_markup).chain(unknown).collect()
    }
}

type Raises = std::collections::BTreeMap<String, u32>;

fn raises(markup: &Markup) -> Raises {
    let groups = markup.groups.iter().map(|(group, points)| (format!("group {group}"), *points));
    std::iter::once(("default".to_owned(), markup.default_bp)).chain(groups).collect()
}

/// `2.5%`.
pub(crate) fn percent(points: u32) -> String {
    let text = format!("{}.{:02}", points / 100, points % 100);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

fn sold_as(unknown: &UnknownModel) -> Option<String> {
    match unknown {
        UnknownModel::Refuse => None,
        UnknownModel::PriceAs(other) => Some(other.clone()),
    }
}

fn read(source: &PriceSource, bytes: &[u8], prices: &Prices) -> Result<Catalogue, tariff::CatalogueError> {
    let provider = source.provider.as_deref();
    match source.format {
        Format::LiteLlm => litellm::read(bytes, provider),
        Format::ModelsDev => models_dev::read(bytes, provider),
        Format::Farthing => own::read(bytes, &prices.calendars),
    }
}

fn version(book: &PriceBook, markup: &Markup, unknown: &UnknownModel) -> String {
    let mut hash = Sha256::new();
    let mut put = |text: &str| {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    };
    put("farthing/price-list/1");
    put(book.version());
    for (group, points) in raises(markup) {
        put(&group);
        put(&points.to_string());
    }
    put(&sold_as(unknown).unwrap_or_default());
    hash.finalize().iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Milliseconds since 1970, as price lists count them.
pub(crate) fn moment(now: Now) -> i64 {
    i64::try_from(now.millis()).unwrap_or(i64::MAX)
}
