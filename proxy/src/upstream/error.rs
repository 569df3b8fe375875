use std::fmt;
use std::io;

use crate::http::answer::Failure;
use crate::tls::fault;

/// Why there is no connection to an upstream.
#[derive(Clone, Debug)]
pub enum ConnectError {
    /// NXDOMAIN, or a name without an address.
    NoName(String),
    /// SERVFAIL, or an answer that is none.
    Dns(String),
    /// Nothing can be sent to any DNS server.
    NoDns(String),
    /// No DNS server has answered; why the others could not be asked.
    DnsTimeout(Option<String>),
    /// The name leads only to addresses that it must not lead to.
    Prohibited,
    Refused(String),
    TimedOut,
    /// TCP was there in time, TLS was not.
    TlsTimedOut,
    Certificate(String),
    TlsProtocol(String),
    TlsAlert(String),
}

impl ConnectError {
    /// What failed in a TLS handshake.
    pub(super) fn handshake(error: io::Error) -> Self {
        let detail = fault(&error).to_string();
        let tls = error.into_inner().and_then(|inner| inner.downcast::<rustls::Error>().ok());
        match tls.as_deref() {
            Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
                Self::Certificate(detail)
            }
            Some(rustls::Error::AlertReceived(_)) => Self::TlsAlert(detail),
            _ => Self::TlsProtocol(detail),
        }
    }
}

impl From<&ConnectError> for Failure {
    fn from(error: &ConnectError) -> Self {
        match error {
            ConnectError::NoName(_) | ConnectError::Dns(_) | ConnectError::NoDns(_) => Self::DnsError,
            ConnectError::DnsTimeout(_) => Self::DnsTimeout,
            ConnectError::Prohibited => Self::DestinationProhibited,
            ConnectError::Refused(_) => Self::ConnectionRefused,
            ConnectError::TimedOut => Self::ConnectionTimeout,
            ConnectError::TlsTimedOut => Self::TlsTimeout,
            ConnectError::Certificate(_) => Self::TlsCertificate,
            ConnectError::TlsProtocol(_) => Self::TlsProtocol,
            ConnectError::TlsAlert(_) => Self::TlsAlert,
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoName(detail)
            | Self::Dns(detail)
            | Self::NoDns(detail)
            | Self::Refused(detail)
            | Self::Certificate(detail)
            | Self::TlsProtocol(detail)
            | Self::TlsAlert(detail) => f.write_str(detail),
            Self::DnsTimeout(None) => f.write_str("no DNS server answered in time"),
            Self::DnsTimeout(Some(others)) => write!(f, "no DNS server answered in time; {others}"),
            Self::Prohibited => f.write_str("the name leads only to addresses that are not public"),
            Self::TimedOut => f.write_str("timed out"),
            Self::TlsTimedOut => f.write_str("the TLS handshake timed out"),
        }
    }
}
