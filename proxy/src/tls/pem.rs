use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::access::Access;

/// A PEM file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadPem {
    #[error("cannot read {path}: {error}: {}", remedy(error))]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{path} is damaged ({}): put a whole PEM file there", in_words(error))]
    Damaged { path: PathBuf, error: pem::Error },
    #[error("{path} is DER, not PEM: convert it (`openssl {command} -inform DER -in {path} -out NEW`)")]
    Der { path: PathBuf, command: &'static str },
    #[error("{path} holds no certificate: it must be a PEM file with \"-----BEGIN CERTIFICATE-----\"")]
    NoCertificate { path: PathBuf },
    #[error("{path} holds no private key: it must be a PEM file with \"-----BEGIN PRIVATE KEY-----\"")]
    NoKey { path: PathBuf },
    #[error(
        "the key in {path} is encrypted, and nobody is there to give its passphrase: keep it without one \
         (`openssl pkey -in {path} -out NEW`)"
    )]
    Encrypted { path: PathBuf },
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied => {
            "let the user that hookgate runs as read it; for certbot's keys the package's \
             /usr/lib/hookgate/grant-keys does that, at each start and reload of the unit"
        }
        _ => "correct the path, or the file",
    }
}

/// In place of the library's words, which are lists of bytes.
fn in_words(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section that begins does not end".into(),
        pem::Error::IllegalSectionStart { .. } => "a section does not begin as it should".into(),
        pem::Error::Base64Decode(_) => "it is not base64 between the lines of dashes".into(),
        error => error.to_string(),
    }
}

/// The certificates in a PEM file, in order; never none.
pub fn certificates(path: &Path, access: &dyn Access) -> Result<Vec<CertificateDer<'static>>, BadPem> {
    let text = read(path, access)?;
    let path = || path.to_owned();
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    match found.map_err(|error| BadPem::Damaged { path: path(), error })? {
        none if none.is_empty() && is_der(&text) => Err(BadPem::Der { path: path(), command: "x509" }),
        none if none.is_empty() => Err(BadPem::NoCertificate { path: path() }),
        found => Ok(found),
    }
}

/// The first private key in a PEM file.
pub(super) fn private_key(path: &Path, access: &dyn Access) -> Result<PrivateKeyDer<'static>, BadPem> {
    let text = read(path, access)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let path = path.to_owned();
        match error {
            _ if is_encrypted(&text) => BadPem::Encrypted { path },
            pem::Error::NoItemsFound if is_der(&text) => BadPem::Der { path, command: "pkey" },
            pem::Error::NoItemsFound => BadPem::NoKey { path },
            error => BadPem::Damaged { path, error },
        }
    })
}

fn read(path: &Path, access: &dyn Access) -> Result<Vec<u8>, BadPem> {
    access.read(path).map_err(|error| BadPem::Unreadable { path: path.to_owned(), error })
}

/// Both begin with a long SEQUENCE (X.690), and no text does.
fn is_der(bytes: &[u8]) -> bool {
    matches!(bytes, [0x30, 0x80..=0xff, ..])
}

/// PKCS #8's own label, and what OpenSSL writes below the older ones (RFC 1421 §4.6.1.1).
fn is_encrypted(text: &[u8]) -> bool {
    let has = |words: &[u8]| memchr::memmem::find(text, words).is_some();
    has(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(b"Proc-Type: 4,ENCRYPTED")
}
