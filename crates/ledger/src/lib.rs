//! Stub.
#![deny(clippy::float_arithmetic)]
