//! Signed tree heads: at intervals the gateway signs what its journal is, so that a receipt can be proven to be
//! in it and no entry can be changed unseen (ledger.md 8.3).

use std::sync::Arc;
use std::time::{Duration, Instant};

use proof::{SigningKey, receipt};
use serde_json::{Value, json};
use store::{Op, SignedHead, Store, StoreError};

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
    loop {
        tick.tick().await;
        let reader = gate.store.reader();
        let (Ok(signed), Ok(now)) = (reader.head(), reader.unsigned_head(Now::read().millis())) else {
            continue;
        };
        let behind = now.size.saturating_sub(signed.map_or(0, |signed| signed.head.size));
        if behind == 0 || (signed_at.elapsed() < EVERY && behind < ENTRIES_MAX) {
            continue;
        }
        match sign(&gate.store, &gate.keys.receipt).await {
            Ok(_) => signed_at = Instant::now(),
            Err(error) => tracing::error!(%error, "a tree head could not be signed"),
        }
    }
}

/// Signs what the journal is now. Never before the head that was signed last, whatever the clock says: whoever
/// remembers heads takes a shorter journal of a later time for a crime.
pub(crate) async fn sign(store: &Store, key: &SigningKey) -> Result<SignedHead, StoreError> {
    let last_ms = store.reader().head()?.map_or(0, |signed| signed.head.time_ms);
    let head = store.reader().unsigned_head(Now::read().millis().max(last_ms))?;
    let signature = proof::tree_head::sign(key, &head);
    store.commit(Op::Head { head, signature }).await?;
    Ok(SignedHead { head, signature })
}

/// A head that covers the entry `lsn`, which is durable: the last one, or a new one.
pub(crate) async fn covering(store: &Store, key: &SigningKey, lsn: u64) -> Result<SignedHead, StoreError> {
    match store.reader().head()? {
        Some(signed) if signed.head.size >= lsn => Ok(signed),
        Some(_) | None => sign(store, key).await,
    }
}

/// A head as receipts' proofs and witnesses have it.
pub(crate) fn shown(signed: &SignedHead, key: &SigningKey) -> Value {
    let (head, hex) = (&signed.head, wire::hex::encode);
    json!({
        "store_id": hex(&head.store_id), "epoch": head.epoch, "size": head.size, "root": hex(&head.root),
        "last_hash": hex(&head.last_hash), "time_ms": head.time_ms,
        "kid": receipt::kid(&key.verifying_key()), "signature": hex(&signed.signature),
    })
}
