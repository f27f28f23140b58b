//! One node, asked with care.

use std::time::Duration;

use super::backend::Backend;
use super::bolt11::{self, Returned};
use super::port::{
    About, Expect, Invoice, InvoiceState, Network, NodeError, Outgoing, Sent, Settled, Wanted,
};
use super::{nwc, test_node};
use crate::dial::Dialer;

/// The operator's node. One per configuration.
#[derive(Debug)]
pub struct LightningNode {
    backend: Backend,
    expect: Expect,
    dialer: Dialer,
    time_max: Duration,
}

impl LightningNode {
    /// A node that nobody has asked yet. `time_max` bounds each question, a payment apart.
    #[must_use]
    pub const fn new(backend: Backend, expect: Expect, dialer: Dialer, time_max: Duration) -> Self {
        Self { backend, expect, dialer, time_max }
    }

    /// A fresh invoice that is what was asked for (L402-60).
    ///
    /// # Errors
    /// [`NodeError`]: there is no invoice, and this 402 has no Lightning. `Lied` is an alarm.
    ///
    /// # Cancel safety
    /// Dropped midway, the node may have made an invoice that nobody will see.
    pub async fn create_invoice(&self, wanted: &Wanted<'_>, now_s: u64) -> Result<Invoice, NodeError> {
        match &self.backend {
            Backend::Test => {
                let refused = || NodeError::Refused("the test node cannot make this invoice".to_owned());
                let bolt11 = test_node::mint(wanted, now_s).ok_or_else(refused)?;
                let payment_hash = bolt11::decode(&bolt11).map_err(|_| refused())?.payment_hash;
                let returned = Returned { bolt11, payment_hash };
                bolt11::check(returned, wanted, wanted.amount_msat, &self.expect, now_s)
                    .map_err(NodeError::Lied)
            }
            Backend::Nwc(wallet) => {
                let too_much = NodeError::Refused("no wallet makes such an invoice".to_owned());
                let amount_msat = nwc::whole_sat_up(wanted.amount_msat).ok_or(too_much)?;
                let returned = self.questions(wallet).make_invoice(wanted, amount_msat).await?;
                bolt11::check(returned, wanted, amount_msat, &self.expect, now_s).map_err(NodeError::Lied)
            }
        }
    }

    /// What became of an invoice of ours. The test node keeps no books, and refuses to say.
    ///
    /// # Errors
    /// [`NodeError`]: it is not known.
    ///
    /// # Cancel safety
    /// Nothing moves; it may be dropped at any time.
    pub async fn look_up(&self, payment_hash: &[u8; 32]) -> Result<InvoiceState, NodeError> {
        match &self.backend {
            Backend::Test => Err(NodeError::Refused("the test node keeps no books".to_owned())),
            Backend::Nwc(wallet) => self.questions(wallet).look_up(payment_hash).await,
        }
    }

    /// What the node got after `cursor`, as soon as there is something or the node has waited long enough. For
    /// accounting: the same may come again, and in any order. The test node never tells of anything.
    ///
    /// # Errors
    /// [`NodeError`]: ask again later, from the same cursor.
    ///
    /// # Cancel safety
    /// Nothing moves; it may be dropped at any time.
    pub async fn next_settled(&self, cursor: u64) -> Result<Vec<Settled>, NodeError> {
        match &self.backend {
            Backend::Test => Ok(Vec::new()),
            Backend::Nwc(wallet) => Ok(self.questions(wallet).next_settled(cursor).await),
        }
    }

    /// Pays an invoice that names its amount, for a fee of at most so much.
    ///
    /// # Cancel safety
    /// Dropped midway, it may have been paid: ask [`LightningNode::outgoing`].
    pub async fn pay(&self, bolt11: &str, _max_fee_msat: u64) -> Sent {
        match &self.backend {
            Backend::Test => match test_node::preimage_of(bolt11) {
                Some(preimage) => Sent::Paid { preimage, fee_msat: 0 },
                None => Sent::Failed("not an invoice of the test node".to_owned()),
            },
            Backend::Nwc(wallet) => self.questions(wallet).pay(bolt11).await,
        }
    }

    /// What the node knows of a payment that it was asked to make.
    ///
    /// # Errors
    /// [`NodeError`]: it is not known.
    ///
    /// # Cancel safety
    /// Nothing moves; it may be dropped at any time.
    pub async fn outgoing(&self, bolt11: &str) -> Result<Outgoing, NodeError> {
        match &self.backend {
            Backend::Test => Ok(match test_node::preimage_of(bolt11) {
                Some(preimage) => Outgoing::Paid { preimage, fee_msat: 0 },
                None => Outgoing::Absent,
            }),
            Backend::Nwc(wallet) => self.questions(wallet).outgoing(bolt11).await,
        }
    }

    /// What the node says of itself.
    ///
    /// # Errors
    /// [`NodeError`]: it is not known.
    ///
    /// # Cancel safety
    /// Nothing moves; it may be dropped at any time.
    pub async fn about(&self) -> Result<About, NodeError> {
        match &self.backend {
            Backend::Test => Ok(About {
                node_key: Some(test_node::node_key()),
                network: Some(Network::Regtest),
                can_receive_msat: None,
            }),
            Backend::Nwc(wallet) => self.questions(wallet).about().await,
        }
    }

    fn questions<'a>(&'a self, wallet: &'a nwc::Wallet) -> nwc::Questions<'a> {
        wallet.over(&self.dialer, self.time_max)
    }
}
