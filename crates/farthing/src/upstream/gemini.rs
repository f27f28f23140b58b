//! As Gemini would say it: whole, as events, or as one array in pieces.

use serde_json::{Value, json};

use super::Said;

/// The model that a path names, and whether it asks for a stream.
pub(super) fn asked(path: &str) -> Option<(&str, bool)> {
    let (model, verb) = path.strip_prefix("/v1beta/models/")?.split_once(':')?;
    match verb {
        "generateContent" => Some((model, false)),
        "streamGenerateContent" => Some((model, true)),
        _ => None,
    }
}

pub(super) fn document(said: &Said) -> Value {
    chunk(said, &said.text(), true)
}

/// Events with `alt=sse`, else the pieces of an array.
pub(super) fn stream(said: &Said, as_events: bool) -> Vec<String> {
    let last = said.words.len().saturating_sub(1);
    let chunks = said.words.iter().enumerate().map(|(at, word)| (at, chunk(said, word, at == last)));
    let frame = |(at, chunk): (usize, Value)| match (as_events, at) {
        (true, _) => format!("data: {chunk}\r\n\r\n"),
        (false, 0) => format!("[{chunk}"),
        (false, _) => format!(",\r\n{chunk}"),
    };
    let mut pieces: Vec<_> = chunks.map(frame).collect();
    if !as_events {
        pieces.push("]".to_owned());
    }
    pieces
}

fn chunk(said: &Said, text: &str, is_last: bool) -> Value {
    let (input, output) = (said.input, said.words.len());
    let mut candidate = json!({"content": {"role": "model", "parts": [{"text": text}]}, "index": 0});
    let mut usage = json!({"promptTokenCount": input, "totalTokenCount": input});
    if is_last {
        candidate["finishReason"] = if said.cut { "MAX_TOKENS" } else { "STOP" }.into();
        usage["candidatesTokenCount"] = output.into();
        usage["totalTokenCount"] = (input + output).into();
    }
    json!({"candidates": [candidate], "usageMetadata": usage, "modelVersion": said.model, "responseId": "play"})
}
