//! As Ollama would say it: a document, or one per line.

use serde_json::{Value, json};

use super::Said;

pub(super) fn document(said: &Said, path: &str) -> Value {
    last(said, path, &said.text())
}

pub(super) fn lines(said: &Said, path: &str) -> Vec<String> {
    let mut lines: Vec<_> = said.words.iter().map(|word| format!("{}\n", line(said, path, word))).collect();
    lines.push(format!("{}\n", last(said, path, "")));
    lines
}

fn line(said: &Said, path: &str, text: &str) -> Value {
    let mut line = json!({"model": said.model, "created_at": "2026-11-20T00:00:00Z", "done": false});
    if path == "/api/chat" {
        line["message"] = json!({"role": "assistant", "content": text});
    } else {
        line["response"] = text.into();
    }
    line
}

fn last(said: &Said, path: &str, text: &str) -> Value {
    let mut last = line(said, path, text);
    last["done"] = true.into();
    last["done_reason"] = said.finish().into();
    last["prompt_eval_count"] = said.input.into();
    last["eval_count"] = said.words.len().into();
    last
}
