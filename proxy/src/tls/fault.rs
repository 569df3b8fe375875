use std::io;

use rustls::{CertificateError, Error};

/// What a failed handshake with a server was about, as a sentence for whoever has to mend it.
pub fn fault(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(inner) => tls(inner),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the server closed during the handshake".into()
        }
        None => error.to_string(),
    }
}

fn tls(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(fault) => certificate(fault),
        Error::NoCertificatesPresented => "the server showed no certificate".into(),
        Error::AlertReceived(alert) => format!("the server ended the handshake with the alert {alert:?}"),
        Error::PeerIncompatible(why) => {
            format!("no common ground: the server offers nothing that is accepted here ({why:?})")
        }
        Error::NoApplicationProtocol => "the server does not speak HTTP/1.1 over TLS (ALPN)".into(),
        Error::InvalidMessage(_) => "what came is not TLS; does this port speak TLS?".into(),
        error => error.to_string(),
    }
}

fn certificate(fault: &CertificateError) -> String {
    match fault {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the certificate has expired".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the certificate is not valid yet; is this machine's clock right?".into()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the certificate is for another name".into()
        }
        CertificateError::UnknownIssuer => {
            "no authority that is trusted here has signed the certificate".into()
        }
        CertificateError::Revoked => "the certificate has been revoked".into(),
        CertificateError::BadEncoding => "the certificate is not valid X.509".into(),
        CertificateError::BadSignature => "a signature in the certificate chain is wrong".into(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the certificate is not for servers".into()
        }
        other => format!("the certificate is not valid: {other}"),
    }
}
