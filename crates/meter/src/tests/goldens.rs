//! Bytes in, bytes out: what is spliced into requests, and what is hidden from answers.

use std::borrow::Cow;

use super::Answer;
use crate::RequestError as E;
use crate::{Anomaly, Basis, Dialect, End, Terminal, scan_request};

const CHAT: Dialect = Dialect::OpenAiChat;

fn rewrite(dialect: Dialect, body: &str, clamp: Option<u64>) -> String {
    let facts = scan_request(dialect, body.as_bytes()).unwrap();
    String::from_utf8(facts.rewrite(body.as_bytes(), clamp, true).into_owned()).unwrap()
}

/// MTR-20: the member goes in, everything else stays byte for byte.
#[test]
fn usage_is_asked_for_by_splicing() {
    for (case, body, expected) in [
        (
            "no options",
            r#"{"model":"m","stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#,
        ),
        (
            "white space and number text stay",
            "\n{ \"model\" : \"m\" ,\r\n\t\"temperature\": 1.0e0, \"stream\":true } ",
            "\n{\"stream_options\":{\"include_usage\":true}, \"model\" : \"m\" ,\r\n\t\"temperature\": 1.0e0, \"stream\":true } ",
        ),
        (
            "options without it",
            r#"{"model":"m","stream":true,"stream_options":{ "include_obfuscation":false}}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true, "include_obfuscation":false}}"#,
        ),
        (
            "empty options",
            r#"{"stream_options":{ },"model":"m","stream":true}"#,
            r#"{"stream_options":{"include_usage":true },"model":"m","stream":true}"#,
        ),
        (
            "options null",
            r#"{"stream_options": null ,"model":"m","stream":true}"#,
            r#"{"stream_options": {"include_usage":true} ,"model":"m","stream":true}"#,
        ),
        (
            "said false",
            r#"{"model":"m","stream_options":{"a":[1],"include_usage": false ,"b":{}},"stream":true}"#,
            r#"{"model":"m","stream_options":{"a":[1],"include_usage": true ,"b":{}},"stream":true}"#,
        ),
        (
            "said null, key escaped",
            r#"{"model":"m","stream_options":{"\u0069nclude_usage":null},"stream":true}"#,
            r#"{"model":"m","stream_options":{"\u0069nclude_usage":true},"stream":true}"#,
        ),
        (
            "decoys deeper down",
            r#"{"messages":[{"stream_options":{"include_usage":true},"stream":false}],"model":"m","stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"messages":[{"stream_options":{"include_usage":true},"stream":false}],"model":"m","stream":true}"#,
        ),
        (
            "decoy in a text",
            r#"{"model":"m","user":"\"stream_options\":{\"include_usage\":true}","stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"model":"m","user":"\"stream_options\":{\"include_usage\":true}","stream":true}"#,
        ),
    ] {
        let facts = scan_request(CHAT, body.as_bytes()).unwrap();
        assert!(facts.will_inject(true) && !facts.will_inject(false), "{case}");
        assert_eq!(rewrite(CHAT, body, None), expected, "{case}");
    }
}

/// MTR-22, MTR-23: where it was asked for, or reported anyway, the body stays as it is.
#[test]
fn usage_is_not_asked_for_where_it_comes_anyway() {
    for (case, dialect, body) in [
        ("asked", CHAT, r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#),
        ("not a stream", CHAT, r#"{"model":"m"}"#),
        ("stream false", CHAT, r#"{"model":"m","stream":false}"#),
        ("responses", Dialect::OpenAiResponses, r#"{"model":"m","stream":true}"#),
        ("messages", Dialect::AnthropicMessages, r#"{"model":"m","stream":true}"#),
        ("raw", Dialect::Raw, "not even JSON"),
    ] {
        let facts = scan_request(dialect, body.as_bytes()).unwrap();
        assert!(!facts.will_inject(true), "{case}");
        assert!(matches!(facts.rewrite(body.as_bytes(), None, true), Cow::Borrowed(_)), "{case}");
    }
    let body = r#"{"model":"m","stream":true}"#;
    let facts = scan_request(CHAT, body.as_bytes()).unwrap();
    assert_eq!(facts.rewrite(body.as_bytes(), None, false), body.as_bytes(), "the operator said no");
}

/// MTR-34: lowered or inserted, never raised.
#[test]
fn output_is_limited_by_splicing() {
    let (responses, messages) = (Dialect::OpenAiResponses, Dialect::AnthropicMessages);
    for (case, dialect, body, expected) in [
        ("lowered", CHAT, r#"{"model":"m","max_tokens": 9000 }"#, r#"{"model":"m","max_tokens": 300 }"#),
        ("never raised", CHAT, r#"{"model":"m","max_tokens":10}"#, r#"{"model":"m","max_tokens":10}"#),
        ("equal", CHAT, r#"{"model":"m","max_tokens":3e2}"#, r#"{"model":"m","max_tokens":3e2}"#),
        ("inserted", CHAT, r#"{ "model":"m"}"#, r#"{"max_tokens":300, "model":"m"}"#),
        ("null", CHAT, r#"{"model":"m","max_tokens":null}"#, r#"{"model":"m","max_tokens":300}"#),
        (
            "newer name",
            CHAT,
            r#"{"max_completion_tokens":301,"model":"m"}"#,
            r#"{"max_completion_tokens":300,"model":"m"}"#,
        ),
        (
            "two names",
            CHAT,
            r#"{"max_completion_tokens":301,"model":"m","max_tokens":7}"#,
            r#"{"max_completion_tokens":300,"model":"m","max_tokens":7}"#,
        ),
        (
            "null beside a limit",
            CHAT,
            r#"{"max_completion_tokens":null,"model":"m","max_tokens":700}"#,
            r#"{"max_completion_tokens":null,"model":"m","max_tokens":300}"#,
        ),
        (
            "decoy deeper down",
            CHAT,
            r#"{"metadata":{"max_tokens":1},"model":"m"}"#,
            r#"{"max_tokens":300,"metadata":{"max_tokens":1},"model":"m"}"#,
        ),
        (
            "both splices at one place",
            CHAT,
            r#"{"model":"m","stream":true}"#,
            r#"{"max_tokens":300,"stream_options":{"include_usage":true},"model":"m","stream":true}"#,
        ),
        ("responses", responses, r#"{"model":"m"}"#, r#"{"max_output_tokens":300,"model":"m"}"#),
        (
            "responses, other names are not its own",
            responses,
            r#"{"model":"m","max_tokens":1}"#,
            r#"{"max_output_tokens":300,"model":"m","max_tokens":1}"#,
        ),
        ("messages", messages, r#"{"model":"m","max_tokens":4096}"#, r#"{"model":"m","max_tokens":300}"#),
        ("embeddings", Dialect::OpenAiEmbeddings, r#"{"model":"m"}"#, r#"{"model":"m"}"#),
        ("counting", Dialect::AnthropicCountTokens, r#"{"model":"m"}"#, r#"{"model":"m"}"#),
    ] {
        assert_eq!(rewrite(dialect, body, Some(300)), expected, "{case}");
    }
}

#[test]
fn facts_table() {
    let facts = |dialect, body: &str| scan_request(dialect, body.as_bytes()).unwrap();
    let chat = facts(
        CHAT,
        r#"{"messages":[{"content":"a"},{"content":[]}],"n":3,"model":"m\u002d1","max_tokens":5,
            "max_completion_tokens":8,"stream":true,"service_tier":"priority",
            "stream_options":{"include_usage":true}}"#,
    );
    assert_eq!((chat.model.as_str(), chat.stream, chat.asked_usage), ("m-1", true, true));
    assert_eq!((chat.max_output, chat.choices, chat.messages), (Some(8), 3, 2), "the larger limit holds");
    assert_eq!((chat.service_tier.as_deref(), chat.caching), (Some("priority"), true));

    let plain =
        facts(CHAT, r#"{"model":"m","max_tokens":null,"n":null,"stream":null,"service_tier":"auto"}"#);
    assert_eq!((plain.max_output, plain.choices, plain.stream, plain.service_tier), (None, 1, false, None));

    let responses = Dialect::OpenAiResponses;
    assert_eq!(facts(responses, r#"{"model":"m","input":"hi"}"#).messages, 1);
    assert_eq!(facts(responses, r#"{"model":"m","input":[{},{}]}"#).messages, 2);
    assert!(facts(responses, r#"{"model":"m","background":true}"#).background);

    let completions = Dialect::OpenAiCompletions;
    for (prompt, messages, choices) in
        [("\"a\"", 0, 2), ("[1,2,3]", 0, 2), ("[\"a\",\"b\"]", 2, 4), ("[[1],[2]]", 2, 4)]
    {
        let body = format!(r#"{{"model":"m","prompt":{prompt},"n":1,"best_of":2}}"#);
        let facts = facts(completions, &body);
        assert_eq!((facts.messages, facts.choices), (messages, choices), "{prompt}");
    }

    let messages = Dialect::AnthropicMessages;
    let control = r#""cache_control":{"type":"ephemeral"}"#;
    for (case, caching, body) in [
        ("no", false, r#"{"model":"m","messages":[]}"#.to_owned()),
        ("top", true, format!(r#"{{"model":"m",{control}}}"#)),
        ("system", true, format!(r#"{{"model":"m","system":[{{{control}}}]}}"#)),
        ("tools", true, format!(r#"{{"model":"m","tools":[{{}},{{{control}}}]}}"#)),
        ("block", true, format!(r#"{{"model":"m","messages":[{{"content":[{{{control}}}]}}]}}"#)),
        ("null", false, r#"{"model":"m","cache_control":null}"#.to_owned()),
        ("in a text", false, r#"{"model":"m","system":"\"cache_control\":{}"}"#.to_owned()),
    ] {
        assert_eq!(facts(messages, &body).caching, caching, "{case}");
    }
}

#[test]
fn refusals_table() {
    let deep = format!(r#"{{"model":"m","a":{}{}}}"#, "[".repeat(128), "]".repeat(128));
    for (case, body, error) in [
        ("no JSON", "hello", E::NotJson),
        ("empty", "", E::NotJson),
        ("cut", r#"{"model":"m""#, E::NotJson),
        ("more behind it", r#"{"model":"m"}{}"#, E::NotJson),
        ("brackets do not match", r#"{"model":"m","a":[}]}"#, E::NotJson),
        ("no object", r#"["model"]"#, E::NotJson),
        ("MTR-16 depth", &deep, E::TooDeep),
        ("no model", r#"{"messages":[{"model":"m"}]}"#, E::NoModel),
        ("empty model", r#"{"model":""}"#, E::NoModel),
        ("model no text", r#"{"model":["m"]}"#, E::WrongType("model")),
        ("two models", r#"{"model":"a","model":"b"}"#, E::Duplicate("model")),
        ("two models, one escaped", r#"{"model":"a","mode\u006c":"b"}"#, E::Duplicate("model")),
        ("two streams", r#"{"model":"a","stream":true,"stream":true}"#, E::Duplicate("stream")),
        (
            "two limits of one name",
            r#"{"model":"a","max_tokens":1,"max_tokens":2}"#,
            E::Duplicate("max_tokens"),
        ),
        ("two lists", r#"{"model":"a","messages":[],"messages":[]}"#, E::Duplicate("messages")),
        (
            "two wishes",
            r#"{"model":"a","stream_options":{"include_usage":true,"include_usage":false}}"#,
            E::Duplicate("include_usage"),
        ),
        ("other case", r#"{"model":"a","Model":"b"}"#, E::Lookalike("model")),
        ("long s", "{\"model\":\"a\",\"\u{17f}tream\":true}", E::Lookalike("stream")),
        ("kelvin", "{\"model\":\"a\",\"max_to\u{212a}ens\":1}", E::Lookalike("max_tokens")),
        ("stream no flag", r#"{"model":"a","stream":"true"}"#, E::WrongType("stream")),
        ("limit a text", r#"{"model":"a","max_tokens":"9"}"#, E::WrongType("max_tokens")),
        ("limit negative", r#"{"model":"a","max_tokens":-1}"#, E::WrongType("max_tokens")),
        ("limit a fraction", r#"{"model":"a","max_tokens":1.5}"#, E::WrongType("max_tokens")),
        ("limit too large", r#"{"model":"a","max_tokens":1e99}"#, E::WrongType("max_tokens")),
        ("no answers", r#"{"model":"a","n":0}"#, E::WrongType("n")),
        ("too many answers", r#"{"model":"a","n":129}"#, E::WrongType("n")),
        ("options a list", r#"{"model":"a","stream_options":[]}"#, E::WrongType("stream_options")),
        (
            "wish a number",
            r#"{"model":"a","stream_options":{"include_usage":1}}"#,
            E::WrongType("include_usage"),
        ),
        ("tier a number", r#"{"model":"a","service_tier":1}"#, E::WrongType("service_tier")),
    ] {
        assert_eq!(scan_request(CHAT, body.as_bytes()), Err(error), "{case}");
    }
    let fits = format!(r#"{{"model":"m","a":{}{}}}"#, "[".repeat(127), "]".repeat(127));
    assert!(scan_request(CHAT, fits.as_bytes()).is_ok(), "MTR-16 the deepest that is followed");
}

const USAGE: &str = r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#;
const TEXT: &str = r#"{"choices":[{"delta":{"content":"hi"}}],"usage":null}"#;

/// MTR-21, MTR-22, at every chunking: only the chunk we asked for is missing.
#[test]
fn hiding_table() {
    let both =
        r#"{"choices":[{"delta":{"content":"hi"}}],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#;
    let zeros = " ".repeat(70_000);
    for (case, body, expected) in [
        (
            "LF",
            format!("data: {TEXT}\n\ndata: {USAGE}\n\ndata: [DONE]\n\n"),
            format!("data: {TEXT}\n\ndata: [DONE]\n\n"),
        ),
        (
            "CR LF",
            format!("data: {TEXT}\r\n\r\ndata: {USAGE}\r\n\r\ndata: [DONE]\r\n\r\n"),
            format!("data: {TEXT}\r\n\r\ndata: [DONE]\r\n\r\n"),
        ),
        (
            "CR",
            format!("data: {TEXT}\r\rdata: {USAGE}\r\rdata: [DONE]\r\r"),
            format!("data: {TEXT}\r\rdata: [DONE]\r\r"),
        ),
        (
            "the whole event goes",
            format!("id: 1\nevent: x\ndata: {USAGE}\nid: 2\n\n: c\n"),
            ": c\n".to_owned(),
        ),
        (
            "comments before it stay",
            format!(": a\r\n: b\n\ndata: {USAGE}\n\n: c\r\n"),
            ": a\r\n: b\n\n: c\r\n".to_owned(),
        ),
        ("nothing but it", format!("data: {USAGE}\n\n"), String::new()),
        ("unterminated", format!("data: {TEXT}\n\ndata: {USAGE}"), format!("data: {TEXT}\n\n")),
        ("MTR-22 with choices it stays", format!("data: {both}\n\n"), format!("data: {both}\n\n")),
        (
            "usage null stays",
            "data: {\"choices\":[],\"usage\":null}\n\n".to_owned(),
            "data: {\"choices\":[],\"usage\":null}\n\n".to_owned(),
        ),
        (
            "cut in it",
            format!("data: {TEXT}\n\ndata: {{\"choices\":[],"),
            format!("data: {TEXT}\n\ndata: {{\"choices\":[],"),
        ),
        ("too large to be it", format!("data: {USAGE}{zeros}\n\n"), format!("data: {USAGE}{zeros}\n\n")),
        (
            "after the end mark",
            format!("data: [DONE]\n\ndata: {USAGE}\n\n"),
            format!("data: [DONE]\n\ndata: {USAGE}\n\n"),
        ),
        ("a document", USAGE.to_owned(), USAGE.to_owned()),
        ("blank lines first", format!("\n\r\n data: {TEXT}\n\n"), format!("\n\r\n data: {TEXT}\n\n")),
        ("no stream at all", "<html>".to_owned(), "<html>".to_owned()),
    ] {
        let mut answer = Answer::events(CHAT, body.as_bytes());
        answer.head.hide_usage_chunk = true;
        let (_, client) = answer.check_or_whole(body.len());
        assert!(client == expected.as_bytes(), "{case}: {}", String::from_utf8_lossy(&client));
        answer.head.hide_usage_chunk = false;
        assert!(answer.check_or_whole(body.len()).1 == body.as_bytes(), "{case}: shown");
    }
}

/// MTR-4: what is held back is the event being read, and nothing else.
#[test]
fn nothing_waits_that_need_not() {
    let body = format!("data: {TEXT}\n\ndata: {TEXT}");
    let mut answer = Answer::events(CHAT, body.as_bytes());
    let whole = |answer: &Answer<'_>| {
        let mut meter = crate::Meter::new(answer.dialect, answer.head);
        let mut out = Vec::new();
        meter.feed(bytes::Bytes::copy_from_slice(answer.body), &mut out);
        out.concat().len()
    };
    assert_eq!(whole(&answer), body.len());
    answer.head.hide_usage_chunk = true;
    assert_eq!(whole(&answer), body.len() - TEXT.len() - "data: ".len());
}

/// The relay passes on slices of what it was given, not copies.
#[test]
fn bytes_are_not_copied() {
    let chunk = bytes::Bytes::from(format!("data: {TEXT}\n\n"));
    for hide in [false, true] {
        let mut answer = Answer::events(CHAT, b"");
        answer.head.hide_usage_chunk = hide;
        let (mut meter, mut out) = (crate::Meter::new(CHAT, answer.head), Vec::new());
        meter.feed(chunk.clone(), &mut out);
        assert_eq!(out.len(), 1);
        assert_eq!(out[0].as_ptr(), chunk.as_ptr(), "hide {hide}");
    }
}

/// What the vectors do not cover: positions, ends and anomalies.
#[test]
fn readings_table() {
    let start = r#"data: {"type":"message_start","message":{"usage":{"input_tokens":5,"output_tokens":1}}}"#;
    let (messages, responses) = (Dialect::AnthropicMessages, Dialect::OpenAiResponses);
    for (case, dialect, body, end, basis, terminal, sides) in [
        (
            "MTR-11 usage at the wrong place of an event",
            messages,
            format!("{start}\n\ndata: {{\"type\":\"content_block_delta\",\"usage\":{{\"output_tokens\":900}}}}\n\n"),
            End::Eof,
            Basis::ReportedPartial,
            Terminal::EofWithoutDone,
            Some((Some(5), Some(1))),
        ),
        (
            "MTR-11 a top-level usage in a Responses event",
            responses,
            "data: {\"type\":\"response.completed\",\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}\n\n".to_owned(),
            End::Eof,
            Basis::Estimate,
            Terminal::Completed,
            None,
        ),
        (
            "MTR-13 nothing counts after the terminal event",
            messages,
            format!("{start}\n\ndata: {{\"type\":\"message_stop\"}}\n\ndata: {{\"type\":\"message_delta\",\"usage\":{{\"output_tokens\":9}}}}\n\n"),
            End::Eof,
            Basis::ReportedPartial,
            Terminal::MessageStop,
            Some((Some(5), Some(1))),
        ),
        (
            "item 34 the type beats the name; without a type the name holds",
            messages,
            format!("event: message_stop\n{start}\n\nevent: message_delta\ndata: {{\"delta\":{{\"stop_reason\":\"end_turn\"}},\"usage\":{{\"output_tokens\":7}}}}\n\nevent: message_stop\ndata: {{}}\n\n"),
            End::Eof,
            Basis::Reported,
            Terminal::MessageStop,
            Some((Some(5), Some(7))),
        ),
        (
            "MTR-7 a null member does not unsay a figure",
            messages,
            format!("{start}\n\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"x\"}},\"usage\":{{\"input_tokens\":null,\"output_tokens\":7}}}}\n\n"),
            End::Reset,
            Basis::Reported,
            Terminal::Truncated,
            Some((Some(5), Some(7))),
        ),
        (
            "item 28 a final usage stands although the stream is cut",
            CHAT,
            format!("data: {USAGE}\n\ndata: [DO"),
            End::Reset,
            Basis::Reported,
            Terminal::Truncated,
            Some((Some(3), Some(2))),
        ),
        (
            "item 28 an unterminated event is dropped on reset",
            CHAT,
            format!("data: {TEXT}\n\ndata: {USAGE}"),
            End::Reset,
            Basis::Estimate,
            Terminal::Truncated,
            None,
        ),
        (
            "item 28 and when the client has gone",
            CHAT,
            format!("data: {TEXT}\n\ndata: {USAGE}\n"),
            End::ClientGone,
            Basis::Estimate,
            Terminal::ClientGone,
            None,
        ),
        (
            "an end mark without its line end",
            CHAT,
            format!("data: {USAGE}\n\ndata: [DONE] "),
            End::Eof,
            Basis::Reported,
            Terminal::Done,
            Some((Some(3), Some(2))),
        ),
        (
            "a running total, then the stop reason without one",
            CHAT,
            "data: {\"choices\":[{\"delta\":{}}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\ndata: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n".to_owned(),
            End::Eof,
            Basis::ReportedPartial,
            Terminal::Done,
            Some((Some(3), Some(2))),
        ),
        (
            "item 27 an error as the first event",
            CHAT,
            "data: {\"error\":{\"message\":\"no\"},\"usage\":null}\n\n".to_owned(),
            End::Eof,
            Basis::None,
            Terminal::Error,
            None,
        ),
        ("an error that is null is none", CHAT, "{\"error\":null,\"choices\":[]}".to_owned(), End::Eof, Basis::Estimate, Terminal::Complete, None),
        ("a cut document", CHAT, "{\"choices\":[{\"message\":{\"content\":\"abc".to_owned(), End::Eof, Basis::Estimate, Terminal::Truncated, None),
        (
            "MTR-15 the last duplicate wins, even if it is null",
            CHAT,
            "{\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1},\"usage\":null}".to_owned(),
            End::Eof,
            Basis::Estimate,
            Terminal::Complete,
            None,
        ),
        (
            "one side follows from the total",
            CHAT,
            "{\"usage\":{\"prompt_tokens\":3,\"total_tokens\":10}}".to_owned(),
            End::Eof,
            Basis::Reported,
            Terminal::Complete,
            Some((Some(3), Some(7))),
        ),
        (
            "output alone",
            CHAT,
            "{\"usage\":{\"completion_tokens\":4}}".to_owned(),
            End::Eof,
            Basis::ReportedOutputOnly,
            Terminal::Complete,
            Some((None, Some(4))),
        ),
        ("a report without figures", CHAT, "{\"usage\":{}}".to_owned(), End::Eof, Basis::Estimate, Terminal::Complete, None),
        ("an empty body", CHAT, String::new(), End::Eof, Basis::Estimate, Terminal::EofWithoutDone, None),
        ("neither events nor JSON", CHAT, "\u{1}\u{2}".to_owned(), End::Eof, Basis::Estimate, Terminal::EofWithoutDone, None),
    ] {
        let mut answer = Answer::events(dialect, body.as_bytes());
        answer.end = end;
        let (metered, _) = answer.check();
        let seen = metered.usage.map(|usage| (usage.input_total, usage.output_total));
        assert_eq!((metered.basis, metered.terminal, seen), (basis, terminal, sides), "{case}");
    }
}

#[test]
fn anomalies_table() {
    for (case, usage, anomaly) in [
        (
            "MTR-9 cached above prompt",
            r#"{"prompt_tokens":1,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":2}}"#,
            Some(Anomaly::Inconsistent),
        ),
        (
            "MTR-9 reasoning above output",
            r#"{"prompt_tokens":1,"completion_tokens":1,"completion_tokens_details":{"reasoning_tokens":2}}"#,
            Some(Anomaly::Inconsistent),
        ),
        (
            "item 33 bad sub-count",
            r#"{"prompt_tokens":1,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":-2}}"#,
            Some(Anomaly::BadSubCount),
        ),
        ("item 33 bad total", r#"{"prompt_tokens":1,"completion_tokens":1.5}"#, Some(Anomaly::InvalidReport)),
        (
            "MTR-6 zero with output",
            r#"{"prompt_tokens":1,"completion_tokens":0}"#,
            Some(Anomaly::SuspiciousZero),
        ),
        ("nothing odd", r#"{"prompt_tokens":1,"completion_tokens":1}"#, None),
    ] {
        let body = format!(r#"{{"choices":[{{"message":{{"content":"x"}}}}],"usage":{usage}}}"#);
        let (metered, _) = Answer::events(CHAT, body.as_bytes()).check();
        assert_eq!(
            metered.anomalies.iter().collect::<Vec<_>>(),
            anomaly.into_iter().collect::<Vec<_>>(),
            "{case}"
        );
    }
}

/// Text is counted as UTF-8 after unescaping, whatever way it is written.
#[test]
fn text_bytes_table() {
    for (case, text, expected) in [
        ("plain", "abc", 3),
        ("escapes", r#"\n\t\"\\\/"#, 5),
        ("one unit", r"\u00e9\u20ac", 5),
        ("a pair", r"\ud83d\ude80", 4),
        ("a half alone", r"\ud83dx", 4),
        ("two halves the wrong way", r"\ude80\ud83d", 6),
        ("half before an escape", r"\ud83d\n", 4),
        ("raw", "你好", 6),
        ("longer than what is kept", &"x".repeat(1000), 1000),
    ] {
        let body = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
        let (metered, _) = Answer::events(CHAT, body.as_bytes()).check();
        assert_eq!(metered.text_bytes, expected, "{case}");
    }
}
