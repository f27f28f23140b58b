//! Solana networks and tokens that we know, and addresses there (x402.md 3.3).

use money::Asset;
use wire::x402::{base58, network};

use super::Mode;
use super::network::symbol;
use super::rail::SvmNetwork;
use super::section::{Keys, Section};
use super::value;
use super::yaml::{Key, Kind, Node};

const NETWORK_KEYS: Keys = Keys::new(&["asset", "pay_to"], &["facilitator"]);
const TOKEN_KEYS: Keys = Keys::new(&["mint", "decimals", "symbol"], &[]);

/// USDC by network, as stock clients know it.
const USDC: [(&str, &str); 2] = [
    ("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"),
    ("solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU"),
];

struct Token {
    mint: [u8; 32],
    decimals: u32,
    asset: Asset,
}

/// One network of `rails.x402.networks`.
pub(super) fn read(networks: &Section<'_>, key: &Key, node: &Node) -> Option<SvmNetwork> {
    let context = networks.context;
    if let Err(why) = allowed_in(&key.text, context.mode) {
        context.report.add(key.span, format!("{}: {why}", networks.path));
        return None;
    }
    let section = Section::open(context, &networks.path_of(&key.text), node, NETWORK_KEYS)?;
    let token = read_token(&section, &key.text);
    let pay_to = section.required("pay_to", public_key);
    let (token, pay_to) = (token?, pay_to?);
    let Token { mint, decimals, asset } = token;
    if mint == pay_to {
        section.complain("pay_to", "this is the token itself; money sent there is lost");
    }
    Some(SvmNetwork { network: key.text.clone(), mint, decimals, asset, pay_to })
}

fn allowed_in(caip2: &str, mode: Mode) -> Result<(), String> {
    let genesis = caip2.strip_prefix("solana:").unwrap_or_default();
    if genesis.len() != 32 || base58::decode(genesis).is_err() {
        return Err(format!("\"{caip2}\" is no Solana network; write it like {}", USDC[0].0));
    }
    match (network::find(caip2).map(|known| known.test), mode) {
        (Some(true), Mode::Live) => Err(format!("{caip2} is a test network, and the mode is live")),
        (Some(false), Mode::Test) => {
            Err(format!("{caip2} moves real money, and the mode is test; set mode: live"))
        }
        (Some(_) | None, Mode::Live | Mode::Test) => Ok(()),
    }
}

fn read_token(section: &Section<'_>, caip2: &str) -> Option<Token> {
    let known = || usdc(caip2);
    let of = |mint| Token { mint, decimals: 6, asset: Asset::Usdc };
    let Some(node) = section.get("asset") else {
        if known().is_none() {
            section.missing(format!("{} needs \"asset\": {{ mint, decimals }}", section.path));
        }
        return known().map(of);
    };
    if let Kind::Map(_) = &node.kind {
        let section = Section::open(section.context, &section.path_of("asset"), node, TOKEN_KEYS)?;
        let mint = section.required("mint", public_key);
        let decimals = section.required("decimals", |text| match value::count(text)? {
            decimals @ 0..=18 => Ok(decimals),
            _ => Err(format!("\"{text}\" is more than 18")),
        });
        let asset = section.value("symbol", symbol).unwrap_or(Asset::Usdc);
        return Some(Token { mint: mint?, decimals: decimals?, asset });
    }
    section.value("asset", |text| {
        let named = known().filter(|_| text == "USDC");
        named
            .map(of)
            .ok_or_else(|| format!("token \"{text}\" is not known on {caip2}; write {{ mint, decimals }}"))
    })
}

/// USDC on a network, where it is known.
pub(super) fn usdc(caip2: &str) -> Option<[u8; 32]> {
    let (_, mint) = USDC.iter().find(|(network, _)| *network == caip2)?;
    public_key(mint).ok()
}

/// Reads 32 bytes in base58.
pub(super) fn public_key(text: &str) -> Result<[u8; 32], String> {
    base58::decode_array(text).map_err(|_| "is no address: 32 bytes in base58".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{USDC, allowed_in, public_key};
    use crate::config::Mode;

    #[test]
    fn networks_are_told_apart() {
        for (caip2, mode, allowed) in [
            (USDC[0].0, Mode::Live, true),
            (USDC[0].0, Mode::Test, false),
            (USDC[1].0, Mode::Test, true),
            (USDC[1].0, Mode::Live, false),
            ("solana:4uhcVJyU9pJkvQyS88uRDiswHXSCkY3z", Mode::Test, true),
            ("solana:devnet", Mode::Test, false),
            ("solana:", Mode::Test, false),
        ] {
            assert_eq!(allowed_in(caip2, mode).is_ok(), allowed, "{caip2}");
        }
        assert!(USDC.iter().all(|(_, mint)| public_key(mint).is_ok()));
    }
}
