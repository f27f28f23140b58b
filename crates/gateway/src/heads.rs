//! Signed tree heads: at intervals the gateway signs what its journal is, so that a receipt can be proven to be
//! in it and no entry can be changed unseen (ledger.md 8.3).

use std::sync::Arc;
use std::time::{Duration, Instant};

use ledger::TreeHead;
use store::{Op, SignedHead, StoreError};

use crate::clock::Now;
use crate::gate::Gate;

/// A head is signed when the journal has grown and the last one is so old, or so many entries behind.
const EVERY: Duration = Duration::from_secs(10);
const ENTRIES_MAX: u64 = 10_000;
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Signs heads until the process ends.
pub(crate) async fn keep(gate: Arc<Gate>) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    let mut signed_at = Instant::now();
    let mut signed_size = gate.store.reader().head().ok().flatten().map_or(0, |signed| signed.head.size);
    loop {
        tick.tick().await;
        let Ok(size) = gate.store.reader().tree_size() else { continue };
        let due = signed_at.elapsed() >= EVERY || size.saturating_sub(signed_size) >= ENTRIES_MAX;
        if size == signed_size || !due {
            continue;
        }
        match sign(&gate).await {
            Ok(signed) => (signed_at, signed_size) = (Instant::now(), signed.head.size),
            Err(error) => tracing::error!(%error, "a tree head could not be signed"),
        }
    }
}

/// Signs what the journal is now.
pub(crate) async fn sign(gate: &Gate) -> Result<SignedHead, StoreError> {
    let reader = gate.store.reader();
    let tree = reader.tree()?;
    let head = TreeHead {
        store_id: reader.store_id()?,
        epoch: gate.store_epoch,
        size: tree.size,
        root: tree.root,
        last_hash: tree.last_hash,
        time_ms: Now::read().millis(),
    };
    let signed = SignedHead { signature: proof::tree_head::sign(&gate.keys.receipt, &head), head };
    gate.store.commit(Op::Head { signed: signed.clone() }).await?;
    Ok(signed)
}

/// A head that covers the entry `lsn`, which is durable: the last one, or a new one.
pub(crate) async fn covering(gate: &Gate, lsn: u64) -> Result<SignedHead, StoreError> {
    match gate.store.reader().head()? {
        Some(signed) if signed.head.size >= lsn => Ok(signed),
        Some(_) | None => sign(gate).await,
    }
}
