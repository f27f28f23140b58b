//! The lists of models.dev, our own and hostile ones: what is read, and what is passed over.

use std::sync::Arc;

use super::{PLAIN, at, charged, one};
use crate::{
    CATALOGUE_BYTES_MAX, Calendar, CatalogueError, Item, SkipReason as Skip, Terms, litellm, models_dev, own,
};

#[test]
fn models_dev_table() {
    let list = |model: &str| {
        let text = format!(
            r#"{{"p":{{"id":"p","models":{{"m":{model},"z":{{"cost":{{"input":1,"output":1}}}}}}}},"q":7}}"#
        );
        one(models_dev::read(text.as_bytes(), Some("p")))
    };
    let tiers = r#"{"cost":{"input":0.15,"output":5.0000000000000004e-01,"cache_read":0.003,"reasoning":0.7,"input_audio":1,
        "tiers":[{"input":0.3,"output":1,"tier":{"type":"context","size":272000}}],"context_over_200k":{"input":9,"output":9}},
        "limit":{"context":1000,"output":64},"name":"M"}"#;
    let older = r#"{"cost":{"input":1,"output":2,"context_over_200k":{"input":2,"output":3}}}"#;
    for (case, model, input_total, item, expected) in [
        ("per million", tiers, 0, Item::Input, "0.15"),
        ("noise", tiers, 0, Item::Output, "0.5"),
        ("cache reads", tiers, 0, Item::CacheRead, "0.003"),
        ("reasoning", tiers, 0, Item::Reasoning, "0.7"),
        ("sound", tiers, 0, Item::AudioIn, "1"),
        ("tiers say their length", tiers, 272_000, Item::Input, "0.15"),
        ("above it", tiers, 272_001, Item::Input, "0.3"),
        ("the older member", older, 200_001, Item::Output, "3"),
        ("below it", older, 200_000, Item::Output, "2"),
    ] {
        let tariff = list(model).unwrap();
        let terms = Terms { input_total, ..Terms::default() };
        assert_eq!(charged(&tariff, &terms, item), format!("{expected} USD/Mtok"), "{case}");
    }
    let base = *list(tiers).unwrap().base();
    assert_eq!((base.max_input_tokens, base.max_output_tokens), (Some(1000), Some(64)));
    for (model, expected) in [
        ("{}", Skip::Unpriced("anything")),
        ("7", Skip::Member("model".into())),
        (r#"{"cost":{"input":1}}"#, Skip::Unpriced("output")),
        (r#"{"cost":{"input":-1,"output":1}}"#, Skip::Member("input".into())),
        (r#"{"cost":{"input":1,"output":1,"input":0}}"#, Skip::MemberTwice("input".into())),
        (r#"{"cost":{"input":1,"output":1,"per_minute":0.1}}"#, Skip::Uncounted("per_minute".into())),
        (r#"{"cost":{"input":1,"output":1,"tiers":[{"input":1}]}}"#, Skip::Member("tiers".into())),
        (
            r#"{"cost":{"input":1,"output":1,"tiers":[{"input":1,"tier":{"type":"batch","size":1}}]}}"#,
            Skip::Member("tiers".into()),
        ),
    ] {
        assert_eq!(list(model), Err(expected), "{model}");
    }
    let named = models_dev::read(br#"{"p":{"models":{"m":{"cost":{"input":1,"output":1}}}}}"#, None).unwrap();
    assert_eq!(named.entries[0].model, "p/m");
}

#[test]
fn own_list() {
    let list = |model: &str, calendars: &[Arc<Calendar>]| {
        let text = format!(
            r#"{{"calendars":{{"prc":["2026-10-01"],"bad":["tomorrow"]}},
                "models":{{"m":{model},"z":{{"per_call":"1 USD"}}}}}}"#
        );
        one(own::read(text.as_bytes(), calendars))
    };
    let whole = r#"{"input":"1 USD/Mtok","output":"4 USD/Mtok","second":"0.001 USD","per_call":"0.01 USD","source":"x",
        "tiers":{"flex":{"input":"0.5 USD/Mtok"}},
        "over":{"1000":{"input":"2 USD/Mtok","tiers":{"flex":{"input":"1.5 USD/Mtok"}}}},
        "windows":[{"name":"peak","zone":"Asia/Shanghai","days":["thu"],"hours":["09:00-12:00"],"except":"prc","output":"9 USD/Mtok"}],
        "multipliers":{"geo us":"1.1"},"max_output_tokens":64}"#;
    let facts = list(whole, &[]).unwrap().facts();
    let lines: Vec<String> = facts.iter().map(|fact| format!("{}: {}", fact.what, fact.value)).collect();
    assert_eq!(
        lines,
        [
            "input: 1 USD/Mtok",
            "output: 4 USD/Mtok",
            "second: 0.001 USD",
            "per_call: 0.01 USD",
            "max_output_tokens: 64",
            "input, service tier flex: 0.5 USD/Mtok",
            "input, prompt above 1000 tokens: 2 USD/Mtok",
            "input, prompt above 1000 tokens, service tier flex: 1.5 USD/Mtok",
            "peak hours: thu 09:00-12:00 Asia/Shanghai, not on prc",
            "calendar prc: 2026-10-01",
            "output, peak hours: 9 USD/Mtok",
            "geo us: x1.1",
        ]
    );
    let output = |calendars: &[Arc<Calendar>], moment| {
        charged(
            &list(whole, calendars).unwrap(),
            &Terms { at_ms: at(moment), ..Terms::default() },
            Item::Output,
        )
    };
    assert_eq!(output(&[], "2026-10-01T01:00:00Z"), "4 USD/Mtok", "a holiday");
    let later = Arc::new(Calendar::new("prc", ["2027-10-01"]).unwrap());
    assert_eq!(
        output(&[later], "2026-10-01T01:00:00Z"),
        "9 USD/Mtok",
        "a calendar that is given takes the place of its own"
    );
    for (model, expected) in [
        (r#"{"input":"1 USD/Mtok"}"#, Skip::Unpriced("output")),
        (r#"{"input":"1 USD/Mtok","output":4}"#, Skip::Member("output".into())),
        (r#"{"input":"1 USD/Mtok","output":"4"}"#, Skip::Member("output".into())),
        (r#"{"input":"1 USD/Mtok","output":"4 USD/Mtok","colour":"red"}"#, Skip::Member("colour".into())),
        (r#"{"per_call":"1 TEST"}"#, Skip::Member("per_call".into())),
        (r#"{"per_call":"1 USD","since":"soon"}"#, Skip::Member("since".into())),
        (r#"{"per_call":"1 USD","multipliers":{"us":"1.1"}}"#, Skip::Member("multipliers".into())),
        (
            r#"{"per_call":"1 USD","windows":[{"name":"p","hours":["1:00-2:00"],"except":"bad","input":"1 USD/Mtok"}]}"#,
            Skip::Member("windows".into()),
        ),
        (r#"{"per_call":"1 USD","tiers":{"flex":{"image":"1 USD"}}}"#, Skip::Member("image".into())),
        (r#"{"per_call":"1 USD","max_output_tokens":0}"#, Skip::Member("max_output_tokens".into())),
        (r#"{"per_call":"1 USD","over":{"-1":{}}}"#, Skip::Member("over".into())),
    ] {
        assert_eq!(list(model, &[]), Err(expected), "{model}");
    }
    let dated = r#"{"models":{"m":[{"per_call":"1 USD"},{"since":"2026-08-16","per_call":"2 USD"}]}}"#;
    let since: Vec<_> =
        own::read(dated.as_bytes(), &[]).unwrap().entries.iter().map(|entry| entry.since_ms).collect();
    assert_eq!(since, [None, Some(at("2026-08-16"))]);
}

/// A hostile list is an error or a list, at once and within bounds.
#[test]
fn hostile_lists() {
    let deep = format!("{{\"m\":{}1{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    let open = "[".repeat(1_000_000);
    let wide = format!("{{\"m\":{{{}\"z\":1}}}}", "\"a\":1,".repeat(200_000));
    let long_name = format!("{{\"{}\":{{{PLAIN}}},\"z\":{{{PLAIN}}}}}", "n".repeat(257));
    let many_digits = format!("{{\"m\":{{\"input_cost_per_token\":0.{}}}}}", "9".repeat(100_000));
    for (case, text, expected) in [
        ("nothing", "", Err(CatalogueError::NotAnObject)),
        ("a list", "[]", Err(CatalogueError::NotAnObject)),
        ("no models", "{}", Err(CatalogueError::Empty)),
        ("cut off", "{\"m\":{", Err(CatalogueError::NotAnObject)),
        ("more behind it", "{} {}", Err(CatalogueError::NotAnObject)),
        ("not a number", "{\"m\":{\"input_cost_per_token\":NaN}}", Err(CatalogueError::NotAnObject)),
        ("only open brackets", open.as_str(), Err(CatalogueError::NotAnObject)),
        ("deep", deep.as_str(), Err(CatalogueError::Empty)),
        ("wide", wide.as_str(), Err(CatalogueError::Empty)),
        ("many digits", many_digits.as_str(), Err(CatalogueError::Empty)),
        ("a long name", long_name.as_str(), Ok(1)),
    ] {
        let read = litellm::read(text.as_bytes(), None).map(|catalogue| catalogue.entries.len());
        assert_eq!(read, expected, "{case}");
        assert!(models_dev::read(text.as_bytes(), None).is_err(), "{case}");
        assert!(own::read(text.as_bytes(), &[]).is_err(), "{case}");
    }
    assert_eq!(litellm::read(b"\xff{}", None), Err(CatalogueError::NotAnObject));
    let large = vec![b' '; CATALOGUE_BYTES_MAX + 1];
    assert_eq!(litellm::read(&large, None), Err(CatalogueError::TooLarge));
    let marked = format!("\u{feff}{{\"z\":{{{PLAIN}}}}}");
    assert_eq!(litellm::read(marked.as_bytes(), None).unwrap().entries.len(), 1, "a byte order mark");
}
