//! The lists of `specs/vectors/rails` and, where it is there, the excerpt of LiteLLM's map, which is read in place.

use serde_json::Value;

use super::{at, mtok, shown};
use crate::{Item, Layer, Origin, PriceBook, Rates, Tariff, Terms, builtin, diff, litellm};

const PRICES: &str = include_str!("../../../../specs/vectors/rails/price_catalogue_2026-11.json");

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// Checks the rates that an object of the list names.
fn check(case: &str, rates: &Rates, expected: &Value) {
    for (name, item) in [
        ("input", Item::Input),
        ("output", Item::Output),
        ("cache_read", Item::CacheRead),
        // The list labels OpenAI's writes of no particular lifetime by one (note 12, trap 5).
        ("cache_write_5m", Item::CacheWrite),
        ("cache_write_1h", Item::CacheWrite1h),
        ("cache_write_12h", Item::CacheWrite12h),
    ] {
        if let Some(expected) = expected[name].as_str() {
            assert_eq!(rates.rate(item), Some(mtok(expected)), "{case}: {name}");
        }
    }
}

/// The built-in list has every price of the list it was made from, at every length, tier and hour.
#[test]
fn the_built_in_list_is_what_its_source_says() {
    let source: Value = serde_json::from_str(PRICES).unwrap();
    let catalogue = builtin(&[]).unwrap();
    assert_eq!(catalogue.skipped, []);
    let find = |name: &str| {
        let bare = name.split_once('/').filter(|(prefix, _)| source["providers"][prefix].is_object());
        let bare = bare.map_or(name, |(_, bare)| bare);
        catalogue.entries.iter().find(|entry| entry.model == bare).map(|entry| &entry.tariff)
    };
    let (mut priced, mut unpriced) = (0, Vec::new());
    let models =
        source["providers"].as_object().unwrap().values().flat_map(|models| models.as_object().unwrap());
    for (name, model) in models {
        let Some(tariff) = find(name) else {
            unpriced.push(name.as_str());
            continue;
        };
        check_model(name, model, tariff);
        priced += 1;
    }
    assert_eq!((priced, catalogue.entries.len()), (50, 50));
    assert_eq!(unpriced, ["zai/glm-4.7-flash"], "free there: an operator who wants that writes it down");
}

fn check_model(name: &str, model: &Value, tariff: &Tariff) {
    let plain = Terms { at_ms: at("2026-11-17T05:00:00Z"), ..Terms::default() };
    let rates = |terms: &Terms<'_>| tariff.rates(terms).rates;
    if model["off_peak"].is_object() {
        check(name, &rates(&plain), &model["off_peak"]);
        let peak = Terms { at_ms: at("2026-11-17T01:00:00Z"), ..plain };
        check(name, &rates(&peak), &model["list"]);
        assert_eq!(tariff.rates(&peak).rule(Item::Output).to_string(), "peak hours");
    } else {
        check(name, &rates(&plain), &model["list"]);
    }
    for (tier, expected) in model["service_tiers"].as_object().into_iter().flatten() {
        check(name, &rates(&Terms { service_tier: Some(tier), ..plain }), expected);
    }
    for range in model["input_length_tiers"].as_array().into_iter().flatten() {
        let bound = |side: &str| range[side].as_u64().unwrap();
        for input_total in [bound("min_prompt_tokens") + 1, bound("max_prompt_tokens")] {
            check(name, &rates(&Terms { input_total, ..plain }), range);
        }
    }
    if let Some(threshold) = model["above_prompt_tokens"]["threshold"].as_u64() {
        check(name, &rates(&Terms { input_total: threshold, ..plain }), &model["list"]);
        let long = Terms { input_total: threshold + 1, ..plain };
        check(name, &rates(&long), &model["above_prompt_tokens"]);
    }
    for (side, limit) in [
        ("max_input_tokens", tariff.base().max_input_tokens),
        ("max_output_tokens", tariff.base().max_output_tokens),
    ] {
        assert_eq!(limit, model[side].as_u64(), "{name}: {side}");
    }
}

/// The windows of the list (off-peak, in UTC) and ours (peak, in Beijing) say the same of every quarter of an hour.
#[test]
fn peak_and_off_peak_are_two_sides() {
    let source: Value = serde_json::from_str(PRICES).unwrap();
    let model = &source["providers"]["deepseek"]["deepseek-v4-pro"];
    let rate = |value: &Value| format!("{}e-6", text(value));
    let off = &model["off_peak"];
    let map = format!(
        r#"{{"m":{{"input_cost_per_token":{},"output_cost_per_token":1,
            "off_peak_pricing":{{"input_cost_per_token":{},"windows":{}}}}}}}"#,
        rate(&model["list"]["input"]),
        rate(&off["input"]),
        off["windows_utc"],
    );
    let theirs = litellm::read(map.as_bytes(), None).unwrap().entries.remove(0).tariff;
    let ours = builtin(&[]).unwrap();
    let ours = &ours.entries.iter().find(|entry| entry.model == "deepseek-v4-pro").unwrap().tariff;
    let monday = at("2026-11-16");
    for quarter in 0..7 * 96 {
        let terms = Terms { at_ms: monday + quarter * 900_000, ..Terms::default() };
        let input = |tariff: &Tariff| shown(&tariff.rates(&terms).rates, Item::Input);
        assert_eq!(input(ours), input(&theirs), "quarter {quarter} of the week");
    }
}

/// The excerpt, or `None` with a line that says so.
#[expect(clippy::disallowed_methods, reason = "tests read vectors that may not be copied into the project")]
fn excerpt() -> Option<Value> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors");
    let folder = std::env::var("FARTHING_VECTORS").unwrap_or_else(|_| beside.to_owned());
    let Ok(text) = std::fs::read_to_string(format!("{folder}/usage/price_catalogue_excerpt.json")) else {
        println!("skipped: price_catalogue_excerpt.json is not in {folder}/usage");
        return None;
    };
    Some(serde_json::from_str(&text).unwrap())
}

#[test]
fn the_excerpt_is_read_whole() {
    let Some(excerpt) = excerpt() else { return };
    let bytes = excerpt["models"].to_string();
    let catalogue = litellm::read(bytes.as_bytes(), None).unwrap();
    assert_eq!((catalogue.entries.len(), catalogue.skipped.len()), (18, 0), "{:?}", catalogue.skipped);
    let tariff = |name: &str| &catalogue.entries.iter().find(|entry| entry.model == name).unwrap().tariff;
    let plain = Terms { at_ms: at("2026-11-17T01:00:00Z"), ..Terms::default() };
    for (model, terms, item, expected) in [
        (
            "gpt-5.6-sol",
            Terms { input_total: 272_001, service_tier: Some("flex"), ..plain },
            Item::CacheWrite12h,
            "10 USD/Mtok",
        ),
        ("gpt-5.6-sol", Terms { region: Some("eu"), ..plain }, Item::Input, "4.4 USD/Mtok"),
        ("gpt-5.6-luna", plain, Item::WebSearch, "0.01 USD"),
        (
            "claude-opus-5",
            Terms { inference_geo: Some("us"), speed: Some("fast"), ..plain },
            Item::Input,
            "11 USD/Mtok",
        ),
        ("claude-sonnet-5", plain, Item::CacheWrite1h, "4 USD/Mtok"),
        ("deepseek/deepseek-v4-pro", plain, Item::Output, "3.96 USD/Mtok"),
        (
            "deepseek/deepseek-v4-pro",
            Terms { at_ms: at("2026-11-17T04:00:00Z"), ..plain },
            Item::Output,
            "1.98 USD/Mtok",
        ),
        ("dashscope/qwen3-max", Terms { input_total: 32_000, ..plain }, Item::Output, "6 USD/Mtok"),
        ("dashscope/qwen3-max", Terms { input_total: 32_001, ..plain }, Item::CacheRead, "2.4 USD/Mtok"),
        ("dashscope/qwen3-max", Terms { input_total: 300_000, ..plain }, Item::Input, "3 USD/Mtok"),
        (
            "gemini/gemini-2.5-pro",
            Terms { input_total: 200_001, service_tier: Some("priority"), ..plain },
            Item::Input,
            "4.5 USD/Mtok",
        ),
        (
            "gemini/gemini-2.5-pro",
            Terms { input_total: 200_001, service_tier: Some("flex"), ..plain },
            Item::Input,
            "2.5 USD/Mtok",
        ),
        ("gpt-image-1", plain, Item::Output, "40 USD/Mtok"),
        ("whisper-1", plain, Item::Second, "0.0001 USD"),
        ("tts-1", plain, Item::Character, "15 USD/Mchar"),
        ("novita/nvidia/nemotron-3-nano-30b-a3b", plain, Item::Input, "0.05 USD/Mtok"),
        ("fireworks_ai/accounts/fireworks/models/SSD-1B", plain, Item::Input, "0.00013 USD/Mtok"),
    ] {
        assert_eq!(shown(&tariff(model).rates(&terms).rates, item), expected, "{model} {terms:?} {item:?}");
    }
}

/// MTR-51: the same bytes give the same version, and another byte that decides a price another one.
#[test]
fn the_version_of_a_list() {
    let book = |map: &str| {
        let entries = litellm::read(map.as_bytes(), None).unwrap().entries;
        PriceBook::new([Layer { origin: Origin::Source("map".to_owned()), entries }], []).unwrap()
    };
    let map =
        |rate: &str| format!(r#"{{"m":{{"input_cost_per_token":{rate},"output_cost_per_token":1e-6}}}}"#);
    let one = book(&map("1e-7"));
    assert_eq!(one.version(), book(&map("1e-7")).version());
    assert_eq!(one.version(), book(&map("0.0000001")).version(), "the same number in other words");
    let other = book(&map("1.1e-7"));
    assert_ne!(one.version(), other.version());
    assert_eq!(diff(&one, &other).len(), 1);
}
