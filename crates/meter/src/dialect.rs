//! The ways upstreams speak. One file per dialect that differs, each a [`Reader`]: a table of paths and what a
//! whole event or document means. The many servers that answer in the shape of OpenAI's chat share a reader
//! and differ in data.

mod anthropic_messages;
mod dashscope;
mod gemini;
mod llamacpp;
mod ollama;
mod openai_audio;
mod openai_chat;
mod openai_completions;
mod openai_embeddings;
mod openai_images;
mod openai_responses;
mod openai_shaped;
mod provider;

use std::sync::LazyLock;

pub use provider::Provider;

use crate::ending;
use crate::event::{Event, Slot};
use crate::paths::Paths;
use crate::request::Form;
use crate::seen::Seen;
use crate::usage::{Anomalies, Counts, Normal};

pub(crate) use gemini::model_in_path;

/// How a route's upstream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Chat completions.
    OpenAiChat,
    /// Responses.
    OpenAiResponses,
    /// Legacy completions.
    OpenAiCompletions,
    /// Embeddings.
    OpenAiEmbeddings,
    /// Images, made or edited.
    OpenAiImages,
    /// Transcriptions and translations of sound.
    OpenAiAudio,
    /// Speech from text.
    OpenAiSpeech,
    /// The list of models, which is free.
    OpenAiModels,
    /// Messages.
    AnthropicMessages,
    /// Counting tokens of a message, which is free.
    AnthropicCountTokens,
    /// Chat of DeepSeek.
    DeepSeekChat,
    /// Chat of Qwen in compatible mode.
    QwenChat,
    /// Qwen's own API.
    DashScope,
    /// Chat of GLM.
    ZhipuChat,
    /// Chat of Doubao.
    DoubaoChat,
    /// Chat of Kimi.
    MoonshotChat,
    /// Chat of `MiniMax`.
    MiniMaxChat,
    /// Chat of vLLM.
    VllmChat,
    /// Chat of Groq.
    GroqChat,
    /// Chat of `OpenRouter`.
    OpenRouterChat,
    /// Chat of Together.
    TogetherChat,
    /// Gemini, whole or streamed.
    GeminiGenerate,
    /// Embeddings of Gemini.
    GeminiEmbed,
    /// Counting tokens with Gemini, which is free.
    GeminiCountTokens,
    /// Ollama's own chat.
    OllamaChat,
    /// Ollama's own completions.
    OllamaGenerate,
    /// llama.cpp's own completions.
    LlamaCppCompletion,
    /// Not read at all: priced per call, per byte or by time.
    Raw,
}

/// Whose SDK speaks the dialect: the shape errors must have for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sdk {
    /// `{"error": {"message", "type", "code"}}`.
    OpenAi,
    /// `{"type": "error", "error": {"type", "message"}}`.
    Anthropic,
    /// `{"error": {"code": 402, "message", "status"}}`.
    Gemini,
    /// `{"error": "message"}`.
    Ollama,
}

/// How the events of an answer are told apart, beside server-sent events, which every dialect may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// What is no stream of events is one document.
    Document,
    /// The same, but text that only looks like a stream of events is none unless it is labelled as one.
    LabelledEvents,
    /// One JSON document per line, each an event.
    Lines,
    /// A JSON array whose elements are events; a JSON object is a document.
    Array,
}

/// What says that a stream has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndMark {
    /// An event of its own, `[DONE]` for instance.
    Event,
    /// The connection's end, after generation said why it stopped.
    Stop,
}

/// What a dialect has to say for itself. Later dialects are one more file with one of these.
pub(crate) struct Reader {
    /// Where the values that matter stand.
    pub(crate) paths: &'static LazyLock<Paths<Slot>>,
    /// Takes in a whole event of a stream; `kind` is `$.type`, or the event's name without one.
    pub(crate) event: fn(&Event, kind: &str, &mut Seen),
    /// Takes in a document that is not a stream.
    pub(crate) document: fn(&Event, &mut Seen),
    /// Makes buckets of a report.
    pub(crate) normalise: fn(&Counts, &mut Anomalies) -> Normal,
    pub(crate) framing: Framing,
    pub(crate) end_mark: EndMark,
    /// Writes the end of a stream that we stop; none where that makes no sense (MTR-35).
    pub(crate) ending: Option<ending::Write>,
    /// The longest event that is read (MTR-16). It is not kept, so this bounds work only.
    pub(crate) event_bytes_max: usize,
}

/// Longest event with text in it.
const EVENT_BYTES_MAX: usize = 8 << 20;

impl Reader {
    /// One whose streams are server-sent events with an end mark among them.
    const fn events(
        paths: &'static LazyLock<Paths<Slot>>,
        event: fn(&Event, &str, &mut Seen),
        document: fn(&Event, &mut Seen),
        normalise: fn(&Counts, &mut Anomalies) -> Normal,
    ) -> Self {
        Self {
            paths,
            event,
            document,
            normalise,
            framing: Framing::Document,
            end_mark: EndMark::Event,
            ending: None,
            event_bytes_max: EVENT_BYTES_MAX,
        }
    }

    /// The same, ended by us with these events.
    const fn ended(self, ending: ending::Write) -> Self {
        Self { ending: Some(ending), ..self }
    }
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 28] = [
        Self::OpenAiChat,
        Self::OpenAiResponses,
        Self::OpenAiCompletions,
        Self::OpenAiEmbeddings,
        Self::OpenAiImages,
        Self::OpenAiAudio,
        Self::OpenAiSpeech,
        Self::OpenAiModels,
        Self::AnthropicMessages,
        Self::AnthropicCountTokens,
        Self::DeepSeekChat,
        Self::QwenChat,
        Self::DashScope,
        Self::ZhipuChat,
        Self::DoubaoChat,
        Self::MoonshotChat,
        Self::MiniMaxChat,
        Self::VllmChat,
        Self::GroqChat,
        Self::OpenRouterChat,
        Self::TogetherChat,
        Self::GeminiGenerate,
        Self::GeminiEmbed,
        Self::GeminiCountTokens,
        Self::OllamaChat,
        Self::OllamaGenerate,
        Self::LlamaCppCompletion,
        Self::Raw,
    ];

    /// The dialect that is spoken at a path, whatever version or prefix stands before it. `None` is
    /// a path that no dialect owns: an operator may still declare it. Servers that answer in the shape of
    /// OpenAI's chat cannot be told apart by path: see [`Dialect::for_provider`].
    #[must_use]
    pub fn from_path(path: &str) -> Option<Self> {
        let path = path.split('?').next().unwrap_or_default();
        for (end, dialect) in [
            ("/chat/completions", Self::OpenAiChat),
            ("/api/chat", Self::OllamaChat),
            ("/api/generate", Self::OllamaGenerate),
            ("/services/aigc/text-generation/generation", Self::DashScope),
            ("/services/aigc/multimodal-generation/generation", Self::DashScope),
        ] {
            if path.ends_with(end) {
                return Some(dialect);
            }
        }
        if let Some((_, verb)) = gemini::split_path(path) {
            return match verb {
                "generateContent" | "streamGenerateContent" => Some(Self::GeminiGenerate),
                "embedContent" | "batchEmbedContents" => Some(Self::GeminiEmbed),
                "countTokens" => Some(Self::GeminiCountTokens),
                _ => None,
            };
        }
        // The others have names that other APIs use too, so a version must stand before them.
        let after = path.match_indices('/').rev().find_map(|(at, _)| {
            let (before, after) = path.split_at(at);
            let segment = before.rsplit('/').next().unwrap_or_default();
            let version =
                segment.strip_prefix('v').is_some_and(|v| v.starts_with(|c: char| c.is_ascii_digit()));
            version.then_some(after)
        })?;
        match after {
            "/responses" => Some(Self::OpenAiResponses),
            "/completions" => Some(Self::OpenAiCompletions),
            "/embeddings" => Some(Self::OpenAiEmbeddings),
            "/images/generations" | "/images/edits" | "/images/variations" => Some(Self::OpenAiImages),
            "/audio/transcriptions" | "/audio/translations" => Some(Self::OpenAiAudio),
            "/audio/speech" => Some(Self::OpenAiSpeech),
            "/models" => Some(Self::OpenAiModels),
            "/messages" => Some(Self::AnthropicMessages),
            "/messages/count_tokens" => Some(Self::AnthropicCountTokens),
            _ => None,
        }
    }

    /// The dialect that a provider speaks at a path: as [`Dialect::from_path`], but for the paths that look
    /// the same everywhere and are answered differently.
    #[must_use]
    pub fn for_provider(provider: Provider, path: &str) -> Option<Self> {
        let bare = path.split('?').next().unwrap_or_default();
        if provider == Provider::Raw {
            return Some(Self::Raw);
        }
        if provider == Provider::LlamaCpp && bare.ends_with("/completion") {
            return Some(Self::LlamaCppCompletion);
        }
        let found = Self::from_path(path)?;
        let found = if found == Self::OpenAiChat { provider.chat() } else { found };
        provider.speaks(found).then_some(found)
    }

    /// The dialect's name in configuration, receipts and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAiChat => "openai.chat",
            Self::OpenAiResponses => "openai.responses",
            Self::OpenAiCompletions => "openai.completions",
            Self::OpenAiEmbeddings => "openai.embeddings",
            Self::AnthropicMessages => "anthropic.messages",
            Self::OpenAiImages => "openai.images",
            Self::OpenAiAudio => "openai.audio",
            Self::OpenAiSpeech => "openai.speech",
            Self::OpenAiModels => "openai.models",
            Self::AnthropicCountTokens => "anthropic.count_tokens",
            Self::DeepSeekChat => "deepseek.chat",
            Self::QwenChat => "qwen.compat",
            Self::DashScope => "dashscope.native",
            Self::ZhipuChat => "zhipu.chat",
            Self::DoubaoChat => "doubao.chat",
            Self::MoonshotChat => "moonshot.chat",
            Self::MiniMaxChat => "minimax.chat",
            Self::VllmChat => "vllm.chat",
            Self::GroqChat => "groq.chat",
            Self::OpenRouterChat => "openrouter.chat",
            Self::TogetherChat => "together.chat",
            Self::GeminiGenerate => "gemini.generate",
            Self::GeminiEmbed => "gemini.embed",
            Self::GeminiCountTokens => "gemini.count_tokens",
            Self::OllamaChat => "ollama.chat",
            Self::OllamaGenerate => "ollama.generate",
            Self::LlamaCppCompletion => "llamacpp.completion",
            Self::Raw => "raw",
        }
    }

    /// The dialect of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.name() == name)
    }

    /// Whose SDK to expect. Those of the other providers take the shape of OpenAI's errors.
    #[must_use]
    pub const fn sdk(self) -> Sdk {
        match self {
            Self::AnthropicMessages | Self::AnthropicCountTokens => Sdk::Anthropic,
            Self::GeminiGenerate | Self::GeminiEmbed | Self::GeminiCountTokens => Sdk::Gemini,
            Self::OllamaChat | Self::OllamaGenerate => Sdk::Ollama,
            Self::OpenAiChat
            | Self::OpenAiResponses
            | Self::OpenAiCompletions
            | Self::OpenAiEmbeddings
            | Self::OpenAiImages
            | Self::OpenAiAudio
            | Self::OpenAiSpeech
            | Self::OpenAiModels
            | Self::DeepSeekChat
            | Self::QwenChat
            | Self::DashScope
            | Self::ZhipuChat
            | Self::DoubaoChat
            | Self::MoonshotChat
            | Self::MiniMaxChat
            | Self::VllmChat
            | Self::GroqChat
            | Self::OpenRouterChat
            | Self::TogetherChat
            | Self::LlamaCppCompletion
            | Self::Raw => Sdk::OpenAi,
        }
    }

    /// Whether calls are free by their nature.
    #[must_use]
    pub const fn is_free(self) -> bool {
        matches!(self, Self::AnthropicCountTokens | Self::GeminiCountTokens | Self::OpenAiModels)
    }

    /// Whether answers are vectors: input is all that is counted.
    pub(crate) const fn is_embedding(self) -> bool {
        matches!(self, Self::OpenAiEmbeddings | Self::GeminiEmbed)
    }

    /// How to read its answers; `None` where an answer says nothing about usage.
    pub(crate) const fn reader(self) -> Option<&'static Reader> {
        Some(match self {
            Self::OpenAiChat => &openai_chat::READER,
            Self::OpenAiResponses => &openai_responses::READER,
            Self::OpenAiCompletions => &openai_completions::READER,
            Self::OpenAiEmbeddings => &openai_embeddings::READER,
            Self::OpenAiImages => &openai_images::READER,
            Self::OpenAiAudio => &openai_audio::READER,
            Self::AnthropicMessages => &anthropic_messages::READER,
            Self::DeepSeekChat => &openai_shaped::DEEPSEEK,
            Self::QwenChat => &openai_shaped::QWEN,
            Self::ZhipuChat | Self::DoubaoChat | Self::VllmChat => &openai_shaped::PLAIN,
            Self::MoonshotChat => &openai_shaped::MOONSHOT,
            Self::MiniMaxChat => &openai_shaped::MINIMAX,
            Self::GroqChat => &openai_shaped::GROQ,
            Self::OpenRouterChat => &openai_shaped::OPENROUTER,
            Self::TogetherChat => &openai_shaped::TOGETHER,
            Self::DashScope => &dashscope::READER,
            Self::GeminiGenerate => &gemini::READER,
            Self::GeminiEmbed => &gemini::EMBED,
            Self::OllamaChat => &ollama::CHAT,
            Self::OllamaGenerate => &ollama::GENERATE,
            Self::LlamaCppCompletion => &llamacpp::READER,
            Self::OpenAiSpeech
            | Self::OpenAiModels
            | Self::AnthropicCountTokens
            | Self::GeminiCountTokens
            | Self::Raw => return None,
        })
    }

    /// How to read its requests; `None` where they are none of our business.
    pub(crate) const fn form(self) -> Option<&'static Form> {
        Some(match self {
            Self::OpenAiChat | Self::DoubaoChat | Self::TogetherChat => &openai_chat::FORM,
            Self::OpenAiResponses => &openai_responses::FORM,
            Self::OpenAiCompletions => &openai_completions::FORM,
            Self::OpenAiEmbeddings => &openai_embeddings::FORM,
            Self::OpenAiImages => &openai_images::FORM,
            Self::OpenAiAudio => &openai_audio::FORM,
            Self::OpenAiSpeech => &openai_audio::SPEECH,
            Self::AnthropicMessages | Self::AnthropicCountTokens => &anthropic_messages::FORM,
            Self::DeepSeekChat | Self::MoonshotChat | Self::MiniMaxChat => &openai_shaped::ASKED,
            Self::QwenChat => &openai_shaped::QWEN_FORM,
            Self::ZhipuChat => &openai_shaped::ZHIPU_FORM,
            Self::GroqChat => &openai_shaped::UNASKED,
            Self::OpenRouterChat => &openai_shaped::OPENROUTER_FORM,
            Self::VllmChat => &openai_shaped::VLLM_FORM,
            Self::DashScope => &dashscope::FORM,
            Self::GeminiGenerate => &gemini::FORM,
            Self::GeminiEmbed => &gemini::EMBED_FORM,
            Self::GeminiCountTokens => &gemini::COUNT_FORM,
            Self::OllamaChat => &ollama::CHAT_FORM,
            Self::OllamaGenerate => &ollama::GENERATE_FORM,
            Self::LlamaCppCompletion => &llamacpp::FORM,
            Self::OpenAiModels | Self::Raw => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Dialect as D;

    #[test]
    fn paths_table() {
        for (path, expected) in [
            ("/v1/chat/completions", Some(D::OpenAiChat)),
            ("/api/paas/v4/chat/completions", Some(D::OpenAiChat)),
            ("/v1/chat/completions?x=1", Some(D::OpenAiChat)),
            ("/v1/responses", Some(D::OpenAiResponses)),
            ("/v1/responses/resp_1", None),
            ("/v1/completions", Some(D::OpenAiCompletions)),
            ("/v1beta/embeddings", Some(D::OpenAiEmbeddings)),
            ("/anthropic/v1/messages", Some(D::AnthropicMessages)),
            ("/v1/messages/count_tokens", Some(D::AnthropicCountTokens)),
            ("/v1/messages/batches", None),
            ("/v1/threads/t/messages", None),
            ("/v1/", None),
            ("/messages", None),
            ("/v1/images/edits", Some(D::OpenAiImages)),
            ("/v1/audio/transcriptions", Some(D::OpenAiAudio)),
            ("/v1/audio/speech", Some(D::OpenAiSpeech)),
            ("/v1/models", Some(D::OpenAiModels)),
            ("/v1beta/models/gemini-3.7-flash:generateContent?key=k", Some(D::GeminiGenerate)),
            ("/v1beta/models/gemini-3.7-flash:streamGenerateContent?alt=sse", Some(D::GeminiGenerate)),
            (
                "/v1/projects/p/locations/l/publishers/google/models/m:generateContent",
                Some(D::GeminiGenerate),
            ),
            ("/v1beta/models/gemini-embedding-2:batchEmbedContents", Some(D::GeminiEmbed)),
            ("/v1beta/models/m:countTokens", Some(D::GeminiCountTokens)),
            ("/v1beta/models/m:predict", None),
            ("/v1beta/models/a%2Fb:generateContent", None),
            ("/v1beta/models/:generateContent", None),
            ("/v1beta/tunedModels/m:generateContent", None),
            ("/api/chat", Some(D::OllamaChat)),
            ("/ollama/api/generate", Some(D::OllamaGenerate)),
            ("/api/v1/services/aigc/text-generation/generation", Some(D::DashScope)),
            ("/completion", None),
            ("", None),
        ] {
            assert_eq!(D::from_path(path), expected, "{path}");
        }
    }

    #[test]
    fn providers_table() {
        for (provider, path, expected) in [
            ("openai", "/v1/chat/completions", Some(D::OpenAiChat)),
            ("deepseek", "/chat/completions", Some(D::DeepSeekChat)),
            ("deepseek", "/anthropic/v1/messages", Some(D::AnthropicMessages)),
            ("deepseek", "/v1/responses", Some(D::OpenAiResponses)),
            ("qwen", "/compatible-mode/v1/chat/completions", Some(D::QwenChat)),
            ("dashscope", "/api/v1/services/aigc/text-generation/generation", Some(D::DashScope)),
            ("glm", "/api/coding/paas/v4/chat/completions", Some(D::ZhipuChat)),
            ("doubao", "/api/v3/chat/completions", Some(D::DoubaoChat)),
            ("kimi", "/v1/chat/completions", Some(D::MoonshotChat)),
            ("minimax", "/v1/chat/completions", Some(D::MiniMaxChat)),
            ("gemini", "/v1beta/models/m:generateContent", Some(D::GeminiGenerate)),
            ("gemini", "/v1beta/openai/chat/completions", Some(D::OpenAiChat)),
            ("ollama", "/api/chat", Some(D::OllamaChat)),
            ("ollama", "/v1/chat/completions", Some(D::OpenAiChat)),
            ("vllm", "/v1/chat/completions", Some(D::VllmChat)),
            ("llama.cpp", "/completion?x", Some(D::LlamaCppCompletion)),
            ("llama.cpp", "/v1/chat/completions", Some(D::OpenAiChat)),
            ("vllm", "/completion", None),
            ("groq", "/openai/v1/chat/completions", Some(D::GroqChat)),
            ("openrouter", "/api/v1/chat/completions", Some(D::OpenRouterChat)),
            ("together", "/v1/chat/completions", Some(D::TogetherChat)),
            ("raw", "/v1/chat/completions", Some(D::Raw)),
        ] {
            let provider = super::Provider::from_name(provider).unwrap();
            assert_eq!(D::for_provider(provider, path), expected, "{provider:?} {path}");
        }
        assert_eq!(super::Provider::from_name("nobody"), None);
        for provider in super::Provider::ALL {
            assert_eq!(super::Provider::from_name(provider.name()), Some(provider));
        }
    }

    #[test]
    fn names_are_unique() {
        for dialect in D::ALL {
            assert_eq!(D::from_name(dialect.name()), Some(dialect));
        }
    }
}
