//! TLS towards upstreams: who is believed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::access::Access;
use crate::config;
use crate::tls::{BadTls, ServerVerifier, add_roots, certificates, provider};

/// The machine's own roots. Certificates that it has and that cannot be used are left out.
pub(super) fn platform_roots(access: &dyn Access) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // Whoever needs them says that there are none.
    roots.add_parsable_certificates(access.roots().unwrap_or_default());
    roots
}

/// TLS as towards an upstream, for whoever has no upstream: the machine's own roots and those in `ca` are believed,
/// or anyone unless `verify`.
pub fn client_config_of(
    ca: Option<&Path>,
    verify: bool,
    access: &dyn Access,
) -> Result<Arc<ClientConfig>, BadTls> {
    let roots = if verify { platform_roots(access) } else { RootCertStore::empty() };
    client_config(&Arc::new(roots), &Trust { ca: ca.map(Path::to_owned), verify }, access)
}

/// Whom an upstream is believed to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Trust {
    /// A PEM file with more roots.
    pub(super) ca: Option<PathBuf>,
    /// False: anyone.
    pub(super) verify: bool,
}

impl Trust {
    pub(super) fn of(upstream: &config::Upstream) -> Self {
        Self { ca: upstream.ca.clone(), verify: upstream.verify }
    }
}

/// TLS 1.2 and 1.3, HTTP/1.1 alone, verified against `roots` and those of `trust`.
pub(super) fn client_config(
    roots: &Arc<RootCertStore>,
    trust: &Trust,
    access: &dyn Access,
) -> Result<Arc<ClientConfig>, BadTls> {
    let provider = provider();
    let verifier: Arc<dyn ServerCertVerifier> = if trust.verify {
        let mut roots = Arc::clone(roots);
        let mut pinned = Vec::new();
        if let Some(path) = &trust.ca {
            pinned = certificates(path, access)?;
            add_roots(Arc::make_mut(&mut roots), &pinned, path)?;
        }
        let algorithms = provider.signature_verification_algorithms;
        Arc::new(ServerVerifier::new(roots, pinned.into(), algorithms))
    } else {
        Arc::new(Unverified(Arc::clone(&provider)))
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // For the kernel.
    config.enable_secret_extraction = true;
    Ok(Arc::new(config))
}

/// Believes every certificate; only the handshake's signature must be its key's.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
