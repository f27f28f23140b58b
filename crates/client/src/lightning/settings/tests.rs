//! What settings are taken, and that none of them shows its key.

use super::{FeeMax, LightningFile, LightningFileError as E, NodeSettings, PriceSettings};
use rails::lightning::Network;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

/// The public key of NIP-47's example.
const NWC_WALLET: &str = "b889ff5b1513b641e2a139f661a661364979c5beee91842f8f0ef42ab558e9d4";

fn lnd(url: &str) -> NodeSettings {
    NodeSettings::Lnd { url: url.to_owned(), macaroon: "0201aa".to_owned(), cert: None }
}

fn fixed(usd_per_btc: &str) -> Option<PriceSettings> {
    Some(PriceSettings::Fixed { usd_per_btc: usd_per_btc.to_owned() })
}

#[test]
fn l402_95_settings_are_private_read_back_and_show_no_key() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("lightning.json");
    assert!(LightningFile::load(&path).unwrap().is_none());
    for (node, secret, name) in [
        (lnd("https://127.0.0.1:8080/"), "0201aa", "lnd https://127.0.0.1:8080"),
        (
            NodeSettings::Cln {
                url: "https://node.example/cln/".to_owned(),
                rune: "rune-secret==".to_owned(),
                cert: None,
            },
            "rune-secret",
            "cln https://node.example/cln",
        ),
        (
            NodeSettings::Phoenixd {
                url: "http://127.0.0.1:9740".to_owned(),
                password: "pass-secret".to_owned(),
            },
            "pass-secret",
            "phoenixd http://127.0.0.1:9740",
        ),
        (
            NodeSettings::LnBits { url: "https://lnbits.example".to_owned(), key: "key-secret".to_owned() },
            "key-secret",
            "lnbits https://lnbits.example",
        ),
        (
            NodeSettings::Nwc {
                uri: format!(
                    "nostr+walletconnect://{NWC_WALLET}?relay=wss://relay.example/&secret={}",
                    "5a".repeat(32)
                ),
            },
            "5a5a",
            "nwc b889ff5b1513b641e2a139f661a661364979c5beee91842f8f0ef42ab558e9d4",
        ),
    ] {
        let made = LightningFile::new(node, None, fixed("95000"), FeeMax::default()).unwrap();
        made.save(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = LightningFile::load(&path).unwrap().unwrap();
        assert_eq!((&read, read.network()), (&made, Network::Mainnet));
        let shown = read.shown().unwrap();
        assert_eq!(shown["node"], name);
        assert_eq!(shown["fee_max"], serde_json::json!({"percent": "1", "sat": 10}));
        let told = format!("{shown} {read:?} {:?}", read.backend().unwrap().0);
        assert!(!told.contains(secret), "{told}");
        assert!(fs::read_to_string(&path).unwrap().contains(secret));
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(LightningFile::load(&path), Err(E::File(_))), "others may read it");
}

#[test]
fn l402_95_settings_that_cannot_be_used() {
    let make = |node, network, price, fee_max| LightningFile::new(node, network, price, fee_max);
    let usual = FeeMax::default;
    let read = |url: &str, pointer: &str| {
        Some(PriceSettings::Read { url: url.to_owned(), pointer: pointer.to_owned() })
    };
    let node = || lnd("https://node.example");
    let pinned = NodeSettings::Lnd {
        url: "http://127.0.0.1:1".to_owned(),
        macaroon: "0201aa".to_owned(),
        cert: Some("-----BEGIN".to_owned()),
    };
    let no_key = NodeSettings::Phoenixd { url: "http://127.0.0.1:1".to_owned(), password: "a b".to_owned() };
    for (what, made, expected) in [
        ("in clear text", make(lnd("http://node.example"), None, None, usual()), "no key is sent there"),
        ("no address", make(lnd("node.example"), None, None, usual()), "the node's address"),
        ("a question", make(lnd("https://node.example/?a"), None, None, usual()), "ends with its path"),
        ("a key that is none", make(no_key, None, None, usual()), "the key to the node"),
        (
            "no connection",
            make(NodeSettings::Nwc { uri: "nwc".to_owned() }, None, None, usual()),
            "connection string",
        ),
        ("pinned without TLS", make(pinned, None, None, usual()), "without TLS"),
        ("no price", make(node(), None, fixed("0"), usual()), "the price of bitcoin"),
        ("price in clear text", make(node(), None, read("http://a.example/", ""), usual()), "a.example"),
        ("no place", make(node(), None, read("https://a.example/", "x"), usual()), "the place of the price"),
        ("all as fee", make(node(), None, None, FeeMax { ppm: 1_000_001, sat: 0 }), "at most 100 %"),
        (
            "play money on the main chain",
            make(NodeSettings::Test {}, Some(Network::Mainnet), None, usual()),
            "the test node is on regtest",
        ),
    ] {
        let error = made.map(drop).unwrap_err().to_string();
        assert!(error.contains(expected), "{what}: {error}");
    }
}

#[test]
fn fees_are_a_part_or_a_sum() {
    for (ppm, sat, msat, expected) in [
        (10_000, 10, 20_000, 10_000),
        (10_000, 10, 2_000_000, 20_000),
        (10_000, 0, 101, 2),
        (10_000, 0, 0, 0),
        (1_000_000, 0, u64::MAX, u64::MAX),
        (0, u64::MAX, 1, u64::MAX),
    ] {
        assert_eq!(FeeMax { ppm, sat }.of(msat), expected);
    }
}
