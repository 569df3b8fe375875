use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::access::Access;

/// A PEM file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadPem {
    #[error("cannot read {path}: {error}{}", remedy(error))]
    Unreadable { path: PathBuf, error: pem::Error },
    #[error("{path} holds no certificate: it must be a PEM file, the server's own certificate first")]
    NoCertificate { path: PathBuf },
}

fn remedy(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::Io(error) if error.kind() == ErrorKind::PermissionDenied => {
            ": let the user that hookgate runs as read it; for certbot's keys the package's \
             /usr/lib/hookgate/grant-keys does that, at each start and reload of the unit"
        }
        _ => "",
    }
}

/// The certificates in a PEM file, in order; never none.
pub fn certificates(path: &Path, access: &dyn Access) -> Result<Vec<CertificateDer<'static>>, BadPem> {
    let unreadable = |error| BadPem::Unreadable { path: path.to_owned(), error };
    let text = access.read(path).map_err(|error| unreadable(pem::Error::Io(error)))?;
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    if found.is_empty() { Err(BadPem::NoCertificate { path: path.to_owned() }) } else { Ok(found) }
}

/// The first private key in a PEM file.
pub(super) fn private_key(path: &Path, access: &dyn Access) -> Result<PrivateKeyDer<'static>, BadPem> {
    let unreadable = |error| BadPem::Unreadable { path: path.to_owned(), error };
    let text = access.read(path).map_err(|error| unreadable(pem::Error::Io(error)))?;
    PrivateKeyDer::from_pem_slice(&text).map_err(unreadable)
}
