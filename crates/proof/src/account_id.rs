//! Accounts of payers who came without a key: the same payer finds the same account again.

use sha2::{Digest as _, Sha256};
use wire::l402::PaymentHash;
use wire::x402::Address;

use crate::mac;

/// The account of an EVM payer's deposits in one token (x402 and MPP alike); `network` is CAIP-2,
/// `token` the contract.
#[must_use]
pub fn evm(network: &str, payer: &Address, token: &Address) -> [u8; 16] {
    let fields: [&[u8]; 3] = [network.as_bytes(), payer.as_bytes(), token.as_bytes()];
    mac::first_half(&mac::hash("farthing/account/evm/1", &fields))
}

/// The account of a Solana payer's deposits in one token; `network` is CAIP-2.
#[must_use]
pub fn svm(network: &str, payer: &[u8; 32], mint: &[u8; 32]) -> [u8; 16] {
    mac::first_half(&mac::hash("farthing/account/svm/1", &[network.as_bytes(), payer, mint]))
}

/// The account of a payment channel: the first half of its id, which is a hash already.
#[must_use]
pub fn channel(channel_id: &[u8; 32]) -> [u8; 16] {
    mac::first_half(channel_id)
}

/// The account of a Lightning payment: everything that was made of it spends one balance (L402-59). The one
/// field has a fixed length, so nothing stands before it.
#[must_use]
pub fn lightning(payment_hash: &PaymentHash) -> [u8; 16] {
    let hash = Sha256::new().chain_update("farthing/account/l402/1").chain_update(payment_hash.0).finalize();
    mac::first_half(&hash.into())
}

/// The account of a Cashu payment: whoever pays so has no name, so each payment has an account of its own.
#[must_use]
pub fn cashu(payment: &[u8; 32]) -> [u8; 16] {
    mac::first_half(&mac::hash("farthing/account/cashu/1", &[payment]))
}

/// The account of what a payer grants to a processor: he has no name, so each grant has an account of its own.
#[must_use]
pub fn granted(grant: &[u8; 32]) -> [u8; 16] {
    mac::first_half(&mac::hash("farthing/account/grant/1", &[grant]))
}

/// The account of a payer on the test rail.
#[must_use]
pub fn test(payer: &[u8; 32]) -> [u8; 16] {
    mac::first_half(&mac::hash("farthing/account/test/1", &[payer]))
}

#[cfg(test)]
mod tests {
    use super::{cashu, channel, evm, lightning, svm, test};
    use wire::hex;
    use wire::l402::PaymentHash;
    use wire::x402::Address;

    /// Computed with another implementation of SHA-256 over the bytes written out by hand.
    #[test]
    fn known_values() {
        let account = evm("eip155:84532", &Address([2; 20]), &Address([1; 20]));
        assert_eq!(hex::encode(&account), "b4141d3a8bbe010b9f08288ad55ffba9");
        let account = svm("solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", &[2; 32], &[1; 32]);
        assert_eq!(hex::encode(&account), "5132baf8b21e13b24d6aca4c0279981c");
        assert_eq!(channel(&[0xcc; 32]), [0xcc; 16]);
        let paid = "4752f2ae061a0945c43b0d8a03c6380b4fba96c75b18de705acc459c4af76ee0";
        let account = lightning(&PaymentHash::parse(paid).unwrap());
        assert_eq!(hex::encode(&account), "264afb52ccbe0df272ba943cabb6cbc9");
        assert_eq!(hex::encode(&cashu(&[4; 32])), "6c3c3ef7f91544b7c1a5a6c1c60de798");
        assert_eq!(hex::encode(&test(&[4; 32])), "dff8e965ed3369a28dc28c83f86e6491");
    }

    #[test]
    fn every_field_counts() {
        let (a, b) = (Address([1; 20]), Address([2; 20]));
        let base = evm("eip155:1", &a, &a);
        assert_ne!(base, evm("eip155:2", &a, &a));
        assert_ne!(base, evm("eip155:1", &b, &a));
        assert_ne!(base, evm("eip155:1", &a, &b));
        assert_ne!(test(&[1; 32]), test(&[2; 32]));
    }
}
