//! Names of hosts that are asked for a directory: what the operator permits, and never ourselves (IDN-15, IDN-18).

use proof::identity::Origin;

/// Whose directories may be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allow {
    /// Of these names and of every name below them: `example.com`.
    Suffixes(Vec<String>),
    /// Of anybody, with so many new origins in an hour at most.
    Any {
        /// Origins that were not asked before, in one hour.
        per_hour: usize,
    },
}

/// Whom nobody may make us ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts {
    /// Whose directories may be fetched.
    pub allow: Allow,
    /// Origins that may be asked whatever else is allowed.
    pub named: Vec<Origin>,
    /// Ports, usually 443 alone.
    pub ports: Vec<u16>,
    /// Names of ours and of our upstreams.
    pub own: Vec<String>,
}

/// Names that the public tree does not have: what they lead to is near.
const NEAR: [&str; 10] =
    ["localhost", "local", "internal", "intranet", "lan", "home", "corp", "arpa", "onion", "invalid"];

impl Hosts {
    /// Whether this origin may be asked at all. Nothing is looked up.
    #[must_use]
    pub fn permit(&self, origin: &Origin) -> bool {
        let host = origin.host();
        let is_below = |suffix: &String| is_name_below(host, suffix);
        let allowed = match &self.allow {
            Allow::Suffixes(suffixes) => suffixes.iter().any(is_below),
            Allow::Any { .. } => true,
        };
        let allowed = (allowed && self.ports.contains(&origin.port())) || self.named.contains(origin);
        allowed && is_public_name(host) && !self.own.iter().any(|own| own == host)
    }
}

fn is_name_below(host: &str, suffix: &str) -> bool {
    host.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// A name with a top level that is public. What ends in a number is an address in one of its many spellings.
fn is_public_name(host: &str) -> bool {
    let Some((_, top)) = host.rsplit_once('.') else { return false };
    let is_number = top.starts_with("0x") || top.bytes().all(|byte| byte.is_ascii_digit());
    !is_number && !NEAR.contains(&top)
}

#[cfg(test)]
mod tests {
    use proof::identity::Origin;

    use super::{Allow, Hosts};

    #[test]
    fn idn_18_names() {
        let any = Hosts {
            allow: Allow::Any { per_hour: 1 },
            named: vec![
                Origin::parse("https://known.dev:8443").unwrap(),
                Origin::parse("https://gw.example").unwrap(),
            ],
            ports: vec![443],
            own: vec!["gw.example".into(), "api.openai.com".into()],
        };
        let some =
            Hosts { allow: Allow::Suffixes(vec!["agents.example".into(), "bot.dev".into()]), ..any.clone() };
        // By whom it is permitted: anybody's, those below two names.
        for (text, by_any, by_some) in [
            ("https://agents.example", true, true),
            ("https://a.agents.example", true, true),
            ("https://bot.dev", true, true),
            ("https://robot.dev", true, false),
            ("https://agents.example.evil.com", true, false),
            ("https://xn--bcher-kva.agents.example", true, true),
            ("https://agents.example:8443", false, false),
            ("https://known.dev:8443", true, true),
            ("https://known.dev", true, false),
            ("https://below.known.dev:8443", false, false),
            ("https://gw.example", false, false),
            ("https://api.openai.com", false, false),
            ("https://localhost", false, false),
            ("https://agents.localhost", false, false),
            ("https://metadata.google.internal", false, false),
            ("https://127.0.0.1", false, false),
            ("https://2130706433", false, false),
            ("https://127.1", false, false),
            ("https://0x7f.0x1", false, false),
        ] {
            let origin = Origin::parse(text).unwrap();
            assert_eq!((any.permit(&origin), some.permit(&origin)), (by_any, by_some), "{text}");
        }
        // What is no origin with a plain name gets no further.
        for text in [
            "http://agents.example",
            "https://agents.example/path",
            "https://user@agents.example",
            "https://agents.example:0443",
            "https://[::1]",
            "https://AGENTS.example",
            "https://bücher.example",
            "https://agents.example.",
            "https://",
            "data:application/json,{}",
        ] {
            assert_eq!(Origin::parse(text), None, "{text}");
        }
    }
}
