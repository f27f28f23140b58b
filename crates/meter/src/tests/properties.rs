//! Properties that hold for any bytes.

use money::{Amount, Rate};
use proptest::prelude::*;
use serde_json::{Map, Value};

use super::Answer;
use crate::{Dialect, End, Ending, HoldPolicy, InputBound, Meter, affordable_output, ceiling, scan_request};
use tariff::Rates;

/// Pieces that streams are made of, good and bad, so that random streams reach every state.
const PIECES: [&str; 26] = [
    "data: ",
    "data:",
    "event: message_delta",
    "event: error",
    ": c",
    "id: 1",
    "\n",
    "\r",
    "\r\n",
    "\n\n",
    "\r\r",
    "\r\n\r\n",
    "[DONE]",
    "{\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}",
    "{\"choices\":[{\"delta\":{\"content\":\"h\\u00e9\\ud83d\\ude80\"},\"finish_reason\":\"stop\"}],\"usage\":null}",
    "{\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}",
    "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"x\"},\"usage\":{\"output_tokens\":5}}",
    "{\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}",
    "{\"error\":{}}",
    "{\"usage\":{\"prompt_tokens\":",
    "\\ud83d",
    "\"}",
    "{",
    "]",
    "\u{feff}",
    "-1.5e3",
];

fn dialects() -> impl Strategy<Value = Dialect> {
    proptest::sample::select(Dialect::ALL.to_vec())
}

fn ends() -> impl Strategy<Value = End> {
    proptest::sample::select(vec![End::Eof, End::Reset, End::ClientGone])
}

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::collection::vec(proptest::sample::select(PIECES.to_vec()), 0..24);
    prop_oneof![
        pieces.prop_map(|pieces| pieces.concat().into_bytes()),
        prop::collection::vec(any::<u8>(), 0..200),
    ]
}

fn heads() -> impl Strategy<Value = (Option<&'static str>, Option<&'static str>, bool)> {
    let types = vec![None, Some("text/event-stream"), Some("application/json")];
    let encodings = vec![None, None, None, Some("gzip"), Some("deflate, gzip"), Some("br")];
    (proptest::sample::select(types), proptest::sample::select(encodings), any::<bool>())
}

/// JSON values, with names that the scanners look for.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        let names = prop_oneof![
            proptest::sample::select(vec!["messages", "content", "usage", "choices", "cache_control"])
                .prop_map(str::to_owned),
            "\\PC{0,8}",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((names, inner), 0..5).prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

/// Events as providers send them, each with a text, a number and padding of its own.
fn event(shape: usize, text: &str, number: u64, padding: &str) -> (Dialect, String) {
    let data = |name: &str, data: String| format!("{name}data: {data}\n\n");
    let returns = |(dialect, event): (Dialect, String)| (dialect, event.replace('\n', "\r\n"));
    match shape % 9 {
        0 => (
            Dialect::OpenAiChat,
            data(
                "",
                format!(
                    r#"{{"id":"c","object":"chunk","created":{number},"model":"m","choices":[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":null}}],"usage":null,"obfuscation":"{padding}"}}"#
                ),
            ),
        ),
        1 => (
            Dialect::OpenAiResponses,
            data(
                "event: response.output_text.delta\n",
                format!(
                    r#"{{"type":"response.output_text.delta","sequence_number":{number},"delta":"{text}","obfuscation":"{padding}"}}"#
                ),
            ),
        ),
        2 => (
            Dialect::AnthropicMessages,
            data(
                "event: content_block_delta\n",
                format!(
                    r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{text}"}}}}"#
                ),
            ),
        ),
        3 => (
            Dialect::OpenAiChat,
            data(
                "",
                format!(
                    r#"{{"id":"c","choices":[{{"index":{number},"delta":{{"tool_calls":[{{"index":0,"function":{{"arguments":"{text}"}}}}],"reasoning":"{padding}"}}}}]}}"#
                ),
            ),
        ),
        4 => (
            Dialect::GeminiGenerate,
            data(
                "",
                format!(
                    r#"{{"candidates":[{{"content":{{"parts":[{{"text":"{text}"}}],"role":"model"}},"index":0}}],"usageMetadata":{{"promptTokenCount":8,"candidatesTokenCount":{number}}}}}"#
                ),
            ),
        ),
        5 => (
            Dialect::LlamaCppCompletion,
            data("", format!(r#"{{"index":0,"content":"{text}","tokens":[{number}],"stop":false}}"#)),
        ),
        7 => returns(self::event(4, text, number, padding)),
        8 => (
            Dialect::VllmChat,
            data(
                "",
                format!(
                    r#"{{"choices":[{{"delta":{{"content":"{text}"}}}}],"usage":{{"prompt_tokens":9,"completion_tokens":{number},"prompt_tokens_details":null}},"x":"{padding}"}}"#
                ),
            ),
        ),
        _ => (
            Dialect::OpenAiCompletions,
            data(
                "",
                format!(r#"{{"id":"c","choices":[{{"text":"{text}","index":{number},"logprobs":null}}]}}"#),
            ),
        ),
    }
}

/// Streams of such events with others between them, and now and then a byte that is wrong.
fn streams() -> impl Strategy<Value = (Dialect, Vec<u8>)> {
    let texts = prop_oneof![
        4 => "[a-z ]{0,6}",
        1 => proptest::sample::select(vec![r"a\n", r#"\""#, r"\u00e9", r"\ud83d\ude80", "你好", r"\x", "\t"]).prop_map(str::to_owned),
    ];
    let numbers = prop_oneof![4 => 0u64..200, 1 => any::<u64>()];
    let odd = proptest::sample::select(vec![
        "",
        "",
        "",
        "",
        "",
        ": ping\n\n",
        "id: 7\n",
        "\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n",
        "data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\n",
        "data: {\"type\":\"message_stop\"}\n\n",
        "\r\n",
        "event: x\n",
    ]);
    let events = prop::collection::vec((texts, numbers, "x{0,4}", odd), 1..24);
    let wrong = prop::option::weighted(0.4, (any::<prop::sample::Index>(), any::<u8>()));
    (0usize..9, 0usize..9, 0u32..4, events, wrong).prop_map(|(shape, other, often, events, wrong)| {
        let mut stream = String::new();
        for (at, (text, number, padding, odd)) in (0u32..).zip(&events) {
            let shape = if often > 0 && at % 4 == often { other } else { shape };
            stream += odd;
            stream += &event(shape, text, *number, padding).1;
        }
        let mut stream = stream.into_bytes();
        if let Some((at, byte)) = wrong {
            let at = at.index(stream.len());
            stream[at] = byte;
        }
        (event(shape, "", 0, "").0, stream)
    })
}

/// MTR-15 holds for the short cut too: of a member that stands twice the last one counts, whatever it is.
#[test]
fn members_that_stand_twice_are_read_alike_by_the_short_cut() {
    for (dialect, event) in [
        (
            Dialect::VllmChat,
            r#"{"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":@,"completion_tokens":2},"usage":null}"#,
        ),
        (
            Dialect::VllmChat,
            r#"{"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":@,"prompt_tokens":null,"completion_tokens":2}}"#,
        ),
        (
            Dialect::VllmChat,
            r#"{"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":@,"completion_tokens":7}}"#,
        ),
        (
            Dialect::VllmChat,
            r#"{"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":@},"usage":{"completion_tokens":@}}"#,
        ),
        (
            Dialect::OpenAiResponses,
            r#"{"type":"response.output_text.delta","sequence_number":@,"sequence_number":null,"delta":"x"}"#,
        ),
        (
            Dialect::OpenAiResponses,
            r#"{"type":"response.output_text.delta","sequence_number":@,"sequence_number":"1","delta":"x","delta":"@"}"#,
        ),
        (
            Dialect::AnthropicMessages,
            r#"{"type":"content_block_start","content_block":{"input":{"a":@}},"delta":{"partial_json":{"a":"@"}}}"#,
        ),
    ] {
        let stream: String =
            (0..20).map(|n| format!("data: {}\n\n", event.replace('@', &(7 * n * n).to_string()))).collect();
        let answer = Answer::events(dialect, stream.as_bytes());
        let run = |mut meter: Meter| {
            meter.feed(bytes::Bytes::copy_from_slice(stream.as_bytes()), &mut Vec::new());
            let note = Ending { created_s: 1, choices: 1, usage: None, note: "{}" };
            (meter.ending(&note), meter.end(End::Eof, &mut Vec::new()))
        };
        let meter = || Meter::new(dialect, answer.head);
        assert_eq!(run(meter()), run(meter().reading_in_full()), "{event}");
    }
}

/// The short cut is taken: otherwise the property below would say nothing.
#[test]
fn events_that_look_alike_are_read_by_the_short_cut() {
    for shape in 0..9 {
        let (dialect, _) = event(shape, "", 0, "");
        let stream: String = (0..50u64)
            .map(|n| {
                event(shape, ["one", "a\\n", "二"][n as usize % 3], n * 7, &"x".repeat(n as usize % 5)).1
            })
            .collect();
        let answer = Answer::events(dialect, stream.as_bytes());
        let mut meter = Meter::new(dialect, answer.head);
        meter.feed(bytes::Bytes::copy_from_slice(stream.as_bytes()), &mut Vec::new());
        assert!(meter.short_cuts() >= 44, "shape {shape}: {}", meter.short_cuts());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// MTR-18: reading by the short cut and reading every event in full come to the same, after every chunk.
    #[test]
    fn the_short_cut_changes_nothing(
        (dialect, body) in streams(),
        hide in any::<bool>(),
        sizes in prop_oneof![Just(vec![usize::MAX]), prop::collection::vec(1usize..600, 1..12)],
    ) {
        let mut head = Answer::events(dialect, &body).head;
        head.hide_usage_chunk = hide;
        let (mut fast, mut full) = (Meter::new(dialect, head), Meter::new(dialect, head).reading_in_full());
        let (mut rest, mut sizes) = (body.as_slice(), sizes.iter().cycle());
        let (mut by_fast, mut by_full) = (Vec::new(), Vec::new());
        while !rest.is_empty() {
            let (now, later) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            rest = later;
            fast.feed(bytes::Bytes::copy_from_slice(now), &mut by_fast);
            full.feed(bytes::Bytes::copy_from_slice(now), &mut by_full);
            prop_assert_eq!(fast.progress(), full.progress());
            // What tokens are counted by, where no report comes.
            prop_assert_eq!(fast.output_text(), full.output_text());
            prop_assert_eq!(by_fast.concat(), by_full.concat());
            let mut copies = (by_fast.clone(), by_full.clone());
            let note = Ending { created_s: 1, choices: 1, usage: None, note: "{}" };
            prop_assert_eq!(fast.ending(&note), full.ending(&note));
            if rest.is_empty() {
                prop_assert_eq!(fast.cut(&mut copies.0), full.cut(&mut copies.1));
                prop_assert_eq!(copies.0.concat(), copies.1.concat());
            }
        }
        prop_assert_eq!(full.short_cuts(), 0);
        prop_assert_eq!(fast.end(End::Eof, &mut by_fast), full.end(End::Eof, &mut by_full));
        prop_assert_eq!(by_fast.concat(), by_full.concat());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// MTR-1, MTR-4: any bytes, any chunking, the same answer; and every byte reaches the client
    /// unless a chunk was to be hidden.
    #[test]
    fn chunking_changes_nothing(
        dialect in dialects(),
        end in ends(),
        body in bodies(),
        (content_type, content_encoding, hide) in heads(),
        sizes in prop::collection::vec(1usize..40, 1..12),
    ) {
        let mut answer = Answer::events(dialect, &body);
        answer.head.content_type = content_type;
        answer.head.content_encoding = content_encoding;
        answer.head.hide_usage_chunk = hide;
        answer.end = end;
        let whole = answer.run(&[usize::MAX]);
        prop_assert_eq!(answer.run(&sizes), whole.clone());
        let said = |sizes: &[usize]| {
            let (mut meter, mut out) = answer.fed(sizes);
            meter.end(end, &mut out);
            meter.output_text().cloned()
        };
        prop_assert_eq!(said(&sizes), said(&[usize::MAX]));
        if !hide {
            prop_assert_eq!(whole.1, body);
        }
    }

    /// The scanner accepts what a strict parser accepts, and never a part of it.
    #[test]
    fn documents_are_recognised(value in values(), cut in any::<prop::sample::Index>()) {
        let mut body = Map::new();
        body.insert("model".into(), "m".into());
        body.insert("x".into(), value);
        let text = Value::Object(body).to_string();
        prop_assert!(scan_request(Dialect::OpenAiChat, text.as_bytes()).is_ok());
        let cut = cut.index(text.len());
        prop_assert!(scan_request(Dialect::OpenAiChat, &text.as_bytes()[..cut]).is_err());
    }

    #[test]
    fn any_request_is_facts_or_an_error(dialect in dialects(), body in bodies()) {
        let _ = scan_request(dialect, &body);
    }

    /// MTR-20, MTR-34: after a rewrite the two members are what they should be, all others are what
    /// they were, and they stand in the same order.
    #[test]
    fn rewriting_touches_two_members(
        others in prop::collection::vec(("[a-z_]{1,6}", values()), 0..6),
        limit in prop::option::of(0u64..10_000),
        options in prop::option::of(prop::option::of(any::<bool>())),
        clamp in prop::option::of(0u64..10_000),
        at in any::<prop::sample::Index>(),
    ) {
        let watched = ["model", "stream", "n", "messages"];
        let mut members: Vec<(String, Value)> = vec![("model".into(), "m".into()), ("stream".into(), true.into())];
        for (name, value) in others {
            if !watched.contains(&name.as_str()) && !members.iter().any(|(known, _)| *known == name) {
                members.insert(at.index(members.len() + 1), (name, value));
            }
        }
        if let Some(limit) = limit {
            members.insert(at.index(members.len() + 1), ("max_tokens".into(), limit.into()));
        }
        if let Some(asked) = options {
            let inner = asked.map(|asked| ("include_usage".to_owned(), Value::from(asked)));
            let options = Value::Object(inner.into_iter().collect());
            members.insert(at.index(members.len() + 1), ("stream_options".into(), options));
        }
        let text = |members: &[(String, Value)]| {
            let list: Vec<_> = members.iter().map(|(name, value)| format!("{}: {value}", Value::from(name.as_str()))).collect();
            format!("{{{}}}", list.join(" ,\n"))
        };
        let body = text(&members);
        let facts = scan_request(Dialect::OpenAiChat, body.as_bytes()).unwrap();
        let rewritten = String::from_utf8(facts.rewrite(body.as_bytes(), clamp, true).into_owned()).unwrap();

        let mut expected: Map<String, Value> = members.iter().cloned().collect();
        let limited = match (limit, clamp) {
            (Some(limit), Some(clamp)) => Some(limit.min(clamp)),
            (limit, clamp) => limit.or(clamp),
        };
        if let Some(limited) = limited {
            expected.insert("max_tokens".into(), limited.into());
        }
        let ask: Value = serde_json::from_str(r#"{"include_usage":true}"#).unwrap();
        expected.insert("stream_options".into(), ask);
        prop_assert_eq!(serde_json::from_str::<Value>(&rewritten).unwrap(), Value::Object(expected));
        // Every other member stands as it was written, and in its place.
        let mut rest = rewritten.as_str();
        for member in members.iter().filter(|(name, _)| !["max_tokens", "stream_options"].contains(&name.as_str())) {
            let written = text(std::slice::from_ref(member));
            let written = &written[1..written.len() - 1];
            let found = rest.find(written);
            prop_assert!(found.is_some(), "{written} in {rest}");
            rest = &rest[found.unwrap() + written.len()..];
        }
    }

    /// MTR-34: what is affordable fits, and one token more does not.
    #[test]
    fn a_clamped_call_fits_its_balance(
        rates in (0u64..1 << 40, 1u64..1 << 40, prop::option::of(0u64..1 << 40)),
        choices in 1u64..5,
        wanted in prop::option::of(1u64..100_000),
        body_bytes in 0u64..1 << 20,
        available in 0i64..1 << 50,
        bytes in any::<bool>(),
    ) {
        let price = Rates {
            input: Rate::from_femto(rates.0),
            output: Rate::from_femto(rates.1),
            reasoning: rates.2.map(Rate::from_femto),
            ..Rates::default()
        };
        let input_bound = if bytes { InputBound::Bytes } else { InputBound::BytesHalf };
        let policy = HoldPolicy { input_bound, min_output: 1, ..HoldPolicy::default() };
        let facts = |limit: Option<u64>| {
            let limit = limit.map(|limit| format!(",\"max_tokens\":{limit}")).unwrap_or_default();
            scan_request(Dialect::OpenAiChat, format!("{{\"model\":\"m\",\"n\":{choices}{limit}}}").as_bytes()).unwrap()
        };
        let available = Amount::from_units(available);
        let cost = |limit: u64| ceiling(&price, &facts(Some(limit)), body_bytes, &policy).unwrap().nano;
        match affordable_output(&price, &facts(wanted), body_bytes, available, &policy) {
            Some(tokens) => {
                prop_assert!(cost(tokens) <= available);
                prop_assert!(tokens == wanted.unwrap_or(4096) || cost(tokens + 1) > available);
            }
            None => prop_assert!(cost(1) > available),
        }
    }
}
