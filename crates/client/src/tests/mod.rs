//! The whole client against sellers on loopback.

mod hostile;
mod paying;
mod seller;
