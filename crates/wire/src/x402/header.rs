//! Header values: base64 of JSON, bounded before any work (X402-4, X402-5).

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{v1, v2};
use crate::base64::{self, Base64Error};
use crate::json::{self, JsonError};

/// Version 2 challenge.
pub const PAYMENT_REQUIRED: &str = "payment-required";
/// Version 2 payment.
pub const PAYMENT_SIGNATURE: &str = "payment-signature";
/// Version 2 result.
pub const PAYMENT_RESPONSE: &str = "payment-response";
/// Version 1 payment.
pub const X_PAYMENT: &str = "x-payment";
/// Version 1 result.
pub const X_PAYMENT_RESPONSE: &str = "x-payment-response";

/// Longest header value we read.
pub const READ_BYTES_MAX: usize = 16 * 1024;
/// Longest header value to emit: some intermediaries cut at 2 KiB.
pub const EMIT_BYTES_MAX: usize = 2 * 1024 - 1;

/// Why a header value is no object of ours. Holds sizes, never the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Over [`READ_BYTES_MAX`]; nothing was decoded.
    #[error("header of {0} bytes, limit {READ_BYTES_MAX}")]
    TooLong(usize),
    /// Not base64.
    #[error("header is not base64")]
    Base64,
    /// Not acceptable JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// JSON without the members of the object.
    #[error("members are missing or of another type")]
    Shape,
    /// An object of the other version: each header carries one.
    #[error("x402Version {found}, this header carries {expected}")]
    Version {
        /// What came.
        found: u8,
        /// What belongs here.
        expected: u8,
    },
}

/// Standard alphabet, padded.
#[must_use]
pub fn encode<T: Serialize>(object: &T) -> String {
    // Our objects have string keys and no floats, so writing them cannot fail.
    base64::encode_std(&serde_json::to_vec(object).unwrap_or_default())
}

/// Reads any of the objects.
///
/// # Errors
/// [`HeaderError`]
pub fn decode<T: DeserializeOwned>(value: &str) -> Result<T, HeaderError> {
    let bytes = base64::decode_any(value, READ_BYTES_MAX).map_err(|error| match error {
        Base64Error::TooLong { length, .. } => HeaderError::TooLong(length),
        Base64Error::Malformed => HeaderError::Base64,
    })?;
    serde_json::from_value(json::parse_strict(&bytes)?).map_err(|_| HeaderError::Shape)
}

/// Reads `PAYMENT-SIGNATURE`, which carries version 2 only.
///
/// # Errors
/// [`HeaderError`]; nothing was consumed, the answer is a fresh challenge.
pub fn decode_payment_signature(value: &str) -> Result<v2::PaymentPayload, HeaderError> {
    let payment: v2::PaymentPayload = decode(value)?;
    expect_version(payment.x402_version, v2::VERSION)?;
    Ok(payment)
}

/// Reads `X-PAYMENT`, which carries version 1 only.
///
/// # Errors
/// [`HeaderError`]; nothing was consumed, the answer is a fresh challenge.
pub fn decode_x_payment(value: &str) -> Result<v1::PaymentPayload, HeaderError> {
    let payment: v1::PaymentPayload = decode(value)?;
    expect_version(payment.x402_version, v1::VERSION)?;
    Ok(payment)
}

fn expect_version(found: u8, expected: u8) -> Result<(), HeaderError> {
    if found == expected { Ok(()) } else { Err(HeaderError::Version { found, expected }) }
}
