//! A payment channel as its contract keeps it, read from a node of the operator's own choice (X402-23).

use serde_json::{Value, json};
use wire::hex;
use wire::x402::contracts;

use crate::EvmNode;

/// `channels(bytes32)`: balance, claimed.
const CHANNELS: &str = "0x7a7ebd7b";
/// `pendingWithdrawals(bytes32)`: amount, when it was asked for.
const PENDING_WITHDRAWALS: &str = "0xb7f06ebe";
/// `refundNonce(bytes32)`.
const REFUND_NONCE: &str = "0xf0dc792e";

/// A channel on its chain, all of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelOnChain {
    /// Deposited and not withdrawn or refunded, in atomic units.
    pub balance: u128,
    /// Claimed in all.
    pub total_claimed: u128,
    /// What the payer asked to withdraw.
    pub withdrawing: u128,
    /// Unix seconds; 0: nothing was asked for.
    pub withdraw_requested_at: u64,
    /// Counts refunds, big-endian.
    pub refund_nonce: [u8; 32],
}

impl EvmNode {
    /// A channel by its id. All zero: there is none. `None`: the node does not say.
    ///
    /// # Cancel safety
    /// Nothing moves; it may be dropped at any time.
    pub async fn channel(&self, id: &[u8; 32]) -> Option<ChannelOnChain> {
        // A block of its own for all three, or a refund between them would make a state that never was.
        let block = self.ask("eth_blockNumber", json!([])).await?;
        let block = block.as_str()?;
        let [balance, total_claimed] = numbers(&self.word(CHANNELS, id, block).await?)?;
        let [withdrawing, requested_at] = numbers(&self.word(PENDING_WITHDRAWALS, id, block).await?)?;
        let refund_nonce = hex::decode_0x_array(self.word(REFUND_NONCE, id, block).await?.as_str()?).ok()?;
        let withdraw_requested_at = u64::try_from(requested_at).ok()?;
        Some(ChannelOnChain { balance, total_claimed, withdrawing, withdraw_requested_at, refund_nonce })
    }

    async fn word(&self, selector: &str, id: &[u8; 32], block: &str) -> Option<Value> {
        let call = json!({"to": contracts::BATCH_SETTLEMENT.to_string(),
                          "data": format!("{selector}{}", hex::encode(id))});
        self.ask("eth_call", json!([call, block])).await
    }
}

/// Two words of a result; none if one is beyond our range.
fn numbers(result: &Value) -> Option<[u128; 2]> {
    let words: [u8; 64] = hex::decode_0x_array(result.as_str()?).ok()?;
    let number = |word: &[u8]| {
        let (high, low) = word.split_at(16);
        let low: [u8; 16] = low.try_into().ok()?;
        high.iter().all(|byte| *byte == 0).then(|| u128::from_be_bytes(low))
    };
    let (first, second) = words.split_at(32);
    Some([number(first)?, number(second)?])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::numbers;

    #[test]
    fn two_words_are_two_numbers() {
        let word = |last: &str| format!("{}{last}", "0".repeat(64 - last.len()));
        let both = |one: &str, two: &str| json!(format!("0x{}{}", word(one), word(two)));
        assert_eq!(numbers(&both("30d40", "ff")), Some([200_000, 255]));
        assert_eq!(numbers(&both(&"f".repeat(32), "0")), Some([u128::MAX, 0]));
        for bad in [both(&"1".repeat(33), "0"), json!("0x"), json!(format!("0x{}", word("1"))), json!(1)] {
            assert_eq!(numbers(&bad), None, "{bad}");
        }
    }
}
