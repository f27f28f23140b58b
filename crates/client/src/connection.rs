//! One request on a connection of its own, and the answer's body as it arrives. Redirects are not followed.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rails::dial::{Dialer, Stream};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::task::JoinHandle;

use crate::signer::Unsent;
use crate::{Signer, Target};

/// What to send.
pub(crate) struct Outgoing<'a> {
    pub(crate) method: Method,
    pub(crate) target: &'a Target,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// A credential is among the headers: clear text then goes to this machine only (SEC-33).
    pub(crate) secret: bool,
    /// The end of the answer may say what the call cost.
    pub(crate) trailers: bool,
    /// Who signs it, where it has to be signed.
    pub(crate) signer: Option<&'a Signer>,
}

/// An answer, whose body is still arriving.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

/// How far a request got.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// Not one byte of the request left this machine.
    #[error("{0}")]
    NotSent(String),
    /// The request left, or part of it, and no answer came.
    #[error("{0}")]
    Lost(String),
}

/// The body of an answer, chunk by chunk as the network delivers it.
#[derive(Debug)]
pub struct Body {
    source: Source,
    idle_max: Duration,
    trailers: Option<HeaderMap>,
}

#[derive(Debug)]
enum Source {
    Network { incoming: Incoming, _connection: Connection },
    Memory(Option<Bytes>),
}

/// A body that ended before its end. What came before was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The connection broke.
    #[error("the answer broke off")]
    Broken,
    /// Nothing came for too long.
    #[error("the answer stalled")]
    Stalled,
    /// More than the reader takes.
    #[error("the answer is too long")]
    TooLong,
}

/// The task that drives a connection; it ends with the body.
#[derive(Debug)]
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Outgoing<'_> {
    /// Sends, and waits for the head of the answer at most `head_max`.
    pub(crate) async fn send(
        mut self,
        dialer: &Dialer,
        patience: (Duration, Duration),
    ) -> Result<Answer, SendError> {
        let (head_max, idle_max) = patience;
        let origin = self.target.origin();
        let unsent =
            |error: std::io::Error| SendError::NotSent(format!("{}: {error}", self.target.origin_text()));
        let stream = dialer.dial(origin).await.map_err(unsent)?;
        if self.secret && !is_private(&stream) {
            let why = format!("{} is not this machine, and the connection is not encrypted", origin.host);
            return Err(SendError::NotSent(why));
        }
        if let Some(signer) = self.signer {
            let (method, target, body) = (&self.method, self.target, &self.body);
            let unsent = Unsent { method, target, headers: &mut self.headers, body };
            signer.sign(unsent).map_err(|error| SendError::NotSent(error.to_string()))?;
        }
        let request = self.into_request().map_err(|error| SendError::NotSent(error.to_string()))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| SendError::NotSent(error.to_string()))?;
        let connection = Connection(tokio::spawn(async move {
            // An error shows as the answer's own.
            let _ = connection.await;
        }));
        let response = tokio::time::timeout(head_max, sender.send_request(request))
            .await
            .map_err(|_| SendError::Lost("no answer in time".to_owned()))?
            .map_err(|error| SendError::Lost(format!("the connection was lost: {error}")))?;
        let (parts, incoming) = response.into_parts();
        let source = Source::Network { incoming, _connection: connection };
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body: Body { source, idle_max, trailers: None },
        })
    }

    fn into_request(self) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut request = Request::builder()
            .method(self.method)
            .uri(self.target.path())
            .header(header::HOST, self.target.origin().authority());
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        for (name, value) in [(header::USER_AGENT, AGENT), (header::ACCEPT, "*/*")] {
            if !self.headers.contains_key(&name) {
                request = request.header(name, value);
            }
        }
        if self.trailers {
            request = request.header(header::TE, "trailers").header(header::CONNECTION, "te");
        }
        request.body(Full::new(self.body))
    }
}

const AGENT: &str = concat!("farthing/", env!("CARGO_PKG_VERSION"));

impl Body {
    pub(crate) const fn memory(bytes: Bytes) -> Self {
        Self { source: Source::Memory(Some(bytes)), idle_max: Duration::ZERO, trailers: None }
    }

    /// What came behind the last byte, once [`Body::chunk`] has said that the body ended.
    #[must_use]
    pub const fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_ref()
    }

    /// The next bytes as soon as there are any; `None` at the end.
    ///
    /// # Errors
    /// [`BodyError`]
    ///
    /// # Cancel safety
    /// Nothing is lost: call it again.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        let incoming = match &mut self.source {
            Source::Memory(bytes) => return Ok(bytes.take()),
            Source::Network { incoming, .. } => incoming,
        };
        loop {
            let frame = tokio::time::timeout(self.idle_max, incoming.frame()).await;
            let Some(frame) = frame.map_err(|_| BodyError::Stalled)? else { return Ok(None) };
            match frame.map_err(|_| BodyError::Broken)?.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Ok(Some(data)),
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            }
        }
    }

    /// The whole body, if it is at most `bytes_max` long.
    ///
    /// # Errors
    /// [`BodyError`]
    pub async fn collect(mut self, bytes_max: usize) -> Result<Bytes, BodyError> {
        let mut whole = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if whole.len() + chunk.len() > bytes_max {
                return Err(BodyError::TooLong);
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.into())
    }
}

/// Certificates to trust besides the usual ones, from PEM text.
///
/// # Errors
/// A sentence for people.
pub fn roots_from_pem(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match roots {
        Ok(roots) if roots.is_empty() => Err("no certificate in it"),
        Ok(roots) => Ok(roots),
        Err(_) => Err("not PEM"),
    }
}

/// A name that looks local may lead elsewhere: the connection itself is asked.
fn is_private(stream: &Stream) -> bool {
    match stream {
        Stream::Tls(_) => true,
        Stream::Plain(tcp) => tcp.peer_addr().is_ok_and(|peer| peer.ip().is_loopback()),
    }
}
