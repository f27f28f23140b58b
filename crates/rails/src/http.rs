//! One JSON exchange with a service of the configuration: bounded in size and time, no redirects (X402-40).

use std::time::Duration;

use ::http::{Method, Request, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use wire::x402::bazaar::EXTENSION_RESPONSES;

use crate::dial::{Dialer, Origin};

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
    /// JSON body, empty for GET.
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

impl Exchange<'_> {
    /// Sends and reads the answer on a connection of its own.
    ///
    /// # Errors
    /// [`ExchangeError`] tells whether the service may have acted.
    ///
    /// # Cancel safety
    /// Dropped midway, the service may have acted.
    pub async fn run(self, dialer: &Dialer) -> Result<Answer, ExchangeError> {
        let stream = dialer.dial(self.origin).await.map_err(|_| ExchangeError::NotSent)?;
        tokio::time::timeout(self.time_max, self.over(stream)).await.map_err(|_| ExchangeError::Lost)?
    }

    async fn over(self, stream: crate::dial::Stream) -> Result<Answer, ExchangeError> {
        use ExchangeError as E;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|_| E::NotSent)?;
        let request = Request::builder()
            .method(self.method)
            .uri(self.path)
            .header(header::HOST, self.origin.authority())
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(self.body))
            .map_err(|_| E::NotSent)?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|_| E::Lost)?;
            let status = response.status().as_u16();
            let said = response.headers().get(EXTENSION_RESPONSES).and_then(|value| value.to_str().ok());
            let extension_responses = said.map(str::to_owned);
            let body = Limited::new(response.into_body(), self.answer_bytes_max)
                .collect()
                .await
                .map_err(|_| E::Lost)?;
            Ok(Answer { status, body: body.to_bytes(), extension_responses })
        };
        tokio::pin!(exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            _ = connection => exchange.await,
        }
    }
}
