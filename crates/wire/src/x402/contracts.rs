//! Contracts of the schemes, at the same address on every EVM chain.

use super::Address;
use super::asset::bytes;

/// Uniswap's Permit2, which keeps the nonces of every Permit2 payment.
pub const PERMIT2: Address = Address(bytes("000000000022D473030F116dDEE9F6B43aC78BA3"));
/// Spends a permit for `exact`: the whole amount, to the witness.
pub const EXACT_PROXY: Address = Address(bytes("402085c248EeA27D92E8b30b2C58ed07f9E20001"));
/// Spends a permit for `upto`: any amount up to the permitted one, to the witness, once.
pub const UPTO_PROXY: Address = Address(bytes("4020A4f3b7b90ccA423B9fabCc0CE57C6C240002"));
/// Keeps the channels of `batch-settlement`.
pub const BATCH_SETTLEMENT: Address = Address(bytes("4020074e9dF2ce1deE5A9C1b5c3f541D02a10003"));
/// Takes a deposit by EIP-3009.
pub const ERC3009_COLLECTOR: Address = Address(bytes("4020806089470a89826cB9fB1f4059150b550004"));
/// Takes a deposit by Permit2.
pub const PERMIT2_COLLECTOR: Address = Address(bytes("4020425FAf3B746C082C2f942b4E5159887B0005"));

#[cfg(test)]
mod tests {
    use super::*;

    /// Written once more as text: a mistyped digit breaks the EIP-55 checksum.
    #[test]
    fn the_addresses_are_the_published_ones() {
        for (contract, text) in [
            (PERMIT2, "0x000000000022D473030F116dDEE9F6B43aC78BA3"),
            (EXACT_PROXY, "0x402085c248EeA27D92E8b30b2C58ed07f9E20001"),
            (UPTO_PROXY, "0x4020A4f3b7b90ccA423B9fabCc0CE57C6C240002"),
            (BATCH_SETTLEMENT, "0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003"),
            (ERC3009_COLLECTOR, "0x4020806089470a89826cB9fB1f4059150b550004"),
            (PERMIT2_COLLECTOR, "0x4020425FAf3B746C082C2f942b4E5159887B0005"),
        ] {
            assert_eq!(contract.to_string(), text);
        }
    }
}
