//! Ollama's own chat and completions: one JSON document per line, counts on the last.

use std::sync::LazyLock;

use super::openai_chat::CHAT as OPENAI_CHAT;
use super::{Framing, Reader};
use crate::ending;
use crate::event::{Event, Place::Top, Slot as S};
use crate::paths::Paths;
use crate::request::{Ask, Form, Inject, Limit};
use crate::seen::Seen;
use crate::usage::{Field as F, Terminal, inclusive};

/// The counts stand at the top of the document: it is its own report.
const LINE: &[(&str, S)] = &[
    ("$", S::Report(Top)),
    ("prompt_eval_count", S::Count(Top, F::Input)),
    ("eval_count", S::Count(Top, F::Output)),
    ("model", S::Model),
    ("error", S::Error),
    ("done", S::Last),
];

static CHAT_PATHS: LazyLock<Paths<S>> = LazyLock::new(|| {
    let message: &[(&str, S)] = &[
        ("message.content", S::Text),
        ("message.thinking", S::Reasoning),
        ("message.tool_calls[].function.arguments", S::Tool),
        ("message.tool_calls[].function.name", S::Media),
    ];
    Paths::new(&[LINE, message].concat())
});

static GENERATE_PATHS: LazyLock<Paths<S>> =
    LazyLock::new(|| Paths::new(&[LINE, &[("response", S::Text), ("thinking", S::Reasoning)]].concat()));

pub(super) static CHAT: Reader = Reader {
    framing: Framing::Lines,
    ..Reader::events(&CHAT_PATHS, event, document, inclusive).ended(ending::ollama_chat)
};

pub(super) static GENERATE: Reader = Reader {
    framing: Framing::Lines,
    ..Reader::events(&GENERATE_PATHS, event, document, inclusive).ended(ending::ollama_generate)
};

/// No limit is a limit of -1, -2 or 0.
const WISHES: &[(&str, Ask)] = &[
    ("model", Ask::Model),
    ("stream", Ask::Stream),
    ("options", Ask::Settings("options")),
    ("options.num_predict", Ask::OpenLimit("num_predict")),
];

static CHAT_ASKS: LazyLock<Paths<Ask>> = LazyLock::new(|| {
    let chat: &[(&str, Ask)] = &[
        ("messages", Ask::Messages("messages")),
        ("messages[].images[]", Ask::Media),
        ("tools[].type", Ask::ToolType),
    ];
    Paths::new(&[WISHES, chat].concat())
});

static GENERATE_ASKS: LazyLock<Paths<Ask>> = LazyLock::new(|| {
    let generate: &[(&str, Ask)] = &[("prompt", Ask::Messages("prompt")), ("images[]", Ask::Media)];
    Paths::new(&[WISHES, generate].concat())
});

const OLLAMA: Form = Form {
    paths: &CHAT_ASKS,
    limit: Limit::Inside("options", "num_predict"),
    inject: Inject::Never,
    caches_unasked: false,
    streams_unasked: true,
    ..OPENAI_CHAT
};

pub(super) static CHAT_FORM: Form = OLLAMA;
pub(super) static GENERATE_FORM: Form = Form { paths: &GENERATE_ASKS, ..OLLAMA };

fn event(event: &Event, _kind: &str, seen: &mut Seen) {
    seen.words(event);
    seen.add_deltas(event.output);
    seen.media = seen.media.saturating_add(event.media);
    if event.error.is_some() {
        seen.terminal = Some(Terminal::Error);
    } else if event.last {
        seen.report(event.top.as_deref(), true);
        seen.terminal = Some(Terminal::Done);
    }
}

fn document(document: &Event, seen: &mut Seen) {
    event(document, "", seen);
}
