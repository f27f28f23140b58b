//! One key per payment, whatever protocol carried it: one payment, one deposit.
//!
//! SHA-256 over `farthing/deposit/1`, the kind's name and its fields, each behind its length. Numbers
//! are fixed-width big-endian, hex is decoded to bytes, text is UTF-8. The key is also the deposit's
//! idempotency key (X402-1).

use wire::cashu::Point;
use wire::x402::Address;

use crate::mac;

const LABEL: &str = "farthing/deposit/1";

/// How an EVM payment consumes its nonce. Not the scheme: one Permit2 nonce signed for two schemes collides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EvmMethod {
    /// The token keeps the nonce.
    Eip3009,
    /// The Permit2 contract keeps the nonce.
    Permit2,
}

impl EvmMethod {
    const fn name(self) -> &'static str {
        match self {
            Self::Eip3009 => "eip3009",
            Self::Permit2 => "permit2",
        }
    }
}

/// An EVM authorisation; `contract` is the one that keeps the nonce, `network` is CAIP-2.
#[must_use]
pub fn evm(
    method: EvmMethod,
    network: &str,
    contract: &Address,
    payer: &Address,
    nonce: &[u8; 32],
) -> [u8; 32] {
    let method = method.name().as_bytes();
    mac::hash(LABEL, &[b"evm", method, network.as_bytes(), contract.as_bytes(), payer.as_bytes(), nonce])
}

/// A Solana transaction; `network` is CAIP-2, the hash SHA-256 of its message without signatures.
#[must_use]
pub fn svm(network: &str, message_hash: &[u8; 32]) -> [u8; 32] {
    mac::hash(LABEL, &[b"svm", network.as_bytes(), message_hash])
}

/// A transfer on the test rail.
#[must_use]
pub fn test(network: &str, payer: &[u8; 32], nonce: &[u8; 32]) -> [u8; 32] {
    mac::hash(LABEL, &[b"test", network.as_bytes(), payer, nonce])
}

/// A Lightning payment.
#[must_use]
pub fn ln(payment_hash: &[u8; 32]) -> [u8; 32] {
    mac::hash(LABEL, &[b"ln", payment_hash])
}

/// One coin of a Cashu token: the point of its secret. A token has one key for each of its coins.
#[must_use]
pub fn cashu(point: &Point) -> [u8; 32] {
    mac::hash(LABEL, &[b"cashu", &point.0])
}

/// A payment a rail knows by its own reference.
#[must_use]
pub fn rail(family: &str, reference: &str) -> [u8; 32] {
    mac::hash(LABEL, &[b"rail", family.as_bytes(), reference.as_bytes()])
}

/// What a payer grants to a rail, before that has named the payment: taken while it is charged, and for good once it was.
/// No deposit has such a key.
#[must_use]
pub fn grant(family: &str, token: &str) -> [u8; 32] {
    mac::hash("farthing/grant/1", &[family.as_bytes(), token.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::{EvmMethod, cashu, evm, grant, ln, rail, svm, test};
    use std::collections::HashSet;
    use wire::cashu::Point;
    use wire::hex;
    use wire::x402::Address;

    /// Computed with another implementation of SHA-256 over the bytes written out by hand.
    #[test]
    fn known_values() {
        let (contract, payer, nonce) = (Address([1; 20]), Address([2; 20]), [3; 32]);
        assert_eq!(
            hex::encode(&evm(EvmMethod::Eip3009, "eip155:84532", &contract, &payer, &nonce)),
            "49c0a56f199f3b4eb0ac4c5de5f4df1e3d02b0eff4e15e416f1ecf0bc217e40d"
        );
        assert_eq!(
            hex::encode(&test("farthing:test", &[4; 32], &nonce)),
            "f979b0dc942b1cc57657ca977b248594429ad254b277f27a3178e40fc0c6ec31"
        );
        assert_eq!(
            hex::encode(&svm("solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", &[6; 32])),
            "f77dc297d6f11b2f25236379ec74828a56d7beca2821bd9cd0d920b6685ddf03"
        );
        assert_eq!(
            hex::encode(&ln(&[5; 32])),
            "3a72d11ca671bf47b8639a6ba67dddc80ce0c590663a1b577abc6776b143667e"
        );
        assert_eq!(
            hex::encode(&cashu(&Point([2; 33]))),
            "8bb459e6e1e3e36627fb49d9ad442df662166789c76c8e2543e07a2d9023ac23"
        );
        assert_eq!(
            hex::encode(&rail("stripe", "pi_1")),
            "ded963e82b4d3473c96e82a8c4d4d3393017e9aa1fe4964f289e893cf559f86e"
        );
    }

    #[test]
    fn x402_1_every_field_counts() {
        let (contract, payer, nonce) = (Address([1; 20]), Address([2; 20]), [3; 32]);
        let payer_hash = [5; 32];
        let keys = [
            evm(EvmMethod::Eip3009, "eip155:1", &contract, &payer, &nonce),
            evm(EvmMethod::Permit2, "eip155:1", &contract, &payer, &nonce),
            evm(EvmMethod::Eip3009, "eip155:2", &contract, &payer, &nonce),
            evm(EvmMethod::Eip3009, "eip155:1", &payer, &payer, &nonce),
            evm(EvmMethod::Eip3009, "eip155:1", &contract, &contract, &nonce),
            evm(EvmMethod::Eip3009, "eip155:1", &contract, &payer, &[4; 32]),
            svm("solana:a", &nonce),
            svm("solana:b", &nonce),
            svm("solana:a", &payer_hash),
            test("farthing:test", &[1; 32], &nonce),
            test("farthing:other", &[1; 32], &nonce),
            test("farthing:test", &[2; 32], &nonce),
            test("farthing:test", &[1; 32], &[4; 32]),
            ln(&[1; 32]),
            cashu(&Point([2; 33])),
            cashu(&Point([3; 33])),
            rail("stripe", "pi_1"),
            rail("strip", "epi_1"),
            grant("stripe", "pi_1"),
        ];
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
    }
}
