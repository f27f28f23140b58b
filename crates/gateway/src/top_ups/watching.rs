//! Orders that nobody told of, and refunds that are not decided: their rail is asked, also after a restart (RAIL-12).

use std::sync::Arc;
use std::time::Duration;

use store::{Asking, Op, RefundState, RefundStep, StoreError, TopUp, TopUpState, TopUpStep};
use tokio::task::JoinSet;

use super::crediting::{Credited, credit};
use super::rail::Stands;
use super::{Open, Rail, refunding};
use crate::clock::Now;
use crate::gate::Gate;
use crate::random;
use crate::settling::wait_ms;

/// How often it is looked who is due.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Questions under way at most.
const AT_ONCE_MAX: usize = 8;
/// Wait where something could not be written down, and for a rail that is not configured.
const BUSY_MS: u64 = 5_000;
/// After the end of an order a code that nobody has scanned may still be good: clocks apart, and whole minutes.
const GRACE_MS: u64 = 120_000;
/// The wait doubles as often as this.
const DOUBLINGS_MAX: u32 = 4;

/// Asks for as long as the process lives.
pub(crate) async fn run(gate: Arc<Gate>) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    let mut asking = JoinSet::new();
    loop {
        tick.tick().await;
        while let Some(ended) = asking.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "asking about an order was cut short");
            }
        }
        let room = AT_ONCE_MAX.saturating_sub(asking.len());
        for open in gate.top_ups.take_due(Now::read().millis(), room) {
            asking.spawn(ask(Arc::clone(&gate), open));
        }
        let (orders, refunds) = gate.top_ups.counts();
        gate.metrics.top_ups(orders, refunds);
    }
}

async fn ask(gate: Arc<Gate>, open: Open) {
    let asked = match open {
        Open::Order(id) => ask_order(&gate, id).await,
        Open::Refund(id) => ask_refund(&gate, id).await,
    };
    match asked {
        Ok(Some(next_ms)) => gate.top_ups.again(open, next_ms),
        Ok(None) => gate.top_ups.forget(open),
        Err(error) => {
            tracing::warn!(%error, ?open, "an order or a refund cannot be resolved now");
            gate.top_ups.again(open, later());
        }
    }
}

fn later() -> u64 {
    Now::read().millis().saturating_add(BUSY_MS)
}

/// When to ask again; none once it is decided.
async fn ask_order(gate: &Gate, id: [u8; 16]) -> Result<Option<u64>, StoreError> {
    let known = gate.store.reader().top_up(&id)?;
    let Some(order) = known.filter(|order| order.state == TopUpState::Open) else { return Ok(None) };
    let snapshot = gate.snapshot.load_full();
    let Some(rail) = Rail::named(&snapshot, &order.rail) else { return Ok(Some(later())) };
    let stands = rail.look(&id).await;
    let now_ms = Now::read().millis();
    let is_closed = match verdict(&stands, order.expires_ms, now_ms) {
        Verdict::Credit => {
            let Stands::Paid(payment) = stands else { return Ok(Some(later())) };
            return match credit(gate, &order.rail, &id, payment).await? {
                Credited::Now | Credited::Before | Credited::Parked => Ok(None),
                Credited::NoOrder => Ok(Some(later())),
            };
        }
        Verdict::Close => true,
        // Who pays while it is being closed keeps it from being closed.
        Verdict::CloseThere => rail.close(&id).await,
        Verdict::Again => false,
    };
    if is_closed {
        gate.store.commit(Op::TopUp { id, step: TopUpStep::Close }).await?;
        return Ok(None);
    }
    let every = snapshot.config.top_up.as_ref().map(|rules| rules.reconcile_every);
    let asking = next_of(&order, every.unwrap_or(Duration::from_millis(BUSY_MS)), now_ms);
    gate.store.commit(Op::TopUp { id, step: TopUpStep::Asked(asking) }).await?;
    Ok(Some(asking.next_ms))
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Credit,
    /// Nobody can pay it.
    Close,
    /// Nobody is to pay it any more.
    CloseThere,
    Again,
}

fn verdict(stands: &Stands, expires_ms: u64, now_ms: u64) -> Verdict {
    let over_ms = expires_ms.saturating_add(GRACE_MS);
    match stands {
        Stands::Paid(_) => Verdict::Credit,
        Stands::Over => Verdict::Close,
        Stands::Payable if now_ms >= expires_ms => Verdict::CloseThere,
        Stands::Absent if now_ms >= over_ms => Verdict::Close,
        Stands::Payable | Stands::Absent | Stands::Unknown => Verdict::Again,
    }
}

/// Later each time, and at the end of the order at the latest.
fn next_of(order: &TopUp, every: Duration, now_ms: u64) -> Asking {
    let count = order.asking.count.saturating_add(1);
    let every_ms = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
    let next_ms = now_ms.saturating_add(every_ms.saturating_mul(1 << count.min(DOUBLINGS_MAX)));
    let ends = [order.expires_ms, order.expires_ms.saturating_add(GRACE_MS)];
    let next_ms = ends.into_iter().filter(|end| *end > now_ms).fold(next_ms, u64::min);
    Asking { count, last_ms: now_ms, next_ms }
}

async fn ask_refund(gate: &Gate, id: [u8; 16]) -> Result<Option<u64>, StoreError> {
    let known = gate.store.reader().top_up_refund(&id)?;
    let Some(refund) = known.filter(|refund| refund.state == RefundState::Sent) else { return Ok(None) };
    let snapshot = gate.snapshot.load_full();
    let Some(rail) = Rail::named(&snapshot, &refund.paid.rail) else { return Ok(Some(later())) };
    // Counted before it is asked: whoever finds it after a crash knows that it may have been.
    let now_ms = Now::read().millis();
    let count = refund.asking.count.saturating_add(1);
    let next_ms = now_ms.saturating_add(wait_ms(count, random::bytes()));
    let asking = Asking { count, last_ms: now_ms, next_ms };
    gate.store.commit(Op::TopUpRefund { id, step: RefundStep::Asked(asking) }).await?;
    let Some(moved) = refunding::ask(rail, &id, &store::TopUpRefund { asking, ..refund.clone() }).await
    else {
        gate.metrics.settlement(&refund.paid.rail, "refund_unknown");
        return Ok(Some(next_ms.max(Now::read().millis())));
    };
    match refunding::decided(gate, id, &refund, moved).await {
        Ok(()) | Err(StoreError::Conflict) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use money::Asset;
    use store::{Asking, RefundPolicy, TopUp, TopUpState};

    use super::{GRACE_MS, Stands, Verdict, next_of, verdict};
    use crate::top_ups::rail::RailPayment;

    /// Unknown is a state: only what the rail says, or time, decides.
    #[test]
    fn only_the_rail_or_time_decides() {
        let paid = || Stands::Paid(RailPayment { reference: "1".into(), currency: Asset::Cny, minor: 1 });
        let over = 100 + GRACE_MS;
        for (stands, now_ms, expected) in [
            (paid(), 50, Verdict::Credit),
            (paid(), over + 9999, Verdict::Credit),
            (Stands::Over, 50, Verdict::Close),
            (Stands::Payable, 99, Verdict::Again),
            (Stands::Payable, 100, Verdict::CloseThere),
            (Stands::Absent, over - 1, Verdict::Again),
            (Stands::Absent, over, Verdict::Close),
            (Stands::Unknown, over + 9999, Verdict::Again),
        ] {
            assert_eq!(verdict(&stands, 100, now_ms), expected, "{stands:?} at {now_ms}");
        }
    }

    /// RAIL-12: with back-off to the order's end, then once after it.
    #[test]
    fn asked_less_and_less_often_and_at_the_end() {
        let mut order = TopUp {
            state: TopUpState::Open,
            account: [1; 16],
            asset: 1,
            credit: 1,
            bonus: 0,
            rail: "alipay".into(),
            currency: 4,
            minor: 1,
            policy: RefundPolicy::default(),
            qr: String::new(),
            created_ms: 0,
            expires_ms: 1_000_000,
            asking: Asking { count: 0, last_ms: 0, next_ms: 60_000 },
            key: None,
        };
        let mut times = Vec::new();
        for _ in 0..7 {
            let now_ms = order.asking.next_ms;
            times.push(now_ms);
            order.asking = next_of(&order, Duration::from_secs(60), now_ms);
        }
        let end = [1_000_000, 1_000_000 + GRACE_MS];
        assert_eq!(times, [60_000, 180_000, 420_000, 900_000, end[0], end[1], end[1] + 960_000]);
    }
}
