//! What scheme `batch-settlement` signs: channels, vouchers, claims, refunds and deposits.

use wire::x402::batch::{ChannelConfig, ClaimEntry};
use wire::x402::{Address, Transfer, contracts};

use super::{Domain, Separator, address, authorization, hash_words, keccak256, word};

const CHANNEL_TYPE: &str = "ChannelConfig(address payer,address payerAuthorizer,address receiver,\
                            address receiverAuthorizer,address token,uint40 withdrawDelay,bytes32 salt)";
const VOUCHER_TYPE: &str = "Voucher(bytes32 channelId,uint128 maxClaimableAmount)";
const REFUND_TYPE: &str = "Refund(bytes32 channelId,uint256 nonce,uint128 amount)";
const CLAIM_ENTRY_TYPE: &str =
    "ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)";
const CLAIM_BATCH_TYPE: &str = "ClaimBatch(ClaimEntry[] claims)";
const RECEIVE_TYPE: &str = "ReceiveWithAuthorization(address from,address to,uint256 value,\
                            uint256 validAfter,uint256 validBefore,bytes32 nonce)";

/// The domain of the channel contract, the same for every token.
#[must_use]
pub fn batch_separator(chain_id: u64) -> Separator {
    Domain {
        name: "x402 Batch Settlement",
        version: "1",
        chain_id,
        verifying_contract: contracts::BATCH_SETTLEMENT,
    }
    .separator()
}

/// The struct hash of a channel. Its digest in the contract's domain is the channel's id.
#[must_use]
pub fn channel_config(config: &ChannelConfig) -> [u8; 32] {
    hash_words(&[
        keccak256(CHANNEL_TYPE.as_bytes()),
        address(&config.payer),
        address(&config.payer_authorizer),
        address(&config.receiver),
        address(&config.receiver_authorizer),
        address(&config.token),
        word(u128::from(config.withdraw_delay)),
        config.salt,
    ])
}

/// The struct hash of a voucher.
#[must_use]
pub fn voucher(channel_id: &[u8; 32], max_claimable: u128) -> [u8; 32] {
    hash_words(&[keccak256(VOUCHER_TYPE.as_bytes()), *channel_id, word(max_claimable)])
}

/// The struct hash of a cooperative refund.
#[must_use]
pub fn refund(channel_id: &[u8; 32], nonce: &[u8; 32], amount: u128) -> [u8; 32] {
    hash_words(&[keccak256(REFUND_TYPE.as_bytes()), *channel_id, *nonce, word(amount)])
}

/// The struct hash of a claim over several channels.
#[must_use]
pub fn claim_batch(entries: &[ClaimEntry]) -> [u8; 32] {
    let entry_type = keccak256(CLAIM_ENTRY_TYPE.as_bytes());
    let hashes: Vec<[u8; 32]> = entries
        .iter()
        .map(|entry| {
            let amounts = [word(entry.max_claimable), word(entry.total_claimed)];
            hash_words(&[entry_type, entry.channel_id, amounts[0], amounts[1]])
        })
        .collect();
    let type_text = format!("{CLAIM_BATCH_TYPE}{CLAIM_ENTRY_TYPE}");
    hash_words(&[keccak256(type_text.as_bytes()), hash_words(&hashes)])
}

/// The struct hash of an EIP-3009 `ReceiveWithAuthorization`: only the payee itself may execute it.
#[must_use]
pub fn receive_with_authorization(transfer: &Transfer<Address>) -> [u8; 32] {
    authorization(RECEIVE_TYPE, transfer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::hex;

    #[test]
    fn type_hashes_are_the_published_ones() {
        let claims = format!("{CLAIM_BATCH_TYPE}{CLAIM_ENTRY_TYPE}");
        for (text, hash) in [
            (CHANNEL_TYPE, "1c9a06ceab9b0ebbd3301dc56c9111bb6d9af421356dc9ccb3b7084c755db308"),
            (VOUCHER_TYPE, "1e1bd6ff84c3e0d9029a292b212e039c0ca97ec497c55191a4a5874294609a69"),
            (REFUND_TYPE, "be23ad087435072cd69b49cc5b92de10ee610fce7ae0ab428307972d764bb216"),
            (CLAIM_ENTRY_TYPE, "30b9a0367528fca13c3e8ec6134c3113f1887ebe7a1ad61de0955aac288b0cf5"),
            (&claims, "42bd57c010b870c2e96203c66341f28a6a19b4d56a74533a8eb5f706b9fd6d57"),
            (RECEIVE_TYPE, "d099cc98ef71107a616c4f0f941f04c322d8e254fe26b3c6668db87aae413de8"),
        ] {
            assert_eq!(hex::encode(&keccak256(text.as_bytes())), hash, "{text}");
        }
    }

    #[test]
    fn separators_are_the_contracts_own() {
        for (chain_id, separator) in [
            (8453, "d8d982716899b0e20cf2c1e706a37b8a892c83fdd4ac9b540cfeec11f9c73a39"),
            (84532, "fdef80764086b1e0fc6ba99f0cb9aa1d59109fda7c23d60334c89d2de44dffce"),
        ] {
            assert_eq!(hex::encode(batch_separator(chain_id).as_bytes()), separator);
        }
    }
}
