//! From JSON members to the structs of a method.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::jcs;

/// A payload or a request that has not the shape of its method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("members are missing or of another type")]
pub struct PayloadError;

/// Reads the members of a method; unknown ones are ignored.
///
/// # Errors
/// [`PayloadError`]
pub fn read<T: DeserializeOwned>(members: &Map<String, Value>) -> Result<T, PayloadError> {
    T::deserialize(Value::Object(members.clone())).map_err(|_| PayloadError)
}

/// Writes the members of a method.
#[must_use]
pub fn write<T: Serialize>(value: &T) -> Map<String, Value> {
    // Structs of this folder are objects with text keys and no floats, so writing them cannot fail.
    let Ok(Value::Object(members)) = serde_json::to_value(value) else { return Map::new() };
    members
}

/// The same, as `request` carries it: in its canonical form.
#[must_use]
pub fn canonical<T: Serialize>(value: &T) -> String {
    jcs::object_to_string(&write(value))
}
