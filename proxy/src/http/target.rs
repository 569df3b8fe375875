//! Request targets (RFC 9112 §3.2) and the way to an upstream in them.

use super::error::HeadError;

/// A request target in one of the forms that are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'b> {
    /// Path and query of an origin- or absolute-form, byte for byte; the path may be empty in the
    /// latter.
    Path(&'b [u8]),
    /// `*`, of OPTIONS.
    Asterisk,
    /// `host:port`, of CONNECT.
    Authority,
}

/// Parses a target.
///
/// Errors: bytes that may not stand in one, or a form that `method` does not have.
pub fn parse<'b>(method: &str, target: &'b [u8]) -> Result<Target<'b>, HeadError> {
    check_bytes(target)?;
    if target.starts_with(b"/") {
        return Ok(Target::Path(target));
    }
    if let Some(rest) = strip_scheme(target) {
        let end = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if is_authority(authority) {
            return Ok(Target::Path(path));
        }
    }
    match method {
        "OPTIONS" if target == b"*" => Ok(Target::Asterisk),
        "CONNECT" if is_authority(target) && target.contains(&b':') => Ok(Target::Authority),
        _ => Err(HeadError::Malformed("the request target is neither a path nor an http or https URL")),
    }
}

/// Visible ASCII without `#`, which never reaches a server.
pub(super) fn check_bytes(target: &[u8]) -> Result<(), HeadError> {
    if target.iter().all(|b| matches!(b, 0x21..=0x7e) && *b != b'#') {
        return Ok(());
    }
    Err(HeadError::Malformed("the request target holds a byte that may not stand there"))
}

fn strip_scheme(target: &[u8]) -> Option<&[u8]> {
    let after = |scheme: &[u8]| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    after(b"https://").or_else(|| after(b"http://"))
}

/// The first path segment, and the path and query that travel on; `None` without a second `/` in
/// the path.
pub fn split(path_and_query: &[u8]) -> Option<(&[u8], &[u8])> {
    let after_slash = path_and_query.strip_prefix(b"/")?;
    let end = after_slash.iter().position(|b| matches!(b, b'/' | b'?'))?;
    let (segment, rest) = after_slash.split_at_checked(end)?;
    rest.starts_with(b"/").then_some((segment, rest))
}

/// Whether `authority` is `host` or `host:port` (RFC 3986 §3.2, without user info).
pub fn is_authority(authority: &[u8]) -> bool {
    let mut from_behind = authority.rsplitn(2, |b| *b == b':');
    let (host, port) = match (from_behind.next(), from_behind.next()) {
        // Colons before a `]` are an IPv6 address's.
        (Some(port), Some(host)) if !port.contains(&b']') => (host, port),
        _ => (authority, &b""[..]),
    };
    port.iter().all(u8::is_ascii_digit) && port.len() <= 5 && is_host(host)
}

fn is_host(host: &[u8]) -> bool {
    if let Some(literal) = host.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")) {
        let literal = std::str::from_utf8(literal).unwrap_or_default();
        return literal.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let mut rest = host;
    while let [byte, after @ ..] = rest {
        rest = match (byte, after) {
            (b'%', [a, b, after @ ..]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => after,
            (byte, after) if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte) => after,
            _ => return false,
        };
    }
    !host.is_empty()
}
