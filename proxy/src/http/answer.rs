//! What went wrong → what the client is told: status, `Proxy-Status` type (RFC 9209) and a
//! sentence.

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
    /// The TLS handshake with the upstream took too long.
    TlsTimeout,
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

/// A row of the contract's table: how a failure is answered.
struct Row {
    status: Status,
    error: ErrorType,
    /// For a person; without anything that a peer sent.
    sentence: &'static str,
    afterwards: Afterwards,
    /// A field line that only this answer has.
    field_line: Option<&'static str>,
}

/// What becomes of the client's connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Afterwards {
    Keep,
    /// What follows on it cannot be understood or trusted.
    Close,
}

/// A status code and its phrase (RFC 9110 §15, and RFC 5842 §7.2 for 508).
struct Status(u16, &'static str);

impl Status {
    const BAD_REQUEST: Self = Self(400, "Bad Request");
    const FORBIDDEN: Self = Self(403, "Forbidden");
    const NOT_FOUND: Self = Self(404, "Not Found");
    const METHOD_NOT_ALLOWED: Self = Self(405, "Method Not Allowed");
    const REQUEST_TIMEOUT: Self = Self(408, "Request Timeout");
    const CONTENT_TOO_LARGE: Self = Self(413, "Content Too Large");
    const URI_TOO_LONG: Self = Self(414, "URI Too Long");
    const FIELDS_TOO_LARGE: Self = Self(431, "Request Header Fields Too Large");
    const BAD_GATEWAY: Self = Self(502, "Bad Gateway");
    const SERVICE_UNAVAILABLE: Self = Self(503, "Service Unavailable");
    const GATEWAY_TIMEOUT: Self = Self(504, "Gateway Timeout");
    const HTTP_VERSION_NOT_SUPPORTED: Self = Self(505, "HTTP Version Not Supported");
    const LOOP_DETECTED: Self = Self(508, "Loop Detected");
}

macro_rules! error_types {
    ($($variant:ident = $name:literal,)+) => {
        /// The error types in `Proxy-Status` (RFC 9209 §2.3).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ErrorType {
            $($variant,)+
        }

        impl ErrorType {
            /// The names, in the order of the enum.
            pub const NAMES: &[&str] = &[$($name),+];

            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

error_types! {
    HttpRequestError = "http_request_error",
    HttpRequestDenied = "http_request_denied",
    DestinationNotFound = "destination_not_found",
    ProxyLoopDetected = "proxy_loop_detected",
    ConnectionLimitReached = "connection_limit_reached",
    DnsError = "dns_error",
    DnsTimeout = "dns_timeout",
    DestinationIpProhibited = "destination_ip_prohibited",
    ConnectionRefused = "connection_refused",
    ConnectionTerminated = "connection_terminated",
    ConnectionTimeout = "connection_timeout",
    TlsCertificateError = "tls_certificate_error",
    TlsProtocolError = "tls_protocol_error",
    TlsAlertReceived = "tls_alert_received",
    HttpProtocolError = "http_protocol_error",
    HttpResponseIncomplete = "http_response_incomplete",
    HttpResponseHeaderSectionSize = "http_response_header_section_size",
    HttpResponseTimeout = "http_response_timeout",
}

impl Failure {
    fn row(self) -> Row {
        use Afterwards::{Close, Keep};
        use ErrorType::*;
        let row = |status, error, sentence, afterwards, field_line| Row {
            status,
            error,
            sentence,
            afterwards,
            field_line,
        };
        match self {
            Self::BadRequest(why) => row(Status::BAD_REQUEST, HttpRequestError, why, Close, None),
            Self::VersionNotSupported => row(
                Status::HTTP_VERSION_NOT_SUPPORTED,
                HttpRequestError,
                "only HTTP/1.1 and HTTP/1.0 are spoken here",
                Close,
                None,
            ),
            Self::TargetTooLong => {
                row(Status::URI_TOO_LONG, HttpRequestError, "the request target is too long", Close, None)
            }
            Self::HeadTooLarge => {
                row(Status::FIELDS_TOO_LARGE, HttpRequestError, "the request head is too large", Close, None)
            }
            Self::ClientTimeout => row(
                Status::REQUEST_TIMEOUT,
                HttpRequestError,
                "the request took too long to arrive",
                Close,
                None,
            ),
            Self::BodyTooLarge => {
                row(Status::CONTENT_TOO_LARGE, HttpRequestError, "the request body is too large", Close, None)
            }
            Self::MethodNotAllowed => row(
                Status::METHOD_NOT_ALLOWED,
                HttpRequestError,
                "this method is not forwarded",
                Keep,
                Some(ALLOW),
            ),
            Self::NoUpstreamInPath => row(
                Status::NOT_FOUND,
                DestinationNotFound,
                "the path names no upstream: /host/path is expected",
                Keep,
                None,
            ),
            Self::NotAllowed => {
                row(Status::FORBIDDEN, HttpRequestDenied, "this upstream is not allowed here", Keep, None)
            }
            Self::NoClientCertificate => row(
                Status::FORBIDDEN,
                HttpRequestDenied,
                "this upstream asks for a client certificate",
                Keep,
                None,
            ),
            Self::TooManyInFlight => row(
                Status::SERVICE_UNAVAILABLE,
                ConnectionLimitReached,
                "too many requests are under way to this upstream",
                Keep,
                Some(RETRY_AFTER),
            ),
            Self::Loop => row(
                Status::LOOP_DETECTED,
                ProxyLoopDetected,
                "this request has come through this proxy already",
                Keep,
                None,
            ),
            Self::DnsError => {
                row(Status::BAD_GATEWAY, DnsError, "the upstream's name does not resolve", Keep, None)
            }
            Self::DnsTimeout => {
                row(Status::GATEWAY_TIMEOUT, DnsTimeout, "no DNS server answered in time", Keep, None)
            }
            Self::DestinationProhibited => row(
                Status::BAD_GATEWAY,
                DestinationIpProhibited,
                "the upstream's name leads to no public address",
                Keep,
                None,
            ),
            Self::ConnectionRefused => row(
                Status::BAD_GATEWAY,
                ConnectionRefused,
                "the upstream could not be connected to",
                Keep,
                None,
            ),
            Self::ConnectionTerminated => row(
                Status::BAD_GATEWAY,
                ConnectionTerminated,
                "the upstream closed without a response",
                Keep,
                None,
            ),
            Self::ConnectionTimeout => row(
                Status::GATEWAY_TIMEOUT,
                ConnectionTimeout,
                "connecting to the upstream took too long",
                Keep,
                None,
            ),
            Self::Unacknowledged => row(
                Status::GATEWAY_TIMEOUT,
                ConnectionTimeout,
                "the upstream acknowledges nothing that is sent to it",
                Keep,
                None,
            ),
            Self::TlsTimeout => row(
                Status::GATEWAY_TIMEOUT,
                ConnectionTimeout,
                "TLS with the upstream took too long",
                Keep,
                None,
            ),
            Self::TlsCertificate => row(
                Status::BAD_GATEWAY,
                TlsCertificateError,
                "the upstream's certificate is not valid",
                Keep,
                None,
            ),
            Self::TlsProtocol => row(
                Status::BAD_GATEWAY,
                TlsProtocolError,
                "the TLS handshake with the upstream failed",
                Keep,
                None,
            ),
            Self::TlsAlert => row(
                Status::BAD_GATEWAY,
                TlsAlertReceived,
                "the upstream refused the TLS handshake",
                Keep,
                None,
            ),
            Self::BadResponse(why) => row(Status::BAD_GATEWAY, HttpProtocolError, why, Keep, None),
            Self::ResponseIncomplete => row(
                Status::BAD_GATEWAY,
                HttpResponseIncomplete,
                "the upstream closed within its response",
                Keep,
                None,
            ),
            Self::ResponseHeadTooLarge => row(
                Status::BAD_GATEWAY,
                HttpResponseHeaderSectionSize,
                "the upstream's response head is too large",
                Keep,
                None,
            ),
            Self::ResponseTimeout => row(
                Status::GATEWAY_TIMEOUT,
                HttpResponseTimeout,
                "the upstream did not respond in time",
                Keep,
                None,
            ),
        }
    }

    pub fn status(self) -> u16 {
        self.row().status.0
    }

    /// The type in `Proxy-Status`.
    pub fn error_type(self) -> ErrorType {
        self.row().error
    }

    /// The name of the type in `Proxy-Status`.
    pub fn error(self) -> &'static str {
        self.error_type().name()
    }

    /// A sentence for a person, without anything that a peer sent.
    pub fn reason(self) -> &'static str {
        self.row().sentence
    }

    /// Whether what follows on the client's connection cannot be understood or trusted.
    pub fn ends_connection(self) -> bool {
        self.row().afterwards == Afterwards::Close
    }
}

const ALLOW: &str = "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n";
const RETRY_AFTER: &str = "Retry-After: 1\r\n";

/// Appends the answer to an OPTIONS request that may not be forwarded any further (RFC 9110
/// §7.6.2): what may be sent through here. `date`: an IMF-fixdate.
pub fn write_options(proxy: &str, date: &str, persistence: Persistence, out: &mut Vec<u8>) {
    let quote = quote(proxy);
    write!(
        out,
        "HTTP/1.1 200 OK\r\nDate: {date}\r\n{ALLOW}Content-Length: 0\r\nProxy-Status: {quote}{proxy}{quote}\r\n",
    )
    // A Vec takes every write.
    .ok();
    out.extend_from_slice(persistence.field_line());
    out.extend_from_slice(b"\r\n");
}

/// What a proxy's name needs around it in Proxy-Status: a name is a token of RFC 9110; one of RFC
/// 8941 begins with a letter or `*`, and a string does for the rest.
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
    let Row { status: Status(code, phrase), error, sentence, field_line, .. } = failure.row();
    // With its line end.
    let (error, length) = (error.name(), sentence.len().saturating_add(1));
    let quote = quote(proxy);
    write!(
        out,
        "HTTP/1.1 {code} {phrase}\r\nDate: {date}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {length}\r\nProxy-Status: {quote}{proxy}{quote}; error={error}\r\n",
    )
    // A Vec takes every write.
    .ok();
    out.extend_from_slice(field_line.unwrap_or_default().as_bytes());
    out.extend_from_slice(persistence.field_line());
    out.extend_from_slice(b"\r\n");
    if body {
        out.extend_from_slice(sentence.as_bytes());
        out.push(b'\n');
    }
}
