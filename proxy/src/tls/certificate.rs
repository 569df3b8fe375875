use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::SignatureAlgorithm;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use x509_parser::oid_registry::{OID_KEY_TYPE_EC_PUBLIC_KEY, OID_PKCS1_RSAENCRYPTION, OID_SIG_ED25519};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::algorithm::{KeyKind, unsupported_private_key};
use super::chain::{Fingerprint, Link, chain, covers, dns_names, fingerprint};
use super::pem::{BadPem, certificates, certificates_in, private_key, private_key_in};
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
    /// It is signed by itself alone.
    pub is_self_signed: bool,
    /// Whether clients take it from a server (RFC 5280 §4.2.1.12).
    pub is_for_servers: bool,
    /// It only stands in until there is the one that is wanted.
    pub is_placeholder: bool,
}

/// A certificate or key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadCertificate {
    #[error(transparent)]
    Chain(BadPem),
    #[error(transparent)]
    KeyFile(BadPem),
    #[error("the first certificate in {path} is not valid X.509: the server's own must come first")]
    Malformed { path: PathBuf },
    #[error(
        "{cert} begins with another certificate than that of the key in {key}: put the server's own first, then each \
         before that of the authority that signed it"
    )]
    NotFirst { cert: PathBuf, key: PathBuf },
    #[error(
        "the key in {key} cannot be used: {why}: give one for RSA (2048 to 4096 bits), P-256, P-384 or Ed25519"
    )]
    Key { key: PathBuf, why: String },
    #[error(
        "the key in {key} does not belong to the first certificate in {cert}: give the pair that was issued together"
    )]
    Mismatch { cert: PathBuf, key: PathBuf },
    #[error(
        "the key in {key} is {of_key:?}, the first certificate in {cert} is for {of_cert:?}: give the pair that was \
         issued together"
    )]
    Kinds { cert: PathBuf, of_cert: SignatureAlgorithm, key: PathBuf, of_key: SignatureAlgorithm },
}

impl BadCertificate {
    /// Whether it is the key that is wrong, or its file.
    pub fn blames_key(&self) -> bool {
        matches!(self, Self::KeyFile(_) | Self::Key { .. } | Self::Mismatch { .. } | Self::Kinds { .. })
    }
}

impl Certificate {
    /// Reads a pair of files and checks that they belong together.
    ///
    /// Errors: all that can be told of both.
    pub(super) fn load(
        pair: &config::Pair,
        access: &dyn Access,
        provider: &CryptoProvider,
    ) -> Result<Self, Vec<BadCertificate>> {
        let chain = certificates(&pair.cert, access).map_err(BadCertificate::Chain);
        let key = private_key(&pair.key, access).map_err(BadCertificate::KeyFile);
        match (chain, key) {
            (Ok(chain), Ok(key)) => Self::new(chain, key, pair, provider).map_err(|bad| vec![bad]),
            (chain, key) => Err(chain.err().into_iter().chain(key.err()).collect()),
        }
    }

    /// A key and its chain in one PEM text; `path` is for messages.
    pub fn from_pem(pem: &[u8], path: &Path) -> Result<Self, BadCertificate> {
        let chain = certificates_in(pem, path).map_err(BadCertificate::Chain)?;
        let key = private_key_in(pem, path).map_err(BadCertificate::KeyFile)?;
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
        let config::Pair { cert: chain_path, key: key_path } = pair.clone();
        let no_certificate = || BadCertificate::Chain(BadPem::NoCertificate { path: chain_path.clone() });
        let own = chain.first().ok_or_else(no_certificate)?;
        let malformed = || BadCertificate::Malformed { path: chain_path.clone() };
        let (_, parsed) = X509Certificate::from_der(own).map_err(|_| malformed())?;
        let names = dns_names(&parsed);
        let (not_before, not_after) = (parsed.validity().not_before, parsed.validity().not_after);
        let (not_before, not_after) = (not_before.timestamp(), not_after.timestamp());
        let is_self_signed = parsed.issuer() == parsed.subject();
        let is_for_servers = is_for_servers(&parsed);
        let of_cert = algorithm(&parsed);
        let key = own_key(key, &parsed, provider)
            .map_err(|why| BadCertificate::Key { key: key_path.clone(), why })?;
        let key = CertifiedKey::new(chain, key);
        if !fits(&key) {
            let (others, of_key) = (key.cert.iter().skip(1), key.key.algorithm());
            let of_other = |other: &CertificateDer<'static>| {
                fits(&CertifiedKey::new(vec![other.clone()], Arc::clone(&key.key)))
            };
            return Err(match of_cert {
                _ if others.into_iter().any(of_other) => {
                    BadCertificate::NotFirst { cert: chain_path, key: key_path }
                }
                Some(of_cert) if of_cert != of_key => {
                    BadCertificate::Kinds { cert: chain_path, of_cert, key: key_path, of_key }
                }
                _ => BadCertificate::Mismatch { cert: chain_path, key: key_path },
            });
        }
        let (key, is_placeholder) = (Arc::new(key), false);
        Ok(Self { key, names, not_before, not_after, is_self_signed, is_for_servers, is_placeholder })
    }

    /// The DNS names that it covers, in lower case.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Itself, without the rest of its chain.
    pub fn own(&self) -> Option<&CertificateDer<'static>> {
        self.key.cert.first()
    }

    /// Identifies its chain, and with it its key, which belongs to no other certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint(&self.key.cert)
    }

    /// How many certificates its file holds, its own included.
    pub fn chain_length(&self) -> usize {
        self.key.cert.len()
    }

    /// Whether each certificate in its file is followed by that of the authority that signed it.
    pub fn is_in_order(&self) -> bool {
        let links = chain(&self.key.cert);
        let follow = |pair: &[Link]| matches!(pair, [one, next] if one.issuer == next.subject);
        links.len() == self.key.cert.len() && links.windows(2).all(follow)
    }

    /// Whether it covers `name` (lower case).
    pub fn covers(&self, name: &str) -> bool {
        covers(&self.names, name)
    }

    /// Whether its key is of the kind that is cheapest to use.
    pub(super) fn is_preferred(&self) -> bool {
        matches!(self.key.key.algorithm(), SignatureAlgorithm::ECDSA | SignatureAlgorithm::ED25519)
    }
}

/// Loads the private key of `certificate`.
///
/// Errors: why it cannot be used.
fn own_key(
    key: PrivateKeyDer<'static>,
    certificate: &X509Certificate<'_>,
    provider: &CryptoProvider,
) -> Result<Arc<dyn SigningKey>, String> {
    let unsupported = unsupported_private_key(key.secret_der(), &KeyKind::of(certificate));
    let loaded = provider.key_provider.load_private_key(key);
    loaded.map_err(|error| match unsupported {
        Some(kind) => format!("{kind} is not supported"),
        None => error.to_string(),
    })
}

/// Whether the key is that of the first certificate.
fn fits(key: &CertifiedKey) -> bool {
    matches!(
        key.keys_match(),
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown))
    )
}

/// Whether clients take it from a server (RFC 5280 §4.2.1.12).
pub(super) fn is_for_servers(certificate: &X509Certificate<'_>) -> bool {
    match certificate.extended_key_usage() {
        Ok(Some(usage)) => usage.value.server_auth || usage.value.any,
        _ => true,
    }
}

/// What kind of key a certificate is for, of those that hookgate knows.
fn algorithm(certificate: &X509Certificate<'_>) -> Option<SignatureAlgorithm> {
    let oid = &certificate.public_key().algorithm.algorithm;
    let known = [
        (OID_PKCS1_RSAENCRYPTION, SignatureAlgorithm::RSA),
        (OID_KEY_TYPE_EC_PUBLIC_KEY, SignatureAlgorithm::ECDSA),
        (OID_SIG_ED25519, SignatureAlgorithm::ED25519),
    ];
    known.into_iter().find_map(|(its, algorithm)| (*oid == its).then_some(algorithm))
}
