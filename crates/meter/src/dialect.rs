//! The ways upstreams speak. One file per dialect, each a [`Reader`]: a table of paths and what a
//! whole event or document means.

mod anthropic_messages;
mod openai_chat;
mod openai_completions;
mod openai_embeddings;
mod openai_responses;

use std::sync::LazyLock;

use crate::event::{Event, Slot};
use crate::json::Paths;
use crate::request::Form;
use crate::seen::Seen;
use crate::usage::{Anomalies, Counts, Normal};

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
    /// Messages.
    AnthropicMessages,
    /// Counting tokens of a message, which is free.
    AnthropicCountTokens,
    /// Not read at all: priced per call.
    Raw,
}

/// Whose SDK speaks the dialect: the shape errors must have for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sdk {
    /// `{"error": {"message", "type", "code"}}`.
    OpenAi,
    /// `{"type": "error", "error": {"type", "message"}}`.
    Anthropic,
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
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 7] = [
        Self::OpenAiChat,
        Self::OpenAiResponses,
        Self::OpenAiCompletions,
        Self::OpenAiEmbeddings,
        Self::AnthropicMessages,
        Self::AnthropicCountTokens,
        Self::Raw,
    ];

    /// The dialect that is spoken at a path, whatever version or prefix stands before it. `None` is
    /// a path that no dialect owns: an operator may still declare it.
    #[must_use]
    pub fn from_path(path: &str) -> Option<Self> {
        let path = path.split('?').next().unwrap_or_default();
        if path.ends_with("/chat/completions") {
            return Some(Self::OpenAiChat);
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
            "/messages" => Some(Self::AnthropicMessages),
            "/messages/count_tokens" => Some(Self::AnthropicCountTokens),
            _ => None,
        }
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
            Self::AnthropicCountTokens => "anthropic.count_tokens",
            Self::Raw => "raw",
        }
    }

    /// The dialect of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.name() == name)
    }

    /// Whose SDK to expect.
    #[must_use]
    pub const fn sdk(self) -> Sdk {
        match self {
            Self::OpenAiChat
            | Self::OpenAiResponses
            | Self::OpenAiCompletions
            | Self::OpenAiEmbeddings
            | Self::Raw => Sdk::OpenAi,
            Self::AnthropicMessages | Self::AnthropicCountTokens => Sdk::Anthropic,
        }
    }

    /// How to read its answers; `None` where an answer says nothing about usage.
    pub(crate) const fn reader(self) -> Option<&'static Reader> {
        match self {
            Self::OpenAiChat => Some(&openai_chat::READER),
            Self::OpenAiResponses => Some(&openai_responses::READER),
            Self::OpenAiCompletions => Some(&openai_completions::READER),
            Self::OpenAiEmbeddings => Some(&openai_embeddings::READER),
            Self::AnthropicMessages => Some(&anthropic_messages::READER),
            Self::AnthropicCountTokens | Self::Raw => None,
        }
    }

    /// How to read its requests; `None` where they are none of our business.
    pub(crate) const fn form(self) -> Option<&'static Form> {
        match self {
            Self::OpenAiChat => Some(&openai_chat::FORM),
            Self::OpenAiResponses => Some(&openai_responses::FORM),
            Self::OpenAiCompletions => Some(&openai_completions::FORM),
            Self::OpenAiEmbeddings => Some(&openai_embeddings::FORM),
            Self::AnthropicMessages | Self::AnthropicCountTokens => Some(&anthropic_messages::FORM),
            Self::Raw => None,
        }
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
            ("", None),
        ] {
            assert_eq!(D::from_path(path), expected, "{path}");
        }
    }

    #[test]
    fn names_are_unique() {
        for dialect in D::ALL {
            assert_eq!(D::from_name(dialect.name()), Some(dialect));
        }
    }
}
