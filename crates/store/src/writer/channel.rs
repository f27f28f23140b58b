//! A channel and the money that moved with it: one write (X402-25).

use ledger::Chart;

use super::batch::{Answer, Batch, NO_ENTRY, get_json, put_json};
use crate::read::unavailable;
use crate::{Channel, ChannelWrite, Payment, PaymentState, StoreError};

impl Batch<'_> {
    /// Refused with [`StoreError::Conflict`] when the payment is in already, or the entry's id is taken.
    pub(super) fn channel(&mut self, write: &ChannelWrite) -> Answer {
        let ChannelWrite { id, channel, payment, entry, begins: _ } = write;
        if let Some((key, _)) = payment
            && self.payment(key)?.is_some_and(|known| known.state.is_deposited())
        {
            return Err(StoreError::Conflict);
        }
        let posting = entry.as_ref().map(|entry| self.prepare(entry, None)).transpose()?;
        let rail = Chart::RailClearing(channel.kind.rail(&channel.network));
        if posting.is_some() {
            self.name(rail.id(), &rail)?;
        }
        if let Some((key, payment)) = payment {
            let attempt =
                self.payment(key)?.and_then(|known| known.attempt).or_else(|| payment.attempt.clone());
            let payment = Payment { attempt, ..payment.clone() };
            // One of nothing may never get a call: what it was shown for costs more than is left.
            if payment.state == PaymentState::Served || payment.amount == 0 {
                self.plan_to_forget(key, &payment)?;
            }
            self.put_payment(key, payment)?;
        }
        put_json(&mut self.channels, id, channel)?;
        posting.map_or(Ok(NO_ENTRY), |posting| self.post(posting))
    }

    pub(super) fn forget_channel(&mut self, id: &[u8; 32]) -> Answer {
        let known: Option<Channel> = get_json(&self.channels, id)?;
        let has_ended = known.and_then(|channel| channel.closing).is_some_and(|closing| closing.is_done);
        if !has_ended {
            return Err(StoreError::Conflict);
        }
        self.channels.remove(id).map_err(unavailable)?;
        Ok(NO_ENTRY)
    }
}
