//! Networks: CAIP-2 ids of version 2, names of version 1.

/// A network we know by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// CAIP-2 id.
    pub caip2: &'static str,
    /// Name in version 1, where it has one.
    pub v1: Option<&'static str>,
    /// Whether its money is worth nothing; such networks exist in `mode: test` only.
    pub test: bool,
}

/// The built-in test rail.
pub const FARTHING_TEST: &str = "farthing:test";

const fn row(caip2: &'static str, v1: Option<&'static str>, test: bool) -> Network {
    Network { caip2, v1, test }
}

/// Every network with a known name or nature.
pub const NETWORKS: [Network; 22] = [
    row(FARTHING_TEST, Some("farthing-test"), true),
    row("eip155:8453", Some("base"), false),
    row("eip155:84532", Some("base-sepolia"), true),
    row("eip155:1", Some("ethereum"), false),
    row("eip155:43114", Some("avalanche"), false),
    row("eip155:43113", Some("avalanche-fuji"), true),
    row("eip155:137", Some("polygon"), false),
    row("eip155:80002", Some("polygon-amoy"), true),
    row("eip155:42161", None, false),
    row("eip155:421614", None, true),
    row("eip155:143", None, false),
    row("eip155:988", None, false),
    row("eip155:2201", None, true),
    row("eip155:4326", None, false),
    row("eip155:2741", Some("abstract"), false),
    row("eip155:11124", Some("abstract-testnet"), true),
    row("eip155:1329", Some("sei"), false),
    row("eip155:1328", Some("sei-testnet"), true),
    row("eip155:4689", Some("iotex"), false),
    row("eip155:3338", Some("peaq"), false),
    row("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", Some("solana"), false),
    row("solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", Some("solana-devnet"), true),
];

/// The CAIP-2 id behind a version 1 name.
#[must_use]
pub fn caip2_from_v1(name: &str) -> Option<&'static str> {
    NETWORKS.iter().find(|network| network.v1 == Some(name)).map(|network| network.caip2)
}

/// The version 1 name of a CAIP-2 id, where it has one.
#[must_use]
pub fn v1_from_caip2(caip2: &str) -> Option<&'static str> {
    find(caip2)?.v1
}

/// A known network by its CAIP-2 id.
#[must_use]
pub fn find(caip2: &str) -> Option<&'static Network> {
    NETWORKS.iter().find(|network| network.caip2 == caip2)
}

/// The chain id of `eip155:<id>`; one spelling per chain, so no leading zero or sign.
#[must_use]
pub fn chain_id(caip2: &str) -> Option<u64> {
    let digits = caip2.strip_prefix("eip155:")?;
    let canonical = !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
    canonical.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::{NETWORKS, caip2_from_v1, chain_id, find, v1_from_caip2};

    #[test]
    fn names_map_both_ways_and_are_unique() {
        for network in NETWORKS {
            assert_eq!(find(network.caip2), Some(&network));
            assert_eq!(v1_from_caip2(network.caip2), network.v1);
            if let Some(name) = network.v1 {
                assert_eq!(caip2_from_v1(name), Some(network.caip2));
            }
        }
        assert_eq!(caip2_from_v1("base-sepolia"), Some("eip155:84532"));
        assert_eq!(caip2_from_v1("farthing-test"), Some("farthing:test"));
        assert_eq!(caip2_from_v1("eip155:8453"), None);
        assert_eq!(v1_from_caip2("base"), None);
    }

    #[test]
    fn a_chain_id_has_one_spelling() {
        assert_eq!(chain_id("eip155:84532"), Some(84532));
        for text in [
            "eip155:",
            "eip155:0",
            "eip155:01",
            "eip155:+1",
            "84532",
            "solana:1",
            "eip155:99999999999999999999",
        ] {
            assert_eq!(chain_id(text), None, "{text}");
        }
    }
}
