//! What a wallet signs to be known, for a challenge of the `Payment` scheme: no contract is asked, and nothing moves.

use wire::x402::Address;

use super::{Separator, address, hash_words, keccak256, word};

const DOMAIN_TYPE: &str = "EIP712Domain(string name,string version,uint256 chainId)";
const PROOF_TYPE: &str = "Proof(address account,string challengeId,string realm)";

/// The domain of these proofs on a chain.
#[must_use]
pub fn wallet_separator(chain_id: u64) -> Separator {
    Separator(hash_words(&[
        keccak256(DOMAIN_TYPE.as_bytes()),
        keccak256(b"MPP"),
        keccak256(b"3"),
        word(u128::from(chain_id)),
    ]))
}

/// The struct hash of a proof that an account answers a challenge.
#[must_use]
pub fn wallet_proof(account: &Address, challenge_id: &str, realm: &str) -> [u8; 32] {
    hash_words(&[
        keccak256(PROOF_TYPE.as_bytes()),
        address(account),
        keccak256(challenge_id.as_bytes()),
        keccak256(realm.as_bytes()),
    ])
}
