//! What becomes of a write that nobody has to wait for.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::read::unavailable;
use crate::{Committed, StoreError};

/// Whether the answer that depends on a write may go on.
#[derive(Debug)]
pub enum Submitted {
    /// Yes: it is in the next batch, and the exposure is within its caps.
    Behind,
    /// Not before this has resolved.
    Wait(Durable),
}

/// Resolves when the write is on disk, or is known not to be.
///
/// # Cancel safety
/// Dropping it does not take the write back.
#[derive(Debug)]
pub struct Durable(pub(crate) oneshot::Receiver<Result<Committed, StoreError>>);

impl Future for Durable {
    type Output = Result<Committed, StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|answer| answer.unwrap_or_else(|_| Err(unavailable("closed"))))
    }
}
