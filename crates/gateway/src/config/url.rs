//! Base URLs that the operator wrote (SEC-40, SEC-42).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// How a peer is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear: a local model.
    Http,
    /// TLS, certificates verified.
    Https,
}

impl Scheme {
    /// As it stands in a URL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// Port when none is written.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Scheme, host, port and a path prefix. No user, no query, no fragment, no dot segments.
#[derive(Clone, PartialEq, Eq)]
pub struct BaseUrl {
    /// `http` or `https`.
    pub scheme: Scheme,
    /// Lower-case name or address; an IPv6 address without its brackets.
    pub host: String,
    /// Port, the scheme's default filled in.
    pub port: u16,
    /// Empty, or `/prefix` without a slash at its end.
    pub base_path: String,
}

impl BaseUrl {
    /// Reads `https://host[:port][/prefix]`. Errors never repeat the text: it may hold a password.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = if let Some(rest) = text.strip_prefix("https://") {
            (Scheme::Https, rest)
        } else if let Some(rest) = text.strip_prefix("http://") {
            (Scheme::Http, rest)
        } else {
            return Err("a URL begins with http:// or https://".to_owned());
        };
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if authority.contains('@') {
            return Err("no user or password in a URL; use auth".to_owned());
        }
        if rest.contains(['?', '#']) {
            return Err("a base URL has no query and no fragment".to_owned());
        }
        let (host, port) = split_port(authority)?;
        let host = check_host(host)?;
        let base_path = check_path(path)?;
        Ok(Self { scheme, host, port: port.unwrap_or(scheme.default_port()), base_path })
    }

    /// The same of a URL that somebody else wrote, to compare it with the operator's; none where it is no base URL.
    pub(crate) fn read(text: &str) -> Option<Self> {
        Self::parse(text).ok()
    }

    /// `host` or `host:port`, brackets where needed: the `Host` header of a request to it.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == self.scheme.default_port() { host } else { format!("{host}:{}", self.port) }
    }

    /// `https://host[:port]`, without the prefix.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme.as_str(), self.authority())
    }

    /// Whether it names this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self.host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
            || self.host.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin(), self.base_path)
    }
}

impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), String> {
    let end = authority.rfind(']').map_or(0, |at| at + 1);
    let Some(colon) = authority.get(end..).and_then(|rest| rest.find(':')) else {
        return Ok((authority, None));
    };
    let (host, port) = authority.split_at(end + colon);
    match port.trim_start_matches(':').parse() {
        Ok(port) if port > 0 => Ok((host, Some(port))),
        Ok(_) | Err(_) => Err("the port of the URL is not 1 to 65535".to_owned()),
    }
}

/// A host in its one spelling. `0x7f.1`, `2130706433` and `127.1` are spellings of an address that
/// resolvers read differently, so they are refused.
fn check_host(host: &str) -> Result<String, String> {
    let wrong = || "the host of the URL is neither a name nor an address".to_owned();
    if let Some(inner) = host.strip_prefix('[') {
        let address: Ipv6Addr = inner.strip_suffix(']').ok_or_else(wrong)?.parse().map_err(|_| wrong())?;
        return Ok(address.to_string());
    }
    let host = host.to_ascii_lowercase();
    let label = |label: &str| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(fits)
    };
    if host.len() > 253 || !host.split('.').all(label) {
        return Err(wrong());
    }
    let last = host.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
    if numeric && host.parse::<Ipv4Addr>().is_err() {
        return Err(wrong());
    }
    Ok(host)
}

fn check_path(path: &str) -> Result<String, String> {
    let trimmed = path.trim_end_matches('/');
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    let segment = |segment: &str| !segment.is_empty() && segment != "." && segment != "..";
    let good = trimmed.is_empty() || trimmed.split('/').skip(1).all(segment);
    if good && trimmed.bytes().all(fits) {
        return Ok(trimmed.to_owned());
    }
    Err("the path of the URL has an empty, dotted or encoded segment".to_owned())
}

#[cfg(test)]
mod tests {
    use super::BaseUrl;

    #[test]
    fn url_table() {
        for (text, shown) in [
            ("https://api.openai.com", "https://api.openai.com"),
            ("https://API.OpenAI.com/", "https://api.openai.com"),
            ("https://api.openai.com:443", "https://api.openai.com"),
            ("http://127.0.0.1:11434", "http://127.0.0.1:11434"),
            ("http://[::1]:8000/x/", "http://[::1]:8000/x"),
            (
                "https://dashscope.aliyuncs.com/compatible-mode",
                "https://dashscope.aliyuncs.com/compatible-mode",
            ),
        ] {
            assert_eq!(BaseUrl::parse(text).unwrap().to_string(), shown, "{text}");
        }
    }

    /// Address spellings of SEC-42's table that only some resolvers understand, and joints that
    /// would let a request leave the prefix.
    #[test]
    fn refused_urls() {
        for text in [
            "api.openai.com",
            "ftp://a.example",
            "https://",
            "https://user:pw@a.example",
            "https://a.example?x=1",
            "https://a.example/#f",
            "https://a.example:0",
            "https://a.example:65536",
            "https://a.example:",
            "http://2130706433",
            "http://0x7f000001",
            "http://0177.0.0.1",
            "http://127.1",
            "http://[::1",
            "http://[::1]x:80",
            "http://a.example./",
            "http://a..example",
            "http://a.example/../x",
            "http://a.example//x",
            "http://a.example/%2e%2e",
            "http://a b.example",
        ] {
            assert!(BaseUrl::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn errors_do_not_repeat_a_password() {
        assert!(!BaseUrl::parse("https://user:hunter2@a.example").unwrap_err().contains("hunter2"));
    }
}
