//! Asking the node to pay, once; and what is written when it has told.

use std::sync::Arc;

use ledger::AccountId;
use money::{Amount, Asset};
use rails::lightning::{LightningNode, Sent};
use store::{Op, Payout, PayoutStep, StoreError};

use super::{RAIL, entries};
use crate::clock::Now;
use crate::gate::Gate;
use crate::snapshot::Snapshot;

/// Wait where an end could not be written down.
const BUSY_MS: u64 = 1_000;
/// How often it is looked whether a payout's node is configured again.
const ELSEWHERE_MS: u64 = 60_000;

/// The right to decide about a payout. Dropped undecided, the resolver goes on.
pub(super) struct Turn {
    gate: Arc<Gate>,
    hash: [u8; 32],
    next_ms: Option<u64>,
}

impl Turn {
    /// About one that nobody has heard of. None: somebody has.
    pub(super) fn first(gate: &Arc<Gate>, hash: [u8; 32]) -> Option<Self> {
        gate.payouts.is_begun(hash).then(|| Self::taken(gate, hash))
    }

    /// About one that was taken to be decided.
    pub(super) fn taken(gate: &Arc<Gate>, hash: [u8; 32]) -> Self {
        Self { gate: Arc::clone(gate), hash, next_ms: None }
    }

    pub(super) const fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    pub(super) const fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// When to ask next.
    pub(super) fn again_at(mut self, next_ms: u64) {
        self.next_ms = Some(next_ms);
    }

    /// There is nothing to be asked about any more.
    pub(super) fn close(self) {
        let (gate, hash) = (Arc::clone(&self.gate), self.hash);
        drop(self);
        gate.payouts.forget(&hash);
    }

    /// The node that was asked to pay is not the one that is configured. It may be again, or the operator decides.
    pub(super) fn elsewhere(self) {
        if self.gate.payouts.is_elsewhere(self.hash) {
            tracing::error!(
                payout = %wire::hex::encode(&self.hash),
                "ALARM: a refund was ordered at another node than the one that is configured; look there, then: farthing ledger resolve"
            );
        }
        self.again_at(Now::read().millis().saturating_add(ELSEWHERE_MS));
    }

    /// The invoice is paid.
    pub(super) async fn paid(self, payout: &Payout, fee_msat: u64) {
        if fee_msat > payout.fee_max_msat {
            tracing::error!(
                payout = %wire::hex::encode(&self.hash), fee_msat, fee_max_msat = payout.fee_max_msat,
                "ALARM: our node paid more for moving money than it was told to; the difference is ours"
            );
        }
        let step = entries::paid(&self.hash, payout, fee_msat, Now::read());
        self.end(payout, step, "refund_paid").await;
    }

    /// Nothing was paid, and nothing will be.
    pub(super) async fn failed(self, payout: &Payout, reason: String) {
        let step = entries::failed(&self.hash, payout, reason, Now::read());
        self.end(payout, step, "refund_failed").await;
    }

    async fn end(self, payout: &Payout, step: Option<PayoutStep>, state: &'static str) {
        let Some(step) = step else { return };
        match write(&self.gate, self.hash, payout, step).await {
            Ok(()) => {
                self.gate.metrics.settlement(RAIL, state);
                tracing::info!(payout = %wire::hex::encode(&self.hash), state, "a refund over Lightning ended");
                self.close();
            }
            // The operator was faster.
            Err(StoreError::Conflict) => self.close(),
            Err(error) => {
                tracing::error!(%error, payout = %wire::hex::encode(&self.hash), "the end of a refund could not be recorded");
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let next_ms = self.next_ms.unwrap_or_else(|| Now::read().millis().saturating_add(BUSY_MS));
        self.gate.payouts.watch(self.hash, next_ms);
    }
}

/// Writes an end down; then what the holder has back is there to be spent.
///
/// # Errors
/// A conflict when it had ended before.
pub(crate) async fn write(
    gate: &Gate,
    hash: [u8; 32],
    payout: &Payout,
    step: PayoutStep,
) -> Result<(), StoreError> {
    let back = back(payout, &step);
    gate.store.commit(Op::Payout { hash, step }).await?;
    if let Some(asset) = Asset::from_code(payout.asset).filter(|_| back > Amount::ZERO) {
        gate.deposit(AccountId(payout.account), asset, back);
    }
    Ok(())
}

/// What of the money that was set aside an end gives back.
fn back(payout: &Payout, step: &PayoutStep) -> Amount {
    let charged = match step {
        PayoutStep::Begin { .. } | PayoutStep::Asked(_) => payout.held(),
        PayoutStep::Paid { spent, .. } => store::Taken::credit_of(spent),
        PayoutStep::Failed { .. } => 0,
    };
    Amount::from_units(payout.held().saturating_sub(charged))
}

/// The node that a payout is ordered at, as long as it is the one that is configured. Another one has never heard of it,
/// and what it says of it is not what became of it.
pub(super) fn node_of<'s>(snapshot: &'s Snapshot, payout: &Payout) -> Option<&'s LightningNode> {
    let node = snapshot.lightning.as_ref()?.node();
    (payout.node == Some(node.fingerprint())).then_some(node)
}

/// Asks the node to pay. It is asked this once: whoever does not hear how that ended asks what became of it, and pays
/// nothing in its place.
pub(super) async fn send(turn: Turn, snapshot: Arc<Snapshot>, payout: Payout) {
    let sent = match node_of(&snapshot, &payout) {
        Some(node) => node.pay_amount(&payout.invoice, payout.amount_msat, payout.fee_max_msat).await,
        None => Sent::Unknown,
    };
    match sent {
        Sent::Paid { fee_msat, .. } => turn.paid(&payout, fee_msat).await,
        Sent::Failed(reason) => turn.failed(&payout, reason).await,
        Sent::Unknown => {
            turn.gate.metrics.settlement(RAIL, "refund_unknown");
            tracing::warn!(payout = %wire::hex::encode(&turn.hash), "it is not known yet what became of a refund");
            turn.again_at(payout.asking.next_ms.max(Now::read().millis()));
        }
    }
}
