//! The words threads share. The features `loom` and `shuttle` put model-checked ones in their place, for
//! the tests of those names and for nothing else; see `tests/loom.rs` and `tests/shuttle.rs`.

#[cfg(feature = "loom")]
pub(crate) use loom::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU16, AtomicU32, AtomicU64, Ordering},
};
#[cfg(all(feature = "shuttle", not(feature = "loom")))]
pub(crate) use shuttle::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU16, AtomicU32, AtomicU64, Ordering},
};
#[cfg(not(any(feature = "loom", feature = "shuttle")))]
pub(crate) use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU16, AtomicU32, AtomicU64, Ordering},
};
