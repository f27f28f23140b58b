//! Tokens that stock clients pay with unconfigured, and what their contracts sign under.

use money::Asset;

use super::Address;

/// A token with EIP-3009. Name and version are those of its EIP-712 domain: with a wrong one a
/// signature recovers to a stranger instead of failing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownToken {
    /// CAIP-2 network.
    pub network: &'static str,
    /// The contract.
    pub address: Address,
    /// Domain name.
    pub name: &'static str,
    /// Domain version.
    pub version: &'static str,
    /// Decimal places of the atomic unit.
    pub decimals: u32,
    /// What a deposit in it is booked as.
    pub asset: Asset,
}

const fn usdc(network: &'static str, address: [u8; 20], name: &'static str) -> KnownToken {
    KnownToken { network, address: Address(address), name, version: "2", decimals: 6, asset: Asset::Usdc }
}

/// Published tokens, as far as name and version are known.
pub const TOKENS: [KnownToken; 9] = [
    usdc("eip155:8453", bytes("833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"), "USD Coin"),
    usdc("eip155:84532", bytes("036CbD53842c5426634e7929541eC2318f3dCF7e"), "USDC"),
    usdc("eip155:1", bytes("A0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"), "USD Coin"),
    usdc("eip155:43114", bytes("B97EF9Ef8734C71904D8002F8b6Bc66Dd9c48a6E"), "USD Coin"),
    usdc("eip155:137", bytes("3c499c542cEF5E3811e1192ce70d8cC03d5c3359"), "USD Coin"),
    usdc("eip155:42161", bytes("af88d065e77c8cC2239327C5EDb3A432268e5831"), "USD Coin"),
    usdc("eip155:421614", bytes("75faf114eafb1BDbe2F0316DF893fd58CE46AA4d"), "USD Coin"),
    usdc("eip155:143", bytes("754704Bc059F8C67012fEd69BC8A327a5aafb603"), "USDC"),
    KnownToken {
        network: "eip155:988",
        address: Address(bytes("779Ded0c9e1022225f8E0630b35a9b54bE713736")),
        name: "USDT0",
        version: "1",
        decimals: 6,
        asset: Asset::Usdt,
    },
];

/// The token stock clients know on a network.
#[must_use]
pub fn default_token(network: &str) -> Option<&'static KnownToken> {
    TOKENS.iter().find(|token| token.network == network)
}

/// Reads the literals of the table while compiling: a wrong digit does not build.
pub(super) const fn bytes(digits: &str) -> [u8; 20] {
    let digits = digits.as_bytes();
    assert!(digits.len() == 40);
    let mut address = [0; 20];
    let mut index = 0;
    while index < 20 {
        address[index] = nibble(digits[index * 2]) << 4 | nibble(digits[index * 2 + 1]);
        index += 1;
    }
    address
}

const fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => {
            assert!(digit >= b'A' && digit <= b'F');
            digit - b'A' + 10
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{TOKENS, default_token};
    use crate::x402::network;

    /// Written once more as text: a mistyped digit breaks the EIP-55 checksum.
    #[test]
    fn the_table_is_the_published_one() {
        let published = [
            "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
            "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
            "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48",
            "0xB97EF9Ef8734C71904D8002F8b6Bc66Dd9c48a6E",
            "0x3c499c542cEF5E3811e1192ce70d8cC03d5c3359",
            "0xaf88d065e77c8cC2239327C5EDb3A432268e5831",
            "0x75faf114eafb1BDbe2F0316DF893fd58CE46AA4d",
            "0x754704Bc059F8C67012fEd69BC8A327a5aafb603",
            "0x779Ded0c9e1022225f8E0630b35a9b54bE713736",
        ];
        for (token, text) in TOKENS.iter().zip(published) {
            assert_eq!(token.address.to_string(), text, "{}", token.network);
            assert!(network::find(token.network).is_some());
            assert_eq!(default_token(token.network), Some(token));
        }
        assert_eq!(default_token("eip155:84532").unwrap().name, "USDC");
        assert_eq!(default_token("eip155:8453").unwrap().name, "USD Coin");
    }
}
