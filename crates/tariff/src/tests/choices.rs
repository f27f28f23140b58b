//! Service tiers, lengths of the prompt, multipliers: which rate a call gets, and why.

use super::{flat, mtok, shown};
use crate::{
    Bounds, Changes, Dimension, Item, Length, Multiplier, Rates, SearchContext, Tariff, Terms, Tier,
};
use money::Rate;

fn changes(rates: &[(Item, &str)]) -> Changes {
    rates.iter().map(|(item, rate)| (*item, mtok(rate))).collect()
}

/// Like OpenAI's lists: two lengths, three tiers, of which one is for batches.
fn tariff() -> Tariff {
    let base = Rates { cache_read: Some(mtok("0.2")), cache_write_12h: Some(mtok("5")), ..flat("2", "10") };
    let long = Length {
        over: 272_000,
        changes: changes(&[(Item::Input, "4"), (Item::Output, "15"), (Item::CacheRead, "0.4")]),
        tiers: vec![Tier { name: "priority".to_owned(), changes: changes(&[(Item::Input, "8")]) }],
    };
    let longer = Length { over: 500_000, changes: changes(&[(Item::Input, "6")]), tiers: Vec::new() };
    Tariff::from(base)
        .with_length(longer)
        .with_length(long)
        .with_tier("priority", changes(&[(Item::Input, "4"), (Item::Output, "20")]))
        .with_tier("flex", changes(&[(Item::Input, "1")]))
        .with_tier("batch", changes(&[(Item::Input, "0.5")]))
}

#[test]
fn rates_table() {
    let tariff = tariff();
    for (case, tier, input, item, expected, why) in [
        ("plain", None, 0, Item::Input, "2", "list price"),
        ("at the threshold", None, 272_000, Item::Input, "2", "list price"),
        ("above it", None, 272_001, Item::Input, "4", "prompt above 272000 tokens"),
        ("the whole call moves", None, 272_001, Item::Output, "15", "prompt above 272000 tokens"),
        ("caches too", None, 272_001, Item::CacheRead, "0.4", "prompt above 272000 tokens"),
        ("what it does not name stays", None, 272_001, Item::CacheWrite12h, "5", "list price"),
        ("what follows moves along", None, 272_001, Item::CacheWrite, "4", "prompt above 272000 tokens"),
        ("the next length", None, 500_001, Item::Input, "6", "prompt above 500000 tokens"),
        (
            "what that does not name stays at the one before",
            None,
            500_001,
            Item::Output,
            "15",
            "prompt above 272000 tokens",
        ),
        ("a tier", Some("priority"), 1, Item::Output, "20", "service tier priority"),
        ("by its other name", Some("fast"), 1, Item::Input, "4", "service tier priority"),
        ("what a tier does not name stays", Some("flex"), 1, Item::Output, "10", "list price"),
        ("batches", Some("batch"), 1, Item::Input, "0.5", "service tier batches"),
        ("an unknown tier", Some("gold"), 1, Item::Input, "2", "list price"),
        ("the standard tier", Some("default"), 1, Item::Input, "2", "list price"),
        (
            "both",
            Some("priority"),
            300_000,
            Item::Input,
            "8",
            "prompt above 272000 tokens, service tier priority",
        ),
        (
            "item 36 without both the length",
            Some("priority"),
            300_000,
            Item::Output,
            "15",
            "prompt above 272000 tokens",
        ),
        (
            "item 36 also for a tier without lengths",
            Some("flex"),
            300_000,
            Item::Input,
            "4",
            "prompt above 272000 tokens",
        ),
    ] {
        let terms = Terms { service_tier: tier, input_total: input, ..Terms::default() };
        let resolved = tariff.rates(&terms);
        assert_eq!(shown(&resolved.rates, item), format!("{expected} USD/Mtok"), "{case}");
        assert_eq!(resolved.rule(item).to_string(), why, "{case}");
    }
}

#[test]
fn tiers_that_are_sold() {
    for (asked, sold) in [
        (None, true),
        (Some("auto"), true),
        (Some("default"), true),
        (Some("standard_only"), true),
        (Some("flex"), true),
        (Some("fast"), true),
        (Some("batch"), false),
        (Some("batches"), false),
        (Some("gold"), false),
        (Some("Flex"), false),
    ] {
        assert_eq!(tariff().sells_tier(asked), sold, "{asked:?}");
    }
    assert!(!Tariff::from(flat("1", "1")).sells_tier(Some("flex")));
}

/// Reference item 31: they multiply each other and rates of tokens, and nothing else.
#[test]
fn multipliers_table() {
    let times =
        |dimension, value: &str, factor_bp| Multiplier { dimension, value: value.to_owned(), factor_bp };
    let search = Some(Rate::from_femto(10_000_000_000_000));
    let tariff = Tariff::from(Rates { web_search: search, second: search, ..flat("2", "10") })
        .with_multiplier(times(Dimension::Geo, "us", 11_000))
        .with_multiplier(times(Dimension::Speed, "fast", 20_000))
        .with_multiplier(times(Dimension::Region, "eu", 12_000))
        .with_multiplier(times(Dimension::Region, "*", 15_000));
    for (case, geo, speed, region, expected) in [
        ("none", None, None, None, "2"),
        ("geo", Some("us"), None, None, "2.2"),
        ("in any case", Some("US"), None, None, "2.2"),
        ("another place", Some("global"), Some("standard"), None, "2"),
        ("speed", None, Some("fast"), None, "4"),
        ("both", Some("us"), Some("fast"), None, "4.4"),
        ("a named region", None, None, Some("eu"), "2.4"),
        ("any region", None, None, Some("asia-east1"), "3"),
        ("no region", None, None, Some("global"), "2"),
        ("all", Some("us"), Some("fast"), Some("eu"), "5.28"),
    ] {
        let terms = Terms { inference_geo: geo, speed, region, ..Terms::default() };
        let rates = tariff.rates(&terms).rates;
        assert_eq!(shown(&rates, Item::Input), format!("{expected} USD/Mtok"), "{case}");
        assert_eq!((rates.web_search, rates.second), (search, search), "{case}: no factor on units");
    }
    let held = |region| shown(&tariff.dearest(&Bounds { region, ..Bounds::default() }), Item::Output);
    assert_eq!(held(None), "11 USD/Mtok", "the provider says only afterwards where it ran");
    assert_eq!(held(Some("eu")), "13.2 USD/Mtok");
    let odd = Rates { input: Rate::from_femto(3), ..Rates::default() };
    let odd = Tariff::from(odd).with_multiplier(times(Dimension::Geo, "us", 11_000));
    let rounded = odd.rates(&Terms { inference_geo: Some("us"), ..Terms::default() }).rates.input;
    assert_eq!(rounded, Rate::from_femto(4), "rounded up to a femto");
    let huge = Rates { input: Rate::from_femto(u64::MAX), ..Rates::default() };
    let huge = Tariff::from(huge).with_multiplier(times(Dimension::Geo, "us", 11_000));
    let most = huge.rates(&Terms { inference_geo: Some("us"), ..Terms::default() }).rates.input;
    assert_eq!(most, Rate::from_femto(u64::MAX), "never wraps");
}

/// MTR-32: any length up to the bound, the tier that is asked for or the standard one.
#[test]
fn the_dearest_table() {
    let tariff = tariff();
    for (case, tier, input_max, item, expected) in [
        ("short", None, 272_000, Item::Input, "2"),
        ("long", None, 272_001, Item::Input, "4"),
        ("long, its cheaper cache writes", None, 272_001, Item::CacheWrite12h, "5"),
        ("longest", None, u64::MAX, Item::Input, "6"),
        ("a dearer tier", Some("priority"), 1, Item::Output, "20"),
        ("a cheaper tier may be refused by the upstream", Some("flex"), 1, Item::Input, "2"),
        ("a dearer tier, long: the dearest of both", Some("priority"), 300_000, Item::Output, "20"),
        ("a dearer tier, longest", Some("priority"), 600_000, Item::Input, "8"),
    ] {
        let bounds = Bounds { service_tier: tier, input_max, ..Bounds::default() };
        assert_eq!(shown(&tariff.dearest(&bounds), item), format!("{expected} USD/Mtok"), "MTR-32 {case}");
    }
}

#[test]
fn searches_by_size() {
    let rate = |femto| Some(Rate::from_femto(femto));
    let base =
        Rates { web_search: rate(5), web_search_low: rate(3), web_search_high: rate(9), ..flat("1", "1") };
    let tariff = Tariff::from(base);
    for (search_context, expected) in
        [(SearchContext::Low, 3), (SearchContext::Medium, 5), (SearchContext::High, 9)]
    {
        let rates = tariff.rates(&Terms { search_context, ..Terms::default() }).rates;
        assert_eq!(rates.web_search, rate(expected), "{search_context:?}");
    }
    assert_eq!(tariff.dearest(&Bounds::default()).web_search, rate(9));
}
