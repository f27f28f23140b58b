//! OpenAI audio: transcripts report tokens or seconds; speech is sound without any report.

use std::sync::LazyLock;

use super::openai_chat::CHAT;
use super::{Framing, Reader};
use crate::event::{Event, Output, Place::Top, Slot as S};
use crate::paths::Paths;
use crate::request::{Ask, Form, Inject, Limit};
use crate::seen::Seen;
use crate::usage::{Field as F, Terminal, timed};

static PATHS: LazyLock<Paths<S>> = LazyLock::new(|| {
    Paths::new(&[
        ("type", S::Kind),
        ("error", S::Error),
        ("delta", S::Delta),
        ("text", S::WholeText),
        ("usage", S::Report(Top)),
        ("usage.input_tokens", S::Count(Top, F::Input)),
        ("usage.output_tokens", S::Count(Top, F::Output)),
        ("usage.total_tokens", S::Count(Top, F::Total)),
        ("usage.input_token_details.audio_tokens", S::Count(Top, F::AudioIn)),
        ("usage.seconds", S::Seconds(Top)),
    ])
});

/// A transcript may be plain text, which must not be taken for events.
pub(super) static READER: Reader =
    Reader { framing: Framing::LabelledEvents, ..Reader::events(&PATHS, event, document, timed) };

static ASKS: LazyLock<Paths<Ask>> = LazyLock::new(|| {
    Paths::new(&[
        ("model", Ask::Model),
        ("stream", Ask::Stream),
        ("file", Ask::Media),
        ("prompt", Ask::Messages("prompt")),
        ("response_format", Ask::AnswerFormat),
    ])
});

pub(super) static FORM: Form =
    Form { paths: &ASKS, limit: Limit::Fixed, inject: Inject::Never, caches_unasked: false, ..CHAT };

static SPEECH_ASKS: LazyLock<Paths<Ask>> = LazyLock::new(|| {
    Paths::new(&[("model", Ask::Model), ("input", Ask::Characters), ("stream_format", Ask::Extra)])
});

pub(super) static SPEECH: Form = Form { paths: &SPEECH_ASKS, limit: Limit::None, ..FORM_BASE };

const FORM_BASE: Form = Form { inject: Inject::Never, caches_unasked: false, ..CHAT };

fn event(event: &Event, kind: &str, seen: &mut Seen) {
    seen.words(event);
    match kind {
        "transcript.text.delta" => seen.add_deltas(Output { text: event.delta, ..Output::default() }),
        "transcript.text.done" => {
            seen.set_finals(event.finals);
            seen.report(event.top.as_deref(), true);
            seen.terminal = Some(Terminal::Completed);
        }
        "error" => seen.terminal = Some(Terminal::Error),
        _ if event.error.is_some() => seen.terminal = Some(Terminal::Error),
        _ => {}
    }
}

fn document(event: &Event, seen: &mut Seen) {
    seen.words(event);
    seen.set_finals(event.finals);
    let failed = event.error.is_some();
    if !failed || seen.has_output() {
        seen.report(event.top.as_deref(), true);
    }
    seen.terminal = Some(if failed { Terminal::Error } else { Terminal::Complete });
}
