//! The file that `init` writes.

use std::fmt::Write as _;

use meter::{Dialect, Provider};

/// An upstream that was found on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExampleUpstream<'a> {
    /// A name for it.
    pub name: &'a str,
    /// Its base URL, without `/v1`.
    pub url: &'a str,
    /// What it speaks.
    pub provider: Provider,
    /// Environment variable that holds its key.
    pub key_env: Option<&'a str>,
}

/// A commented configuration that sells the given upstreams for play money; a local model when
/// none is given.
#[must_use]
pub fn example(upstreams: &[ExampleUpstream<'_>]) -> String {
    let local = ExampleUpstream {
        name: "ollama",
        url: "http://127.0.0.1:11434",
        provider: Provider::Ollama,
        key_env: None,
    };
    let upstreams = if upstreams.is_empty() { std::slice::from_ref(&local) } else { upstreams };
    let mut text = String::from(HEAD);
    for ExampleUpstream { name, url, provider, key_env } in upstreams {
        let auth = key_env.map_or(String::new(), |name| format!(", auth: {{ key: \"${{env:{name}}}\" }}"));
        let model = if *provider == Provider::LlamaCpp { ", model: local" } else { "" };
        // Writing to a String does not fail.
        let _ = writeln!(text, "  {name}: {{ url: {url}, dialect: {}{model}{auth} }}", provider.name());
    }
    text.push_str(&routes(upstreams));
    text.push_str(TAIL);
    text
}

/// Routes that choose by the model's name, where several upstreams are asked at one path. Those whose models
/// have no names in common with each other come first; of the others only one can have the rest.
fn routes(upstreams: &[ExampleUpstream<'_>]) -> String {
    let chats = |upstream: &&ExampleUpstream<'_>| upstream.provider.speaks(Dialect::OpenAiChat);
    let native = |upstream: &&ExampleUpstream<'_>| upstream.provider == Provider::Gemini;
    let chats: Vec<_> = upstreams.iter().filter(chats).filter(|upstream| !native(upstream)).collect();
    if chats.len() < 2 {
        return String::new();
    }
    let own = chats.iter().filter_map(|upstream| Some((own_names(upstream.provider)?, upstream.name)));
    let mut rules: Vec<_> = own.map(|(names, upstream)| format!("\"{names}\": {upstream}")).collect();
    let mut rest = chats.iter().filter(|upstream| own_names(upstream.provider).is_none());
    rules.extend(rest.next().map(|upstream| format!("\"*\": {}", upstream.name)));
    let mut text = format!(
        "\n# Which models are whose.\nroutes:\n  - match: {{ method: POST, path: /v1/chat/completions }}\n    upstream: {{ by_model: {{ {} }} }}\n    price: by_model\n",
        rules.join(", ")
    );
    for left in rest {
        let _ = writeln!(text, "  # {} serves nothing yet: say which models are its own", left.name);
    }
    let paths = [(Provider::Anthropic, "/v1/messages"), (Provider::Gemini, "\"/v1beta/models/**\"")];
    for (provider, path) in paths {
        for upstream in upstreams.iter().filter(|upstream| upstream.provider == provider).take(1) {
            let name = upstream.name;
            let _ = writeln!(
                text,
                "  - {{ match: {{ method: POST, path: {path} }}, upstream: {name}, price: by_model }}"
            );
        }
    }
    text
}

/// How the names of a provider's own models begin.
const fn own_names(provider: Provider) -> Option<&'static str> {
    match provider {
        Provider::OpenAi => Some("gpt-*"),
        Provider::DeepSeek => Some("deepseek-*"),
        Provider::Qwen => Some("qwen*"),
        Provider::Zhipu => Some("glm-*"),
        Provider::Doubao => Some("doubao-*"),
        Provider::Moonshot => Some("kimi-*"),
        Provider::MiniMax => Some("MiniMax-*"),
        Provider::Anthropic
        | Provider::Gemini
        | Provider::Ollama
        | Provider::Vllm
        | Provider::LlamaCpp
        | Provider::Groq
        | Provider::OpenRouter
        | Provider::Together
        | Provider::Raw => None,
    }
}

const HEAD: &str = "\
# Farthing sells the APIs below, call by call. `farthing check` validates this file.

# test: play money and test networks. live: real money.
mode: test

# Clients connect here. For other machines, also set public_url: https://api.example.com
server:
  listen: [127.0.0.1:4402]

# What is sold. A key is a reference, ${env:NAME} or ${file:/path} (mode 0600), never the key itself.
upstreams:
";

const TAIL: &str = "
# Exact prices per million tokens. A model's own name counts before a pattern, a longer pattern before a shorter.
prices:
  \"*\": { input: 0.10 USD/Mtok, output: 0.30 USD/Mtok }

# How clients pay. Credit keys (`farthing key new`) always work.
rails:
  test: {}
  # x402:
  #   networks: { \"eip155:84532\": { asset: USDC, pay_to: \"0x...\" } }
  #   facilitators: [https://facilitator.example]
  # l402: { test: {}, price: { usd_per_btc: 95000 } }
  # mpp: {}
  # alipay: { app_id: \"2021...\", seller_id: \"2088...\", key: \"${file:/path}\", platform_keys: [\"MII...\"] }
";
