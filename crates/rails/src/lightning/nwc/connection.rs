//! The connection string of a wallet, `nostr+walletconnect://<pubkey>?relay=<url>&secret=<hex>`.

use std::fmt;
use std::net::IpAddr;

use secp256k1::{Keypair, XOnlyPublicKey};
use wire::hex;
use zeroize::Zeroizing;

use crate::dial::Origin;

/// Longest connection string.
const URI_BYTES_MAX: usize = 4096;
/// Most relays that one names.
const RELAYS_MAX: usize = 8;

/// A wallet, the relays it listens on, and the key we are known to it by. `Debug` hides the key.
#[derive(Clone)]
pub struct Connection {
    pub(super) wallet: XOnlyPublicKey,
    pub(super) keys: Keypair,
    /// In the order they are tried. Never empty.
    pub(super) relays: Vec<Relay>,
}

/// One relay. `Debug` hides its path, which may hold a token.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Relay {
    pub(super) origin: Origin,
    /// Path and query, with a leading slash.
    path: String,
}

/// Why a text is no connection string. Holds no part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// Not this scheme.
    #[error("does not begin with `nostr+walletconnect://`")]
    Scheme,
    /// Longer than any that is given out.
    #[error("longer than {URI_BYTES_MAX} bytes")]
    TooLong,
    /// A percent sign without two digits, or bytes that are no text.
    #[error("percent encoding is wrong")]
    Encoding,
    /// No public key of a wallet.
    #[error("the wallet's key is not 64 hexadecimal digits of a public key")]
    Wallet,
    /// No secret, two, or none of this curve.
    #[error("there is not one `secret` of 64 hexadecimal digits")]
    Secret,
    /// No relay, or too many.
    #[error("there are not 1 to {RELAYS_MAX} `relay` parameters")]
    Relays,
    /// A relay that is no `wss` address.
    #[error("a relay is not `wss://host[:port][/path]`; `ws` is for loopback addresses only")]
    Relay,
}

impl Connection {
    /// Reads a connection string, as wallets give them out. Parameters that are not ours (`lud16`) are passed over.
    ///
    /// # Errors
    /// [`ConnectionError`] says which part is wrong, never what it was.
    pub fn parse(text: &str) -> Result<Self, ConnectionError> {
        use ConnectionError as E;
        if text.len() > URI_BYTES_MAX {
            return Err(E::TooLong);
        }
        let rest = text.strip_prefix("nostr+walletconnect://").ok_or(E::Scheme)?;
        let (wallet, query) = rest.split_once('?').ok_or(E::Relays)?;
        let wallet = hex::decode_array(wallet).map_err(|_| E::Wallet)?;
        let wallet = XOnlyPublicKey::from_byte_array(wallet).map_err(|_| E::Wallet)?;
        let (mut secrets, mut relays) = (Vec::new(), Vec::new());
        for parameter in query.split('&') {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match name {
                "relay" => relays.push(Relay::parse(&decoded(value)?)?),
                "secret" => secrets.push(decoded(value)?),
                _ => {}
            }
        }
        let [secret] = secrets.as_slice() else { return Err(E::Secret) };
        let secret = Zeroizing::new(hex::decode_array::<32>(secret).map_err(|_| E::Secret)?);
        let keys = Keypair::from_secret_bytes(*secret).map_err(|_| E::Secret)?;
        if relays.is_empty() || relays.len() > RELAYS_MAX {
            return Err(E::Relays);
        }
        Ok(Self { wallet, keys, relays })
    }

    /// The wallet, and who we are to it.
    pub(in crate::lightning) fn public_keys(&self) -> [[u8; 32]; 2] {
        [self.wallet, self.keys.x_only_public_key().0].map(|key| key.to_byte_array())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.keys.non_secure_erase();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection(wallet {} over {:?}, secret hidden)", self.wallet, self.relays)
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin.authority())
    }
}

impl Relay {
    fn parse(text: &str) -> Result<Self, ConnectionError> {
        let wrong = ConnectionError::Relay;
        let uri: ::http::Uri = text.parse().map_err(|_| wrong)?;
        let tls = match uri.scheme_str() {
            Some("wss") => true,
            Some("ws") => false,
            Some(_) | None => return Err(wrong),
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or(wrong)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        // What stands behind a colon and is no number must not become the usual port.
        let names_port = authority.as_str().rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let port = match authority.port_u16() {
            Some(port) => port,
            None if names_port => return Err(wrong),
            None if tls => 443,
            None => 80,
        };
        if port == 0 || host.is_empty() || text.contains('#') || !(tls || is_loopback(&host)) {
            return Err(wrong);
        }
        let path = uri.path_and_query().map_or("/", ::http::uri::PathAndQuery::as_str);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { origin: Origin { tls, host, port }, path })
    }

    /// The address that a WebSocket handshake is made for. TLS is below it, and none of its business.
    pub(super) fn handshake_uri(&self) -> String {
        format!("ws://{}{}", self.origin.authority(), self.path)
    }

    /// The address as the relay knows itself (NIP-42).
    pub(super) fn url(&self) -> String {
        let scheme = if self.origin.tls { "wss" } else { "ws" };
        format!("{scheme}://{}{}", self.origin.authority(), self.path)
    }
}

/// Plain text goes over no network.
fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Percent encoding undone.
fn decoded(text: &str) -> Result<Zeroizing<String>, ConnectionError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = after.split_at_checked(2).ok_or(ConnectionError::Encoding)?;
        let digits = std::str::from_utf8(digits).map_err(|_| ConnectionError::Encoding)?;
        let [byte] = hex::decode_array(digits).map_err(|_| ConnectionError::Encoding)?;
        bytes.push(byte);
        rest = after;
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| ConnectionError::Encoding)?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::{Connection, ConnectionError as E};

    const WALLET: &str = "b889ff5b1513b641e2a139f661a661364979c5beee91842f8f0ef42ab558e9d4";
    /// A test key.
    const SECRET: &str = "1717171717171717171717171717171717171717171717171717171717171717";

    fn with(rest: &str) -> String {
        format!("nostr+walletconnect://{WALLET}?secret={SECRET}{rest}")
    }

    #[test]
    fn l402_74_relays_are_read_in_their_order() {
        for (rest, expected) in [
            ("&relay=wss%3A%2F%2Frelay.example.com", vec!["wss://relay.example.com/"]),
            ("&relay=wss://relay.example.com/v1&lud16=a@b.example", vec!["wss://relay.example.com/v1"]),
            (
                "&relay=wss://a.example:7000&relay=wss://b.example/?x=1",
                vec!["wss://a.example:7000/", "wss://b.example/?x=1"],
            ),
            ("&relay=ws://127.0.0.1:7777&flag", vec!["ws://127.0.0.1:7777/"]),
            ("&relay=ws://[::1]:7777/x", vec!["ws://[::1]:7777/x"]),
            ("&relay=ws://localhost", vec!["ws://localhost/"]),
            ("&relay=wss://[2001:db8::1]", vec!["wss://[2001:db8::1]/"]),
        ] {
            let connection = Connection::parse(&with(rest)).unwrap();
            let urls: Vec<_> = connection.relays.iter().map(super::Relay::url).collect();
            assert_eq!(urls, expected, "{rest}");
            assert_eq!(connection.wallet.to_string(), WALLET);
        }
    }

    #[test]
    fn l402_74_what_is_no_connection_string() {
        let relay = "&relay=wss://a.example";
        let upper = WALLET.to_uppercase();
        for (text, expected) in [
            (format!("nostr+walletconnect:{WALLET}?secret={SECRET}{relay}"), E::Scheme),
            ("https://a.example".to_owned(), E::Scheme),
            (with(&format!("{relay}&x={}", "x".repeat(4096))), E::TooLong),
            (format!("nostr+walletconnect://{}?secret={SECRET}{relay}", &WALLET[1..]), E::Wallet),
            (format!("nostr+walletconnect://{}?secret={SECRET}{relay}", "f".repeat(64)), E::Wallet),
            (format!("nostr+walletconnect://{WALLET}"), E::Relays),
            (format!("nostr+walletconnect://{WALLET}?relay=wss://a.example"), E::Secret),
            (with(&format!("{relay}&secret={SECRET}")), E::Secret),
            (format!("nostr+walletconnect://{WALLET}?secret={}{relay}", "0".repeat(64)), E::Secret),
            (format!("nostr+walletconnect://{WALLET}?secret=12{relay}"), E::Secret),
            (with(""), E::Relays),
            (with(&relay.repeat(9)), E::Relays),
            (with("&relay=ws://a.example"), E::Relay),
            (with("&relay=ws://10.0.0.1"), E::Relay),
            (with("&relay=ws://127.0.0.1.example.com"), E::Relay),
            (with("&relay=https://a.example"), E::Relay),
            (with("&relay=a.example"), E::Relay),
            (with("&relay="), E::Relay),
            (with("&relay=wss://"), E::Relay),
            (with("&relay=wss://u:p@a.example"), E::Relay),
            (with("&relay=wss://a.example:0"), E::Relay),
            (with("&relay=wss://a.example:70000"), E::Relay),
            (with("&relay=wss://a.example/%23x%20y"), E::Relay),
            (with("&relay=wss%3"), E::Encoding),
            (with("&relay=wss%zz"), E::Encoding),
            (with("&relay=%ff"), E::Encoding),
        ] {
            assert_eq!(Connection::parse(&text).map(|_| ()), Err(expected), "{text}");
        }
        assert!(Connection::parse(&format!("nostr+walletconnect://{upper}?secret={SECRET}{relay}")).is_ok());
    }

    #[test]
    fn l402_23_debug_hides_the_secret() {
        let connection = Connection::parse(&with("&relay=wss://a.example/token")).unwrap();
        let printed = format!("{connection:?}");
        assert!(printed.contains("a.example") && !printed.contains("token"), "{printed}");
        assert!(!printed.contains(&SECRET[..8]), "{printed}");
    }
}
