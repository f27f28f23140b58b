//! What becomes of a write that nobody has to wait for.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::read::unavailable;
use crate::{Committed, Op, StoreError};

/// Whether the answer that depends on a write may go on.
#[derive(Debug)]
pub enum Submitted {
    /// Yes: it is in the next batch, and the exposure is within its caps.
    Behind,
    /// Not before this has resolved.
    Wait(Durable),
}

/// A write that was not taken, given back to be handed over again: nobody has to copy one before he knows that.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct NotTaken {
    /// The write.
    pub op: Box<Op>,
    /// Why.
    pub why: StoreError,
}

/// Resolves when the write is on disk, or is known not to be.
///
/// # Cancel safety
/// Dropping it does not take the write back.
#[derive(Debug)]
pub struct Durable {
    pub(crate) answer: oneshot::Receiver<Result<Committed, StoreError>>,
    pub(crate) op: Box<Op>,
}

impl Durable {
    /// The write, for whoever has to hand it over again when there was no room for it.
    #[must_use]
    pub fn op(&self) -> &Op {
        &self.op
    }
}

impl Future for Durable {
    type Output = Result<Committed, StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer)
            .poll(context)
            .map(|answer| answer.unwrap_or_else(|_| Err(unavailable("closed"))))
    }
}
