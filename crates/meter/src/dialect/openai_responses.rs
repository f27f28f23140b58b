//! OpenAI responses.

use std::sync::LazyLock;

use super::Reader;
use super::openai_chat::{CHAT, RELAYED};
use crate::ending;
use crate::event::{Event, Output, Place, Slot as S};
use crate::paths::Paths;
use crate::request::{Ask, Form, Inject, Limit};
use crate::seen::Seen;
use crate::usage::{Field as F, Terminal, inclusive};

use Place::{Inner, Top};

/// `$.usage` of a document and `$.response.usage` of a terminal event. Other objects of that name,
/// such as one in a tool schema that `response.created` echoes, are the client's (MTR-11).
static PATHS: LazyLock<Paths<S>> = LazyLock::new(|| {
    Paths::new(&[
        ("type", S::Kind),
        ("sequence_number", S::Index),
        ("response.id", S::Id),
        ("delta", S::Delta),
        ("partial_image_b64", S::Media),
        ("error", S::Error),
        ("status", S::Status),
        ("model", S::Model),
        ("service_tier", S::Tier(Top)),
        ("usage", S::Report(Top)),
        ("usage.input_tokens", S::Count(Top, F::Input)),
        ("usage.output_tokens", S::Count(Top, F::Output)),
        ("usage.total_tokens", S::Count(Top, F::Total)),
        ("usage.input_tokens_details.cached_tokens", S::Count(Top, F::CacheRead)),
        ("usage.input_tokens_details.cache_write_tokens", S::Count(Top, F::CacheWrite)),
        ("usage.input_tokens_details.cache_write_tokens_details.ttl_30m_tokens", S::Count(Top, F::Write30m)),
        ("usage.input_tokens_details.cache_write_tokens_details.ttl_12h_tokens", S::Count(Top, F::Write12h)),
        ("usage.output_tokens_details.reasoning_tokens", S::Count(Top, F::Reasoning)),
        ("output[].content[].text", S::Text),
        ("output[].content[].refusal", S::Text),
        ("output[].summary[].text", S::Reasoning),
        ("output[].arguments", S::Tool),
        ("output[].input", S::Tool),
        ("output[].name", S::Media),
        ("output[].result", S::Media),
        ("response.model", S::Model),
        ("response.service_tier", S::Tier(Inner)),
        ("response.usage", S::Report(Inner)),
        ("response.usage.input_tokens", S::Count(Inner, F::Input)),
        ("response.usage.output_tokens", S::Count(Inner, F::Output)),
        ("response.usage.total_tokens", S::Count(Inner, F::Total)),
        ("response.usage.input_tokens_details.cached_tokens", S::Count(Inner, F::CacheRead)),
        ("response.usage.input_tokens_details.cache_write_tokens", S::Count(Inner, F::CacheWrite)),
        (
            "response.usage.input_tokens_details.cache_write_tokens_details.ttl_30m_tokens",
            S::Count(Inner, F::Write30m),
        ),
        (
            "response.usage.input_tokens_details.cache_write_tokens_details.ttl_12h_tokens",
            S::Count(Inner, F::Write12h),
        ),
        ("response.usage.output_tokens_details.reasoning_tokens", S::Count(Inner, F::Reasoning)),
        ("response.output[].content[].text", S::Text),
        ("response.output[].content[].refusal", S::Text),
        ("response.output[].summary[].text", S::Reasoning),
        ("response.output[].arguments", S::Tool),
        ("response.output[].input", S::Tool),
        ("response.output[].name", S::Media),
        ("response.output[].result", S::Media),
    ])
});

pub(super) static READER: Reader =
    Reader::events(&PATHS, event, document, inclusive).ended(ending::responses);

static ASKS: LazyLock<Paths<Ask>> = LazyLock::new(|| Paths::new(&[WISHES, RELAYED].concat()));

const WISHES: &[(&str, Ask)] = &[
    ("model", Ask::Model),
    ("stream", Ask::Stream),
    ("max_output_tokens", Ask::Limit("max_output_tokens")),
    ("input", Ask::Messages("input")),
    ("service_tier", Ask::Tier),
    ("background", Ask::Background),
    ("previous_response_id", Ask::Stored),
    ("conversation", Ask::Stored),
    ("prompt", Ask::Stored),
    ("input[].type", Ask::ItemType),
    ("input[].content[].image_url", Ask::Media),
    ("input[].content[].input_audio.data", Ask::Media),
    ("input[].content[].file_data", Ask::Media),
    ("input[].content[].file_url", Ask::Stored),
    ("input[].content[].file_id", Ask::Stored),
    ("tools[].type", Ask::ToolType),
];

pub(super) static FORM: Form = Form {
    paths: &ASKS,
    limit: Limit::Member("max_output_tokens"),
    inject: Inject::Never,
    caches_unasked: true,
    ..CHAT
};

fn event(event: &Event, kind: &str, seen: &mut Seen) {
    seen.words(event);
    seen.index = event.index.or(seen.index);
    if let Some(piece) = kind.strip_suffix(".delta") {
        add_delta(piece, event.delta, seen);
        return;
    }
    let terminal = match kind {
        "response.completed" => Terminal::Completed,
        "response.incomplete" | "response.cancelled" => Terminal::Incomplete,
        "response.failed" => Terminal::Error,
        "error" => {
            seen.terminal = Some(Terminal::Error);
            return;
        }
        // Events of other kinds carry an image at most.
        _ => {
            seen.media = seen.media.saturating_add(event.media);
            return;
        }
    };
    seen.set_finals(event.output);
    seen.media = seen.media.saturating_add(event.media);
    seen.report(event.inner.as_deref(), true);
    seen.terminal = Some(terminal);
}

fn add_delta(kind: &str, bytes: u64, seen: &mut Seen) {
    let mut output = Output::default();
    match kind {
        // Sound has no text; it only shows that output has begun.
        "response.audio" | "response.output_audio" => seen.media = seen.media.saturating_add(bytes),
        "response.output_text"
        | "response.refusal"
        | "response.audio.transcript"
        | "response.output_audio_transcript" => output.text = bytes,
        _ if kind.starts_with("response.reasoning") => output.reasoning = bytes,
        // Arguments, code and inputs of whatever tool there may be.
        _ => output.tool = bytes,
    }
    seen.add_deltas(output);
}

fn document(event: &Event, seen: &mut Seen) {
    seen.words(event);
    seen.set_finals(event.output);
    seen.media = seen.media.saturating_add(event.media);
    seen.report(event.top.as_deref(), true);
    seen.terminal = Some(match event.status.as_str() {
        "queued" | "in_progress" if seen.counts.is_none() => Terminal::Pending,
        "incomplete" | "cancelled" => Terminal::Incomplete,
        "failed" => Terminal::Error,
        _ if event.error.is_some() => Terminal::Error,
        _ => Terminal::Complete,
    });
}
