//! Addresses that a program derives: off the curve, so that nobody has their key.

use ed25519_dalek::VerifyingKey;
use sha2::{Digest as _, Sha256};

/// The address of these seeds below a program, and none other: the highest bump that leads off the curve. `None` if none
/// does, which nobody has seen.
#[must_use]
pub fn derive(seeds: &[&[u8]], program: &[u8; 32]) -> Option<[u8; 32]> {
    let mut seeded = Sha256::new();
    for seed in seeds {
        seeded.update(seed);
    }
    (0..=u8::MAX).rev().find_map(|bump| {
        let hasher = seeded.clone().chain_update([bump]).chain_update(program);
        let address: [u8; 32] = hasher.chain_update(b"ProgramDerivedAddress").finalize().into();
        // An address on the curve could have a key.
        VerifyingKey::from_bytes(&address).is_err().then_some(address)
    })
}
