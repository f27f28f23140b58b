//! The file as a tree that remembers where everything stood.
//!
//! Scalars stay text: a price never passes through a float (UX-29). The tree is built from the
//! parser's events and not through serde, because serde stops at the first error and the person
//! who edits the file wants all of them.

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span as Range};

use super::finding::{Report, Span};

/// Largest file we read.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// Deepest nesting; the deepest known key stands at 6.
const DEPTH_MAX: usize = 32;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Nothing after the colon, `~` or `null`.
    Null,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) text: String,
    pub(super) span: Span,
}

impl Node {
    /// What a person calls it, for messages.
    pub(super) fn what(&self) -> &'static str {
        match self.kind {
            Kind::Null => "nothing",
            Kind::Scalar(_) => "a single value",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map of keys",
        }
    }

    /// Every scalar below, to blank it out where its place may hold a secret.
    pub(super) fn hide_scalars(&self, report: &Report) {
        match &self.kind {
            Kind::Null => {}
            // A reference names a secret and is none.
            Kind::Scalar(text)
                if ["${env:", "${file:", "env:", "file:"].iter().any(|p| text.starts_with(p)) => {}
            Kind::Scalar(_) => report.hide(self.span),
            Kind::List(items) => items.iter().for_each(|item| item.hide_scalars(report)),
            Kind::Map(entries) => entries.iter().for_each(|(_, value)| value.hide_scalars(report)),
        }
    }
}

/// Reads one document. `None` when the text is no YAML at all: the report says why.
pub(super) fn read(text: &str, report: &Report) -> Option<Node> {
    if text.len() > TEXT_BYTES_MAX {
        report.add(Span::default(), "the file is larger than 1 MiB");
        return None;
    }
    let mut events = Parser::new_from_str(text);
    let mut builder = Builder { text, report, open: Vec::new(), root: None, failed: false };
    while let Some(event) = events.next_event() {
        match event {
            Ok((event, range)) => builder.take(event, range),
            Err(error) => {
                let at = error.marker();
                let span = Span { line: at.line(), column: at.col() + 1, length: 1 };
                // Where the text is broken we cannot tell a secret from a key: show no text.
                report.hide_line(at.line());
                report.add(span, format!("not YAML: {}", error.info()));
                return None;
            }
        }
        if builder.failed {
            return None;
        }
    }
    let nothing = Node { span: Span::default(), kind: Kind::Map(Vec::new()) };
    Some(builder.root.unwrap_or(nothing))
}

enum Frame {
    List(Span, Vec<Node>),
    Map(Span, Vec<(Key, Node)>, Option<Key>),
}

struct Builder<'a> {
    text: &'a str,
    report: &'a Report,
    open: Vec<Frame>,
    root: Option<Node>,
    failed: bool,
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, range: Range) {
        let span = self.span(&range);
        let tagged = range.tag_start().is_some();
        match event {
            Event::Scalar(text, style, anchor, _) => {
                self.refuse_extras(span, anchor, tagged);
                let plain = matches!(style, ScalarStyle::Plain);
                let kind = match text.as_ref() {
                    "" | "~" | "null" if plain => Kind::Null,
                    _ => Kind::Scalar(text.into_owned()),
                };
                self.place(Node { span, kind });
            }
            Event::SequenceStart(_, anchor, _) => {
                self.refuse_extras(span, anchor, tagged);
                self.push(Frame::List(span, Vec::new()), span);
            }
            Event::MappingStart(_, anchor, _) => {
                self.refuse_extras(span, anchor, tagged);
                self.push(Frame::Map(span, Vec::new(), None), span);
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::DocumentStart(..) if self.root.is_some() => {
                self.fail(span, "the file holds more than one document");
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                self.fail(span, "anchors and aliases are not supported; write the value out");
            }
            Event::Anchor(..)
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(..)
            | Event::DocumentEnd
            | _ => {}
        }
    }

    fn refuse_extras(&mut self, span: Span, anchor: usize, tagged: bool) {
        if anchor != 0 {
            self.fail(span, "anchors and aliases are not supported; write the value out");
        }
        if tagged {
            self.fail(span, "tags are not supported; write the plain value");
        }
    }

    fn fail(&mut self, span: Span, message: &str) {
        self.report.add(span, message);
        self.failed = true;
    }

    fn push(&mut self, frame: Frame, span: Span) {
        if self.open.len() >= DEPTH_MAX {
            self.fail(span, "nested too deeply");
        }
        self.open.push(frame);
    }

    fn close(&mut self) {
        let node = match self.open.pop() {
            Some(Frame::List(span, items)) => Node { span, kind: Kind::List(items) },
            Some(Frame::Map(span, entries, _)) => Node { span, kind: Kind::Map(entries) },
            None => return,
        };
        self.place(node);
    }

    fn place(&mut self, node: Node) {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Frame::List(_, items)) => items.push(node),
            Some(Frame::Map(_, entries, waiting)) => match waiting.take() {
                Some(key) => entries.push((key, node)),
                None => match key_of(node) {
                    Ok(key) => {
                        if entries.iter().any(|(other, _)| other.text == key.text) {
                            self.report.add(key.span, format!("key \"{}\" stands twice", key.text));
                        }
                        *waiting = Some(key);
                    }
                    Err(span) => self.fail(span, "a key must be plain text"),
                },
            },
        }
    }

    /// Cuts what the parser reports to one line, so that it can be underlined.
    fn span(&self, range: &Range) -> Span {
        let (start, end) = (range.start, range.end);
        let line = self.text.lines().nth(start.line().saturating_sub(1)).unwrap_or("");
        let width = line.trim_end().chars().count();
        let stop = if end.line() == start.line() { end.col().min(width) } else { width };
        Span { line: start.line(), column: start.col() + 1, length: stop.saturating_sub(start.col()).max(1) }
    }
}

fn key_of(node: Node) -> Result<Key, Span> {
    match node.kind {
        Kind::Scalar(text) => Ok(Key { text, span: node.span }),
        Kind::Null | Kind::List(_) | Kind::Map(_) => Err(node.span),
    }
}
