//! OpenAI chat completions, and the many servers that answer in their shape.

use std::sync::LazyLock;

use super::Reader;
use crate::ending;
use crate::event::{Event, Place::Inner, Place::Top, Slot as S};
use crate::paths::Paths;
use crate::request::{Ask, Form, Inject, Limit, ModelAt};
use crate::seen::Seen;
use crate::usage::{Field as F, Terminal, inclusive};

/// `$.usage` with prompt and completion tokens, shared by the dialects that grew from this one.
pub(super) const USAGE: &[(&str, S)] = &[
    ("usage", S::Report(Top)),
    ("usage.prompt_tokens", S::Count(Top, F::Input)),
    ("usage.completion_tokens", S::Count(Top, F::Output)),
    ("usage.total_tokens", S::Count(Top, F::Total)),
    ("usage.prompt_tokens_details.cached_tokens", S::Count(Top, F::CacheRead)),
    ("usage.prompt_tokens_details.cache_write_tokens", S::Count(Top, F::CacheWrite)),
    ("usage.prompt_tokens_details.cache_write_tokens_details.ttl_30m_tokens", S::Count(Top, F::Write30m)),
    ("usage.prompt_tokens_details.cache_write_tokens_details.ttl_12h_tokens", S::Count(Top, F::Write12h)),
    ("usage.prompt_tokens_details.audio_tokens", S::Count(Top, F::AudioIn)),
    ("usage.completion_tokens_details.reasoning_tokens", S::Count(Top, F::Reasoning)),
    ("usage.completion_tokens_details.audio_tokens", S::Count(Top, F::AudioOut)),
    ("id", S::Id),
    ("service_tier", S::Tier(Top)),
    ("model", S::Model),
    ("error", S::Error),
];

/// `obfuscation` and the like are padding: what is not named here is not output (MTR-25).
pub(super) const CHOICES: &[(&str, S)] = &[
    ("choices", S::Choices),
    ("choices[].finish_reason", S::Stop),
    ("choices[].delta.content", S::Text),
    ("choices[].delta.content[].text", S::Text),
    ("choices[].delta.refusal", S::Text),
    ("choices[].delta.audio.transcript", S::Text),
    ("choices[].delta.audio.data", S::Media),
    ("choices[].delta.reasoning_content", S::Reasoning),
    ("choices[].delta.reasoning", S::Reasoning),
    ("choices[].delta.function_call.arguments", S::Tool),
    ("choices[].delta.tool_calls[].function.arguments", S::Tool),
    ("choices[].delta.tool_calls[].function.name", S::Media),
    ("choices[].delta.tool_calls[].custom.input", S::Tool),
    ("choices[].message.content", S::WholeText),
    ("choices[].message.content[].text", S::WholeText),
    ("choices[].message.refusal", S::WholeText),
    ("choices[].message.audio.transcript", S::WholeText),
    ("choices[].message.audio.data", S::Media),
    ("choices[].message.reasoning_content", S::WholeReasoning),
    ("choices[].message.reasoning", S::WholeReasoning),
    ("choices[].message.function_call.arguments", S::WholeTool),
    ("choices[].message.tool_calls[].function.arguments", S::WholeTool),
    ("choices[].message.tool_calls[].function.name", S::Media),
    ("choices[].message.tool_calls[].custom.input", S::WholeTool),
];

static PATHS: LazyLock<Paths<S>> = LazyLock::new(|| Paths::new(&[USAGE, CHOICES, X_GROQ, COST].concat()));

/// Where Groq reports the usage of a stream.
pub(super) const X_GROQ: &[(&str, S)] = &[
    ("x_groq.usage", S::Report(Inner)),
    ("x_groq.usage.prompt_tokens", S::Count(Inner, F::Input)),
    ("x_groq.usage.completion_tokens", S::Count(Inner, F::Output)),
    ("x_groq.usage.total_tokens", S::Count(Inner, F::Total)),
    ("x_groq.usage.prompt_tokens_details.cached_tokens", S::Count(Inner, F::CacheRead)),
    ("x_groq.usage.completion_tokens_details.reasoning_tokens", S::Count(Inner, F::Reasoning)),
];

/// What a relay paid for the call.
pub(super) const COST: &[(&str, S)] = &[("usage.cost", S::Cost(Top))];

pub(super) static READER: Reader = Reader::events(&PATHS, event, document, inclusive).ended(ending::chat);

/// What every server of this shape is asked for.
pub(super) const WISHES: &[(&str, Ask)] = &[
    ("model", Ask::Model),
    ("stream", Ask::Stream),
    ("stream_options", Ask::StreamOptions),
    ("stream_options.include_usage", Ask::IncludeUsage),
    ("max_tokens", Ask::Limit("max_tokens")),
    ("max_completion_tokens", Ask::Limit("max_completion_tokens")),
    ("n", Ask::Choices("n")),
    ("messages", Ask::Messages("messages")),
    ("messages[].content[].image_url.url", Ask::Media),
    ("messages[].content[].input_audio.data", Ask::Recording),
    ("messages[].content[].file.file_data", Ask::Media),
    ("messages[].content[].file.file_id", Ask::Stored),
    ("tools[].type", Ask::ToolType),
    ("web_search_options", Ask::Extra),
    // What of it is rejected is billed as output beyond the limit.
    ("prediction", Ask::Extra),
    ("service_tier", Ask::Tier),
    ("messages[].content[].video_url.url", Ask::Recording),
    ("messages[].content[].audio_url.url", Ask::Recording),
];

/// What relays know, at whatever path: other models to fall back on, and plugins, have prices of their own.
pub(super) const RELAYED: &[(&str, Ask)] =
    &[("models", Ask::Extra), ("fallbacks", Ask::Extra), ("plugins", Ask::Extra), ("preset", Ask::Extra)];

static ASKS: LazyLock<Paths<Ask>> = LazyLock::new(|| Paths::new(&[WISHES, RELAYED].concat()));

/// Without a limit of the client's own we insert `max_tokens`, the older name: a server that wants
/// the newer one refuses it and nothing is owed, while a server that does not know the newer one
/// would ignore it and overrun the hold.
pub(super) const CHAT: Form = Form {
    paths: &ASKS,
    limit: Limit::Member("max_tokens"),
    inject: Inject::Usage,
    caches_unasked: true,
    model: ModelAt::Body,
    streams_unasked: false,
    single_stream: false,
};

pub(super) static FORM: Form = CHAT;

pub(super) fn event(event: &Event, kind: &str, seen: &mut Seen) {
    seen.words(event);
    add_output(event, seen);
    seen.stopped |= event.stop.is_some();
    let failed = event.error.is_some() || kind == "error";
    if failed {
        seen.terminal = Some(Terminal::Error);
    }
    // A running total beside text that is still growing is partial (reference items 28 and 34).
    let whole = seen.stopped || event.choices.is_none_or(|any| !any);
    take_report(event, failed, whole, seen);
}

pub(super) fn document(event: &Event, seen: &mut Seen) {
    seen.words(event);
    add_output(event, seen);
    let failed = event.error.is_some();
    take_report(event, failed, true, seen);
    seen.terminal = Some(if failed { Terminal::Error } else { Terminal::Complete });
}

fn add_output(event: &Event, seen: &mut Seen) {
    seen.add_deltas(event.output);
    seen.add_finals(event.finals);
    seen.media = seen.media.saturating_add(event.media);
}

/// Beside a failure before any output no usage counts (reference item 27).
fn take_report(event: &Event, failed: bool, whole: bool, seen: &mut Seen) {
    if !failed || seen.has_output() {
        seen.report(event.inner.as_deref(), whole);
        seen.report(event.top.as_deref(), whole);
    }
}
