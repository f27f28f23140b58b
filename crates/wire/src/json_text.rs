//! JSON as it is written, member by member, where a tree of values would cost more than the text (PERF-33).

use std::borrow::Cow;
use std::fmt::{Display, Write as _};

/// An object on its way into a text.
///
/// ```
/// let text = wire::json_text::object(|members| {
///     members.text("code", "over_key_budget");
///     members.object("error", |error| error.number("status", 402));
/// });
/// assert_eq!(text, r#"{"code":"over_key_budget","error":{"status":402}}"#);
/// ```
pub struct Members<'t> {
    text: &'t mut String,
    is_first: bool,
}

/// The text of an object.
#[must_use]
pub fn object(fill: impl FnOnce(&mut Members<'_>)) -> String {
    object_of(512, fill)
}

/// The text of an object of about so many bytes.
#[must_use]
pub fn object_of(bytes: usize, fill: impl FnOnce(&mut Members<'_>)) -> String {
    let mut text = String::with_capacity(bytes);
    push_object(&mut text, fill);
    text
}

/// Appends an object.
pub fn push_object(text: &mut String, fill: impl FnOnce(&mut Members<'_>)) {
    text.push('{');
    fill(&mut Members { text, is_first: true });
    text.push('}');
}

/// Names are words of ours, in which nothing is escaped.
impl Members<'_> {
    /// A string.
    pub fn text(&mut self, name: &'static str, value: &str) {
        push_string(self.named(name), value);
    }

    /// A string of several parts.
    pub fn parts(&mut self, name: &'static str, parts: &[&str]) {
        let text = self.named(name);
        text.push('"');
        parts.iter().for_each(|part| push_escaped(text, part));
        text.push('"');
    }

    /// A string, where there is one.
    pub fn some_text(&mut self, name: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    /// A string of what a value displays as, in which nothing is escaped either: digits, an id.
    pub fn shown(&mut self, name: &'static str, value: impl Display) {
        let text = self.named(name);
        // Writing to a `String` cannot fail.
        _ = write!(text, "\"{value}\"");
    }

    /// A number.
    pub fn number(&mut self, name: &'static str, value: u64) {
        self.named(name).push_str(itoa::Buffer::new().format(value));
    }

    /// A number, where there is one.
    pub fn some_number(&mut self, name: &'static str, value: Option<u64>) {
        if let Some(value) = value {
            self.number(name, value);
        }
    }

    /// `true` or `false`.
    pub fn flag(&mut self, name: &'static str, value: bool) {
        self.named(name).push_str(if value { "true" } else { "false" });
    }

    /// `null`.
    pub fn null(&mut self, name: &'static str) {
        self.named(name).push_str("null");
    }

    /// What is JSON already.
    pub fn json(&mut self, name: &'static str, json: &str) {
        self.named(name).push_str(json);
    }

    /// An object.
    pub fn object(&mut self, name: &'static str, fill: impl FnOnce(&mut Members<'_>)) {
        push_object(self.named(name), fill);
    }

    /// An array of objects.
    pub fn objects<T>(
        &mut self,
        name: &'static str,
        all: impl IntoIterator<Item = T>,
        mut fill: impl FnMut(&mut Members<'_>, T),
    ) {
        let text = self.named(name);
        text.push('[');
        for (index, item) in all.into_iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            push_object(text, |members| fill(members, item));
        }
        text.push(']');
    }

    /// An array of what is JSON already.
    pub fn array<'j>(&mut self, name: &'static str, all: impl IntoIterator<Item = &'j str>) {
        let text = self.named(name);
        text.push('[');
        for (index, json) in all.into_iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            text.push_str(json);
        }
        text.push(']');
    }

    /// Writes the name and hands the text over for the value.
    fn named(&mut self, name: &'static str) -> &mut String {
        debug_assert!(!has_escaped(name), "{name:?} is no word of ours");
        if !std::mem::take(&mut self.is_first) {
            self.text.push(',');
        }
        self.text.push('"');
        self.text.push_str(name);
        self.text.push('"');
        self.text.push(':');
        self.text
    }
}

/// Appends a string in its quotes, escaping what has to be and nothing else, as JCS does (RFC 8785).
pub fn push_string(text: &mut String, string: &str) {
    text.push('"');
    push_escaped(text, string);
    text.push('"');
}

/// A string as it stands between quotes.
#[must_use]
pub fn escaped(string: &str) -> Cow<'_, str> {
    if !has_escaped(string) {
        return Cow::Borrowed(string);
    }
    let mut text = String::with_capacity(string.len() + 8);
    push_escaped(&mut text, string);
    Cow::Owned(text)
}

fn push_escaped(text: &mut String, string: &str) {
    if !has_escaped(string) {
        return text.push_str(string);
    }
    let mut rest = string;
    // What is escaped is one byte, so a place before or behind it is the end of a character.
    while let Some(place) = rest.bytes().position(is_escaped) {
        let (plain, behind) = rest.split_at(place);
        text.push_str(plain);
        let mut letters = behind.chars();
        match letters.next() {
            Some('"') => text.push_str("\\\""),
            Some('\\') => text.push_str("\\\\"),
            Some('\u{8}') => text.push_str("\\b"),
            Some('\t') => text.push_str("\\t"),
            Some('\n') => text.push_str("\\n"),
            Some('\u{c}') => text.push_str("\\f"),
            Some('\r') => text.push_str("\\r"),
            Some(other) => _ = write!(text, "\\u{:04x}", u32::from(other)),
            None => {}
        }
        rest = letters.as_str();
    }
    text.push_str(rest);
}

/// Whether anything is to be escaped, which is rare: so all of it is looked at, eight bytes at once. Most texts are short, and the
/// last eight are looked at again rather than what is left one by one.
fn has_escaped(string: &str) -> bool {
    let bytes = string.as_bytes();
    let Some(last) = bytes.last_chunk() else { return bytes.iter().any(|byte| is_escaped(*byte)) };
    let mut found = escaped_in(u64::from_le_bytes(*last));
    for word in bytes.as_chunks().0 {
        found |= escaped_in(u64::from_le_bytes(*word));
    }
    found != 0
}

/// Not 0 where any of eight bytes is to be escaped: one is below another where the difference borrows, and the same where both
/// together are none.
const fn escaped_in(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const fn below(word: u64, byte: u8) -> u64 {
        word.wrapping_sub(EACH * byte as u64) & !word
    }
    let (quote, backslash) = (word ^ (EACH * b'"' as u64), word ^ (EACH * b'\\' as u64));
    (below(word, 0x20) | below(quote, 1) | below(backslash, 1)) & (EACH << 7)
}

const fn is_escaped(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | 0..=0x1f)
}

#[cfg(test)]
mod tests {
    use super::{escaped, object, push_string};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn an_object_reads_as_what_was_put_in() {
        let text = object(|members| {
            members.text("text", "a \"quoted\"\n\u{1} €");
            members.parts("parts", &["/requests/", "\\", "7"]);
            members.some_text("there", Some(""));
            members.some_text("absent", None);
            members.shown("shown", 1_u128 << 64);
            members.number("number", u64::MAX);
            members.number("ten", 10);
            members.some_number("zero", Some(0));
            members.some_number("none", None);
            members.flag("flag", true);
            members.null("null");
            members.json("json", "[1,2]");
            members.array("array", ["{}", "\"a\""]);
            members.object("empty", |_| {});
            members.object("object", |inner| inner.text("a", "c"));
            members.objects("objects", [1, 2], |each, number| each.number("n", number));
        });
        assert_eq!(
            serde_json::from_str::<Value>(&text).unwrap(),
            json!({
                "text": "a \"quoted\"\n\u{1} €", "parts": "/requests/\\7", "there": "", "shown": "18446744073709551616",
                "number": u64::MAX, "ten": 10, "zero": 0, "flag": true, "null": null, "json": [1, 2],
                "array": [{}, "a"], "empty": {}, "object": {"a": "c"}, "objects": [{"n": 1}, {"n": 2}],
            })
        );
    }

    proptest! {
        #[test]
        fn strings_are_written_as_serde_writes_them(string in any::<String>()) {
            let mut text = String::new();
            push_string(&mut text, &string);
            prop_assert_eq!(&text, &serde_json::to_string(&string).unwrap());
            prop_assert_eq!(format!("\"{}\"", escaped(&string)), text);
        }
    }
}
