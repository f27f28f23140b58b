//! What a request asks for, as far as its price depends on it.
//!
//! The body is scanned once and never written anew: changes are splices of bytes, so key order,
//! number text and any digest over the rest survive (MTR-20, MTR-34).

use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

use crate::count::integral;
use crate::dialect::Dialect;
use crate::json::{Outcome, Scanner, Sink, Value};
use crate::paths::{Keys, Paths};

/// Longest model name that is looked up.
const MODEL_BYTES_MAX: usize = 256;

/// Most answers one call may ask for; providers stop at 128.
const CHOICES_MAX: u64 = 128;

/// How a dialect words what it asks.
pub(crate) struct Form {
    pub(crate) paths: &'static LazyLock<Paths<Ask>>,
    /// The member that limits the output, where a client has given none. `None`: nothing to limit.
    pub(crate) limit_name: Option<&'static str>,
    /// Whether a stream reports its usage without `stream_options.include_usage`.
    pub(crate) reports_unasked: bool,
    /// Whether a prompt may be written to a cache, at the price of that, without the client's asking.
    pub(crate) caches_unasked: bool,
}

/// The members of a request that we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Model,
    Stream,
    StreamOptions,
    IncludeUsage,
    /// A limit on output tokens, by its name.
    Limit(&'static str),
    /// How many answers, by its name.
    Choices(&'static str),
    /// The list of messages, by its name.
    Messages(&'static str),
    /// One prompt of a list, each of which is answered. Numbers are the tokens of a single one.
    Prompt,
    /// A wish to write the prompt to a cache.
    Cache,
    Tier,
    Background,
    /// A reference to something the upstream keeps.
    Stored,
    /// The type of an input item, which may be such a reference.
    ItemType,
    /// An image, a sound or a file: as base64, or where to fetch it.
    Media,
    /// Where the upstream is to fetch an image or a document.
    Fetched,
    /// The type of a part of a message, which may be a document.
    PartType,
    /// The type of a tool, which the provider may run itself.
    ToolType,
    /// A wish for a tool that the provider runs, or for terms with a price of their own.
    Extra,
}

impl Ask {
    /// The member's name, where it may stand only once.
    const fn unique(self) -> Option<&'static str> {
        match self {
            Self::Model => Some("model"),
            Self::Stream => Some("stream"),
            Self::StreamOptions => Some("stream_options"),
            Self::IncludeUsage => Some("include_usage"),
            Self::Limit(name) | Self::Choices(name) | Self::Messages(name) => Some(name),
            Self::Tier => Some("service_tier"),
            Self::Background => Some("background"),
            Self::Prompt
            | Self::Cache
            | Self::Stored
            | Self::ItemType
            | Self::Media
            | Self::Fetched
            | Self::PartType
            | Self::ToolType
            | Self::Extra => None,
        }
    }
}

/// What a request asks for. Made by [`scan_request`] and good for that body only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestFacts {
    /// The model, whose price applies.
    pub model: String,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// The client's own limit on output tokens, per answer.
    pub max_output: Option<u64>,
    /// How many answers are generated; 1 unless the client says otherwise.
    pub choices: u64,
    /// Messages or prompts in the request; each costs a few tokens of framing.
    pub messages: u64,
    /// Images, sounds and files in the request ...
    pub media_parts: u64,
    /// ... and how many bytes of the body they are. They are not text: a byte of them says little about
    /// tokens (MTR-33).
    pub media_bytes: u64,
    /// Whether the prompt may be written to a cache, which can cost more than reading it.
    pub caching: bool,
    /// Whether the client asked for the usage chunk of a stream itself.
    pub asked_usage: bool,
    /// Whether the job is to run in the background: its answer carries no usage yet.
    pub background: bool,
    /// Whether part of the prompt is kept at the upstream: the body does not bound it, and it may be
    /// another payer's.
    pub stored_input: bool,
    /// Documents that the upstream is to fetch: the body does not bound the input.
    pub fetched_documents: bool,
    /// Tools that the provider runs, or terms of service, with prices of their own.
    pub extras: bool,
    /// A service tier other than the standard one, which has another price.
    pub service_tier: Option<String>,
    dialect: Option<Dialect>,
    body_start: usize,
    limits: Vec<Range<usize>>,
    options: Options,
}

/// Where `stream_options` stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Options {
    #[default]
    Absent,
    /// `null`, to be replaced.
    Null(Range<usize>),
    /// An object without `include_usage`: where its members begin, and whether it has any.
    Open { members_at: usize, empty: bool },
    /// The value of `include_usage`, which is not `true`.
    Literal(Range<usize>),
    /// It says `true`.
    Asked,
}

/// Why a request cannot be priced. Nothing was sent and nothing is owed: the client has to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The body is not one JSON object.
    #[error("the body is not a JSON object")]
    NotJson,
    /// MTR-16.
    #[error("the body is nested too deeply")]
    TooDeep,
    /// Parsers disagree on which of two counts, so the upstream might run what we did not price.
    #[error("`{0}` appears twice")]
    Duplicate(&'static str),
    /// Some parsers take names whatever their case.
    #[error("`{0}` is spelled in another case")]
    Lookalike(&'static str),
    /// A member has a value that it cannot have.
    #[error("`{0}` has a value of the wrong kind")]
    WrongType(&'static str),
    /// There is no model to price.
    #[error("`model` is missing")]
    NoModel,
}

/// Scans a request body once.
///
/// # Errors
/// [`RequestError`]: the client should mend the request; nothing should be sent.
pub fn scan_request(dialect: Dialect, body: &[u8]) -> Result<RequestFacts, RequestError> {
    let Some(form) = dialect.form() else {
        return Ok(RequestFacts::unread(dialect));
    };
    let mut scanner = Scanner::new(form.paths);
    let mut reading = Reading {
        facts: RequestFacts::unread(dialect),
        document: false,
        fetched: false,
        seen: Vec::new(),
        prompts: 0,
        error: None,
    };
    scanner.feed(body, &mut reading);
    match scanner.outcome() {
        Outcome::Complete => {}
        Outcome::TooDeep => return Err(RequestError::TooDeep),
        Outcome::Invalid | Outcome::Partial => return Err(RequestError::NotJson),
    }
    // The scanner let only white space stand before the value.
    let start = body.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or_default();
    if body.get(start) != Some(&b'{') {
        return Err(RequestError::NotJson);
    }
    if let Some(error) = reading.error {
        return Err(error);
    }
    let mut facts = reading.facts;
    if facts.model.is_empty() {
        return Err(RequestError::NoModel);
    }
    facts.body_start = start;
    facts.choices = facts.choices.saturating_mul(reading.prompts.max(1));
    facts.messages = facts.messages.saturating_add(reading.prompts);
    facts.caching |= form.caches_unasked;
    facts.asked_usage = facts.options == Options::Asked;
    // Which part has which source is not looked at: a body with both is not sold.
    facts.fetched_documents = reading.document && reading.fetched;
    Ok(facts)
}

impl RequestFacts {
    fn unread(dialect: Dialect) -> Self {
        Self {
            model: String::new(),
            stream: false,
            max_output: None,
            choices: 1,
            messages: 0,
            media_parts: 0,
            media_bytes: 0,
            caching: false,
            asked_usage: false,
            background: false,
            stored_input: false,
            fetched_documents: false,
            extras: false,
            service_tier: None,
            dialect: Some(dialect),
            body_start: 0,
            limits: Vec::new(),
            options: Options::Absent,
        }
    }

    fn form(&self) -> Option<&'static Form> {
        self.dialect.and_then(Dialect::form)
    }

    /// Whether the call generates output that a limit can bound.
    #[must_use]
    pub fn has_output(&self) -> bool {
        let counting = self.dialect == Some(Dialect::AnthropicCountTokens);
        !counting && self.form().is_some_and(|form| form.limit_name.is_some())
    }

    /// Whether the call is free by its nature.
    pub(crate) fn is_free(&self) -> bool {
        self.dialect == Some(Dialect::AnthropicCountTokens)
    }

    /// Whether tokens are counted at all.
    pub(crate) fn has_tokens(&self) -> bool {
        self.form().is_some() && !self.is_free()
    }

    /// Whether [`RequestFacts::rewrite`] would ask for the usage chunk, so that it must be hidden.
    #[must_use]
    pub fn will_inject(&self, inject_usage: bool) -> bool {
        let needed = self.form().is_some_and(|form| !form.reports_unasked);
        inject_usage && needed && self.stream && !self.asked_usage
    }

    /// The body to send: with the output limited to `clamp` tokens per answer, and asking for the
    /// usage chunk. Every byte that is not part of these two stays. A client's own limit is never
    /// raised. `body` must be the one that was scanned.
    #[must_use]
    pub fn rewrite<'a>(&self, body: &'a [u8], clamp: Option<u64>, inject_usage: bool) -> Cow<'a, [u8]> {
        let mut splices = Vec::new();
        if let Some(clamp) = clamp.filter(|_| self.has_output()) {
            self.splice_limit(body, clamp, &mut splices);
        }
        if self.will_inject(inject_usage) {
            self.splice_usage(&mut splices);
        }
        apply(body, splices)
    }

    fn splice_limit(&self, body: &[u8], clamp: u64, splices: &mut Vec<(Range<usize>, String)>) {
        for span in &self.limits {
            let given = body.get(span.clone()).and_then(integral);
            if given.is_some_and(|given| given > clamp) {
                splices.push((span.clone(), clamp.to_string()));
            }
        }
        if self.max_output.is_some() {
            return;
        }
        // None given, or `null` in its place.
        match (self.limits.first(), self.form().and_then(|form| form.limit_name)) {
            (Some(null), _) => splices.push((null.clone(), clamp.to_string())),
            (None, Some(name)) => splices.push((self.members_at(), format!("\"{name}\":{clamp},"))),
            (None, None) => {}
        }
    }

    fn splice_usage(&self, splices: &mut Vec<(Range<usize>, String)>) {
        const ASK: &str = "\"include_usage\":true";
        let splice = match &self.options {
            Options::Asked => return,
            Options::Absent => (self.members_at(), format!("\"stream_options\":{{{ASK}}},")),
            Options::Null(span) => (span.clone(), format!("{{{ASK}}}")),
            Options::Open { members_at, empty } => {
                let comma = if *empty { "" } else { "," };
                (*members_at..*members_at, format!("{ASK}{comma}"))
            }
            Options::Literal(span) => (span.clone(), "true".to_owned()),
        };
        splices.push(splice);
    }

    /// Right behind the body's opening brace. A scanned body has a model, so a member follows.
    fn members_at(&self) -> Range<usize> {
        self.body_start + 1..self.body_start + 1
    }
}

fn apply(body: &[u8], mut splices: Vec<(Range<usize>, String)>) -> Cow<'_, [u8]> {
    if splices.is_empty() {
        return Cow::Borrowed(body);
    }
    splices.sort_by_key(|(span, _)| span.start);
    let mut new = Vec::with_capacity(body.len() + 64);
    let mut at = 0;
    for (span, text) in splices {
        new.extend_from_slice(body.get(at..span.start).unwrap_or_default());
        new.extend_from_slice(text.as_bytes());
        at = span.end;
    }
    new.extend_from_slice(body.get(at..).unwrap_or_default());
    Cow::Owned(new)
}

/// Tools that the caller runs: they cost tokens and nothing else.
const CALLERS_TOOLS: [&str; 8] =
    ["function", "custom", "local_shell", "apply_patch", "bash_", "text_editor_", "computer_", "memory_"];

struct Reading {
    facts: RequestFacts,
    document: bool,
    fetched: bool,
    seen: Vec<Ask>,
    prompts: u64,
    error: Option<RequestError>,
}

impl Reading {
    fn fail(&mut self, error: RequestError) {
        self.error.get_or_insert(error);
    }

    fn limit(&mut self, name: &'static str, value: &Value<'_>, span: Range<usize>) {
        let limit = value.count();
        if limit.is_none() && *value != Value::Null {
            return self.fail(RequestError::WrongType(name));
        }
        self.facts.limits.push(span);
        // Two limits: which one an upstream obeys is its own affair, so hold for the larger.
        self.facts.max_output = self.facts.max_output.max(limit);
    }

    fn choices(&mut self, name: &'static str, value: &Value<'_>) {
        match value.count() {
            Some(choices) if (1..=CHOICES_MAX).contains(&choices) => {
                self.facts.choices = self.facts.choices.max(choices);
            }
            None if *value == Value::Null => {}
            Some(_) | None => self.fail(RequestError::WrongType(name)),
        }
    }

    fn stream_options(&mut self, value: &Value<'_>, span: Range<usize>) {
        if *value == Value::Null {
            self.facts.options = Options::Null(span);
        } else if let Some(members) = value.members() {
            // What `include_usage` in it said is known already.
            if self.facts.options == Options::Absent {
                self.facts.options = Options::Open { members_at: span.start + 1, empty: members == 0 };
            }
        } else {
            self.fail(RequestError::WrongType("stream_options"));
        }
    }

    fn flag(&mut self, name: &'static str, value: &Value<'_>) -> bool {
        if !matches!(value, Value::Bool(_) | Value::Null) {
            self.fail(RequestError::WrongType(name));
        }
        *value == Value::Bool(true)
    }

    fn tier(&mut self, value: &Value<'_>) {
        match value.text() {
            Some("auto" | "default" | "standard" | "standard_only") => {}
            Some(tier) => self.facts.service_tier = Some(tier.to_owned()),
            None if *value == Value::Null => {}
            None => self.fail(RequestError::WrongType("service_tier")),
        }
    }
}

impl Sink for Reading {
    type Slot = Ask;

    fn value(&mut self, ask: Ask, value: &Value<'_>, span: Range<u64>) {
        if let Some(name) = ask.unique() {
            if self.seen.contains(&ask) {
                self.fail(RequestError::Duplicate(name));
            }
            self.seen.push(ask);
        }
        let at = |place: u64| usize::try_from(place).unwrap_or(usize::MAX);
        let span = at(span.start)..at(span.end);
        let facts = &mut self.facts;
        match ask {
            Ask::Model => match value.text().filter(|model| model.len() <= MODEL_BYTES_MAX) {
                Some(model) => facts.model = model.to_owned(),
                None => self.fail(RequestError::WrongType("model")),
            },
            Ask::Stream => self.facts.stream = self.flag("stream", value),
            Ask::Background => self.facts.background = self.flag("background", value),
            Ask::StreamOptions => self.stream_options(value, span),
            Ask::IncludeUsage => {
                let asked = self.flag("include_usage", value);
                self.facts.options = if asked { Options::Asked } else { Options::Literal(span) };
            }
            Ask::Limit(name) => self.limit(name, value, span),
            Ask::Choices(name) => self.choices(name, value),
            // A text in place of the list is one message. Anything else the upstream refuses.
            Ask::Messages(_) => {
                facts.messages = facts.messages.saturating_add(value.elements().unwrap_or(1));
            }
            Ask::Prompt => {
                self.prompts += u64::from(matches!(value, Value::Text { .. } | Value::Array { .. }));
            }
            Ask::Cache => facts.caching |= *value != Value::Null,
            Ask::Tier => self.tier(value),
            Ask::Stored => facts.stored_input |= *value != Value::Null,
            Ask::Media => {
                let bytes = (span.end - span.start) as u64;
                facts.media_parts += u64::from(*value != Value::Null);
                facts.media_bytes = facts.media_bytes.saturating_add(bytes);
            }
            Ask::Fetched => {
                self.fetched |= *value != Value::Null;
                facts.media_parts += u64::from(*value != Value::Null);
            }
            Ask::PartType => self.document |= value.text() == Some("document"),
            Ask::ToolType => {
                let callers = |tool: &str| CALLERS_TOOLS.iter().any(|known| tool.starts_with(known));
                facts.extras |= *value != Value::Null && !value.text().is_some_and(callers);
            }
            Ask::Extra => facts.extras |= *value != Value::Null,
            Ask::ItemType => facts.stored_input |= value.text() == Some("item_reference"),
        }
    }

    fn stranger(&mut self, known: Keys<'_>, key: &str) {
        let folds_to = |name: &str| key.chars().map(fold).eq(name.chars());
        if let Some((name, _)) = known.iter().find(|(name, _)| folds_to(name)) {
            self.fail(RequestError::Lookalike(name));
        }
    }
}

/// Lower case, as decoders that ignore case see it: they fold two letters beyond ASCII as well.
fn fold(c: char) -> char {
    match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        _ => c.to_ascii_lowercase(),
    }
}
