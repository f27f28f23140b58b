//! What the extension `offer-receipt` signs: a domain of its own, on no chain in particular.

use wire::x402::offer_receipt::{Offer, Receipt};

use super::{Separator, hash_words, keccak256, word};

const DOMAIN_TYPE: &str = "EIP712Domain(string name,string version,uint256 chainId)";
const OFFER_TYPE: &str = "Offer(uint256 version,string resourceUrl,string scheme,string network,string asset,\
                          string payTo,string amount,uint256 validUntil)";
const RECEIPT_TYPE: &str = "Receipt(uint256 version,string network,string resourceUrl,string payer,\
                            uint256 issuedAt,string transaction)";

/// The domain of one kind of attestation. Its chain id is 1 whatever chain is paid on: nothing goes on a chain.
#[must_use]
pub fn attest_separator(name: &str) -> Separator {
    Separator(hash_words(&[
        keccak256(DOMAIN_TYPE.as_bytes()),
        keccak256(name.as_bytes()),
        keccak256(b"1"),
        word(1),
    ]))
}

/// The struct hash of an offer; no end is 0.
#[must_use]
pub fn offer(offer: &Offer) -> [u8; 32] {
    let text = |text: &str| keccak256(text.as_bytes());
    hash_words(&[
        text(OFFER_TYPE),
        word(u128::from(offer.version)),
        text(&offer.resource_url),
        text(&offer.scheme),
        text(&offer.network),
        text(&offer.asset),
        text(&offer.pay_to),
        text(&offer.amount),
        word(u128::from(offer.valid_until.unwrap_or_default())),
    ])
}

/// The struct hash of a receipt; no transaction is an empty text.
#[must_use]
pub fn receipt(receipt: &Receipt) -> [u8; 32] {
    let text = |text: &str| keccak256(text.as_bytes());
    hash_words(&[
        text(RECEIPT_TYPE),
        word(u128::from(receipt.version)),
        text(&receipt.network),
        text(&receipt.resource_url),
        text(&receipt.payer),
        word(u128::from(receipt.issued_at)),
        text(receipt.transaction.as_deref().unwrap_or_default()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::hex;

    #[test]
    fn type_hashes_are_the_published_ones() {
        for (text, hash) in [
            (DOMAIN_TYPE, "c2f8787176b8ac6bf7215b4adcc1e069bf4ab82d9ab1df05a57a91d425935b6e"),
            (OFFER_TYPE, "85143d3249b5e62ed5edd3d59a352d4e1181c775ff4f762f9c8a617f6bf1e97d"),
            (RECEIPT_TYPE, "616944bc4bb51b3d5fcbba8c559f76d57a93ac1e0d6659f1abbe95f92300c06f"),
        ] {
            assert_eq!(hex::encode(&keccak256(text.as_bytes())), hash);
        }
    }
}
