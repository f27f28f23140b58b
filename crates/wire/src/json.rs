//! JSON as we accept it from strangers: bounded depth, no key twice (X402-5).

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Deepest nesting of arrays and objects we read.
pub const DEPTH_MAX: usize = 16;

/// Why bytes are no acceptable JSON document. Holds no part of the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not one JSON document in UTF-8.
    #[error("not a JSON document")]
    Syntax,
    /// One object names a key twice: two readers could see two values.
    #[error("an object names a key twice")]
    DuplicateKey,
    /// Nested deeper than [`DEPTH_MAX`].
    #[error("nested deeper than {DEPTH_MAX}")]
    TooDeep,
}

/// Reads exactly one document. The caller bounds the length.
///
/// # Errors
/// [`JsonError`]
pub fn parse_strict(bytes: &[u8]) -> Result<Value, JsonError> {
    let reason = Cell::new(JsonError::Syntax);
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Node { depth: DEPTH_MAX, reason: &reason }
        .deserialize(&mut deserializer)
        .map_err(|_| reason.get())?;
    deserializer.end().map_err(|_| JsonError::Syntax)?;
    Ok(value)
}

/// One value with `depth` levels left for its children.
#[derive(Clone, Copy)]
struct Node<'a> {
    depth: usize,
    reason: &'a Cell<JsonError>,
}

impl Node<'_> {
    fn refuse<E: serde::de::Error>(self, reason: JsonError) -> E {
        self.reason.set(reason);
        E::custom(reason)
    }

    fn child<E: serde::de::Error>(self) -> Result<Self, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Self { depth, ..self }),
            None => Err(self.refuse(JsonError::TooDeep)),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    #[expect(
        clippy::disallowed_types,
        reason = "serde names the type; a stranger's float is carried, never computed"
    )]
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| self.refuse(JsonError::Syntax))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let child = self.child()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(child)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let child = self.child()?;
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            let value = members.next_value_seed(child)?;
            if object.insert(key, value).is_some() {
                return Err(self.refuse(JsonError::DuplicateKey));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::{DEPTH_MAX, JsonError as E, parse_strict};
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn parse_table() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        for (rule, text, expected) in [
            ("plain", r#"{"a":[1,-2,true,null,"x"]}"#.to_owned(), Ok(json!({"a": [1, -2, true, null, "x"]}))),
            ("a stranger's float is carried", r#"{"a":0.5}"#.into(), Ok(json!({"a": 0.5}))),
            ("X402-5 same key twice", r#"{"a":1,"a":1}"#.into(), Err(E::DuplicateKey)),
            ("X402-5 same key, escaped", r#"{"a":1,"\u0061":2}"#.into(), Err(E::DuplicateKey)),
            ("X402-5 twice, deeper", r#"[{"b":{"a":1,"a":2}}]"#.into(), Err(E::DuplicateKey)),
            ("X402-5 one too deep", nested(DEPTH_MAX + 1), Err(E::TooDeep)),
            ("X402-5 absurdly deep", nested(100_000), Err(E::TooDeep)),
            ("two documents", "{} {}".into(), Err(E::Syntax)),
            ("cut short", r#"{"a":"#.into(), Err(E::Syntax)),
            ("number out of range", "1e999".into(), Err(E::Syntax)),
            ("nothing", String::new(), Err(E::Syntax)),
        ] {
            assert_eq!(parse_strict(text.as_bytes()), expected, "{rule}");
        }
        assert!(parse_strict(nested(DEPTH_MAX).as_bytes()).is_ok());
        assert_eq!(parse_strict(b"\"\xff\""), Err(E::Syntax));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_value_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse_strict(&bytes);
        }

        #[test]
        fn json_like_text_too(text in "[\\[\\]{}:,\"a0-9.eE \\\\u-]{0,48}") {
            let _ = parse_strict(text.as_bytes());
        }
    }
}
