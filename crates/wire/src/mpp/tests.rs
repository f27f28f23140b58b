//! Vectors of mppx and of aperture, and what the codec refuses.

mod accept;
mod aperture;
mod challenges;
mod credentials;
mod exchanges;
mod mcp;
mod methods;
mod problems;
mod receipts;

use serde_json::{Map, Value};

use super::Challenge;

/// A file of `specs/vectors/mpp`.
macro_rules! vectors {
    ($name:literal) => {
        serde_json::from_str::<serde_json::Value>(include_str!(concat!(
            "../../../../../specs/vectors/mpp/",
            $name,
            ".json"
        )))
        .unwrap()
    };
}
pub(super) use vectors;

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

/// The cases of a file, and how many they have to be.
fn cases(file: &Value, count: usize) -> &[Value] {
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), count);
    cases
}

/// A whole challenge, whose id is not checked here.
fn challenge() -> Challenge {
    let request = object(&serde_json::json!({"amount": "1", "currency": "sat"}));
    Challenge {
        id: "aWQ".into(),
        expires: Some("2026-12-01T00:00:00.123Z".into()),
        ..Challenge::new("gw.example:8402", "lightning", "charge", &request)
    }
}
