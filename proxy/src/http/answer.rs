//! What went wrong → what the client is told: status, `Proxy-Status` type (RFC 9209) and a sentence.

use std::io::Write;

use super::encode::Persistence;

/// Every way in which a request does not get its upstream's response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Not valid HTTP/1.x, or ambiguous; the text says in which way.
    BadRequest(&'static str),
    VersionNotSupported,
    TargetTooLong,
    HeadTooLarge,
    /// The client was too slow.
    ClientTimeout,
    BodyTooLarge,
    MethodNotAllowed,
    NoUpstreamInPath,
    NotAllowed,
    /// The upstream wants a client certificate, and there is none.
    NoClientCertificate,
    Loop,
    /// As many requests are under way to the upstream as may be.
    TooManyInFlight,
    DnsError,
    DnsTimeout,
    /// Every address that the name leads to is one that it must not lead to.
    DestinationProhibited,
    ConnectionRefused,
    ConnectionTerminated,
    ConnectionTimeout,
    /// Nothing that was sent over an idle connection was acknowledged.
    Unacknowledged,
    TlsCertificate,
    TlsProtocol,
    TlsAlert,
    /// The upstream's response is not valid HTTP/1.x; the text says in which way.
    BadResponse(&'static str),
    /// The upstream closed within its response.
    ResponseIncomplete,
    ResponseHeadTooLarge,
    ResponseTimeout,
}

impl Failure {
    /// (status, RFC 9209 error type, sentence), each row as in the contract.
    fn row(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::BadRequest(why) => (400, "http_request_error", why),
            Self::VersionNotSupported => {
                (505, "http_request_error", "only HTTP/1.1 and HTTP/1.0 are spoken here")
            }
            Self::TargetTooLong => (414, "http_request_error", "the request target is too long"),
            Self::HeadTooLarge => (431, "http_request_error", "the request head is too large"),
            Self::ClientTimeout => (408, "http_request_error", "the request took too long to arrive"),
            Self::BodyTooLarge => (413, "http_request_error", "the request body is too large"),
            Self::MethodNotAllowed => (405, "http_request_error", "this method is not forwarded"),
            Self::NoUpstreamInPath => {
                (404, "destination_not_found", "the path names no upstream: /host/path is expected")
            }
            Self::NotAllowed => (403, "http_request_denied", "this upstream is not allowed here"),
            Self::NoClientCertificate => {
                (403, "http_request_denied", "this upstream asks for a client certificate")
            }
            Self::TooManyInFlight => {
                (503, "connection_limit_reached", "too many requests are under way to this upstream")
            }
            Self::Loop => (508, "proxy_loop_detected", "this request has come through this proxy already"),
            Self::DnsError => (502, "dns_error", "the upstream's name does not resolve"),
            Self::DnsTimeout => (504, "dns_timeout", "no DNS server answered in time"),
            Self::DestinationProhibited => {
                (502, "destination_ip_prohibited", "the upstream's name leads to no public address")
            }
            Self::ConnectionRefused => (502, "connection_refused", "the upstream could not be connected to"),
            Self::ConnectionTerminated => {
                (502, "connection_terminated", "the upstream closed without a response")
            }
            Self::ConnectionTimeout => {
                (504, "connection_timeout", "connecting to the upstream took too long")
            }
            Self::Unacknowledged => {
                (504, "connection_timeout", "the upstream acknowledges nothing that is sent to it")
            }
            Self::TlsCertificate => (502, "tls_certificate_error", "the upstream's certificate is not valid"),
            Self::TlsProtocol => (502, "tls_protocol_error", "the TLS handshake with the upstream failed"),
            Self::TlsAlert => (502, "tls_alert_received", "the upstream refused the TLS handshake"),
            Self::BadResponse(why) => (502, "http_protocol_error", why),
            Self::ResponseIncomplete => {
                (502, "http_response_incomplete", "the upstream closed within its response")
            }
            Self::ResponseHeadTooLarge => {
                (502, "http_response_header_section_size", "the upstream's response head is too large")
            }
            Self::ResponseTimeout => (504, "http_response_timeout", "the upstream did not respond in time"),
        }
    }

    /// The types in `Proxy-Status`, each once (RFC 9209 §2.3).
    pub const ERRORS: [&str; 18] = [
        "http_request_error",
        "http_request_denied",
        "destination_not_found",
        "proxy_loop_detected",
        "connection_limit_reached",
        "dns_error",
        "dns_timeout",
        "destination_ip_prohibited",
        "connection_refused",
        "connection_terminated",
        "connection_timeout",
        "tls_certificate_error",
        "tls_protocol_error",
        "tls_alert_received",
        "http_protocol_error",
        "http_response_incomplete",
        "http_response_header_section_size",
        "http_response_timeout",
    ];

    /// Where its type stands in [`Self::ERRORS`].
    pub fn error_index(self) -> usize {
        // A test finds every failure's type there.
        Self::ERRORS.iter().position(|error| *error == self.error()).unwrap_or_default()
    }

    pub fn status(self) -> u16 {
        self.row().0
    }

    /// The type in `Proxy-Status`.
    pub fn error(self) -> &'static str {
        self.row().1
    }

    /// A sentence for a person, without anything that a peer sent.
    pub fn reason(self) -> &'static str {
        self.row().2
    }

    /// Whether what follows on the client's connection cannot be understood or trusted.
    pub fn ends_connection(self) -> bool {
        matches!(
            self,
            Self::BadRequest(_)
                | Self::VersionNotSupported
                | Self::TargetTooLong
                | Self::HeadTooLarge
                | Self::ClientTimeout
                | Self::BodyTooLarge
        )
    }
}

const ALLOW: &str = "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n";

/// Appends the answer to an OPTIONS request that may not be forwarded any further (RFC 9110 §7.6.2): what may be sent
/// through here. `date`: an IMF-fixdate.
pub fn write_options(proxy: &str, date: &str, persistence: Persistence, out: &mut Vec<u8>) {
    let quote = quote(proxy);
    write!(
        out,
        "HTTP/1.1 200 OK\r\nDate: {date}\r\n{ALLOW}Content-Length: 0\r\nProxy-Status: {quote}{proxy}{quote}\r\n",
    )
    .expect("a Vec takes every write");
    out.extend_from_slice(persistence.field_line());
    out.extend_from_slice(b"\r\n");
}

/// What a proxy's name needs around it in Proxy-Status: a name is a token of RFC 9110; one of RFC 8941 begins with a
/// letter or `*`, and a string does for the rest.
fn quote(proxy: &str) -> &'static str {
    if proxy.starts_with(|c: char| c.is_ascii_alphabetic() || c == '*') { "" } else { "\"" }
}

/// Appends a whole answer. `date`: an IMF-fixdate; `body`: false in answer to a HEAD.
pub fn write(
    failure: Failure,
    proxy: &str,
    date: &str,
    persistence: Persistence,
    body: bool,
    out: &mut Vec<u8>,
) {
    let (status, error, sentence) = failure.row();
    let length = sentence.len() + 1;
    let quote = quote(proxy);
    write!(
        out,
        "HTTP/1.1 {status} {}\r\nDate: {date}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {length}\r\nProxy-Status: {quote}{proxy}{quote}; error={error}\r\n",
        reason_phrase(status),
    )
    .expect("a Vec takes every write");
    if failure == Failure::MethodNotAllowed {
        out.extend_from_slice(ALLOW.as_bytes());
    }
    if failure == Failure::TooManyInFlight {
        out.extend_from_slice(b"Retry-After: 1\r\n");
    }
    out.extend_from_slice(persistence.field_line());
    out.extend_from_slice(b"\r\n");
    if body {
        out.extend_from_slice(sentence.as_bytes());
        out.push(b'\n');
    }
}

/// RFC 9110 §15, and 508 of RFC 5842.
fn reason_phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        431 => "Request Header Fields Too Large",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        508 => "Loop Detected",
        _ => "",
    }
}
