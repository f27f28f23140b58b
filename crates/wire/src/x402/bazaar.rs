//! The extension `bazaar`: how a catalogue may call what is for sale.
//!
//! It is large. To stay inside a header it goes out on a `GET` discovery route, or when asked (X402-37).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::header::{self, HeaderError};

/// The extension's id.
pub const ID: &str = "bazaar";
/// A facilitator's word on extensions, keyed by their ids. For a log, never relayed.
pub const EXTENSION_RESPONSES: &str = "extension-responses";
/// Longest route template.
pub const TEMPLATE_BYTES_MAX: usize = 512;

/// The entry, as it stands in `extensions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Discovery {
    /// How to call it.
    pub info: Info,
    /// The route, where its path has parameters: `/users/:id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_template: Option<String>,
    /// JSON Schema of `info`. A catalogue checks against it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
}

/// How to call it, and what comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// The call.
    pub input: Input,
    /// The answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Output>,
}

/// A call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub enum Input {
    /// By HTTP.
    Http {
        /// `GET`, `POST`, ...
        #[serde(default, skip_serializing_if = "Option::is_none")]
        method: Option<String>,
        /// Example values.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        query_params: Option<Map<String, Value>>,
        /// Example values of `route_template`'s parameters.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path_params: Option<Map<String, Value>>,
        /// How `body` is written.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body_type: Option<BodyType>,
        /// An example.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<Map<String, Value>>,
        /// Example values.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        headers: Option<Map<String, Value>>,
    },
    /// A tool of an MCP server.
    Mcp {
        /// Its name.
        tool_name: String,
        /// For people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        description: Option<String>,
        /// `streamable-http`, `sse`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        transport: Option<String>,
        /// JSON Schema of its arguments.
        input_schema: Value,
        /// Example arguments.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        example: Option<Value>,
    },
}

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BodyType {
    /// JSON.
    #[serde(rename = "json")]
    Json,
    /// A form.
    #[serde(rename = "form-data")]
    FormData,
    /// Text.
    #[serde(rename = "text")]
    Text,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// `json`, `text`, ...
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Within the type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// An example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<Value>,
}

/// What became of an entry at a facilitator's catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listing {
    /// `success`, `processing`, `rejected`, or a word of later.
    pub status: String,
    /// For a log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected_reason: Option<String>,
}

/// Whether a text may be a route template: a path of plain characters that stays below its root, also after its
/// percent signs are read.
#[must_use]
pub fn is_route_template(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_/:.-~%".contains(&byte);
    let Some(decoded) = percent_decoded(text) else { return false };
    let stays = |path: &[u8]| {
        let text = String::from_utf8_lossy(path);
        !text.contains("..") && !text.contains("://")
    };
    text.starts_with('/')
        && (2..=TEMPLATE_BYTES_MAX).contains(&text.len())
        && text.bytes().all(plain)
        && stays(text.as_bytes())
        && stays(&decoded)
}

/// Reads a facilitator's word on our entry.
///
/// # Errors
/// [`HeaderError`]
pub fn listing(value: &str) -> Result<Option<Listing>, HeaderError> {
    let answers: Map<String, Value> = header::decode(value)?;
    Ok(super::extension::find(Some(&answers), ID))
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first == b'%' {
            let (digits, behind) = rest.split_at_checked(2)?;
            decoded.extend(crate::hex::decode(std::str::from_utf8(digits).ok()?).ok()?);
            rest = behind;
        } else {
            decoded.push(*first);
        }
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::{Discovery, Listing, is_route_template, listing};
    use crate::base64;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn entries_read_and_write() {
        for entry in [
            json!({"info": {"input": {"type": "http", "method": "GET", "queryParams": {"city": "Paris"}},
                "output": {"type": "json", "example": {"t": 1}}}, "schema": {"type": "object"}}),
            json!({"info": {"input": {"type": "http", "method": "POST", "bodyType": "json",
                "body": {"model": "m"}, "pathParams": {"id": "1"}}}, "routeTemplate": "/users/:id"}),
            json!({"info": {"input": {"type": "mcp", "toolName": "search", "transport": "sse",
                "inputSchema": {"type": "object"}, "example": {"q": "x"}}}}),
        ] {
            let read: Discovery = serde_json::from_value(entry.clone()).unwrap();
            assert_eq!(serde_json::to_value(read).unwrap(), entry);
        }
        for entry in [
            json!({"info": {"input": {"type": "ftp"}}}),
            json!({"info": {"input": {"type": "mcp", "toolName": "search"}}}),
            json!({"info": {"input": {"type": "http", "bodyType": "xml"}}}),
            json!({"info": {}}),
        ] {
            assert!(serde_json::from_value::<Discovery>(entry.clone()).is_err(), "{entry}");
        }
    }

    #[test]
    fn a14_route_template_table() {
        for (text, expected) in [
            ("/users/:id", true),
            ("/v1/chat.completions/%7Bid%7D", true),
            ("/", false),
            ("", false),
            ("users", false),
            ("/a/../b", false),
            ("/a/%2e%2e/b", false),
            ("/a/%2E./b", false),
            ("/a:%2f%2fb", false),
            ("/http://evil", false),
            ("/a?b", false),
            ("/a b", false),
            ("/a%", false),
            ("/a%2", false),
            ("/a%zz", false),
            ("/\u{e9}", false),
        ] {
            assert_eq!(is_route_template(text), expected, "{text}");
        }
        assert!(!is_route_template(&format!("/{}", "a".repeat(512))));
    }

    #[test]
    fn a_facilitators_word_is_read() {
        let header = |value: serde_json::Value| base64::encode_std(value.to_string().as_bytes());
        let rejected = header(json!({"bazaar": {"status": "rejected", "rejectedReason": "no echo"}}));
        let expected = Listing { status: "rejected".into(), rejected_reason: Some("no echo".into()) };
        assert_eq!(listing(&rejected), Ok(Some(expected)));
        assert_eq!(listing(&header(json!({"other": {}}))), Ok(None));
        assert!(listing("!").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_a_template_or_not(text in "\\PC{0,60}", near in "/[a-z%2eE./:]{0,20}") {
            let _ = is_route_template(&text);
            prop_assert!(!is_route_template(&near) || !near.contains(".."));
        }
    }
}
