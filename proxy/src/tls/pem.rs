use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A PEM file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadPem {
    #[error("cannot read {path}: {error}")]
    Unreadable { path: PathBuf, error: pem::Error },
    #[error("{path} holds no certificate: it must be a PEM file, the server's own certificate first")]
    NoCertificate { path: PathBuf },
}

/// The certificates in a PEM file, in order; never none.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, BadPem> {
    let unreadable = |error| BadPem::Unreadable { path: path.to_owned(), error };
    let found = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(unreadable)?;
    if found.is_empty() { Err(BadPem::NoCertificate { path: path.to_owned() }) } else { Ok(found) }
}

/// The first private key in a PEM file.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, BadPem> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| BadPem::Unreadable { path: path.to_owned(), error })
}
