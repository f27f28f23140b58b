//! What a call used, and what that costs.
//!
//! Invariant: the same bytes, in any chunking, give the same usage; the client gets the very bytes.
//! Pure: no socket, clock or randomness. Rules MTR-n are those of `specs/metering.md`.
#![deny(clippy::float_arithmetic)]

mod ceiling;
mod charge;
mod count;
mod dialect;
mod ending;
mod estimate;
mod event;
mod inflate;
mod json;
mod known;
mod meter;
mod multipart;
mod paths;
mod relay;
mod request;
mod seen;
mod sse;
mod stream;
mod text;
mod usage;

#[cfg(test)]
mod tests;

pub use ceiling::{Ceiling, HoldPolicy, InputBound, affordable_output, ceiling, dearest_rates};
pub use charge::{Bucket, CallTerms, Charge, ChargeError, EstimateBasis, Line, charge, is_free};
pub use dialect::{Dialect, Provider, Sdk};
pub use ending::Ending;
pub use estimate::Counted;
pub use meter::{End, Head, Meter, Metered, Progress};
pub use request::{RequestError, RequestFacts, RequestHead, scan_request, scan_request_at};
pub use text::OutputText;
pub use usage::{Anomalies, Anomaly, Basis, Terminal, Usage};
