//! The operator's side: a listener for probes and metrics, and a socket for commands.

mod accounts;
mod cashu;
mod channels;
mod copies;
mod credit;
mod explain;
mod intents;
mod keys;
mod listener;
mod office;
mod payouts;
mod show;
mod socket;
mod top_ups;

pub(crate) use listener::serve_probes;
pub use office::{AccountChange, Command, run_alone};
pub(crate) use socket::bind as socket_bind;
pub(crate) use socket::serve_commands;
pub use socket::{AskError, ask};
pub use store::AccountMode;
