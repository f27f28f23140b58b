//! OpenAI embeddings: input only. The vectors are passed over, never built.

use std::sync::LazyLock;

use super::Reader;
use super::openai_chat::{USAGE, document, event};
use crate::count::Count;
use crate::event::Slot as S;
use crate::json::Paths;
use crate::request::{Ask, Form};
use crate::usage::{Anomalies, Counts, Field, Normal, inclusive};

static PATHS: LazyLock<Paths<S>> =
    LazyLock::new(|| Paths::new(&[USAGE, &[("data[].embedding", S::Media)]].concat()));

pub(super) static READER: Reader = Reader { paths: &PATHS, event, document, normalise };

static ASKS: LazyLock<Paths<Ask>> = LazyLock::new(|| Paths::new(&[("model", Ask::Model)]));

pub(super) static FORM: Form =
    Form { paths: &ASKS, limit_name: None, reports_unasked: true, caches_unasked: false };

fn normalise(counts: &Counts, anomalies: &mut Anomalies) -> Normal {
    let mut counts = *counts;
    if counts.get(Field::Input).known().is_some() {
        counts.set(Field::Output, Count::Of(0));
    }
    inclusive(&counts, anomalies)
}
