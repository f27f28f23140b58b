//! What a call costs by a price that depends on it: its hour, its length, its tier.

use money::{Amount, Femto, Rate};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;
use tariff::{
    Changes, Hours, Item, Layer, Length, Origin, PriceBook, Rates, Tariff, Tier, Weekdays, When, Window,
    Zone, builtin, litellm, moment_ms,
};

use super::bills::{COST_CASES, check_sum, reported, request, usage_of};
use super::{Answer, charge as flat_charge};
use crate::{
    Anomaly, Basis, CallTerms, Charge, Dialect, Head, HoldPolicy, InputBound, Metered, Usage, ceiling,
    charge, dearest_rates, scan_request,
};

const COST_VECTORS: &str = include_str!("../../../../specs/vectors/rails/cost_vectors.json");

fn at(text: &str) -> i64 {
    moment_ms(text).unwrap()
}

fn began(text: &str) -> CallTerms<'static> {
    CallTerms { started_ms: at(text), ..CallTerms::default() }
}

fn bill(tariff: &Tariff, usage: Usage, call: &CallTerms<'_>) -> Charge {
    let bill = charge(tariff, &Metered { usage: Some(usage), ..reported() }, &request(), call).unwrap();
    assert!(!bill.estimated);
    check_sum(&bill);
    bill
}

fn built_in() -> PriceBook {
    let entries = builtin(&[]).unwrap().entries;
    PriceBook::new([Layer { origin: Origin::BuiltIn, entries }], []).unwrap()
}

/// The usage of a case of `rails`, whose names differ (note 12, trap 5).
fn rails_usage(case: &Value) -> Usage {
    let count = |name: &str| case[name].as_u64().unwrap();
    let (five, hour) = (count("cache_write_5m"), count("cache_write_1h"));
    Usage {
        input_uncached: Some(count("input_uncached")),
        cache_read: Some(count("cache_read")),
        cache_write: Some(five + hour),
        cache_write_5m: Some(five),
        cache_write_1h: Some(hour),
        input_total: Some(count("input_uncached") + count("cache_read") + five + hour),
        output_total: Some(count("output_total")),
        reasoning: Some(count("reasoning_part_of_output")),
        ..Usage::default()
    }
}

/// r28: the hour decides, to the pico-USD: peak, off-peak, both edges, a Saturday, a holiday of the PRC; and beside it
/// lifetimes and lengths. By the prices that ship with the program.
#[test]
fn r28_window_edges() {
    let vectors: Value = serde_json::from_str(COST_VECTORS).unwrap();
    let (book, mut run, mut timed) = (built_in(), 0, 0);
    for case in vectors["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let model = name.split(' ').next().unwrap();
        let model = if name == "one cached token" { "deepseek-flash" } else { model };
        // Without a time of its own a case has off-peak prices.
        let start = case["at_utc"].as_str().unwrap_or("2026-11-17T05:00:00Z");
        let call = began(start);
        let found = book.lookup(model, None, call.started_ms).unwrap();
        let bill = bill(found.tariff, rails_usage(&case["usage"]), &call);
        let pico: u128 = case["cost_pico_usd"].as_str().unwrap().parse().unwrap();
        assert_eq!(bill.femto, Femto::from_units(pico * 1000), "{name}");
        let nano: i64 = case["cost_nano_usd_ceil"].as_str().unwrap().parse().unwrap();
        assert_eq!(bill.nano, Amount::from_units(nano), "{name}");
        run += 1;
        timed += i32::from(!case["at_utc"].is_null());
    }
    assert_eq!((run, timed), (10, 6));
    // The moments around the edges that the vectors leave out, by what 1000 generated tokens cost.
    let tariff = &book.lookup("deepseek-flash", None, 0).unwrap().tariff;
    let thousand = || Usage { output_total: Some(1000), input_total: Some(0), ..Usage::default() };
    for (start, nano) in [
        ("2026-11-17T00:59:59.999Z", 600_000),
        ("2026-11-17T01:00:00Z", 1_200_000),
        ("2026-11-17T03:59:59.999Z", 1_200_000),
        ("2026-11-17T04:00:00Z", 600_000),
        ("2026-11-17T06:00:00Z", 1_200_000),
        ("2026-11-17T10:00:00Z", 600_000),
        ("2026-10-10T02:00:00Z", 600_000),
    ] {
        assert_eq!(bill(tariff, thousand(), &began(start)).nano, Amount::from_units(nano), "{start}");
    }
}

/// MTR-50: a call that may cross into the peak is held at the peak, and billed by when it began.
#[test]
fn a_hold_covers_the_edge_that_the_call_may_cross() {
    let book = built_in();
    let tariff = &book.lookup("deepseek-flash", None, 0).unwrap().tariff;
    let facts = scan_request(Dialect::OpenAiChat, br#"{"model":"m","max_tokens":1000}"#).unwrap();
    let policy = HoldPolicy::default();
    for (case, start, until, output) in [
        ("off-peak throughout", "2026-11-17T00:00:00Z", "2026-11-17T00:59:00Z", 600),
        ("into the peak", "2026-11-17T00:55:00Z", "2026-11-17T01:05:00Z", 1200),
        ("out of it", "2026-11-17T03:55:00Z", "2026-11-17T04:05:00Z", 1200),
    ] {
        let call = began(start);
        let dearest = dearest_rates(tariff, &facts, 0, &policy, &call, at(until));
        let held = ceiling(&dearest, &facts, 0, &policy).unwrap();
        assert_eq!(held.nano, Amount::from_units(output * 1000), "{case}");
    }
}

/// The excerpt of LiteLLM's map, or `None` with a line that says so.
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

/// All cost cases from the map's own text to the nano: lengths, tiers, lifetimes, noise, seconds.
#[test]
fn cost_cases_by_catalogue() {
    let Some(excerpt) = excerpt() else { return };
    let entries = litellm::read(excerpt["models"].to_string().as_bytes(), None).unwrap().entries;
    let book = PriceBook::new([Layer { origin: Origin::Source("map".to_owned()), entries }], []).unwrap();
    let cases: Value = serde_json::from_str(COST_CASES).unwrap();
    let mut run = 0;
    for case in cases["cases"].as_array().unwrap() {
        let id = case["id"].as_str().unwrap();
        // The case of DeepSeek is one of the peak.
        let call = began("2026-11-17T02:00:00Z");
        let found = book.lookup(case["model"].as_str().unwrap(), None, call.started_ms).unwrap();
        let bill = bill(found.tariff, usage_of(&case["usage"]), &call);
        let expected = case["expect"]["nano_usd_ceil"].as_i64().unwrap();
        assert_eq!(bill.nano, Amount::from_units(expected), "{id}");
        run += 1;
    }
    assert_eq!(run, 15);
}

/// What an answer of a dialect is billed at: 1 nano-USD for what was read in full, 10 for a generated token.
fn billed(dialect: Dialect, content_type: &'static str, body: &str, rates: &Rates) -> (Metered, Charge) {
    let head = Head {
        status: 200,
        content_type: Some(content_type),
        content_encoding: None,
        hide_usage_chunk: false,
    };
    let answer = Answer { head, ..Answer::events(dialect, body.as_bytes()) };
    let metered = answer.check().0;
    let bill = flat_charge(rates, &metered, &request()).unwrap();
    check_sum(&bill);
    (metered, bill)
}

fn nano(nano: u64) -> Rate {
    Rate::from_femto(nano * 1_000_000)
}

const JSON: &str = "application/json";

/// r05: a zero that was reported is kept, and flagged where there was output; what was not reported is estimated.
#[test]
fn r05_zero_is_a_report() {
    let rates = Rates { input: nano(1), output: nano(10), ..Rates::default() };
    let text = r#""choices":[{"message":{"content":"12345678"}}]"#;
    let zero = format!(r#"{{{text},"usage":{{"prompt_tokens":0,"completion_tokens":0}}}}"#);
    let (metered, bill) = billed(Dialect::OpenAiChat, JSON, &zero, &rates);
    assert_eq!((metered.basis, bill.nano, bill.estimated), (Basis::Reported, Amount::ZERO, false));
    assert!(metered.anomalies.has(Anomaly::SuspiciousZero));
    let (metered, bill) = billed(Dialect::OpenAiChat, JSON, &format!("{{{text}}}"), &rates);
    assert_eq!(
        (metered.basis, bill.nano, bill.estimated),
        (Basis::Estimate, Amount::from_units(106 + 20), true)
    );
}

/// r06: 100 tokens of prompt, 60 of them from a cache, are 40 and 60 in every dialect's words.
#[test]
fn r06_cached_tokens_once() {
    let rates = Rates { input: nano(10), output: nano(100), cache_read: Some(nano(1)), ..Rates::default() };
    let chat =
        |usage: &str| format!(r#"{{"choices":[{{"message":{{"content":"x"}}}}],"usage":{{{usage}}}}}"#);
    let openai = r#""prompt_tokens":100,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":60}"#;
    let deepseek = r#""prompt_tokens":100,"completion_tokens":1,"prompt_cache_hit_tokens":60,"prompt_cache_miss_tokens":40,"prompt_tokens_details":{"cached_tokens":60}"#;
    let moonshot = r#""prompt_tokens":100,"completion_tokens":1,"cached_tokens":60"#;
    for (dialect, body) in [
        (Dialect::OpenAiChat, chat(openai)),
        (Dialect::DeepSeekChat, chat(deepseek)),
        (Dialect::MoonshotChat, chat(moonshot)),
        (
            Dialect::OpenAiResponses,
            r#"{"status":"completed","output":[{"content":[{"text":"x"}]}],"usage":{"input_tokens":100,"output_tokens":1,"input_tokens_details":{"cached_tokens":60}}}"#.to_owned(),
        ),
        (
            Dialect::AnthropicMessages,
            r#"{"content":[{"type":"text","text":"x"}],"stop_reason":"end_turn","usage":{"input_tokens":40,"cache_read_input_tokens":60,"cache_creation_input_tokens":0,"output_tokens":1}}"#.to_owned(),
        ),
        (
            Dialect::GeminiGenerate,
            r#"{"candidates":[{"content":{"parts":[{"text":"x"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":100,"cachedContentTokenCount":60,"candidatesTokenCount":1}}"#.to_owned(),
        ),
    ] {
        let (_, bill) = billed(dialect, JSON, &body, &rates);
        assert_eq!(bill.nano, Amount::from_units(400 + 60 + 100), "{dialect:?}");
    }
}

/// r07: OpenAI's reasoning is part of its output and Gemini's thoughts are not; each token is charged once, whether
/// reasoning has a price of its own or not.
#[test]
fn r07_reasoning_once() {
    let plain = Rates { output: nano(10), ..Rates::default() };
    let own = Rates { reasoning: Some(nano(100)), ..plain };
    let chat = r#"{"choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":1,"completion_tokens":100,"completion_tokens_details":{"reasoning_tokens":60}}}"#;
    let responses = r#"{"status":"completed","output":[{"content":[{"text":"x"}]}],"usage":{"input_tokens":1,"output_tokens":100,"output_tokens_details":{"reasoning_tokens":60}}}"#;
    let gemini = r#"{"candidates":[{"content":{"parts":[{"text":"x"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":40,"thoughtsTokenCount":60}}"#;
    for (dialect, body) in [
        (Dialect::OpenAiChat, chat),
        (Dialect::OpenAiResponses, responses),
        (Dialect::GeminiGenerate, gemini),
    ] {
        assert_eq!(billed(dialect, JSON, body, &plain).1.nano, Amount::from_units(1000), "{dialect:?}");
        let split = billed(dialect, JSON, body, &own).1.nano;
        assert_eq!(split, Amount::from_units(400 + 6000), "{dialect:?}: replaced, not added");
    }
}

/// The answer's tier decides the bill, and what the request asked for the hold.
#[test]
fn a_tier_is_billed_as_it_was_served() {
    let tiers: Changes = [(Item::Output, nano(20))].into_iter().collect();
    let cheap: Changes = [(Item::Output, nano(5))].into_iter().collect();
    let rates = Rates { input: nano(1), output: nano(10), ..Rates::default() };
    let tariff = Tariff::from(rates).with_tier("priority", tiers).with_tier("flex", cheap);
    let usage = |tier: Option<&str>| Usage {
        input_total: Some(0),
        output_total: Some(100),
        service_tier: tier.map(str::to_owned),
        ..Usage::default()
    };
    for (served, expected) in [(None, 1000), (Some("priority"), 2000), (Some("flex"), 500), (Some("x"), 1000)]
    {
        let bill = bill(&tariff, usage(served), &CallTerms::default());
        assert_eq!(bill.nano, Amount::from_units(expected), "{served:?}");
    }
    let policy = HoldPolicy::default();
    for (asked, expected) in [("default", 1000), ("priority", 2000), ("flex", 1000)] {
        let body = format!(r#"{{"model":"m","max_tokens":100,"service_tier":"{asked}"}}"#);
        let facts = scan_request(Dialect::OpenAiChat, body.as_bytes()).unwrap();
        assert!(tariff.sells_tier(facts.service_tier.as_deref()), "{asked}");
        let dearest = dearest_rates(&tariff, &facts, 0, &policy, &CallTerms::default(), 0);
        assert_eq!(
            ceiling(&dearest, &facts, 0, &policy).unwrap().nano,
            Amount::from_units(expected),
            "{asked}"
        );
    }
}

fn rate() -> impl Strategy<Value = Rate> {
    (0u64..1 << 36).prop_map(Rate::from_femto)
}

/// Changes of what a chat can use: tokens of every kind.
fn changes() -> impl Strategy<Value = Changes> {
    let items: Vec<Item> = Item::ALL.into_iter().filter(|item| item.is_token()).collect();
    prop::collection::vec((select(items), rate()), 0..8).prop_map(|all| all.into_iter().collect())
}

/// An answer that names no tier, or that nobody heard the end of, is not sold at the cheaper one by silence.
#[test]
fn a_tier_that_no_answer_names_is_the_dearer_one() {
    let (dear, cheap): (Changes, Changes) =
        ([(Item::Output, nano(20))].into_iter().collect(), [(Item::Output, nano(1))].into_iter().collect());
    let rates = Rates { input: nano(1), output: nano(10), ..Rates::default() };
    let tariff = Tariff::from(rates).with_tier("priority", dear).with_tier("flex", cheap);
    let usage =
        Usage { input_uncached: Some(0), input_total: Some(0), output_total: Some(1), ..Usage::default() };
    for (asked, said, expected) in [
        (Some("priority"), None, 20),
        (Some("priority"), Some("default"), 10),
        (Some("priority"), Some("priority"), 20),
        (Some("flex"), None, 10),
        (Some("flex"), Some("flex"), 1),
        (None, None, 10),
        (None, Some("priority"), 20),
    ] {
        let call = CallTerms { service_tier: asked, ..CallTerms::default() };
        let metered = Metered { service_tier: said.map(str::to_owned), ..reported() };
        let heard = Metered { usage: Some(usage.clone()), ..metered.clone() };
        let bill = charge(&tariff, &heard, &request(), &call).unwrap();
        assert_eq!(bill.nano.units(), expected, "{asked:?} {said:?}");
        let left = Metered { basis: Basis::Estimate, ..metered };
        let bill = charge(&tariff, &left, &request(), &call).unwrap();
        assert_eq!(bill.nano.units(), 106 + 100 * expected, "estimated, {asked:?} {said:?}");
    }
}

/// A stream that ends before its report has named its tier all the same.
#[test]
fn a_tier_is_known_before_the_report() {
    let mut answer = Answer::events(
        Dialect::OpenAiChat,
        b"data: {\"service_tier\":\"flex\",\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n",
    );
    answer.end = crate::End::ClientGone;
    let (metered, _) = answer.check();
    assert_eq!((metered.service_tier.as_deref(), metered.usage), (Some("flex"), None));
}

fn tiers() -> impl Strategy<Value = Vec<Tier>> {
    let tier = (select(vec!["flex", "priority"]), changes());
    prop::collection::vec(tier.prop_map(|(name, changes)| Tier { name: name.to_owned(), changes }), 0..3)
}

fn tariffs() -> impl Strategy<Value = Tariff> {
    let lengths =
        (0u64..800, changes(), tiers()).prop_map(|(over, changes, tiers)| Length { over, changes, tiers });
    let windows = (0u32..24, 0u32..24, changes()).prop_map(|(from, to, changes)| Window {
        name: "peak".to_owned(),
        when: When::new(
            Zone::utc(),
            Weekdays::ALL,
            vec![Hours::parse(&format!("{from:02}:00-{to:02}:00")).unwrap()],
        ),
        changes,
    });
    let lengths = prop::collection::vec(lengths, 0..3);
    (changes(), tiers(), lengths, prop::collection::vec(windows, 0..3), 0i64..1 << 30).prop_map(
        |(base, tiers, lengths, windows, fee)| {
            let mut rates = Rates { per_call: Some(Amount::from_units(fee)), ..Rates::default() };
            base.iter().for_each(|(item, rate)| rates.set(item, rate));
            let tariff = tiers
                .into_iter()
                .fold(Tariff::from(rates), |all, tier| all.with_tier(&tier.name, tier.changes));
            let tariff = lengths.into_iter().fold(tariff, Tariff::with_length);
            windows.into_iter().fold(tariff, Tariff::with_window)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// MTR-10, MTR-32: whatever a call uses within what its request allows, its bill is within what was held for it.
    #[test]
    fn no_bill_is_above_its_ceiling(
        tariff in tariffs(),
        asked in prop::option::of(select(vec!["flex", "priority"])),
        granted in any::<bool>(),
        (choices, limit) in (1u64..4, 1u64..500),
        picture in any::<bool>(),
        (from_ms, after_ms, life_ms) in (0i64..86_400_000, 0i64..7_200_000, 0i64..7_200_000),
        parts in prop::collection::vec(0u64..=1000, 8),
    ) {
        let tier = asked.map_or_else(String::new, |tier| format!(",\"service_tier\":\"{tier}\""));
        let content = if picture { r#"[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]"# } else { r#""hello""# };
        let body = format!(
            r#"{{"model":"m","n":{choices},"max_tokens":{limit},"messages":[{{"role":"user","content":{content}}}]{tier}}}"#
        );
        let facts = scan_request(Dialect::OpenAiChat, body.as_bytes()).unwrap();
        prop_assert_eq!(facts.media_parts > 0, picture);
        let policy = HoldPolicy { input_bound: InputBound::Bytes, ..HoldPolicy::default() };
        let (bytes, until_ms) = (body.len() as u64, from_ms + life_ms);
        let call = CallTerms { started_ms: from_ms, ..CallTerms::default() };
        let dearest = dearest_rates(&tariff, &facts, bytes, &policy, &call, until_ms);
        let held = ceiling(&dearest, &facts, bytes, &policy).unwrap();
        // Shares of what is allowed, in thousandths.
        let share = |at: usize, of: u64| of * parts[at] / 1000;
        let input = share(0, held.input_tokens);
        let read = share(1, input);
        let write = share(2, input - read);
        let output = share(3, limit * choices);
        let reasoning = share(4, output);
        let heard = if picture { share(6, input) } else { 0 };
        let usage = Usage {
            input_total: Some(input),
            input_uncached: Some(input - read - write),
            cache_read: Some(read),
            cache_write: Some(write),
            cache_write_1h: Some(share(5, write)),
            output_total: Some(output),
            reasoning: Some(reasoning),
            audio_in: Some(heard),
            image_in: Some(if picture { share(7, input - heard) } else { 0 }),
            audio_out: Some(share(7, output - reasoning)),
            service_tier: asked.filter(|_| granted).map(str::to_owned),
            ..Usage::default()
        };
        let started = CallTerms { started_ms: from_ms + after_ms.min(life_ms), ..CallTerms::default() };
        let bill = charge(&tariff, &Metered { usage: Some(usage), ..reported() }, &request(), &started).unwrap();
        prop_assert!(bill.femto <= held.cost, "{:?} over {:?}", bill.lines, held);
        prop_assert!(bill.nano <= held.nano);
    }
}
