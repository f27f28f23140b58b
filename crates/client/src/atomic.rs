//! Atomic units in our own files: decimal text, because JSON numbers end below them.

use serde::{Deserialize as _, Deserializer, Serializer};

pub(crate) fn serialize<S: Serializer>(units: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(units)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
    let text = String::deserialize(deserializer)?;
    wire::x402::exact::decimal(&text).ok_or_else(|| serde::de::Error::custom("not a number"))
}
