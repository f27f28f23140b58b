//! Outgoing connections to hosts of the operator's configuration, and to nobody else (SEC-40).

mod pinned;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, TlsStream};

use pinned::Pinned;

use crate::http::Kept;

/// Where to connect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// TLS or plain.
    pub tls: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Origin {
    /// `host`, or `host:port` when the port is not the scheme's own: the value of a `Host` field.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let usual = if self.tls { 443 } else { 80 };
        if self.port == usual { host } else { format!("{host}:{}", self.port) }
    }
}

/// A TCP connection, plain or within TLS.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS, as client or server.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Opens connections. One per set of trusted roots: its TLS sessions are reused, and connections where that is asked for.
#[derive(Clone, Debug)]
pub struct Dialer {
    tls: Arc<ClientConfig>,
    connect_max: Duration,
    pub(crate) kept: Arc<Kept>,
}

impl Dialer {
    /// Trusts the Mozilla roots and `extra` ones. Gives up on a connection after `connect_max`.
    ///
    /// # Errors
    /// An extra root that is no certificate.
    pub fn new(extra: &[CertificateDer<'static>], connect_max: Duration) -> io::Result<Self> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for root in extra {
            roots.add(root.clone()).map_err(io::Error::other)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(tls), connect_max, kept: Arc::default() })
    }

    /// Trusts these certificates, or what they have signed, and nobody else: not the public roots either.
    ///
    /// # Errors
    /// None given, or one that is no certificate.
    pub fn pinned(certificates: &[CertificateDer<'static>], connect_max: Duration) -> io::Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Arc::new(Pinned::new(certificates, Arc::clone(&provider))?);
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(tls), connect_max, kept: Arc::default() })
    }

    /// The same, with other patience.
    #[must_use]
    pub fn within(&self, connect_max: Duration) -> Self {
        Self { connect_max, ..self.clone() }
    }

    /// The same for hosts that have to speak `protocol` (a name of ALPN) where there is TLS.
    #[must_use]
    pub fn speaking(&self, protocol: &[u8]) -> Self {
        let mut tls = ClientConfig::clone(&self.tls);
        tls.alpn_protocols = vec![protocol.to_vec()];
        Self { tls: Arc::new(tls), connect_max: self.connect_max, kept: Arc::default() }
    }

    /// Connects, and ends the TLS handshake where there is one.
    ///
    /// # Errors
    /// Anything before the connection stands: nothing of a request has been sent then.
    pub async fn dial(&self, origin: &Origin) -> io::Result<Stream> {
        tokio::time::timeout(self.connect_max, self.connect(origin))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "connect timed out"))?
    }

    async fn connect(&self, origin: &Origin) -> io::Result<Stream> {
        let tcp = TcpStream::connect((origin.host.as_str(), origin.port)).await?;
        tcp.set_nodelay(true)?;
        if !origin.tls {
            return Ok(Stream::Plain(tcp));
        }
        self.secure(tcp, &origin.host).await
    }

    /// TLS over a connection that stands, with whoever is called `host`. Takes as long as it takes.
    pub(crate) async fn secure(&self, tcp: TcpStream, host: &str) -> io::Result<Stream> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let tls = TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await?;
        // Who ignores what is asked for would take another protocol's bytes for his own.
        let wanted = self.tls.alpn_protocols.first().map(Vec::as_slice);
        if wanted.is_some() && tls.get_ref().1.alpn_protocol() != wanted {
            return Err(io::Error::other("the host does not speak the protocol that is asked for"));
        }
        Ok(Stream::Tls(Box::new(tls.into())))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests;
