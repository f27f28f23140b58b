//! OpenAI embeddings: input only. The vectors are passed over, never built.

use std::sync::LazyLock;

use super::Reader;
use super::openai_chat::{CHAT, USAGE, document, event};
use crate::count::Count;
use crate::event::Slot as S;
use crate::paths::Paths;
use crate::request::{Ask, Form, Inject, Limit};
use crate::usage::{Anomalies, Counts, Field, Normal, inclusive};

static PATHS: LazyLock<Paths<S>> =
    LazyLock::new(|| Paths::new(&[USAGE, &[("data[].embedding", S::Media)]].concat()));

pub(super) static READER: Reader = Reader::events(&PATHS, event, document, normalise);

static ASKS: LazyLock<Paths<Ask>> = LazyLock::new(|| Paths::new(&[("model", Ask::Model)]));

pub(super) static FORM: Form =
    Form { paths: &ASKS, limit: Limit::None, inject: Inject::Never, caches_unasked: false, ..CHAT };

fn normalise(counts: &Counts, anomalies: &mut Anomalies) -> Normal {
    let mut counts = counts.clone();
    if counts.get(Field::Input).known().is_some() {
        counts.set(Field::Output, Count::Of(0));
    }
    inclusive(&counts, anomalies)
}
