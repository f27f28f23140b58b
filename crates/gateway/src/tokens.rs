//! Tokens of a text, counted as the `o200k` family counts them (MTR-24). Slow and blocking: never called where an
//! answer waits its turn.

use std::borrow::Cow;

use serde_json::Value;

/// The most text that is counted; what goes beyond is taken in its ratio.
const COUNTED_BYTES_MAX: usize = 64 * 1024;
/// A text is counted in parts of about this size, cut before white space, where no token crosses.
const PART_BYTES: usize = 2048;
/// Longest run without white space that is counted at once: the time grows with its square.
const RUN_BYTES_MAX: usize = 1024;

/// Tokens of a text.
pub(crate) fn count(text: &str) -> u64 {
    let tokenizer = tiktoken_rs::o200k_base_singleton();
    parts(text).map(|part| tokenizer.count_ordinary(part) as u64).sum()
}

/// Tokens of a text, of which only the beginning is counted if it is long.
pub(crate) fn count_sample(text: &str) -> u64 {
    let end = text.floor_char_boundary(COUNTED_BYTES_MAX);
    let sample = text.get(..end).unwrap_or_default();
    let (counted, bytes) = (u128::from(count(sample)), text.len() as u128);
    let scaled = (counted * bytes).div_ceil(sample.len().max(1) as u128);
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// Tokens of a text that is counted whole or not at all.
pub(crate) fn count_whole(text: &str) -> Option<u64> {
    /// Half a second's work.
    const WHOLE_BYTES_MAX: usize = 1024 * 1024;
    (text.len() <= WHOLE_BYTES_MAX).then(|| count(text))
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (part, after) = rest.split_at(cut(rest));
        rest = after;
        (!part.is_empty()).then_some(part)
    })
}

/// Where the first part ends.
fn cut(text: &str) -> usize {
    let (mut run, mut after_letter) = (0, false);
    for (at, character) in text.char_indices() {
        if character.is_whitespace() {
            if at >= PART_BYTES {
                return at;
            }
            run = at + character.len_utf8();
        } else if at - run >= RUN_BYTES_MAX
            || after_letter && at - run >= RUN_BYTES_MAX / 2 && is_stop(character)
        {
            return at;
        }
        after_letter = character.is_alphabetic();
    }
    text.len()
}

/// What ends a word where no white space does: no token has letters before it.
fn is_stop(character: char) -> bool {
    matches!(character, '.' | ',' | ';' | ':' | '!' | '?' | '(' | '"' | '\u{3001}'..='\u{3011}')
        || matches!(character, '\u{ff01}' | '\u{ff08}' | '\u{ff0c}' | '\u{ff1a}' | '\u{ff1b}' | '\u{ff1f}')
}

/// The texts of a request, one after the other: what is said in it, and the tools it declares. Nothing for a
/// body that is no JSON.
pub(crate) fn texts(body: &[u8]) -> Option<String> {
    let request: Value = serde_json::from_slice(body).ok()?;
    let mut texts = String::new();
    for (name, value) in request.as_object()? {
        match name.as_str() {
            "messages" | "input" | "prompt" | "system" | "contents" | "content" | "systemInstruction"
            | "system_instruction" | "instructions" | "suffix" | "requests" => gather(value, &mut texts),
            // The model reads a schema as it stands.
            "tools" | "functions" | "response_format" => add(&value.to_string(), &mut texts),
            _ => {}
        }
    }
    Some(texts)
}

fn gather(value: &Value, texts: &mut String) {
    match value {
        Value::String(text) if !text.starts_with("data:") => add(text, texts),
        Value::Array(all) => all.iter().for_each(|one| gather(one, texts)),
        Value::Object(members) => {
            for (_, value) in members.iter().filter(|(name, _)| !is_beside_text(name)) {
                gather(value, texts);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Members that no model reads as text: what kind a part is, and images, sounds and files.
fn is_beside_text(name: &str) -> bool {
    const BESIDE: [&str; 20] = [
        "role",
        "type",
        "id",
        "call_id",
        "tool_call_id",
        "tool_use_id",
        "data",
        "url",
        "file_id",
        "file_data",
        "image_url",
        "input_audio",
        "inlineData",
        "inline_data",
        "image",
        "images",
        "video",
        "cache_control",
        "signature",
        "media_type",
    ];
    BESIDE.contains(&name)
}

fn add(text: &str, texts: &mut String) {
    // A line each: no token crosses from one to the next.
    if !texts.is_empty() {
        texts.push('\n');
    }
    texts.push_str(text);
}

/// Text of an answer as it was kept: a character that was cut is none.
pub(crate) fn whole_characters(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(error) if error.error_len().is_none() => {
            let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
            String::from_utf8_lossy(valid)
        }
        Err(_) => String::from_utf8_lossy(bytes),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{count, count_sample, parts, texts};

    /// MTR-24: the counts of the reference.
    #[test]
    fn vectors() {
        let cases: Value =
            serde_json::from_str(include_str!("../../../specs/vectors/usage/tokenizer_cases.json")).unwrap();
        let cases = cases["cases"].as_array().unwrap();
        for case in cases {
            let expected = case["tokens"]["o200k_base"].as_u64().unwrap();
            assert_eq!(count(case["text"].as_str().unwrap()), expected, "{}", case["id"]);
        }
        assert_eq!(cases.len(), 10);
    }

    #[test]
    fn parts_are_the_text_and_none_takes_long() {
        let words = "some words and more of them, ".repeat(500);
        let run = "0123456789abcdef".repeat(4096);
        let spaces = " ".repeat(10_000);
        let wide = "网关".repeat(3000);
        for text in ["", "a", &words, &run, &spaces, &wide] {
            assert_eq!(parts(text).collect::<String>(), text);
            assert!(parts(text).all(|part| part.len() <= 2 * super::PART_BYTES));
        }
        let sentences = "网关会对未付款的请求返回付款要求，验证返回的付款凭证。".repeat(200);
        let listed = "a,list,of,words;without(any)white.space:".repeat(200);
        for text in [&words, &sentences, &listed] {
            let whole = tiktoken_rs::o200k_base_singleton().count_ordinary(text) as u64;
            assert_eq!(count(text), whole, "no token crosses a cut");
        }
        let long = "four words of text ".repeat(10_000);
        let exact = count(&long);
        assert!(count_sample(&long).abs_diff(exact) <= exact / 100);
    }

    #[test]
    fn texts_are_what_a_model_reads() {
        for (body, expected) in [
            (
                r#"{"model":"m","messages":[{"role":"user","content":"a b"},{"role":"user","content":[{"type":"text","text":"c"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AA"}}]}]}"#,
                "a b\nc",
            ),
            (
                r#"{"system":"s","messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AA"}}]}],"max_tokens":5}"#,
                "s",
            ),
            (r#"{"input":["a","b"],"instructions":"c"}"#, "a\nb\nc"),
            (r#"{"contents":[{"parts":[{"text":"a"},{"inlineData":{"data":"AA"}}]}]}"#, "a"),
            (r#"{"prompt":"a","tools":[{"x":1}]}"#, "a\n[{\"x\":1}]"),
        ] {
            let mut found: Vec<_> = texts(body.as_bytes()).unwrap().lines().map(str::to_owned).collect();
            let mut expected: Vec<_> = expected.lines().map(str::to_owned).collect();
            found.sort();
            expected.sort();
            assert_eq!(found, expected, "{body}");
        }
        assert_eq!(texts(b"--b\r\n"), None);
    }
}
