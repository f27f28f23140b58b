//! Values of an answer as a person reads them.

use serde_json::Value;

/// One value; a dash for none.
pub(crate) fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// `0.1 USD`.
pub(crate) fn money(value: &Value) -> String {
    format!("{} {}", word(&value["amount"]), word(&value["currency"]))
}
