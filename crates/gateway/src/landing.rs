//! What has happened in memory on its way to the disk: waited for, or written whatever becomes of the answer.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use store::{Committed, Durable, Op, StoreError};
use tokio::runtime::Handle;

use crate::gate::Gate;
use crate::payments::Waits;

/// Wait between two tries to write to a disk that is full.
const LOOK_FOR_ROOM_EVERY: Duration = Duration::from_millis(500);

type Writing = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

/// A charge on its way to the disk. It is carried on by whoever waits for it, whom the store then wakes without a
/// detour, and in the background when he goes.
///
/// # Cancel safety
/// Dropping it does not take the write back.
pub(crate) struct Landing {
    writing: Option<Writing>,
    background: Handle,
}

impl Future for Landing {
    type Output = Result<(), StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(writing) = &mut self.writing else { return Poll::Ready(Ok(())) };
        let landed = writing.as_mut().poll(context);
        if landed.is_ready() {
            self.writing = None;
        }
        landed
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if let Some(writing) = self.writing.take() {
            // What becomes of it is logged by itself.
            drop(self.background.spawn(writing));
        }
    }
}

/// Writes `op` whatever becomes of the answer; `waits` is over when that is done.
pub(crate) fn write_in_background(gate: &Gate, op: Op, waits: Waits) -> Landing {
    let store = gate.store.clone();
    landing(gate, waits, async move {
        let first = store.write(op.clone()).await;
        while_full(first, LOOK_FOR_ROOM_EVERY, || store.write(op.clone())).await
    })
}

/// As [`write_in_background`], for a write that was handed over already.
pub(crate) fn follow(gate: &Gate, mut durable: Durable) -> Landing {
    let store = gate.store.clone();
    landing(gate, Waits::default(), async move {
        let first = (&mut durable).await;
        while_full(first, LOOK_FOR_ROOM_EVERY, || store.write(durable.op().clone())).await
    })
}

/// One that cannot be written.
pub(crate) fn refused(gate: &Gate, error: StoreError) -> Landing {
    Landing { writing: Some(Box::pin(std::future::ready(Err(error)))), background: gate.background.clone() }
}

fn landing(
    gate: &Gate,
    waits: Waits,
    writing: impl Future<Output = Result<Committed, StoreError>> + Send + 'static,
) -> Landing {
    let writing = async move {
        let outcome = writing.await;
        if let Err(error) = &outcome {
            tracing::error!(%error, "the end of a call could not be recorded");
        }
        waits.over(outcome.is_ok());
        outcome.map(drop)
    };
    Landing { writing: Some(Box::pin(writing)), background: gate.background.clone() }
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
    use tokio::runtime::Handle;
    use tokio::sync::oneshot;

    use super::{Landing, while_full};

    fn landing(until: oneshot::Receiver<()>, done: oneshot::Sender<()>) -> Landing {
        let writing = async move {
            let written = until.await.map_err(|_| StoreError::Conflict);
            done.send(()).map_err(|()| StoreError::Full)?;
            written
        };
        Landing { writing: Some(Box::pin(writing)), background: Handle::current() }
    }

    /// LED-27: neither who waits for a charge nor who leaves takes it back.
    #[tokio::test]
    async fn a_charge_lands_whether_it_is_waited_for_or_not() {
        for leaves in [false, true] {
            let ((disk, until), (done, landed)) = (oneshot::channel(), oneshot::channel());
            let mut landing = landing(until, done);
            // Begun by whoever waits ...
            assert!(tokio::time::timeout(Duration::ZERO, &mut landing).await.is_err());
            if leaves {
                // ... who may leave before its end.
                drop(landing);
                disk.send(()).unwrap();
            } else {
                disk.send(()).unwrap();
                assert_eq!(landing.await, Ok(()));
            }
            assert_eq!(landed.await, Ok(()), "{leaves}");
        }
    }

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
