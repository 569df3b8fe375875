//! Reads certificates and keys from PEM files; accepts what OpenSSL accepts.

mod blocks;

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use x509_parser::asn1_rs::{Any, FromDer as _};
use zeroize::Zeroizing;

use crate::access::Access;
pub use blocks::BadBlock;
use blocks::{Block, PemError, blocks};

/// A PEM file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadPem {
    #[error("cannot read {path}: {error}: {}", remedy(error))]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{path} is damaged ({bad}): put a whole PEM file there")]
    Damaged { path: PathBuf, bad: BadBlock },
    #[error("{path} is DER, not PEM: convert it (`openssl {command} -inform DER -in {path} -out NEW`)")]
    Der { path: PathBuf, command: &'static str },
    #[error("{path} holds no certificate: it must be a PEM file with \"-----BEGIN CERTIFICATE-----\"")]
    NoCertificate { path: PathBuf },
    #[error("{path} holds no revocation list: it must be a PEM file with \"-----BEGIN X509 CRL-----\"")]
    NoRevocationList { path: PathBuf },
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

/// Labels of certificates. `openssl x509 -trustout` writes the second; the third is old.
const CERTIFICATE: &[u8] = b"CERTIFICATE";
const TRUSTED_CERTIFICATE: &[u8] = b"TRUSTED CERTIFICATE";
const X509_CERTIFICATE: &[u8] = b"X509 CERTIFICATE";
const REVOCATION_LIST: &[u8] = b"X509 CRL";
const KEYS: [&[u8]; 3] = [b"PRIVATE KEY", b"RSA PRIVATE KEY", b"EC PRIVATE KEY"];
const ENCRYPTED_KEY: &[u8] = b"ENCRYPTED PRIVATE KEY";

/// The certificates in a PEM file, in order; never none.
pub fn certificates(path: &Path, access: &dyn Access) -> Result<Vec<CertificateDer<'static>>, BadPem> {
    certificates_in(&read(path, access)?, path)
}

/// Those in the text of the file `path`.
pub(super) fn certificates_in(text: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, BadPem> {
    let path = || path.to_owned();
    if is_der(text) {
        return Err(BadPem::Der { path: path(), command: "x509" });
    }
    let found: Result<Vec<_>, _> =
        blocks(text).and_then(|blocks| blocks.iter().filter_map(certificate).collect());
    let found = found.map_err(|bad| BadPem::Damaged { path: path(), bad })?;
    if found.is_empty() { Err(BadPem::NoCertificate { path: path() }) } else { Ok(found) }
}

/// The revocation lists in a PEM file, in order; never none.
pub fn revocation_lists(
    path: &Path,
    access: &dyn Access,
) -> Result<Vec<CertificateRevocationListDer<'static>>, BadPem> {
    let text = read(path, access)?;
    let path = || path.to_owned();
    if is_der(&text) {
        return Err(BadPem::Der { path: path(), command: "crl" });
    }
    let damaged = |bad| BadPem::Damaged { path: path(), bad };
    let blocks = blocks(&text).map_err(damaged)?;
    let lists = blocks.iter().filter(|block| block.label == REVOCATION_LIST).map(|block| {
        let list = CertificateRevocationListDer::from_pem_slice(&plain(block, REVOCATION_LIST));
        list.map_err(|_| damaged(not_base64(block)))
    });
    let lists = lists.collect::<Result<Vec<_>, _>>()?;
    if lists.is_empty() { Err(BadPem::NoRevocationList { path: path() }) } else { Ok(lists) }
}

/// The first private key in a PEM file.
pub(super) fn private_key(path: &Path, access: &dyn Access) -> Result<PrivateKeyDer<'static>, BadPem> {
    private_key_in(&Zeroizing::new(read(path, access)?), path)
}

/// The first in the text of the file `path`.
pub(super) fn private_key_in(text: &[u8], path: &Path) -> Result<PrivateKeyDer<'static>, BadPem> {
    let damaged = |bad| BadPem::Damaged { path: path.to_owned(), bad };
    if is_der(text) {
        return Err(BadPem::Der { path: path.to_owned(), command: "pkey" });
    }
    let blocks = blocks(text).map_err(damaged)?;
    let key = blocks.iter().find(|block| KEYS.contains(&block.label) || block.label == ENCRYPTED_KEY);
    let key = key.ok_or_else(|| BadPem::NoKey { path: path.to_owned() })?;
    if key.is_encrypted || key.label == ENCRYPTED_KEY {
        return Err(BadPem::Encrypted { path: path.to_owned() });
    }
    PrivateKeyDer::from_pem_slice(&plain(key, key.label)).map_err(|_| damaged(not_base64(key)))
}

/// The certificate in a block; `None` if it holds something else.
fn certificate(block: &Block<'_>) -> Option<Result<CertificateDer<'static>, BadBlock>> {
    if ![CERTIFICATE, TRUSTED_CERTIFICATE, X509_CERTIFICATE].contains(&block.label) {
        return None;
    }
    let der = CertificateDer::from_pem_slice(&plain(block, CERTIFICATE)).map_err(|_| not_base64(block));
    Some(der.map(|der| if block.label == TRUSTED_CERTIFICATE { without_trust(der) } else { der }))
}

/// Cuts off what OpenSSL appends to a trusted certificate.
fn without_trust(der: CertificateDer<'static>) -> CertificateDer<'static> {
    let rest = Any::from_der(&der).map_or(0, |(rest, _)| rest.len());
    CertificateDer::from(der[..der.len() - rest].to_vec())
}

/// A canonical block for the library, which decodes keys in constant time.
fn plain(block: &Block<'_>, label: &[u8]) -> Zeroizing<Vec<u8>> {
    let line = |word: &[u8]| [b"-----", word, b" ", label, b"-----\n"].concat();
    Zeroizing::new([&line(b"BEGIN"), &**block.base64, b"\n", &line(b"END")].concat())
}

fn not_base64(block: &Block<'_>) -> BadBlock {
    BadBlock { line: block.line, fault: PemError::NotBase64 }
}

fn read(path: &Path, access: &dyn Access) -> Result<Vec<u8>, BadPem> {
    access.read(path).map_err(|error| BadPem::Unreadable { path: path.to_owned(), error })
}

/// Both begin with a long SEQUENCE (X.690), and no text does.
fn is_der(bytes: &[u8]) -> bool {
    matches!(bytes, [0x30, 0x80..=0xff, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A SEQUENCE in place of a certificate, alone and with what OpenSSL appends.
    const DER: &str = "MAMCAQU=";
    const DER_AND_TRUST: &str = "MAMCAQUwAA==";

    fn found(text: &str) -> Vec<Vec<u8>> {
        let certificates = certificates_in(text.as_bytes(), Path::new("a.pem")).unwrap();
        certificates.iter().map(|der| der.to_vec()).collect()
    }

    #[test]
    fn certificates_are_taken_by_all_their_names() {
        let block =
            |label: &str, base64: &str| format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n");
        let text = [
            block("TRUSTED CERTIFICATE", DER_AND_TRUST),
            block("X509 CERTIFICATE", DER),
            block("EC PARAMETERS", "BggqhkjOPQMBBw=="),
            block("CERTIFICATE", DER),
        ];
        assert_eq!(found(&text.concat()), vec![vec![0x30, 3, 2, 1, 5]; 3]);
        let bad = certificates_in(block("CERTIFICATE", "?").as_bytes(), Path::new("a.pem")).unwrap_err();
        let expected =
            "a.pem is damaged (line 1: the block that begins here is not base64): put a whole PEM file there";
        assert_eq!(bad.to_string(), expected);
    }
}
