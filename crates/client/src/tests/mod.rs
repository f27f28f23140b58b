//! The whole client against sellers on loopback.

mod budgeted;
mod hostile;
mod paying;
mod schemes;
mod seller;
