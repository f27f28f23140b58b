//! OpenAI's legacy completions: chat without messages.

use std::sync::LazyLock;

use super::Reader;
use super::openai_chat::{CHAT, RELAYED, USAGE, document, event};
use crate::ending;
use crate::event::Slot as S;
use crate::paths::Paths;
use crate::request::{Ask, Form, Inject, Limit};
use crate::usage::inclusive;

const CHOICES: &[(&str, S)] =
    &[("choices", S::Choices), ("choices[].finish_reason", S::Stop), ("choices[].text", S::Text)];

static PATHS: LazyLock<Paths<S>> = LazyLock::new(|| Paths::new(&[USAGE, CHOICES].concat()));

pub(super) static READER: Reader =
    Reader::events(&PATHS, event, document, inclusive).ended(ending::completion);

static ASKS: LazyLock<Paths<Ask>> = LazyLock::new(|| Paths::new(&[WISHES, RELAYED].concat()));

const WISHES: &[(&str, Ask)] = &[
    ("model", Ask::Model),
    ("stream", Ask::Stream),
    ("stream_options", Ask::StreamOptions),
    ("stream_options.include_usage", Ask::IncludeUsage),
    ("max_tokens", Ask::Limit("max_tokens")),
    ("n", Ask::Choices("n")),
    // `best_of` answers are generated and billed even when fewer are returned.
    ("best_of", Ask::Choices("best_of")),
    ("prompt[]", Ask::Prompt),
];

pub(super) static FORM: Form = Form {
    paths: &ASKS,
    limit: Limit::Member("max_tokens"),
    inject: Inject::Usage,
    caches_unasked: true,
    ..CHAT
};
