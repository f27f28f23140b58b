//! What the scenarios share: the real binary as a process, an upstream and a facilitator that do what a
//! test says and remember what they got, a paying agent, and a plain HTTP client.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test harness fails loudly")]

pub mod accountant;
pub mod books;
pub mod by_hand;
pub mod caller;
pub mod card_processor;
pub mod chain;
pub mod channel;
pub mod crowd;
pub mod evm_transaction;
pub mod exposure;
pub mod facilitator;
pub mod gateway;
pub mod grpc_peer;
pub mod http;
pub mod http2;
pub mod kept;
pub mod lightning;
pub mod lightning_session;
pub mod lnd;
pub mod metrics;
pub mod mint;
pub mod mpp;
pub mod mpp_stage;
pub mod office;
pub mod payer;
pub mod paying_node;
pub mod permit_chain;
pub mod refused;
pub mod reserve;
pub mod scene;
pub mod session;
pub mod signer;
pub mod socket;
pub mod solana;
pub mod solana_channels;
pub mod solana_session;
pub mod spelling;
pub mod spoken;
pub mod stand;
pub mod stripe;
pub mod tls;
pub mod turns;
pub mod upstream;
pub mod web_socket;
