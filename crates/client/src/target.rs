//! Where a request goes: an origin, which is what credentials are bound to (SEC-33), and a path there.

use std::net::IpAddr;

use http::Uri;
use rails::dial::Origin;

/// An absolute `http` or `https` URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    origin: Origin,
    path: String,
}

/// Why text is no URL we call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not an absolute URL.
    #[error("not an absolute URL, such as https://api.example.com/v1/models")]
    Malformed,
    /// Another scheme.
    #[error("the URL must begin with http:// or https://")]
    Scheme,
    /// `user:password@` before the host: it would be sent in clear text or dropped in silence.
    #[error("the URL must not carry a user name or password")]
    UserInfo,
}

impl Target {
    /// Reads a URL. A fragment is dropped: it never leaves the caller.
    ///
    /// # Errors
    /// [`TargetError`]
    pub fn parse(url: &str) -> Result<Self, TargetError> {
        let uri: Uri = url.parse().map_err(|_| TargetError::Malformed)?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) => return Err(TargetError::Scheme),
            None => return Err(TargetError::Malformed),
        };
        let authority = uri.authority().ok_or(TargetError::Malformed)?;
        if authority.as_str().contains('@') {
            return Err(TargetError::UserInfo);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let port_is_written = authority.as_str().len() > authority.host().len();
        let port = match authority.port_u16() {
            Some(port) => port,
            None if port_is_written => return Err(TargetError::Malformed),
            None if tls => 443,
            None => 80,
        };
        if host.is_empty() || port == 0 {
            return Err(TargetError::Malformed);
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { origin: Origin { tls, host, port }, path })
    }

    /// Where to connect.
    #[must_use]
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Path and query.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The origin as text, `https://api.example.com`: what keys, pins and pending payments are filed under.
    #[must_use]
    pub fn origin_text(&self) -> String {
        let scheme = if self.origin.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.origin.authority())
    }

    /// The whole URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}{}", self.origin_text(), self.path)
    }

    /// Another path at the same origin.
    #[must_use]
    pub(crate) fn sibling(&self, path: String) -> Self {
        Self { origin: self.origin.clone(), path }
    }

    /// Whether a credential may go there: TLS, or this machine (SEC-33). Where a name leads is checked
    /// once more on the connection itself.
    #[must_use]
    pub fn may_carry_credentials(&self) -> bool {
        let loopback = |address: IpAddr| address.is_loopback();
        self.origin.tls || self.origin.host == "localhost" || self.origin.host.parse().is_ok_and(loopback)
    }
}

#[cfg(test)]
mod tests {
    use super::{Target, TargetError as E};

    #[test]
    fn parse_table() {
        for (url, expected) in [
            ("https://api.example.com/v1/x?y=1#z", Ok(("https://api.example.com", "/v1/x?y=1"))),
            ("HTTPS://API.Example.com:443", Ok(("https://api.example.com", "/"))),
            ("http://127.0.0.1:8402/v1", Ok(("http://127.0.0.1:8402", "/v1"))),
            ("http://[::1]:8402?q", Ok(("http://[::1]:8402", "/?q"))),
            ("api.example.com/v1", Err(E::Malformed)),
            ("/v1", Err(E::Malformed)),
            ("", Err(E::Malformed)),
            ("https://a:b@api.example.com/", Err(E::UserInfo)),
            ("https://127.0.0.1@evil.example/", Err(E::UserInfo)),
            ("https://api.example.com:0/", Err(E::Malformed)),
            ("https://api.example.com:/", Err(E::Malformed)),
            ("https://api.example.com:99999/", Err(E::Malformed)),
            ("ftp://api.example.com/", Err(E::Scheme)),
        ] {
            let parsed = Target::parse(url);
            let parsed = parsed.as_ref().map(|t| (t.origin_text(), t.path())).map_err(|error| *error);
            assert_eq!(parsed, expected.map(|(origin, path)| (origin.to_owned(), path)), "{url}");
        }
    }

    #[test]
    fn sec_33_clear_text_is_for_this_machine_only() {
        for (url, may) in [
            ("https://api.example.com/", true),
            ("http://api.example.com/", false),
            ("http://localhost:1/", true),
            ("http://localhost.evil.example/", false),
            ("http://127.0.0.1/", true),
            ("http://127.9.9.9/", true),
            ("http://127.0.0.1.evil.example/", false),
            ("http://[::1]/", true),
            ("http://10.0.0.1/", false),
            ("http://0.0.0.0/", false),
        ] {
            assert_eq!(Target::parse(url).unwrap().may_carry_credentials(), may, "{url}");
        }
    }
}
