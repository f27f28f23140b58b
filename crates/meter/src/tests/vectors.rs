//! The usage vectors of `specs/vectors/usage`, each at every chunking (MTR-1).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::Answer;
use crate::{Anomaly, Basis, Dialect, End, Head, Meter, Metered, RequestHead, scan_request_at};

const FILES: [(&str, &str); 9] = [
    ("openai_chat", include_str!("../../../../specs/vectors/usage/openai_chat.json")),
    ("openai_responses", include_str!("../../../../specs/vectors/usage/openai_responses.json")),
    ("openai_other", include_str!("../../../../specs/vectors/usage/openai_other.json")),
    ("anthropic", include_str!("../../../../specs/vectors/usage/anthropic.json")),
    ("sse_framing", include_str!("../../../../specs/vectors/usage/sse_framing.json")),
    ("adversarial", include_str!("../../../../specs/vectors/usage/adversarial.json")),
    ("local_and_relay", include_str!("../../../../specs/vectors/usage/local_and_relay.json")),
    ("cn_providers", include_str!("../../../../specs/vectors/usage/cn_providers.json")),
    ("gemini", include_str!("../../../../specs/vectors/usage/gemini.json")),
];

/// How many cases of each file run: a case that is lost from a file, or a dialect that stops being
/// recognised, is noticed.
const RUN: [(&str, usize); 9] = [
    ("openai_chat", 27),
    ("openai_responses", 9),
    ("openai_other", 11),
    ("anthropic", 15),
    ("sse_framing", 23),
    ("adversarial", 14),
    ("local_and_relay", 10),
    ("cn_providers", 12),
    ("gemini", 7),
];

#[test]
fn every_case_of_our_dialects() {
    for ((file, text), (_, expected)) in FILES.iter().zip(RUN) {
        let cases: Value = serde_json::from_str(text).unwrap();
        let mut run = 0;
        for case in cases["cases"].as_array().unwrap() {
            let id = case["id"].as_str().unwrap();
            let name = case["dialect"].as_str().unwrap();
            // One name for both ways of sound: the path tells them apart.
            let path = case["request"]["path"].as_str().filter(|_| name == "openai.audio");
            let dialect = path.and_then(Dialect::from_path).or_else(|| Dialect::from_name(name));
            check_case(id, dialect.unwrap(), case);
            run += 1;
        }
        assert_eq!(run, expected, "cases of {file}");
    }
}

fn check_case(id: &str, dialect: Dialect, case: &Value) {
    let (response, expect) = (&case["response"], &case["expect"]);
    let body = match response["body_utf8"].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => STANDARD.decode(response["body_b64"].as_str().unwrap()).unwrap(),
    };
    assert_eq!(body.len() as u64, response["body_len"].as_u64().unwrap(), "{id}: body");
    let header = |name: &str| response["headers"][name].as_str();
    let request = &case["request"];
    let facts = (!request["body"].is_null()).then(|| {
        let head = RequestHead { path: request["path"].as_str().unwrap(), ..RequestHead::default() };
        scan_request_at(dialect, &head, request["body"].to_string().as_bytes()).unwrap()
    });
    let hide_usage_chunk = expect["gateway_injected_include_usage"] == true;
    let answer = Answer {
        dialect,
        head: Head {
            status: u16::try_from(response["status"].as_u64().unwrap()).unwrap(),
            content_type: header("content-type"),
            content_encoding: header("content-encoding"),
            hide_usage_chunk,
        },
        body: &body,
        request: facts.as_ref(),
        // A client that left shows in the terminal only; with `drain` the upstream is read to its end.
        end: match (expect["terminal"].as_str().unwrap(), response["end"].as_str().unwrap()) {
            ("client_gone", _) => End::ClientGone,
            (_, "reset") => End::Reset,
            _ => End::Eof,
        },
        elapsed_milli: 0,
    };
    let (metered, client) = answer.check();
    if let Some(sizes) = response["chunk_lengths"].as_array() {
        let sizes: Vec<_> = sizes.iter().map(|n| usize::try_from(n.as_u64().unwrap()).unwrap()).collect();
        assert_eq!(answer.run(&sizes), (metered.clone(), client.clone()), "{id}: its own chunks");
    }
    let stripped = expect["client_body_utf8_when_usage_only_chunk_stripped"].as_str();
    let allowed = stripped.map_or(body.as_slice(), str::as_bytes);
    assert!(client == allowed, "{id}: what the client gets\n{}", String::from_utf8_lossy(&client));
    check_metered(id, &metered, expect);
}

fn check_metered(id: &str, metered: &Metered, expect: &Value) {
    assert_eq!(metered.basis.name(), expect["basis"], "{id}: basis");
    assert_eq!(metered.terminal.name(), expect["terminal"], "{id}: terminal");
    check_usage(id, metered, &expect["usage"]);
    let bytes = |member: &str| expect[member].as_str().map(|text| text.len() as u64);
    let text = expect["output_text_utf8_bytes"].as_u64();
    assert_eq!(metered.text_bytes, text.unwrap_or(metered.text_bytes), "{id}: output text");
    if let Some(expected) = bytes("tool_arguments") {
        assert_eq!(metered.tool_bytes, expected, "{id}: tool arguments");
    }
    if let Some(expected) = bytes("reasoning_text") {
        assert_eq!(metered.reasoning_bytes, expected, "{id}: reasoning");
    }
    let suspicious = expect["suspicious"] == true;
    assert_eq!(metered.anomalies.has(Anomaly::SuspiciousZero), suspicious, "{id}: suspicious");
    let failed = ["error", "truncated"].contains(&expect["terminal"].as_str().unwrap());
    assert_eq!(metered.upstream_error, failed, "{id}: upstream error");
}

/// Every member is as listed; one that is not listed is absent or an explicit zero. MTR-53: what a relay paid is a
/// fact beside them.
fn check_usage(id: &str, metered: &Metered, expect: &Value) {
    let Some(usage) = &metered.usage else {
        assert!(expect.is_null(), "{id}: no usage");
        return;
    };
    assert!(expect.is_object(), "{id}: usage {usage:?}");
    for (name, count) in [
        ("input_total", usage.input_total),
        ("input_uncached", usage.input_uncached),
        ("cache_read", usage.cache_read),
        ("cache_write", usage.cache_write),
        ("cache_write_5m", usage.cache_write_5m),
        ("cache_write_1h", usage.cache_write_1h),
        ("cache_write_30m", usage.cache_write_30m),
        ("cache_write_12h", usage.cache_write_12h),
        ("output_total", usage.output_total),
        ("reasoning", usage.reasoning),
        ("audio_in", usage.audio_in),
        ("audio_out", usage.audio_out),
        ("total_only", usage.total_only),
        ("web_search_requests", usage.web_search_requests),
        ("image_in", usage.image_in),
        ("image_out", usage.image_out),
        ("images", usage.images),
        ("characters", usage.characters),
        ("seconds_milli", usage.seconds_milli),
        ("response_bytes", usage.response_bytes),
    ] {
        match expect[name].as_u64() {
            Some(expected) => assert_eq!(count, Some(expected), "{id}: {name}"),
            None => assert!(count.is_none_or(|count| count == 0), "{id}: {name} is {count:?}"),
        }
    }
    assert_eq!(usage.service_tier.as_deref(), expect["service_tier"].as_str(), "{id}: tier");
    assert_eq!(usage.upstream_cost_usd.as_deref(), expect["upstream_cost_usd"].as_str(), "{id}: cost");
}

/// MTR-25: what is kept to be counted is what was said, at any chunking and by the short cut too.
#[test]
fn what_was_said_is_kept() {
    let mut said_in_full = 0;
    for (file, text) in FILES {
        let cases: Value = serde_json::from_str(text).unwrap();
        for case in cases["cases"].as_array().unwrap() {
            let (id, response, expect) = (&case["id"], &case["response"], &case["expect"]);
            let (Some(body), Some(dialect)) =
                (response["body_utf8"].as_str(), case["dialect"].as_str().and_then(Dialect::from_name))
            else {
                continue;
            };
            let kept = |size: usize, in_full: bool| {
                let head = Head {
                    status: 200,
                    content_type: response["headers"]["content-type"].as_str(),
                    content_encoding: None,
                    hide_usage_chunk: false,
                };
                let mut meter = Meter::new(dialect, head);
                if in_full {
                    meter = meter.reading_in_full();
                }
                let mut out = Vec::new();
                for chunk in body.as_bytes().chunks(size) {
                    meter.feed(chunk.to_vec().into(), &mut out);
                }
                let metered = meter.end(End::Eof, &mut out);
                let said = meter.output_text().map(|text| text.bytes().to_vec()).unwrap_or_default();
                (said, metered.output_bytes(), metered.reasoning_bytes + metered.tool_bytes)
            };
            let (said, bytes, beside) = kept(usize::MAX, false);
            for size in [1, 7, 64] {
                assert_eq!(kept(size, false).0, said, "{id} by {size}");
                assert_eq!(kept(size, true).0, said, "{id} by {size}, in full");
            }
            if let Some(expected) = expect["output_text"].as_str().filter(|_| beside == 0) {
                // Some say the same again with each event: then the sample has more than was said.
                let repeats = said.len() as u64 > bytes;
                assert!(
                    repeats || said == expected.as_bytes(),
                    "{file} {id}: {}",
                    String::from_utf8_lossy(&said)
                );
                said_in_full += usize::from(!repeats);
            }
        }
    }
    assert!(said_in_full > 60, "{said_in_full}");
}

/// The reports of eight providers and six that are none (`specs/vectors/rails/upstream_usage.json`): whatever each
/// calls its counts, they come to the same buckets.
#[test]
fn reports_of_eight_providers() {
    let text = include_str!("../../../../specs/vectors/rails/upstream_usage.json");
    let file: Value = serde_json::from_str(text).unwrap();
    let metered = |dialect: Dialect, usage: Option<&Value>| {
        let mut answer = serde_json::json!({
            "type": "message", "status": "completed", "content": [{"type": "text", "text": "x"}],
            "choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}],
            "output": [{"type": "message", "content": [{"type": "output_text", "text": "x"}]}],
        });
        if let Some(usage) = usage {
            answer["usage"] = usage.clone();
        }
        let head = Head {
            status: 200,
            content_type: Some("application/json"),
            content_encoding: None,
            hide_usage_chunk: false,
        };
        let body = answer.to_string();
        let answer =
            Answer { dialect, head, body: body.as_bytes(), request: None, end: End::Eof, elapsed_milli: 0 };
        answer.check().0
    };
    let cases = file["cases"].as_array().unwrap();
    for case in cases {
        let dialect = match (case["provider"].as_str().unwrap(), case["api"].as_str().unwrap()) {
            ("openai", "responses") => Dialect::OpenAiResponses,
            ("openai", _) => Dialect::OpenAiChat,
            ("anthropic", _) => Dialect::AnthropicMessages,
            ("deepseek", _) => Dialect::DeepSeekChat,
            ("qwen", _) => Dialect::QwenChat,
            ("glm", _) => Dialect::ZhipuChat,
            ("doubao", _) => Dialect::DoubaoChat,
            ("together", _) => Dialect::TogetherChat,
            (other, api) => unreachable!("{other} {api}"),
        };
        let usage = metered(dialect, Some(&case["usage"])).usage.unwrap();
        let expected = |name: &str| case["normalised"][name].as_u64().unwrap();
        let writes = expected("cache_write_5m") + expected("cache_write_1h");
        assert_eq!(
            (usage.input_uncached, usage.cache_read, usage.output_total),
            (Some(expected("input_uncached")), Some(expected("cache_read")), Some(expected("output_total"))),
            "{case}"
        );
        let counted = |count: Option<u64>| count.unwrap_or(0);
        assert_eq!(counted(usage.cache_write), writes, "{case}");
        assert_eq!(counted(usage.cache_write_1h), expected("cache_write_1h"), "{case}");
        assert_eq!(counted(usage.reasoning), expected("reasoning_part_of_output"), "{case}");
    }
    let negative = file["negative"].as_array().unwrap();
    for case in negative {
        let nothing = Value::Null;
        let usage = match case["name"].as_str().unwrap() {
            "usage_missing" => None,
            "usage_null_everywhere" => Some(&nothing),
            _ => Some(&case["usage"]),
        };
        let metered = metered(Dialect::OpenAiChat, usage);
        let stands = case["name"] == "cached_greater_than_prompt";
        assert_eq!(metered.basis, if stands { Basis::Reported } else { Basis::Estimate }, "{case}");
        assert_eq!(metered.anomalies.has(Anomaly::Inconsistent), stands, "{case}");
    }
    assert_eq!((cases.len(), negative.len()), (8, 6));
}
