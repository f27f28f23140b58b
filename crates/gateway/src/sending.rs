//! A request that goes up while it comes in: its body is never whole here, and stays within a size and its clocks.

use std::cell::Cell;
use std::future::Future as _;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::refusal::{Code, Refusal};

/// What is known of a request that is on its way, to all who have to know it.
#[derive(Clone, Debug)]
pub(crate) struct Sending(Rc<State>);

#[derive(Debug)]
struct State {
    /// Most bytes that it may have.
    bytes_max: u64,
    bytes: Cell<u64>,
    /// When something of the call has last moved, up or down.
    moved: Cell<Instant>,
    fault: Cell<Option<Fault>>,
}

/// Why the rest of a request does not come. It is the client's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// The client broke off.
    #[error("the request broke off")]
    Gone,
    /// It is larger than what the route takes.
    #[error("the request is larger than what is taken")]
    TooLarge,
    /// Nothing of it came.
    #[error("the request did not begin in time")]
    Late,
}

impl Sending {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self(Rc::new(State {
            bytes_max,
            bytes: Cell::new(0),
            moved: Cell::new(Instant::now()),
            fault: Cell::new(None),
        }))
    }

    /// The most that may go up, which is what has to be held for.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.0.bytes_max
    }

    /// What has gone up.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.bytes.get()
    }

    /// So much more has gone up.
    pub(crate) fn sent(&self, bytes: usize) {
        self.0.bytes.set(self.bytes().saturating_add(bytes as u64));
        self.touch();
    }

    /// Something has moved.
    pub(crate) fn touch(&self) {
        self.0.moved.set(Instant::now());
    }

    pub(crate) fn moved(&self) -> Instant {
        self.0.moved.get()
    }

    pub(crate) fn fault(&self) -> Option<Fault> {
        self.0.fault.get()
    }

    fn fail(&self, fault: Fault) -> Fault {
        self.0.fault.set(Some(fault));
        fault
    }

    /// Ends when nothing has moved for so long.
    pub(crate) async fn silent(&self, patience: Duration) {
        loop {
            let end = self.moved() + patience;
            if end <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

impl Fault {
    pub(crate) fn refusal(self) -> Refusal {
        match self {
            Self::Gone => Refusal::new(Code::BadBody, "The body broke off."),
            Self::TooLarge => Refusal::new(Code::BodyTooLarge, "The body is larger than this route takes."),
            Self::Late => Refusal::new(Code::RequestTimeout, "The body did not begin in time."),
        }
    }
}

/// The body as it goes up. Trailers of a client do not.
pub(crate) struct RequestStream {
    incoming: Incoming,
    sending: Sending,
    /// For its first piece; what has begun is bounded by the silence of both sides and the time of the call.
    first: Option<Pin<Box<Sleep>>>,
}

impl RequestStream {
    pub(crate) fn new(incoming: Incoming, sending: Sending, first_max: Duration) -> Self {
        let first = (!incoming.is_end_stream()).then(|| Box::pin(tokio::time::sleep(first_max)));
        Self { incoming, sending, first }
    }
}

impl Body for RequestStream {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let body = self.get_mut();
        loop {
            let frame = match Pin::new(&mut body.incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(Err(body.sending.fail(Fault::Gone)))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    let is_late = body.first.as_mut().is_some_and(|first| first.as_mut().poll(cx).is_ready());
                    return match is_late {
                        true => Poll::Ready(Some(Err(body.sending.fail(Fault::Late)))),
                        false => Poll::Pending,
                    };
                }
            };
            let Ok(chunk) = frame.into_data() else { continue };
            body.first = None;
            if body.sending.bytes().saturating_add(chunk.len() as u64) > body.sending.bytes_max() {
                return Poll::Ready(Some(Err(body.sending.fail(Fault::TooLarge))));
            }
            body.sending.sent(chunk.len());
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // What the client said of its length is not passed on: it may break off.
        SizeHint::default()
    }
}
