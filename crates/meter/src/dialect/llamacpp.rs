//! llama.cpp's own completions. Its endpoint in OpenAI's shape is the chat dialect.

use std::sync::LazyLock;

use super::Reader;
use super::openai_chat::CHAT;
use crate::ending;
use crate::event::{Event, Place::Top, Slot as S};
use crate::paths::Paths;
use crate::request::{Ask, Form, Inject, Limit, ModelAt};
use crate::seen::Seen;
use crate::usage::{Field as F, Terminal, inclusive};

/// The counts stand at the top of the document: it is its own report.
static PATHS: LazyLock<Paths<S>> = LazyLock::new(|| {
    Paths::new(&[
        ("$", S::Report(Top)),
        ("tokens_evaluated", S::Count(Top, F::Input)),
        ("tokens_predicted", S::Count(Top, F::Output)),
        ("timings.cache_n", S::Count(Top, F::CacheRead)),
        ("model", S::Model),
        ("error", S::Error),
        ("content", S::Text),
        ("stop", S::Last),
    ])
});

pub(super) static READER: Reader = Reader::events(&PATHS, event, document, inclusive).ended(ending::llamacpp);

static ASKS: LazyLock<Paths<Ask>> = LazyLock::new(|| {
    Paths::new(&[
        ("model", Ask::Model),
        ("stream", Ask::Stream),
        ("n_predict", Ask::OpenLimit("n_predict")),
        ("max_tokens", Ask::OpenLimit("max_tokens")),
        ("n", Ask::Choices("n")),
        ("n_cmpl", Ask::Choices("n_cmpl")),
        ("prompt[]", Ask::Prompt),
        ("prompt.multimodal_data[]", Ask::Media),
        ("prompt[].multimodal_data[]", Ask::Media),
    ])
});

/// Answers of one stream are reported one by one, so only one is sold.
pub(super) static FORM: Form = Form {
    paths: &ASKS,
    limit: Limit::Member("n_predict"),
    inject: Inject::Never,
    caches_unasked: false,
    model: ModelAt::Route,
    single_stream: true,
    ..CHAT
};

fn event(event: &Event, _kind: &str, seen: &mut Seen) {
    seen.words(event);
    seen.add_deltas(event.output);
    if event.error.is_some() {
        seen.terminal = Some(Terminal::Error);
        return;
    }
    seen.report(event.top.as_deref(), event.last);
    if event.last {
        seen.terminal = Some(Terminal::Done);
    }
}

fn document(event: &Event, seen: &mut Seen) {
    seen.words(event);
    seen.add_deltas(event.output);
    let failed = event.error.is_some();
    if !failed {
        seen.report(event.top.as_deref(), true);
    }
    seen.terminal = Some(if failed { Terminal::Error } else { Terminal::Complete });
}
