//! Anthropic messages.

use std::sync::LazyLock;

use super::Reader;
use super::openai_chat::{CHAT, RELAYED};
use crate::ending;
use crate::event::{Event, Place, Slot as S};
use crate::paths::Paths;
use crate::request::{Ask, Form, Inject, Limit};
use crate::seen::Seen;
use crate::usage::{Field as F, Terminal, exclusive};

use Place::{Inner, Top};

static PATHS: LazyLock<Paths<S>> = LazyLock::new(|| {
    Paths::new(&[
        ("type", S::Kind),
        ("index", S::Index),
        ("error", S::Error),
        ("model", S::Model),
        // A document's content; `input` is an object of the model's choosing.
        ("content[].text", S::Text),
        ("content[].thinking", S::Reasoning),
        ("content[].input", S::Tool),
        ("content[].name", S::Media),
        // A stream's.
        ("content_block.text", S::Text),
        ("content_block.thinking", S::Reasoning),
        ("content_block.name", S::Media),
        ("delta.text", S::Text),
        ("delta.thinking", S::Reasoning),
        ("delta.partial_json", S::Tool),
        ("delta.stop_reason", S::Stop),
        ("usage", S::Report(Top)),
        ("usage.input_tokens", S::Count(Top, F::Input)),
        ("usage.output_tokens", S::Count(Top, F::Output)),
        ("usage.cache_read_input_tokens", S::Count(Top, F::CacheRead)),
        ("usage.cache_creation_input_tokens", S::Count(Top, F::CacheWrite)),
        ("usage.cache_creation.ephemeral_5m_input_tokens", S::Count(Top, F::Write5m)),
        ("usage.cache_creation.ephemeral_1h_input_tokens", S::Count(Top, F::Write1h)),
        ("usage.output_tokens_details.thinking_tokens", S::Count(Top, F::Reasoning)),
        ("usage.server_tool_use.web_search_requests", S::Count(Top, F::WebSearch)),
        ("usage.service_tier", S::Tier(Top)),
        ("usage.inference_geo", S::Geo(Top)),
        ("usage.speed", S::Speed(Top)),
        ("message.id", S::Id),
        ("message.model", S::Model),
        ("message.usage", S::Report(Inner)),
        ("message.usage.input_tokens", S::Count(Inner, F::Input)),
        ("message.usage.output_tokens", S::Count(Inner, F::Output)),
        ("message.usage.cache_read_input_tokens", S::Count(Inner, F::CacheRead)),
        ("message.usage.cache_creation_input_tokens", S::Count(Inner, F::CacheWrite)),
        ("message.usage.cache_creation.ephemeral_5m_input_tokens", S::Count(Inner, F::Write5m)),
        ("message.usage.cache_creation.ephemeral_1h_input_tokens", S::Count(Inner, F::Write1h)),
        ("message.usage.output_tokens_details.thinking_tokens", S::Count(Inner, F::Reasoning)),
        ("message.usage.server_tool_use.web_search_requests", S::Count(Inner, F::WebSearch)),
        ("message.usage.service_tier", S::Tier(Inner)),
        ("message.usage.inference_geo", S::Geo(Inner)),
        ("message.usage.speed", S::Speed(Inner)),
    ])
});

pub(super) static READER: Reader = Reader::events(&PATHS, event, document, exclusive).ended(ending::messages);

static ASKS: LazyLock<Paths<Ask>> = LazyLock::new(|| Paths::new(&[WISHES, RELAYED].concat()));

const WISHES: &[(&str, Ask)] = &[
    ("model", Ask::Model),
    ("stream", Ask::Stream),
    ("max_tokens", Ask::Limit("max_tokens")),
    ("messages", Ask::Messages("messages")),
    ("messages[].content[].source.data", Ask::Media),
    ("messages[].content[].source.url", Ask::Fetched),
    ("messages[].content[].source.file_id", Ask::Stored),
    ("messages[].content[].type", Ask::PartType),
    ("tools[].type", Ask::ToolType),
    ("mcp_servers", Ask::Extra),
    ("container", Ask::Extra),
    ("speed", Ask::Extra),
    ("inference_geo", Ask::Extra),
    ("messages[].content[].content[].source.data", Ask::Media),
    ("messages[].content[].content[].source.url", Ask::Fetched),
    ("messages[].content[].content[].source.file_id", Ask::Stored),
    ("messages[].content[].content[].type", Ask::PartType),
    ("service_tier", Ask::Tier),
    ("cache_control", Ask::Cache),
    ("system[].cache_control", Ask::Cache),
    ("tools[].cache_control", Ask::Cache),
    ("messages[].content[].cache_control", Ask::Cache),
    ("messages[].content[].content[].cache_control", Ask::Cache),
];

pub(super) static FORM: Form = Form {
    paths: &ASKS,
    limit: Limit::Member("max_tokens"),
    inject: Inject::Never,
    caches_unasked: false,
    ..CHAT
};

fn event(event: &Event, kind: &str, seen: &mut Seen) {
    match kind {
        "message_start" => {
            seen.words(event);
            seen.merge_report(event.inner.as_deref(), false);
        }
        "content_block_start" | "content_block_delta" => {
            seen.index = event.index;
            seen.add_deltas(event.output);
            seen.media = seen.media.saturating_add(event.media);
        }
        "message_delta" => {
            seen.words(event);
            // Cumulative: final only with its stop reason (reference item 28).
            seen.merge_report(event.top.as_deref(), event.stop.is_some());
        }
        "content_block_stop" => seen.index = None,
        "message_stop" => seen.terminal = Some(Terminal::MessageStop),
        "error" => seen.terminal = Some(Terminal::Error),
        // `ping`, and whatever comes to be (MTR-19).
        _ => {}
    }
}

fn document(event: &Event, seen: &mut Seen) {
    seen.words(event);
    seen.add_deltas(event.output);
    seen.media = seen.media.saturating_add(event.media);
    seen.report(event.top.as_deref(), true);
    let failed = event.kind == "error" || event.error.is_some();
    seen.terminal = Some(if failed { Terminal::Error } else { Terminal::Complete });
}
