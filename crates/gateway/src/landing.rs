//! What has happened in memory on its way to the disk: waited for, or written whatever becomes of the answer.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use store::{Committed, Durable, Op, StoreError};
use tokio::sync::oneshot;

use crate::gate::Gate;
use crate::payments::Waits;

/// Wait between two tries to write to a disk that is full.
const LOOK_FOR_ROOM_EVERY: Duration = Duration::from_millis(500);

/// A charge on its way to the disk.
pub(crate) type Landing = Pin<Box<dyn Future<Output = Result<(), StoreError>>>>;

/// Writes `op` whatever becomes of the answer; `waits` is over when that is done.
pub(crate) fn write_in_background(gate: &Gate, op: Op, waits: Waits) -> Landing {
    let store = gate.store.clone();
    in_background(gate, waits, async move {
        let first = store.write(op.clone()).await;
        while_full(first, LOOK_FOR_ROOM_EVERY, || store.write(op.clone())).await
    })
}

/// As [`write_in_background`], for a write that was handed over already.
pub(crate) fn follow(gate: &Gate, mut durable: Durable) -> Landing {
    let store = gate.store.clone();
    in_background(gate, Waits::default(), async move {
        let first = (&mut durable).await;
        while_full(first, LOOK_FOR_ROOM_EVERY, || store.write(durable.op().clone())).await
    })
}

fn in_background(
    gate: &Gate,
    waits: Waits,
    writing: impl Future<Output = Result<Committed, StoreError>> + Send + 'static,
) -> Landing {
    let (done, landed) = oneshot::channel();
    gate.background.spawn(async move {
        let outcome = writing.await;
        if let Err(error) = &outcome {
            tracing::error!(%error, "the end of a call could not be recorded");
        }
        waits.over(outcome.is_ok());
        // The answer may have gone.
        let _ = done.send(outcome.map(drop));
    });
    Box::pin(async move { landed.await.unwrap_or_else(|_| Err(StoreError::Unavailable("closed".into()))) })
}

/// What has happened in memory must come to the disk, or the two would differ for as long as the process
/// lives: while the disk is full it is tried again (LED-27, LED-28). What may begin then is refused elsewhere.
async fn while_full<T, F: Future<Output = Result<T, StoreError>>>(
    first: Result<T, StoreError>,
    wait: Duration,
    mut again: impl FnMut() -> F,
) -> Result<T, StoreError> {
    let mut outcome = first;
    while matches!(outcome, Err(StoreError::DiskFull)) {
        tokio::time::sleep(wait).await;
        outcome = again().await;
    }
    outcome
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use store::StoreError;

    use super::while_full;

    /// LED-28: nothing of money is dropped while there is no room, and nothing else is tried twice.
    #[tokio::test]
    async fn a_charge_is_written_again_until_there_is_room() {
        let unavailable = || StoreError::Unavailable(String::new());
        for (first, later, tries, end) in [
            (Ok(1), vec![], 0, Ok(1)),
            (Err(StoreError::DiskFull), vec![Err(StoreError::DiskFull), Ok(2)], 2, Ok(2)),
            (Err(StoreError::DiskFull), vec![Err(unavailable())], 1, Err(unavailable())),
            (Err(StoreError::Conflict), vec![Ok(3)], 0, Err(StoreError::Conflict)),
        ] {
            let tried = Cell::new(0);
            let ended = while_full(first, Duration::ZERO, || {
                let outcome = later[tried.get()].clone();
                tried.set(tried.get() + 1);
                std::future::ready(outcome)
            });
            assert_eq!(ended.await, end);
            assert_eq!(tried.get(), tries);
        }
    }
}
