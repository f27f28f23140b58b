//! A call that money moves for outlives its client. It runs where its connection waits for it, so that no task is made and
//! nobody is woken for it, and as a task of its own from when the connection has gone.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::mpsc;

/// What a thread still has to do when nobody waits for it any more.
pub(crate) type Rest = Pin<Box<dyn Future<Output = ()>>>;

/// A call, as its connection waits for it.
///
/// # Cancel safety
/// Dropped before its end it goes on.
pub(crate) struct Outliving<T: 'static> {
    call: Option<Pin<Box<dyn Future<Output = T>>>>,
    left: mpsc::UnboundedSender<Rest>,
}

/// A call has panicked.
#[derive(Debug, thiserror::Error)]
#[error("the call panicked")]
pub(crate) struct CutShort;

impl<T> Outliving<T> {
    /// `left` takes it when its connection has gone.
    pub(crate) fn new(call: Pin<Box<dyn Future<Output = T>>>, left: mpsc::UnboundedSender<Rest>) -> Self {
        Self { call: Some(call), left }
    }
}

impl<T> Future for Outliving<T> {
    type Output = Result<T, CutShort>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(call) = &mut self.call else { return Poll::Ready(Err(CutShort)) };
        // A call that panics gets an answer, and its connection stays. Nothing of it is used afterwards: it is dropped.
        let polled = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context)));
        let ended = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(answer)) => Ok(answer),
            Err(_) => Err(CutShort),
        };
        self.call = None;
        Poll::Ready(ended)
    }
}

impl<T> Drop for Outliving<T> {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            // If nobody takes it, the process ends: dropping the call gives back what it holds.
            let _ = self.left.send(Box::pin(async move { drop(call.await) }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use tokio::sync::{mpsc, oneshot};

    use super::{CutShort, Outliving};

    #[tokio::test]
    async fn a_call_ends_whether_its_client_waits_or_not() {
        for leaves in [false, true] {
            let (left, mut taken) = mpsc::unbounded_channel();
            let ((upstream, head), ended) = (oneshot::channel(), Rc::new(std::cell::Cell::new(0)));
            let seen = Rc::clone(&ended);
            let call = async move {
                seen.set(head.await.unwrap_or(0));
                "answer"
            };
            let mut waiting = Outliving::new(Box::pin(call), left);
            assert!(once(&mut waiting).await.is_none());
            if leaves {
                drop(waiting);
                upstream.send(7).unwrap();
                taken.recv().await.unwrap().await;
            } else {
                upstream.send(7).unwrap();
                assert!(matches!(waiting.await, Ok("answer")));
                assert!(taken.try_recv().is_err(), "it has ended");
            }
            assert_eq!(ended.get(), 7);
        }
    }

    #[tokio::test]
    async fn a_call_that_panics_takes_nobody_with_it() {
        let (left, mut taken) = mpsc::unbounded_channel();
        let call = async {
            if std::hint::black_box(true) {
                panic!("a bug")
            }
        };
        assert!(matches!(Outliving::new(Box::pin(call), left).await, Err(CutShort)));
        assert!(taken.try_recv().is_err(), "nothing of it goes on");
    }

    /// What it has, if it has ended.
    async fn once<T>(waiting: &mut Outliving<T>) -> Option<Result<T, CutShort>> {
        tokio::time::timeout(std::time::Duration::ZERO, waiting).await.ok()
    }
}
