//! Self-signed certificates.

use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use super::Certificate;
use super::certificate::BadCertificate;
use super::provider::provider;
use crate::config::{HostName, Pair};

/// A certificate that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CannotSign {
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    #[error(transparent)]
    Use(#[from] BadCertificate),
    #[error("a key made here cannot be used: {0}")]
    Key(#[from] rustls::Error),
    #[error("the digest of a challenge has {0} bytes in place of 32")]
    Digest(usize),
}

/// What is shown until there is a certificate for `names`.
pub fn placeholder(names: &[HostName]) -> Result<Certificate, CannotSign> {
    let (own, key) = make(&parameters(names.iter().map(HostName::to_string))?)?;
    let mut placeholder = Certificate::new(vec![own], key, &nowhere(), &provider())?;
    placeholder.is_placeholder = true;
    Ok(placeholder)
}

/// What a certificate authority wants to be shown by `name` (RFC 8737 §3); `digest` is the SHA-256
/// of the key authorization.
pub(super) fn answer(name: &str, digest: &[u8]) -> Result<Arc<CertifiedKey>, CannotSign> {
    if digest.len() != 32 {
        return Err(CannotSign::Digest(digest.len()));
    }
    let mut parameters = parameters([name.to_owned()])?;
    parameters.custom_extensions.push(CustomExtension::new_acme_identifier(digest));
    let (own, key) = make(&parameters)?;
    // No Certificate: a client that does not know the extension refuses one in which it is
    // critical.
    Ok(Arc::new(CertifiedKey::new(vec![own], provider().key_provider.load_private_key(key)?)))
}

fn parameters(names: impl IntoIterator<Item = String>) -> Result<CertificateParams, rcgen::Error> {
    let mut parameters = CertificateParams::new(names.into_iter().collect::<Vec<_>>())?;
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, "hookgate, self-signed");
    Ok(parameters)
}

fn make(
    parameters: &CertificateParams,
) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), rcgen::Error> {
    let key = KeyPair::generate()?;
    let own = CertificateDer::from(parameters.self_signed(&key)?);
    Ok((own, PrivatePkcs8KeyDer::from(key.serialize_der()).into()))
}

/// For messages.
fn nowhere() -> Pair {
    let path = Path::new("a certificate made here");
    Pair { cert: path.to_owned(), key: path.to_owned() }
}
