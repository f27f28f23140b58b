//! Reads one answer, streamed or whole, with the help of its dialect.

use bytes::Bytes;
use memchr::memchr;

use crate::dialect::{EndMark, Framing, Reader};
use crate::ending;
use crate::event::{Event, Slot};
use crate::json::{Outcome, Scanner};
use crate::known::{Known, Read};
use crate::relay::Relay;
use crate::seen::Seen;
use crate::sse::{DoneMark, Framer, Item};
use crate::text::OutputText;
use crate::usage::{Anomalies, Anomaly, Terminal};

/// What kind of body this is: found out from its first bytes, because labels lie (MTR-14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// Not known yet; so many bytes of a byte order mark were seen.
    Unknown {
        mark: usize,
    },
    Events,
    Document,
    /// One JSON document per line.
    Lines,
    /// A JSON array of events.
    Array(Element),
    /// Neither: nothing in it is read.
    Opaque,
}

/// Where in an array of events we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    /// Before the first.
    First,
    /// After a comma, or within one.
    Open,
    /// Behind one: a comma or the end follows.
    Whole,
    /// Behind the end.
    End,
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The reading side of a meter.
pub(crate) struct Stream {
    reader: &'static Reader,
    labelled_events: bool,
    shape: Shape,
    framer: Framer,
    scanner: Scanner<Slot>,
    done: DoneMark,
    known: Known,
    event: Event,
    event_bytes: usize,
    /// Where in the chunk read last the last whole event ended.
    boundary: Option<usize>,
    /// Whether that event ended with a CR whose LF has not come yet.
    owes_line_feed: bool,
    element_at_boundary: Element,
    pub(crate) seen: Seen,
    pub(crate) anomalies: Anomalies,
}

/// How a body ended, as far as its bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Cleanly, for its shape.
    Whole,
    /// In the middle of a document or event.
    Cut,
    /// It was a stream and its end mark did not come.
    NoMark,
    /// It was a stream whose last word was why generation stopped.
    Stopped,
    /// It was nothing we read.
    Opaque,
}

impl Stream {
    pub(crate) fn new(reader: &'static Reader, content_type: Option<&str>) -> Self {
        let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default();
        Self {
            reader,
            labelled_events: media_type.trim().eq_ignore_ascii_case("text/event-stream"),
            shape: Shape::Unknown { mark: 0 },
            framer: Framer::new(),
            scanner: Scanner::new(reader.paths),
            done: DoneMark::default(),
            known: Known::new(reader.paths),
            event: Event::default(),
            event_bytes: 0,
            boundary: None,
            owes_line_feed: false,
            element_at_boundary: Element::First,
            seen: Seen::default(),
            anomalies: Anomalies::default(),
        }
    }

    /// Reads a piece of the body. With `relay`, passes on what the client may have of it.
    pub(crate) fn feed(&mut self, chunk: &Bytes, mut relay: Option<(&mut Relay, &mut Vec<Bytes>)>) {
        if let Some((relay, _)) = &mut relay {
            relay.begin_chunk();
        }
        let start = self.find_shape(chunk);
        if let Some((relay, out)) = relay.as_mut().filter(|_| start > 0) {
            relay.release(start, out);
        }
        match self.shape {
            Shape::Events => self.read_events(chunk, start, &mut relay),
            Shape::Document => self.scanner.feed(&chunk[start..], &mut self.event),
            Shape::Lines => self.read_lines(chunk, start),
            Shape::Array(element) => self.read_array(chunk, start, element),
            Shape::Unknown { .. } | Shape::Opaque => {}
        }
        if let Some((relay, out)) = relay {
            // Nothing after the end mark is anybody's usage chunk.
            if self.shape != Shape::Events || self.seen.terminal.is_some() {
                relay.release(chunk.len(), out);
            }
            relay.end_chunk(chunk, out);
        }
    }

    /// Where in the chunk read last the last whole event ended: 0 when the chunk began between two events
    /// and none of its own ended in it. `None` where an event was already open, or without events.
    pub(crate) fn last_boundary(&self) -> Option<usize> {
        self.boundary
            .filter(|_| !matches!(self.shape, Shape::Unknown { .. } | Shape::Document | Shape::Opaque))
    }

    /// For an array of events: where in it the client is at [`Stream::last_boundary`].
    pub(crate) const fn element(&self) -> Option<Element> {
        if let Shape::Array(_) = self.shape { Some(self.element_at_boundary) } else { None }
    }

    /// How to end this stream: not where its last event must hold the whole answer, or where nothing but sound
    /// or images would be missing.
    pub(crate) fn write_ending(&self) -> Option<ending::Write> {
        self.reader.ending.filter(|_| !self.seen.may_repeat())
    }

    /// Whether the last whole event ended with half a CR LF.
    pub(crate) const fn owes_line_feed(&self) -> bool {
        self.owes_line_feed
    }

    #[cfg(test)]
    pub(crate) fn held_bytes(&self) -> usize {
        let words = self.seen.model.capacity() + self.seen.id.capacity() + self.event.model.capacity();
        self.scanner.held_bytes() + self.known.held_bytes() + self.framer.held_bytes() + words
    }

    /// Whether the body is a stream of events.
    pub(crate) fn is_events(&self) -> bool {
        self.shape == Shape::Events
    }

    /// Whether it is one, and is called so: whoever reads it skips events that he does not know.
    pub(crate) fn is_labelled_events(&self) -> bool {
        self.is_events() && self.labelled_events
    }

    /// Whether the body tells what was generated while it goes on: events, lines or elements.
    pub(crate) const fn is_stream(&self) -> bool {
        matches!(self.shape, Shape::Events | Shape::Lines | Shape::Array(_))
    }

    /// Whether the body is nothing we read.
    pub(crate) fn is_opaque(&self) -> bool {
        self.shape == Shape::Opaque
    }

    /// The body has ended. At a clean end an unterminated last event still counts: a meter must not
    /// drop it as a strict reader does (MTR-12). After a reset it is dropped (reference item 28).
    pub(crate) fn end(&mut self, clean: bool, relay: Option<(&mut Relay, &mut Vec<Bytes>)>) -> Tail {
        let in_events = matches!(self.shape, Shape::Events | Shape::Lines);
        let hidden = in_events && clean && self.end_event() && self.shape == Shape::Events;
        if let Some((relay, out)) = relay {
            if hidden {
                relay.drop_held();
            }
            relay.flush(out);
        }
        match self.shape {
            Shape::Opaque => Tail::Opaque,
            Shape::Unknown { .. } if self.labelled_events => Tail::NoMark,
            Shape::Unknown { .. } => Tail::Whole,
            Shape::Document => self.end_document(),
            _ if self.seen.terminal.is_some() => Tail::Whole,
            Shape::Array(Element::End) => Tail::Whole,
            Shape::Events if self.framer.has_data() => Tail::Cut,
            Shape::Array(_) => Tail::Cut,
            Shape::Lines if self.reads_line() => Tail::Cut,
            Shape::Events if self.reader.end_mark == EndMark::Stop && self.seen.stopped => Tail::Stopped,
            Shape::Events | Shape::Lines => Tail::NoMark,
        }
    }

    /// Settles the shape if `chunk` tells it, and says where its reading begins.
    fn find_shape(&mut self, chunk: &[u8]) -> usize {
        let Shape::Unknown { mut mark } = self.shape else {
            return 0;
        };
        for (at, byte) in chunk.iter().enumerate() {
            if BYTE_ORDER_MARK.get(mark) == Some(byte) {
                mark += 1;
                continue;
            }
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => continue,
                b'[' if self.reader.framing == Framing::Array => {
                    self.shape = Shape::Array(Element::First);
                    self.boundary = Some(at + 1);
                    return at + 1;
                }
                b'{' if self.reader.framing == Framing::Lines => self.shape = Shape::Lines,
                b'{' | b'[' => self.shape = Shape::Document,
                _ if self.reader.framing == Framing::LabelledEvents && !self.labelled_events => {
                    self.shape = Shape::Opaque;
                }
                // The first letters of data, event, id and retry, and of a comment.
                b'd' | b'e' | b'i' | b'r' | b':' => self.shape = Shape::Events,
                _ if self.labelled_events => self.shape = Shape::Events,
                _ => self.shape = Shape::Opaque,
            }
            return at;
        }
        self.shape = Shape::Unknown { mark };
        chunk.len()
    }

    fn read_events(
        &mut self,
        chunk: &Bytes,
        start: usize,
        relay: &mut Option<(&mut Relay, &mut Vec<Bytes>)>,
    ) {
        let mut at = start;
        self.boundary = self.framer.is_between_events().then_some(start);
        let mut began = None;
        while at < chunk.len() && self.seen.terminal.is_none() {
            if self.framer.is_between_events() && !self.framer.is_after_cr() {
                if let Some(used) = self.read_known(&chunk[at..]) {
                    at += used;
                    self.boundary = Some(at);
                    self.owes_line_feed = false;
                    if let Some((relay, out)) = relay {
                        relay.event_end(chunk, at, false, out);
                    }
                    continue;
                }
                began = Some(at);
            }
            let (used, item) = self.framer.step(&chunk[at..]);
            at += used;
            match item {
                Item::Nothing => {}
                Item::Data(piece) => self.read_data(piece),
                Item::EventEnd => {
                    self.boundary = Some(at);
                    self.owes_line_feed = self.framer.is_after_cr();
                    let hide = self.end_event();
                    if let Some(began) = began.take().filter(|_| !hide && self.seen.terminal.is_none()) {
                        // The LF of a CR LF belongs to the event.
                        let end = at + usize::from(self.owes_line_feed && chunk.get(at) == Some(&b'\n'));
                        self.known.keep(&chunk[began..end]);
                    }
                    if let Some((relay, out)) = relay {
                        relay.event_end(chunk, at, hide, out);
                    }
                }
                Item::LineEnd => {
                    // A comment, a heartbeat for instance, need not wait for an event.
                    if let Some((relay, out)) = relay.as_mut().filter(|_| self.framer.only_comments()) {
                        relay.release(at, out);
                    }
                }
                Item::LineFeed => {
                    if self.framer.is_between_events() {
                        self.boundary = Some(at);
                        self.owes_line_feed = false;
                    }
                    // Within an event it is held, or not, with the rest of its line.
                    if let Some((relay, out)) = relay.as_mut().filter(|_| self.framer.only_comments()) {
                        relay.line_feed(chunk, at, out);
                    }
                }
            }
        }
    }

    /// Reads an event that looks like the one before. Returns its length.
    fn read_known(&mut self, input: &[u8]) -> Option<usize> {
        let Read::Event(used) = self.known.read(input, self.scanner.said_mut()) else { return None };
        let (event, kind) = self.known.event()?;
        (self.reader.event)(event, kind, &mut self.seen);
        Some(used)
    }

    /// Reads every event in full from now on.
    pub(crate) fn read_in_full(&mut self) {
        self.known.disable();
    }

    /// What was generated, as text.
    pub(crate) const fn said(&self) -> &OutputText {
        self.scanner.said()
    }

    /// Events that were read by the short cut.
    pub(crate) const fn short_cuts(&self) -> u64 {
        self.known.hits
    }

    /// One document per line. A document may go on over a line's end, but no string does: so a broken line
    /// does not take the next one with it.
    fn read_lines(&mut self, chunk: &[u8], start: usize) {
        let mut at = start;
        self.boundary = (!self.reads_line()).then_some(start);
        while at < chunk.len() && self.seen.terminal.is_none() {
            let stop = memchr(b'\n', &chunk[at..]).map(|found| at + found);
            self.read_data(&chunk[at..stop.unwrap_or(chunk.len())]);
            let Some(stop) = stop else { break };
            at = stop + 1;
            if self.scanner.outcome() != Outcome::Partial || self.scanner.is_in_text() || self.over_limit() {
                self.end_event();
                self.boundary = Some(at);
            } else if !self.reads_line() {
                self.boundary = Some(at);
            }
        }
    }

    /// The elements of an array, each an event.
    fn read_array(&mut self, chunk: &[u8], start: usize, element: Element) {
        let (mut at, mut element) = (start, element);
        let set = |stream: &mut Self, element, at| {
            stream.boundary = Some(at);
            stream.element_at_boundary = element;
        };
        self.boundary = None;
        if !self.reads_line() {
            set(self, element, start);
        }
        while at < chunk.len() && self.seen.terminal.is_none() && element != Element::End {
            let byte = chunk[at];
            if !self.reads_line() && byte.is_ascii_whitespace() {
                at += 1;
                set(self, element, at);
                continue;
            }
            match (element, byte) {
                (Element::Whole, b',') => {
                    element = Element::Open;
                    at += 1;
                    set(self, element, at);
                }
                (Element::Whole | Element::First, b']') => {
                    element = Element::End;
                    self.seen.terminal.get_or_insert(Terminal::Complete);
                }
                (Element::Whole | Element::End, _) => {
                    self.anomalies.add(Anomaly::Opaque);
                    self.shape = Shape::Opaque;
                    return;
                }
                (Element::First | Element::Open, _) => {
                    element = Element::Open;
                    let used = self.scanner.feed_one(&chunk[at..], &mut self.event);
                    self.event_bytes = self.event_bytes.saturating_add(used);
                    at += used;
                    match self.scanner.outcome() {
                        Outcome::Partial => {}
                        Outcome::Complete => {
                            self.end_event();
                            element = Element::Whole;
                            set(self, element, at);
                        }
                        Outcome::Invalid | Outcome::TooDeep => {
                            self.anomalies.add(Anomaly::Opaque);
                            self.shape = Shape::Opaque;
                            return;
                        }
                    }
                }
            }
        }
        self.shape = Shape::Array(element);
    }

    /// Whether a document that is an event has begun and not ended.
    fn reads_line(&self) -> bool {
        !self.scanner.is_empty()
    }

    const fn over_limit(&self) -> bool {
        self.event_bytes > self.reader.event_bytes_max
    }

    fn read_data(&mut self, piece: &[u8]) {
        self.event_bytes = self.event_bytes.saturating_add(piece.len());
        if !self.over_limit() {
            self.done.feed(piece);
            self.scanner.feed(piece, &mut self.event);
        }
    }

    /// Takes in the event that ended. Returns whether it is the chunk to hide.
    fn end_event(&mut self) -> bool {
        let mut usage_only = false;
        let has_data = if self.shape == Shape::Events { self.framer.has_data() } else { self.reads_line() };
        if has_data {
            usage_only = self.take_event();
        }
        self.framer.clear();
        self.scanner.reset();
        self.event.clear();
        self.event_bytes = 0;
        self.done = DoneMark::default();
        usage_only
    }

    fn take_event(&mut self) -> bool {
        if self.over_limit() {
            self.anomalies.add(Anomaly::OverLimit);
            // The client has it, whatever it was.
            self.seen.media = self.seen.media.saturating_add(1);
            return false;
        }
        if self.done.found() {
            self.seen.terminal = Some(Terminal::Done);
            return false;
        }
        match self.scanner.outcome() {
            Outcome::Complete => {}
            Outcome::TooDeep => {
                self.anomalies.add(Anomaly::OverLimit);
                return false;
            }
            Outcome::Invalid | Outcome::Partial => {
                self.anomalies.add(Anomaly::Opaque);
                return false;
            }
        }
        // What the data says of itself beats the event's name (reference item 34).
        let named = self.framer.event_name();
        let kind = if self.event.kind.is_empty() { named } else { &self.event.kind };
        (self.reader.event)(&self.event, kind, &mut self.seen);
        self.event.is_usage_only()
    }

    fn end_document(&mut self) -> Tail {
        let outcome = self.scanner.outcome();
        if outcome == Outcome::Complete {
            (self.reader.document)(&self.event, &mut self.seen);
            return Tail::Whole;
        }
        // Cut short: what was generated so far was delivered, and a report that stood before the
        // cut is as good as any (reference item 28).
        if let Some((slot, bytes)) = self.scanner.open_text() {
            self.event.add_open_text(slot, bytes);
        }
        (self.reader.document)(&self.event, &mut self.seen);
        self.seen.terminal = None;
        if outcome == Outcome::TooDeep {
            self.anomalies.add(Anomaly::OverLimit);
            return Tail::Opaque;
        }
        if outcome == Outcome::Invalid {
            self.anomalies.add(Anomaly::Opaque);
        }
        Tail::Cut
    }
}

#[cfg(test)]
mod tests {
    use super::Stream;

    /// PERF-10: each open answer has one; what hardly any event has is apart.
    #[test]
    fn what_reads_an_answer_is_small() {
        assert!(size_of::<Stream>() <= 1280, "{} bytes", size_of::<Stream>());
    }
}
