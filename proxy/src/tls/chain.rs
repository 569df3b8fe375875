use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificate::dns_names;

/// What one certificate of a chain says. Texts hold no control characters.
#[derive(Clone, Debug)]
pub struct Link {
    pub subject: String,
    pub issuer: String,
    /// The DNS names that it covers.
    pub names: Vec<String>,
    /// When it begins and ends, in seconds of Unix time.
    pub not_before: i64,
    pub not_after: i64,
    /// Nobody but itself vouches for it.
    pub is_self_signed: bool,
}

/// What the certificates say that a peer showed, in its order; those that are no X.509 are left out.
pub fn chain(shown: &[CertificateDer<'_>]) -> Vec<Link> {
    shown.iter().filter_map(|der| Some(link(&X509Certificate::from_der(der).ok()?.1))).collect()
}

fn link(certificate: &X509Certificate<'_>) -> Link {
    let validity = certificate.validity();
    Link {
        subject: printable(&certificate.subject().to_string()),
        issuer: printable(&certificate.issuer().to_string()),
        names: dns_names(certificate).iter().map(|name| printable(name)).collect(),
        not_before: validity.not_before.timestamp(),
        not_after: validity.not_after.timestamp(),
        is_self_signed: certificate.subject() == certificate.issuer(),
    }
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
