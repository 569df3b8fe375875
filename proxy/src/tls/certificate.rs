use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::SignatureAlgorithm;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::pem::{BadPem, certificates, private_key};
use super::provider::provider;
use crate::access::Access;
use crate::config;

/// A certificate chain with its key, ready to be offered.
#[derive(Debug)]
pub struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    /// The DNS names that it covers, in lower case; one may begin with `*.`.
    names: Vec<String>,
    /// When it begins and ends, in seconds of Unix time.
    pub not_before: i64,
    pub not_after: i64,
    /// Nobody but itself vouches for it.
    pub is_self_signed: bool,
    /// It only stands in until there is the one that is wanted.
    pub is_placeholder: bool,
}

/// A certificate or key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadCertificate {
    #[error(transparent)]
    Pem(#[from] BadPem),
    #[error("the first certificate in {path} is not valid X.509; the server's own must come first")]
    Malformed { path: PathBuf },
    #[error("the key in {key} cannot be used: {error}")]
    Key { key: PathBuf, error: rustls::Error },
    #[error(
        "the key in {key} does not belong to the first certificate in {cert}; give the pair that was issued together"
    )]
    Mismatch { cert: PathBuf, key: PathBuf },
}

impl Certificate {
    /// Reads a pair of files and checks that they belong together.
    pub(super) fn load(
        pair: &config::Pair,
        access: &dyn Access,
        provider: &CryptoProvider,
    ) -> Result<Self, BadCertificate> {
        let (chain, key) = (certificates(&pair.cert, access)?, private_key(&pair.key, access)?);
        Self::new(chain, key, pair, provider)
    }

    /// A key and its chain that lie in one PEM text; `path` is where they would lie, for messages.
    pub fn from_pem(pem: &[u8], path: &Path) -> Result<Self, BadCertificate> {
        let unreadable = |error| BadPem::Unreadable { path: path.to_owned(), error };
        let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(unreadable)?;
        let pair = config::Pair { cert: path.to_owned(), key: path.to_owned() };
        Self::new(chain, key, &pair, &provider())
    }

    /// `pair` is where they come from, for messages.
    pub(super) fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        pair: &config::Pair,
        provider: &CryptoProvider,
    ) -> Result<Self, BadCertificate> {
        let own = chain.first().ok_or_else(|| BadPem::NoCertificate { path: pair.cert.clone() })?;
        let malformed = || BadCertificate::Malformed { path: pair.cert.clone() };
        let (_, parsed) = X509Certificate::from_der(own).map_err(|_| malformed())?;
        let names = dns_names(&parsed);
        let (not_before, not_after) = (parsed.validity().not_before, parsed.validity().not_after);
        let (not_before, not_after) = (not_before.timestamp(), not_after.timestamp());
        let is_self_signed = parsed.issuer() == parsed.subject();
        let unusable = |error| BadCertificate::Key { key: pair.key.clone(), error };
        let key = provider.key_provider.load_private_key(key).map_err(unusable)?;
        let key = CertifiedKey::new(chain, key);
        match key.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(_) => {
                return Err(BadCertificate::Mismatch { cert: pair.cert.clone(), key: pair.key.clone() });
            }
        }
        let (key, is_placeholder) = (Arc::new(key), false);
        Ok(Self { key, names, not_before, not_after, is_self_signed, is_placeholder })
    }

    /// The DNS names that it covers, in lower case.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Itself, without the rest of its chain.
    pub fn own(&self) -> Option<&CertificateDer<'static>> {
        self.key.cert.first()
    }

    /// How many certificates its file holds, its own included.
    pub fn chain_length(&self) -> usize {
        self.key.cert.len()
    }

    /// Whether it covers `name` (lower case), in which a wildcard stands for the first label (RFC 6125 §6.4.3).
    pub fn covers(&self, name: &str) -> bool {
        let parent = name.split_once('.').map(|(_, parent)| parent);
        self.names.iter().any(|own| match own.strip_prefix("*.") {
            Some(suffix) => parent == Some(suffix),
            None => own == name,
        })
    }

    /// Whether its key is of the kind that is cheapest to use.
    pub(super) fn is_preferred(&self) -> bool {
        matches!(self.key.key.algorithm(), SignatureAlgorithm::ECDSA | SignatureAlgorithm::ED25519)
    }
}

/// The DNS names among a certificate's subject alternative names, in lower case.
pub(super) fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let names = extension.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    names.collect()
}
