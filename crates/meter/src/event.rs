//! One event of a stream, or one document, as far as metering cares.

use std::ops::Range;

use crate::count::{Count, plain_decimal};
use crate::json::{Sink, Value};
use crate::text::Tap;
use crate::usage::{Counts, Field};

/// Where a dialect may put a usage object. Which of the two counts depends on the event (MTR-11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// `$.usage`.
    Top,
    /// `$.response.usage`, `$.message.usage`, `$.x_groq.usage`, `$.choices[].usage`.
    Inner,
}

/// What the paths of a dialect lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// The usage object itself.
    Report(Place),
    /// One of its counts.
    Count(Place, Field),
    /// One of its words that select a price.
    Tier(Place),
    Geo(Place),
    Speed(Place),
    /// The kind of event or document, `$.type`.
    Kind,
    /// `$.status` and the like.
    Status,
    /// The model that answered.
    Model,
    /// The answer's own id.
    Id,
    /// Which part of the answer an event is of, or which event it is.
    Index,
    /// Why generation stopped; not `null` once it has.
    Stop,
    /// An error object.
    Error,
    /// The list of choices.
    Choices,
    /// Whether this is the last event.
    Last,
    /// A code that says that the call failed, unless it is zero.
    Fault,
    /// An image that was made.
    Image,
    /// A length in seconds, kept in milliseconds.
    Seconds(Place),
    /// What the call cost at its provider.
    Cost(Place),
    /// Generated text, by kind. These add up.
    Text,
    Reasoning,
    Tool,
    /// The same, but of a whole answer: it may repeat what came in pieces.
    WholeText,
    WholeReasoning,
    WholeTool,
    /// Text that is either a piece or all there is so far.
    Said,
    /// A piece whose kind the event's type tells.
    Delta,
    /// Generated, but neither text nor countable in tokens: it only shows that output has begun.
    Media,
}

impl Slot {
    /// Whether strings there are counted by their length and nothing else.
    pub(crate) const fn is_output(self) -> bool {
        matches!(
            self,
            Self::Text
                | Self::Reasoning
                | Self::Tool
                | Self::WholeText
                | Self::WholeReasoning
                | Self::WholeTool
                | Self::Delta
        )
    }
}

impl Slot {
    /// How text there is kept for an estimate.
    pub(crate) const fn tap(self) -> Tap {
        match self {
            Self::Text | Self::Reasoning | Self::Tool | Self::Said | Self::Delta => Tap::Piece,
            Self::WholeText | Self::WholeReasoning | Self::WholeTool => Tap::Whole,
            Self::Report(_)
            | Self::Count(..)
            | Self::Tier(_)
            | Self::Geo(_)
            | Self::Speed(_)
            | Self::Kind
            | Self::Status
            | Self::Model
            | Self::Id
            | Self::Index
            | Self::Stop
            | Self::Error
            | Self::Choices
            | Self::Last
            | Self::Fault
            | Self::Image
            | Self::Seconds(_)
            | Self::Cost(_)
            | Self::Media => Tap::Not,
        }
    }
}

/// Whether a member was there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Presence {
    #[default]
    Absent,
    Null,
    Object,
    Other,
}

impl Presence {
    fn of(value: &Value<'_>) -> Self {
        match value {
            // Empty, or the word, is what some servers write for none.
            Value::Null | Value::Text { bytes: 0, .. } | Value::Text { text: Some("null"), .. } => Self::Null,
            Value::Object { .. } => Self::Object,
            Value::Bool(_) | Value::Number(_) | Value::Text { .. } | Value::Array { .. } => Self::Other,
        }
    }

    /// There, and not `null`.
    pub(crate) const fn is_some(self) -> bool {
        matches!(self, Self::Object | Self::Other)
    }
}

/// A usage object as it was written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// An object, and whole.
    pub(crate) is_made: bool,
    pub(crate) counts: Counts,
    pub(crate) tier: String,
    pub(crate) geo: String,
    pub(crate) speed: String,
    /// In USD, as it was written.
    pub(crate) cost: String,
}

/// Bytes of generated text, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) text: u64,
    pub(crate) reasoning: u64,
    pub(crate) tool: u64,
}

impl Output {
    pub(crate) const fn sum(self) -> u64 {
        self.text.saturating_add(self.reasoning).saturating_add(self.tool)
    }

    pub(crate) fn add(&mut self, more: Self) {
        self.text = self.text.saturating_add(more.text);
        self.reasoning = self.reasoning.saturating_add(more.reasoning);
        self.tool = self.tool.saturating_add(more.tool);
    }
}

/// The members of one event. Filled by the scanner; read by the dialect once the event is whole, so
/// an event that never ends leaves no trace (reference item 28).
#[derive(Clone, Debug, Default)]
pub(crate) struct Event {
    /// Apart, and only once there is anything of it: most events of a stream report nothing.
    pub(crate) top: Option<Box<Report>>,
    pub(crate) inner: Option<Box<Report>>,
    pub(crate) kind: String,
    pub(crate) status: String,
    pub(crate) model: String,
    pub(crate) id: String,
    pub(crate) index: Option<u64>,
    pub(crate) stop: Presence,
    pub(crate) error: Presence,
    /// Whether a list of choices has any.
    pub(crate) choices: Option<bool>,
    pub(crate) last: bool,
    pub(crate) images: u64,
    pub(crate) output: Output,
    pub(crate) finals: Output,
    /// What [`Slot::Said`] said, if it is short.
    pub(crate) said: Option<String>,
    pub(crate) delta: u64,
    pub(crate) media: u64,
}

impl Event {
    /// Empties it, keeping buffers.
    pub(crate) fn clear(&mut self) {
        for report in [&mut self.top, &mut self.inner].into_iter().flatten() {
            report.is_made = false;
            report.counts.clear();
            report.tier.clear();
            report.geo.clear();
            report.speed.clear();
            report.cost.clear();
        }
        self.kind.clear();
        self.status.clear();
        self.model.clear();
        self.id.clear();
        self.index = None;
        self.stop = Presence::Absent;
        self.error = Presence::Absent;
        self.choices = None;
        self.output = Output::default();
        self.last = false;
        self.images = 0;
        self.finals = Output::default();
        self.said = None;
        self.delta = 0;
        self.media = 0;
    }

    /// Adds a string that is still open: what was seen of a document that was cut.
    pub(crate) fn add_open_text(&mut self, slot: Slot, bytes: u64) {
        self.add_output(slot, bytes);
    }

    /// Whether this is the chunk that carries nothing but usage (MTR-21, MTR-22).
    pub(crate) fn is_usage_only(&self) -> bool {
        self.choices == Some(false)
            && self.top.as_ref().is_some_and(|top| top.is_made)
            && !self.error.is_some()
    }

    pub(crate) fn set_count(&mut self, place: Place, field: Field, value: &Value<'_>) {
        self.report(place).counts.set(field, Count::read(value));
    }

    fn report(&mut self, place: Place) -> &mut Report {
        self.at(place).get_or_insert_default()
    }

    const fn at(&mut self, place: Place) -> &mut Option<Box<Report>> {
        match place {
            Place::Top => &mut self.top,
            Place::Inner => &mut self.inner,
        }
    }

    /// Voids a member of a report, if there is one.
    fn void(&mut self, place: Place, member: impl FnOnce(&mut Report)) {
        if let Some(report) = self.at(place) {
            member(report);
        }
    }

    fn add_output(&mut self, slot: Slot, bytes: u64) {
        let sum = match slot {
            Slot::Text | Slot::Said => &mut self.output.text,
            Slot::Reasoning => &mut self.output.reasoning,
            Slot::Tool => &mut self.output.tool,
            Slot::WholeText => &mut self.finals.text,
            Slot::WholeReasoning => &mut self.finals.reasoning,
            Slot::WholeTool => &mut self.finals.tool,
            Slot::Delta => &mut self.delta,
            Slot::Media => &mut self.media,
            Slot::Report(_)
            | Slot::Count(..)
            | Slot::Tier(_)
            | Slot::Geo(_)
            | Slot::Speed(_)
            | Slot::Kind
            | Slot::Status
            | Slot::Model
            | Slot::Id
            | Slot::Index
            | Slot::Stop
            | Slot::Error
            | Slot::Choices
            | Slot::Last
            | Slot::Fault
            | Slot::Image
            | Slot::Seconds(_)
            | Slot::Cost(_) => return,
        };
        *sum = sum.saturating_add(bytes);
    }
}

impl Sink for Event {
    type Slot = Slot;

    fn tap(&self, slot: Slot) -> Tap {
        slot.tap()
    }

    fn value(&mut self, slot: Slot, value: &Value<'_>, span: Range<u64>) {
        match slot {
            Slot::Report(place) if value.members().is_some() => self.report(place).is_made = true,
            Slot::Report(place) => self.void(place, |report| report.is_made = false),
            Slot::Count(place, field) => self.set_count(place, field, value),
            Slot::Tier(place) => set_word(&mut self.report(place).tier, value),
            Slot::Geo(place) => set_word(&mut self.report(place).geo, value),
            Slot::Speed(place) => set_word(&mut self.report(place).speed, value),
            Slot::Kind => set_word(&mut self.kind, value),
            Slot::Status => set_word(&mut self.status, value),
            Slot::Model => set_word(&mut self.model, value),
            Slot::Id => set_word(&mut self.id, value),
            Slot::Index => self.index = value.count(),
            // Any choice that stopped counts, in whatever order the choices come.
            Slot::Stop if self.stop.is_some() => {}
            Slot::Stop => self.stop = Presence::of(value),
            Slot::Error => self.error = Presence::of(value),
            Slot::Choices => self.choices = value.elements().map(|elements| elements != 0),
            Slot::Last => self.last = *value == Value::Bool(true),
            Slot::Fault if *value == Value::Null || value.count() == Some(0) => {}
            Slot::Fault => self.error = Presence::Other,
            Slot::Image => self.images += u64::from(value.members().is_some()),
            Slot::Seconds(place) => self.report(place).counts.set(Field::Millis, Count::read_seconds(value)),
            Slot::Cost(place) => set_cost(&mut self.report(place).cost, value),
            Slot::Said => {
                if let Value::Text { bytes, text } = value {
                    self.said = text.map(str::to_owned);
                    self.add_output(slot, *bytes);
                }
            }
            Slot::Text
            | Slot::Reasoning
            | Slot::Tool
            | Slot::WholeText
            | Slot::WholeReasoning
            | Slot::WholeTool
            | Slot::Delta
            | Slot::Media => match value {
                Value::Text { bytes, .. } => self.add_output(slot, *bytes),
                // Arguments as an object: its text is what was generated.
                Value::Object { len } if *len > 0 => self.add_output(slot, span.end - span.start),
                Value::Object { .. } | Value::Array { .. } => {}
                Value::Null | Value::Bool(_) | Value::Number(_) => {}
            },
        }
    }

    fn restart(&mut self, slots: &[Slot]) {
        for slot in slots {
            match *slot {
                Slot::Report(place) => self.void(place, |report| report.is_made = false),
                Slot::Count(place, field) => {
                    self.void(place, |report| report.counts.set(field, Count::Absent))
                }
                Slot::Tier(place) => self.void(place, |report| report.tier.clear()),
                Slot::Geo(place) => self.void(place, |report| report.geo.clear()),
                Slot::Speed(place) => self.void(place, |report| report.speed.clear()),
                Slot::Kind => self.kind.clear(),
                Slot::Status => self.status.clear(),
                Slot::Model => self.model.clear(),
                Slot::Id => self.id.clear(),
                Slot::Index => self.index = None,
                Slot::Seconds(place) => {
                    self.void(place, |report| report.counts.set(Field::Millis, Count::Absent))
                }
                Slot::Cost(place) => self.void(place, |report| report.cost.clear()),
                Slot::Last => self.last = false,
                Slot::Image => self.images = 0,
                // Sums and marks over all choices: a second choice does not void the first.
                Slot::Stop | Slot::Error | Slot::Choices | Slot::Fault => {}
                Slot::Text | Slot::Reasoning | Slot::Tool | Slot::Said | Slot::Delta | Slot::Media => {}
                Slot::WholeText | Slot::WholeReasoning | Slot::WholeTool => {}
            }
        }
    }
}

fn set_word(word: &mut String, value: &Value<'_>) {
    word.clear();
    word.push_str(value.text().unwrap_or_default());
}

/// Decimal text of a price that was paid, without exponent; nothing where it is none.
fn set_cost(cost: &mut String, value: &Value<'_>) {
    cost.clear();
    let text = match value {
        Value::Number(text) => std::str::from_utf8(text).ok(),
        Value::Text { text, .. } => *text,
        Value::Null | Value::Bool(_) | Value::Array { .. } | Value::Object { .. } => None,
    };
    if let Some(plain) = text.and_then(plain_decimal) {
        cost.push_str(&plain);
    }
}
