//! EIP-712 digests: what an EVM wallet signs.
//!
//! `digest = keccak256(1901 | domain separator | struct hash)` with Keccak-256, not SHA3-256. Addresses
//! and integers are left-padded to 32 bytes, `bytes32` stands as is, strings enter as their hash.

mod attest;
mod batch;
mod permit2;
mod wallet;

pub use attest::{attest_separator, offer, receipt};
pub use batch::{batch_separator, channel_config, claim_batch, receive_with_authorization, refund, voucher};
pub use permit2::{ChargeSpelling, permit_charge, permit_deposit, permit_payment, permit2_separator};
pub use wallet::{wallet_proof, wallet_separator};

use sha3::{Digest as _, Keccak256};
use wire::x402::{Address, Transfer};

const DOMAIN_TYPE: &str =
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";
const TRANSFER_TYPE: &str = "TransferWithAuthorization(address from,address to,uint256 value,\
                             uint256 validAfter,uint256 validBefore,bytes32 nonce)";

/// The domain a token signs under.
#[derive(Clone, Copy, Debug)]
pub struct Domain<'a> {
    /// As its contract answers, not as people call it.
    pub name: &'a str,
    /// As its contract answers.
    pub version: &'a str,
    /// EIP-155 id.
    pub chain_id: u64,
    /// The token.
    pub verifying_contract: Address,
}

/// The hash of a domain; computed once per token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Separator([u8; 32]);

impl Domain<'_> {
    /// The domain's hash.
    #[must_use]
    pub fn separator(&self) -> Separator {
        Separator(hash_words(&[
            keccak256(DOMAIN_TYPE.as_bytes()),
            keccak256(self.name.as_bytes()),
            keccak256(self.version.as_bytes()),
            word(u128::from(self.chain_id)),
            address(&self.verifying_contract),
        ]))
    }
}

impl Separator {
    /// The hash itself.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What is signed for a struct in this domain.
    #[must_use]
    pub fn digest(&self, struct_hash: &[u8; 32]) -> [u8; 32] {
        let hasher = Keccak256::new().chain_update([0x19, 0x01]).chain_update(self.0);
        hasher.chain_update(struct_hash).finalize().into()
    }
}

/// The struct hash of an EIP-3009 `TransferWithAuthorization`.
#[must_use]
pub fn transfer_with_authorization(transfer: &Transfer<Address>) -> [u8; 32] {
    authorization(TRANSFER_TYPE, transfer)
}

/// EIP-3009 signs the same members under several names.
fn authorization(type_text: &str, transfer: &Transfer<Address>) -> [u8; 32] {
    hash_words(&[
        keccak256(type_text.as_bytes()),
        address(&transfer.from),
        address(&transfer.to),
        word(transfer.value),
        word(u128::from(transfer.valid_after)),
        word(u128::from(transfer.valid_before)),
        transfer.nonce,
    ])
}

/// Keccak-256.
#[must_use]
pub fn keccak256(bytes: &[u8]) -> [u8; 32] {
    Keccak256::digest(bytes).into()
}

fn hash_words(words: &[[u8; 32]]) -> [u8; 32] {
    keccak256(words.as_flattened())
}

pub(crate) fn word(number: u128) -> [u8; 32] {
    let mut word = [0; 32];
    word[16..].copy_from_slice(&number.to_be_bytes());
    word
}

pub(crate) fn address(address: &Address) -> [u8; 32] {
    let mut word = [0; 32];
    word[12..].copy_from_slice(address.as_bytes());
    word
}

#[cfg(test)]
mod tests {
    use super::{DOMAIN_TYPE, Domain, TRANSFER_TYPE, keccak256};
    use wire::hex;
    use wire::x402::asset::default_token;

    #[test]
    fn type_hashes_are_the_published_ones() {
        for (text, hash) in [
            (DOMAIN_TYPE, "8b73c3c69bb8fe3d512ecc4cf759cc79239f7b179b0ffacaa9a75d522b39400f"),
            (TRANSFER_TYPE, "7c7c6cdb67a18743f49ec6fa9b35f50d52ed05cbed4cc592e13b44501c1a2267"),
        ] {
            assert_eq!(hex::encode(&keccak256(text.as_bytes())), hash);
        }
    }

    /// The name differs between the two networks; with the wrong one a signature recovers to a stranger.
    #[test]
    fn usdc_separators_are_the_contracts_own() {
        for (network, chain_id, separator) in [
            ("eip155:8453", 8453, "02fa7265e7c5d81118673727957699e4d68f74cd74b7db77da710fe8a2c7834f"),
            ("eip155:84532", 84532, "71f17a3b2ff373b803d70a5a07c046c1a2bc8e89c09ef722fcb047abe94c9818"),
        ] {
            let token = default_token(network).unwrap();
            let domain = Domain {
                name: token.name,
                version: token.version,
                chain_id,
                verifying_contract: token.address,
            };
            assert_eq!(hex::encode(domain.separator().as_bytes()), separator);
        }
    }
}
