//! From the bytes of a call to what it costs.

use std::hint::black_box;

use bytes::Bytes;
use meter::{CallTerms, Dialect, End, EstimateBasis, Head, Meter, Metered, scan_request};
use money::Rate;
use serde_json::Value;
use tariff::{Rates, Tariff};

use crate::vector;

const CHAT: &str = include_str!("../../../specs/vectors/usage/openai_chat.json");
const MESSAGES: &str = include_str!("../../../specs/vectors/usage/anthropic.json");

/// The scan of a chat request of 4 kB.
pub(crate) fn request_scan() -> Box<dyn FnMut()> {
    let text = "a word or two. ".repeat(260);
    let body = format!(
        r#"{{"model":"m","stream":true,"max_tokens":64,"messages":[{{"role":"user","content":"{text}"}}]}}"#
    );
    Box::new(move || {
        black_box(scan_request(Dialect::OpenAiChat, black_box(body.as_bytes()))).expect("scans");
    })
}

/// The answer of a vector as its bytes.
fn answer(file: &str, id: &str) -> Bytes {
    let file = vector(file);
    let cases = file.get("cases").and_then(Value::as_array).expect("cases");
    let case = cases.iter().find(|case| case.get("id").is_some_and(|name| name == id)).expect("the case");
    let body = case.pointer("/response/body_utf8").and_then(Value::as_str).expect("a body");
    Bytes::from(body.to_owned())
}

fn metered(dialect: Dialect, content_type: &str, chunks: &[Bytes]) -> Metered {
    let content_type = Some(content_type);
    let head = Head { status: 200, content_type, content_encoding: None, hide_usage_chunk: false };
    let mut meter = Meter::new(dialect, head);
    let mut out = Vec::with_capacity(8);
    for chunk in chunks {
        meter.feed(black_box(chunk).clone(), &mut out);
        out.clear();
    }
    meter.end(End::Eof, &mut out)
}

/// Usage out of whole answers, in two dialects.
pub(crate) fn answer_usage() -> Box<dyn FnMut()> {
    let chat = [answer(CHAT, "oai-chat-nonstream")];
    let message = [answer(MESSAGES, "anth-nonstream")];
    Box::new(move || {
        black_box(metered(Dialect::OpenAiChat, "application/json", &chat));
        black_box(metered(Dialect::AnthropicMessages, "application/json", &message));
    })
}

/// Usage out of streams, in two dialects, chunk by chunk: one of them with 100 more events.
pub(crate) fn stream_usage() -> Box<dyn FnMut()> {
    let event = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word \"},\"logprobs\":null,\"finish_reason\":null}]}\n\n";
    let mut chat = vec![Bytes::from_static(event.as_bytes()); 100];
    chat.extend(events(&answer(CHAT, "oai-chat-stream-usage")));
    let message = events(&answer(MESSAGES, "anth-stream"));
    Box::new(move || {
        black_box(metered(Dialect::OpenAiChat, "text/event-stream", &chat));
        black_box(metered(Dialect::AnthropicMessages, "text/event-stream", &message));
    })
}

/// A stream cut into its events.
fn events(stream: &Bytes) -> Vec<Bytes> {
    let text = std::str::from_utf8(stream).expect("text");
    text.split_inclusive("\n\n").map(|event| Bytes::from(event.to_owned())).collect()
}

/// What the usage of a call costs.
pub(crate) fn bill() -> Box<dyn FnMut()> {
    let chat = [answer(CHAT, "oai-chat-nonstream")];
    let usage = metered(Dialect::OpenAiChat, "application/json", &chat);
    let request = br#"{"model":"m","max_tokens":64,"messages":[{"role":"user","content":"word"}]}"#;
    let facts = scan_request(Dialect::OpenAiChat, request).expect("scans");
    let basis = EstimateBasis::new(&facts, request.len() as u64, Some(64));
    let (input, output) = (Rate::from_femto(2_000_000_000), Rate::from_femto(10_000_000_000));
    let tariff = Tariff::from(Rates { input, output, ..Rates::default() });
    Box::new(move || {
        black_box(meter::charge(&tariff, black_box(&usage), &basis, &CallTerms::default()))
            .expect("is billed");
    })
}
