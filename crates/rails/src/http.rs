//! One exchange with a service of the configuration: bounded in size and time, no redirects (X402-40).

mod kept;
mod lines;
mod link;

use std::time::Duration;

use ::http::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use ::http::{Method, Request};
use bytes::Bytes;
use http_body_util::Full;

pub(crate) use kept::Kept;
pub(crate) use lines::Lines;
use link::{Link, Unanswered};

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
        let (origin, time_max, answer_bytes_max) = (self.origin, self.time_max, self.answer_bytes_max);
        let request = self.request(headers)?;
        let (answer, _) = ask_anew(request, origin, dialer, time_max, answer_bytes_max).await?;
        Ok(answer)
    }

    /// The same on a connection that was kept from before, if one stands, and keeps it again.
    ///
    /// # Errors
    /// As [`Exchange::run`].
    ///
    /// # Cancel safety
    /// As [`Exchange::run`].
    pub(crate) async fn run_kept(self, dialer: &Dialer) -> Result<Answer, ExchangeError> {
        let (origin, time_max, answer_bytes_max) = (self.origin, self.time_max, self.answer_bytes_max);
        let request = self.request(HeaderMap::new())?;
        let asked = match dialer.kept.take(origin).await {
            None => Err(Unanswered::NotSent(Box::new(request))),
            Some(link) => within(time_max, link.ask(request, answer_bytes_max)).await,
        };
        let (answer, link) = match asked {
            Ok(answered) => answered,
            Err(Unanswered::NotSent(request)) => {
                ask_anew(*request, origin, dialer, time_max, answer_bytes_max).await?
            }
            Err(Unanswered::Lost) => return Err(ExchangeError::Lost),
        };
        if let Some(link) = link {
            dialer.kept.put(origin, link);
        }
        Ok(answer)
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
        let request = self.request(headers)?;
        let opening = async { Link::over(stream).await?.lines(request, deadline, bytes_max).await };
        tokio::time::timeout_at(deadline, opening).await.map_err(|_| ExchangeError::Lost)?
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

/// Asks on a connection of its own, which comes back where it still stands.
async fn ask_anew(
    request: Request<Full<Bytes>>,
    origin: &Origin,
    dialer: &Dialer,
    time_max: Duration,
    answer_bytes_max: usize,
) -> Result<(Answer, Option<Link>), ExchangeError> {
    let stream = dialer.dial(origin).await.map_err(|_| ExchangeError::NotSent)?;
    let link = Link::over(stream).await?;
    within(time_max, link.ask(request, answer_bytes_max)).await.map_err(|unanswered| match unanswered {
        Unanswered::NotSent(_) => ExchangeError::NotSent,
        Unanswered::Lost => ExchangeError::Lost,
    })
}

async fn within<T>(
    time_max: Duration,
    asking: impl Future<Output = Result<T, Unanswered>>,
) -> Result<T, Unanswered> {
    tokio::time::timeout(time_max, asking).await.map_err(|_| Unanswered::Lost)?
}

#[cfg(test)]
mod tests;
