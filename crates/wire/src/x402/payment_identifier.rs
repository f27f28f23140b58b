//! The extension `payment-identifier`: a payer names his payment, so that asking twice is asking once (X402-34).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::extension::Extension;

/// The extension's id.
pub const ID: &str = "payment-identifier";
/// Shortest name.
pub const NAME_CHARS_MIN: usize = 16;
/// Longest name.
pub const NAME_CHARS_MAX: usize = 128;

/// What the challenge says, and what comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Whether a payment without a name is refused.
    pub required: bool,
    /// The payer's name for his payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// Why a payment's name is not taken: status 400, nothing was consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// We asked for one.
    #[error("payment identifier is missing")]
    Missing,
    /// Not 16 to 128 letters, digits, `-` and `_`.
    #[error("payment identifier is malformed")]
    Malformed,
}

/// The entry of a challenge.
#[must_use]
pub const fn declare(required: bool) -> Extension<Info> {
    Extension { info: Info { required, id: None }, schema: None }
}

/// The name that came with a payment.
///
/// # Errors
/// [`NameError`]
pub fn name(extensions: Option<&Map<String, Value>>, required: bool) -> Result<Option<&str>, NameError> {
    let entry = extensions.and_then(|extensions| extensions.get(ID));
    let id = entry.and_then(|entry| entry.get("info")).and_then(|info| info.get("id"));
    match id {
        None | Some(Value::Null) if required => Err(NameError::Missing),
        None | Some(Value::Null) => Ok(None),
        Some(id) => id.as_str().filter(|id| is_name(id)).map(Some).ok_or(NameError::Malformed),
    }
}

fn is_name(id: &str) -> bool {
    let fits = (NAME_CHARS_MIN..=NAME_CHARS_MAX).contains(&id.len());
    fits && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::{ID, NameError as E, declare, name};
    use serde_json::{Map, Value, json};

    #[test]
    fn x402_34_name_table() {
        let with = |info: Value| Map::from_iter([(ID.to_owned(), json!({"info": info}))]);
        let named = |id: &str| with(json!({"required": true, "id": id}));
        let (shortest, longest) = ("a".repeat(16), "Z-_9".repeat(32));
        for (what, extensions, required, expected) in [
            ("shortest", named(&shortest), true, Ok(Some(shortest.as_str()))),
            ("longest", named(&longest), false, Ok(Some(longest.as_str()))),
            ("too short", named(&"a".repeat(15)), false, Err(E::Malformed)),
            ("too long", named(&"a".repeat(129)), false, Err(E::Malformed)),
            ("other letters", named("pay.0123456789abcdef"), false, Err(E::Malformed)),
            ("letters beyond ASCII", named("pay_0123456789abcd\u{e9}"), false, Err(E::Malformed)),
            ("a number", with(json!({"id": 7})), false, Err(E::Malformed)),
            ("absent", with(json!({"required": true})), false, Ok(None)),
            ("absent, required", with(json!({"required": true})), true, Err(E::Missing)),
            ("null, required", with(json!({"id": null})), true, Err(E::Missing)),
            ("no entry, required", Map::new(), true, Err(E::Missing)),
            ("no entry", Map::new(), false, Ok(None)),
        ] {
            assert_eq!(name(Some(&extensions), required), expected, "{what}");
        }
        assert_eq!(name(None, false), Ok(None));
        assert_eq!(name(None, true), Err(E::Missing));
        assert_eq!(serde_json::to_value(declare(true)).unwrap(), json!({"info": {"required": true}}));
    }
}
