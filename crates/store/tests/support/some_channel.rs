//! A channel that was charged.

use store::{Channel, ChannelMirror, Promise};

use crate::support::business::{ASSET, NOW_MS};

pub(crate) fn channel(charged: u128) -> Channel {
    Channel {
        network: "eip155:84532".into(),
        config: serde_json::json!({"salt": "0x00"}),
        asset: ASSET.code(),
        decimals: 6,
        charged,
        accepted: charged,
        newest: Some(Promise { max_claimable: charged, signature: "0xaa".into() }),
        published: vec![1, u128::MAX],
        published_floor: 1,
        mirror: ChannelMirror {
            balance: u128::MAX,
            total_claimed: 1,
            withdrawing: 0,
            withdraw_requested_at: 0,
            refund_nonce: [0; 32],
            synced_at_s: NOW_MS / 1000,
        },
        used_ms: NOW_MS,
        era: 0,
        refunding: None,
        refunded: None,
    }
}
