//! Where a channel of Tempo stands, in the challenge of a request that is about it: a payer who has forgotten it, has signed too little
//! or holds too little in it goes on from there.
//!
//! Whoever names a channel is told its sums, because a payer who has lost everything has nothing else to show. Its newest
//! voucher nobody is told: shown here, it would draw on what is left.

use http::HeaderMap;
use money::Amount;
use proof::voucher::evm::Protocol;
use wire::hex;
use wire::mpp::tempo::SessionSnapshot;

use super::{Made, Slot, Tempo, Terms};
use crate::challenge::Through;
use crate::mpp::Demand;

/// The request header that names a channel.
const PAYMENT_SESSION: &str = "payment-session";

/// A channel that a genuine voucher was shown of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown {
    pub(super) id: [u8; 32],
    /// What the voucher promises in all.
    pub(super) sum: u128,
}

/// Where the channel stands that a request has shown a voucher of, or names. None: it is not known here, is not taken as
/// things are configured now, or has come to its end. No node is asked.
pub(super) async fn of(demand: &Demand<'_>, terms: &Terms, tempo: &Tempo) -> Option<SessionSnapshot> {
    // No client of version 1 reads it.
    if tempo.rules.escrow.protocol() != Protocol::TempoV2 {
        return None;
    }
    let shown = demand.arrived.session.get();
    let id = shown.map(|shown| shown.id).or_else(|| named(&demand.arrived.head.headers))?;
    let slot = demand.gate.sessions.channels.find(&id)?;
    let made = match &slot.config {
        Made::Tempo(made) => Some(made).filter(|made| made.is_for(&tempo.rules))?,
        Made::Solana(_) => return None,
    };
    let begins = match demand.ask.through {
        Through::Sessions => Amount::ZERO,
        Through::All | Through::Deposits | Through::Channels => demand.ask.begins,
    };
    let kept = slot.lock().await;
    let record = &kept.record;
    if record.closing.is_some() || record.mirror.withdraw_requested_at > 0 {
        return None;
    }
    // A client never goes back behind what it signed: where the channel does not hold that, it has to be filled up for it.
    let promised = shown.map_or(0, |shown| shown.sum);
    let required = required(&slot, terms, record.charged, begins).max(promised);
    Some(SessionSnapshot {
        channel_id: hex::encode_0x(&id),
        descriptor: made.told(),
        escrow: made.escrow().contract().to_string(),
        chain_id: made.chain_id(),
        deposit: record.mirror.balance.to_string(),
        settled: record.mirror.total_claimed.to_string(),
        accepted_cumulative: record.charged.to_string(),
        spent: record.charged.saturating_sub(slot.unused()).to_string(),
        required_cumulative: required.to_string(),
    })
}

/// All that has to be promised so that a call of so much can begin.
fn required(slot: &Slot, terms: &Terms, accepted: u128, begins: Amount) -> u128 {
    let lacks = begins.minus(slot.account.available()).unwrap_or_default();
    if lacks <= Amount::ZERO {
        return accepted;
    }
    let step = terms.units(lacks).max(terms.units(terms.rules.min_delta));
    accepted.saturating_add(step)
}

/// The channel that a request names, if it names one.
fn named(headers: &HeaderMap) -> Option<[u8; 32]> {
    let mut values = headers.get_all(PAYMENT_SESSION).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    hex::decode_0x_array(value.to_str().ok()?).ok()
}
