//! `lightning.json` beside the wallet: which node pays, at what price of bitcoin, for what fee at most. Mode 0600: the
//! key to the node is in it.

use std::fmt;
use std::path::Path;

use money::{BitcoinPrice, DecimalError};
use rails::dial::{Dialer, Origin};
use rails::lightning::rate::{Feed, Pointer, RateSettings, Unit};
use rails::lightning::{Backend, Network};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroize as _;

use crate::folder::{self, FileError};
use crate::{Target, TargetError};

const VERSION: u8 = 1;
/// A price of bitcoin that a service told is used for so long.
const PRICE_AGE_MAX: std::time::Duration = std::time::Duration::from_secs(60);
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
    /// Not what the node takes.
    #[error("the key to the node: {0}")]
    Key(String),
}

impl Default for FeeMax {
    fn default() -> Self {
        Self { ppm: FEE_PPM, sat: FEE_SAT }
    }
}

impl FeeMax {
    /// The most for an amount, in millisatoshi.
    pub(crate) fn of(self, amount_msat: u64) -> u64 {
        let part = u128::from(amount_msat) * u128::from(self.ppm) / 1_000_000;
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

    pub(crate) const fn fee_max(&self) -> FeeMax {
        self.fee_max
    }

    /// Which wallet it is, without its key.
    pub(crate) fn name(&self) -> Result<String, LightningFileError> {
        Ok(match &self.node {
            NodeSettings::Test {} => "test".to_owned(),
        })
    }

    /// The node, and what to reach it with where that is not the usual way.
    pub(super) fn backend(&self) -> Result<(Backend, Option<Dialer>), LightningFileError> {
        Ok(match &self.node {
            NodeSettings::Test {} => (Backend::Test, None),
        })
    }

    pub(super) fn rate(&self) -> Result<Option<RateSettings>, LightningFileError> {
        Ok(match &self.price {
            None => None,
            Some(PriceSettings::Fixed { usd_per_btc }) => {
                Some(RateSettings::Fixed(BitcoinPrice::from_usd_per_btc(usd_per_btc)?))
            }
            Some(PriceSettings::Read { url, pointer }) => {
                let target = Target::parse(url)?;
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
#[expect(dead_code, reason = "the test node has no address")]
fn origin(url: &str) -> Result<Origin, LightningFileError> {
    let target = Target::parse(url)?;
    if !target.may_carry_credentials() {
        return Err(LightningFileError::ClearText(target.origin_text()));
    }
    Ok(target.origin().clone())
}

impl Drop for NodeSettings {
    fn drop(&mut self) {
        match self {
            Self::Test {} => {}
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
        f.write_str(match self {
            Self::Test {} => "test",
        })
    }
}
