//! What is sold, and at which price: OpenAI's list of models, a document, and a page for people. Selling prices of
//! everybody, never what the operator pays or grants to a group.

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tariff::{Changes, Found, Item, Tariff, Terms, Tier, moment_text};

use crate::clock::Now;
use crate::config::RoutePrice;
use crate::price_list::moment;
use crate::selling;
use crate::snapshot::Snapshot;

use super::price_page;

/// Windows open and close, and prices begin, on whole minutes.
const MINUTE_MS: u64 = 60_000;

/// All that is told about prices in one minute: rendered once, whoever asks.
pub(crate) struct Pages {
    minute: u64,
    pub(super) models: Bytes,
    pub(super) document: Bytes,
    pub(super) page: Bytes,
}

impl Pages {
    /// Those of a snapshot at this moment.
    pub(super) fn of(snapshot: &Snapshot, now: Now) -> std::sync::Arc<Self> {
        let minute = now.millis() / MINUTE_MS;
        if let Some(known) = snapshot.pages.load_full().filter(|pages| pages.minute == minute) {
            return known;
        }
        let at_ms = moment(now);
        let document = document(snapshot, at_ms);
        let pages = std::sync::Arc::new(Self {
            minute,
            models: models(snapshot, at_ms).to_string().into(),
            page: price_page::render(&document).into(),
            document: document.to_string().into(),
        });
        snapshot.pages.store(Some(std::sync::Arc::clone(&pages)));
        pages
    }
}

/// Models that some route would take, with their prices.
fn sold(snapshot: &Snapshot, at_ms: i64) -> impl Iterator<Item = (&str, Found<'_>)> {
    let taken = |model: &str| {
        let metered = snapshot.config.routes.iter().filter(|route| route.price == RoutePrice::ByModel);
        metered.into_iter().any(|route| route.upstream.choose(model).is_some())
    };
    snapshot.prices.sold(at_ms).filter(move |(name, _)| taken(name))
}

/// OpenAI's list, with prices in OpenRouter's shape: decimal text for one unit.
fn models(snapshot: &Snapshot, at_ms: i64) -> Value {
    let markup_bp = snapshot.prices.markup(None);
    let model = |(name, found): (&str, Found<'_>)| {
        let rates = found.tariff.rates(&Terms { at_ms, ..Terms::default() }).rates;
        let mut pricing = Map::new();
        for (member, item) in [
            ("prompt", Item::Input),
            ("completion", Item::Output),
            ("image", Item::Image),
            ("internal_reasoning", Item::Reasoning),
            ("input_cache_read", Item::CacheRead),
            ("input_cache_write", Item::CacheWrite),
        ] {
            // What a model has no price for costs nothing there, and is said so where everybody looks for it.
            let rate = rates.rate(item).or((item == Item::Image).then(money::Rate::default));
            if let Some(rate) = rate {
                pricing.insert(member.to_owned(), selling::usd(rate, markup_bp).into());
            }
        }
        pricing.insert(
            "request".into(),
            selling::fee_text(rates.per_call.unwrap_or_default(), markup_bp).into(),
        );
        pricing.insert("currency".into(), "USD".into());
        json!({"id": name, "object": "model", "created": 0, "owned_by": "farthing", "pricing": pricing,
               "context_length": rates.max_input_tokens, "max_output_length": rates.max_output_tokens})
    };
    json!({"object": "list", "data": sold(snapshot, at_ms).map(model).collect::<Vec<_>>()})
}

/// Every price that is sold at, and when it is another one.
fn document(snapshot: &Snapshot, at_ms: i64) -> Value {
    let prices = &snapshot.prices;
    let markup_bp = prices.markup(None);
    let patterns = prices.patterns(at_ms).map(|found| priced(found.name, found, markup_bp, at_ms));
    let fixed = snapshot.config.routes.iter().filter_map(|route| {
        let rates = match &route.price {
            RoutePrice::PerCall(fee) => selling::fee_lines(*fee),
            RoutePrice::Units(price) => selling::unit_lines(price),
            RoutePrice::ByModel | RoutePrice::Free => return None,
        };
        let methods: Vec<&str> = route.methods.iter().map(http::Method::as_str).collect();
        Some(json!({"route": route.name, "methods": methods, "rates": rates}))
    });
    json!({
        "version": prices.version(), "at": moment_text(at_ms), "currency": "USD",
        "models": sold(snapshot, at_ms).map(|(name, found)| priced(name, found, markup_bp, at_ms)).collect::<Vec<_>>(),
        "patterns": patterns.collect::<Vec<_>>(), "routes": fixed.collect::<Vec<_>>(),
    })
}

fn priced(name: &str, found: Found<'_>, markup_bp: u32, at_ms: i64) -> Value {
    let now = found.tariff.rates(&Terms { at_ms, ..Terms::default() });
    json!({
        "model": name, "same_as": (found.name != name).then_some(found.name),
        "since": found.since_ms.map(moment_text), "rates": selling::rate_lines(&now, markup_bp),
        "otherwise": otherwise(found.tariff, markup_bp),
        "input_tokens_max": now.rates.max_input_tokens, "output_tokens_max": now.rates.max_output_tokens,
    })
}

/// What is charged under other conditions than those of a short prompt at the standard tier now.
fn otherwise(tariff: &Tariff, markup_bp: u32) -> Vec<Value> {
    let case = |when: String, changes: &Changes| {
        let rates = changes.iter().map(|(item, rate)| selling::rate_line(item, rate, markup_bp));
        json!({"when": when, "rates": rates.collect::<Vec<_>>()})
    };
    let mut cases = Vec::new();
    if !tariff.windows().is_empty() {
        let base = tariff.base();
        let own = Item::ALL.into_iter().filter_map(|item| Some((item, base.own(item)?)));
        cases.push(case("outside of the hours below".to_owned(), &own.collect()));
    }
    // What no call can ask for is not for sale.
    let is_sold = |tier: &&Tier| tariff.sells_tier(Some(&tier.name));
    for tier in tariff.tiers().iter().filter(is_sold) {
        cases.push(case(format!("service tier {}", tier.name), &tier.changes));
    }
    for length in tariff.lengths() {
        let over = format!("prompt of more than {} tokens", length.over);
        cases.push(case(over.clone(), &length.changes));
        for tier in length.tiers.iter().filter(is_sold) {
            cases.push(case(format!("{over}, service tier {}", tier.name), &tier.changes));
        }
    }
    for window in tariff.windows() {
        cases.push(case(format!("{}: {}", window.name, window.when.text()), &window.changes));
    }
    for factor in tariff.multipliers() {
        let (whole, part) = (factor.factor_bp / tariff::UNIT_BP, factor.factor_bp % tariff::UNIT_BP);
        let when = format!("{} {}", factor.dimension.name(), factor.value);
        cases.push(json!({"when": when, "times": format!("{whole}.{part:04}")}));
    }
    cases
}
