//! A stream that we stop ends in its dialect's words, wherever it was stopped.

use bytes::Bytes;
use serde_json::Value;

use crate::{Basis, Dialect, End, Ending, Head, Meter, Terminal};

const CHAT: &str = "data: {\"id\":\"c-1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"one\"}}]}\n\n\
    data: {\"id\":\"c-1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"two\"}}]}\n\n";
const TEXT: &str = "data: {\"id\":\"c-2\",\"model\":\"m\",\"choices\":[{\"index\":0,\"text\":\"one\"}]}\r\n\r\n\
    data: {\"id\":\"c-2\",\"model\":\"m\",\"choices\":[{\"index\":0,\"text\":\"two\"}]}\r\n\r\n";
const MESSAGE: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m-1\",\"model\":\"m\",\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n\
    event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n\
    event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\"one\"}}\n\n";
const RESPONSE: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"r-1\",\"model\":\"m\"}}\n\n\
    event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":1,\"delta\":\"one\"}\n\n";

const GEMINI: &str = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"one\"}]}}],\"responseId\":\"g-1\",\"modelVersion\":\"m\"}\r\n\r\n\
    data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"two\"}]}}],\"responseId\":\"g-1\",\"modelVersion\":\"m\"}\r\n\r\n";
const ARRAY: &str = "[{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"one\"}]}}],\"responseId\":\"g-1\"}\n,\r\n\
    {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"two\"}]}}],\"responseId\":\"g-1\"} , {\"candidates\":[]}";
const LINES: &str = "{\"model\":\"m\",\"message\":{\"content\":\"one\"},\"done\":false}\n\
    {\"model\":\"m\",\"message\":{\"content\":\"two\"},\"done\":false}\n";
const GENERATE: &str = "{\"model\":\"m\",\"response\":\"one\",\"done\":false}\n{\"model\":\"m\",\"response\":\"two\",\"done\":false}\n";
const LLAMA: &str = "data: {\"content\":\"one\",\"stop\":false,\"model\":\"m\"}\n\ndata: {\"content\":\"two\",\"stop\":false}\n\n";
const DASH: &str = "id:1\nevent:result\ndata:{\"output\":{\"choices\":[{\"message\":{\"content\":\"one\"}}]},\"request_id\":\"d-1\"}\n\n\
    id:2\nevent:result\ndata:{\"output\":{\"choices\":[{\"message\":{\"content\":\"two\"}}]},\"request_id\":\"d-1\"}\n\n";

/// The data of every event, `[DONE]` as text.
fn events(stream: &str) -> Vec<Value> {
    if stream.starts_with('[') {
        let array: Value = serde_json::from_str(stream).unwrap();
        return array.as_array().unwrap().clone();
    }
    if stream.starts_with('{') {
        return stream.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    }
    let whole = stream.replace("\r\n", "\n");
    assert!(whole.ends_with("\n\n"), "{whole}");
    let blocks = whole.split("\n\n").filter(|block| !block.is_empty());
    let data =
        blocks.map(|block| block.lines().find_map(|line| line.strip_prefix("data:")).unwrap().trim_start());
    data.map(|data| serde_json::from_str(data).unwrap_or_else(|_| data.into())).collect()
}

/// Stops the stream as soon as the client has `enough` bytes; what the client got, and the meter.
fn stopped(
    dialect: Dialect,
    stream: &str,
    size: usize,
    enough: usize,
    hide: bool,
) -> Option<(String, Meter)> {
    let head = Head {
        status: 200,
        content_type: Some("text/event-stream"),
        content_encoding: None,
        hide_usage_chunk: hide,
    };
    let mut meter = Meter::new(dialect, head);
    let mut got = Vec::new();
    for chunk in stream.as_bytes().chunks(size) {
        let mut out = Vec::new();
        meter.feed(Bytes::copy_from_slice(chunk), &mut out);
        let wants = got.len() + chunk.len() >= enough;
        let stops = wants && meter.cut(&mut out);
        got.extend(out.concat());
        if stops {
            let mut rest = Vec::new();
            let metered = meter.end(End::CutShort, &mut rest);
            assert!(rest.is_empty(), "nothing is left over after a cut");
            assert_eq!(metered.terminal, Terminal::Incomplete);
            assert_ne!(metered.basis, Basis::Reported);
            assert!(!metered.upstream_error);
            return Some((String::from_utf8(got).unwrap(), meter));
        }
    }
    None
}

/// MTR-35.
#[test]
fn a_stopped_stream_is_whole_events_and_an_ending_at_any_chunking() {
    let ending = Ending { created_s: 7, choices: 1, usage: Some((5, 2)), note: r#"{"code":"x"}"# };
    for (dialect, stream, id) in [
        (Dialect::OpenAiChat, CHAT, "/id"),
        (Dialect::OpenAiCompletions, TEXT, "/id"),
        (Dialect::OpenAiResponses, RESPONSE, "/response/id"),
        (Dialect::AnthropicMessages, MESSAGE, ""),
        (Dialect::DeepSeekChat, CHAT, "/id"),
        (Dialect::GeminiGenerate, GEMINI, "/responseId"),
        (Dialect::GeminiGenerate, ARRAY, "/responseId"),
        (Dialect::OllamaChat, LINES, "/model"),
        (Dialect::OllamaGenerate, GENERATE, "/model"),
        (Dialect::LlamaCppCompletion, LLAMA, ""),
        (Dialect::DashScope, DASH, ""),
    ] {
        for hide in [false, true] {
            for size in [1, 2, 3, 7, 64, 4096] {
                for enough in 1..stream.len() {
                    let Some((got, meter)) = stopped(dialect, stream, size, enough, hide) else { continue };
                    assert!(stream.starts_with(&got), "the client got other bytes than were sent");
                    let last = String::from_utf8(meter.ending(&ending).unwrap().to_vec()).unwrap();
                    let events = events(&(got.clone() + &last));
                    assert!(events.iter().any(|event| event["farthing"]["code"] == "x"), "{last}");
                    assert!(events.iter().all(|event| event.get("error").is_none_or(Value::is_null)));
                    let named = events.iter().filter_map(|event| event.pointer(id)?.as_str()).count();
                    assert!(id.is_empty() || named > 0 || got.is_empty(), "{dialect:?} {last}");
                }
            }
        }
    }
}

#[test]
fn the_ending_says_what_its_dialect_says_of_a_length_limit() {
    let ending = Ending { created_s: 7, choices: 2, usage: Some((5, 2)), note: "{}" };
    let last = |dialect, stream: &str| {
        let (_, meter) = stopped(dialect, stream, 4096, 1, false).unwrap();
        events(std::str::from_utf8(&meter.ending(&ending).unwrap()).unwrap())
    };
    let chat = last(Dialect::OpenAiChat, CHAT);
    assert_eq!(chat[0]["choices"][1]["finish_reason"], "length");
    assert_eq!((&chat[1]["usage"]["total_tokens"], &chat[2]), (&7.into(), &"[DONE]".into()));
    assert_eq!((&chat[0]["id"], &chat[0]["object"]), (&"c-1".into(), &"chat.completion.chunk".into()));
    let response = &last(Dialect::OpenAiResponses, RESPONSE)[0];
    assert_eq!(response["response"]["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!((&response["sequence_number"], &response["response"]["id"]), (&2.into(), &"r-1".into()));
    let message = last(Dialect::AnthropicMessages, MESSAGE);
    assert_eq!((&message[0]["type"], &message[0]["index"]), (&"content_block_stop".into(), &1.into()));
    assert_eq!(message[1]["delta"]["stop_reason"], "max_tokens");
    assert_eq!(
        (&message[1]["usage"]["output_tokens"], &message[2]["type"]),
        (&2.into(), &"message_stop".into())
    );
}

#[test]
fn the_ending_says_what_other_dialects_say_of_a_length_limit() {
    let ending = Ending { created_s: 7, choices: 2, usage: Some((5, 2)), note: "{}" };
    let last = |dialect, stream: &str| {
        let (got, meter) = stopped(dialect, stream, 4096, 1, false).unwrap();
        events(&(got + std::str::from_utf8(&meter.ending(&ending).unwrap()).unwrap())).pop().unwrap()
    };
    for stream in [GEMINI, ARRAY] {
        let gemini = last(Dialect::GeminiGenerate, stream);
        assert_eq!(gemini["candidates"][1]["finishReason"], "MAX_TOKENS");
        assert_eq!(gemini["usageMetadata"]["totalTokenCount"], 7);
    }
    let ollama = last(Dialect::OllamaChat, LINES);
    assert_eq!((&ollama["done"], &ollama["done_reason"]), (&true.into(), &"length".into()));
    assert_eq!(
        (&ollama["created_at"], &ollama["message"]["content"]),
        (&"1970-01-01T00:00:07Z".into(), &"".into())
    );
    assert_eq!((&ollama["prompt_eval_count"], &ollama["eval_count"]), (&5.into(), &2.into()));
    assert_eq!(last(Dialect::OllamaGenerate, GENERATE)["response"], "");
    let llama = last(Dialect::LlamaCppCompletion, LLAMA);
    assert_eq!((&llama["stop"], &llama["stop_type"]), (&true.into(), &"limit".into()));
    let dash = last(Dialect::DashScope, DASH);
    assert_eq!(dash["output"]["choices"][0]["finish_reason"], "length");
    assert_eq!((&dash["usage"]["total_tokens"], &dash["request_id"]), (&7.into(), &"d-1".into()));
}

/// A client that takes the last event for the whole answer must not get an empty one.
#[test]
fn a_stream_that_repeats_itself_is_not_cut() {
    let repeated = DASH.replace("two", "one two");
    let first = &DASH[..DASH.len() / 2];
    for (case, stream) in [("each time all so far", repeated.as_str()), ("cannot be told yet", first)] {
        assert!(stopped(Dialect::DashScope, stream, 4096, stream.len(), false).is_none(), "{case}");
    }
    let image = "data: {\"type\":\"image_generation.partial_image\",\"b64_json\":\"AA\"}\n\n";
    assert!(stopped(Dialect::OpenAiImages, image, 4096, 1, false).is_none());
}

#[test]
fn what_is_no_stream_cannot_be_ended() {
    let head = Head { status: 200, content_type: None, content_encoding: None, hide_usage_chunk: false };
    let mut meter = Meter::new(Dialect::OpenAiChat, head);
    let mut out = Vec::new();
    meter.feed(Bytes::from_static(b"{\"choices\":["), &mut out);
    assert!(!meter.cut(&mut out));
    let gzip = Head { content_encoding: Some("gzip"), ..head };
    let mut meter = Meter::new(Dialect::OpenAiChat, gzip);
    assert!(!meter.cut(&mut out));
}

#[test]
fn names_of_the_upstream_cannot_break_the_json() {
    let odd =
        "data: {\"id\":\"a\\\"b\\\\\\n\",\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";
    let (_, meter) = stopped(Dialect::OpenAiChat, odd, 4096, 1, false).unwrap();
    let ending = Ending { created_s: 7, choices: 1, usage: None, note: "{}" };
    let last = meter.ending(&ending).unwrap();
    assert_eq!(events(std::str::from_utf8(&last).unwrap())[0]["id"], "a\"b\\\n");
}

/// Parts the stream as soon as the client has `enough` bytes, writes `note` there, and goes on; whether it was parted.
fn parted(dialect: Dialect, head: Head<'_>, stream: &str, size: usize, enough: usize) -> (String, bool) {
    let mut meter = Meter::new(dialect, head);
    let (mut got, mut wanted) = (Vec::new(), true);
    for chunk in stream.as_bytes().chunks(size) {
        let mut out = Vec::new();
        meter.feed(Bytes::copy_from_slice(chunk), &mut out);
        let parts = wanted && got.len() + chunk.len() >= enough;
        let rest = if parts { meter.part(&mut out) } else { None };
        got.extend(out.concat());
        if let Some(rest) = rest {
            got.extend_from_slice(&meter.between_events(NOTE));
            got.extend_from_slice(&rest);
            wanted = false;
        }
    }
    let mut rest = Vec::new();
    let metered = meter.end(End::Eof, &mut rest);
    got.extend(rest.concat());
    assert_eq!(metered.text_bytes, 6, "every event is read, once");
    (String::from_utf8(got).unwrap(), !wanted)
}

const NOTE: &str = "event: note\ndata: {\"note\":true}\n\n";

/// Events as a reader of event streams has them: name and data, whatever ends their lines.
fn read(stream: &str) -> Vec<(String, String)> {
    let lines = stream.replace("\r\n", "\n").replace('\r', "\n");
    let blocks = lines.split("\n\n").map(|block| {
        let of = |field: &str| block.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
        (of("event:").trim().to_owned(), of("data:").trim().to_owned())
    });
    blocks.filter(|(_, data)| !data.is_empty()).collect()
}

/// ENG-9: our events stand between whole events of the upstream, and its own are what they were, at any chunking.
#[test]
fn eng_9_a_stream_that_goes_on_has_our_event_between_its_own() {
    let head = Head {
        status: 200,
        content_type: Some("text/event-stream; charset=utf-8"),
        content_encoding: None,
        hide_usage_chunk: false,
    };
    let (crlf, cr) = (CHAT.replace('\n', "\r\n"), CHAT.replace('\n', "\r"));
    let message = MESSAGE.replace("one", "onetwo");
    for (dialect, stream) in [
        (Dialect::OpenAiChat, CHAT),
        (Dialect::OpenAiChat, &crlf),
        (Dialect::OpenAiChat, &cr),
        (Dialect::OpenAiCompletions, TEXT),
        (Dialect::AnthropicMessages, &message),
    ] {
        let whole = read(stream);
        for hide in [false, true] {
            for size in [1, 2, 3, 7, 64, 4096] {
                for enough in 1..stream.len() {
                    let head = Head { hide_usage_chunk: hide, ..head };
                    let (got, is_parted) = parted(dialect, head, stream, size, enough);
                    let mut events = read(&got);
                    let notes = events.iter().filter(|(name, _)| name == "note").count();
                    assert_eq!(notes, usize::from(is_parted), "{got:?}");
                    events.retain(|(name, _)| name != "note");
                    assert_eq!(events, whole, "{dialect:?} {hide} {size} {enough} {got:?}");
                }
            }
        }
    }
}

#[test]
fn eng_9_nothing_is_written_into_what_is_no_event_stream() {
    let head = Head { status: 200, content_type: None, content_encoding: None, hide_usage_chunk: false };
    let labelled = Head { content_type: Some("text/event-stream"), ..head };
    let gzip = Head { content_encoding: Some("gzip"), ..labelled };
    for (dialect, head, stream) in [
        (Dialect::OpenAiChat, head, CHAT),
        (Dialect::OpenAiChat, gzip, CHAT),
        (Dialect::OllamaChat, labelled, LINES),
        (Dialect::GeminiGenerate, labelled, ARRAY),
        (Dialect::DashScope, labelled, &DASH[..DASH.len() / 2]),
    ] {
        let mut meter = Meter::new(dialect, head);
        let mut out = Vec::new();
        meter.feed(Bytes::copy_from_slice(stream.as_bytes()), &mut out);
        assert_eq!(meter.part(&mut out), None, "{dialect:?}");
        assert_eq!(out.concat(), stream.as_bytes());
    }
}
