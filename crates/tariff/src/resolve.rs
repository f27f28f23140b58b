//! The rates that a price comes to for one call, and the dearest it may come to.

use std::fmt;

use money::Rate;

use crate::rates::{Item, Rates};
use crate::tariff::{Changes, Dimension, Multiplier, Tariff, UNIT_BP, Window, find_tier, is_standard};

/// What of a call chooses its rates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms<'a> {
    /// When it began, in milliseconds since 1970 (MTR-49).
    pub at_ms: i64,
    /// Tokens of its prompt, cached ones included.
    pub input_total: u64,
    /// The service tier that served it.
    pub service_tier: Option<&'a str>,
    /// Where the provider ran it.
    pub inference_geo: Option<&'a str>,
    /// The speed the provider ran it at.
    pub speed: Option<&'a str>,
    /// The configured region of the upstream.
    pub region: Option<&'a str>,
    /// How much context its searches fetched.
    pub search_context: SearchContext,
}

/// How much context a search fetches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SearchContext {
    /// `low`.
    Low,
    /// `medium`, which is what providers do unasked.
    #[default]
    Medium,
    /// `high`.
    High,
}

/// Within what the terms of a call can lie before it is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds<'a> {
    /// The earliest moment it may begin.
    pub from_ms: i64,
    /// The latest moment of it.
    pub until_ms: i64,
    /// Tokens of its prompt at most.
    pub input_max: u64,
    /// The service tier it asks for: the upstream may grant it or serve at the standard one.
    pub service_tier: Option<&'a str>,
    /// The configured region of the upstream.
    pub region: Option<&'a str>,
}

/// What chose a rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rule<'a> {
    /// The model's plain price.
    #[default]
    Base,
    /// A service tier.
    Tier(&'a str),
    /// A prompt of more tokens than this.
    Length(u64),
    /// Both.
    LengthTier(u64, &'a str),
    /// A time of the week.
    Window(&'a str),
}

impl fmt::Display for Rule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base => f.write_str("list price"),
            Self::Tier(tier) => write!(f, "service tier {tier}"),
            Self::Length(over) => write!(f, "prompt above {over} tokens"),
            Self::LengthTier(over, tier) => write!(f, "prompt above {over} tokens, service tier {tier}"),
            Self::Window(name) => write!(f, "{name} hours"),
        }
    }
}

/// The rates of one call, and what chose them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved<'a> {
    /// The rates.
    pub rates: Rates,
    rules: [Rule<'a>; Item::ALL.len()],
    /// The multipliers that apply to the rates of tokens; they are in `rates` already.
    pub multipliers: Vec<&'a Multiplier>,
}

impl<'a> Resolved<'a> {
    fn apply(&mut self, changes: &Changes, rule: Rule<'a>) {
        for (item, rate) in changes.iter() {
            // What is not sold by some unit is not sold by it at some hours either.
            if !item.is_token() && self.rates.rate(item).is_none() {
                continue;
            }
            self.rates.set(item, rate);
            self.rules[item as usize] = rule;
        }
    }

    /// What chose the rate that is charged for an item.
    #[must_use]
    pub fn rule(&self, item: Item) -> Rule<'a> {
        self.rules.get(self.rates.charged_as(item) as usize).copied().unwrap_or_default()
    }
}

impl Tariff {
    /// The rates of a call. In this order, later ones win: the plain price, the tier, the length, the length at that
    /// tier, the time of the week; then multipliers.
    #[must_use]
    pub fn rates<'a>(&'a self, terms: &Terms<'a>) -> Resolved<'a> {
        let window = self.windows.iter().find(|window| window.when.holds(terms.at_ms));
        self.resolve(terms, window)
    }

    fn resolve<'a>(&'a self, terms: &Terms<'a>, window: Option<&'a Window>) -> Resolved<'a> {
        let mut resolved = Resolved {
            rates: self.base,
            rules: [Rule::Base; Item::ALL.len()],
            multipliers: self.matching(terms),
        };
        let tier = terms.service_tier.filter(|tier| !is_standard(tier));
        if let Some(tier) = tier.and_then(|name| find_tier(&self.tiers, name)) {
            resolved.apply(&tier.changes, Rule::Tier(&tier.name));
        }
        for length in self.lengths.iter().take_while(|length| terms.input_total > length.over) {
            resolved.apply(&length.changes, Rule::Length(length.over));
            if let Some(tier) = tier.and_then(|name| find_tier(&length.tiers, name)) {
                resolved.apply(&tier.changes, Rule::LengthTier(length.over, &tier.name));
            }
        }
        if let Some(window) = window {
            resolved.apply(&window.changes, Rule::Window(&window.name));
        }
        let searched = match terms.search_context {
            SearchContext::Low => Item::WebSearchLow,
            SearchContext::Medium => Item::WebSearch,
            SearchContext::High => Item::WebSearchHigh,
        };
        resolved.rates.web_search = resolved.rates.rate(searched);
        scale(&mut resolved.rates, &resolved.multipliers);
        resolved
    }

    /// The multipliers of a call: of each dimension the first that fits.
    fn matching<'a>(&'a self, terms: &Terms<'_>) -> Vec<&'a Multiplier> {
        let values = [
            (Dimension::Geo, terms.inference_geo),
            (Dimension::Speed, terms.speed),
            (Dimension::Region, terms.region),
        ];
        let of = |(dimension, value): (Dimension, Option<&str>)| {
            let own = self.multipliers.iter().filter(move |multiplier| multiplier.dimension == dimension);
            value.and_then(|value| own.clone().find(|multiplier| multiplier.is_for(value)))
        };
        values.into_iter().filter_map(of).collect()
    }

    /// The dearest rates that can apply within these bounds, item by item (MTR-32, MTR-50): at any moment of the call,
    /// for any prompt up to the bound, at the tier it asks for or the standard one, wherever the provider runs it.
    #[must_use]
    pub fn dearest(&self, bounds: &Bounds<'_>) -> Rates {
        // Most models cost the same whatever happens, and every call asks.
        let mut dearest = if self.is_flat() { self.base } else { self.dearest_of_all(bounds) };
        let searches = [Item::WebSearch, Item::WebSearchLow, Item::WebSearchHigh];
        dearest.web_search = searches.into_iter().filter_map(|item| dearest.rate(item)).max();
        dearest
    }

    const fn is_flat(&self) -> bool {
        self.tiers.is_empty()
            && self.lengths.is_empty()
            && self.windows.is_empty()
            && self.multipliers.is_empty()
    }

    /// Of all that can happen within these bounds the dearest rates, but for searches.
    fn dearest_of_all(&self, bounds: &Bounds<'_>) -> Rates {
        let windows = self.windows_within(bounds.from_ms, bounds.until_ms);
        let reached = self.lengths.iter().map(|length| length.over).filter(|over| *over < bounds.input_max);
        let prompts: Vec<u64> = std::iter::once(0).chain(reached.map(|over| over + 1)).collect();
        let asked = bounds.service_tier.filter(|tier| !is_standard(tier));
        let tiers = std::iter::once(None).chain(asked.map(Some));
        let geos = self.multipliers.iter().filter(|multiplier| multiplier.dimension == Dimension::Geo);
        let places: Vec<_> = std::iter::once(None).chain(geos.map(|geo| Some(geo.value.as_str()))).collect();
        let mut dearest: Option<Rates> = None;
        for tier in tiers {
            for input_total in &prompts {
                for place in &places {
                    for window in &windows {
                        let terms = Terms {
                            at_ms: bounds.from_ms,
                            input_total: *input_total,
                            service_tier: tier,
                            inference_geo: *place,
                            region: bounds.region,
                            ..Terms::default()
                        };
                        let rates = self.resolve(&terms, *window).rates;
                        dearest = Some(dearest.map_or(rates, |dearest| dearest.dearer(&rates)));
                    }
                }
            }
        }
        dearest.unwrap_or(self.base)
    }

    /// The windows that are open at some moment between these, and none where none is.
    fn windows_within(&self, from_ms: i64, until_ms: i64) -> Vec<Option<&Window>> {
        let at = |moment: i64| self.windows.iter().find(|window| window.when.holds(moment));
        if self.windows.is_empty() {
            return vec![None];
        }
        let edges: Option<Vec<_>> =
            self.windows.iter().map(|window| window.when.edges(from_ms, until_ms)).collect();
        let Some(edges) = edges else {
            return std::iter::once(None).chain(self.windows.iter().map(Some)).collect();
        };
        let mut open: Vec<Option<&Window>> = Vec::new();
        for moment in std::iter::once(from_ms).chain(edges.into_iter().flatten()) {
            let window = at(moment);
            if !open.iter().any(|known| known.map(std::ptr::from_ref) == window.map(std::ptr::from_ref)) {
                open.push(window);
            }
        }
        open
    }
}

fn scale(rates: &mut Rates, multipliers: &[&Multiplier]) {
    if multipliers.is_empty() {
        return;
    }
    let factor: u128 = multipliers.iter().map(|multiplier| u128::from(multiplier.factor_bp)).product();
    let one: u128 = multipliers.iter().map(|_| u128::from(UNIT_BP)).product();
    for item in Item::ALL.into_iter().filter(|item| item.is_token()) {
        if let Some(rate) = rates.own(item) {
            // Rounded up to a femto. Beyond the range it is a rate that no balance covers.
            let scaled = u128::from(rate.femto()).saturating_mul(factor).div_ceil(one);
            rates.set(item, Rate::from_femto(u64::try_from(scaled).unwrap_or(u64::MAX)));
        }
    }
}
