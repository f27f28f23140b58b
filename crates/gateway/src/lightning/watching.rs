//! What goes on beside requests: the price of a bitcoin is read, and the node tells what it got.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rails::lightning::LightningNode;

use crate::clock::Now;
use crate::gate::Gate;
use crate::snapshot::Snapshot;

/// How often it is looked whether another configuration is in force.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What is told sooner has been there before it was asked for.
const AT_ONCE: Duration = Duration::from_millis(200);
/// Wait after a question to the node that failed.
const PAUSE: Duration = Duration::from_secs(5);

/// Watches until the process ends. Nobody waits for it: start-up neither, nor a request.
pub(crate) async fn watch(gate: Arc<Gate>) {
    loop {
        let snapshot = gate.snapshot.load_full();
        let swapped = until_swapped(&gate, &snapshot);
        match &snapshot.lightning {
            None => swapped.await,
            Some(desk) => {
                let reading = async {
                    desk.rate().keep_reading(|| Now::read().seconds()).await;
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    () = swapped => {}
                    () = reading => {}
                    () = account(&gate, desk.node(), desk.name()) => {}
                }
            }
        }
    }
}

async fn until_swapped(gate: &Gate, known: &Arc<Snapshot>) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    while Arc::ptr_eq(&gate.snapshot.load(), known) {
        tick.tick().await;
        gate.metrics.invoices_open(gate.invoices.open(Now::read().seconds()));
    }
}

/// Counts what the node got: paid and never shown is found by comparing that with what was credited. Nothing waits for
/// it, and nothing is credited by it. What the node got before we listened is not counted: it tells that at once.
async fn account(gate: &Gate, node: &LightningNode, name: &str) {
    let mut heard = gate.invoices.heard(name);
    loop {
        let asked = Instant::now();
        match node.next_settled(heard.cursor).await {
            Ok(settled) => {
                heard.is_live |= settled.is_empty() || asked.elapsed() > AT_ONCE;
                // The same may be told twice, and in any order.
                let told: BTreeMap<u64, u64> =
                    settled.iter().map(|payment| (payment.cursor, payment.msat)).collect();
                for (_, msat) in told.range(heard.cursor.saturating_add(1)..).filter(|_| heard.is_live) {
                    gate.metrics.invoice_paid(*msat);
                }
                heard.cursor = told.keys().next_back().map_or(heard.cursor, |last| heard.cursor.max(*last));
                gate.invoices.hear(name, heard);
            }
            Err(error) => {
                tracing::debug!(%error, "the Lightning node did not tell what it got");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
