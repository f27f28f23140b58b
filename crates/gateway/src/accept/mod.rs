//! Where requests come in: sockets, TLS, connection limits, and the timeouts of a slow peer.

mod listener;
mod place;
mod watched;

pub(crate) use listener::{Door, bind, serve};
pub(crate) use place::{PerSource, Place};
pub(crate) use watched::{Underway, Watch};
