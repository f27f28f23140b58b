//! Payments whose end nobody knows yet: the facilitator is asked again, with the same bytes, until it tells
//! (LED-23). Also after a restart; and when the proof's time is over, the operator is told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ledger::AccountId;
use money::{Amount, Asset};
use rails::Settlement;
use store::{Op, Payment, PaymentState, StoreError};
use tokio::task::JoinSet;

use crate::clock::Now;
use crate::gate::Gate;
use crate::settling::{self, Asking, needs_operator};

/// How often it is looked who is due.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Questions under way at most: a facilitator with one signing key takes few at once (X402-46).
const AT_ONCE_MAX: usize = 4;
/// Wait where a question could not even be written down, or a call with the payment is under way.
const BUSY_MS: u64 = 1_000;
/// Longer than any question takes: whose answer is not there by then was lost to a panic.
const LOST_MS: u64 = 600_000;

/// The fingerprint under which a payment is claimed here: no request has it.
pub(crate) const RESOLVING: [u8; 32] = [0; 32];

/// Payments that are not decided: every intent from the moment that it is written.
#[derive(Debug, Default)]
pub(crate) struct Unsettled(Mutex<HashMap<[u8; 32], Standing>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// To be asked about at this time, Unix milliseconds.
    Due(u64),
    /// No rail can tell.
    Operator,
}

impl Unsettled {
    /// A payment is not decided; it is to be asked about at `next_ms`.
    pub(crate) fn watch(&self, key: [u8; 32], next_ms: u64) {
        self.rows().insert(key, Standing::Due(next_ms));
    }

    /// A payment is decided.
    pub(crate) fn forget(&self, key: &[u8; 32]) {
        self.rows().remove(key);
    }

    fn needs_operator(&self, key: [u8; 32]) {
        self.rows().insert(key, Standing::Operator);
    }

    /// How many are not decided, and how many of them no rail can decide.
    fn counts(&self) -> (usize, usize) {
        let rows = self.rows();
        (rows.len(), rows.values().filter(|standing| **standing == Standing::Operator).count())
    }

    /// At most `most` that are due; each once.
    fn take_due(&self, now_ms: u64, most: usize) -> Vec<[u8; 32]> {
        let mut rows = self.rows();
        let mut due: Vec<([u8; 32], u64)> = rows
            .iter()
            .filter_map(|(key, standing)| match standing {
                Standing::Due(next_ms) if *next_ms <= now_ms => Some((*key, *next_ms)),
                Standing::Due(_) | Standing::Operator => None,
            })
            .collect();
        due.sort_unstable_by_key(|(_, next_ms)| *next_ms);
        due.truncate(most);
        for (key, _) in &due {
            rows.insert(*key, Standing::Due(now_ms.saturating_add(LOST_MS)));
        }
        due.into_iter().map(|(key, _)| key).collect()
    }

    fn rows(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Standing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks for as long as the process lives. Those of the processes before are asked about at once.
pub(crate) async fn run(gate: Arc<Gate>) {
    if let Err(error) = take_up(&gate) {
        tracing::error!(%error, "unsettled payments cannot be read");
    }
    let mut tick = tokio::time::interval(LOOK_EVERY);
    let mut asking = JoinSet::new();
    loop {
        tick.tick().await;
        while let Some(ended) = asking.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "asking about a payment was cut short");
            }
        }
        let room = AT_ONCE_MAX.saturating_sub(asking.len());
        for key in gate.unsettled.take_due(Now::read().millis(), room) {
            asking.spawn(resolve(Arc::clone(&gate), key));
        }
        let (open, stuck) = gate.unsettled.counts();
        gate.metrics.unsettled(open, stuck);
    }
}

/// Takes over what an earlier process has left undecided.
fn take_up(gate: &Gate) -> Result<(), StoreError> {
    let now_ms = Now::read().millis();
    let rows = gate.store.reader().unsettled()?;
    for (key, payment) in rows {
        // Its account waits for this asset: no other may come first (LED-4).
        if let Some(asset) = Asset::from_code(payment.asset) {
            let _ = gate.book.fix_asset(AccountId(payment.account), asset);
        }
        if needs_operator(&payment, now_ms) {
            give_up(gate, key, &payment);
            continue;
        }
        // What was being asked when the process died may be settled since.
        let next_ms = match payment.state {
            PaymentState::Unknown => payment.attempt.as_ref().map_or(now_ms, |attempt| attempt.next_ms),
            PaymentState::Intent | PaymentState::Settled | PaymentState::Served | PaymentState::Owed => {
                now_ms
            }
        };
        gate.unsettled.watch(key, next_ms);
    }
    Ok(())
}

async fn resolve(gate: Arc<Gate>, key: [u8; 32]) {
    let later = || Now::read().millis().saturating_add(BUSY_MS);
    // Whoever has the claim decides.
    let Ok(_claim) = gate.claims.take(key, RESOLVING) else {
        gate.unsettled.watch(key, later());
        return;
    };
    match ask(&gate, key).await {
        Ok(()) => {}
        // Somebody else was faster: the next look finds it decided.
        Err(error) => {
            tracing::warn!(%error, "a payment cannot be resolved now");
            gate.unsettled.watch(key, later());
        }
    }
}

async fn ask(gate: &Gate, key: [u8; 32]) -> Result<(), StoreError> {
    let found = gate.store.reader().payment(&key)?;
    let Some(payment) = found.filter(|payment| payment.state.is_open()) else {
        gate.unsettled.forget(&key);
        return Ok(());
    };
    let snapshot = gate.snapshot.load_full();
    let facilitators = snapshot.facilitators.as_ref();
    match (Asking { gate, facilitators, key }).again(&payment).await? {
        Settlement::Settled(receipt) => {
            let (account, asset) = (AccountId(payment.account), Asset::from_code(payment.asset));
            let amount = Amount::from_units(payment.amount);
            settling::deposit(&gate.store, key, payment, receipt.reference).await?;
            if let Some(asset) = asset {
                gate.book.deposit(account, asset, amount);
            }
            gate.unsettled.forget(&key);
            tracing::info!(payment = %wire::hex::encode(&key), "an unclear settlement turned out settled");
            Ok(())
        }
        Settlement::Refused(_) | Settlement::NotSent | Settlement::Unknown(_) => {
            still_unknown(gate, key).await
        }
    }
}

/// Nobody could tell. Either it is asked again, or it never will be.
async fn still_unknown(gate: &Gate, key: [u8; 32]) -> Result<(), StoreError> {
    gate.store.commit(Op::Unknown { key }).await?;
    let Some(payment) = gate.store.reader().payment(&key)? else { return Ok(()) };
    let now_ms = Now::read().millis();
    if needs_operator(&payment, now_ms) {
        give_up(gate, key, &payment);
        return Ok(());
    }
    let next_ms = payment.attempt.as_ref().map_or(0, |attempt| attempt.next_ms);
    gate.unsettled.watch(key, next_ms.max(now_ms.saturating_add(BUSY_MS)));
    Ok(())
}

fn give_up(gate: &Gate, key: [u8; 32], payment: &Payment) {
    gate.unsettled.needs_operator(key);
    tracing::error!(
        payment = %wire::hex::encode(&key), rail = %payment.rail, payer = %payment.payer,
        "ALARM: no rail can tell what became of a payment; look at the chain, then: farthing ledger resolve"
    );
}

#[cfg(test)]
mod tests {
    use super::{LOST_MS, Unsettled};

    #[test]
    fn each_is_taken_once_oldest_first_and_not_for_ever() {
        let unsettled = Unsettled::default();
        for (key, next_ms) in [(1, 30), (2, 10), (3, 20), (4, 99)] {
            unsettled.watch([key; 32], next_ms);
        }
        unsettled.needs_operator([5; 32]);
        assert_eq!(unsettled.take_due(50, 2), [[2; 32], [3; 32]]);
        assert_eq!(unsettled.take_due(50, 2), [[1; 32]]);
        assert_eq!(unsettled.take_due(50, 2), Vec::<[u8; 32]>::new());
        assert_eq!(unsettled.counts(), (5, 1));
        unsettled.forget(&[2; 32]);
        // An answer that never came: asked again.
        assert_eq!(unsettled.take_due(50 + LOST_MS, 9).len(), 3);
    }
}
