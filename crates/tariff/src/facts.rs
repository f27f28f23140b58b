//! A tariff in words: every fact that decides a price, once. Versions, differences and price lists are all made of
//! this one listing, so that none of them can forget what another one knows.

use crate::rates::{Item, Rates};
use crate::tariff::{Changes, Tariff, UNIT_BP};
use money::Asset;

/// One fact of a price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What: `input`, `output, prompt above 272000 tokens`.
    pub what: String,
    /// How much: `0.15 USD/Mtok`.
    pub value: String,
}

impl Tariff {
    /// Every fact that decides a price, in an order that depends on nothing else. Two tariffs with the same facts
    /// charge the same.
    #[must_use]
    pub fn facts(&self) -> Vec<Fact> {
        let mut facts = Vec::new();
        of_rates(self.base(), &mut facts);
        for tier in self.tiers() {
            of_changes(&tier.changes, &format!("service tier {}", tier.name), &mut facts);
        }
        for length in self.lengths() {
            let over = format!("prompt above {} tokens", length.over);
            of_changes(&length.changes, &over, &mut facts);
            for tier in &length.tiers {
                of_changes(&tier.changes, &format!("{over}, service tier {}", tier.name), &mut facts);
            }
        }
        for window in self.windows() {
            let mut say = |what: String, value: String| facts.push(Fact { what, value });
            say(format!("{} hours", window.name), window.when.text());
            if let Some(calendar) = &window.when.except {
                say(format!("calendar {}", calendar.name()), calendar.text());
            }
            of_changes(&window.changes, &format!("{} hours", window.name), &mut facts);
        }
        for multiplier in self.multipliers() {
            let what = format!("{} {}", multiplier.dimension.name(), multiplier.value);
            let (whole, part) = (multiplier.factor_bp / UNIT_BP, multiplier.factor_bp % UNIT_BP);
            let value = format!("x{whole}.{part:04}");
            facts.push(Fact { what, value: value.trim_end_matches('0').trim_end_matches('.').to_owned() });
        }
        facts
    }
}

fn of_rates(rates: &Rates, facts: &mut Vec<Fact>) {
    let mut say = |what: &str, value: String| facts.push(Fact { what: what.to_owned(), value });
    for item in Item::ALL {
        if let Some(rate) = rates.own(item) {
            say(item.name(), item.price(rate));
        }
    }
    if let Some(fee) = rates.per_call {
        say("per_call", format!("{} USD", fee.short(Asset::Usd)));
    }
    for (what, limit) in [
        ("max_input_tokens", rates.max_input_tokens),
        ("max_output_tokens", rates.max_output_tokens),
        ("max_seconds", rates.max_seconds),
        ("max_response_bytes", rates.max_response_bytes),
    ] {
        if let Some(limit) = limit {
            say(what, limit.to_string());
        }
    }
}

/// A name without changes is a fact too: a tier that is sold at the plain price.
fn of_changes(changes: &Changes, of: &str, facts: &mut Vec<Fact>) {
    if changes.is_empty() {
        facts.push(Fact { what: of.to_owned(), value: "as listed".to_owned() });
    }
    let fact =
        |(item, rate): (Item, _)| Fact { what: format!("{}, {of}", item.name()), value: item.price(rate) };
    facts.extend(changes.iter().map(fact));
}
