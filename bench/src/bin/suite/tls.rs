//! A certificate for loopback, made anew for each run.

use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// Who it is for.
pub(crate) const HOST: &str = "localhost";

/// A certificate that vouches for itself, in PEM.
pub(crate) struct Certificate {
    cert: String,
    key: String,
}

impl Certificate {
    pub(crate) fn new() -> Result<Self, String> {
        let told = |error: rcgen::Error| error.to_string();
        let key = KeyPair::generate().map_err(told)?;
        let params = CertificateParams::new(vec![HOST.to_owned()]).map_err(told)?;
        let cert = params.self_signed(&key).map_err(told)?;
        Ok(Self { cert: cert.pem(), key: key.serialize_pem() })
    }

    /// Writes `cert.pem` and `key.pem`.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), String> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        for (name, text) in [("cert.pem", &self.cert), ("key.pem", &self.key)] {
            let path = folder.join(name);
            let file =
                std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path);
            let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
            written.map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.cert.as_bytes()).collect();
        read.map_err(|error| error.to_string())
    }

    /// For a client that trusts this certificate alone.
    pub(crate) fn client(&self, protocol: &str) -> Result<Arc<ClientConfig>, String> {
        let mut roots = RootCertStore::empty();
        for cert in self.chain()? {
            roots.add(cert).map_err(|error| error.to_string())?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Ok(Arc::new(config))
    }

    /// For a server that has it.
    pub(crate) fn server(&self, protocol: &str) -> Result<Arc<ServerConfig>, String> {
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|error| error.to_string())?;
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let config = builder.with_no_client_auth().with_single_cert(self.chain()?, key);
        let mut config = config.map_err(|error| error.to_string())?;
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Ok(Arc::new(config))
    }
}

/// The name that a client expects.
pub(crate) fn name() -> Result<ServerName<'static>, String> {
    ServerName::try_from(HOST).map_err(|error| error.to_string())
}
