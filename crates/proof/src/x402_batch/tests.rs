//! What the tests of channels share; they stand beside, by subject.

mod genuine;
mod life;
mod vectors;

use std::sync::Arc;

use super::{GenuineVoucher, Mirror, Offer, SignedVoucher, channel_id};
use crate::eip712;
use crate::secp::SecretKey;
use crate::x402_exact::EvmToken;
use serde_json::Value;
use wire::hex;
use wire::x402::asset::default_token;
use wire::x402::batch::{ChannelConfig, Voucher};
use wire::x402::{decode_payment_signature, test_keys, v2};

/// 2026-11-20T10:34:12Z.
const NOW: u64 = 1_795_170_852;
const FLOWS: [&str; 3] = [
    include_str!("../../../../specs/vectors/x402/v2_batch_settlement_deposit.json"),
    include_str!("../../../../specs/vectors/x402/v2_batch_settlement_voucher.json"),
    include_str!("../../../../specs/vectors/x402/v2_batch_settlement_voucher2.json"),
];

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn offer() -> Offer {
    let known = default_token("eip155:84532").unwrap();
    let token = EvmToken::new(known.network, known.address, known.name, known.version).unwrap();
    Offer {
        token: Arc::new(token),
        receiver: test_keys::EVM[7].parse().unwrap(),
        receiver_authorizer: test_keys::EVM[7].parse().unwrap(),
        withdraw_delay: 900,
        min_deposit: Some(200_000),
        amount: 20_000,
        max_timeout_s: 3600,
        quote: None,
    }
}

fn captured(flow: &Value) -> v2::PaymentPayload {
    let header = flow["steps"][1]["request"]["headers"]["payment-signature"].as_str().unwrap();
    decode_payment_signature(header).unwrap()
}

fn mirror(balance: u128) -> Mirror {
    Mirror {
        balance,
        total_claimed: 0,
        withdrawing: 0,
        withdraw_requested_at: 0,
        refund_nonce: [0; 32],
        synced_at_s: NOW,
    }
}

fn payer() -> SecretKey {
    SecretKey::from_bytes(&[0x21; 32]).unwrap()
}

fn config() -> ChannelConfig {
    ChannelConfig {
        payer: payer().address(),
        payer_authorizer: payer().address(),
        receiver: offer().receiver,
        receiver_authorizer: offer().receiver_authorizer,
        token: *offer().token.contract(),
        withdraw_delay: 900,
        salt: [0; 32],
    }
}

fn signed(max_claimable_amount: u128) -> Voucher {
    let channel_id = channel_id(&offer(), &config());
    let digest = offer().token.batch_separator().digest(&eip712::voucher(&channel_id, max_claimable_amount));
    let signature = hex::encode_0x(payer().sign(&digest).unwrap().as_bytes());
    Voucher { channel_id, max_claimable_amount, signature }
}

fn genuine(max_claimable: u128) -> GenuineVoucher {
    // The sum in the signature: a check of genuineness is another test's matter.
    let mut signature = [7; 65];
    signature[..16].copy_from_slice(&max_claimable.to_be_bytes());
    let signed = SignedVoucher { max_claimable, signature };
    GenuineVoucher { channel_id: [0xcc; 32], config: config(), signed }
}
