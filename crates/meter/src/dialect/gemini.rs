//! Gemini: the model and the wish for a stream stand in the path, thoughts outside the candidates.

use std::sync::LazyLock;

use super::openai_chat::CHAT;
use super::{EndMark, Framing, Reader};
use crate::ending;
use crate::event::{Event, Place::Top, Slot as S};
use crate::paths::Paths;
use crate::request::{Ask, Form, Inject, Limit, ModelAt};
use crate::seen::Seen;
use crate::usage::{Field as F, thoughts_apart};

static PATHS: LazyLock<Paths<S>> = LazyLock::new(|| {
    Paths::new(&[
        ("responseId", S::Id),
        ("modelVersion", S::Model),
        ("error", S::Error),
        ("promptFeedback.blockReason", S::Stop),
        ("candidates[].finishReason", S::Stop),
        ("candidates[].content.parts[].text", S::Text),
        ("candidates[].content.parts[].inlineData.data", S::Media),
        ("candidates[].content.parts[].executableCode.code", S::Tool),
        ("candidates[].content.parts[].functionCall.args", S::Tool),
        ("candidates[].content.parts[].functionCall.name", S::Media),
        ("usageMetadata", S::Report(Top)),
        ("usageMetadata.promptTokenCount", S::Count(Top, F::Input)),
        ("usageMetadata.candidatesTokenCount", S::Count(Top, F::Output)),
        ("usageMetadata.thoughtsTokenCount", S::Count(Top, F::Thoughts)),
        ("usageMetadata.toolUsePromptTokenCount", S::Count(Top, F::ToolInput)),
        ("usageMetadata.cachedContentTokenCount", S::Count(Top, F::CacheRead)),
        ("usageMetadata.totalTokenCount", S::Count(Top, F::Total)),
    ])
});

pub(super) static READER: Reader = Reader {
    framing: Framing::Array,
    end_mark: EndMark::Stop,
    ..Reader::events(&PATHS, event, document, thoughts_apart).ended(ending::gemini)
};

static EMBED_PATHS: LazyLock<Paths<S>> = LazyLock::new(|| Paths::new(&[("error", S::Error)]));

/// Vectors without any usage.
pub(super) static EMBED: Reader = Reader::events(&EMBED_PATHS, event, document, thoughts_apart);

/// Google's decoder takes every name in camel case and with underscores. Both stand for one member here, so a
/// request with both is refused.
static ASKS: LazyLock<Paths<Ask>> = LazyLock::new(|| {
    Paths::new(&[
        ("model", Ask::ModelAgain),
        ("contents", Ask::Messages("contents")),
        ("contents[].parts[].inlineData.data", Ask::Media),
        ("contents[].parts[].inline_data.data", Ask::Media),
        ("contents[].parts[].functionResponse.parts[].inlineData.data", Ask::Media),
        ("contents[].parts[].function_response.parts[].inline_data.data", Ask::Media),
        ("contents[].parts[].fileData", Ask::Stored),
        ("contents[].parts[].file_data", Ask::Stored),
        ("systemInstruction.parts[].fileData", Ask::Stored),
        ("systemInstruction.parts[].file_data", Ask::Stored),
        ("system_instruction.parts[].fileData", Ask::Stored),
        ("system_instruction.parts[].file_data", Ask::Stored),
        ("cachedContent", Ask::Stored),
        ("cached_content", Ask::Stored),
        ("serviceTier", Ask::Tier),
        ("service_tier", Ask::Tier),
        ("tools[].functionDeclarations", Ask::CallersTool),
        ("tools[].function_declarations", Ask::CallersTool),
        ("generationConfig", Ask::Settings("generationConfig")),
        ("generation_config", Ask::Settings("generationConfig")),
        ("generationConfig.maxOutputTokens", Ask::Limit("maxOutputTokens")),
        ("generationConfig.max_output_tokens", Ask::Limit("maxOutputTokens")),
        ("generation_config.maxOutputTokens", Ask::Limit("maxOutputTokens")),
        ("generation_config.max_output_tokens", Ask::Limit("maxOutputTokens")),
        ("generationConfig.candidateCount", Ask::Choices("candidateCount")),
        ("generationConfig.candidate_count", Ask::Choices("candidateCount")),
        ("generation_config.candidateCount", Ask::Choices("candidateCount")),
        ("generation_config.candidate_count", Ask::Choices("candidateCount")),
    ])
});

pub(super) static FORM: Form = Form {
    paths: &ASKS,
    limit: Limit::Inside("generationConfig", "maxOutputTokens"),
    inject: Inject::Never,
    caches_unasked: false,
    model: ModelAt::Path,
    ..CHAT
};

static EMBED_ASKS: LazyLock<Paths<Ask>> = LazyLock::new(|| {
    Paths::new(&[
        ("model", Ask::ModelAgain),
        ("requests", Ask::Messages("requests")),
        ("requests[].model", Ask::ModelAgain),
        ("content.parts[].inlineData.data", Ask::Media),
        ("content.parts[].inline_data.data", Ask::Media),
        ("content.parts[].fileData", Ask::Stored),
        ("content.parts[].file_data", Ask::Stored),
        ("requests[].content.parts[].inlineData.data", Ask::Media),
        ("requests[].content.parts[].inline_data.data", Ask::Media),
        ("requests[].content.parts[].fileData", Ask::Stored),
        ("requests[].content.parts[].file_data", Ask::Stored),
    ])
});

pub(super) static EMBED_FORM: Form = Form { paths: &EMBED_ASKS, limit: Limit::None, ..FORM_BASE };

static COUNT_ASKS: LazyLock<Paths<Ask>> =
    LazyLock::new(|| Paths::new(&[("generateContentRequest.model", Ask::ModelAgain)]));

pub(super) static COUNT_FORM: Form = Form { paths: &COUNT_ASKS, limit: Limit::None, ..FORM_BASE };

const FORM_BASE: Form = Form { inject: Inject::Never, caches_unasked: false, model: ModelAt::Path, ..CHAT };

/// `.../models/{model}:{verb}` in two. A name with an escape or a character of no model's name is none.
pub(super) fn split_path(path: &str) -> Option<(&str, &str)> {
    let (before, last) = path.rsplit_once('/')?;
    let (model, verb) = last.split_once(':')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '@');
    let named = before.ends_with("/models") && !model.is_empty() && model.chars().all(plain);
    named.then_some((model, verb))
}

/// The model that a path names, and whether it asks for a stream.
pub(crate) fn model_in_path(path: &str) -> Option<(&str, bool)> {
    let (model, verb) = split_path(path.split('?').next().unwrap_or_default())?;
    Some((model, verb == "streamGenerateContent"))
}

fn event(event: &Event, kind: &str, seen: &mut Seen) {
    seen.words(event);
    seen.add_deltas(event.output);
    seen.running_report(event, kind);
}

fn document(document: &Event, seen: &mut Seen) {
    event(document, "", seen);
    seen.was_whole();
}
