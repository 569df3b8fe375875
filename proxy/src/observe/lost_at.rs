use std::time::Duration;

use crate::http::answer::Failure;

/// At which stage of its way a connection or request was lost: the one at which it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LostAt {
    /// hookgate ended while it was under way.
    Machine,
    /// The TLS handshake with the client ended.
    Tls,
    /// It was refused here.
    Request,
    /// The upstream's name led to no address.
    Dns,
    Connect,
    UpstreamTls,
    /// The upstream answered something other than 200, too late, in part, or had as many requests
    /// as it may.
    Upstream,
    /// The client sent too slowly, or went before the answer was written.
    Client,
}

/// How long a client waits for a response that it cannot be blamed for leaving.
const LEAVING_TIMEOUT: Duration = Duration::from_secs(5);

impl LostAt {
    /// As in `hookgate_lost_total` and `hookgate deliveries --json`.
    pub(super) const ALL: [(Self, &str); 8] = [
        (Self::Machine, "machine"),
        (Self::Tls, "tls"),
        (Self::Request, "request"),
        (Self::Dns, "dns"),
        (Self::Connect, "connect"),
        (Self::UpstreamTls, "upstream_tls"),
        (Self::Upstream, "upstream"),
        (Self::Client, "client"),
    ];

    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// A client that went after it had waited for so long for the response to its whole request.
    pub(super) fn of_leaving_after(waited: Option<Duration>) -> Self {
        if waited.is_some_and(|waited| waited >= LEAVING_TIMEOUT) { Self::Upstream } else { Self::Client }
    }
}

impl From<Failure> for LostAt {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::BadRequest(_)
            | Failure::VersionNotSupported
            | Failure::TargetTooLong
            | Failure::HeadTooLarge
            | Failure::BodyTooLarge
            | Failure::MethodNotAllowed
            | Failure::NoUpstreamInPath
            | Failure::NotAllowed
            | Failure::NoClientCertificate
            | Failure::Loop => Self::Request,
            Failure::ClientTimeout => Self::Client,
            Failure::DnsError | Failure::DnsTimeout | Failure::DestinationProhibited => Self::Dns,
            Failure::ConnectionRefused | Failure::ConnectionTimeout | Failure::Unacknowledged => {
                Self::Connect
            }
            Failure::TlsTimeout | Failure::TlsCertificate | Failure::TlsProtocol | Failure::TlsAlert => {
                Self::UpstreamTls
            }
            Failure::TooManyInFlight
            | Failure::ConnectionTerminated
            | Failure::BadResponse(_)
            | Failure::ResponseIncomplete
            | Failure::ResponseHeadTooLarge
            | Failure::ResponseTimeout => Self::Upstream,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_may_leave_after_five_seconds() {
        for (waited, expected) in
            [(None, LostAt::Client), (Some(4999), LostAt::Client), (Some(5000), LostAt::Upstream)]
        {
            assert_eq!(LostAt::of_leaving_after(waited.map(Duration::from_millis)), expected, "{waited:?}");
        }
    }
}
