//! Certificates of the tests' own making, and an upstream behind one.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::gateway::PATIENCE;
use crate::upstream::{Seen, friendly_answer, read_request};

/// A private authority.
#[derive(Debug)]
pub struct Authority {
    root: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
#[derive(Debug)]
pub struct Issued {
    /// Chain.
    pub cert: String,
    /// Key.
    pub key: String,
}

impl Authority {
    /// A fresh one.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap();
        Self { root, issuer: Issuer::new(params, key) }
    }

    /// A certificate for a name or an address.
    pub fn issue(&self, name: &str) -> Issued {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Issued { cert: cert.pem(), key: key.serialize_pem() }
    }

    /// The root in PEM.
    pub fn pem(&self) -> String {
        self.root.pem()
    }

    /// What a client that trusts this authority alone uses.
    pub fn client(&self, protocols: &[&str]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

impl Issued {
    /// What a server with this certificate uses.
    pub fn server(&self, protocols: &[&str]) -> Arc<ServerConfig> {
        let certs = rustls::pki_types::CertificateDer::pem_slice_iter(self.cert.as_bytes());
        let certs = certs.collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(certs, key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// Writes both files, the key for its owner only.
    pub fn write(&self, cert: &Path, key: &Path) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(cert, &self.cert).unwrap();
        std::fs::write(key, &self.key).unwrap();
        std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// A friendly upstream that speaks TLS. Its threads end with the process.
#[derive(Debug)]
pub struct TlsUpstream {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl TlsUpstream {
    /// Starts it with a certificate.
    pub fn start(issued: &Issued) -> Self {
        let config = issued.server(&[]);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let upstream = Self { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let seen = Arc::clone(&upstream.seen);
        thread::spawn(move || {
            for tcp in listener.incoming() {
                let (Ok(tcp), Ok(tls)) = (tcp, ServerConnection::new(Arc::clone(&config))) else { return };
                let seen = Arc::clone(&seen);
                thread::spawn(move || {
                    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
                    let mut stream = StreamOwned::new(tls, tcp);
                    if let Some(request) = read_request(&mut stream) {
                        seen.lock().unwrap().push(request.clone());
                        let _ = stream.write_all(&friendly_answer(&request));
                        stream.conn.send_close_notify();
                        let _ = stream.flush();
                    }
                });
            }
        });
        upstream
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}
