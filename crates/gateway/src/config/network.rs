//! EVM chains and tokens that we know, and addresses on them (x402.md 3.3).

use money::Asset;
use wire::x402::Address;

use super::Mode;
use super::section::suggestion;

/// A chain by its EIP-155 id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) id: u64,
}

/// A token: its contract and the EIP-712 domain that its authorisations are signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Contract.
    pub address: [u8; 20],
    /// `name` of the domain: the contract's, not the chain's or the currency's.
    pub name: String,
    /// `version` of the domain.
    pub version: String,
    /// Decimal places of its atomic unit.
    pub decimals: u32,
    /// What a deposit in it counts as.
    pub asset: Asset,
}

impl Token {
    /// `USDC` or `USDT`.
    pub(super) const fn symbol(&self) -> &'static str {
        match self.asset {
            Asset::Usdt => "USDT",
            Asset::Usd
            | Asset::Usdc
            | Asset::Eur
            | Asset::Cny
            | Asset::Hkd
            | Asset::Jpy
            | Asset::Krw
            | Asset::Btc
            | Asset::Test => "USDC",
        }
    }
}

struct Known {
    chain: u64,
    v1: &'static str,
    test: bool,
    /// Contract, domain name.
    usdc: Option<(&'static str, &'static str)>,
}

const fn known(
    chain: u64,
    v1: &'static str,
    test: bool,
    usdc: Option<(&'static str, &'static str)>,
) -> Known {
    Known { chain, v1, test, usdc }
}

/// Chains whose kind we know. One that is missing is accepted with a token written out.
const KNOWN: [Known; 24] = [
    known(1, "ethereum", false, Some(("0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48", "USD Coin"))),
    known(137, "polygon", false, Some(("0x3c499c542cEF5E3811e1192ce70d8cC03d5c3359", "USD Coin"))),
    known(143, "monad", false, Some(("0x754704Bc059F8C67012fEd69BC8A327a5aafb603", "USDC"))),
    known(1329, "sei", false, None),
    known(2741, "abstract", false, None),
    known(3338, "peaq", false, None),
    known(4689, "iotex", false, None),
    known(8453, "base", false, Some(("0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", "USD Coin"))),
    known(42161, "arbitrum", false, Some(("0xaf88d065e77c8cC2239327C5EDb3A432268e5831", "USD Coin"))),
    known(43114, "avalanche", false, Some(("0xB97EF9Ef8734C71904D8002F8b6Bc66Dd9c48a6E", "USD Coin"))),
    known(5, "goerli", true, None),
    known(97, "bsc-testnet", true, None),
    known(1328, "sei-testnet", true, None),
    known(1337, "local", true, None),
    known(10143, "monad-testnet", true, None),
    known(11124, "abstract-testnet", true, None),
    known(17000, "holesky", true, None),
    known(31337, "anvil", true, None),
    known(43113, "avalanche-fuji", true, None),
    known(80002, "polygon-amoy", true, None),
    known(84532, "base-sepolia", true, Some(("0x036CbD53842c5426634e7929541eC2318f3dCF7e", "USDC"))),
    known(
        421_614,
        "arbitrum-sepolia",
        true,
        Some(("0x75faf114eafb1BDbe2F0316DF893fd58CE46AA4d", "USD Coin")),
    ),
    known(11_155_111, "sepolia", true, None),
    known(11_155_420, "optimism-sepolia", true, None),
];

impl Chain {
    /// Reads `eip155:8453`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Some(digits) = text.strip_prefix("eip155:") {
            let canonical = !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
            return match digits.parse() {
                Ok(id) if canonical => Ok(Self { id }),
                Ok(_) | Err(_) => Err(format!("\"{text}\" is no chain; write it like eip155:8453")),
            };
        }
        if let Some(known) = KNOWN.iter().find(|known| known.v1 == text) {
            return Err(format!("\"{text}\" is written \"eip155:{}\"", known.chain));
        }
        let hint = suggestion(text, KNOWN.iter().map(|known| known.v1));
        Err(format!("unknown network \"{text}\"; write it like eip155:8453{hint}"))
    }

    /// Real money in mode live, test money in mode test, never mixed (reference item 41).
    pub(super) fn allowed_in(self, mode: Mode) -> Result<(), String> {
        let Some(known) = KNOWN.iter().find(|known| known.chain == self.id) else { return Ok(()) };
        let (id, name) = (known.chain, known.v1);
        match (mode, known.test) {
            (Mode::Live, true) => {
                Err(format!("eip155:{id} ({name}) is a test network, and the mode is live"))
            }
            (Mode::Test, false) => {
                Err(format!("eip155:{id} ({name}) moves real money, and the mode is test; set mode: live"))
            }
            (Mode::Live, false) | (Mode::Test, true) => Ok(()),
        }
    }

    /// Tokens known here, the usual one first.
    pub(super) fn tokens(self) -> impl Iterator<Item = Token> {
        let usdc = KNOWN.iter().find(|known| known.chain == self.id).and_then(|known| known.usdc);
        usdc.into_iter().filter_map(|(contract, name)| {
            Some(Token {
                address: address(contract).ok()?,
                name: name.to_owned(),
                version: "2".to_owned(),
                decimals: 6,
                asset: Asset::Usdc,
            })
        })
    }
}

/// `USDC` or `USDT`: what a dollar token may count as.
pub(super) fn symbol(text: &str) -> Result<Asset, String> {
    match text {
        "USDC" => Ok(Asset::Usdc),
        "USDT" => Ok(Asset::Usdt),
        _ => Err(format!("\"{text}\" is neither USDC nor USDT")),
    }
}

/// Reads `0x` and 40 hex digits; mixed case must carry the checksum of EIP-55, because a mistyped
/// payee takes the money with it.
pub(super) fn address(text: &str) -> Result<[u8; 20], String> {
    let wrong = || "is no address: 0x and 40 hex digits".to_owned();
    let digits = text.strip_prefix("0x").ok_or_else(wrong)?;
    let address: Address = text.parse().map_err(|_| wrong())?;
    if address == Address::ZERO {
        return Err("is the zero address; money sent there is lost".to_owned());
    }
    let mixed =
        digits.bytes().any(|b| b.is_ascii_uppercase()) && digits.bytes().any(|b| b.is_ascii_lowercase());
    if mixed && address.to_string() != text {
        return Err("has a wrong checksum; a digit is mistyped".to_owned());
    }
    Ok(address.0)
}

#[cfg(test)]
mod tests {
    use super::{Chain, KNOWN, address};

    #[test]
    fn every_known_contract_has_its_checksum() {
        for known in &KNOWN {
            let tokens = Chain { id: known.chain }.tokens().count();
            assert_eq!(tokens, usize::from(known.usdc.is_some()), "{}", known.v1);
        }
    }

    #[test]
    fn addresses() {
        // The example of EIP-55.
        assert!(address("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed").is_ok());
        assert!(address("0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed").is_ok());
        for bad in [
            "5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAe",
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD",
            "0x0000000000000000000000000000000000000000",
            "0xzaAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
            "0x+aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
