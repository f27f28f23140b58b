//! A short cut for events that look like the one before (MTR-18).
//!
//! Most events of a stream are the same bytes but for a word of text. Of an event that was read in full this
//! keeps the bytes, and where the values stand that may differ: text that counts as output, counts, and values
//! that nobody reads, such as padding. An event that agrees in every other byte would lead the
//! scanner through the same states to the same members, so nothing of it needs to be scanned but those values.
//! Whatever differs anywhere else is read in full. `tests::properties` holds the two ways against each other.

use std::ops::Range;

use crate::count::integral;
use crate::event::{Event, Output, Place, Slot};
use crate::json::{Outcome, Scanner, Sink, Value};
use crate::paths::{Keys, Paths};
use crate::text::{OutputText, Tap};
use crate::usage::Field;

/// Largest event that is kept, and the largest that may be compared with it.
const KEPT_BYTES_MAX: usize = 4096;
const READ_BYTES_MAX: usize = 64 * 1024;
/// Most values that may differ.
const HOLES_MAX: usize = 16;
/// Longest number that is read here.
const NUMBER_BYTES_MAX: usize = 32;
/// After so many events in a row that looked different, only every so manieth is kept.
const MISSES_MAX: u32 = 8;
const RETRY_EVERY: u32 = 64;

/// What a value that may differ is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// Text that counts as output.
    Text(Slot),
    /// The event's number.
    Number,
    /// A count of a report.
    Count(Place, Field),
    /// Text or a number that nobody reads.
    IdleText,
    IdleNumber,
}

impl What {
    const fn is_idle(self) -> bool {
        matches!(self, Self::IdleText | Self::IdleNumber)
    }

    /// Whether it is a figure of this slot.
    fn is_of(self, slot: Slot) -> bool {
        match self {
            Self::Number => slot == Slot::Index,
            Self::Count(place, field) => slot == Slot::Count(place, field),
            Self::Text(_) | Self::IdleText | Self::IdleNumber => false,
        }
    }

    const fn is_text(self) -> bool {
        matches!(self, Self::Text(_) | Self::IdleText)
    }
}

/// A value of the kept event: where its digits, or its text without quotes, stand.
#[derive(Clone, Debug)]
struct Spot {
    what: What,
    span: Range<usize>,
}

/// The event that was kept.
struct Template {
    raw: Vec<u8>,
    /// Every value that may differ or might prove to.
    spots: Vec<Spot>,
    /// Those that may differ, in their order.
    holes: Vec<Spot>,
    /// What a full scan of it found, output aside.
    event: Event,
    kind: String,
}

/// What became of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// The next so many bytes are an event like the one kept: see [`Known::event`].
    Event(usize),
    /// They must be read in full.
    Unknown,
}

/// The event kept, if any.
pub(crate) struct Known {
    template: Option<Template>,
    /// Which of the idle values have proved to differ.
    varying: Vec<usize>,
    misses: u32,
    events: u32,
    pub(crate) hits: u64,
    paths: &'static Paths<Slot>,
    enabled: bool,
}

impl Known {
    pub(crate) fn new(paths: &'static Paths<Slot>) -> Self {
        Self { template: None, varying: Vec::new(), misses: 0, events: 0, hits: 0, paths, enabled: true }
    }

    #[cfg(test)]
    pub(crate) fn held_bytes(&self) -> usize {
        let spots =
            |template: &Template| (template.spots.capacity() + template.holes.capacity()) * size_of::<Spot>();
        let kept = self.template.as_ref().map_or(0, |template| template.raw.capacity() + spots(template));
        kept + self.varying.capacity() * size_of::<usize>()
    }

    /// From now on every event is read in full.
    pub(crate) fn disable(&mut self) {
        self.enabled = false;
        self.template = None;
    }

    /// Compares what comes next, which begins an event, with the event kept.
    /// What it says is added to `said`.
    pub(crate) fn read(&mut self, input: &[u8], said: &mut OutputText) -> Read {
        let Some(template) = &mut self.template else { return Read::Unknown };
        let mark = said.mark();
        let comparison = template.read(input, said);
        if !matches!(comparison, Comparison::Same(_)) {
            said.back_to(mark);
        }
        match comparison {
            Comparison::Same(used) => {
                self.misses = 0;
                self.hits += 1;
                Read::Event(used)
            }
            Comparison::Differs(at) => {
                self.misses = self.misses.saturating_add(1);
                let found = template.spots.iter().position(|spot| spot.what.is_idle() && spot.covers(at));
                if let Some(spot) = found.filter(|spot| !self.varying.contains(spot)) {
                    self.varying.push(spot);
                }
                Read::Unknown
            }
            Comparison::Open => Read::Unknown,
        }
    }

    /// The event that was read last, and its kind.
    pub(crate) fn event(&self) -> Option<(&Event, &str)> {
        self.template.as_ref().map(|template| (&template.event, template.kind.as_str()))
    }

    /// Keeps an event that was read in full: `raw` is all of it, up to the blank line.
    pub(crate) fn keep(&mut self, raw: &[u8]) {
        self.events = self.events.wrapping_add(1);
        let worth = self.misses < MISSES_MAX || self.events.is_multiple_of(RETRY_EVERY);
        if !self.enabled || raw.len() > KEPT_BYTES_MAX || !worth {
            return;
        }
        let Some((name, json)) = parts(raw) else { return };
        // One of its own, so that a stream in which events repeat themselves has none that lies idle.
        let mut scanner = Scanner::new(self.paths);
        let mut finder =
            Finder { event: Event::default(), spots: Vec::new(), offset: json.start, fits: true };
        scanner.feed(raw.get(json).unwrap_or_default(), &mut finder);
        let Finder { mut event, spots, fits, .. } = finder;
        if scanner.outcome() != Outcome::Complete || !fits || event.is_usage_only() {
            return;
        }
        if self.template.as_ref().is_some_and(|kept| kept.spots.len() != spots.len()) {
            self.varying.clear();
        }
        let varying = |(at, spot): &(usize, &Spot)| !spot.what.is_idle() || self.varying.contains(at);
        let holes: Vec<Spot> =
            spots.iter().enumerate().filter(varying).map(|(_, spot)| spot.clone()).collect();
        if holes.len() > HOLES_MAX {
            return;
        }
        event.clear_output();
        let kind = if event.kind.is_empty() { name } else { event.kind.clone() };
        self.template = Some(Template { raw: raw.to_vec(), spots, holes, event, kind });
    }
}

enum Comparison {
    Same(usize),
    /// At this byte of the event kept.
    Differs(usize),
    /// The input ends too early to tell, or a value is of a kind that is not read here.
    Open,
}

impl Spot {
    /// Whether a difference at this byte is one of this value: of its quotes too, or of what follows a number.
    fn covers(&self, at: usize) -> bool {
        at + 1 >= self.span.start && at <= self.span.end
    }
}

impl Template {
    fn read(&mut self, input: &[u8], said: &mut OutputText) -> Comparison {
        let Self { raw, holes, event, .. } = self;
        event.clear_output();
        let (mut from, mut at) = (0, 0);
        for hole in holes.iter() {
            let same = raw.get(from..hole.span.start).unwrap_or_default();
            let rest = input.get(at..).unwrap_or_default();
            if !rest.starts_with(same) {
                return difference(same, rest, from);
            }
            at += same.len();
            let rest = input.get(at..).unwrap_or_default();
            let used = if hole.what.is_text() { text(rest) } else { number(rest).map(|used| (used, 0)) };
            let Some((used, bytes)) = used else { return Comparison::Open };
            match hole.what {
                What::Text(slot) => {
                    event.add_open_text(slot, bytes);
                    if slot.tap() == Tap::Piece {
                        said.push_escaped(rest.get(..used).unwrap_or_default());
                    }
                }
                What::Count(place, field) => {
                    event.set_count(place, field, &Value::Number(rest.get(..used).unwrap_or_default()));
                }
                What::Number => event.index = integral(rest.get(..used).unwrap_or_default()),
                What::IdleText | What::IdleNumber => {}
            }
            at += used;
            from = hole.span.end;
        }
        let same = raw.get(from..).unwrap_or_default();
        let rest = input.get(at..).unwrap_or_default();
        if !rest.starts_with(same) {
            return difference(same, rest, from);
        }
        at += same.len();
        if at <= READ_BYTES_MAX { Comparison::Same(at) } else { Comparison::Open }
    }
}

/// Where `rest` is not `same`, which stands at `from`.
fn difference(same: &[u8], rest: &[u8], from: usize) -> Comparison {
    let agreed = same.iter().zip(rest).take_while(|(a, b)| a == b).count();
    if agreed == rest.len() { Comparison::Open } else { Comparison::Differs(from + agreed) }
}

/// Text up to its quote: how many bytes it takes, and how many it is after unescaping. Escapes by number are
/// left to the scanner, and so is what no line of a stream can hold.
fn text(input: &[u8]) -> Option<(usize, u64)> {
    let (mut at, mut escapes) = (0, 0);
    loop {
        let rest = input.get(at..)?;
        at += rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..=0x1f))?;
        match input.get(at)? {
            b'"' => return Some((at, (at - escapes) as u64)),
            b'\\' if matches!(input.get(at + 1)?, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                at += 2;
                escapes += 1;
            }
            _ => return None,
        }
    }
}

/// A number: how many bytes it takes.
fn number(input: &[u8]) -> Option<usize> {
    let begins = matches!(input.first()?, b'-' | b'0'..=b'9');
    let used = input.iter().position(|b| !matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'))?;
    (begins && used <= NUMBER_BYTES_MAX).then_some(used)
}

/// The name of an event and where its data stands; `None` unless it is one line of data, with at most a name,
/// all lines ended alike, by LF or by CR LF.
fn parts(raw: &[u8]) -> Option<(String, Range<usize>)> {
    let end: &[u8] = if raw.ends_with(b"\r\n") { b"\r\n" } else { b"\n" };
    let lines = raw.strip_suffix(end)?.strip_suffix(end)?;
    let (mut name, mut json, mut at) = (None, None, 0);
    for line in lines.split(|b| *b == b'\n') {
        // Each line but the last, which has lost its end, ends as the event does.
        let whole = at + line.len() == lines.len();
        let line = if whole { line } else { line.strip_suffix(end.strip_suffix(b"\n")?)? };
        if line.contains(&b'\r') {
            return None;
        }
        let start = |bytes: usize| at + bytes + usize::from(line.get(bytes) == Some(&b' '));
        if line.starts_with(b"data:") && json.is_none() {
            json = Some(start(5)..at + line.len());
        } else if line.starts_with(b"event:") && name.is_none() {
            name = Some(std::str::from_utf8(raw.get(start(6)..at + line.len())?).ok()?);
        } else {
            return None;
        }
        at += line.len() + end.len();
    }
    let name = name.unwrap_or_default();
    // A longer one is cut by who reads it in full.
    (name.len() <= NUMBER_BYTES_MAX).then(|| Some((name.to_owned(), json?))).flatten()
}

/// A full scan that remembers where values stood.
struct Finder {
    event: Event,
    spots: Vec<Spot>,
    offset: usize,
    fits: bool,
}

impl Finder {
    fn add(&mut self, what: What, span: Range<u64>) {
        let at = |place: u64| usize::try_from(place).unwrap_or(usize::MAX).saturating_add(self.offset);
        let quote = usize::from(what.is_text());
        self.spots.push(Spot { what, span: at(span.start) + quote..at(span.end) - quote });
    }
}

impl Sink for Finder {
    type Slot = Slot;

    fn value(&mut self, slot: Slot, value: &Value<'_>, span: Range<u64>) {
        // Of what stands there twice the last one holds: that is left to the scanner.
        self.fits &= !self.spots.iter().any(|spot| spot.what.is_of(slot));
        match (slot, value) {
            (Slot::Index, Value::Number(_)) => self.add(What::Number, span.clone()),
            (Slot::Count(place, field), Value::Number(_)) => {
                self.add(What::Count(place, field), span.clone())
            }
            // The text of an object counts as a whole.
            (slot, Value::Object { len: 1.. }) if slot.is_output() => self.fits = false,
            (slot, Value::Text { .. }) if slot.is_output() => self.add(What::Text(slot), span.clone()),
            _ => {}
        }
        self.event.value(slot, value, span);
    }

    fn restart(&mut self, slots: &[Slot]) {
        self.fits &= !slots.iter().any(|slot| self.spots.iter().any(|spot| spot.what.is_of(*slot)));
        self.event.restart(slots);
    }

    fn stranger(&mut self, known: Keys<'_>, key: &[u8]) {
        self.event.stranger(known, key);
    }

    fn idle(&mut self, is_text: bool, span: Range<u64>) {
        self.add(if is_text { What::IdleText } else { What::IdleNumber }, span);
    }
}

impl Event {
    fn clear_output(&mut self) {
        self.output = Output::default();
        self.finals = Output::default();
        self.delta = 0;
    }
}
