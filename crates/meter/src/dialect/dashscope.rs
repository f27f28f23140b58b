//! Qwen's own API. Usage is on every event and cumulative; a header asks for the stream, and text comes in
//! pieces or, by the client's choice, each time whole.

use std::sync::LazyLock;

use super::openai_chat::CHAT;
use super::{EndMark, Reader};
use crate::ending;
use crate::event::{Event, Place::Top, Slot as S};
use crate::paths::Paths;
use crate::request::{Ask, Form, Inject, Limit};
use crate::seen::Seen;
use crate::usage::{Field as F, inclusive};

static PATHS: LazyLock<Paths<S>> = LazyLock::new(|| {
    Paths::new(&[
        ("request_id", S::Id),
        ("code", S::Error),
        ("output.text", S::Said),
        ("output.finish_reason", S::Stop),
        ("output.choices[].finish_reason", S::Stop),
        ("output.choices[].message.content", S::Said),
        ("output.choices[].message.content[].text", S::Said),
        ("output.choices[].message.reasoning_content", S::Reasoning),
        ("output.choices[].message.tool_calls[].function.arguments", S::Tool),
        ("output.choices[].message.tool_calls[].function.name", S::Media),
        ("usage", S::Report(Top)),
        ("usage.input_tokens", S::Count(Top, F::Input)),
        ("usage.output_tokens", S::Count(Top, F::Output)),
        ("usage.total_tokens", S::Count(Top, F::Total)),
        ("usage.prompt_tokens_details.cached_tokens", S::Count(Top, F::CacheRead)),
        ("usage.prompt_tokens_details.cache_creation_input_tokens", S::Count(Top, F::CacheWrite)),
        ("usage.output_tokens_details.reasoning_tokens", S::Count(Top, F::Reasoning)),
    ])
});

pub(super) static READER: Reader = Reader {
    end_mark: EndMark::Stop,
    ..Reader::events(&PATHS, event, document, inclusive).ended(ending::dashscope)
};

static ASKS: LazyLock<Paths<Ask>> = LazyLock::new(|| {
    Paths::new(&[
        ("model", Ask::Model),
        ("input.messages", Ask::Messages("messages")),
        ("input.prompt", Ask::Messages("prompt")),
        ("input.messages[].content[].image", Ask::Media),
        ("input.messages[].content[].audio", Ask::Recording),
        ("input.messages[].content[].video", Ask::Recording),
        ("input.messages[].content[].video[]", Ask::Media),
        ("input.messages[].content[].cache_control", Ask::Cache),
        ("parameters", Ask::Settings("parameters")),
        ("parameters.max_tokens", Ask::Limit("max_tokens")),
        ("parameters.n", Ask::Choices("n")),
        ("parameters.tools[].type", Ask::ToolType),
        ("parameters.enable_search", Ask::Extra),
        ("parameters.enable_code_interpreter", Ask::Extra),
    ])
});

pub(super) static FORM: Form = Form {
    paths: &ASKS,
    limit: Limit::Inside("parameters", "max_tokens"),
    inject: Inject::Never,
    caches_unasked: false,
    ..CHAT
};

fn event(event: &Event, kind: &str, seen: &mut Seen) {
    seen.words(event);
    seen.say(event.output, event.said.as_deref());
    seen.running_report(event, kind);
}

fn document(document: &Event, seen: &mut Seen) {
    event(document, "", seen);
    seen.was_whole();
}
