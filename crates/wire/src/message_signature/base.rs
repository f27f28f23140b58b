//! The bytes under a signature, built from the request and never taken from anybody (RFC 9421 section 2.5).

use std::fmt;

use super::Component;
use crate::structured_field::Dictionary;

/// Members of a field that one of them is signed of.
const MEMBERS_MAX: usize = 64;

/// A request as its receiver sees it.
pub struct Request<'r> {
    /// As sent.
    pub method: &'r str,
    /// `https` or `http`, as the client used it: before a proxy that ends TLS the configuration knows.
    pub scheme: &'r str,
    /// In lower case, a host of ours; with a port only where it is not the scheme's own.
    pub authority: &'r str,
    /// As received, undecoded.
    pub path: &'r str,
    /// Without the question mark.
    pub query: Option<&'r str>,
    /// The lines of a field by its lower-case name, in order.
    pub fields: &'r dyn Fn(&str) -> Vec<&'r [u8]>,
}

/// Why there are no bytes to verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BaseError {
    /// A component of a kind that we do not read.
    #[error("a component of a kind that is not read")]
    Unread,
    /// A field is signed that the request does not have (IDN-8).
    #[error("a signed field is missing")]
    Missing,
    /// A field that is signed is no text, or no dictionary with that member.
    #[error("a signed field is not what it is signed as")]
    Field,
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({} {})", self.method, self.path)
    }
}

pub(super) fn build(
    components: &[Component],
    params: &str,
    request: &Request<'_>,
) -> Result<String, BaseError> {
    let mut base = String::new();
    for component in components {
        let value = value(component, request)?;
        for part in [component.item.to_text().as_str(), ": ", value.as_str(), "\n"] {
            base.push_str(part);
        }
    }
    base.push_str("\"@signature-params\": ");
    base.push_str(params);
    Ok(base)
}

fn value(component: &Component, request: &Request<'_>) -> Result<String, BaseError> {
    if !component.is_read() {
        return Err(BaseError::Unread);
    }
    if component.name.starts_with('@') {
        return if component.key.is_none() {
            derived(&component.name, request)
        } else {
            Err(BaseError::Unread)
        };
    }
    let lines = (request.fields)(&component.name);
    if lines.is_empty() {
        return Err(BaseError::Missing);
    }
    let value = joined(&lines).ok_or(BaseError::Field)?;
    let Some(key) = &component.key else { return Ok(value) };
    let fields = Dictionary::parse(&value, MEMBERS_MAX).map_err(|_| BaseError::Field)?;
    fields.get(key).map(ToString::to_string).ok_or(BaseError::Missing)
}

fn derived(name: &str, request: &Request<'_>) -> Result<String, BaseError> {
    let path = if request.path.is_empty() { "/" } else { request.path };
    let text = match name {
        "@method" => request.method.to_owned(),
        "@authority" => request.authority.to_owned(),
        "@path" => path.to_owned(),
        "@query" => format!("?{}", request.query.unwrap_or_default()),
        "@target-uri" => {
            let query = request.query.map(|query| format!("?{query}")).unwrap_or_default();
            format!("{}://{}{path}{query}", request.scheme, request.authority)
        }
        _ => return Err(BaseError::Unread),
    };
    if text.bytes().all(|byte| byte.is_ascii_graphic()) { Ok(text) } else { Err(BaseError::Field) }
}

/// The value of a field: its lines without the white space around them. None where it is no printable ASCII: two readers
/// might not find the same text in it.
pub(super) fn joined(lines: &[&[u8]]) -> Option<String> {
    let mut text = String::new();
    for (at, line) in lines.iter().enumerate() {
        if at > 0 {
            text.push_str(", ");
        }
        let line = std::str::from_utf8(line).ok()?;
        let is_text = |byte: u8| matches!(byte, b'\t' | b' '..=b'~');
        if !line.bytes().all(is_text) {
            return None;
        }
        text.push_str(line.trim_matches([' ', '\t']));
    }
    Some(text)
}
