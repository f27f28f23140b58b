//! Ways money really moves: one adapter per rail.
//!
//! Invariant: a settlement is idempotent by its proof, bounded in time, and its outcome is settled,
//! refused or unknown: never a guess.

pub mod alipay;
mod budget;
pub mod card;
pub mod cashu;
mod circuit;
pub mod decline;
pub mod dial;
pub mod directory;
mod evm_channel;
mod evm_escrow;
mod evm_node;
mod evm_permit;
pub mod facilitator;
mod http;
mod json_rpc;
pub mod lightning;
mod random;
pub mod rsa2;
mod secret;
mod settlement;
mod solana_node;
pub mod stripe;

pub use budget::Budget;
pub use circuit::{Circuit, State as CircuitState};
pub use evm_channel::ChannelOnChain;
pub use evm_escrow::{Fees, Mined, Parties, Sent, SessionOnChain};
pub use evm_node::{Confirmation, Evidence, EvmNode, Sought};
pub use evm_permit::{Fate, Held, NotWritten, PermitOrder, Submitter, Written};
pub use http::{Answer, Exchange, ExchangeError};
pub use secret::Secret;
pub use settlement::{Receipt, Refused, Settlement, Unclear};
pub use solana_node::{AtAddress, Recent, SolanaNode, TokensAt};
