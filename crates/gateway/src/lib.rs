//! The gateway: accept, pipeline, upstream, configuration, admin, telemetry.
//!
//! Invariant: it sequences decisions and takes none about money.

pub mod config;
