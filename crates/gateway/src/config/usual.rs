//! The routes of a file that has none of its own: those under which each provider's API is known.

use http::Method;
use meter::Provider;

use super::route::{PathPattern, Route, RoutePrice, RouteUpstream, Upstreams, Usual};
use super::section::Section;
use super::upstream::Upstream;
use crate::telemetry::Kept;

/// Paths that every server in OpenAI's shape has.
const CHAT: &[&str] = &["/v1/chat/completions"];
const CHAT_AND_VECTORS: &[&str] = &["/v1/chat/completions", "/v1/embeddings"];
const WITH_COMPLETIONS: &[&str] = &["/v1/chat/completions", "/v1/completions", "/v1/embeddings"];
const WITH_RESPONSES: &[&str] =
    &["/v1/chat/completions", "/v1/responses", "/v1/completions", "/v1/embeddings"];

/// Metered paths of a provider.
const fn paths(provider: Provider) -> &'static [&'static str] {
    match provider {
        Provider::OpenAi | Provider::Vllm => WITH_RESPONSES,
        Provider::DeepSeek | Provider::Moonshot | Provider::MiniMax => CHAT,
        Provider::Qwen | Provider::Zhipu | Provider::Doubao => CHAT_AND_VECTORS,
        Provider::Groq | Provider::OpenRouter => &["/v1/chat/completions", "/v1/responses"],
        Provider::Together => WITH_COMPLETIONS,
        Provider::Anthropic => &["/v1/messages"],
        Provider::Gemini => &["/v1beta/models/**"],
        Provider::Ollama => {
            &["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/api/chat", "/api/generate"]
        }
        Provider::LlamaCpp => &["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/completion"],
        Provider::Raw => &[],
    }
}

pub(super) fn routes(top: &Section<'_>, upstreams: &Upstreams, usual: Usual) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    let mut clashes: Vec<(&str, &str)> = Vec::new();
    for provider in Provider::ALL {
        for upstream in upstreams.values().filter(|upstream| upstream.provider == provider) {
            if provider == Provider::Raw {
                let name = &upstream.name;
                let message = format!("upstream {name} is raw and has no usual routes; write routes");
                top.complain("upstreams", message);
            }
            for path in paths(provider) {
                let name = (*path).to_owned();
                let Some(taken) = routes.iter().find(|route| route.name == name) else {
                    routes.extend(route(name, upstream, RoutePrice::ByModel, usual));
                    continue;
                };
                // One finding for two upstreams, however many paths they share.
                let first = taken.upstream.names().next().and_then(|name| upstreams.get(name));
                if let Some(first) = first.filter(|first| !clashes.contains(&(&first.name, &upstream.name))) {
                    clashes.push((&first.name, &upstream.name));
                    let (a, b) = (&first.name, &upstream.name);
                    let message = if first.provider == provider {
                        format!(
                            "upstreams {a} and {b} both speak {}; write routes that choose",
                            provider.name()
                        )
                    } else {
                        format!("upstreams {a} and {b} are both asked at {path}; write routes that choose")
                    };
                    top.complain("upstreams", message);
                }
            }
            if provider == Provider::Anthropic && !routes.iter().any(|route| route.name == COUNT_TOKENS) {
                let name = COUNT_TOKENS.to_owned();
                routes.extend(route(name, upstream, RoutePrice::Free, usual));
            }
        }
    }
    routes
}

/// Counting tokens is free by its nature.
const COUNT_TOKENS: &str = "/v1/messages/count_tokens";

fn route(path: String, upstream: &Upstream, price: RoutePrice, usual: Usual) -> Option<Route> {
    Some(Route {
        methods: vec![Method::POST],
        path: PathPattern::parse(&path).ok()?,
        name: path,
        upstream: RouteUpstream::One(upstream.name.clone()),
        price,
        protocol: Some(upstream.protocol),
        websocket: false,
        body_bytes: usual.body_bytes,
        policy: usual.policy,
        discovery: None,
        freebies: None,
        l402: super::l402::RouteL402::default(),
        identity: super::RouteIdentity::default(),
        served: Kept::default(),
    })
}
