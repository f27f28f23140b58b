//! A look at the chain that a request has to wait for: its channel has no record, or a view that is too old to decide
//! (X402-23, X402-30).

use std::sync::Arc;

use proof::x402_batch::{BatchError, Mirror};

use super::BatchKept as Kept;
use super::BatchSlot as Slot;
use super::answer;
use super::mirror::Look;
use super::presented::Presented;
use super::slot::{self, Beside};
use crate::clock::Now;
use crate::gate::Gate;
use crate::refusal::{Code, Refusal};
use crate::snapshot::Snapshot;

/// For which payment.
#[derive(Clone, Copy)]
pub(super) struct Looking<'g> {
    pub(super) gate: &'g Arc<Gate>,
    pub(super) snapshot: &'g Snapshot,
    pub(super) presented: &'g Presented,
    pub(super) now: Now,
}

impl Looking<'_> {
    /// The channel as a facilitator sees it on the chain.
    ///
    /// # Errors
    /// Nothing was taken.
    pub(super) async fn look(&self) -> Result<Mirror, Refusal> {
        let Self { gate, snapshot, presented, .. } = self;
        let all = snapshot.facilitators.as_ref().ok_or_else(answer::unseen)?;
        let look = Look {
            network: presented.network(),
            id: presented.voucher.channel_id,
            config: &presented.voucher.config,
            voucher: presented.payload.voucher().clone(),
        };
        look.take(gate, all, Now::read().seconds()).await.map_err(|unseen| match unseen.error() {
            Some(error @ BatchError::BelowClaimed) => answer::corrective(presented, error, None, None),
            Some(error) => answer::refusal(error),
            None => answer::unseen(),
        })
    }

    /// A channel that no record is left of, or that its payer has filled by himself: it stands where the chain says
    /// it was claimed.
    ///
    /// # Errors
    /// Nothing was taken.
    pub(super) async fn open(&self) -> Result<Arc<Slot>, Refusal> {
        let Self { gate, presented, now, .. } = self;
        if !gate.channels.may_look_for_unknown(now.seconds()) {
            return Err(answer::unseen());
        }
        let mirror = self.look().await?;
        let (id, config) = (presented.voucher.channel_id, presented.voucher.config);
        let opened = Kept::opened(id, config, presented.network(), presented.unit, mirror);
        let mut kept = opened.ok_or_else(no_account)?;
        let record = kept.record.clone();
        let written = slot::write(&gate.store, &mut kept, record, Beside::default()).await;
        written.map_err(|error| answer::unwritten(&error))?;
        gate.channels.add(kept, &gate.book).ok_or_else(no_account)
    }
}

fn no_account() -> Refusal {
    Refusal::new(Code::WrongAsset, "The channel's account holds another asset.")
}
