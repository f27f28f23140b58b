//! The operator's side: a listener for probes and metrics, and a socket for commands.

mod intents;
mod listener;
mod office;
mod socket;

pub(crate) use listener::serve_probes;
pub use office::{Command, run_alone};
pub(crate) use socket::bind as socket_bind;
pub(crate) use socket::serve_commands;
pub use socket::{AskError, ask};
