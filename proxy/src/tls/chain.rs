use aws_lc_rs::digest::{Context, SHA256};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::algorithm::KeyKind;

/// Names of one certificate that are shown; the others are counted.
const MAX_LISTED_NAMES: usize = 5;
/// Characters of a certificate's text that are shown; a DNS name has no more.
const MAX_TEXT_CHARACTERS: usize = 253;

/// SHA-256.
pub type Fingerprint = [u8; 32];

/// Identifies a sequence of certificates, or of revocation lists.
pub fn fingerprint(ders: &[impl AsRef<[u8]>]) -> Fingerprint {
    let mut digest = Context::new(&SHA256);
    // DER tells where each ends.
    ders.iter().for_each(|der| digest.update(der.as_ref()));
    let mut fingerprint = Fingerprint::default();
    fingerprint.copy_from_slice(digest.finish().as_ref());
    fingerprint
}

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
    /// It is signed by itself alone.
    pub is_self_signed: bool,
    /// Whether it may sign others (CA:TRUE).
    pub is_authority: bool,
    pub key: KeyKind,
}

impl Link {
    /// Whether it covers `name`.
    pub fn covers(&self, name: &str) -> bool {
        covers(&self.names, name)
    }
}

/// Whether `names` cover `name` (lower case); a wildcard stands for the first label (RFC 6125
/// §6.4.3).
pub(super) fn covers(names: &[String], name: &str) -> bool {
    let parent = name.split_once('.').map(|(_, parent)| parent);
    names.iter().any(|own| match own.strip_prefix("*.") {
        Some(suffix) => parent == Some(suffix),
        None => own == name,
    })
}

/// What the certificates say that a peer showed, in its order; those that are no X.509 are left
/// out.
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
        is_authority: certificate.is_ca(),
        key: KeyKind::of(certificate),
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

/// The first names of a certificate and the number of the others; `None` if it has no name.
pub fn listed(names: &[String]) -> Option<String> {
    let (first, more) = names.split_at(names.len().min(MAX_LISTED_NAMES));
    let first = first.join(", ");
    match (first.is_empty(), more.len()) {
        (true, _) => None,
        (false, 0) => Some(first),
        (false, more) => Some(format!("{first} and {more} more")),
    }
}

/// A peer's text on one line, bounded.
pub(super) fn printable(text: &str) -> String {
    let mut characters = text.chars();
    let shown = characters.by_ref().take(MAX_TEXT_CHARACTERS);
    let shown: String = shown.map(|c| if c.is_control() { '?' } else { c }).collect();
    if characters.next().is_some() { shown + "…" } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_much_a_certificate_says_a_line_is_a_line() {
        let names = |count: usize| (1..=count).map(|n| format!("{n}.example")).collect::<Vec<_>>();
        assert_eq!(listed(&names(0)), None);
        assert_eq!(listed(&names(2)).as_deref(), Some("1.example, 2.example"));
        let five = "1.example, 2.example, 3.example, 4.example, 5.example";
        assert_eq!(listed(&names(5)).as_deref(), Some(five));
        assert_eq!(listed(&names(250)), Some(format!("{five} and 245 more")));
        assert_eq!(printable("a\nb"), "a?b");
        assert_eq!(printable(&"x".repeat(300)), "x".repeat(253) + "…");
    }
}
