use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{Ticketer, cipher_suite, default_provider, kx_group};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// A client that speaks TLS as Meta's senders do: 1.3, AES-128-GCM, X25519; the roots come from a
/// PEM file.
///
/// # Errors
/// The file can't be read, or holds no certificate.
pub fn client_config(ca: &Path) -> Result<ClientConfig> {
    client_config_with(ca, provider())
}

/// The same for one that would rather agree by X25519MLKEM768, as browsers do.
///
/// # Errors
/// As [`client_config`].
pub fn hybrid_client_config(ca: &Path) -> Result<ClientConfig> {
    let mut provider = provider();
    provider.kx_groups.insert(0, kx_group::X25519MLKEM768);
    client_config_with(ca, provider)
}

fn client_config_with(ca: &Path, provider: CryptoProvider) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).context("reading the authority")? {
        roots.add(certificate?)?;
    }
    let builder =
        ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&[&TLS13])?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// A server that speaks the same, with session tickets; certificates and key come from PEM files.
///
/// # Errors
/// A file can't be read, or they don't fit together.
pub fn server_config(cert: &Path, key: &Path) -> Result<ServerConfig> {
    let certificates = CertificateDer::pem_file_iter(cert).context("reading the certificate")?;
    let certificates = certificates.collect::<Result<Vec<_>, _>>().context("reading the certificate")?;
    let key = PrivateKeyDer::from_pem_file(key).context("reading the key")?;
    let builder =
        ServerConfig::builder_with_provider(Arc::new(provider())).with_protocol_versions(&[&TLS13])?;
    let mut config = builder.with_no_client_auth().with_single_cert(certificates, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = Ticketer::new()?;
    Ok(config)
}

fn provider() -> CryptoProvider {
    let mut provider = default_provider();
    provider.cipher_suites = vec![cipher_suite::TLS13_AES_128_GCM_SHA256];
    provider.kx_groups = vec![kx_group::X25519];
    provider
}
