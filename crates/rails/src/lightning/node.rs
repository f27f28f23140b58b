//! One node, asked with care: every invoice is checked, a node that fails is left alone, and no payment is
//! called failed that may still arrive.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use ::http::HeaderName;
use ::http::header::AUTHORIZATION;
use tokio::time::{Instant, sleep};
use wire::base64;

use super::backend::Backend;
use super::bolt11::{self, Returned};
use super::cln::Cln;
use super::lnbits::LnBits;
use super::lnd::Lnd;
use super::nwc::Nwc;
use super::payment::{Order, Ordered};
use super::phoenixd::Phoenixd;
use super::port::{
    About, EXPIRY_S, Expect, Invoice, InvoiceState, Network, NodeError, Outgoing, Sent, Settled, WAIT, Wanted,
};
use super::recent::Recent;
use super::rest::{Key, Rest};
use super::test_node;
use crate::dial::{Dialer, Origin};
use crate::{Circuit, CircuitState, Secret, random};

/// The operator's node. One per configuration.
#[derive(Debug)]
pub struct LightningNode {
    adapter: Adapter,
    fingerprint: [u8; 16],
    expect: Expect,
    circuit: Mutex<Circuit>,
    /// Who signs, once the node has said it; `None` inside for one that does not say.
    learnt: OnceLock<Option<[u8; 33]>>,
    /// No two clients ever get the same hash (L402-64): not even if the node returns one twice.
    minted: Recent,
    /// The circuit's clock.
    began: Instant,
}

#[derive(Debug)]
enum Adapter {
    Test,
    Lnd(Lnd),
    Cln(Cln),
    Phoenixd(Phoenixd),
    LnBits(LnBits),
    Nwc(Nwc),
}

impl LightningNode {
    /// A node that nobody has asked yet. `time_max` bounds each question; payments, and waiting for settlements, take
    /// longer.
    #[must_use]
    pub fn new(backend: Backend, expect: Expect, dialer: Dialer, time_max: Duration) -> Self {
        Self::waiting(backend, expect, dialer, time_max, WAIT)
    }

    /// The same, with other patience for settlements.
    pub(super) fn waiting(
        backend: Backend,
        expect: Expect,
        dialer: Dialer,
        time_max: Duration,
        wait: Duration,
    ) -> Self {
        let rest = |origin: Origin, base: String, name: HeaderName, value: Secret| Rest {
            origin,
            base,
            dialer: dialer.clone(),
            time_max,
            wait,
            key: Key { name, value },
        };
        let named = HeaderName::from_static;
        let fingerprint = backend.fingerprint();
        let adapter = match backend {
            Backend::Test => Adapter::Test,
            Backend::Lnd { origin, base, macaroon } => {
                Adapter::Lnd(Lnd(rest(origin, base, named("grpc-metadata-macaroon"), macaroon)))
            }
            Backend::Cln { origin, base, rune } => Adapter::Cln(Cln(rest(origin, base, named("rune"), rune))),
            Backend::Phoenixd { origin, base, password } => {
                let rest = rest(origin, base, AUTHORIZATION, basic(&password));
                Adapter::Phoenixd(Phoenixd { rest, told: Recent::default() })
            }
            Backend::LnBits { origin, base, key } => {
                let rest = rest(origin, base, named("x-api-key"), key);
                Adapter::LnBits(LnBits { rest, told: Recent::default() })
            }
            Backend::Nwc(connection) => Adapter::Nwc(Nwc::new(connection, dialer, time_max)),
        };
        Self {
            adapter,
            fingerprint,
            expect,
            circuit: Mutex::default(),
            learnt: OnceLock::new(),
            minted: Recent::default(),
            began: Instant::now(),
        }
    }

    /// A fresh invoice that is what was asked for (L402-60).
    ///
    /// # Errors
    /// [`NodeError`]: there is no invoice, and this 402 has no Lightning. `Lied` is an alarm. `NotAsked` at once where
    /// the node has failed too often of late.
    ///
    /// # Cancel safety
    /// Dropped midway, the node may have made an invoice that nobody will see.
    pub async fn create_invoice(&self, wanted: &Wanted<'_>, now_s: u64) -> Result<Invoice, NodeError> {
        can_be_asked_for(wanted)?;
        let attempt = self.attempt()?;
        let made = self.make(wanted, now_s).await;
        // A refusal is an answer: who asks for what this node cannot do closes Lightning for nobody else.
        attempt.ended(matches!(made, Ok(_) | Err(NodeError::Refused(_))));
        made
    }

    /// What became of an invoice of ours. The test node keeps no books, and refuses to say.
    ///
    /// # Errors
    /// [`NodeError`]: it is not known.
    ///
    /// # Cancel safety
    /// Nothing moves; it may be dropped at any time.
    pub async fn look_up(&self, payment_hash: &[u8; 32]) -> Result<InvoiceState, NodeError> {
        match &self.adapter {
            Adapter::Test => Err(NodeError::Refused("the test node keeps no books".to_owned())),
            Adapter::Lnd(lnd) => lnd.look_up(payment_hash).await,
            Adapter::Cln(cln) => cln.look_up(payment_hash).await,
            Adapter::Phoenixd(phoenixd) => phoenixd.look_up(payment_hash).await,
            Adapter::LnBits(lnbits) => lnbits.look_up(payment_hash).await,
            Adapter::Nwc(nwc) => nwc.look_up(payment_hash).await,
        }
    }

    /// What the node got after `cursor`: as soon as there is something, or nothing after a while, so that it can be
    /// asked again at once. For accounting: the same may come again, and in any order. 0 begins with the latest, at
    /// Core Lightning with the first. The test node never tells of anything.
    ///
    /// # Errors
    /// [`NodeError`]: ask again after a rest, from the same cursor.
    ///
    /// # Cancel safety
    /// Nothing moves; it may be dropped at any time.
    pub async fn next_settled(&self, cursor: u64) -> Result<Vec<Settled>, NodeError> {
        match &self.adapter {
            Adapter::Test => {
                sleep(WAIT).await;
                Ok(Vec::new())
            }
            Adapter::Lnd(lnd) => lnd.next_settled(cursor).await,
            Adapter::Cln(cln) => cln.next_settled(cursor).await,
            Adapter::Phoenixd(phoenixd) => phoenixd.next_settled(cursor).await,
            Adapter::LnBits(lnbits) => lnbits.next_settled(cursor).await,
            Adapter::Nwc(nwc) => Ok(nwc.next_settled(cursor).await),
        }
    }

    /// Pays an invoice that names its amount, for a fee of at most so much. Takes up to a minute and a half.
    ///
    /// An invoice is paid once, however often it is ordered. An order whose end is [`Sent::Unknown`] is resolved by
    /// [`LightningNode::outgoing`], and never by paying something else in its place.
    ///
    /// # Cancel safety
    /// Dropped midway, it may have been paid: ask [`LightningNode::outgoing`].
    pub async fn pay(&self, bolt11: &str, max_fee_msat: u64) -> Sent {
        let named = bolt11::decode(bolt11).map(|invoice| invoice.amount_msat.unwrap_or(0));
        match named {
            Ok(0) => Sent::Failed("invoice names no amount".to_owned()),
            Ok(amount_msat) => self.pay_amount(bolt11, amount_msat, max_fee_msat).await,
            Err(error) => Sent::Failed(error.to_string()),
        }
    }

    /// As [`LightningNode::pay`], so much: also an invoice that leaves that to the payer. One that names another amount is
    /// not paid.
    ///
    /// # Cancel safety
    /// As [`LightningNode::pay`].
    pub async fn pay_amount(&self, bolt11: &str, amount_msat: u64, max_fee_msat: u64) -> Sent {
        let invoice = match bolt11::decode(bolt11) {
            Ok(invoice) => invoice,
            Err(error) => return Sent::Failed(error.to_string()),
        };
        if invoice.network != self.expect.network {
            return Sent::Failed("invoice of another network".to_owned());
        }
        if amount_msat == 0 {
            return Sent::Failed("nothing to pay".to_owned());
        }
        let named = invoice.amount_msat.filter(|amount| *amount > 0);
        if named.is_some_and(|named| named != amount_msat) {
            return Sent::Failed("invoice names another amount".to_owned());
        }
        let leaves_amount = named.is_none();
        match &self.adapter {
            Adapter::Test => test_node::opened(&invoice).map_or_else(
                || Sent::Failed("not an invoice of the test node".to_owned()),
                |preimage| Sent::Paid { preimage, fee_msat: 0 },
            ),
            Adapter::Lnd(_)
            | Adapter::Cln(_)
            | Adapter::Phoenixd(_)
            | Adapter::LnBits(_)
            | Adapter::Nwc(_) => {
                let payment_hash = invoice.payment_hash;
                self.order(&Order { bolt11, payment_hash, amount_msat, leaves_amount, max_fee_msat }).await
            }
        }
    }

    /// What the node knows of a payment that it was asked to make. At the test node every payment has arrived that can.
    ///
    /// # Errors
    /// [`NodeError`]: it is not known.
    ///
    /// # Cancel safety
    /// Nothing moves; it may be dropped at any time.
    pub async fn outgoing(&self, bolt11: &str) -> Result<Outgoing, NodeError> {
        let invoice = bolt11::decode(bolt11).map_err(|error| NodeError::Refused(error.to_string()))?;
        if let Adapter::Test = &self.adapter {
            let opened = test_node::opened(&invoice);
            return Ok(opened.map_or(Outgoing::Absent, |preimage| Outgoing::Paid { preimage, fee_msat: 0 }));
        }
        let known = self.outgoing_by_hash(&invoice.payment_hash).await?;
        Ok(known.proven(&invoice.payment_hash))
    }

    /// What the node says of itself. LNbits says nothing.
    ///
    /// # Errors
    /// [`NodeError`]: it is not known.
    ///
    /// # Cancel safety
    /// Nothing moves; it may be dropped at any time.
    pub async fn about(&self) -> Result<About, NodeError> {
        match &self.adapter {
            Adapter::Test => Ok(About {
                node_key: Some(test_node::node_key()),
                network: Some(Network::Regtest),
                can_receive_msat: None,
            }),
            Adapter::Lnd(lnd) => lnd.about().await,
            Adapter::Cln(cln) => cln.about().await,
            Adapter::Phoenixd(phoenixd) => phoenixd.about().await,
            Adapter::LnBits(_) => Ok(About::default()),
            Adapter::Nwc(nwc) => nwc.about().await,
        }
    }

    /// [`Backend::fingerprint`] of the one that this is.
    #[must_use]
    pub const fn fingerprint(&self) -> [u8; 16] {
        self.fingerprint
    }

    /// Whether the node is asked for invoices at present.
    #[must_use]
    pub fn circuit(&self) -> CircuitState {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner).state()
    }

    async fn make(&self, wanted: &Wanted<'_>, now_s: u64) -> Result<Invoice, NodeError> {
        let signer = self.signer().await?;
        let amount_msat = self.amount_msat(wanted)?;
        let returned = match &self.adapter {
            Adapter::Test => minted(wanted, now_s)?,
            Adapter::Lnd(lnd) => lnd.create(wanted, amount_msat).await?,
            Adapter::Cln(cln) => cln.create(wanted, amount_msat).await?,
            Adapter::Phoenixd(phoenixd) => phoenixd.create(wanted, amount_msat).await?,
            Adapter::LnBits(lnbits) => lnbits.create(wanted, amount_msat).await?,
            Adapter::Nwc(nwc) => nwc.create(wanted, amount_msat).await?,
        };
        let expect = Expect { node_key: signer, ..self.expect };
        let invoice =
            bolt11::check(returned, wanted, amount_msat, &expect, now_s).map_err(NodeError::Lied)?;
        if !self.minted.is_new(&invoice.payment_hash) {
            return Err(NodeError::Lied("payment hash"));
        }
        // The node is up: if it did not say who it is, our key may not ask, and it need not be asked again.
        let _ = self.learnt.set(signer);
        Ok(invoice)
    }

    /// Who has to have signed: as configured, or as the node says of itself. A node that may not be asked makes
    /// invoices nobody's signature is expected on.
    async fn signer(&self) -> Result<Option<[u8; 33]>, NodeError> {
        if let Some(known) = self.expect.node_key.map(Some).or_else(|| self.learnt.get().copied()) {
            return Ok(known);
        }
        match self.about().await {
            Ok(about) => Ok(about.node_key),
            Err(NodeError::Refused(_)) => Ok(None),
            Err(error @ (NodeError::NotAsked | NodeError::Lost | NodeError::Lied(_))) => Err(error),
        }
    }

    /// What the node is asked for: as wanted, or the next whole satoshi.
    fn amount_msat(&self, wanted: &Wanted<'_>) -> Result<u64, NodeError> {
        match &self.adapter {
            Adapter::Test | Adapter::Lnd(_) | Adapter::Cln(_) => Some(wanted.amount_msat),
            // Many wallets behind relays know nothing smaller than a satoshi.
            Adapter::Phoenixd(_) | Adapter::LnBits(_) | Adapter::Nwc(_) => {
                wanted.amount_msat.checked_next_multiple_of(1000)
            }
        }
        .ok_or_else(|| NodeError::Refused("more than there is".to_owned()))
    }

    /// Orders a payment that is neither made nor under way, as far as the node knows. A node that does not say is
    /// ordered nothing: nobody could tell afterwards what became of it.
    async fn order(&self, order: &Order<'_>) -> Sent {
        if self.fee_max_msat(order) > order.max_fee_msat {
            return Sent::Failed(
                "the node takes no limit for fees, and may pay more than is allowed".to_owned(),
            );
        }
        let known = self.outgoing_by_hash(&order.payment_hash).await;
        match known.map(|known| known.proven(&order.payment_hash)) {
            Ok(Outgoing::Absent | Outgoing::Failed(_)) => {}
            Ok(Outgoing::Paid { preimage, fee_msat }) => return Sent::Paid { preimage, fee_msat },
            Ok(Outgoing::UnderWay) => return Sent::Unknown,
            Err(error) => return Sent::Failed(format!("the node was not asked to pay: {error}")),
        }
        let ordered = match &self.adapter {
            Adapter::Lnd(lnd) => lnd.order(order).await,
            Adapter::Cln(cln) => cln.order(order).await,
            Adapter::Phoenixd(phoenixd) => phoenixd.order(order).await,
            Adapter::LnBits(lnbits) => lnbits.order(order).await,
            Adapter::Nwc(nwc) => nwc.order(order).await,
            Adapter::Test => Ordered::Never("not paid this way".to_owned()),
        };
        let known =
            if ordered.is_open() { Some(self.outgoing_by_hash(&order.payment_hash).await) } else { None };
        ordered.end(&order.payment_hash, known)
    }

    /// What the way may cost, whatever the node is told.
    fn fee_max_msat(&self, order: &Order<'_>) -> u64 {
        match &self.adapter {
            // Told a limit, or asked what theirs is.
            Adapter::Test | Adapter::Lnd(_) | Adapter::Cln(_) | Adapter::LnBits(_) => 0,
            Adapter::Phoenixd(_) => Phoenixd::fee_max_msat(order.amount_msat),
            Adapter::Nwc(_) => Nwc::fee_max_msat(order.amount_msat),
        }
    }

    async fn outgoing_by_hash(&self, payment_hash: &[u8; 32]) -> Result<Outgoing, NodeError> {
        match &self.adapter {
            Adapter::Test => Ok(Outgoing::Absent),
            Adapter::Lnd(lnd) => lnd.outgoing(payment_hash).await,
            Adapter::Cln(cln) => cln.outgoing(payment_hash).await,
            Adapter::Phoenixd(phoenixd) => phoenixd.outgoing(payment_hash).await,
            Adapter::LnBits(lnbits) => lnbits.outgoing(payment_hash).await,
            Adapter::Nwc(nwc) => nwc.outgoing(payment_hash).await,
        }
    }

    fn attempt(&self) -> Result<Attempt<'_>, NodeError> {
        let mut circuit = self.circuit.lock().unwrap_or_else(PoisonError::into_inner);
        if !circuit.admits(self.now_ms()) {
            return Err(NodeError::NotAsked);
        }
        let decides = matches!(circuit.state(), CircuitState::Trying { .. });
        Ok(Attempt { node: self, decides })
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A question under way that the circuit counts.
struct Attempt<'a> {
    node: &'a LightningNode,
    /// Whether it is the one try after a rest.
    decides: bool,
}

impl Attempt<'_> {
    fn ended(mut self, well: bool) {
        self.decides = false;
        let mut circuit = self.node.circuit.lock().unwrap_or_else(PoisonError::into_inner);
        if well {
            circuit.answered();
        } else {
            circuit.failed(self.node.now_ms(), random::spread());
        }
    }
}

impl Drop for Attempt<'_> {
    /// A try whose asker went away has shown nothing: without this nobody could try again before it is given up.
    fn drop(&mut self) {
        if self.decides {
            let mut circuit = self.node.circuit.lock().unwrap_or_else(PoisonError::into_inner);
            circuit.failed(self.node.now_ms(), random::spread());
        }
    }
}

/// What no node is asked for.
fn can_be_asked_for(wanted: &Wanted<'_>) -> Result<(), NodeError> {
    let refused = |reason: &str| Err(NodeError::Refused(reason.to_owned()));
    if wanted.amount_msat == 0 {
        return refused("no amount");
    }
    if !EXPIRY_S.contains(&wanted.expiry_s) {
        return refused("expiry out of range");
    }
    let description = wanted.description;
    if description.len() > bolt11::DESCRIPTION_BYTES_MAX || description.chars().any(char::is_control) {
        return refused("a description that no invoice can hold");
    }
    Ok(())
}

fn minted(wanted: &Wanted<'_>, now_s: u64) -> Result<Returned, NodeError> {
    let refused = || NodeError::Refused("the test node cannot make this invoice".to_owned());
    let bolt11 = test_node::mint(wanted, now_s).ok_or_else(refused)?;
    let payment_hash = bolt11::decode(&bolt11).map_err(|_| refused())?.payment_hash;
    Ok(Returned { bolt11, payment_hash })
}

/// HTTP's Basic, with a password only.
fn basic(password: &Secret) -> Secret {
    let pair = Secret::new(format!(":{}", password.expose().trim()));
    Secret::new(format!("Basic {}", base64::encode_std(pair.expose().as_bytes())))
}
