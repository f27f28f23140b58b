//! What a request asks for, as far as its price depends on it.
//!
//! The body is scanned once and never written anew: changes are splices of bytes, so key order,
//! number text and any digest over the rest survive (MTR-20, MTR-34).

use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

use crate::dialect::{Dialect, model_in_path};
use crate::json::{Outcome, Scanner, Sink, Value};
use crate::multipart;
use crate::paths::{Keys, Paths};

/// Longest model name that is looked up.
const MODEL_BYTES_MAX: usize = 256;

/// Most answers one call may ask for; providers stop at 128.
const CHOICES_MAX: u64 = 128;

/// How a dialect words what it asks.
pub(crate) struct Form {
    pub(crate) paths: &'static LazyLock<Paths<Ask>>,
    pub(crate) limit: Limit,
    pub(crate) inject: Inject,
    /// Whether a prompt may be written to a cache, at the price of that, without the client's asking.
    pub(crate) caches_unasked: bool,
    pub(crate) model: ModelAt,
    /// Whether the answer is streamed unless the client says otherwise.
    pub(crate) streams_unasked: bool,
    /// Whether a stream with several answers cannot be metered, because each ends for itself.
    pub(crate) single_stream: bool,
}

/// The member that limits the output, where a client has given none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// There is no output in tokens.
    None,
    /// There is, but no member limits it.
    Fixed,
    /// A member of the body.
    Member(&'static str),
    /// A member of an object in the body.
    Inside(&'static str, &'static str),
}

/// What a stream has to be asked for, so that it reports its usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inject {
    /// Nothing: it reports anyway (MTR-23).
    Never,
    /// `stream_options.include_usage`.
    Usage,
    /// That, and running totals on every chunk.
    RunningTotals,
}

/// Where the model is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ModelAt {
    /// In the body.
    Body,
    /// In the path.
    Path,
    /// The server has one model, and the operator's name for it wins over the body's.
    Route,
}

/// What of a request stands outside its body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// Path and query.
    pub path: &'a str,
    /// `content-type`, if there was one.
    pub content_type: Option<&'a str>,
    /// Whether a header asks for a stream of events (`X-DashScope-SSE: enable`, `Accept: text/event-stream`).
    /// Counts for dialects whose body does not say it.
    pub asks_events: bool,
    /// What the operator calls the model of an upstream that serves only one and whose requests need not
    /// name it.
    pub model: Option<&'a str>,
}

/// The members of a request that we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Model,
    Stream,
    StreamOptions,
    IncludeUsage,
    /// Whether running totals were asked for, or not.
    RunningTotals,
    /// A limit on output tokens, by its name.
    Limit(&'static str),
    /// The same, where zero or less stands for no limit.
    OpenLimit(&'static str),
    /// The object the limit stands in, by its name.
    Settings(&'static str),
    /// The model once more, which must be that of the path.
    ModelAgain,
    /// Text to be spoken.
    Characters,
    /// The format of a transcript: one that has no usage cannot be metered.
    AnswerFormat,
    /// A tool that the caller runs, where others stand beside it under other names.
    CallersTool,
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
    /// A sound or a film: as base64, or where to fetch it, and then nothing here bounds its length.
    Recording,
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
            Self::RunningTotals => Some("continuous_usage_stats"),
            Self::Limit(name)
            | Self::OpenLimit(name)
            | Self::Settings(name)
            | Self::Choices(name)
            | Self::Messages(name) => Some(name),
            Self::Characters => Some("input"),
            Self::AnswerFormat => Some("response_format"),
            Self::Tier => Some("service_tier"),
            Self::Background => Some("background"),
            Self::Prompt
            | Self::Cache
            | Self::Stored
            | Self::ItemType
            | Self::Media
            | Self::Recording
            | Self::Fetched
            | Self::PartType
            | Self::ToolType
            | Self::ModelAgain
            | Self::CallersTool
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
    /// Documents, sounds or films that the upstream is to fetch: the body does not bound the input.
    pub fetched_documents: bool,
    /// Tools that the provider runs, or terms of service, with prices of their own.
    pub extras: bool,
    /// A service tier other than the standard one, which has another price.
    pub service_tier: Option<String>,
    /// Characters of the text to be spoken, where that is what the call is about.
    pub characters: Option<u64>,
    dialect: Dialect,
    body_start: usize,
    limits: Vec<Given>,
    settings: Settings,
    options: Options,
    totals_given: bool,
}

/// A limit as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Given {
    span: Range<usize>,
    /// Its number; none for `null`.
    tokens: Option<u64>,
    /// Whether it says that there is no limit.
    open: bool,
}

/// Where the object stands that the limit stands in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Settings {
    #[default]
    Absent,
    Null(Range<usize>),
    Open {
        members_at: usize,
        empty: bool,
    },
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
    /// The upstream might run either.
    #[error("the body names another model than the path")]
    OtherModel,
    /// An upload that is not written the one way all decoders read alike.
    #[error("the body is not a canonical multipart form")]
    NotForm,
}

/// Scans a request body once, where all there is to know stands in it.
///
/// # Errors
/// [`RequestError`]: the client should mend the request; nothing should be sent.
pub fn scan_request(dialect: Dialect, body: &[u8]) -> Result<RequestFacts, RequestError> {
    scan_request_at(dialect, &RequestHead::default(), body)
}

/// Scans a request once. Dialects that name the model in the path, take uploads or ask for a stream in a header
/// need the head.
///
/// # Errors
/// [`RequestError`]: the client should mend the request; nothing should be sent.
pub fn scan_request_at(
    dialect: Dialect,
    head: &RequestHead<'_>,
    body: &[u8],
) -> Result<RequestFacts, RequestError> {
    let Some(form) = dialect.form() else {
        return Ok(RequestFacts::unread(dialect));
    };
    let mut reading = Reading {
        facts: RequestFacts { stream: form.streams_unasked, ..RequestFacts::unread(dialect) },
        body,
        streams_unasked: form.streams_unasked,
        models: Vec::new(),
        document: false,
        fetched: false,
        recording_fetched: false,
        seen: Vec::new(),
        prompts: 0,
        error: None,
    };
    let takes_forms = matches!(dialect, Dialect::OpenAiAudio | Dialect::OpenAiImages);
    let start = match head.content_type.filter(|content_type| takes_forms && multipart::is_form(content_type))
    {
        Some(content_type) => reading.form(form, content_type).map(|()| 0)?,
        None => reading.document(form)?,
    };
    reading.finish(form, head, start)
}

/// The end of a scan.
impl Reading<'_> {
    /// Reads a JSON body. Returns where its object begins.
    fn document(&mut self, form: &Form) -> Result<usize, RequestError> {
        let mut scanner = Scanner::new(form.paths);
        let body = self.body;
        scanner.feed(body, self);
        match scanner.outcome() {
            Outcome::Complete => {}
            Outcome::TooDeep => return Err(RequestError::TooDeep),
            Outcome::Invalid | Outcome::Partial => return Err(RequestError::NotJson),
        }
        // The scanner let only white space stand before the value.
        let start = body.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or_default();
        if body.get(start) == Some(&b'{') { Ok(start) } else { Err(RequestError::NotJson) }
    }

    /// Reads an upload. Its fields are the members of a document.
    fn form(&mut self, form: &Form, content_type: &str) -> Result<(), RequestError> {
        let parts = multipart::parts(content_type, self.body).ok_or(RequestError::NotForm)?;
        for part in parts {
            let Some(node) = form.paths.child(0, part.name.as_bytes()) else {
                self.stranger(form.paths.keys(0), part.name.as_bytes());
                continue;
            };
            let Some(ask) = form.paths.slot(node) else { continue };
            if part.is_file && ask != Ask::Media {
                return Err(RequestError::NotForm);
            }
            let bytes = self.body.get(part.span.clone()).unwrap_or_default();
            let text = std::str::from_utf8(bytes).ok();
            let value = match (ask, text) {
                (Ask::Stream, Some("true")) => Value::Bool(true),
                (Ask::Stream, Some("false")) => Value::Bool(false),
                (Ask::Choices(_), _) => Value::Number(bytes),
                _ => Value::Text { bytes: bytes.len() as u64, text },
            };
            self.value(ask, &value, part.span.start as u64..part.span.end as u64);
        }
        Ok(())
    }

    /// What was found, completed by what stands in the head.
    fn finish(
        self,
        form: &Form,
        head: &RequestHead<'_>,
        body_start: usize,
    ) -> Result<RequestFacts, RequestError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let mut facts = self.facts;
        match form.model {
            ModelAt::Body => {}
            ModelAt::Path => {
                let (model, stream) = model_in_path(head.path).ok_or(RequestError::NoModel)?;
                let bare = |name: &String| name.strip_prefix("models/").unwrap_or(name) == model;
                if !self.models.iter().all(bare) {
                    return Err(RequestError::OtherModel);
                }
                model.clone_into(&mut facts.model);
                facts.stream = stream;
            }
            ModelAt::Route => {
                if let Some(model) = head.model {
                    model.clone_into(&mut facts.model);
                }
            }
        }
        if facts.model.is_empty() {
            return Err(RequestError::NoModel);
        }
        facts.stream |= facts.dialect == Dialect::DashScope && head.asks_events;
        // What a relay takes for the wish that it searches the web first.
        facts.extras |= facts.model.ends_with(":online");
        facts.body_start = body_start;
        facts.choices = facts.choices.saturating_mul(self.prompts.max(1));
        if facts.choices > 1 && form.single_stream && (facts.stream || form.model == ModelAt::Route) {
            return Err(RequestError::WrongType("n"));
        }
        facts.messages = facts.messages.saturating_add(self.prompts);
        facts.caching |= form.caches_unasked;
        facts.asked_usage = facts.options == Options::Asked;
        if facts.limits.iter().any(|given| given.open) {
            facts.max_output = None;
        }
        // Which part has which source is not looked at: a body with both is not sold.
        facts.fetched_documents = (self.document && self.fetched) || self.recording_fetched;
        Ok(facts)
    }
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
            characters: None,
            dialect,
            body_start: 0,
            limits: Vec::new(),
            settings: Settings::Absent,
            options: Options::Absent,
            totals_given: false,
        }
    }

    fn form(&self) -> Option<&'static Form> {
        self.dialect.form()
    }

    /// Whether the call generates output that a limit can bound.
    #[must_use]
    pub fn has_output(&self) -> bool {
        let limited = |form: &Form| matches!(form.limit, Limit::Member(_) | Limit::Inside(..));
        !self.is_free() && self.form().is_some_and(limited)
    }

    /// Whether the call generates output that no member of the request bounds.
    pub(crate) fn has_unlimited_output(&self) -> bool {
        self.form().is_some_and(|form| form.limit == Limit::Fixed)
    }

    /// How the request speaks.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Whether the call is free by its nature.
    pub(crate) fn is_free(&self) -> bool {
        self.dialect.is_free()
    }

    /// Whether tokens are counted at all.
    pub(crate) fn has_tokens(&self) -> bool {
        self.form().is_some() && !self.is_free() && self.dialect != Dialect::OpenAiSpeech
    }

    /// Whether [`RequestFacts::rewrite`] would ask for the usage chunk, so that it must be hidden.
    #[must_use]
    pub fn will_inject(&self, inject_usage: bool) -> bool {
        let needed = self.form().is_some_and(|form| form.inject != Inject::Never);
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
        for given in &self.limits {
            if given.open || given.tokens.is_some_and(|tokens| tokens > clamp) {
                splices.push((given.span.clone(), clamp.to_string()));
            }
        }
        if self.max_output.is_some() || !splices.is_empty() {
            return;
        }
        // None given, or `null` in its place.
        match (self.limits.first(), self.form().map(|form| form.limit)) {
            (Some(null), _) => splices.push((null.span.clone(), clamp.to_string())),
            (None, Some(Limit::Member(name))) => {
                splices.push((self.members_at(), format!("\"{name}\":{clamp}{}", self.comma(body))));
            }
            (None, Some(Limit::Inside(object, name))) => {
                splices.push(self.splice_setting(body, object, &format!("\"{name}\":{clamp}")));
            }
            (None, Some(Limit::None | Limit::Fixed) | None) => {}
        }
    }

    fn splice_setting(&self, body: &[u8], object: &str, member: &str) -> (Range<usize>, String) {
        match &self.settings {
            Settings::Absent => (self.members_at(), format!("\"{object}\":{{{member}}}{}", self.comma(body))),
            Settings::Null(span) => (span.clone(), format!("{{{member}}}")),
            Settings::Open { members_at, empty } => {
                (*members_at..*members_at, format!("{member}{}", if *empty { "" } else { "," }))
            }
        }
    }

    /// What stands between a new first member and the next one, if there is one.
    fn comma(&self, body: &[u8]) -> &'static str {
        let rest = body.get(self.body_start + 1..).unwrap_or_default();
        if rest.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'}') { "" } else { "," }
    }

    fn splice_usage(&self, splices: &mut Vec<(Range<usize>, String)>) {
        let totals = self.form().is_some_and(|form| form.inject == Inject::RunningTotals);
        let yes = if totals && !self.totals_given { "true,\"continuous_usage_stats\":true" } else { "true" };
        let ask = format!("\"include_usage\":{yes}");
        let splice = match &self.options {
            Options::Asked => return,
            Options::Absent => (self.members_at(), format!("\"stream_options\":{{{ask}}},")),
            Options::Null(span) => (span.clone(), format!("{{{ask}}}")),
            Options::Open { members_at, empty } => {
                let comma = if *empty { "" } else { "," };
                (*members_at..*members_at, format!("{ask}{comma}"))
            }
            Options::Literal(span) => (span.clone(), yes.to_owned()),
        };
        splices.push(splice);
    }

    /// Right behind the body's opening brace.
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

struct Reading<'a> {
    facts: RequestFacts,
    body: &'a [u8],
    streams_unasked: bool,
    /// What the body says the path's model is.
    models: Vec<String>,
    document: bool,
    fetched: bool,
    recording_fetched: bool,
    seen: Vec<Ask>,
    prompts: u64,
    error: Option<RequestError>,
}

impl Reading<'_> {
    fn fail(&mut self, error: RequestError) {
        self.error.get_or_insert(error);
    }

    fn limit(&mut self, name: &'static str, value: &Value<'_>, span: Range<usize>) {
        let limit = value.count();
        if limit.is_none() && *value != Value::Null {
            return self.fail(RequestError::WrongType(name));
        }
        // Hardly ever more than one, and they stay for as long as the call lasts.
        self.facts.limits.reserve_exact(1);
        self.facts.limits.push(Given { span, tokens: limit, open: false });
        // Two limits: which one an upstream obeys is its own affair, so hold for the larger.
        self.facts.max_output = self.facts.max_output.max(limit);
    }

    /// A limit that may be none: zero or less.
    fn open_limit(&mut self, name: &'static str, value: &Value<'_>, span: Range<usize>) {
        let open = matches!(value, Value::Number([b'-', ..])) || value.count() == Some(0);
        if open {
            self.facts.limits.push(Given { span, tokens: None, open: true });
        } else {
            self.limit(name, value, span);
        }
    }

    fn settings(&mut self, name: &'static str, value: &Value<'_>, span: Range<usize>) {
        if *value == Value::Null {
            self.facts.settings = Settings::Null(span);
        } else if let Some(members) = value.members() {
            self.facts.settings = Settings::Open { members_at: span.start + 1, empty: members == 0 };
        } else {
            self.fail(RequestError::WrongType(name));
        }
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

impl Sink for Reading<'_> {
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
            Ask::Stream => {
                let said = self.flag("stream", value);
                self.facts.stream = said || (*value == Value::Null && self.streams_unasked);
            }
            Ask::Background => self.facts.background = self.flag("background", value),
            Ask::StreamOptions => self.stream_options(value, span),
            Ask::IncludeUsage => {
                let asked = self.flag("include_usage", value);
                self.facts.options = if asked { Options::Asked } else { Options::Literal(span) };
            }
            Ask::RunningTotals => {
                self.flag("continuous_usage_stats", value);
                self.facts.totals_given = true;
            }
            Ask::Limit(name) => self.limit(name, value, span),
            Ask::OpenLimit(name) => self.open_limit(name, value, span),
            Ask::Settings(name) => self.settings(name, value, span),
            Ask::ModelAgain => match value.text() {
                Some(model) => self.models.push(model.to_owned()),
                None => self.fail(RequestError::WrongType("model")),
            },
            Ask::Characters if matches!(value, Value::Text { .. }) => {
                facts.characters = Some(characters(self.body.get(span).unwrap_or_default()));
            }
            Ask::Characters => self.fail(RequestError::WrongType("input")),
            Ask::AnswerFormat => {
                facts.extras |= !matches!(value.text(), Some("json" | "verbose_json" | "diarized_json"));
            }
            Ask::CallersTool => {}
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
            Ask::Media | Ask::Recording => {
                let bytes = (span.end - span.start) as u64;
                facts.media_parts += u64::from(*value != Value::Null);
                facts.media_bytes = facts.media_bytes.saturating_add(bytes);
                // The frames of a film may stand in a list, image by image. Base64 is named as such, or bare.
                let literal = self.body.get(span).unwrap_or_default();
                let elsewhere = literal.starts_with(b"\"") && is_elsewhere(literal);
                self.recording_fetched |= ask == Ask::Recording && elsewhere;
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
            Ask::Extra => facts.extras |= !matches!(value, Value::Null | Value::Bool(false)),
            Ask::ItemType => facts.stored_input |= value.text() == Some("item_reference"),
        }
    }

    fn stranger(&mut self, known: Keys<'_>, key: &[u8]) {
        // Beside the caller's own tools stand those that the provider runs, by ever new names.
        self.facts.extras |= known.iter().any(|(name, _)| *name == CALLERS_DECLARATIONS);
        // What is no text is no spelling of a name.
        let Ok(key) = std::str::from_utf8(key) else { return };
        let folds_to = |name: &str| key.chars().map(fold).eq(name.chars().map(fold));
        if let Some((name, _)) = known.iter().find(|(name, _)| folds_to(name)) {
            self.fail(RequestError::Lookalike(name));
        }
    }
}

/// Whether a string names a place: what has an escape might, and no base64 has one.
fn is_elsewhere(literal: &[u8]) -> bool {
    let text = literal.strip_prefix(b"\"data:").map_or(literal, |_| b"");
    let head = text.get(..text.len().min(32)).unwrap_or_default();
    head.contains(&b':') || head.contains(&b'\\')
}

/// Where Gemini declares the caller's own tools.
const CALLERS_DECLARATIONS: &str = "functionDeclarations";

/// Characters of a JSON string, quotes and all, as they are after unescaping.
fn characters(literal: &[u8]) -> u64 {
    let mut rest = literal.get(1..literal.len().saturating_sub(1)).unwrap_or_default();
    let mut count: u64 = 0;
    while let [first, after @ ..] = rest {
        rest = after;
        // Neither the later bytes of a character nor the later half of a pair is one more.
        count += u64::from(*first & 0xc0 != 0x80);
        if *first == b'\\' {
            let low_half = matches!(rest, [b'u', b'd' | b'D', b'c'..=b'f' | b'C'..=b'F', ..]);
            count -= u64::from(low_half);
            rest = rest.get(if rest.first() == Some(&b'u') { 5 } else { 1 }..).unwrap_or_default();
        }
    }
    count
}

/// Lower case, as decoders that ignore case see it: they fold two letters beyond ASCII as well.
fn fold(c: char) -> char {
    match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        _ => c.to_ascii_lowercase(),
    }
}
