//! Payouts of which nobody told how they ended: the node is asked what became of them, also after a restart. None of them
//! is paid here: a node that has never heard of one may still get the order, until the invoice is over.

use std::sync::Arc;
use std::time::Duration;

use rails::lightning::{NodeError, Outgoing};
use store::{Asking, Op, Payout, PayoutState, PayoutStep, StoreError};
use tokio::task::JoinSet;

use super::sending::{Turn, node_of};
use crate::clock::Now;
use crate::gate::Gate;
use crate::random;
use crate::settling::wait_ms;

/// How often it is looked who is due.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Questions under way at most.
const AT_ONCE_MAX: usize = 8;
/// After the end of an invoice no node pays it: clocks apart, and what was under way then.
const GRACE_S: u64 = 300;

/// What the node's answer means.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Paid { fee_msat: u64 },
    Failed(String),
    Again,
}

fn verdict(told: Result<Outgoing, NodeError>, expires_s: u64, now_s: u64) -> Verdict {
    match told {
        Ok(Outgoing::Paid { fee_msat, .. }) => Verdict::Paid { fee_msat },
        Ok(Outgoing::Failed(reason)) => Verdict::Failed(reason),
        Ok(Outgoing::Absent) if now_s >= expires_s.saturating_add(GRACE_S) => {
            Verdict::Failed("the node was never reached".to_owned())
        }
        Ok(Outgoing::Absent | Outgoing::UnderWay) => Verdict::Again,
        Err(error) => {
            tracing::warn!(%error, "our node could not be asked what became of a refund");
            Verdict::Again
        }
    }
}

/// Asks for as long as the process lives.
pub(crate) async fn run(gate: Arc<Gate>) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    let mut asking = JoinSet::new();
    loop {
        tick.tick().await;
        while let Some(ended) = asking.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "asking about a refund was cut short");
            }
        }
        let room = AT_ONCE_MAX.saturating_sub(asking.len());
        for hash in gate.payouts.take_due(Now::read().millis(), room) {
            asking.spawn(resolve(Arc::clone(&gate), hash));
        }
        gate.metrics.payouts(gate.payouts.open());
    }
}

async fn resolve(gate: Arc<Gate>, hash: [u8; 32]) {
    if let Err(error) = ask(Turn::taken(&gate, hash)).await {
        tracing::warn!(%error, "a refund cannot be resolved now");
    }
}

async fn ask(turn: Turn) -> Result<(), StoreError> {
    let (gate, hash) = (Arc::clone(turn.gate()), turn.hash());
    let known = gate.store.reader().payout(&hash)?;
    let Some(payout) = known.filter(|payout| payout.state == PayoutState::Open) else {
        turn.close();
        return Ok(());
    };
    let snapshot = gate.snapshot.load_full();
    let Some(node) = node_of(&snapshot, &payout) else {
        turn.elsewhere();
        return Ok(());
    };
    gate.payouts.is_here(&hash);
    let told = node.outgoing(&payout.invoice).await;
    let now = Now::read();
    match verdict(told, payout.expires_s, now.seconds()) {
        Verdict::Paid { fee_msat } => turn.paid(&payout, fee_msat).await,
        Verdict::Failed(reason) => turn.failed(&payout, reason).await,
        Verdict::Again => {
            let asking = next(&payout, now);
            gate.store.commit(Op::Payout { hash, step: PayoutStep::Asked(asking) }).await?;
            turn.again_at(asking.next_ms);
        }
    }
    Ok(())
}

fn next(payout: &Payout, now: Now) -> Asking {
    let count = payout.asking.count.saturating_add(1);
    let (last_ms, next_ms) = (now.millis(), now.millis().saturating_add(wait_ms(count - 1, random::bytes())));
    Asking { count, last_ms, next_ms }
}

#[cfg(test)]
mod tests {
    use rails::lightning::{NodeError, Outgoing};

    use super::{GRACE_S, Verdict, verdict};

    /// Unknown is a state: only what the node knows, or can no longer do, decides.
    #[test]
    fn only_the_node_or_time_decides() {
        let failed = |why: &str| Verdict::Failed(why.to_owned());
        let over = 100 + GRACE_S;
        for (told, now_s, expected) in [
            (Ok(Outgoing::Failed("no route".into())), 50, failed("no route")),
            (Ok(Outgoing::Failed("no route".into())), over, failed("no route")),
            (Ok(Outgoing::UnderWay), 50, Verdict::Again),
            (Ok(Outgoing::UnderWay), over + 9999, Verdict::Again),
            (Ok(Outgoing::Absent), 50, Verdict::Again),
            (Ok(Outgoing::Absent), over - 1, Verdict::Again),
            (Ok(Outgoing::Absent), over, failed("the node was never reached")),
            (Err(NodeError::Lost), over, Verdict::Again),
            (Err(NodeError::NotAsked), over, Verdict::Again),
            (Err(NodeError::Refused("no".into())), over, Verdict::Again),
        ] {
            let what = format!("{told:?} at {now_s}");
            assert_eq!(verdict(told, 100, now_s), expected, "{what}");
        }
    }
}
