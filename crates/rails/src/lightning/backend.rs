//! Which node, and the key to it.

use sha2::{Digest as _, Sha256};

use super::nwc::Connection;
use crate::Secret;
use crate::dial::Origin;

/// A node of the configuration. Each key is the least that the work needs (L402-70): what makes and looks up
/// invoices, and more only where refunds are paid. `base` stands before every path: empty, or with a leading and
/// without a closing slash.
#[derive(Clone, Debug)]
pub enum Backend {
    /// No node: invoices for play money, which anybody can pay (`mode: test` only).
    Test,
    /// LND's REST interface.
    Lnd {
        /// Where it listens.
        origin: Origin,
        /// Before every path.
        base: String,
        /// In hexadecimal. `invoice.macaroon`, for refunds with `offchain:read` and `offchain:write`; with `info:read`
        /// the node's key can be learnt.
        macaroon: Secret,
    },
    /// Core Lightning's CLNRest.
    Cln {
        /// Where it listens.
        origin: Origin,
        /// Before every path.
        base: String,
        /// For `invoice`, `listinvoices` and `waitanyinvoice`, for refunds `xpay`, `pay` and `listpays`; with `getinfo`
        /// the node's key can be learnt.
        rune: Secret,
    },
    /// phoenixd.
    Phoenixd {
        /// Where it listens.
        origin: Origin,
        /// Before every path.
        base: String,
        /// The limited one; for refunds the full one.
        password: Secret,
    },
    /// LNbits.
    LnBits {
        /// Where it listens.
        origin: Origin,
        /// Before every path.
        base: String,
        /// A wallet's invoice key; for refunds its admin key.
        key: Secret,
    },
    /// A wallet that is reached over Nostr relays (NIP-47): its connection string is made with leave for `make_invoice`,
    /// `lookup_invoice` and `get_info`, for refunds also for `pay_invoice`.
    Nwc(Connection),
}

impl Backend {
    /// Tells one node, wallet or key from another, for whoever has to know later which of them he has asked. It is no
    /// secret: a part of a hash, of which no key can be had. Another key to the same node is another backend, since it
    /// may be of another wallet there. Relays are only a way to a wallet, and do not count.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 16] {
        match self {
            Self::Test => fingerprint("test", &[]),
            Self::Lnd { origin, base, macaroon } => served("lnd", origin, base, macaroon),
            Self::Cln { origin, base, rune } => served("cln", origin, base, rune),
            Self::Phoenixd { origin, base, password } => served("phoenixd", origin, base, password),
            Self::LnBits { origin, base, key } => served("lnbits", origin, base, key),
            Self::Nwc(connection) => {
                let [wallet, ours] = connection.public_keys();
                fingerprint("nwc", &[&wallet, &ours])
            }
        }
    }
}

fn served(kind: &str, origin: &Origin, base: &str, key: &Secret) -> [u8; 16] {
    let host = origin.host.to_ascii_lowercase();
    let (tls, port) = ([u8::from(origin.tls)], origin.port.to_be_bytes());
    // Without the end of a line that a file has and a header has not.
    let key = key.expose().trim();
    fingerprint(kind, &[&tls, host.as_bytes(), &port, base.as_bytes(), key.as_bytes()])
}

/// Each part counts by its hash: all are of one length, so that none can pass for the end of another.
fn fingerprint(kind: &str, parts: &[&[u8]]) -> [u8; 16] {
    let whole = Sha256::new_with_prefix(b"farthing/lightning-backend/1").chain_update(Sha256::digest(kind));
    let whole = parts.iter().fold(whole, |whole, part| whole.chain_update(Sha256::digest(part)));
    let mut short = [0; 16];
    short.copy_from_slice(&whole.finalize()[..16]);
    short
}

#[cfg(test)]
mod tests {
    use super::{Backend, Connection};
    use crate::Secret;
    use crate::dial::Origin;

    const WALLET: &str = "c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5";
    const OTHER_WALLET: &str = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

    fn lnbits(tls: bool, host: &str, port: u16, base: &str, key: &str) -> Backend {
        let origin = Origin { tls, host: host.into(), port };
        Backend::LnBits { origin, base: base.into(), key: Secret::new(key) }
    }

    fn nwc(wallet: &str, relays: &str, secret: &str) -> Backend {
        let uri = format!("nostr+walletconnect://{wallet}?{relays}&secret={secret}");
        Backend::Nwc(Connection::parse(&uri).unwrap())
    }

    #[test]
    fn each_backend_has_a_fingerprint_of_its_own() {
        let (one, two) = ("01".repeat(32), "02".repeat(32));
        let origin = || Origin { tls: true, host: "a.example".into(), port: 443 };
        let (base, key) = (String::new, || Secret::new("key"));
        let relay = "relay=wss://r.example";
        let all = [
            Backend::Test,
            lnbits(true, "a.example", 443, "", "key"),
            Backend::Lnd { origin: origin(), base: base(), macaroon: key() },
            Backend::Cln { origin: origin(), base: base(), rune: key() },
            Backend::Phoenixd { origin: origin(), base: base(), password: key() },
            lnbits(false, "a.example", 443, "", "key"),
            lnbits(true, "b.example", 443, "", "key"),
            lnbits(true, "a.example", 444, "", "key"),
            lnbits(true, "a.example", 443, "/k", "key"),
            lnbits(true, "a.example", 443, "/kke", "y"),
            lnbits(true, "a.example", 443, "", "key2"),
            nwc(WALLET, relay, &one),
            nwc(OTHER_WALLET, relay, &one),
            nwc(WALLET, relay, &two),
        ];
        for (place, backend) in all.iter().enumerate() {
            for other in &all[place + 1..] {
                assert_ne!(backend.fingerprint(), other.fingerprint(), "{backend:?} {other:?}");
            }
        }
    }

    /// It outlives the process, so it must not change: neither with what does not matter, nor with a version of ours.
    #[test]
    fn the_same_backend_keeps_its_fingerprint() {
        let known = lnbits(true, "a.example", 443, "", "key").fingerprint();
        assert_eq!(wire::hex::encode(&known), "27d514a1d68f7d9c2529c8a99a590081");
        assert_eq!(lnbits(true, "A.Example", 443, "", " key\n").fingerprint(), known);
        let secret = "01".repeat(32);
        let wallet = nwc(WALLET, "relay=wss://r.example", &secret).fingerprint();
        let elsewhere = nwc(WALLET, "relay=wss://s.example&relay=wss://r.example", &secret);
        assert_eq!(elsewhere.fingerprint(), wallet);
    }
}
