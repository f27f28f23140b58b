//! A structural JSON scanner that takes its input in pieces.
//!
//! It builds no tree. A table of paths says which values matter; every other value is checked for
//! balance and passed over. Memory is constant: one bit per open container, and a short buffer for
//! the key, number or word being read. So neither a 90 KB event nor a megabyte of embedding vectors
//! is ever collected (MTR-11, MTR-15, MTR-16).

use std::ops::Range;

use memchr::memchr2;

use crate::count::integral;
use crate::paths::{Keys, Paths};
use crate::text::{OutputText, Tap};

/// Deepest nesting we follow (MTR-16). One bit of a `u128` per level.
const NESTING_MAX: u32 = 128;

/// Longest key, number or word that is kept; nothing we look for is longer.
const KEPT_BYTES_MAX: usize = 256;

/// Room for what is usual at first: an answer has a scanner for as long as it is open.
const KEPT_BYTES: usize = 64;
const FRAMES: usize = 4;

/// A value at a path of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// The number as it was written; empty when it is longer than anything we accept.
    Number(&'a [u8]),
    /// A string: its length in UTF-8 bytes after unescaping, and its text if it is short.
    Text { bytes: u64, text: Option<&'a str> },
    /// An array of `len` elements.
    Array { len: u64 },
    /// An object of `len` members.
    Object { len: u64 },
}

impl<'a> Value<'a> {
    /// A short string.
    pub(crate) const fn text(&self) -> Option<&'a str> {
        match self {
            Self::Text { text, .. } => *text,
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Array { .. } | Self::Object { .. } => None,
        }
    }

    /// A number that is a whole count.
    pub(crate) fn count(&self) -> Option<u64> {
        match self {
            Self::Number(text) => integral(text),
            Self::Null | Self::Bool(_) | Self::Text { .. } | Self::Array { .. } | Self::Object { .. } => None,
        }
    }

    /// The length of an array.
    pub(crate) const fn elements(&self) -> Option<u64> {
        match self {
            Self::Array { len } => Some(*len),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text { .. } | Self::Object { .. } => None,
        }
    }

    /// The number of members of an object.
    pub(crate) const fn members(&self) -> Option<u64> {
        match self {
            Self::Object { len } => Some(*len),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text { .. } | Self::Array { .. } => None,
        }
    }
}

/// Receives what the scanner finds.
pub(crate) trait Sink {
    /// What the paths of the table lead to.
    type Slot: Copy + 'static;

    /// A value ended. `span` is where it stood, in bytes from the start of the document.
    fn value(&mut self, slot: Self::Slot, value: &Value<'_>, span: Range<u64>);

    /// A member begins (again): whatever an earlier one of the same name left in `slots` is void,
    /// because the last duplicate wins (MTR-15).
    fn restart(&mut self, _slots: &[Self::Slot]) {}

    /// A string or a number ended that no path leads to.
    fn idle(&mut self, _is_text: bool, _span: Range<u64>) {}

    /// Whether the text of a string at a slot is kept.
    fn tap(&self, _slot: Self::Slot) -> Tap {
        Tap::Not
    }

    /// An object on the way to some path has a key that is none of the `known` ones.
    fn stranger(&mut self, _known: Keys<'_>, _key: &[u8]) {}
}

/// How far a document has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It has not ended yet.
    Partial,
    /// One whole value, and nothing after it.
    Complete,
    /// Not JSON.
    Invalid,
    /// Nested deeper than we follow.
    TooDeep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Value,
    FirstElement,
    FirstKey,
    Key,
    Colon,
    After,
    Text,
    Escape,
    Hex(u8),
    Number,
    Word(&'static [u8]),
    Done,
    Bad(Outcome),
}

impl State {
    /// Whether a sign of the document's structure is what comes next.
    const fn is_between(self) -> bool {
        match self {
            Self::Value | Self::FirstElement | Self::FirstKey | Self::Key | Self::Colon | Self::After => true,
            Self::Text
            | Self::Escape
            | Self::Hex(_)
            | Self::Number
            | Self::Word(_)
            | Self::Done
            | Self::Bad(_) => false,
        }
    }
}

#[derive(Debug)]
struct Frame {
    node: usize,
    start: u64,
    len: u64,
}

/// The scanner. Feed it pieces, then ask [`Scanner::outcome`].
#[derive(Debug)]
pub(crate) struct Scanner<S: 'static> {
    paths: &'static Paths<S>,
    state: State,
    /// One bit per open container, innermost lowest: 1 is an object.
    kinds: u128,
    depth: u32,
    /// One frame per open container while all of them lie on some path; fewer than `depth` means
    /// that we are inside a value nobody asked for.
    frames: Vec<Frame>,
    /// Where the key just read leads.
    next: Option<usize>,
    /// The nodes that were met in this document, each by a bit that others may share.
    met: u128,
    /// The scalar being read: its node, start, and whether it is a key.
    node: Option<usize>,
    start: u64,
    is_key: bool,
    /// Whether the text or number being read is wanted.
    keep: bool,
    kept: Vec<u8>,
    kept_all: bool,
    text_bytes: u64,
    /// Whether that text is generated, and where it is kept over all documents.
    tap: Tap,
    said: OutputText,
    /// The code unit of an escape in progress, and a high surrogate waiting for its half.
    unit: u16,
    high: Option<u16>,
    /// Bytes fed so far.
    at: u64,
}

impl<S: Copy + 'static> Scanner<S> {
    pub(crate) fn new(paths: &'static Paths<S>) -> Self {
        Self {
            paths,
            state: State::Value,
            kinds: 0,
            depth: 0,
            frames: Vec::with_capacity(FRAMES),
            next: None,
            met: 0,
            node: None,
            start: 0,
            is_key: false,
            keep: false,
            kept: Vec::with_capacity(KEPT_BYTES),
            kept_all: true,
            text_bytes: 0,
            tap: Tap::Not,
            said: OutputText::default(),
            unit: 0,
            high: None,
            at: 0,
        }
    }

    /// Ready for the next document; keeps its buffers.
    pub(crate) fn reset(&mut self) {
        self.state = State::Value;
        self.kinds = 0;
        self.depth = 0;
        self.frames.clear();
        self.next = None;
        self.met = 0;
        self.node = None;
        self.at = 0;
        self.high = None;
    }

    #[cfg(test)]
    pub(crate) fn held_bytes(&self) -> usize {
        self.kept.capacity() + self.frames.capacity() * size_of::<Frame>() + self.said.held_bytes()
    }

    /// How far the document has come.
    pub(crate) fn outcome(&self) -> Outcome {
        match self.state {
            State::Done => Outcome::Complete,
            State::Bad(why) => why,
            State::Value
            | State::FirstElement
            | State::FirstKey
            | State::Key
            | State::Colon
            | State::After
            | State::Text
            | State::Escape
            | State::Hex(_)
            | State::Number
            | State::Word(_) => Outcome::Partial,
        }
    }

    /// The string value that is still open, if it is one somebody asked for: its bytes so far.
    pub(crate) fn open_text(&self) -> Option<(S, u64)> {
        let inside = matches!(self.state, State::Text | State::Escape | State::Hex(_));
        let slot = self.slot().filter(|_| inside && !self.is_key)?;
        Some((slot, self.text_bytes))
    }

    /// Reads the next piece as far as the end of the document, and says how many bytes that was: the next
    /// document may follow. After a fault all the rest is taken.
    pub(crate) fn feed_one<K: Sink<Slot = S>>(&mut self, bytes: &[u8], sink: &mut K) -> usize {
        // Whatever ends a document is `}`, `]`, `"` or a letter, but for numbers, which end at what follows.
        let mut used = 0;
        while used < bytes.len() && !matches!(self.state, State::Done | State::Bad(_)) {
            used += self.step(&bytes[used..], sink);
        }
        if matches!(self.state, State::Bad(_)) { bytes.len() } else { used }
    }

    /// Whether a string is open: no line may end here.
    pub(crate) const fn is_in_text(&self) -> bool {
        matches!(self.state, State::Text | State::Escape | State::Hex(_))
    }

    /// Whether nothing but white space was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.state == State::Value && self.depth == 0
    }

    /// Reads the next piece. After a fault the rest is ignored.
    pub(crate) fn feed<K: Sink<Slot = S>>(&mut self, bytes: &[u8], sink: &mut K) {
        let mut rest = bytes;
        while !rest.is_empty() && !matches!(self.state, State::Bad(_)) {
            let used = self.step(rest, sink);
            rest = &rest[used..];
        }
    }

    /// Reads some bytes from the front of `rest`, which is not empty, and says how many.
    fn step<K: Sink<Slot = S>>(&mut self, rest: &[u8], sink: &mut K) -> usize {
        let Some(&byte) = rest.first() else { return 0 };
        let used = match self.state {
            State::Bad(_) => rest.len(),
            State::Text => self.text(rest, sink),
            State::Number => self.number(rest, sink),
            State::Escape => self.escape(byte),
            State::Hex(seen) => self.hex(byte, seen),
            State::Word(expected) => self.word(byte, expected, sink),
            State::Value
            | State::FirstElement
            | State::FirstKey
            | State::Key
            | State::Colon
            | State::After
            | State::Done => return self.structure(rest, sink),
        };
        self.at += used as u64;
        used
    }

    /// Reads what stands between texts, numbers and words: a few signs, and blanks where it was written for people.
    fn structure<K: Sink<Slot = S>>(&mut self, rest: &[u8], sink: &mut K) -> usize {
        let mut used = 0;
        for &byte in rest {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                self.token(byte, sink);
            }
            used += 1;
            self.at += 1;
            if !self.state.is_between() {
                break;
            }
        }
        used
    }

    fn token<K: Sink<Slot = S>>(&mut self, byte: u8, sink: &mut K) {
        match (self.state, byte) {
            (State::FirstElement, b']') | (State::After, b']') => self.close(false, sink),
            (State::FirstKey, b'}') | (State::After, b'}') => self.close(true, sink),
            (State::Value | State::FirstElement, _) => self.begin(byte, sink),
            (State::FirstKey | State::Key, b'"') => self.begin_text(true),
            (State::Colon, b':') => self.state = State::Value,
            (State::After, b',') => {
                self.state = if self.in_object() { State::Key } else { State::Value };
            }
            _ => self.state = State::Bad(Outcome::Invalid),
        }
    }

    fn begin<K: Sink<Slot = S>>(&mut self, byte: u8, sink: &mut K) {
        self.start = self.at;
        self.node = self.target();
        if let Some(node) = self.node
            && (self.depth == 0 || self.in_object())
        {
            // Only what was met before can have left something.
            let bit = 1 << (node % 128);
            if self.met & bit != 0
                && let below @ [_, ..] = self.paths.below(node)
            {
                sink.restart(below);
            }
            self.met |= bit;
        }
        match byte {
            b'{' => self.open(true),
            b'[' => self.open(false),
            b'"' => {
                self.begin_text(false);
                self.tap = self.slot().map_or(Tap::Not, |slot| sink.tap(slot));
            }
            b'-' | b'0'..=b'9' => {
                self.state = State::Number;
                self.clear_kept();
                self.keep = self.slot().is_some();
                self.take(&[byte]);
            }
            b't' => self.state = State::Word(b"rue"),
            b'f' => self.state = State::Word(b"alse"),
            b'n' => self.state = State::Word(b"ull"),
            _ => self.state = State::Bad(Outcome::Invalid),
        }
    }

    /// The node of the value that begins now, and one more member counted in its container.
    fn target(&mut self) -> Option<usize> {
        let next = self.next.take();
        if self.frames.len() as u64 != u64::from(self.depth) {
            return None;
        }
        let in_object = self.in_object();
        let Some(frame) = self.frames.last_mut() else {
            return Some(0);
        };
        frame.len += 1;
        if in_object { next } else { self.paths.element(frame.node) }
    }

    fn open(&mut self, object: bool) {
        if self.depth == NESTING_MAX {
            self.state = State::Bad(Outcome::TooDeep);
            return;
        }
        self.kinds = self.kinds << 1 | u128::from(object);
        self.depth += 1;
        if let Some(node) = self.node {
            self.frames.push(Frame { node, start: self.start, len: 0 });
        }
        self.state = if object { State::FirstKey } else { State::FirstElement };
    }

    fn close<K: Sink<Slot = S>>(&mut self, object: bool, sink: &mut K) {
        if self.depth == 0 || self.in_object() != object {
            self.state = State::Bad(Outcome::Invalid);
            return;
        }
        let matched = self.frames.len() as u64 == u64::from(self.depth);
        self.kinds >>= 1;
        self.depth -= 1;
        if matched && let Some(frame) = self.frames.pop() {
            let len = frame.len;
            let value = if object { Value::Object { len } } else { Value::Array { len } };
            if let Some(slot) = self.paths.slot(frame.node) {
                sink.value(slot, &value, frame.start..self.at + 1);
            }
        }
        self.ended();
    }

    fn begin_text(&mut self, is_key: bool) {
        self.is_key = is_key;
        self.state = State::Text;
        self.clear_kept();
        self.keep =
            if is_key { self.frames.len() as u64 == u64::from(self.depth) } else { self.slot().is_some() };
    }

    fn text<K: Sink<Slot = S>>(&mut self, rest: &[u8], sink: &mut K) -> usize {
        let Some(stop) = memchr2(b'"', b'\\', rest) else {
            self.take(rest);
            return rest.len();
        };
        let (text, ends) = (&rest[..stop], rest[stop] == b'"');
        // Keys are most of the texts that are kept, and most stand in one piece: they are looked up where they are.
        if ends && self.is_key && self.keep && self.text_bytes == 0 && self.high.is_none() {
            self.end_key(text, sink);
            return stop + 1;
        }
        self.take(text);
        if ends {
            self.lone_surrogate();
            self.end_text(self.at + stop as u64 + 1, sink);
        } else {
            self.state = State::Escape;
        }
        stop + 1
    }

    fn end_text<K: Sink<Slot = S>>(&mut self, end: u64, sink: &mut K) {
        if !self.is_key {
            if let Some(slot) = self.slot() {
                let text = std::str::from_utf8(&self.kept).ok().filter(|_| self.kept_all);
                sink.value(slot, &Value::Text { bytes: self.text_bytes, text }, self.start..end);
            } else {
                sink.idle(true, self.start..end);
            }
            self.ended();
            return;
        }
        if self.keep && self.kept_all {
            let kept = std::mem::take(&mut self.kept);
            self.end_key(&kept, sink);
            self.kept = kept;
        } else {
            (self.state, self.next) = (State::Colon, None);
        }
    }

    /// The key of the innermost object's next member, where that object lies on some path.
    fn end_key<K: Sink<Slot = S>>(&mut self, key: &[u8], sink: &mut K) {
        (self.state, self.next) = (State::Colon, None);
        if let Some(frame) = self.frames.last().filter(|_| key.len() <= KEPT_BYTES_MAX) {
            self.next = self.paths.child(frame.node, key);
            if self.next.is_none() {
                sink.stranger(self.paths.keys(frame.node), key);
            }
        }
    }

    fn escape(&mut self, byte: u8) -> usize {
        self.state = State::Text;
        let plain = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                self.unit = 0;
                self.state = State::Hex(0);
                return 1;
            }
            _ => {
                self.state = State::Bad(Outcome::Invalid);
                return 1;
            }
        };
        self.take(&[plain]);
        1
    }

    fn hex(&mut self, byte: u8, seen: u8) -> usize {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ => {
                self.state = State::Bad(Outcome::Invalid);
                return 1;
            }
        };
        self.unit = self.unit << 4 | u16::from(digit);
        self.state = State::Hex(seen + 1);
        if seen == 3 {
            self.state = State::Text;
            self.code_unit(self.unit);
        }
        1
    }

    fn code_unit(&mut self, unit: u16) {
        if let (Some(high), 0xdc00..=0xdfff) = (self.high, unit) {
            self.high = None;
            let code = 0x10000 + ((u32::from(high) - 0xd800) << 10) + (u32::from(unit) - 0xdc00);
            self.take_char(code);
            return;
        }
        self.lone_surrogate();
        if (0xd800..=0xdbff).contains(&unit) {
            self.high = Some(unit);
        } else {
            self.take_char(u32::from(unit));
        }
    }

    /// A surrogate without its half is what decoders show as U+FFFD.
    fn lone_surrogate(&mut self) {
        if self.high.take().is_some() {
            self.take_char(0xfffd);
        }
    }

    fn take_char(&mut self, code: u32) {
        let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        self.take(character.encode_utf8(&mut [0; 4]).as_bytes());
    }

    fn take(&mut self, bytes: &[u8]) {
        if bytes.is_empty() || !self.keep {
            return;
        }
        self.lone_surrogate();
        self.text_bytes += bytes.len() as u64;
        self.said.push(self.tap, bytes);
        if self.kept.len() + bytes.len() <= KEPT_BYTES_MAX {
            self.kept.extend_from_slice(bytes);
        } else {
            self.kept_all = false;
        }
    }

    fn clear_kept(&mut self) {
        self.kept.clear();
        self.kept_all = true;
        self.text_bytes = 0;
        self.tap = Tap::Not;
        self.high = None;
    }

    /// Generated text of all documents so far.
    pub(crate) const fn said(&self) -> &OutputText {
        &self.said
    }

    pub(crate) const fn said_mut(&mut self) -> &mut OutputText {
        &mut self.said
    }

    fn number<K: Sink<Slot = S>>(&mut self, rest: &[u8], sink: &mut K) -> usize {
        let part = |b: &u8| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
        let stop = rest.iter().position(|b| !part(b));
        let used = stop.unwrap_or(rest.len());
        self.take(&rest[..used]);
        if stop.is_some() {
            if let Some(slot) = self.slot() {
                let text = if self.kept_all { self.kept.as_slice() } else { b"" };
                sink.value(slot, &Value::Number(text), self.start..self.at + used as u64);
            } else {
                sink.idle(false, self.start..self.at + used as u64);
            }
            self.ended();
        }
        used
    }

    fn word<K: Sink<Slot = S>>(&mut self, byte: u8, expected: &'static [u8], sink: &mut K) -> usize {
        let Some((&first, rest)) = expected.split_first().filter(|(first, _)| **first == byte) else {
            self.state = State::Bad(Outcome::Invalid);
            return 1;
        };
        self.state = State::Word(rest);
        if rest.is_empty() {
            if let Some(slot) = self.slot() {
                // The three words differ in length; `start` tells which one this was.
                let value = match (self.at + 1 - self.start, first) {
                    (4, b'e') => Value::Bool(true),
                    (5, _) => Value::Bool(false),
                    _ => Value::Null,
                };
                sink.value(slot, &value, self.start..self.at + 1);
            }
            self.ended();
        }
        1
    }

    fn ended(&mut self) {
        self.state = if self.depth == 0 { State::Done } else { State::After };
    }

    fn in_object(&self) -> bool {
        self.kinds & 1 == 1
    }

    fn slot(&self) -> Option<S> {
        self.node.and_then(|node| self.paths.slot(node))
    }
}
