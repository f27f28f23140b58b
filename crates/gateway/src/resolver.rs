//! Payments whose end nobody knows yet: the facilitator is asked again, with the same bytes, until it tells
//! (LED-23). Also after a restart; and when the proof's time is over, the operator is told.
//!
//! What was promised is asked about here from the first time on: no call waits for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ledger::AccountId;
use money::{Amount, Asset};
use rails::Settlement;
use store::{Op, Payment, PaymentState, StoreError};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::cashu;
use crate::channels;
use crate::clock::Now;
use crate::gate::Gate;
use crate::mpp::processor;
use crate::promises::{Decision, signer};
use crate::settling::{self, Asking, is_over, needs_operator};
use crate::submitting;

/// How often it is looked who is due.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Questions under way at most.
const AT_ONCE_MAX: usize = 32;
/// Wait where a question could not even be written down, or a call with the payment is under way.
const BUSY_MS: u64 = 1_000;
/// Longer than any question takes: whose answer is not there by then was lost to a panic.
const LOST_MS: u64 = 600_000;

/// The fingerprint under which a payment is claimed here: no request has it.
pub(crate) const RESOLVING: [u8; 32] = [0; 32];

/// Payments that are not decided: every intent from the moment that it is written.
#[derive(Debug, Default)]
pub(crate) struct Unsettled {
    rows: Mutex<HashMap<[u8; 32], Standing>>,
    /// Questions under way by payee: by rail, each of which has one.
    asking: Mutex<HashMap<String, usize>>,
    /// Somebody is due.
    due: Notify,
}

/// The right to ask something for a payee.
struct Turn<'u> {
    of: &'u Unsettled,
    rail: String,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut asking = self.of.asking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = asking.get_mut(&self.rail) {
            *count -= 1;
            if *count == 0 {
                asking.remove(&self.rail);
            }
        }
        drop(asking);
        self.of.due.notify_one();
    }
}

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

    /// As [`Unsettled::watch`], at once.
    pub(crate) fn ask_now(&self, key: [u8; 32]) {
        self.watch(key, Now::read().millis());
        self.due.notify_one();
    }

    /// None while `most` questions are being asked for this payee.
    fn turn(&self, rail: &str, most: usize) -> Option<Turn<'_>> {
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        let count = asking.entry(rail.to_owned()).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Turn { of: self, rail: rail.to_owned() })
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
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
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
        tokio::select! {
            _ = tick.tick() => {}
            () = gate.unsettled.due.notified() => {}
        }
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
        gate.metrics.debtors(gate.promises.debtors());
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
    if let Err(error) = ask(&gate, key).await {
        // Somebody else was faster: the next look finds it decided.
        tracing::warn!(%error, "a payment cannot be resolved now");
        gate.unsettled.watch(key, later());
    }
}

fn later() -> u64 {
    Now::read().millis().saturating_add(BUSY_MS)
}

async fn ask(gate: &Arc<Gate>, key: [u8; 32]) -> Result<(), StoreError> {
    let find = || {
        let found = gate.store.reader().payment(&key)?;
        Ok::<_, StoreError>(found.filter(|payment| payment.state.is_open()))
    };
    let Some(payment) = find()? else {
        gate.unsettled.forget(&key);
        return Ok(());
    };
    let snapshot = gate.snapshot.load_full();
    // As many as one facilitator is asked for at once: with fewer a backlog would outlive what was promised in it.
    let most = snapshot.config.rails.x402.as_ref().map_or(1, |x402| x402.settle_at_once);
    let Some(_turn) = gate.unsettled.turn(&payment.rail, most) else {
        // The end of another question is what it waits for.
        gate.unsettled.watch(key, Now::read().millis());
        return Ok(());
    };
    let asking = Asking { gate, facilitators: snapshot.facilitators.as_ref(), key };
    if payment.promised {
        // Its call may still run, and has the claim; nobody but us asks about it.
        let outcome = asking.promised(&payment).await?;
        return promised(gate, key, payment, outcome).await;
    }
    // Whoever has the claim decides.
    let Ok(_claim) = gate.claims.take(key, RESOLVING) else {
        gate.unsettled.watch(key, later());
        return Ok(());
    };
    let Some(payment) = find()? else {
        gate.unsettled.forget(&key);
        return Ok(());
    };
    let processor = processor::Rail::of(&payment.rail);
    let outcome = match (cashu::mint_of(&payment.rail), processor) {
        (Some(_), _) => cashu::again(gate, &snapshot, key, &payment).await?,
        (None, Some(_)) => processor::again(gate, &snapshot, key, &payment).await?,
        (None, None) if submitting::network_of(&payment.rail).is_some() => {
            submitting::again(gate, &snapshot, key, &payment).await?
        }
        (None, None) => asking.again(&payment).await?,
    };
    if let (Settlement::Settled(receipt), Some(rail)) = (&outcome, processor) {
        let reference = &receipt.reference;
        processor::settled_later(gate, rail, key, payment, reference).await?;
        tracing::info!(reference, "an unclear payment by a processor turned out made");
        return Ok(());
    }
    match outcome {
        Settlement::Settled(receipt) if channels::network_of(&payment.rail).is_some() => {
            channels::settled_later(gate, key, payment, &receipt).await?;
            tracing::info!(payment = %wire::hex::encode(&key), "an unclear deposit into a channel turned out settled");
            Ok(())
        }
        Settlement::Settled(receipt) => {
            settled(gate, key, payment, receipt.reference).await?;
            tracing::info!(payment = %wire::hex::encode(&key), "an unclear settlement turned out settled");
            Ok(())
        }
        // The chain has shown that nothing moved and nothing will.
        Settlement::Refused(refused) => {
            gate.store.commit(Op::Refused { key }).await?;
            gate.unsettled.forget(&key);
            tracing::info!(payment = %wire::hex::encode(&key), code = refused.code, "an unclear settlement never came");
            Ok(())
        }
        Settlement::NotSent | Settlement::Unknown(_) => still_unknown(gate, key).await,
    }
}

async fn settled(
    gate: &Gate,
    key: [u8; 32],
    payment: Payment,
    transaction: String,
) -> Result<(), StoreError> {
    let (account, asset) = (AccountId(payment.account), Asset::from_code(payment.asset));
    let amount = Amount::from_units(payment.amount);
    settling::deposit(&gate.store, key, payment, transaction.clone()).await?;
    if let Some(asset) = asset {
        gate.deposit(account, asset, amount);
    }
    gate.unsettled.forget(&key);
    gate.promises.decided(&key, &Decision::Settled { transaction });
    Ok(())
}

/// What a facilitator has said of a payment that no call has waited for.
async fn promised(
    gate: &Gate,
    key: [u8; 32],
    payment: Payment,
    outcome: Settlement,
) -> Result<(), StoreError> {
    match outcome {
        Settlement::Settled(receipt) => settled(gate, key, payment, receipt.reference).await,
        Settlement::Refused(refused) => owed(gate, key, &payment, refused.code).await,
        Settlement::Unknown(_) => {
            gate.promises.decided(&key, &Decision::Unclear);
            still_unknown(gate, key).await
        }
        Settlement::NotSent => {
            let Some(payment) = gate.store.reader().payment(&key)? else { return Ok(()) };
            let is_unclear = payment.attempt.as_ref().is_some_and(store::Attempt::is_unclear);
            if is_unclear {
                return still_unknown(gate, key).await;
            }
            if is_over(&payment, Now::read().millis()) {
                // Nobody was ever reached, and now nobody can do anything with it.
                return owed(gate, key, &payment, "never_sent".to_owned()).await;
            }
            tracing::warn!(payment = %wire::hex::encode(&key), rail = %payment.rail, "a settlement waits for a facilitator");
            gate.promises.decided(&key, &Decision::Unclear);
            Ok(())
        }
    }
}

/// A payment was refused after its call was let through: what that cost is owed (X402-21).
async fn owed(gate: &Gate, key: [u8; 32], payment: &Payment, code: String) -> Result<(), StoreError> {
    gate.store.commit(Op::Refused { key }).await?;
    gate.unsettled.forget(&key);
    gate.metrics.settlement(&payment.rail, "owed");
    tracing::error!(
        payment = %wire::hex::encode(&key), rail = %payment.rail, payer = %payment.payer, code,
        "ALARM: a payment was refused after its call was served; the payer owes it"
    );
    gate.promises.decided(&key, &Decision::Refused { code });
    Ok(())
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
    if payment.promised
        && let Some(account) = gate.account_of(payment)
    {
        // How much it is, is counted as what is being settled.
        gate.promises.owes(&account, signer(&payment.rail, &payment.payer), Amount::ZERO);
    }
    tracing::error!(
        payment = %wire::hex::encode(&key), rail = %payment.rail, payer = %payment.payer,
        "ALARM: no rail can tell what became of a payment; look at the chain, then: farthing ledger resolve"
    );
}

#[cfg(test)]
mod tests {
    use super::{LOST_MS, Unsettled};

    /// X402-46: one payee's questions leave room for another's.
    #[test]
    fn a_payee_has_so_many_turns() {
        let unsettled = Unsettled::default();
        let mut turns: Vec<_> = (0..4).filter_map(|_| unsettled.turn("a", 4)).collect();
        assert_eq!(turns.len(), 4);
        assert!(unsettled.turn("a", 4).is_none() && unsettled.turn("b", 4).is_some());
        turns.pop();
        assert!(unsettled.turn("a", 4).is_some());
        turns.clear();
        assert!(unsettled.asking.lock().unwrap().is_empty(), "nothing is remembered");
    }

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
