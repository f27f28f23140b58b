//! A gateway that takes sessions of Solana, on the chain of [`crate::solana_channels`].

use std::net::SocketAddr;

use ed25519_dalek::SigningKey;
use serde_json::Value;
use wire::mpp::Challenge;
use wire::mpp::solana::{PROGRAM, TREASURY};

use crate::gateway::{Gateway, wait_for};
use crate::http;
use crate::mpp::challenges;
use crate::solana_channels::{Key, MINT, Node, asked};

/// The key that is paid and settles, in the environment of the gateway.
pub const PAYEE_KEY: (&str, &str) =
    ("SOLANA_KEY", "5a0f1e2d3c4b5a69788796a5b4c3d2e1f00112233445566778899aabbccddeef");
/// What the payee has for fees.
const LAMPORTS: u64 = 1_000_000_000;

/// Who is paid.
pub fn payee() -> Key {
    let seed = wire::hex::decode_array(PAYEE_KEY.1).unwrap();
    SigningKey::from_bytes(&seed).verifying_key().to_bytes()
}

/// A gateway that takes sessions on this chain; `own` is added to the terms of channels.
pub fn gateway(upstream: SocketAddr, node: &Node, own: &str, more: &str) -> Gateway {
    node.ledger().give(payee(), LAMPORTS);
    let rails = format!(
        "rails: {{ test: {{}}, mpp: {{ sessions: {{ grace: 5s }}, solana: {{ network: localnet, program: \"{PROGRAM}\", \
         treasury: \"{TREASURY}\", mint: \"{MINT}\", rpc: \"http://{}/\", key: \"${{env:SOLANA_KEY}}\"{own} }} }} }}\n",
        node.address
    );
    Gateway::start_in(upstream, &format!("{rails}{more}"), &[PAYEE_KEY])
}

/// A challenge of now, as soon as the gateway knows what a transaction is signed over.
pub fn fresh(gateway: &Gateway, path: &str, body: &Value) -> Challenge {
    wait_for("a challenge", || {
        let unpaid = http::post(gateway.address, path, &[], body);
        assert_eq!(unpaid.status, 402, "{}", unpaid.text());
        challenges(&unpaid).into_iter().find(|challenge| challenge.method == "solana")
    })
}

/// What a challenge asks a voucher to add.
pub fn amount(challenge: &Challenge) -> u64 {
    asked(challenge).amount.parse().unwrap()
}
