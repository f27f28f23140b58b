//! What the scenarios share: the real binary as a process, an upstream that does what a test says and
//! remembers what it got, and a plain HTTP client.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test harness fails loudly")]

pub mod exposure;
pub mod gateway;
pub mod http;
pub mod kept;
pub mod socket;
pub mod tls;
pub mod upstream;
