//! Servers that answer in the shape of OpenAI's chat: one reader, and what each puts elsewhere.

use std::sync::LazyLock;

use super::Reader;
use super::openai_chat::{CHAT, CHOICES, COST, RELAYED, USAGE, WISHES, X_GROQ, document, event};
use crate::ending;
use crate::event::{Place::Inner, Place::Top, Slot as S};
use crate::paths::Paths;
use crate::request::{Ask, Form, Inject};
use crate::usage::{Field as F, inclusive};

type Table = LazyLock<Paths<S>>;

/// Just the shape.
static PLAIN_PATHS: Table = LazyLock::new(|| with(&[]));
pub(super) static PLAIN: Reader = reader(&PLAIN_PATHS);

/// `prompt_tokens` are hits and misses: the hits are the cached ones, whatever the details say.
static DEEPSEEK_PATHS: Table =
    LazyLock::new(|| with(&[("usage.prompt_cache_hit_tokens", S::Count(Top, F::CacheHit))]));
pub(super) static DEEPSEEK: Reader = reader(&DEEPSEEK_PATHS);

static QWEN_PATHS: Table = LazyLock::new(|| {
    with(&[
        ("usage.prompt_tokens_details.cache_creation_input_tokens", S::Count(Top, F::CacheWrite)),
        ("usage.prompt_tokens_details.cache_creation.ephemeral_5m_input_tokens", S::Count(Top, F::Write5m)),
    ])
});
pub(super) static QWEN: Reader = reader(&QWEN_PATHS);

/// A stream reports within its choice, a document at the top: whichever is there (reference item 29).
static MOONSHOT_PATHS: Table = LazyLock::new(|| {
    with(&[
        ("choices[].usage", S::Report(Inner)),
        ("choices[].usage.prompt_tokens", S::Count(Inner, F::Input)),
        ("choices[].usage.completion_tokens", S::Count(Inner, F::Output)),
        ("choices[].usage.total_tokens", S::Count(Inner, F::Total)),
        ("choices[].usage.cached_tokens", S::Count(Inner, F::CacheHit)),
        ("choices[].usage.prompt_tokens_details.cached_tokens", S::Count(Inner, F::CacheRead)),
        ("choices[].usage.completion_tokens_details.reasoning_tokens", S::Count(Inner, F::Reasoning)),
        ("usage.cached_tokens", S::Count(Top, F::CacheHit)),
    ])
});
pub(super) static MOONSHOT: Reader = reader(&MOONSHOT_PATHS);

/// A failure has status 200 and says so in a code.
static MINIMAX_PATHS: Table = LazyLock::new(|| with(&[("base_resp.status_code", S::Fault)]));
pub(super) static MINIMAX: Reader = reader(&MINIMAX_PATHS);

static GROQ_PATHS: Table = LazyLock::new(|| with(X_GROQ));
pub(super) static GROQ: Reader = reader(&GROQ_PATHS);

static OPENROUTER_PATHS: Table = LazyLock::new(|| with(COST));
pub(super) static OPENROUTER: Reader = reader(&OPENROUTER_PATHS);

static TOGETHER_PATHS: Table = LazyLock::new(|| with(&[("usage.cached_tokens", S::Count(Top, F::CacheHit))]));
pub(super) static TOGETHER: Reader = reader(&TOGETHER_PATHS);

/// Writes to a cache have no price of their own.
const PLAIN_FORM: Form = Form { caches_unasked: false, ..CHAT };

/// Usage comes when it is asked for.
pub(super) static ASKED: Form = PLAIN_FORM;

/// It comes anyway (MTR-23).
pub(super) static UNASKED: Form = Form { inject: Inject::Never, ..PLAIN_FORM };
pub(super) static ZHIPU_FORM: Form = Form { inject: Inject::Never, ..PLAIN_FORM };

static VLLM_ASKS: LazyLock<Paths<Ask>> = LazyLock::new(|| {
    wishing(&[
        ("best_of", Ask::Choices("best_of")),
        // A program that writes the prompt: its length has no bound.
        ("chat_template", Ask::Extra),
        ("stream_options.continuous_usage_stats", Ask::RunningTotals),
    ])
});
/// Running totals make the bill of a stream that is left early exact (MTR-20).
pub(super) static VLLM_FORM: Form = Form { paths: &VLLM_ASKS, inject: Inject::RunningTotals, ..PLAIN_FORM };

static QWEN_ASKS: LazyLock<Paths<Ask>> = LazyLock::new(|| {
    wishing(&[
        ("enable_search", Ask::Extra),
        ("enable_code_interpreter", Ask::Extra),
        ("messages[].content[].video[]", Ask::Media),
        ("messages[].content[].cache_control", Ask::Cache),
    ])
});
pub(super) static QWEN_FORM: Form = Form { paths: &QWEN_ASKS, ..PLAIN_FORM };

static OPENROUTER_ASKS: LazyLock<Paths<Ask>> =
    LazyLock::new(|| wishing(&[("messages[].content[].cache_control", Ask::Cache)]));
pub(super) static OPENROUTER_FORM: Form =
    Form { paths: &OPENROUTER_ASKS, inject: Inject::Never, ..PLAIN_FORM };

const fn reader(paths: &'static Table) -> Reader {
    Reader::events(paths, event, document, inclusive).ended(ending::chat)
}

fn with(more: &[(&'static str, S)]) -> Paths<S> {
    Paths::new(&[USAGE, CHOICES, more].concat())
}

fn wishing(more: &[(&'static str, Ask)]) -> Paths<Ask> {
    Paths::new(&[WISHES, RELAYED, more].concat())
}
