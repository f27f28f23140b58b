//! Paying over Lightning: the wallet that does it, invoices as offers, payments, and the tokens they buy.
//!
//! Invariant: no invoice is paid before it is written down; a payment whose end nobody told is looked up and never
//! replaced by another; a token goes to the origin it came from, as it came.

mod invoice;
mod paying;
mod reuse;
mod settings;
mod tokens;

use std::time::Duration;

use money::{Amount, BitcoinPrice};
use rails::dial::Dialer;
use rails::lightning::rate::RateSource;
use rails::lightning::{Expect, LightningNode, Network, NodeError};

pub use invoice::InvoiceTerms;
pub use settings::{FeeMax, LightningFile, LightningFileError, NodeSettings, PriceSettings};

pub(crate) use invoice::Invoice;
pub(crate) use paying::{Intent, Invoiced};
pub(crate) use tokens::Token;

use crate::challenge::Challenge;
use crate::client::Client;
use crate::now_unix_s;
use crate::offer::Entry;

/// Longest that a wallet's node may take to answer a question, a payment apart.
const NODE_TIME_MAX: Duration = Duration::from_secs(30);

/// A wallet that pays invoices. `Debug` shows no key.
#[derive(Debug)]
pub struct Lightning {
    node: LightningNode,
    /// Which wallet it is, without its key: what was begun with one is not gone on with by another.
    name: String,
    network: Network,
    fee_max: FeeMax,
    rate: Option<RateSource>,
}

/// What a wallet's node says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its key; `None` where ours to it does not let us ask.
    pub node_key: Option<[u8; 33]>,
    /// Its chain; `None` where it does not say.
    pub network: Option<Network>,
    /// What 1000 satoshi are worth in dollars; `None` without a price.
    pub per_1000_sat: Option<Amount>,
}

/// Why a wallet is none that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// The node cannot be asked.
    #[error("the node: {0}")]
    Node(#[from] NodeError),
    /// It pays other invoices than the settings say.
    #[error("the node is on {theirs}, the settings say {ours}")]
    Network {
        /// The node's.
        theirs: Network,
        /// Of the settings.
        ours: Network,
    },
}

impl Lightning {
    /// The wallet of a settings file. `dialer` trusts the usual certificates; a node with one of its own is reached
    /// with that alone.
    ///
    /// # Errors
    /// [`LightningFileError`]
    pub fn open(file: &LightningFile, dialer: &Dialer) -> Result<Self, LightningFileError> {
        let network = file.network();
        let (backend, own) = file.backend()?;
        let rate = file.rate()?.map(|rate| RateSource::new(rate, dialer.clone()));
        let expect = Expect { network, node_key: None };
        let node = LightningNode::new(backend, expect, own.unwrap_or_else(|| dialer.clone()), NODE_TIME_MAX);
        Ok(Self { node, name: file.name()?, network, fee_max: file.fee_max(), rate })
    }

    /// Which wallet it is, without its key.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks the node who it is, and what a bitcoin costs. Nothing is paid.
    ///
    /// # Errors
    /// [`CheckError`]
    pub async fn check(&self) -> Result<Found, CheckError> {
        let about = self.node.about().await?;
        if let Some(theirs) = about.network
            && theirs != self.network
        {
            return Err(CheckError::Network { theirs, ours: self.network });
        }
        let price = self.price().await;
        let per_1000_sat = price.and_then(|price| invoice::worth_up(price.fraction(), 1_000_000));
        Ok(Found { node_key: about.node_key, network: about.network, per_1000_sat })
    }

    pub(crate) const fn network(&self) -> Network {
        self.network
    }

    pub(crate) const fn fee_max(&self) -> FeeMax {
        self.fee_max
    }

    /// What a bitcoin costs now, by the wallet's settings.
    async fn price(&self) -> Option<BitcoinPrice> {
        let rate = self.rate.as_ref()?;
        let now = now_unix_s();
        if rate.rate(now).is_none() {
            // What cannot be read is no price, and the offer says so.
            let _ = rate.read(now).await;
        }
        Some(rate.rate(now)?.price)
    }
}

impl Client {
    /// Says of each L402 challenge what it asks of the Lightning wallet.
    pub(crate) async fn value_invoices(&self, challenge: &mut Challenge) {
        let Some(wallet) = &self.lightning else { return };
        if !challenge.offers.iter().any(|offer| matches!(offer.entry, Entry::L402(_))) {
            return;
        }
        let (price, now) = (wallet.price().await, now_unix_s());
        for offer in &mut challenge.offers {
            if let Entry::L402(invoice) = &offer.entry {
                offer.terms = invoice.terms(wallet, price, now);
            }
        }
    }
}
