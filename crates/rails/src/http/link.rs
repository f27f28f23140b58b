//! A connection to a service, and what is asked over it.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use ::http::{Request, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use wire::x402::bazaar::EXTENSION_RESPONSES;

use super::{Answer, ExchangeError, Lines};
use crate::dial::Stream;

type Sender = http1::SendRequest<Full<Bytes>>;
pub(super) type Connection = http1::Connection<TokioIo<Stream>, Full<Bytes>>;

/// One connection. It is moved by whoever asks over it, and stands still in between.
pub(crate) struct Link {
    sender: Sender,
    connection: Connection,
}

/// A question has no answer.
pub(super) enum Unanswered {
    /// Nothing of it was sent, and here it is again.
    NotSent(Box<Request<Full<Bytes>>>),
    /// It was sent, or partly sent.
    Lost,
}

impl Link {
    pub(super) async fn over(stream: Stream) -> Result<Self, ExchangeError> {
        let made = http1::handshake(TokioIo::new(stream)).await;
        made.map(|(sender, connection)| Self { sender, connection }).map_err(|_| ExchangeError::NotSent)
    }

    /// Whether it may be asked over once more: its service has not closed it, nor said anything nobody has asked for.
    pub(super) async fn is_ready(&mut self) -> bool {
        let Self { sender, connection } = self;
        poll_fn(|cx| {
            let is_over = Pin::new(&mut *connection).poll(cx).is_ready();
            Poll::Ready(!is_over && matches!(sender.poll_ready(cx), Poll::Ready(Ok(()))))
        })
        .await
    }

    /// Sends and reads the whole answer. The connection comes back with it where it still stands.
    pub(super) async fn ask(
        self,
        request: Request<Full<Bytes>>,
        answer_bytes_max: usize,
    ) -> Result<(Answer, Option<Self>), Unanswered> {
        let Self { mut sender, mut connection } = self;
        let asking = async {
            let response = sender.try_send_request(request).await.map_err(|mut error| {
                error
                    .take_message()
                    .map_or(Unanswered::Lost, |request| Unanswered::NotSent(Box::new(request)))
            })?;
            let status = response.status().as_u16();
            let said = response.headers().get(EXTENSION_RESPONSES).and_then(|value| value.to_str().ok());
            let extension_responses = said.map(str::to_owned);
            let body = Limited::new(response.into_body(), answer_bytes_max).collect().await;
            let body = body.map_err(|_| Unanswered::Lost)?.to_bytes();
            Ok((sender, Answer { status, body, extension_responses }))
        };
        tokio::pin!(asking);
        let (asked, stands) = tokio::select! {
            asked = &mut asking => (asked, true),
            _ = &mut connection => (asking.await, false),
        };
        let (sender, answer) = asked?;
        Ok((answer, stands.then_some(Self { sender, connection })))
    }

    /// Sends, and gives the answer line by line as it comes.
    pub(super) async fn lines(
        self,
        request: Request<Full<Bytes>>,
        deadline: tokio::time::Instant,
        bytes_max: usize,
    ) -> Result<Lines, ExchangeError> {
        let Self { mut sender, mut connection } = self;
        let answering = sender.send_request(request);
        tokio::pin!(answering);
        let (response, connection): (Response<Incoming>, _) = tokio::select! {
            response = &mut answering => (response.map_err(|_| ExchangeError::Lost)?, Some(connection)),
            _ = &mut connection => (answering.await.map_err(|_| ExchangeError::Lost)?, None),
        };
        Ok(Lines::new(response, connection, deadline, bytes_max))
    }
}
