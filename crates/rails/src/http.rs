//! One exchange with a service of the configuration: bounded in size and time, no redirects (X402-40).

mod lines;

use std::time::Duration;

use ::http::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use ::http::{Method, Request, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use wire::x402::bazaar::EXTENSION_RESPONSES;

pub(crate) use lines::Lines;

use crate::dial::{Dialer, Origin, Stream};

/// Largest answer of a service that talks about payments.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What to send, where.
#[derive(Clone, Debug)]
pub struct Exchange<'a> {
    /// The service.
    pub origin: &'a Origin,
    /// GET or POST.
    pub method: Method,
    /// Path below the origin, from configuration.
    pub path: &'a str,
    /// JSON unless a header says otherwise; empty for GET.
    pub body: Bytes,
    /// From the first byte written to the last byte read.
    pub time_max: Duration,
    /// Largest answer that is read.
    pub answer_bytes_max: usize,
}

/// A whole answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// As long as was allowed.
    pub body: Bytes,
    /// `EXTENSION-RESPONSES`, where an x402 facilitator sent it.
    pub extension_responses: Option<String>,
}

/// How far an exchange got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// Nothing was sent.
    #[error("not sent")]
    NotSent,
    /// Sent, or partly sent, and no whole answer came.
    #[error("no whole answer")]
    Lost,
}

type Sender = hyper::client::conn::http1::SendRequest<Full<Bytes>>;
type Connection = hyper::client::conn::http1::Connection<TokioIo<Stream>, Full<Bytes>>;

impl Exchange<'_> {
    /// Sends and reads the answer on a connection of its own.
    ///
    /// # Errors
    /// [`ExchangeError`] tells whether the service may have acted.
    ///
    /// # Cancel safety
    /// Dropped midway, the service may have acted.
    pub async fn run(self, dialer: &Dialer) -> Result<Answer, ExchangeError> {
        self.run_with(HeaderMap::new(), dialer).await
    }

    /// The same, with these headers beside the usual ones, or in their place.
    ///
    /// # Errors
    /// As [`Exchange::run`].
    ///
    /// # Cancel safety
    /// As [`Exchange::run`].
    pub async fn run_with(self, headers: HeaderMap, dialer: &Dialer) -> Result<Answer, ExchangeError> {
        let stream = dialer.dial(self.origin).await.map_err(|_| ExchangeError::NotSent)?;
        tokio::time::timeout(self.time_max, self.over(headers, stream))
            .await
            .map_err(|_| ExchangeError::Lost)?
    }

    /// Sends, and gives the answer line by line as it comes. Size and time bound all of it together.
    ///
    /// # Errors
    /// As [`Exchange::run`].
    ///
    /// # Cancel safety
    /// As [`Exchange::run`].
    pub(crate) async fn lines(self, headers: HeaderMap, dialer: &Dialer) -> Result<Lines, ExchangeError> {
        let stream = dialer.dial(self.origin).await.map_err(|_| ExchangeError::NotSent)?;
        let (time_max, bytes_max) = (self.time_max, self.answer_bytes_max);
        let deadline = tokio::time::Instant::now() + time_max;
        let opening = async {
            let (mut sender, mut connection) = handshake(stream).await?;
            let request = self.request(headers)?;
            let answering = sender.send_request(request);
            tokio::pin!(answering);
            let (response, connection): (Response<Incoming>, _) = tokio::select! {
                response = &mut answering => (response.map_err(|_| ExchangeError::Lost)?, Some(connection)),
                _ = &mut connection => (answering.await.map_err(|_| ExchangeError::Lost)?, None),
            };
            Ok(Lines::new(response, connection, deadline, bytes_max))
        };
        tokio::time::timeout_at(deadline, opening).await.map_err(|_| ExchangeError::Lost)?
    }

    async fn over(self, headers: HeaderMap, stream: Stream) -> Result<Answer, ExchangeError> {
        use ExchangeError as E;
        let (mut sender, connection) = handshake(stream).await?;
        let answer_bytes_max = self.answer_bytes_max;
        let request = self.request(headers)?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|_| E::Lost)?;
            let status = response.status().as_u16();
            let said = response.headers().get(EXTENSION_RESPONSES).and_then(|value| value.to_str().ok());
            let extension_responses = said.map(str::to_owned);
            let body =
                Limited::new(response.into_body(), answer_bytes_max).collect().await.map_err(|_| E::Lost)?;
            Ok(Answer { status, body: body.to_bytes(), extension_responses })
        };
        tokio::pin!(exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            _ = connection => exchange.await,
        }
    }

    fn request(self, headers: HeaderMap) -> Result<Request<Full<Bytes>>, ExchangeError> {
        let mut request = Request::builder()
            .method(self.method)
            .uri(self.path)
            .header(HOST, self.origin.authority())
            .body(Full::new(self.body))
            .map_err(|_| ExchangeError::NotSent)?;
        let sent = request.headers_mut();
        sent.insert(ACCEPT, HeaderValue::from_static("application/json"));
        sent.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in &headers {
            sent.insert(name, value.clone());
        }
        Ok(request)
    }
}

async fn handshake(stream: Stream) -> Result<(Sender, Connection), ExchangeError> {
    hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|_| ExchangeError::NotSent)
}
