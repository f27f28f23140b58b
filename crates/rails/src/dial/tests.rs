//! Who is dialled, and who is believed.

use std::slice::from_ref;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{Dialer, Origin, Stream};

const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn authority_names_only_an_unusual_port() {
    for (tls, host, port, expected) in [
        (true, "api.example.com", 443, "api.example.com"),
        (false, "localhost", 8080, "localhost:8080"),
        (false, "::1", 80, "[::1]"),
    ] {
        assert_eq!(Origin { tls, host: host.into(), port }.authority(), expected);
    }
}

/// A certificate and its key.
struct Server {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

/// As LND makes its own: signed by itself, and an authority.
fn self_signed(name: &str) -> Server {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap();
    Server { certificate: certificate.der().clone(), key: key.into() }
}

/// As Core Lightning does: an authority, and a server below it.
fn issued(name: &str) -> (CertificateDer<'static>, Server) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let root = params.self_signed(&key).unwrap().der().clone();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    (root, Server { certificate: certificate.der().clone(), key: key.into() })
}

/// Whether a dialer gets through to this server under this name, and how much the server read of what was sent.
async fn through(dialer: &Dialer, server: Server, host: &str) -> (bool, usize) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = Origin { tls: true, host: host.to_owned(), port: listener.local_addr().unwrap().port() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![server.certificate], server.key)
        .unwrap();
    let accepting = async {
        let (tcp, _) = listener.accept().await.unwrap();
        let Ok(mut tls) = TlsAcceptor::from(Arc::new(config)).accept(tcp).await else { return 0 };
        let mut read = Vec::new();
        let _ = tls.read_to_end(&mut read).await;
        read.len()
    };
    let dialling = async {
        let Ok(mut stream) = dialer.dial(&origin).await else { return false };
        assert!(matches!(stream, Stream::Tls(_)));
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"macaroon").await.unwrap();
        tokio::io::AsyncWriteExt::shutdown(&mut stream).await.unwrap();
        true
    };
    tokio::join!(dialling, accepting)
}

#[tokio::test]
async fn l402_71_only_what_is_pinned_is_believed() {
    let pinned = |certificates: &[_]| Dialer::pinned(certificates, PATIENCE).unwrap();

    let node = self_signed("localhost");
    let dialer = pinned(from_ref(&node.certificate));
    assert_eq!(through(&dialer, node, "127.0.0.1").await, (true, 8), "itself, under another name");
    assert_eq!(
        through(&dialer, self_signed("localhost"), "localhost").await,
        (false, 0),
        "another of that name"
    );

    let (root, server) = issued("localhost");
    let dialer = pinned(from_ref(&root));
    assert_eq!(through(&dialer, server, "localhost").await, (true, 8), "below a pinned authority");
    let (_, elsewhere) = issued("localhost");
    assert_eq!(through(&dialer, elsewhere, "localhost").await, (false, 0), "below another authority");

    let (root, misnamed) = issued("node.example");
    let dialer = pinned(&[root]);
    assert_eq!(through(&dialer, misnamed, "localhost").await, (false, 0), "below it, for another name");

    let (_, server) = issued("localhost");
    let dialer = pinned(from_ref(&server.certificate));
    assert_eq!(
        through(&dialer, server, "127.0.0.1").await,
        (true, 8),
        "the server's own, without its authority"
    );
}

/// The public roots and an extra one are no pin: what they sign is believed, whoever holds it.
#[tokio::test]
async fn an_extra_root_stands_beside_the_public_ones() {
    let (root, server) = issued("localhost");
    let dialer = Dialer::new(&[root], PATIENCE).unwrap();
    assert_eq!(through(&dialer, server, "localhost").await, (true, 8));
    assert_eq!(through(&dialer, self_signed("localhost"), "localhost").await, (false, 0));
}

#[test]
fn nothing_pinned_is_no_pin() {
    assert!(Dialer::pinned(&[], PATIENCE).is_err());
    assert!(Dialer::pinned(&[CertificateDer::from(vec![1, 2, 3])], PATIENCE).is_err());
}
