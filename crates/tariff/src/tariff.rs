//! One model's price, whatever the call.

use money::Rate;

use crate::rates::{Item, Rates};
use crate::window::When;

/// Basis points of a factor of one.
pub const UNIT_BP: u32 = 10_000;

/// Rates that replace others. Later ones win.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes(Vec<(Item, Rate)>);

impl Changes {
    /// Sets the rate of an item.
    pub fn set(&mut self, item: Item, rate: Rate) {
        match self.0.iter_mut().find(|(known, _)| *known == item) {
            Some(known) => known.1 = rate,
            None => self.0.push((item, rate)),
        }
        self.0.sort_unstable_by_key(|(item, _)| *item);
    }

    /// The rate of an item, if it is changed.
    #[must_use]
    pub fn get(&self, item: Item) -> Option<Rate> {
        self.0.iter().find(|(known, _)| *known == item).map(|(_, rate)| *rate)
    }

    /// Whether nothing is changed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every item and its rate, in the order of [`Item`].
    pub fn iter(&self) -> impl Iterator<Item = (Item, Rate)> + '_ {
        self.0.iter().copied()
    }
}

impl FromIterator<(Item, Rate)> for Changes {
    fn from_iter<I: IntoIterator<Item = (Item, Rate)>>(changes: I) -> Self {
        let mut all = Self::default();
        changes.into_iter().for_each(|(item, rate)| all.set(item, rate));
        all
    }
}

/// What a service tier changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// As providers name it: `flex`, `priority`.
    pub name: String,
    /// Its rates; what it does not name is as without it.
    pub changes: Changes,
}

/// What a long prompt changes, for the whole call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Length {
    /// It applies to prompts of more tokens than this, cached ones included.
    pub over: u64,
    /// Its rates; what it does not name stays at the rate of shorter prompts.
    pub changes: Changes,
    /// Rates of long prompts at a service tier.
    pub tiers: Vec<Tier>,
}

/// What a time of the week changes, over tiers and lengths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// What lists of prices call it: `peak`.
    pub name: String,
    /// When it is open.
    pub when: When,
    /// Its rates; what it does not name stays.
    pub changes: Changes,
}

/// What a multiplier depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    /// Where the provider says that it ran the call.
    Geo,
    /// The speed at which it says that it ran.
    Speed,
    /// The region that the operator has configured for the upstream.
    Region,
}

impl Dimension {
    /// Its name in lists of prices.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Geo => "geo",
            Self::Speed => "speed",
            Self::Region => "region",
        }
    }
}

/// A factor on every rate of a token. Factors of different dimensions multiply each other (reference item 31).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Multiplier {
    /// What it depends on.
    pub dimension: Dimension,
    /// The value for which it applies, in any letter case; `*` for every one but `global`.
    pub value: String,
    /// The factor, in basis points: 11000 is 1.1.
    pub factor_bp: u32,
}

impl Multiplier {
    pub(crate) fn is_for(&self, value: &str) -> bool {
        match self.value.as_str() {
            "*" => !value.eq_ignore_ascii_case("global"),
            own => own.eq_ignore_ascii_case(value),
        }
    }
}

/// What a model costs, whatever the call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tariff {
    pub(crate) base: Rates,
    pub(crate) tiers: Vec<Tier>,
    /// Ascending.
    pub(crate) lengths: Vec<Length>,
    pub(crate) windows: Vec<Window>,
    pub(crate) multipliers: Vec<Multiplier>,
}

impl From<Rates> for Tariff {
    fn from(base: Rates) -> Self {
        Self { base, ..Self::default() }
    }
}

impl Tariff {
    /// Adds a service tier.
    #[must_use]
    pub fn with_tier(mut self, name: &str, changes: Changes) -> Self {
        self.tiers.push(Tier { name: tier_key(name).to_owned(), changes });
        self
    }

    /// Adds a price of long prompts.
    #[must_use]
    pub fn with_length(mut self, length: Length) -> Self {
        self.lengths.push(length);
        self.lengths.sort_by_key(|length| length.over);
        self
    }

    /// Adds a time of the week. Of several that are open at once the first counts.
    #[must_use]
    pub fn with_window(mut self, window: Window) -> Self {
        self.windows.push(window);
        self
    }

    /// Adds a multiplier.
    #[must_use]
    pub fn with_multiplier(mut self, multiplier: Multiplier) -> Self {
        self.multipliers.push(multiplier);
        self
    }

    /// The plain price.
    #[must_use]
    pub const fn base(&self) -> &Rates {
        &self.base
    }

    /// The service tiers.
    #[must_use]
    pub fn tiers(&self) -> &[Tier] {
        &self.tiers
    }

    /// The prices of long prompts, ascending.
    #[must_use]
    pub fn lengths(&self) -> &[Length] {
        &self.lengths
    }

    /// The times of the week.
    #[must_use]
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// The multipliers.
    #[must_use]
    pub fn multipliers(&self) -> &[Multiplier] {
        &self.multipliers
    }

    /// Whether a call that asks for this tier has a price: the standard tier, or one that is priced here. Batches are
    /// served by other endpoints, whose answers come later.
    #[must_use]
    pub fn sells_tier(&self, asked: Option<&str>) -> bool {
        let Some(asked) = asked.filter(|tier| !is_standard(tier)) else { return true };
        let mut tiers = self.tiers.iter().chain(self.lengths.iter().flat_map(|length| &length.tiers));
        tier_key(asked) != "batches" && tiers.any(|tier| tier.name == tier_key(asked))
    }
}

/// Whether a tier is the one without a name of its own (reference item 26).
#[must_use]
pub fn is_standard(tier: &str) -> bool {
    ["", "auto", "default", "standard", "standard_only"].contains(&tier)
}

/// What catalogues call a tier that providers name in two ways.
fn tier_key(name: &str) -> &str {
    match name {
        "fast" => "priority",
        "batch" => "batches",
        other => other,
    }
}

pub(crate) fn find_tier<'a>(tiers: &'a [Tier], name: &str) -> Option<&'a Tier> {
    tiers.iter().find(|tier| tier.name == tier_key(name))
}
