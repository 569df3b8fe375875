use std::fmt;

use rustls::AlertDescription;

use super::LostAt;
use crate::http::answer::Failure;

/// Why something was lost: a status code, or a name of `Proxy-Status` (RFC 9209), of a TLS alert
/// (RFC 8446 §6), or of hookgate's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    Status(u16),
    Name(&'static str),
}

impl Cause {
    /// hookgate ended.
    pub const ENDED: Self = Self::Name("ended");
    /// It was killed or crashed.
    pub const KILLED: Self = Self::Name("killed");
    /// The client hung up.
    pub const CLIENT_GONE: Self = Self::Name("client_gone");
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{status}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl From<Failure> for Cause {
    fn from(failure: Failure) -> Self {
        match LostAt::from(failure) {
            LostAt::Request | LostAt::Client => Self::Status(failure.status()),
            _ => Self::Name(failure.error()),
        }
    }
}

impl From<AlertDescription> for Cause {
    fn from(alert: AlertDescription) -> Self {
        Self::Name(match u8::from(alert) {
            0 => "close_notify",
            10 => "unexpected_message",
            20 => "bad_record_mac",
            22 => "record_overflow",
            40 => "handshake_failure",
            42 => "bad_certificate",
            43 => "unsupported_certificate",
            44 => "certificate_revoked",
            45 => "certificate_expired",
            46 => "certificate_unknown",
            47 => "illegal_parameter",
            48 => "unknown_ca",
            49 => "access_denied",
            50 => "decode_error",
            51 => "decrypt_error",
            70 => "protocol_version",
            71 => "insufficient_security",
            80 => "internal_error",
            86 => "inappropriate_fallback",
            90 => "user_canceled",
            109 => "missing_extension",
            110 => "unsupported_extension",
            112 => "unrecognized_name",
            113 => "bad_certificate_status_response",
            115 => "unknown_psk_identity",
            116 => "certificate_required",
            120 => "no_application_protocol",
            _ => "unknown_alert",
        })
    }
}
