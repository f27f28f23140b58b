//! EVM chains and tokens that we know, and addresses on them (x402.md 3.3).

use money::Asset;
use wire::x402::Address;
use wire::x402::asset::{KnownToken, TOKENS};
use wire::x402::network::chain_id;

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
}

const fn known(chain: u64, v1: &'static str, test: bool) -> Known {
    Known { chain, v1, test }
}

/// Chains whose kind we know. One that is missing is accepted with a token written out.
const KNOWN: [Known; 24] = [
    known(1, "ethereum", false),
    known(137, "polygon", false),
    known(143, "monad", false),
    known(1329, "sei", false),
    known(2741, "abstract", false),
    known(3338, "peaq", false),
    known(4689, "iotex", false),
    known(8453, "base", false),
    known(42161, "arbitrum", false),
    known(43114, "avalanche", false),
    known(5, "goerli", true),
    known(97, "bsc-testnet", true),
    known(1328, "sei-testnet", true),
    known(1337, "local", true),
    known(10143, "monad-testnet", true),
    known(11124, "abstract-testnet", true),
    known(17000, "holesky", true),
    known(31337, "anvil", true),
    known(43113, "avalanche-fuji", true),
    known(80002, "polygon-amoy", true),
    known(84532, "base-sepolia", true),
    known(421_614, "arbitrum-sepolia", true),
    known(11_155_111, "sepolia", true),
    known(11_155_420, "optimism-sepolia", true),
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
        let here = move |token: &&KnownToken| chain_id(token.network) == Some(self.id);
        TOKENS.iter().filter(here).map(|token| Token {
            address: token.address.0,
            name: token.name.to_owned(),
            version: token.version.to_owned(),
            decimals: token.decimals,
            asset: token.asset,
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
    use super::{Chain, address};

    #[test]
    fn tokens_that_stock_clients_pay_with_are_known() {
        let symbols = |id| Chain { id }.tokens().map(|token| token.symbol()).collect::<Vec<_>>();
        for (id, expected) in [(8453, &["USDC"][..]), (84532, &["USDC"]), (988, &["USDT"]), (31337, &[])] {
            assert_eq!(symbols(id), expected, "{id}");
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
