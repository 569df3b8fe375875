//! TLS towards upstreams: who is believed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::slice;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::access::{Access, MachineRoots};
use crate::config;
use crate::tls::{
    BadTls, Fingerprint, ServerVerifier, add_roots, certificates, fingerprint, provider,
    provider_without_ml_kem,
};

/// The machine's own root certificates.
#[derive(Clone, Debug)]
pub(super) struct Roots {
    pub(super) store: Arc<RootCertStore>,
    /// Identifies them regardless of their order.
    fingerprints: BTreeSet<Fingerprint>,
    /// Why some may be missing.
    pub(super) fault: Option<String>,
}

impl Roots {
    /// Certificates that cannot be used are left out.
    pub(super) fn read(access: &dyn Access) -> Self {
        let found = access.roots().unwrap_or_else(|error| MachineRoots::none(error.to_string()));
        let fingerprints = found.certificates.iter().map(|root| fingerprint(slice::from_ref(root))).collect();
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(found.certificates);
        Self { store: Arc::new(store), fingerprints, fault: found.fault }
    }

    pub(super) fn are_same_as(&self, others: &Self) -> bool {
        self.fingerprints == others.fingerprints
    }

    /// The numbers of certificates added and removed in `next`.
    pub(super) fn changes_to(&self, next: &Self) -> (usize, usize) {
        let (old, new) = (&self.fingerprints, &next.fingerprints);
        (new.difference(old).count(), old.difference(new).count())
    }
}

/// TLS as towards an upstream, without an upstream: the machine's own roots and those in `ca` are
/// trusted, or any without `verify`.
pub fn client_config_of(manner: &Manner, access: &dyn Access) -> Result<Arc<ClientConfig>, BadTls> {
    if !manner.verify {
        return unverified(&manner.provider());
    }
    let pinned = ca_certificates(manner.ca.as_deref(), access)?;
    client_config(&Roots::read(access).store, &pinned, manner)
}

/// The same with verification, and the fingerprint of the certificates in `ca`.
pub fn client_config_and_ca(
    ca: Option<&Path>,
    access: &dyn Access,
) -> Result<(Arc<ClientConfig>, Fingerprint), BadTls> {
    let pinned = ca_certificates(ca, access)?;
    let manner = Manner { ca: ca.map(Path::to_owned), ..Manner::default() };
    Ok((client_config(&Roots::read(access).store, &pinned, &manner)?, fingerprint(&pinned)))
}

/// The certificates in an upstream's `ca` file.
pub(super) fn ca_certificates(
    ca: Option<&Path>,
    access: &dyn Access,
) -> Result<Arc<[CertificateDer<'static>]>, BadTls> {
    Ok(ca.map(|path| certificates(path, access)).transpose()?.unwrap_or_default().into())
}

/// How TLS is spoken to an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Manner {
    /// A PEM file with more roots.
    pub ca: Option<PathBuf>,
    /// False: anyone is believed.
    pub verify: bool,
    /// Whether keys may be agreed on with ML-KEM.
    pub ml_kem: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Self { ca: None, verify: true, ml_kem: true }
    }
}

impl Manner {
    pub fn of(upstream: &config::Upstream) -> Self {
        Self { ca: upstream.ca.clone(), verify: upstream.verify, ml_kem: upstream.ml_kem }
    }

    pub(super) fn provider(&self) -> Arc<CryptoProvider> {
        if self.ml_kem { provider() } else { provider_without_ml_kem() }
    }
}

/// TLS 1.2 and 1.3, HTTP/1.1 alone, verified against `roots` and `pinned`, which are the
/// certificates in the manner's `ca`.
pub(super) fn client_config(
    roots: &Arc<RootCertStore>,
    pinned: &Arc<[CertificateDer<'static>]>,
    manner: &Manner,
) -> Result<Arc<ClientConfig>, BadTls> {
    let mut roots = Arc::clone(roots);
    if let Some(path) = &manner.ca {
        add_roots(Arc::make_mut(&mut roots), pinned, path)?;
    }
    let provider = manner.provider();
    let algorithms = provider.signature_verification_algorithms;
    config(&provider, Arc::new(ServerVerifier::new(roots, Arc::clone(pinned), algorithms)))
}

/// The same without any verification.
pub(super) fn unverified(provider: &Arc<CryptoProvider>) -> Result<Arc<ClientConfig>, BadTls> {
    config(provider, Arc::new(Unverified(Arc::clone(provider))))
}

fn config(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<Arc<ClientConfig>, BadTls> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
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
