//! Verifies server certificates, and says in words why one is refused.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, PeerMisbehaved, RootCertStore,
    SignatureScheme,
};
use x509_parser::asn1_rs::{Any, FromDer as _, Oid};
use x509_parser::prelude::{AlgorithmIdentifier, X509Certificate};

use super::algorithm::{KEY_ADVICE, KeyKind, RSA_BITS, signature_name};
use super::certificate::is_for_servers;
use super::chain::dns_names;
use super::chain::{Link, chain, listed};

/// Accepts certificates that an authority of `roots` has signed, and those of `pinned`.
#[derive(Debug)]
pub struct ServerVerifier {
    roots: Arc<RootCertStore>,
    /// The certificates in an upstream's `ca` file. A server may present one of them without an
    /// authority, as with OpenSSL. Its name and validity are checked all the same.
    pinned: Arc<[CertificateDer<'static>]>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Why a certificate is refused, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFault {
    pub why: String,
    pub next: String,
}

impl fmt::Display for CertificateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.why, self.next)
    }
}

impl std::error::Error for CertificateFault {}

impl CertificateFault {
    pub fn new(why: impl Into<String>, next: impl Into<String>) -> Self {
        Self { why: why.into(), next: next.into() }
    }
}

impl From<CertificateFault> for Error {
    fn from(fault: CertificateFault) -> Self {
        CertificateError::Other(OtherError(Arc::new(fault))).into()
    }
}

impl ServerVerifier {
    /// `pinned`: certificates that need no authority.
    pub fn new(
        roots: Arc<RootCertStore>,
        pinned: Arc<[CertificateDer<'static>]>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        Self { roots, pinned, algorithms }
    }

    fn verify(&self, presented: &Presented<'_>, name: &ServerName<'_>, now: UnixTime) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(presented.own)?;
        if self.pinned.contains(presented.own) {
            in_date_and_for_servers(presented.own, now)?;
        } else {
            let algorithms = self.algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                &self.roots,
                presented.between,
                now,
                algorithms,
            )?;
        }
        verify_server_name(&parsed, name)
    }

    /// The same error in words, where the certificates are needed to find them.
    fn explain(&self, error: Error, presented: &Presented<'_>, name: &ServerName<'_>) -> Error {
        let Error::InvalidCertificate(fault) = &error else { return error };
        match fault {
            CertificateError::UnknownIssuer => presented.unknown_authority(&name.to_str()).into(),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                presented.other_name(&name.to_str()).into()
            }
            CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
                self.unknown_algorithm(presented).map_or(error, Error::from)
            }
            CertificateError::BadSignature => self.bad_rsa_key(presented).map_or(error, Error::from),
            CertificateError::Other(_) | CertificateError::BadEncoding => {
                self.other_fault(presented, &name.to_str()).map_or(error, Error::from)
            }
            _ => error,
        }
    }

    /// Names the first signature that cannot be verified.
    fn unknown_algorithm(&self, presented: &Presented<'_>) -> Option<CertificateFault> {
        let known = |certificate: &X509Certificate<'_>| {
            let id = &certificate.signature_algorithm.algorithm;
            let mut ids = self.algorithms.all.iter().map(|known| known.signature_alg_id());
            // What the library knows an algorithm by begins with its object identifier.
            ids.any(|known| Oid::from_der(&known).is_ok_and(|(_, known)| known == *id))
        };
        let all = presented.parsed();
        all.iter().find_map(|certificate| {
            let key = self.key_of_issuer(certificate, &all);
            let is_unusable = key.as_ref().is_some_and(|key| key.unusable().is_some());
            (is_unusable || !known(certificate)).then(|| {
                let algorithm = &certificate.signature_algorithm.algorithm;
                let name = signature_name(algorithm, key.as_ref());
                let why = format!(
                    "the certificate is signed with an algorithm that hookgate does not know ({name})"
                );
                let hash = if is_unusable { "" } else { ", with SHA-256 or SHA-384" };
                CertificateFault::new(why, format!("{KEY_ADVICE}{hash}"))
            })
        })
    }

    /// A signature cannot be verified because of its key's length.
    fn bad_rsa_key(&self, presented: &Presented<'_>) -> Option<CertificateFault> {
        let all = presented.parsed();
        let keys = all.iter().filter_map(|certificate| self.key_of_issuer(certificate, &all));
        keys.filter_map(|key| bad_rsa_length(&key)).next()
    }

    /// The key that signed `certificate`, which is one of `all` that were presented.
    fn key_of_issuer(
        &self,
        certificate: &X509Certificate<'_>,
        all: &[X509Certificate<'_>],
    ) -> Option<KeyKind> {
        let issuer = certificate.issuer().as_raw();
        let pinned = self.pinned.iter().filter_map(|der| Some(X509Certificate::from_der(der).ok()?.1));
        let pinned: Vec<_> = pinned.collect();
        let shown = all.iter().chain(&pinned).find(|other| other.subject().as_raw() == issuer);
        shown.map(KeyKind::of).or_else(|| {
            let subject = Any::from_der(issuer).ok()?.1.data;
            let root = self.roots.roots.iter().find(|root| root.subject.as_ref() == subject)?;
            let (_, algorithm) = AlgorithmIdentifier::from_der(&root.subject_public_key_info).ok()?;
            Some(KeyKind::of_algorithm(&algorithm))
        })
    }

    /// Finds the cause of an error for which the library has no type of its own.
    fn other_fault(&self, presented: &Presented<'_>, name: &str) -> Option<CertificateFault> {
        let all = presented.parsed();
        let own = all.first()?;
        let version = own.version().0 + 1;
        if version != 3 {
            let why = format!("the certificate is of version {version} of X.509");
            return Some(CertificateFault::new(
                why,
                "make one of version 3, with a DNS name (subjectAltName)",
            ));
        }
        if let Some(id) = all.iter().find_map(unknown_critical) {
            let why = format!("the certificate has a critical extension that hookgate does not know ({id})");
            return Some(CertificateFault::new(why, "get one without it"));
        }
        if !is_for_servers(own) {
            return Some(not_for_servers());
        }
        if own.is_ca() && dns_names(own).is_empty() {
            return Some(no_name_and_no_authority(name));
        }
        if own.is_ca() {
            return Some(CertificateFault::new(
                "it is an authority's certificate used as a server's (CA:TRUE)",
                "give it with ca = \"that file\", make one with basicConstraints=CA:FALSE, or write verify = false \
                 in your own network",
            ));
        }
        let issuer = own.issuer().as_raw();
        if all.iter().skip(1).any(|other| other.subject().as_raw() == issuer && !other.is_ca()) {
            let why = "what has signed the certificate is no authority's certificate (CA:FALSE)";
            return Some(CertificateFault::new(why, "have it signed by an authority"));
        }
        if self.is_constrained(&all) {
            let why = "its authority may not sign for this name (name constraints)";
            return Some(CertificateFault::new(why, "get one from another authority"));
        }
        None
    }

    fn is_constrained(&self, all: &[X509Certificate<'_>]) -> bool {
        let shown = all.iter().any(|certificate| matches!(certificate.name_constraints(), Ok(Some(_))));
        shown
            || all.iter().any(|certificate| {
                let subject = Any::from_der(certificate.issuer().as_raw()).map(|(_, any)| any.data);
                let constrained = self.roots.roots.iter().filter(|root| root.name_constraints.is_some());
                subject.is_ok_and(|subject| constrained.clone().any(|root| root.subject.as_ref() == subject))
            })
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let presented = Presented { own, between };
        let verified = self.verify(&presented, name, now);
        verified.map_err(|error| self.explain(error, &presented, name))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = verify_tls12_signature(message, certificate, signature, &self.algorithms);
        verified.map_err(|error| explain_signature(error, certificate))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = verify_tls13_signature(message, certificate, signature, &self.algorithms);
        verified.map_err(|error| explain_signature(error, certificate))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The chain that a server presents: its own certificate, then the intermediate ones.
struct Presented<'c> {
    own: &'c CertificateDer<'c>,
    between: &'c [CertificateDer<'c>],
}

impl Presented<'_> {
    fn parsed(&self) -> Vec<X509Certificate<'_>> {
        let all = std::iter::once(self.own).chain(self.between);
        all.filter_map(|der| Some(X509Certificate::from_der(der).ok()?.1)).collect()
    }

    fn links(&self) -> Vec<Link> {
        let all: Vec<_> = std::iter::once(self.own).chain(self.between).cloned().collect();
        chain(&all)
    }

    fn unknown_authority(&self, name: &str) -> CertificateFault {
        let next = match &self.links()[..] {
            [own] if own.is_self_signed && own.names.is_empty() => return no_name_and_no_authority(name),
            [own] if own.is_self_signed => "it has signed itself: give it with ca = \"that file\"".into(),
            [_] => "the server shows its own certificate alone: let it show the whole chain (fullchain.pem), or give \
                    its authority with ca = \"FILE\""
                .into(),
            [.., last] => format!("give the authority with ca = \"FILE\": {}", last.issuer),
            [] => "give its authority with ca = \"FILE\"".into(),
        };
        CertificateFault::new("no authority that is trusted here has signed the certificate", next)
    }

    fn other_name(&self, name: &str) -> CertificateFault {
        other_name(&self.links().into_iter().next().map(|own| own.names).unwrap_or_default(), name)
    }
}

/// The certificate of the upstream `name` is for `names` instead.
pub fn other_name(names: &[String], name: &str) -> CertificateFault {
    let Some(names) = listed(names) else { return no_name(name) };
    let next = format!("it is for {names}: get one for {name}, or name the upstream as it is");
    CertificateFault::new("the certificate is for another name", next)
}

/// The certificate of the upstream `name` has no DNS name at all.
pub fn no_name(name: &str) -> CertificateFault {
    CertificateFault::new(
        "the certificate is not for this name: it has no DNS name (subjectAltName)",
        format!("make one with subjectAltName=DNS:{name}; a common name (CN) does not count"),
    )
}

/// The same for a certificate that has signed itself, so that `ca` is needed as well.
fn no_name_and_no_authority(name: &str) -> CertificateFault {
    let CertificateFault { why, next } = no_name(name);
    CertificateFault { why, next: format!("{next}; give it with ca = \"that file\"") }
}

pub(super) fn not_for_servers() -> CertificateFault {
    let why = "the certificate is not for servers (its extended key usage lacks serverAuth)";
    CertificateFault::new(why, "get one for TLS servers")
}

fn in_date_and_for_servers(der: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| CertificateError::BadEncoding)?;
    let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or_default();
    let (begin, end) =
        (seconds(certificate.validity().not_before), seconds(certificate.validity().not_after));
    let at = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    if now.as_secs() < begin {
        return Err(CertificateError::NotValidYetContext { time: now, not_before: at(begin) }.into());
    }
    if now.as_secs() > end {
        return Err(CertificateError::ExpiredContext { time: now, not_after: at(end) }.into());
    }
    if is_for_servers(&certificate) { Ok(()) } else { Err(CertificateError::InvalidPurpose.into()) }
}

fn explain_signature(error: Error, certificate: &CertificateDer<'_>) -> Error {
    let is_about_key = matches!(
        error,
        Error::InvalidCertificate(
            CertificateError::BadSignature
                | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
        ) | Error::PeerMisbehaved(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)
    );
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return error };
    let key = KeyKind::of(&certificate);
    match key.unusable().filter(|_| is_about_key) {
        Some(_) if key.rsa_bits.is_some() => bad_rsa_length(&key).map_or(error, Error::from),
        Some(name) => {
            let why = format!("the certificate has a key that hookgate does not know ({name})");
            CertificateFault::new(why, KEY_ADVICE).into()
        }
        None => error,
    }
}

fn bad_rsa_length(key: &KeyKind) -> Option<CertificateFault> {
    let bits = key.rsa_bits.filter(|bits| !RSA_BITS.contains(bits))?;
    let (least, most) = (RSA_BITS.start(), RSA_BITS.end());
    let why = format!("the certificate rests on an RSA key of {bits} bits");
    Some(CertificateFault::new(why, format!("use one of {least} to {most} bits, or P-256")))
}

/// Why no signature of `authority` can be verified; `None` if they can.
pub fn unusable_authority(authority: &Link) -> Option<CertificateFault> {
    let kind = authority.key.unusable()?;
    bad_rsa_length(&authority.key).or_else(|| {
        let why =
            format!("the key of {} is of a kind that hookgate does not know ({kind})", authority.subject);
        Some(CertificateFault::new(why, KEY_ADVICE))
    })
}

/// The first critical extension that is not processed (RFC 5280 §4.2).
fn unknown_critical(certificate: &X509Certificate<'_>) -> Option<String> {
    const KNOWN: [&str; 6] = ["2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.30", "2.5.29.31", "2.5.29.37"];
    let critical = certificate.extensions().iter().filter(|extension| extension.critical);
    critical.map(|extension| extension.oid.to_id_string()).find(|id| !KNOWN.contains(&id.as_str()))
}
