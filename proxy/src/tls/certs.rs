use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config;

/// A certificate or key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadCertificate {
    #[error("cannot read {path}: {error}")]
    Unreadable { path: PathBuf, error: pem::Error },
    #[error("{path} holds no certificate: it must be a PEM file, the server's own certificate first")]
    Empty { path: PathBuf },
    #[error("the certificate in {cert} and the key in {key} do not work together: {error}")]
    Mismatch { cert: PathBuf, key: PathBuf, error: rustls::Error },
    #[error("a certificate in {path} cannot be used as a root: {error}")]
    Unusable { path: PathBuf, error: rustls::Error },
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// TLS 1.2 and 1.3 with one certificate, HTTP/1.1 alone.
pub fn server_config(tls: &config::Tls) -> Result<ServerConfig, BadCertificate> {
    let chain = certificates(&tls.cert)?;
    let unreadable = |error| BadCertificate::Unreadable { path: tls.key.clone(), error };
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(unreadable)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| BadCertificate::Mismatch { cert: tls.cert.clone(), key: tls.key.clone(), error })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
    Ok(config)
}

/// The certificates in a PEM file; never none.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, BadCertificate> {
    let unreadable = |error| BadCertificate::Unreadable { path: path.to_owned(), error };
    let found = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(unreadable)?;
    if found.is_empty() { Err(BadCertificate::Empty { path: path.to_owned() }) } else { Ok(found) }
}
