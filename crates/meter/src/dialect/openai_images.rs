//! OpenAI images: tokens where the model reports them, and the images themselves where it does not.

use std::sync::LazyLock;

use super::Reader;
use super::openai_chat::CHAT;
use crate::event::{Event, Place::Top, Slot as S};
use crate::paths::Paths;
use crate::request::{Ask, Form, Inject, Limit};
use crate::seen::Seen;
use crate::usage::{Field as F, Terminal, inclusive};

static PATHS: LazyLock<Paths<S>> = LazyLock::new(|| {
    Paths::new(&[
        ("type", S::Kind),
        ("error", S::Error),
        ("b64_json", S::Media),
        ("data[]", S::Image),
        ("data[].b64_json", S::Media),
        ("data[].url", S::Media),
        ("usage", S::Report(Top)),
        ("usage.input_tokens", S::Count(Top, F::Input)),
        ("usage.output_tokens", S::Count(Top, F::Output)),
        ("usage.total_tokens", S::Count(Top, F::Total)),
        ("usage.input_tokens_details.image_tokens", S::Count(Top, F::ImageIn)),
        ("usage.input_tokens_details.cached_tokens", S::Count(Top, F::CacheRead)),
        ("usage.output_tokens_details.image_tokens", S::Count(Top, F::ImageOut)),
    ])
});

/// An event is a whole image, and not to count it would give it away.
pub(super) static READER: Reader =
    Reader { event_bytes_max: 128 << 20, ..Reader::events(&PATHS, event, document, inclusive) };

static ASKS: LazyLock<Paths<Ask>> = LazyLock::new(|| {
    Paths::new(&[
        ("model", Ask::Model),
        ("stream", Ask::Stream),
        ("n", Ask::Choices("n")),
        ("prompt", Ask::Messages("prompt")),
        ("image", Ask::Media),
        ("image[]", Ask::Media),
        ("mask", Ask::Media),
    ])
});

/// No member limits the output; a stream ends with its one image.
pub(super) static FORM: Form = Form {
    paths: &ASKS,
    limit: Limit::Fixed,
    inject: Inject::Never,
    caches_unasked: false,
    single_stream: true,
    ..CHAT
};

fn event(event: &Event, kind: &str, seen: &mut Seen) {
    seen.words(event);
    seen.media = seen.media.saturating_add(event.media);
    if kind == "error" || event.error.is_some() {
        seen.terminal = Some(Terminal::Error);
    } else if kind.ends_with(".completed") {
        seen.add_images(1);
        seen.report(event.top.as_deref(), true);
        seen.terminal = Some(Terminal::Completed);
    }
}

fn document(event: &Event, seen: &mut Seen) {
    seen.words(event);
    seen.media = seen.media.saturating_add(event.media);
    if event.images > 0 {
        seen.add_images(event.images);
    }
    let failed = event.error.is_some();
    if !failed || seen.has_output() {
        seen.report(event.top.as_deref(), true);
    }
    seen.terminal = Some(if failed { Terminal::Error } else { Terminal::Complete });
}
