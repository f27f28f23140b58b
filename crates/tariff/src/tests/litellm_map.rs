//! LiteLLM's map: what its members mean, and which models are passed over.

use super::{PLAIN, at, charged, one, shown};
use crate::{Catalogue, CatalogueError, Item, SkipReason as Skip, Tariff, Terms, litellm};

/// The one model of a map, with these members.
fn map_with(members: &str) -> Result<Tariff, Skip> {
    // A second model, so that a map whose only model is passed over is not an empty one.
    let text = format!(r#"{{"m":{{{members}}},"z":{{"input_cost_per_token":1,"output_cost_per_token":1}}}}"#);
    one(litellm::read(text.as_bytes(), None))
}

#[test]
fn rates_table() {
    let long = |input_total| Terms { input_total, ..Terms::default() };
    let tier = |service_tier| Terms { service_tier: Some(service_tier), ..Terms::default() };
    let none = Terms::default();
    for (case, more, terms, item, expected) in [
        (
            "MTR-42 noise is rounded once",
            r#""cache_read_input_token_cost":5.0000000000000004e-08"#,
            none,
            Item::CacheRead,
            "0.05 USD/Mtok",
        ),
        (
            "MTR-42 half to even",
            r#""cache_read_input_token_cost":0.0000000000000025"#,
            none,
            Item::CacheRead,
            "0.000000002 USD/Mtok",
        ),
        ("an absent cache rate is the input's", r#""x":1"#, none, Item::CacheRead, "1 USD/Mtok"),
        ("zero is a price", r#""cache_read_input_token_cost":0.0"#, none, Item::CacheRead, "0 USD/Mtok"),
        (
            "by its older name",
            r#""input_cost_per_token_cache_hit":1e-7"#,
            none,
            Item::CacheRead,
            "0.1 USD/Mtok",
        ),
        (
            "the newer one wins",
            r#""input_cost_per_token_cache_hit":1e-7,"cache_read_input_token_cost":2e-7"#,
            none,
            Item::CacheRead,
            "0.2 USD/Mtok",
        ),
        (
            "lifetimes",
            r#""cache_creation_input_token_cost":2e-6,"cache_creation_input_token_cost_above_1hr":3e-6"#,
            none,
            Item::CacheWrite1h,
            "3 USD/Mtok",
        ),
        (
            "a lifetime without a rate",
            r#""cache_creation_input_token_cost":2e-6"#,
            none,
            Item::CacheWrite12h,
            "2 USD/Mtok",
        ),
        (
            "a length",
            r#""output_cost_per_token_above_200k_tokens":6e-6"#,
            long(200_001),
            Item::Output,
            "6 USD/Mtok",
        ),
        (
            "is strictly above",
            r#""output_cost_per_token_above_200k_tokens":6e-6"#,
            long(200_000),
            Item::Output,
            "4 USD/Mtok",
        ),
        (
            "but for xai",
            r#""litellm_provider":"xai","output_cost_per_token_above_200k_tokens":6e-6"#,
            long(200_000),
            Item::Output,
            "6 USD/Mtok",
        ),
        (
            "and below it",
            r#""litellm_provider":"xai","output_cost_per_token_above_200k_tokens":6e-6"#,
            long(199_999),
            Item::Output,
            "4 USD/Mtok",
        ),
        (
            "any length",
            r#""input_cost_per_token_above_32k_tokens":2e-6,"input_cost_per_token_above_512k_tokens":3e-6"#,
            long(600_000),
            Item::Input,
            "3 USD/Mtok",
        ),
        ("a tier", r#""input_cost_per_token_balanced":2e-6"#, tier("balanced"), Item::Input, "2 USD/Mtok"),
        (
            "fast is priority",
            r#""input_cost_per_token_priority":2e-6"#,
            tier("fast"),
            Item::Input,
            "2 USD/Mtok",
        ),
        ("null says nothing", r#""cache_read_input_token_cost":null"#, none, Item::CacheRead, "1 USD/Mtok"),
        ("reasoning", r#""output_cost_per_reasoning_token":9e-6"#, none, Item::Reasoning, "9 USD/Mtok"),
        (
            "reasoning at the output's rate follows it",
            r#""output_cost_per_reasoning_token":4e-6,"output_cost_per_token_flex":2e-6"#,
            tier("flex"),
            Item::Reasoning,
            "2 USD/Mtok",
        ),
        ("sound", r#""input_cost_per_audio_token":9e-6"#, none, Item::AudioIn, "9 USD/Mtok"),
        (
            "searches",
            r#""search_context_cost_per_query":{"search_context_size_low":0.01,"search_context_size_high":0.03}"#,
            none,
            Item::WebSearch,
            "0.03 USD",
        ),
        (
            "a price of what it does not make",
            r#""output_cost_per_image":0.1,"supported_output_modalities":["text"]"#,
            none,
            Item::Output,
            "4 USD/Mtok",
        ),
        (
            "films at the rate of text",
            r#""input_cost_per_video_token":1e-6"#,
            none,
            Item::Input,
            "1 USD/Mtok",
        ),
        (
            "names we do not know",
            r#""input_cost_per_token_gold":9,"supports_vision":true,"rpm":"many""#,
            none,
            Item::Input,
            "1 USD/Mtok",
        ),
    ] {
        let tariff = map_with(&format!("{PLAIN},{more}")).unwrap();
        assert_eq!(charged(&tariff, &terms, item), expected, "{case}");
    }
}

#[test]
fn ranges() {
    let tariff = map_with(
        r#""cache_read_input_token_cost":9e-6,"output_cost_per_token":8e-6,"tiered_pricing":[
            {"range":[256e3,1000000.0],"input_cost_per_token":3e-6},
            {"range":[0,32000.0],"input_cost_per_token":1e-6,"output_cost_per_token":4e-6,"cache_read_input_token_cost":1e-7},
            {"range":[32000.0,256e3],"input_cost_per_token":2e-6,"output_cost_per_token":5e-6}]"#,
    )
    .unwrap();
    for (input_total, input, cache_read, output) in [
        (0, "1", "0.1", "4"),
        (32_000, "1", "0.1", "4"),
        (32_001, "2", "2", "5"),
        (256_000, "2", "2", "5"),
        (256_001, "3", "3", "8"),
        (9_000_000, "3", "3", "8"),
    ] {
        let terms = Terms { input_total, ..Terms::default() };
        for (item, expected) in [(Item::Input, input), (Item::CacheRead, cache_read), (Item::Output, output)]
        {
            assert_eq!(
                charged(&tariff, &terms, item),
                format!("{expected} USD/Mtok"),
                "{input_total} {item:?}"
            );
        }
    }
}

#[test]
fn hours() {
    let off_peak = |more: &str| {
        map_with(&format!(r#"{PLAIN},"off_peak_pricing":{{"input_cost_per_token":5e-7,{more}}}"#))
    };
    let night = r#""hours_utc":"16:30-00:30""#;
    let weekend = r#""windows":[{"hours_utc":["00:00-00:00"],"weekdays":["Saturday",7]}],"weekday_timezone":"Asia/Shanghai""#;
    for (case, more, moment, expected) in [
        ("past midnight", night, "2026-11-17T00:29:00Z", "0.5"),
        ("the end is outside", night, "2026-11-17T00:30:00Z", "1"),
        ("weekdays of a zone", weekend, "2026-11-20T16:00:00Z", "0.5"),
        ("before them", weekend, "2026-11-20T15:59:00Z", "1"),
    ] {
        let terms = Terms { at_ms: at(moment), ..Terms::default() };
        let tariff = off_peak(more).unwrap();
        assert_eq!(charged(&tariff, &terms, Item::Input), format!("{expected} USD/Mtok"), "{case}");
        assert_eq!(charged(&tariff, &terms, Item::Output), "4 USD/Mtok", "{case}");
    }
    for bad in [
        r#""hours_utc":"25:00-01:00""#,
        r#""hours_utc":[]"#,
        r#""x":1"#,
        r#""hours_utc":"1:00-2:00","weekday_timezone":"Nowhere""#,
        r#""windows":[{"weekdays":[1]}]"#,
        r#""windows":[{"hours_utc":"1:00-2:00","weekdays":[0]}]"#,
        r#""windows":{},"hours_utc":"1:00-2:00""#,
    ] {
        assert_eq!(off_peak(bad), Err(Skip::Member("off_peak_pricing".into())), "{bad}");
    }
}

#[test]
fn factors() {
    let tariff = map_with(&format!(
        r#"{PLAIN},"provider_specific_entry":{{"us":1.1,"fast":2.0,"bedrock_invocation_schema":"x"}},
           "regional_processing_uplift_multiplier_eu":1.25,"regional_endpoint_uplift_multiplier":1.1"#
    ))
    .unwrap();
    for (geo, speed, region, expected) in [
        (Some("us"), Some("fast"), None, "2.2"),
        (None, None, Some("eu"), "1.25"),
        (None, None, Some("asia"), "1.1"),
        (Some("fast"), None, None, "1"),
    ] {
        let terms = Terms { inference_geo: geo, speed, region, ..Terms::default() };
        assert_eq!(
            charged(&tariff, &terms, Item::Input),
            format!("{expected} USD/Mtok"),
            "{geo:?} {speed:?} {region:?}"
        );
    }
}

#[test]
fn units() {
    for (case, members, item, expected) in [
        (
            "the dearer of two",
            r#""mode":"audio_transcription","input_cost_per_second":1e-4,"output_cost_per_second":2e-4"#,
            Item::Second,
            "0.0002 USD",
        ),
        (
            "characters",
            r#""mode":"audio_speech","input_cost_per_character":1.5e-5"#,
            Item::Character,
            "15 USD/Mchar",
        ),
        (
            "an image made",
            r#""mode":"image_generation","output_cost_per_image":0.04"#,
            Item::Image,
            "0.04 USD",
        ),
        (
            "by its older name",
            r#""mode":"image_generation","input_cost_per_image":0.04"#,
            Item::Image,
            "0.04 USD",
        ),
        (
            "where only images have a price text has no cheaper one",
            r#""mode":"image_edit","output_cost_per_image_token":4e-5"#,
            Item::Output,
            "40 USD/Mtok",
        ),
        (
            "an embedding has no output",
            r#""mode":"embedding","input_cost_per_token":2e-8"#,
            Item::Input,
            "0.02 USD/Mtok",
        ),
    ] {
        assert_eq!(shown(map_with(members).unwrap().base(), item), expected, "{case}");
    }
    let heard = r#""mode":"audio_transcription","input_cost_per_token":1e-6,"output_cost_per_token":1e-6,"input_cost_per_second":1e-4"#;
    assert_eq!(map_with(heard).unwrap().base().second, None, "by the token, not by the second as well");
    let fee =
        map_with(&format!("{PLAIN},\"input_cost_per_request\":0.005,\"max_output_tokens\":8192.0")).unwrap();
    assert_eq!(fee.base().per_call, Some(money::Amount::from_units(5_000_000)));
    assert_eq!(fee.base().max_output_tokens, Some(8192));
    let zero = map_with(&format!("{PLAIN},\"max_output_tokens\":0")).unwrap();
    assert_eq!(zero.base().max_output_tokens, None, "a hold for nothing would be no hold");
}

/// MTR-47: a model is passed over and told, never sold at a part of its price.
#[test]
fn reasons_table() {
    let member = |name: &str| Skip::Member(name.to_owned());
    let uncounted = |name: &str| Skip::Uncounted(name.to_owned());
    for (members, expected) in [
        (r#""input_cost_per_token":1e-6"#, Skip::Unpriced("output")),
        (r#""output_cost_per_token":1e-6"#, Skip::Unpriced("input")),
        ("", Skip::Unpriced("input")),
        (r#""input_cost_per_token":"1e-6","output_cost_per_token":1"#, member("input_cost_per_token")),
        (r#""input_cost_per_token":-1e-6,"output_cost_per_token":1"#, member("input_cost_per_token")),
        (r#""input_cost_per_token":1e30,"output_cost_per_token":1"#, member("input_cost_per_token")),
        (r#""input_cost_per_token":true,"output_cost_per_token":1"#, member("input_cost_per_token")),
        (r#""input_cost_per_token":[1],"output_cost_per_token":1"#, member("input_cost_per_token")),
        (
            r#""input_cost_per_token":1,"input_cost_per_token":2,"output_cost_per_token":1"#,
            Skip::MemberTwice("input_cost_per_token".into()),
        ),
        (
            r#""input_cost_per_token":1,"\u0069nput_cost_per_token":2,"output_cost_per_token":1"#,
            Skip::MemberTwice("input_cost_per_token".into()),
        ),
        (
            r#""input_cost_per_token":1,"output_cost_per_token":1,"max_output_tokens":"8k""#,
            member("max_output_tokens"),
        ),
        (
            r#""input_cost_per_token":1,"output_cost_per_token":1,"output_cost_per_token_flex":"x""#,
            member("output_cost_per_token_flex"),
        ),
        (
            r#""input_cost_per_token":1,"output_cost_per_token":1,"tiered_pricing":[]"#,
            member("tiered_pricing"),
        ),
        (
            r#""input_cost_per_token":1,"output_cost_per_token":1,"tiered_pricing":[{"range":[5,5],"input_cost_per_token":1}]"#,
            member("tiered_pricing"),
        ),
        (
            r#""input_cost_per_token":1,"output_cost_per_token":1,"tiered_pricing":[{"range":[0,5]}]"#,
            member("tiered_pricing"),
        ),
        (
            r#""input_cost_per_token":1,"output_cost_per_token":1,"tiered_pricing":[{"range":[0,5],"input_cost_per_token":1},{"range":[0,9],"input_cost_per_token":2}]"#,
            member("tiered_pricing"),
        ),
        (
            r#""input_cost_per_token":1,"output_cost_per_token":1,"provider_specific_entry":{"us":-1}"#,
            member("provider_specific_entry"),
        ),
        (
            r#""input_cost_per_token":1,"output_cost_per_token":1,"provider_specific_entry":{"us":1e6}"#,
            member("provider_specific_entry"),
        ),
        (
            r#""input_cost_per_token":1,"output_cost_per_token":1,"search_context_cost_per_query":0.1"#,
            member("search_context_cost_per_query"),
        ),
        (
            r#""input_cost_per_token":0,"output_cost_per_token":0,"output_cost_per_second":0.1"#,
            uncounted("cost_per_second"),
        ),
        (
            r#""input_cost_per_token":1,"output_cost_per_token":1,"input_cost_per_image":0.1"#,
            uncounted("input_cost_per_image"),
        ),
        (
            r#""input_cost_per_token":1,"output_cost_per_token":1,"output_cost_per_image":0.1"#,
            uncounted("output_cost_per_image"),
        ),
        (r#""mode":"image_generation","output_cost_per_pixel":1e-8"#, uncounted("output_cost_per_pixel")),
        (r#""mode":"image_generation""#, Skip::Unpriced("images")),
        (r#""mode":"image_generation","output_cost_per_token":0.0"#, Skip::Unpriced("images")),
        (
            r#""mode":"image_generation","output_cost_per_image":0.1,"output_cost_per_image_4K":0.2"#,
            uncounted("output_cost_per_image_4K"),
        ),
        (
            r#""input_cost_per_token":1,"output_cost_per_token":1,"input_cost_per_video_token":2"#,
            uncounted("input_cost_per_video_token"),
        ),
        (r#""mode":"audio_speech","input_cost_per_token":1"#, Skip::Unpriced("characters")),
        (r#""mode":"audio_transcription","input_cost_per_token":1"#, Skip::Unpriced("sound")),
        (r#""mode":"rerank","input_cost_per_query":0.1"#, Skip::Mode("rerank".into())),
    ] {
        assert_eq!(map_with(members), Err(expected), "{members}");
    }
}

#[test]
fn names() {
    let map = format!(
        r#"{{"sample_spec":{{"mode":"one of chat, ..."}},
            "fallback_generalizations":{{"rules":[]}},
            "a/one":{{{PLAIN},"litellm_provider":"a"}},
            "b/two":{{{PLAIN},"litellm_provider":"b"}},
            "b/one":{{{PLAIN},"litellm_provider":"b"}},
            "b/":{{{PLAIN},"litellm_provider":"b"}},
            "*":{{{PLAIN}}},
            "twice":{{{PLAIN}}},"twice":{{{PLAIN},"cache_read_input_token_cost":0}},
            "same":{{{PLAIN}}},"same":{{{PLAIN}}},
            "text":"x","list":[]}}"#
    );
    let names = |catalogue: &Catalogue| -> Vec<String> {
        catalogue.entries.iter().map(|entry| entry.model.clone()).collect()
    };
    let all = litellm::read(map.as_bytes(), None).unwrap();
    assert_eq!(names(&all), ["a/one", "b/", "b/one", "b/two", "same"]);
    let skipped: Vec<_> =
        all.skipped.iter().map(|skipped| (skipped.model.as_str(), skipped.reason.clone())).collect();
    let none = Skip::Unpriced("input");
    assert_eq!(skipped, [("*", Skip::Name), ("text", none.clone()), ("list", none), ("twice", Skip::Twice)]);
    let own = litellm::read(map.as_bytes(), Some("b")).unwrap();
    assert_eq!(names(&own), ["one", "two"], "as the provider's API names them");
    assert_eq!(own.skipped.len(), 1, "a name that is only a prefix");
    assert_eq!(litellm::read(map.as_bytes(), Some("c")), Err(CatalogueError::Empty));
}
