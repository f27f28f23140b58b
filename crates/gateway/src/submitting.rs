//! Sending a payer's permit to the chain ourselves (`evm`/`charge` by Permit2): our transaction is written down before it is
//! sent, and the same one or a further one goes until the chain tells what became of the permit.
//!
//! The contract takes a permit once, so a further transaction never moves more. Before the first one the payer's nonce,
//! balance and allowance are looked at, and the node tries it: whoever has nothing costs us no gas.

use std::time::Duration;

use rails::dial::Dialer;
use rails::{EvmNode, Fate, Held, NotWritten, PermitOrder, Receipt, Refused, Settlement, Unclear};
use store::{Attempt, Op, Payment, StoreError};
use tokio::sync::{Mutex, Semaphore};
use wire::x402::permit2::ALLOWANCE_REQUIRED;

use crate::clock::Now;
use crate::config;
use crate::gate::Gate;
use crate::settling;
use crate::snapshot::{Snapshot, origin};

/// Permits of one chain that are being sent at the same time; who comes when there is no room waits for nobody.
const AT_ONCE_MAX: usize = 32;
/// Longest wait for the next place among the sender's transactions.
const PLACE_WITHIN: Duration = Duration::from_secs(10);
/// How often the chain is looked at while somebody waits.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long it is looked at for one that was sent before: its payer asks again.
const LOOK_AGAIN_FOR: Duration = Duration::from_secs(3);
/// After so many askings what waits is paid more for.
const OUTBID_AFTER: u32 = 3;

/// The rail of a chain, in journal and metrics.
pub(crate) fn rail(network: &str) -> String {
    format!("permit2:{network}")
}

/// The network of such a rail.
pub(crate) fn network_of(rail: &str) -> Option<&str> {
    rail.strip_prefix("permit2:")
}

/// Who sends permits to one chain.
#[derive(Debug)]
pub(crate) struct Sender {
    network: String,
    submitter: rails::Submitter,
    /// For one settlement.
    settle_max: Duration,
    turns: Semaphore,
    /// Held from asking for a place until what takes it is sent. Two who had the same place, after a reload, would only
    /// have to write one of them anew.
    place: Mutex<()>,
}

impl Sender {
    /// None: its key is none, which the configuration has refused.
    pub(crate) fn new(rules: &config::Submitter, dialer: &Dialer) -> Option<Self> {
        let path = if rules.rpc.base_path.is_empty() { "/" } else { &rules.rpc.base_path }.to_owned();
        let key = proof::secp::SecretKey::from_bytes(rules.key.expose()).ok()?;
        let submitter = rails::Submitter {
            node: EvmNode { origin: origin(&rules.rpc), path, dialer: dialer.clone() },
            chain_id: rules.chain_id,
            key,
            fee_per_gas_max: rules.fee_per_gas_max,
        };
        Some(Self {
            network: rules.network.clone(),
            submitter,
            settle_max: rules.settle_max,
            turns: Semaphore::new(AT_ONCE_MAX),
            place: Mutex::new(()),
        })
    }

    /// Whether it sends what this rail is paid by.
    pub(crate) fn serves(&self, rail: &str) -> bool {
        network_of(rail) == Some(&self.network)
    }

    /// Looks at what the payer has, writes the transaction down, sends it and waits for it.
    async fn send(
        &self,
        gate: &Gate,
        key: [u8; 32],
        payment: Payment,
        order: PermitOrder,
    ) -> Result<Settlement, StoreError> {
        match self.submitter.held(&order).await {
            None => return Ok(Settlement::NotSent),
            Some(Held { is_used: true, .. }) => return Ok(refused("permit_used")),
            Some(Held { has_funds: false, .. }) => return Ok(refused("insufficient_funds")),
            Some(Held { is_allowed: false, .. }) => return Ok(refused(ALLOWANCE_REQUIRED)),
            Some(_) => {}
        }
        let Ok(place) = tokio::time::timeout(PLACE_WITHIN, self.place.lock()).await else {
            return Ok(Settlement::NotSent);
        };
        let order = match self.submitter.write(&order, false).await {
            Ok(written) => order.and(written),
            Err(NotWritten::WouldFail(message)) => {
                tracing::info!(message, payer = %payment.payer, "a permit would move nothing");
                return Ok(refused("transaction_would_fail"));
            }
            Err(not) => return Ok(self.not_written(&not)),
        };
        let attempt = attempt(&payment, &order, 1);
        let next_ms = attempt.next_ms;
        gate.store.write(Op::Intent { key, payment: Payment { attempt: Some(attempt), ..payment } }).await?;
        gate.unsettled.watch(key, next_ms);
        if let Some(message) = self.submitter.send(&order).await {
            let (network, sender) = (&self.network, self.submitter.address());
            tracing::error!(network, %sender, message, "ALARM: a node does not take a transaction that it has tried");
        }
        drop(place);
        Ok(self.awaited(&order, self.settle_max).await)
    }

    /// Looks what became of a permit that was sent, and sends it again: by another transaction where the last one cannot
    /// come in any more, or has waited for long.
    async fn send_again(
        &self,
        gate: &Gate,
        key: [u8; 32],
        payment: &Payment,
        last: &Attempt,
    ) -> Result<Settlement, StoreError> {
        let Ok(mut order) = serde_json::from_str::<PermitOrder>(&last.request) else { return Ok(unclear()) };
        let Ok(place) = tokio::time::timeout(PLACE_WITHIN, self.place.lock()).await else {
            return Ok(unclear());
        };
        if let Fate::Open { is_outrun } = self.submitter.fate(&order).await
            && (is_outrun || last.count >= OUTBID_AFTER)
            && order.has_room()
        {
            match self.submitter.write(&order, !is_outrun).await {
                Ok(written) => order = order.and(written),
                // An earlier one may have come in just now.
                Err(NotWritten::WouldFail(_)) => {}
                Err(not) => drop(self.not_written(&not)),
            }
        }
        let attempt = attempt(payment, &order, last.count.saturating_add(1));
        let next_ms = attempt.next_ms;
        gate.store.write(Op::Attempt { key, attempt }).await?;
        gate.unsettled.watch(key, next_ms);
        if let Some(message) = self.submitter.send(&order).await {
            tracing::debug!(message, "a transaction of ours was not taken again");
        }
        drop(place);
        Ok(self.awaited(&order, LOOK_AGAIN_FOR).await)
    }

    fn not_written(&self, not: &NotWritten) -> Settlement {
        let (network, sender) = (&self.network, self.submitter.address());
        tracing::error!(network, %sender, ?not, "ALARM: permits cannot be sent to this chain now");
        Settlement::NotSent
    }

    async fn awaited(&self, order: &PermitOrder, time_max: Duration) -> Settlement {
        let look = async {
            loop {
                match self.submitter.fate(order).await {
                    Fate::Moved(reference) => {
                        return Settlement::Settled(Receipt { reference, ..Receipt::default() });
                    }
                    Fate::Never => return refused("transaction_failed"),
                    Fate::Amiss(transaction) => {
                        let what = "ALARM: a transaction of ours has succeeded and moved nothing to us";
                        tracing::error!(transaction, network = self.network, "{what}");
                        return Settlement::Unknown(Unclear { transaction, pending: false, is_fault: true });
                    }
                    Fate::Open { .. } => tokio::time::sleep(LOOK_EVERY).await,
                }
            }
        };
        tokio::time::timeout(time_max, look).await.unwrap_or_else(|_| unclear())
    }
}

/// Sends a permit for the first time. From the intent on its key is taken.
///
/// # Errors
/// The intent could not be written, or is known already; nothing was sent.
///
/// # Cancel safety
/// None: dropped midway, money may have moved.
pub(crate) async fn first(
    gate: &Gate,
    snapshot: &Snapshot,
    key: [u8; 32],
    payment: Payment,
    order: PermitOrder,
) -> Result<Settlement, StoreError> {
    let rail = payment.rail.clone();
    let Some(sender) = snapshot.sender(&rail) else { return Ok(Settlement::NotSent) };
    let Ok(_turn) = sender.turns.try_acquire() else { return Ok(Settlement::NotSent) };
    let Some(mut share) = gate.health.share(Some(&payment.payer)) else {
        tracing::warn!(payer = %payment.payer, "this payer has asked for too many settlements");
        return Ok(Settlement::NotSent);
    };
    let outcome = sender.send(gate, key, payment, order).await?;
    if matches!(outcome, Settlement::Refused(_)) {
        share.was_in_vain();
    }
    counted(gate, &rail, &outcome);
    Ok(outcome)
}

/// Looks again at a permit whose end nobody knows. Refused only where the chain shows that nothing moved and nothing will.
///
/// # Errors
/// The attempt could not be written down; nothing new was sent.
///
/// # Cancel safety
/// As for [`first`].
pub(crate) async fn again(
    gate: &Gate,
    snapshot: &Snapshot,
    key: [u8; 32],
    payment: &Payment,
) -> Result<Settlement, StoreError> {
    let Some(last) = &payment.attempt else { return Ok(unclear()) };
    let outcome = match snapshot.sender(&payment.rail) {
        Some(sender) => sender.send_again(gate, key, payment, last).await?,
        None => {
            tracing::error!(rail = %payment.rail, "who has sent a permit has left the configuration");
            let count = last.count.saturating_add(1);
            let attempt = settling::attempt(payment.rail.clone(), &last.request, count, Now::read());
            let next_ms = attempt.next_ms;
            gate.store.write(Op::Attempt { key, attempt }).await?;
            gate.unsettled.watch(key, next_ms);
            unclear()
        }
    };
    counted(gate, &payment.rail, &outcome);
    Ok(outcome)
}

fn counted(gate: &Gate, rail: &str, outcome: &Settlement) {
    let state = match outcome {
        Settlement::Settled(_) => "settled",
        Settlement::Refused(_) => "refused",
        Settlement::NotSent => "not_sent",
        Settlement::Unknown(_) => "unknown",
    };
    gate.metrics.settlement(rail, state);
}

fn attempt(payment: &Payment, order: &PermitOrder, count: u32) -> Attempt {
    // It has text keys and no floats, so writing it cannot fail.
    let request = serde_json::to_string(order).unwrap_or_default();
    settling::attempt(payment.rail.clone(), &request, count, Now::read())
}

fn refused(code: &str) -> Settlement {
    Settlement::Refused(Refused { code: code.to_owned() })
}

fn unclear() -> Settlement {
    Settlement::Unknown(Unclear::default())
}
