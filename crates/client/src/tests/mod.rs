//! The whole client against sellers on loopback.

mod balances;
mod budgeted;
mod hostile;
mod lightning;
mod paying;
mod schemes;
mod seller;
mod solana;
