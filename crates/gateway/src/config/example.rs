//! The file that `init` writes.

use std::fmt::Write as _;

use super::upstream::Dialect;

/// An upstream that was found on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExampleUpstream<'a> {
    /// A name for it.
    pub name: &'a str,
    /// Its base URL, without `/v1`.
    pub url: &'a str,
    /// What it speaks.
    pub dialect: Dialect,
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
        dialect: Dialect::OpenAi,
        key_env: None,
    };
    let upstreams = if upstreams.is_empty() { std::slice::from_ref(&local) } else { upstreams };
    let mut text = String::from(HEAD);
    for ExampleUpstream { name, url, dialect, key_env } in upstreams {
        let auth = match (key_env, dialect) {
            (None, _) => String::new(),
            (Some(variable), Dialect::Anthropic) => {
                format!(", auth: {{ header: x-api-key, value: \"${{env:{variable}}}\" }}")
            }
            (Some(variable), Dialect::OpenAi | Dialect::Raw) => {
                format!(", auth: {{ bearer: \"${{env:{variable}}}\" }}")
            }
        };
        // Writing to a String does not fail.
        let _ = writeln!(text, "  {name}: {{ url: {url}, dialect: {}{auth} }}", dialect.as_str());
    }
    text.push_str(TAIL);
    text
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
";
