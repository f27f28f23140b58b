//! `Signature-Agent`: where the signer says that its keys are, in both dialects (section 4 of the rules).

use std::fmt;

use wire::message_signature::{MessageSignature, Request};
use wire::structured_field::{BareItem, Dictionary, Item, Member};

/// Agents that one field may name.
const AGENTS_MAX: usize = 8;
/// Longest host name there is.
const HOST_BYTES_MAX: usize = 253;
const FIELD: &str = "signature-agent";

/// Where a key can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureAgent {
    /// In the directory of this origin.
    Directory(Origin),
    /// In a document of another kind, which is not fetched (IDN-19).
    Unfetched,
}

/// Why `Signature-Agent` names no directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    /// Neither a string nor a dictionary of strings.
    #[error("the field Signature-Agent cannot be read")]
    Malformed,
    /// Not an origin with `https`: a key that came with the request, or over a line that anybody can change, says nothing
    /// about who signs (IDN-14).
    #[error("Signature-Agent names no https origin")]
    NotHttps,
    /// A kind of document that is not fetched (IDN-19).
    #[error("keys of this kind of document are not fetched")]
    NotFetched,
}

/// `https://host` or `https://host:port`, in lower case, without a port that is the usual one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin(String);

impl Origin {
    /// Reads an origin, or the address of its root. Nothing of it is looked up or trusted.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("https://")?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match authority.split_once(':') {
            None => (authority, 443),
            Some((host, port)) => {
                let plain = !port.starts_with('0') && port.bytes().all(|byte| byte.is_ascii_digit());
                (host, port.parse::<u16>().ok().filter(|_| plain)?)
            }
        };
        let label = |label: &str| {
            let belongs = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            (1..=63).contains(&label.len())
                && label.bytes().all(belongs)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if host.len() > HOST_BYTES_MAX || !host.split('.').all(label) {
            return None;
        }
        Some(Self(match port {
            443 => format!("https://{host}"),
            port => format!("https://{host}:{port}"),
        }))
    }

    /// As it was read, without what is usual.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name to look up.
    #[must_use]
    pub fn host(&self) -> &str {
        let authority = self.0.strip_prefix("https://").unwrap_or(&self.0);
        authority.split_once(':').map_or(authority, |(host, _)| host)
    }

    /// The port to connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        let authority = self.0.strip_prefix("https://").unwrap_or(&self.0);
        authority.split_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(443)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the field says to this signature: which agent it means is signed with it. None where the request has no such field.
///
/// # Errors
/// [`super::Refused::Uncovered`] where the field is there and not signed.
pub(super) fn of(
    signature: &MessageSignature,
    request: &Request<'_>,
) -> Result<Option<SignatureAgent>, super::Refused> {
    let lines = (request.fields)(FIELD);
    if lines.is_empty() {
        return Ok(None);
    }
    let mut covered = signature.covered(FIELD);
    let component = match (covered.next(), covered.next()) {
        (None, _) => return Err(super::Refused::Uncovered(FIELD)),
        (Some(component), None) => component,
        (Some(_), Some(_)) => return Err(AgentError::Malformed.into()),
    };
    let lines: Option<Vec<&str>> = lines.into_iter().map(|line| std::str::from_utf8(line).ok()).collect();
    let text = lines.ok_or(AgentError::Malformed)?.join(", ");
    let item = match &component.key {
        None => Item::parse(&text).map_err(|_| AgentError::Malformed)?,
        Some(key) => {
            let agents = Dictionary::parse(&text, AGENTS_MAX).map_err(|_| AgentError::Malformed)?;
            match agents.get(key) {
                Some(Member::Item(item)) => item.clone(),
                Some(Member::InnerList(_)) | None => return Err(AgentError::Malformed.into()),
            }
        }
    };
    Ok(Some(named(&item)?))
}

fn named(item: &Item) -> Result<SignatureAgent, AgentError> {
    let url = item.as_str().ok_or(AgentError::Malformed)?;
    match item.parameters.get("type") {
        None => {}
        Some(BareItem::Token(kind) | BareItem::String(kind)) => match kind.as_str() {
            "directory" => {}
            "jwks_uri" | "cimd" if url.starts_with("https://") => return Ok(SignatureAgent::Unfetched),
            "jwks_uri" | "cimd" => return Err(AgentError::NotHttps),
            _ => return Err(AgentError::NotFetched),
        },
        Some(BareItem::Integer(_) | BareItem::Decimal(_) | BareItem::Bytes(_) | BareItem::Boolean(_)) => {
            return Err(AgentError::Malformed);
        }
    }
    Origin::parse(url).map(SignatureAgent::Directory).ok_or(AgentError::NotHttps)
}

#[cfg(test)]
mod tests {
    use super::Origin;

    /// IDN-14
    #[test]
    fn idn_14_an_origin_is_https_and_nothing_else() {
        for (text, expected) in [
            ("https://agent.example", Some(("https://agent.example", "agent.example", 443))),
            ("https://agent.example/", Some(("https://agent.example", "agent.example", 443))),
            ("https://agent.example:443", Some(("https://agent.example", "agent.example", 443))),
            ("https://a.b:8443", Some(("https://a.b:8443", "a.b", 8443))),
            ("http://agent.example", None),
            ("HTTPS://agent.example", None),
            ("https://Agent.example", None),
            ("https://agent.example/x", None),
            ("https://agent.example?x", None),
            ("https://agent.example#x", None),
            ("https://u@agent.example", None),
            ("https://agent.example:", None),
            ("https://agent.example:0443", None),
            ("https://agent.example:65536", None),
            ("https://agent..example", None),
            ("https://-a.example", None),
            ("https://[::1]", None),
            ("https://", None),
            ("data:application/http-message-signatures-directory;base64,e30=", None),
        ] {
            let origin = Origin::parse(text);
            let parts = origin.as_ref().map(|origin| (origin.as_str(), origin.host(), origin.port()));
            assert_eq!(parts, expected, "{text}");
        }
    }
}
