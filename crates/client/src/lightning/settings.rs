//! `lightning.json` beside the wallet: which node pays, at what price of bitcoin, for what fee at most. Mode 0600: the
//! key to the node is in it.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use money::{BitcoinPrice, DecimalError};
use rails::dial::{Dialer, Origin};
use rails::lightning::nwc::{Connection, ConnectionError};
use rails::lightning::rate::{Feed, Pointer, RateSettings, Unit};
use rails::lightning::{Backend, Network};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroize as _;

use crate::folder::{self, FileError};
use crate::{Target, TargetError, roots_from_pem};

const VERSION: u8 = 1;
/// Longest that connecting to a node may take.
const CONNECT_MAX: Duration = Duration::from_secs(15);
/// A price of bitcoin that a service told is used for so long.
const PRICE_AGE_MAX: Duration = Duration::from_secs(60);
/// The fee of the way is at most this part of the amount, in millionths ...
const FEE_PPM: u32 = 10_000;
/// ... or this, whichever is more.
const FEE_SAT: u64 = 10;

/// The settings of a Lightning wallet. `Debug` shows no key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LightningFile {
    version: u8,
    node: NodeSettings,
    network: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    price: Option<PriceSettings>,
    fee_max: FeeMax,
}

/// Which node pays, and the key to it. `Debug` shows no key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum NodeSettings {
    /// No node: play money, for gateways in test mode.
    Test {},
    /// LND's REST interface.
    Lnd {
        /// Where it listens.
        url: String,
        /// In hexadecimal, with `offchain:read` and `offchain:write`.
        macaroon: String,
        /// PEM; then no other certificate is trusted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cert: Option<String>,
    },
    /// Core Lightning's CLNRest.
    Cln {
        /// Where it listens.
        url: String,
        /// For `xpay`, `pay` and `listpays`.
        rune: String,
        /// PEM; then no other certificate is trusted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cert: Option<String>,
    },
    /// phoenixd.
    Phoenixd {
        /// Where it listens.
        url: String,
        /// The full one.
        password: String,
    },
    /// LNbits.
    LnBits {
        /// Where it listens.
        url: String,
        /// A wallet's admin key.
        key: String,
    },
    /// Any wallet behind Nostr Wallet Connect.
    Nwc {
        /// `nostr+walletconnect://...`, with the secret in it.
        uri: String,
    },
}

/// What a bitcoin costs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PriceSettings {
    /// So many dollars.
    Fixed {
        /// Decimal text.
        usd_per_btc: String,
    },
    /// What a service says.
    Read {
        /// A JSON document.
        url: String,
        /// Where in it the dollars for a bitcoin stand, such as `/data/amount`.
        pointer: String,
    },
}

/// What the way of a payment may cost: part of the amount or a fixed sum, whichever is more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeeMax {
    /// Millionths of the amount, at most a million.
    pub ppm: u32,
    /// Satoshi.
    pub sat: u64,
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LightningFileError {
    /// The file itself.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not a URL of ours.
    #[error("the node's address: {0}")]
    Target(#[from] TargetError),
    /// A key to the node would cross the network in clear text.
    #[error("{0} is neither this machine nor reached by https: no key is sent there")]
    ClearText(String),
    /// Not a chain.
    #[error(transparent)]
    Network(#[from] rails::lightning::UnknownNetwork),
    /// The test node has no other chain, and no other node may pass for it.
    #[error("the test node is on regtest")]
    TestNetwork,
    /// Not a price.
    #[error("the price of bitcoin: {0}")]
    Price(#[from] DecimalError),
    /// Not a place in a JSON document.
    #[error("the place of the price: {0}")]
    Pointer(String),
    /// More than everything.
    #[error("the fee is a part of the amount: at most 100 %")]
    Fee,
    /// Not a connection string.
    #[error("the wallet's connection string: {0}")]
    Connection(#[from] ConnectionError),
    /// Empty, or with bytes that no header can carry.
    #[error("the key to the node is none")]
    Key,
    /// Not certificates, or for a node that is reached without TLS.
    #[error("the node's certificate: {0}")]
    Cert(String),
    /// A node's address with a question in it.
    #[error("the node's address ends with its path")]
    Query,
}

impl Default for FeeMax {
    fn default() -> Self {
        Self { ppm: FEE_PPM, sat: FEE_SAT }
    }
}

impl FeeMax {
    /// The most for an amount, in millisatoshi.
    pub(crate) fn of(self, amount_msat: u64) -> u64 {
        let part = (u128::from(amount_msat) * u128::from(self.ppm)).div_ceil(1_000_000);
        let fixed = self.sat.saturating_mul(1000);
        u64::try_from(part).unwrap_or(u64::MAX).max(fixed)
    }
}

impl LightningFile {
    /// Settings that can be used, checked as far as that goes without asking anybody.
    ///
    /// # Errors
    /// [`LightningFileError`]
    pub fn new(
        node: NodeSettings,
        network: Option<Network>,
        price: Option<PriceSettings>,
        fee_max: FeeMax,
    ) -> Result<Self, LightningFileError> {
        let usual = match node {
            NodeSettings::Test {} => Network::Regtest,
            NodeSettings::Lnd { .. }
            | NodeSettings::Cln { .. }
            | NodeSettings::Phoenixd { .. }
            | NodeSettings::LnBits { .. }
            | NodeSettings::Nwc { .. } => Network::Mainnet,
        };
        let network = network.unwrap_or(usual).to_string();
        let file = Self { version: VERSION, node, network, price, fee_max };
        file.check()?;
        Ok(file)
    }

    /// Reads the file; `None` if there is none.
    ///
    /// # Errors
    /// [`LightningFileError`]; then no invoice is paid.
    pub fn load(path: &Path) -> Result<Option<Self>, LightningFileError> {
        let Some(bytes) = folder::read(path)? else { return Ok(None) };
        let file: Self = serde_json::from_slice(&bytes).map_err(|_| folder::malformed(path))?;
        if file.version != VERSION {
            return Err(folder::malformed(path).into());
        }
        file.check()?;
        Ok(Some(file))
    }

    /// Writes the file, in place of an earlier one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        let bytes = serde_json::to_vec_pretty(self).map_err(|_| folder::malformed(path))?;
        folder::replace(path, &zeroize::Zeroizing::new(bytes))
    }

    /// What may be shown: everything but the key.
    ///
    /// # Errors
    /// [`LightningFileError`]
    pub fn shown(&self) -> Result<Value, LightningFileError> {
        let price = match &self.price {
            None => Value::Null,
            Some(PriceSettings::Fixed { usd_per_btc }) => json!({"usd_per_btc": usd_per_btc}),
            // Its path may hold a key.
            Some(PriceSettings::Read { url, pointer }) => {
                json!({"from": Target::parse(url)?.origin_text(), "pointer": pointer})
            }
        };
        Ok(json!({
            "node": self.name()?, "network": self.network, "price": price,
            "fee_max": {"percent": percent(self.fee_max.ppm), "sat": self.fee_max.sat},
        }))
    }

    /// The chain.
    pub(crate) fn network(&self) -> Network {
        // Checked when it was read.
        self.network.parse().unwrap_or(Network::Mainnet)
    }

    /// What the way of a payment may cost.
    #[must_use]
    pub const fn fee_max(&self) -> FeeMax {
        self.fee_max
    }

    /// Where the price of bitcoin comes from.
    #[must_use]
    pub const fn price(&self) -> Option<&PriceSettings> {
        self.price.as_ref()
    }

    /// The same node with another fee, and another price where one is named.
    ///
    /// # Errors
    /// [`LightningFileError`]
    pub fn with(self, price: Option<PriceSettings>, fee_max: FeeMax) -> Result<Self, LightningFileError> {
        let file = Self { price: price.or(self.price), fee_max, ..self };
        file.check()?;
        Ok(file)
    }

    /// Which wallet it is, without its key.
    pub(crate) fn name(&self) -> Result<String, LightningFileError> {
        Ok(match &self.node {
            NodeSettings::Test {} => "test".to_owned(),
            NodeSettings::Lnd { url, .. } => format!("lnd {}", Place::read(url)?),
            NodeSettings::Cln { url, .. } => format!("cln {}", Place::read(url)?),
            NodeSettings::Phoenixd { url, .. } => format!("phoenixd {}", Place::read(url)?),
            NodeSettings::LnBits { url, .. } => format!("lnbits {}", Place::read(url)?),
            NodeSettings::Nwc { uri } => format!("nwc {}", nwc_wallet(uri)),
        })
    }

    /// The node, and what to reach it with where that is not the usual way.
    pub(super) fn backend(&self) -> Result<(Backend, Option<Dialer>), LightningFileError> {
        Ok(match &self.node {
            NodeSettings::Test {} => (Backend::Test, None),
            NodeSettings::Lnd { url, macaroon, cert } => {
                let Place { origin, base } = Place::read(url)?;
                let pinned = pinned(&origin, cert.as_deref())?;
                (Backend::Lnd { origin, base, macaroon: key(macaroon)? }, pinned)
            }
            NodeSettings::Cln { url, rune, cert } => {
                let Place { origin, base } = Place::read(url)?;
                let pinned = pinned(&origin, cert.as_deref())?;
                (Backend::Cln { origin, base, rune: key(rune)? }, pinned)
            }
            NodeSettings::Phoenixd { url, password } => {
                let Place { origin, base } = Place::read(url)?;
                (Backend::Phoenixd { origin, base, password: key(password)? }, None)
            }
            NodeSettings::LnBits { url, key: secret } => {
                let Place { origin, base } = Place::read(url)?;
                (Backend::LnBits { origin, base, key: key(secret)? }, None)
            }
            NodeSettings::Nwc { uri } => (Backend::Nwc(Connection::parse(uri)?), None),
        })
    }

    pub(super) fn rate(&self) -> Result<Option<RateSettings>, LightningFileError> {
        Ok(match &self.price {
            None => None,
            Some(PriceSettings::Fixed { usd_per_btc }) => {
                Some(RateSettings::Fixed(BitcoinPrice::from_usd_per_btc(usd_per_btc)?))
            }
            Some(PriceSettings::Read { url, pointer }) => {
                let target = confidential(url)?;
                let pointer: Result<Pointer, _> = pointer.parse();
                Some(RateSettings::Read(Feed {
                    origin: target.origin().clone(),
                    path: target.path().to_owned(),
                    pointer: pointer.map_err(|error| LightningFileError::Pointer(error.to_string()))?,
                    unit: Unit::UsdPerBtc,
                    every: PRICE_AGE_MAX,
                    max_age: PRICE_AGE_MAX,
                }))
            }
        })
    }

    fn check(&self) -> Result<(), LightningFileError> {
        let network: Network = self.network.parse()?;
        if matches!(self.node, NodeSettings::Test {}) && network != Network::Regtest {
            return Err(LightningFileError::TestNetwork);
        }
        if self.fee_max.ppm > 1_000_000 {
            return Err(LightningFileError::Fee);
        }
        self.backend()?;
        self.rate()?;
        Ok(())
    }
}

/// `0.5`, of millionths.
fn percent(ppm: u32) -> String {
    let text = format!("{}.{:04}", ppm / 10_000, ppm % 10_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A node's address that its key may be sent to.
struct Place {
    origin: Origin,
    /// Before every path: empty, or without a closing slash.
    base: String,
}

impl Place {
    fn read(url: &str) -> Result<Self, LightningFileError> {
        let target = confidential(url)?;
        if target.path().contains('?') {
            return Err(LightningFileError::Query);
        }
        Ok(Self { origin: target.origin().clone(), base: target.path().trim_end_matches('/').to_owned() })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.origin.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.origin.authority(), self.base)
    }
}

/// The key of the wallet in a connection string, which is no secret; empty in any other text.
fn nwc_wallet(uri: &str) -> &str {
    let rest = uri.strip_prefix("nostr+walletconnect://").and_then(|rest| rest.split_once('?'));
    rest.map_or("", |(wallet, _)| wallet)
}

/// An address that may be sent a key, and whose answers nobody between can change.
fn confidential(url: &str) -> Result<Target, LightningFileError> {
    let target = Target::parse(url)?;
    if !target.may_carry_credentials() {
        return Err(LightningFileError::ClearText(target.origin_text()));
    }
    Ok(target)
}

fn key(text: &str) -> Result<rails::Secret, LightningFileError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(LightningFileError::Key);
    }
    Ok(rails::Secret::new(text))
}

/// What reaches a node by its own certificate, and by no other.
fn pinned(origin: &Origin, cert: Option<&str>) -> Result<Option<Dialer>, LightningFileError> {
    let wrong = |text: String| LightningFileError::Cert(text);
    let Some(cert) = cert else { return Ok(None) };
    if !origin.tls {
        return Err(wrong("the node is reached without TLS".to_owned()));
    }
    let certificates = roots_from_pem(cert.as_bytes()).map_err(|error| wrong(error.to_owned()))?;
    let dialer = Dialer::pinned(&certificates, CONNECT_MAX).map_err(|error| wrong(error.to_string()))?;
    Ok(Some(dialer))
}

impl Drop for NodeSettings {
    fn drop(&mut self) {
        match self {
            Self::Test {} => {}
            Self::Lnd { macaroon: key, .. }
            | Self::Cln { rune: key, .. }
            | Self::Phoenixd { password: key, .. }
            | Self::LnBits { key, .. }
            | Self::Nwc { uri: key } => key.zeroize(),
        }
    }
}

impl fmt::Debug for LightningFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LightningFile({:?}, {}, {:?})", self.node, self.network, self.fee_max)
    }
}

impl fmt::Debug for NodeSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Test {} => f.write_str("test"),
            Self::Lnd { url, .. } => write!(f, "lnd {url}"),
            Self::Cln { url, .. } => write!(f, "cln {url}"),
            Self::Phoenixd { url, .. } => write!(f, "phoenixd {url}"),
            Self::LnBits { url, .. } => write!(f, "lnbits {url}"),
            Self::Nwc { uri } => write!(f, "nwc {}", nwc_wallet(uri)),
        }
    }
}

#[cfg(test)]
mod tests;
