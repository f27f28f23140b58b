//! Who stands behind an upstream: servers that share paths differ in what they put into an answer.

use super::Dialect;

/// A provider or server, by the name it has in configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Provider {
    /// `OpenAI`, and whoever answers just like it.
    OpenAi,
    /// Anthropic.
    Anthropic,
    /// `DeepSeek`.
    DeepSeek,
    /// Qwen, compatible mode and its own API.
    Qwen,
    /// GLM.
    Zhipu,
    /// Doubao.
    Doubao,
    /// Kimi.
    Moonshot,
    /// `MiniMax`.
    MiniMax,
    /// Gemini.
    Gemini,
    /// Ollama.
    Ollama,
    /// vLLM.
    Vllm,
    /// llama.cpp.
    LlamaCpp,
    /// Groq.
    Groq,
    /// `OpenRouter`.
    OpenRouter,
    /// Together.
    Together,
    /// Anything: answers are not read.
    Raw,
}

impl Provider {
    /// Every provider.
    pub const ALL: [Self; 16] = [
        Self::OpenAi,
        Self::Anthropic,
        Self::DeepSeek,
        Self::Qwen,
        Self::Zhipu,
        Self::Doubao,
        Self::Moonshot,
        Self::MiniMax,
        Self::Gemini,
        Self::Ollama,
        Self::Vllm,
        Self::LlamaCpp,
        Self::Groq,
        Self::OpenRouter,
        Self::Together,
        Self::Raw,
    ];

    /// The name in configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::DeepSeek => "deepseek",
            Self::Qwen => "qwen",
            Self::Zhipu => "glm",
            Self::Doubao => "doubao",
            Self::Moonshot => "kimi",
            Self::MiniMax => "minimax",
            Self::Gemini => "gemini",
            Self::Ollama => "ollama",
            Self::Vllm => "vllm",
            Self::LlamaCpp => "llama.cpp",
            Self::Groq => "groq",
            Self::OpenRouter => "openrouter",
            Self::Together => "together",
            Self::Raw => "raw",
        }
    }

    /// The provider of a name: its own, or that of its company or product.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let own = Self::ALL.into_iter().find(|provider| provider.name() == name);
        own.or(match name {
            "dashscope" => Some(Self::Qwen),
            "zhipu" | "zai" => Some(Self::Zhipu),
            "volcengine" => Some(Self::Doubao),
            "moonshot" => Some(Self::Moonshot),
            "llamacpp" => Some(Self::LlamaCpp),
            _ => None,
        })
    }

    /// Whether it answers in this dialect. Those that copy Anthropic's messages for the sake of its clients do so
    /// below a prefix of their own, which is part of their URL.
    #[must_use]
    pub const fn speaks(self, dialect: Dialect) -> bool {
        match dialect {
            Dialect::AnthropicMessages | Dialect::AnthropicCountTokens => {
                !matches!(self, Self::OpenAi | Self::Gemini | Self::Groq | Self::Together | Self::Raw)
            }
            Dialect::GeminiGenerate | Dialect::GeminiEmbed | Dialect::GeminiCountTokens => {
                matches!(self, Self::Gemini)
            }
            Dialect::DashScope => matches!(self, Self::Qwen),
            Dialect::OllamaChat | Dialect::OllamaGenerate => matches!(self, Self::Ollama),
            Dialect::LlamaCppCompletion => matches!(self, Self::LlamaCpp),
            Dialect::Raw => matches!(self, Self::Raw),
            Dialect::OpenAiChat
            | Dialect::OpenAiResponses
            | Dialect::OpenAiCompletions
            | Dialect::OpenAiEmbeddings
            | Dialect::OpenAiImages
            | Dialect::OpenAiAudio
            | Dialect::OpenAiSpeech
            | Dialect::OpenAiModels
            | Dialect::DeepSeekChat
            | Dialect::QwenChat
            | Dialect::ZhipuChat
            | Dialect::DoubaoChat
            | Dialect::MoonshotChat
            | Dialect::MiniMaxChat
            | Dialect::VllmChat
            | Dialect::GroqChat
            | Dialect::OpenRouterChat
            | Dialect::TogetherChat => !matches!(self, Self::Anthropic | Self::Raw),
        }
    }

    /// How it answers at `/chat/completions`.
    pub(super) const fn chat(self) -> Dialect {
        match self {
            Self::DeepSeek => Dialect::DeepSeekChat,
            Self::Qwen => Dialect::QwenChat,
            Self::Zhipu => Dialect::ZhipuChat,
            Self::Doubao => Dialect::DoubaoChat,
            Self::Moonshot => Dialect::MoonshotChat,
            Self::MiniMax => Dialect::MiniMaxChat,
            Self::Vllm => Dialect::VllmChat,
            Self::Groq => Dialect::GroqChat,
            Self::OpenRouter => Dialect::OpenRouterChat,
            Self::Together => Dialect::TogetherChat,
            Self::OpenAi | Self::Anthropic | Self::Gemini | Self::Ollama | Self::LlamaCpp => {
                Dialect::OpenAiChat
            }
            Self::Raw => Dialect::Raw,
        }
    }
}
