//! Where requests come in: sockets, TLS, connection limits, and the timeouts of a slow peer.

mod listener;
mod watched;

pub(crate) use listener::{Door, bind, serve};
pub(crate) use watched::{Underway, Watch};
