//! Framing of server-sent events, for input cut anywhere (MTR-12).
//!
//! Knows lines and fields, not what a `data` field says. Nothing is buffered but the name of the
//! event: data comes out in the pieces it came in.

use memchr::{memchr2, memchr3};

/// Longest event name we keep; longer ones are nobody's.
const NAME_BYTES_MAX: usize = 64;

/// What one step found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    /// Bytes that mean nothing by themselves.
    Nothing,
    /// A piece of the event's data. Lines after the first are preceded by a piece `\n`.
    Data(&'a [u8]),
    /// A line of an event has ended.
    LineEnd,
    /// A blank line: the event is whole.
    EventEnd,
    /// The LF of a CR LF whose CR already ended the line.
    LineFeed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Data,
    Event,
    Comment,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    LineStart,
    Name,
    Space(Field),
    Value(Field),
}

/// Position within a stream of events.
#[derive(Debug)]
pub(crate) struct Framer {
    place: Place,
    after_cr: bool,
    name: Vec<u8>,
    event: Vec<u8>,
    has_data: bool,
    has_fields: bool,
}

impl Framer {
    pub(crate) const fn new() -> Self {
        Self {
            place: Place::LineStart,
            after_cr: false,
            name: Vec::new(),
            event: Vec::new(),
            has_data: false,
            has_fields: false,
        }
    }

    /// Takes some bytes from the front of a non-empty `input` and says what they were. A step that
    /// takes none has moved to another place, so the next one advances.
    pub(crate) fn step<'a>(&mut self, input: &'a [u8]) -> (usize, Item<'a>) {
        let Some(&byte) = input.first() else {
            return (0, Item::Nothing);
        };
        if std::mem::take(&mut self.after_cr) && byte == b'\n' {
            return (1, Item::LineFeed);
        }
        match self.place {
            Place::LineStart if matches!(byte, b'\r' | b'\n') => self.line_end(byte, Item::EventEnd),
            Place::LineStart => {
                self.name.clear();
                self.place = Place::Name;
                (0, Item::Nothing)
            }
            Place::Name => self.name(input),
            Place::Space(field) => {
                self.place = Place::Value(field);
                (usize::from(byte == b' '), Item::Nothing)
            }
            Place::Value(_) if matches!(byte, b'\r' | b'\n') => self.line_end(byte, Item::LineEnd),
            Place::Value(field) => {
                let stop = memchr2(b'\r', b'\n', input).unwrap_or(input.len());
                (stop, self.piece(field, &input[..stop]))
            }
        }
    }

    #[cfg(test)]
    pub(crate) const fn held_bytes(&self) -> usize {
        self.name.capacity() + self.event.capacity()
    }

    /// Whether the event being read has any data.
    pub(crate) const fn has_data(&self) -> bool {
        self.has_data
    }

    /// Whether nothing but comments was read since the last event, and no line is open.
    pub(crate) fn only_comments(&self) -> bool {
        !self.has_fields && self.place == Place::LineStart
    }

    /// Whether the last byte was a CR that ended a line.
    pub(crate) const fn is_after_cr(&self) -> bool {
        self.after_cr
    }

    /// Whether no event is open: the next byte begins one.
    pub(crate) fn is_between_events(&self) -> bool {
        self.only_comments() && !self.has_data
    }

    /// The event's name, empty when it has none.
    pub(crate) fn event_name(&self) -> &str {
        std::str::from_utf8(&self.event).unwrap_or_default()
    }

    /// Forgets the event that ended.
    pub(crate) fn clear(&mut self) {
        self.event.clear();
        self.has_data = false;
        self.has_fields = false;
    }

    fn line_end<'a>(&mut self, byte: u8, item: Item<'a>) -> (usize, Item<'a>) {
        self.after_cr = byte == b'\r';
        self.place = Place::LineStart;
        (1, item)
    }

    fn name<'a>(&mut self, input: &'a [u8]) -> (usize, Item<'a>) {
        let stop = memchr3(b':', b'\r', b'\n', input);
        let part = &input[..stop.unwrap_or(input.len())];
        // One byte beyond the longest name we know is enough to tell that it is another.
        let room = (b"event".len() + 1).saturating_sub(self.name.len());
        self.name.extend_from_slice(&part[..part.len().min(room)]);
        let Some(stop) = stop else {
            return (input.len(), Item::Nothing);
        };
        let field = match self.name.as_slice() {
            b"" => Field::Comment,
            b"data" => Field::Data,
            b"event" => Field::Event,
            _ => Field::Other,
        };
        let colon = input[stop] == b':';
        self.place = if colon { Place::Space(field) } else { Place::Value(field) };
        (stop + usize::from(colon), self.begin_field(field))
    }

    fn begin_field<'a>(&mut self, field: Field) -> Item<'a> {
        self.has_fields |= field != Field::Comment;
        match field {
            Field::Data if self.has_data => Item::Data(b"\n"),
            Field::Data => {
                self.has_data = true;
                Item::Nothing
            }
            Field::Event => {
                self.event.clear();
                Item::Nothing
            }
            Field::Comment | Field::Other => Item::Nothing,
        }
    }

    fn piece<'a>(&mut self, field: Field, bytes: &'a [u8]) -> Item<'a> {
        match field {
            Field::Data => Item::Data(bytes),
            Field::Event => {
                let room = NAME_BYTES_MAX.saturating_sub(self.event.len());
                self.event.extend_from_slice(&bytes[..bytes.len().min(room)]);
                Item::Nothing
            }
            Field::Comment | Field::Other => Item::Nothing,
        }
    }
}

/// Recognises `[DONE]` as the whole data of an event, white space aside (MTR-13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DoneMark(u8);

impl DoneMark {
    const TEXT: &'static [u8; 6] = b"[DONE]";
    const NO: u8 = u8::MAX;

    /// Reads the next piece of data.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.0 == Self::NO {
                return;
            }
            let at = usize::from(self.0);
            let outside = at == 0 || at == Self::TEXT.len();
            if outside && matches!(byte, b' ' | b'\t' | b'\n') {
                continue;
            }
            self.0 = if Self::TEXT.get(at) == Some(&byte) { self.0 + 1 } else { Self::NO };
        }
    }

    /// Whether the data was the mark.
    pub(crate) fn found(self) -> bool {
        usize::from(self.0) == Self::TEXT.len()
    }
}

#[cfg(test)]
mod tests {
    use super::{DoneMark, Framer, Item};

    /// Events as `name|data`, at every chunk size: they must not differ.
    fn events(input: &[u8]) -> Vec<String> {
        let read = |size: usize| {
            let (mut framer, mut data, mut events) = (Framer::new(), Vec::new(), Vec::new());
            for chunk in input.chunks(size) {
                let mut rest = chunk;
                while !rest.is_empty() {
                    let (used, item) = framer.step(rest);
                    match item {
                        Item::Data(piece) => data.extend_from_slice(piece),
                        Item::EventEnd => {
                            if framer.has_data() {
                                let data = String::from_utf8(data.clone()).unwrap();
                                events.push(format!("{}|{data}", framer.event_name()));
                            }
                            data.clear();
                            framer.clear();
                        }
                        Item::Nothing | Item::LineEnd | Item::LineFeed => {}
                    }
                    rest = &rest[used..];
                }
            }
            events
        };
        let whole = read(input.len());
        for size in 1..input.len() {
            assert_eq!(read(size), whole, "chunks of {size}");
        }
        whole
    }

    #[test]
    fn framing_table() {
        for (rule, input, expected) in [
            ("MTR-12 LF", "data: a\n\ndata: b\n\n", vec!["|a", "|b"]),
            ("MTR-12 CRLF", "data: a\r\n\r\ndata: b\r\n\r\n", vec!["|a", "|b"]),
            ("MTR-12 CR", "data: a\r\rdata: b\r\r", vec!["|a", "|b"]),
            ("MTR-12 mixed ends", "data: a\n\r\ndata: b\r\n\n", vec!["|a", "|b"]),
            ("MTR-12 one space", "data:  a\n\ndata:b\n\n", vec!["| a", "|b"]),
            ("MTR-12 several lines", "data: a\ndata\ndata: b\n\n", vec!["|a\n\nb"]),
            ("MTR-12 names", "event: x\nevent: y\ndata: a\n\ndata: b\n\n", vec!["y|a", "|b"]),
            ("MTR-12 ignored", ": hi\nid: 1\nretry: 2\ndatax: 3\n data: 4\ndata: a\n\n", vec!["|a"]),
            ("MTR-12 no data", "event: x\n\n\n\n: c\n\n", vec![]),
            ("MTR-12 colons in data", "data: a: b\n\n", vec!["|a: b"]),
            ("MTR-12 unterminated", "data: a\n\ndata: b\n", vec!["|a"]),
        ] {
            assert_eq!(events(input.as_bytes()), expected, "{rule}");
        }
    }

    #[test]
    fn done_is_the_whole_data() {
        for (rule, data, expected) in [
            ("MTR-13 plain", "[DONE]", true),
            ("MTR-13 white space around", " [DONE] \n ", true),
            ("MTR-13 inside JSON", "{\"a\":\"[DONE]\"}", false),
            ("MTR-13 more follows", "[DONE] x", false),
            ("MTR-13 twice", "[DONE][DONE]", false),
            ("MTR-13 cut", "[DONE", false),
            ("MTR-13 empty", "", false),
        ] {
            let mut mark = DoneMark::default();
            data.as_bytes().chunks(2).for_each(|piece| mark.feed(piece));
            assert_eq!(mark.found(), expected, "{rule}");
        }
    }
}
