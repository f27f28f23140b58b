//! Extensions: what a challenge adds under a key, and what comes back of it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One entry of `extensions`. The schema describes `info` for programs that do not know the extension; leaving it
/// out saves bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension<T> {
    /// The extension's own members.
    pub info: T,
    /// JSON Schema of `info`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
}

/// The entry of a key; `None` where it is absent or of another shape.
#[must_use]
pub fn find<T: serde::de::DeserializeOwned>(extensions: Option<&Map<String, Value>>, id: &str) -> Option<T> {
    T::deserialize(extensions?.get(id)?).ok()
}

/// Whether a payer's echo keeps what we declared: he may add members, and may not change or delete any. Members
/// named in `dynamic` differ from one challenge to the next. An extension he leaves out altogether is not echoed.
#[must_use]
pub fn echoes(declared: &Map<String, Value>, echoed: Option<&Map<String, Value>>, dynamic: &[&str]) -> bool {
    let Some(echoed) = echoed else { return true };
    declared.iter().all(|(id, ours)| match (echoed.get(id), ours.get("info")) {
        (Some(theirs), Some(ours)) => {
            theirs.get("info").is_some_and(|theirs| contains(ours, theirs, dynamic))
        }
        _ => true,
    })
}

fn contains(ours: &Value, theirs: &Value, dynamic: &[&str]) -> bool {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => ours
            .iter()
            .filter(|(name, _)| !dynamic.contains(&name.as_str()))
            .all(|(name, ours)| theirs.get(name).is_some_and(|theirs| contains(ours, theirs, dynamic))),
        _ => ours == theirs,
    }
}

#[cfg(test)]
mod tests {
    use super::{Extension, echoes, find};
    use serde_json::{Map, Value, json};

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn an_echo_may_add_and_not_change() {
        let declared = object(json!({
            "payment-identifier": {"info": {"required": true}, "schema": {}},
            "sign-in-with-x": {"info": {"domain": "a", "nonce": "1"}, "supportedChains": []},
        }));
        for (what, echoed, expected) in [
            ("nothing", json!({}), true),
            ("a stranger's extension", json!({"x": {"info": {}}}), true),
            ("added", json!({"payment-identifier": {"info": {"required": true, "id": "pay_1"}}}), true),
            ("changed", json!({"payment-identifier": {"info": {"required": false}}}), false),
            ("deleted", json!({"payment-identifier": {"info": {"id": "pay_1"}}}), false),
            ("emptied", json!({"payment-identifier": {}}), false),
            ("no object", json!({"payment-identifier": "required"}), false),
            ("an older nonce", json!({"sign-in-with-x": {"info": {"domain": "a", "nonce": "0"}}}), true),
            ("another host", json!({"sign-in-with-x": {"info": {"domain": "b", "nonce": "1"}}}), false),
        ] {
            assert_eq!(echoes(&declared, Some(&object(echoed)), &["nonce"]), expected, "{what}");
        }
        assert!(echoes(&declared, None, &[]));
    }

    #[test]
    fn an_entry_of_another_shape_is_absent() {
        let extensions = object(json!({"a": {"info": {"n": 1}}, "b": 7}));
        let found: Option<Extension<Value>> = find(Some(&extensions), "a");
        assert_eq!(found.unwrap().info, json!({"n": 1}));
        assert_eq!(find::<Extension<Value>>(Some(&extensions), "b"), None);
        assert_eq!(find::<Extension<Value>>(Some(&extensions), "c"), None);
        assert_eq!(find::<Extension<Value>>(None, "a"), None);
    }
}
