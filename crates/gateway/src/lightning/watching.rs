//! What goes on beside requests: the price of a bitcoin is read, and the node tells what it got.

use std::sync::Arc;
use std::time::Duration;

use rails::lightning::LightningNode;

use crate::clock::Now;
use crate::gate::Gate;
use crate::snapshot::Snapshot;

/// How often it is looked whether another configuration is in force.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Wait after a question to the node that failed, or that it answered at once with nothing.
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
                    () = account(&gate, desk.node()) => {}
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
/// it, and nothing is credited by it.
async fn account(gate: &Gate, node: &LightningNode) {
    let mut cursor = 0;
    loop {
        match node.next_settled(cursor).await {
            Ok(settled) if settled.is_empty() => tokio::time::sleep(PAUSE).await,
            Ok(settled) => {
                for payment in settled.iter().filter(|payment| payment.cursor > cursor) {
                    gate.metrics.invoice_paid(payment.msat);
                }
                cursor = settled.iter().map(|payment| payment.cursor).chain([cursor]).max().unwrap_or(cursor);
            }
            Err(error) => {
                tracing::debug!(%error, "the Lightning node did not tell what it got");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
