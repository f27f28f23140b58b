//! A JSON pointer (RFC 6901) to one number, read as it is written: it never becomes a float.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Deepest pointer.
const STEPS_MAX: usize = 16;

/// Where in a document a number stands, such as `/data/amount` or `/0/price`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer(Vec<String>);

/// Text that is no pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a pointer is empty or begins with `/`, has at most {STEPS_MAX} steps, and a `~` in it is `~0` or `~1`"
)]
pub struct PointerError;

impl FromStr for Pointer {
    type Err = PointerError;

    fn from_str(text: &str) -> Result<Self, PointerError> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let steps: Vec<_> = text.strip_prefix('/').ok_or(PointerError)?.split('/').collect();
        if steps.len() > STEPS_MAX {
            return Err(PointerError);
        }
        steps.into_iter().map(step).collect::<Result<_, _>>().map(Self)
    }
}

/// One step, with its escapes read.
fn step(text: &str) -> Result<String, PointerError> {
    let mut parts = text.split('~');
    let mut read = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        read.push(match part.as_bytes().first() {
            Some(b'0') => '~',
            Some(b'1') => '/',
            Some(_) | None => return Err(PointerError),
        });
        read.push_str(&part[1..]);
    }
    Ok(read)
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.0 {
            write!(f, "/{}", step.replace('~', "~0").replace('/', "~1"))?;
        }
        Ok(())
    }
}

impl Pointer {
    /// The text of the number that stands there, as a JSON number or within a JSON string. None where there is neither,
    /// or where an object on the way names the step twice: two readers could see two prices.
    #[must_use]
    pub fn number(&self, document: &[u8]) -> Option<String> {
        let mut value: &RawValue = serde_json::from_slice(document).ok()?;
        for step in &self.0 {
            value = match value.get().as_bytes().first() {
                Some(b'{') => member(value, step)?,
                Some(b'[') => element(value, step)?,
                Some(_) | None => return None,
            };
        }
        let text = value.get();
        match text.as_bytes().first()? {
            b'"' => serde_json::from_str(text).ok(),
            b'-' | b'0'..=b'9' => Some(text.to_owned()),
            _ => None,
        }
    }
}

/// The one member of that name.
fn member<'a>(object: &'a RawValue, name: &str) -> Option<&'a RawValue> {
    let Members(members) = serde_json::from_str(object.get()).ok()?;
    let mut named = members.into_iter().filter(|(key, _)| key == name);
    let (_, value) = named.next()?;
    named.next().is_none().then_some(value)
}

/// The element of that number, written without a sign or leading zeros.
fn element<'a>(array: &'a RawValue, index: &str) -> Option<&'a RawValue> {
    let at: usize = index.parse().ok().filter(|at: &usize| at.to_string() == index)?;
    let elements: Vec<&RawValue> = serde_json::from_str(array.get()).ok()?;
    elements.get(at).copied()
}

/// The members of an object, all of them.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((key, value)) = map.next_entry::<Cow<'de, str>, _>()? {
                    members.push((key, value));
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Read).map(Self).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::{Pointer, PointerError};

    #[test]
    fn numbers_are_found_as_they_are_written() {
        for (pointer, document, expected) in [
            ("/data/amount", r#"{"data":{"amount":"94211.37","currency":"USD"}}"#, Some("94211.37")),
            ("/bitcoin/usd", r#" {"bitcoin": {"usd": 94211.370000000003}} "#, Some("94211.370000000003")),
            ("/result/XXBTZUSD/c/0", r#"{"result":{"XXBTZUSD":{"c":["94211.3","0.01"]}}}"#, Some("94211.3")),
            ("/rate", r#"{"rate":1061.45,"price":94211}"#, Some("1061.45")),
            ("", "9.4e4", Some("9.4e4")),
            ("/a~1b/~0c", r#"{"a/b":{"~c":1}}"#, Some("1")),
            ("/\u{e4}", r#"{"\u00e4":1}"#, Some("1")),
            ("/1", "[1,2]", Some("2")),
            ("/2", "[1,2]", None),
            ("/01", "[1,2]", None),
            ("/-", "[1,2]", None),
            ("/+1", "[1,2]", None),
            ("/a", r#"{"a":1,"a":2}"#, None),
            ("/a", r#"{"b":1,"b":2,"a":3}"#, Some("3")),
            ("/a/b", r#"{"a":1}"#, None),
            ("/a", r#"{"a":null}"#, None),
            ("/a", r#"{"a":true}"#, None),
            ("/a", r#"{"a":{"b":1}}"#, None),
            ("/a", r#"{"a":1"#, None),
            ("/a", r#"{"a":1} 2"#, None),
            ("/a", "<html>", None),
        ] {
            let found = pointer.parse::<Pointer>().unwrap().number(document.as_bytes());
            assert_eq!(found.as_deref(), expected, "{pointer} in {document}");
        }
    }

    #[test]
    fn text_that_is_no_pointer() {
        for text in ["data", "data/amount", "/~", "/~2", "/a~", &"/a".repeat(17)] {
            assert_eq!(text.parse::<Pointer>(), Err(PointerError), "{text}");
        }
        for text in ["", "/", "/a//b", "/~01", &"/a".repeat(16)] {
            assert_eq!(text.parse::<Pointer>().unwrap().to_string(), text);
        }
    }
}
