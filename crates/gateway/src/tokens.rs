//! Tokens of a text, counted as the `o200k` family counts them (MTR-24). Slow and blocking: never called where an
//! answer waits its turn.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer as _, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The most text that is counted; what goes beyond is taken in its ratio.
pub(crate) const COUNTED_BYTES_MAX: usize = 64 * 1024;
/// The same where many wait for it.
pub(crate) const HURRIED_BYTES_MAX: usize = 4 * 1024;
/// A text is counted in parts of about this size, cut before white space, where no token crosses.
const PART_BYTES: usize = 2048;
/// The most text of a request that is counted whole: half a second's work.
const WHOLE_BYTES_MAX: usize = 1024 * 1024;
/// Longest run without white space that is counted at once: the time grows with its square.
const RUN_BYTES_MAX: usize = 1024;

/// Loads the tables, if nobody has: half a second's work, and much more where others want the cores.
pub(crate) fn load() {
    tiktoken_rs::o200k_base_singleton();
}

/// Tokens of a text.
pub(crate) fn count(text: &str) -> u64 {
    let tokenizer = tiktoken_rs::o200k_base_singleton();
    parts(text).map(|part| tokenizer.count_ordinary(part) as u64).sum()
}

/// Tokens of a request's texts, of which only the beginning is counted if they are longer than that. Nothing for a body
/// that is no JSON.
pub(crate) fn count_sample(body: &[u8], counted_bytes_max: usize) -> Option<u64> {
    let texts = Texts::of(body)?;
    Some(in_ratio(beginning(&texts.text, counted_bytes_max), texts.bytes))
}

/// So many bytes of a text, and no half of a character.
pub(crate) fn beginning(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default()
}

/// Tokens of so many bytes that begin like this.
fn in_ratio(sample: &str, bytes: usize) -> u64 {
    let (counted, bytes) = (u128::from(count(sample)), bytes as u128);
    let scaled = (counted * bytes).div_ceil(sample.len().max(1) as u128);
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// What a request's texts come to, for a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Tokens, counted whole.
    Tokens(u64),
    /// Too much text to be counted while somebody waits.
    Long,
    /// Sounds, films or files stand beside the texts, or it is no JSON: its texts say too little.
    NotText,
}

/// Tokens of a request's texts, counted whole or not at all.
pub(crate) fn count_request(body: &[u8]) -> Asked {
    match Texts::of(body) {
        Some(texts) if texts.bytes > WHOLE_BYTES_MAX => Asked::Long,
        Some(texts) if !texts.has_recordings => Asked::Tokens(count(&texts.text)),
        Some(_) | None => Asked::NotText,
    }
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

/// Longest member or word that is thought to be one of the API's own, and no text.
const WORD_BYTES_MAX: usize = 64;

/// Longest setting of a request that is passed over. A longer one has something for the model in it: a schema,
/// documents, a prompt under another name.
const SETTING_BYTES_MAX: usize = 256;

/// Deepest value that is looked into; a deeper one is read as it stands. Each level is one more pass over it.
const DEPTH_MAX: usize = 12;

/// Most members of one object.
const MEMBERS_MAX: usize = 10_000;

type Members<'b> = Vec<(Cow<'b, str>, &'b RawValue)>;

/// What of a request a model reads as text, one text after the other. Whoever asks also decides where it stands, so
/// nothing is passed over for its name alone that is not short or plainly an image. No tree is built: that would take
/// a hundred times the body.
#[derive(Default)]
struct Texts {
    /// The beginning.
    text: String,
    /// All of it.
    bytes: usize,
    /// Sounds, films and files: nobody here knows how many tokens they are.
    has_recordings: bool,
}

impl Texts {
    /// Nothing for a body that is no JSON.
    fn of(body: &[u8]) -> Option<Self> {
        let request = members(std::str::from_utf8(body).ok()?)?;
        let mut texts = Self::default();
        for (name, value) in request {
            match name.as_ref() {
                "messages" | "input" | "prompt" | "system" | "contents" | "content" | "systemInstruction"
                | "system_instruction" | "instructions" | "suffix" | "requests" => texts.gather(value, 0)?,
                // The model reads a schema as it stands.
                "tools" | "functions" | "response_format" => texts.add(value.get()),
                "images" => {}
                _ if value.get().len() > SETTING_BYTES_MAX => texts.add(value.get()),
                _ => {}
            }
        }
        Some(texts)
    }

    fn gather(&mut self, value: &RawValue, depth: usize) -> Option<()> {
        let raw = value.get();
        match raw.as_bytes().first()? {
            b'{' | b'[' if depth == DEPTH_MAX => self.add(raw),
            b'"' => self.add(&string(value)?),
            b'{' => {
                let members = members(raw)?;
                for (name, value) in &members {
                    if name.len() > WORD_BYTES_MAX {
                        self.add(name);
                    }
                    self.member(&members, name, value, depth)?;
                }
            }
            b'[' => elements(raw, |element| self.gather(element, depth + 1))?,
            b'n' | b't' | b'f' => {}
            // A prompt may be given as the tokens themselves.
            _ => self.add(raw),
        }
        Some(())
    }

    fn member(&mut self, beside: &Members<'_>, name: &str, value: &RawValue, depth: usize) -> Option<()> {
        match name {
            "role" | "type" | "id" | "call_id" | "tool_call_id" | "tool_use_id" | "file_id"
            | "cache_control" | "media_type" | "mimeType" | "mime_type" | "detail" => {
                if value.get().len() > WORD_BYTES_MAX {
                    self.add(value.get());
                }
            }
            // What a tool was called with and what it gave back: an object of the caller's choosing, read as it stands.
            "input" | "args" | "arguments" | "response" if value.get().starts_with('{') => {
                self.add(value.get())
            }
            "image_url" | "image" | "images" if !is_recording(value) => {}
            "data" if is_image(beside) => {}
            "file_data" | "input_audio" | "audio" | "audio_url" | "video" | "video_url" | "image_url"
            | "image" | "images" | "data" | "multimodal_data" => self.has_recordings = true,
            // Signs a thought; no model reads it.
            "signature" | "thoughtSignature" | "thought_signature" => {}
            _ => self.gather(value, depth + 1)?,
        }
        Some(())
    }

    fn add(&mut self, text: &str) {
        // A line each: no token crosses from one to the next.
        let line = usize::from(self.bytes > 0);
        self.bytes = self.bytes.saturating_add(line).saturating_add(text.len());
        if self.text.len() <= WHOLE_BYTES_MAX {
            self.text.push_str("\n".get(..line).unwrap_or_default());
            let end = text.floor_char_boundary(WHOLE_BYTES_MAX);
            self.text.push_str(text.get(..end).unwrap_or_default());
        }
    }
}

/// The members of an object; nothing where it is none, or has too many.
fn members(raw: &str) -> Option<Members<'_>> {
    struct Read;
    impl<'de> Visitor<'de> for Read {
        type Value = Members<'de>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some((Word(name), value)) = map.next_entry()? {
                if members.len() == MEMBERS_MAX {
                    return Err(A::Error::custom("too many members"));
                }
                members.push((name, value));
            }
            Ok(members)
        }
    }
    serde_json::Deserializer::from_str(raw).deserialize_map(Read).ok()
}

/// Hands each element of an array on.
fn elements<'b>(raw: &'b str, take: impl FnMut(&'b RawValue) -> Option<()>) -> Option<()> {
    struct Read<F>(F);
    impl<'de, F: FnMut(&'de RawValue) -> Option<()>> Visitor<'de> for Read<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
            while let Some(element) = list.next_element()? {
                (self.0)(element).ok_or_else(|| A::Error::custom("not read"))?;
            }
            Ok(())
        }
    }
    serde_json::Deserializer::from_str(raw).deserialize_seq(Read(take)).ok()
}

/// A string as it stands where it has no escapes.
#[derive(Deserialize)]
struct Word<'b>(#[serde(borrow)] Cow<'b, str>);

fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str(value.get()).ok().map(|Word(text)| text)
}

/// Whether the data beside these members says that it is an image, and nothing else.
fn is_image(beside: &Members<'_>) -> bool {
    let mut kinds = beside
        .iter()
        .filter(|(name, _)| matches!(name.as_ref(), "media_type" | "mimeType" | "mime_type"))
        .map(|(_, kind)| kind.get().starts_with("\"image/"))
        .peekable();
    kinds.peek().is_some() && kinds.all(|is_image| is_image)
}

/// Whether what stands where an image belongs says that it is something else.
fn is_recording(value: &RawValue) -> bool {
    let raw = value.get();
    match raw.as_bytes().first() {
        Some(b'"') => {
            string(value).is_some_and(|text| text.starts_with("data:") && !text.starts_with("data:image/"))
        }
        Some(b'{') => members(raw)
            .is_none_or(|members| members.iter().any(|(name, url)| name == "url" && is_recording(url))),
        Some(b'[') => elements(raw, |element| (!is_recording(element)).then_some(())).is_none(),
        _ => false,
    }
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
    use serde_json::{Value, json};

    use super::{Asked, COUNTED_BYTES_MAX, Texts, beginning, count, count_request, in_ratio, parts};

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
        assert!(in_ratio(beginning(&long, COUNTED_BYTES_MAX), long.len()).abs_diff(exact) <= exact / 100);
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
            (r#"{"messages":[{"role":"user","content":"data:a b"}]}"#, "data:a b"),
            (r#"{"input":[[1,22],[3]]}"#, "1\n22\n3"),
            (
                r#"{"messages":[{"content":[{"type":"tool_use","id":"t","input":{"data":"a b","type":"image"}}]}]}"#,
                "{\"data\":\"a b\",\"type\":\"image\"}",
            ),
            (
                r#"{"contents":[{"parts":[{"functionResponse":{"name":"f","response":{"url":"a b"}}}]}]}"#,
                "f\n{\"url\":\"a b\"}",
            ),
        ] {
            let mut found: Vec<_> =
                Texts::of(body.as_bytes()).unwrap().text.lines().map(str::to_owned).collect();
            let mut expected: Vec<_> = expected.lines().map(str::to_owned).collect();
            found.sort();
            expected.sort();
            assert_eq!(found, expected, "{body}");
        }
        assert!(Texts::of(b"--b\r\n").is_none());
    }

    /// Wherever a caller puts what the model is to read, it is counted; what is neither text nor an image is not
    /// taken for little.
    #[test]
    fn nothing_is_hidden_from_a_hold() {
        let words = "words of a prompt ".repeat(100);
        for body in [
            json!({"messages": [{"role": "user", "content": format!("data:{words}")}]}),
            json!({"messages": [{"role": words, "content": "a"}]}),
            json!({"messages": [{"role": "user", "content": [{"type": "tool_use", "id": "t", "input": {"data": words}}]}]}),
            json!({"messages": [{"role": "user", "content": [{"type": "tool_use", "id": "t", "input": {&words: 1}}]}]}),
            json!({"messages": [{"tool_calls": [{"function": {"arguments": {"image": words, "media_type": "image/png"}}}]}]}),
            json!({"contents": [{"parts": [{"functionResponse": {"response": {"url": words}}}]}]}),
            json!({"messages": [{"content": "a"}], "documents": [{"text": words}]}),
            json!({"input": vec![7; 500]}),
        ] {
            let Asked::Tokens(tokens) = count_request(body.to_string().as_bytes()) else { panic!("{body}") };
            assert!(tokens >= 400, "{tokens}: {body}");
        }
        for part in [
            json!({"type": "file", "file": {"file_data": "data:application/pdf;base64,AA"}}),
            json!({"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}),
            json!({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a"}}),
            json!({"type": "image_url", "image_url": {"url": "data:application/pdf;base64,AA"}}),
            json!({"inlineData": {"mimeType": "video/mp4", "data": "AA"}}),
            json!({"inlineData": {"mimeType": "image/png", "mime_type": "video/mp4", "data": "AA"}}),
            json!({"video": ["a", "b"]}),
        ] {
            let body = json!({"messages": [{"role": "user", "content": [part]}]}).to_string();
            assert_eq!(count_request(body.as_bytes()), Asked::NotText, "{body}");
        }
        let image =
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}});
        let body = json!({"messages": [{"role": "user", "content": [image]}]}).to_string();
        assert_eq!(count_request(body.as_bytes()), Asked::Tokens(0));
        let mut deep = json!(words);
        for _ in 0..100 {
            deep = json!([deep]);
        }
        let body = json!({"input": deep}).to_string();
        assert!(matches!(count_request(body.as_bytes()), Asked::Tokens(400..)), "however deep");
        let many = format!("{{\"input\":{{{}\"a\":1}}}}", "\"a\":1,".repeat(10_000));
        assert_eq!(count_request(many.as_bytes()), Asked::NotText);
        let long = json!({"prompt": "a ".repeat(600 * 1024)}).to_string();
        assert_eq!(count_request(long.as_bytes()), Asked::Long);
    }
}
