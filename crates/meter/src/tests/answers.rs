//! What is read from answers beyond the vectors, and what of them the client gets.

use super::Answer;
use crate::{Anomaly, Basis, Dialect, End, Terminal};

const CHAT: Dialect = Dialect::OpenAiChat;

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
        ("it comes first, after blank lines", format!("\n\r\ndata: {USAGE}\n\n"), "\n\r\n".to_owned()),
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
            "item 28 a cumulative report without a stop reason is partial",
            messages,
            format!("{start}\n\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":null}},\"usage\":{{\"output_tokens\":7}}}}\n\n"),
            End::ClientGone,
            Basis::ReportedPartial,
            Terminal::ClientGone,
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

/// MTR-14: what a body is shows in its first bytes, whatever its label says. MTR-19: what is unknown
/// is passed over.
#[test]
fn shapes_table() {
    let stream = format!("data: {TEXT}\n\ndata: {USAGE}\n\ndata: [DONE]\n\n");
    let unknown = format!("vibe: 1\nevent: vibe\ndata: {{\"vibe\":[1,{{}}]}}\n\n{stream}");
    for (case, label, body, terminal) in [
        ("events under their label", Some("text/event-stream"), stream.clone(), Terminal::Done),
        (
            "odd case and a parameter",
            Some("Text/EVENT-Stream ; charset=UTF-8"),
            stream.clone(),
            Terminal::Done,
        ),
        ("events labelled as JSON", Some("application/json"), stream.clone(), Terminal::Done),
        ("events without a label", None, stream.clone(), Terminal::Done),
        ("events behind a mark", None, format!("\u{feff}{stream}"), Terminal::Done),
        ("events of an unknown kind between", Some("text/event-stream"), unknown, Terminal::Done),
        ("a document labelled as events", Some("text/event-stream"), USAGE.to_owned(), Terminal::Complete),
        ("a document behind blanks", None, format!(" \r\n\t{USAGE}\n"), Terminal::Complete),
        ("a document behind a mark", None, format!("\u{feff}{USAGE}"), Terminal::Complete),
    ] {
        let mut answer = Answer::events(CHAT, body.as_bytes());
        answer.head.content_type = label;
        let (metered, client) = answer.check();
        assert_eq!((metered.basis, metered.terminal), (Basis::Reported, terminal), "{case}");
        assert_eq!(client, body.as_bytes(), "{case}");
    }
    let mut answer = Answer::events(CHAT, b"\x89PNG");
    answer.head.content_type = Some("image/png");
    let (metered, _) = answer.check();
    assert_eq!((metered.basis, metered.terminal), (Basis::Estimate, Terminal::MeterLimit));
    assert!(metered.opaque && !metered.before_output);
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

/// MTR-15: nothing of the first of two reports is left in the second.
#[test]
fn a_second_report_replaces_the_first() {
    let report = |details: &str| format!(r#""usage":{{"prompt_tokens":9,"completion_tokens":1{details}}}"#);
    let details = r#","prompt_tokens_details":{"cached_tokens":5}"#;
    for (case, body, read) in [
        ("one object", format!("{{{},{}}}", report(details), report("")), 0),
        ("the other way round", format!("{{{},{}}}", report(""), report(details)), 5),
        ("details twice", format!("{{{}}}", report(&format!("{details},\"prompt_tokens_details\":{{}}"))), 0),
        ("two events", format!("data: {{{}}}\n\ndata: {{{}}}\n\n", report(details), report("")), 0),
    ] {
        let (metered, _) = Answer::events(CHAT, body.as_bytes()).check();
        assert_eq!(metered.usage.and_then(|usage| usage.cache_read), Some(read), "{case}");
    }
}

/// Reference item 32.
#[test]
fn lifetimes_are_cut_to_their_total() {
    let body = r#"{"usage":{"input_tokens":1,"output_tokens":1,"cache_creation_input_tokens":100,
        "cache_creation":{"ephemeral_5m_input_tokens":80,"ephemeral_1h_input_tokens":50}}}"#;
    let (metered, _) = Answer::events(Dialect::AnthropicMessages, body.as_bytes()).check();
    assert!(metered.anomalies.has(Anomaly::Inconsistent));
    let usage = metered.usage.unwrap();
    assert_eq!(
        (usage.cache_write, usage.cache_write_5m, usage.cache_write_1h),
        (Some(100), Some(80), Some(20))
    );
    assert_eq!((usage.input_uncached, usage.input_total), (Some(1), Some(101)));
}

/// What selects a price besides the counts, and the model that answered, which does not (MTR-48).
#[test]
fn words_table() {
    let (messages, responses) = (Dialect::AnthropicMessages, Dialect::OpenAiResponses);
    for (case, dialect, body, tier, geo, model) in [
        (
            "words of the start stay",
            messages,
            "data: {\"type\":\"message_start\",\"message\":{\"model\":\"m\",\"usage\":{\"input_tokens\":1,\"service_tier\":\"batch\",\"inference_geo\":\"us\"}}}\n\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":1}}\n\n",
            Some("batch"),
            Some("us"),
            Some("m"),
        ),
        (
            "the last word holds",
            responses,
            "data: {\"type\":\"response.created\",\"response\":{\"model\":\"m\",\"service_tier\":\"auto\"}}\n\ndata: {\"type\":\"response.completed\",\"response\":{\"model\":\"n\",\"service_tier\":\"flex\",\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}\n\n",
            Some("flex"),
            None,
            Some("n"),
        ),
        (
            "the standard tier has no name",
            CHAT,
            "{\"service_tier\":\"default\",\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}",
            None,
            None,
            None,
        ),
    ] {
        let (metered, _) = Answer::events(dialect, body.as_bytes()).check();
        let usage = metered.usage.unwrap();
        let words = (usage.service_tier.as_deref(), usage.inference_geo.as_deref(), metered.model.as_deref());
        assert_eq!(words, (tier, geo, model), "{case}");
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
