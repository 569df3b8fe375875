//! Explains a failed handshake with a server to the operator.

use std::fmt;
use std::io;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

use super::algorithm::KEY_ADVICE;
use super::server_auth::{CertificateFault, not_for_servers};
use crate::observe::clock::date;

/// Why a handshake with a server failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeFault {
    pub why: String,
    /// What to do, if that is known.
    pub next: Option<String>,
}

impl fmt::Display for HandshakeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)?;
        self.next.iter().try_for_each(|next| write!(f, ": {next}"))
    }
}

impl From<CertificateFault> for HandshakeFault {
    fn from(CertificateFault { why, next }: CertificateFault) -> Self {
        Self { why, next: Some(next) }
    }
}

/// Explains the error of a handshake with a server.
pub fn fault(error: &io::Error) -> HandshakeFault {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(inner) => tls(inner),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            without_remedy("the server closed during the handshake")
        }
        None => without_remedy(error.to_string()),
    }
}

fn tls(error: &Error) -> HandshakeFault {
    match error {
        Error::InvalidCertificate(fault) => certificate(fault).into(),
        Error::NoCertificatesPresented => without_remedy("the server showed no certificate"),
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => too_old(),
        Error::PeerIncompatible(_) => nothing_in_common("the server offers nothing that is accepted here"),
        Error::NoApplicationProtocol => without_remedy("the server does not speak HTTP/1.1 over TLS (ALPN)"),
        Error::InvalidMessage(_) => without_remedy("what came is not TLS; does this port speak TLS?"),
        error => without_remedy(error.to_string()),
    }
}

fn of_alert(alert: AlertDescription) -> HandshakeFault {
    let ended = |why: &str| format!("the server ended the handshake with the alert {alert:?}: {why}");
    match alert {
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => {
            nothing_in_common(&ended("it found nothing in common"))
        }
        AlertDescription::ProtocolVersion => too_old(),
        AlertDescription::UnrecognisedName => HandshakeFault {
            why: ended("it does not know the name"),
            next: Some("name the upstream as its server does".into()),
        },
        AlertDescription::CertificateRequired => HandshakeFault {
            why: ended("it wants a client certificate"),
            next: Some("hookgate has none: let the server take requests without".into()),
        },
        _ => without_remedy(format!("the server ended the handshake with the alert {alert:?}")),
    }
}

fn nothing_in_common(why: &str) -> HandshakeFault {
    let next = "let it speak TLS 1.3, or 1.2 with ECDHE, with a certificate whose key is RSA, P-256, P-384, \
                P-521 or Ed25519";
    HandshakeFault { why: why.into(), next: Some(next.into()) }
}

fn too_old() -> HandshakeFault {
    let why = "the server speaks neither TLS 1.2 nor TLS 1.3".into();
    HandshakeFault { why, next: Some("update it".into()) }
}

fn certificate(fault: &CertificateError) -> CertificateFault {
    const ANOTHER: &str = "get another certificate for the upstream";
    let at = |time: &rustls::pki_types::UnixTime| date(time.as_secs().try_into().unwrap_or(i64::MAX));
    match fault {
        CertificateError::Other(other) => match other.0.downcast_ref::<CertificateFault>() {
            Some(fault) => fault.clone(),
            None => CertificateFault::new("the certificate chain is not valid", ANOTHER),
        },
        CertificateError::ExpiredContext { not_after, .. } => CertificateFault::new(
            format!("the certificate has expired, on {}", at(not_after)),
            "renew it at the upstream",
        ),
        CertificateError::Expired => {
            CertificateFault::new("the certificate has expired", "renew it at the upstream")
        }
        CertificateError::NotValidYetContext { not_before, .. } => CertificateFault::new(
            format!("the certificate is not valid yet, but from {} on", at(not_before)),
            "is this machine's clock right?",
        ),
        CertificateError::NotValidYet => {
            CertificateFault::new("the certificate is not valid yet", "is this machine's clock right?")
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            not_for_servers()
        }
        CertificateError::Revoked => CertificateFault::new("the certificate has been revoked", ANOTHER),
        CertificateError::BadEncoding => CertificateFault::new("the certificate is not valid X.509", ANOTHER),
        CertificateError::BadSignature => {
            CertificateFault::new("a signature in the certificate chain is wrong", ANOTHER)
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => CertificateFault::new(
            "the certificate is signed with an algorithm that hookgate does not know",
            KEY_ADVICE,
        ),
        _ => CertificateFault::new("the certificate chain is not valid", ANOTHER),
    }
}

fn without_remedy(why: impl Into<String>) -> HandshakeFault {
    HandshakeFault { why: why.into(), next: None }
}
