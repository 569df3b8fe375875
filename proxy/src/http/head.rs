//! A request's head: found in the read buffer, parsed in place, checked once.

use std::mem::MaybeUninit;

use memchr::memchr;

use super::fields::Fields;
use super::framing::{BadFraming, Framing};
use super::target::{self, Target};
use super::{Version, is_token_byte};

pub use super::error::HeadError;

/// Room for the parser's table of field lines.
pub type Slots<'b> = [MaybeUninit<httparse::Header<'b>>; super::MAX_FIELD_LINES];

/// An empty table.
pub fn slots<'b>() -> Slots<'b> {
    [const { MaybeUninit::uninit() }; super::MAX_FIELD_LINES]
}

/// What a head may measure; every limit is inclusive.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// From the start-line to the blank line.
    pub bytes: usize,
    /// Of the request target alone.
    pub target_bytes: usize,
    /// At most [`super::MAX_FIELD_LINES`].
    pub field_lines: usize,
}

/// Finds the end of a head, however the bytes arrive; no byte is looked at twice.
#[derive(Clone, Copy, Debug, Default)]
pub struct EndOfHead {
    /// Bytes already looked at.
    seen: usize,
    /// Where the line begins that is being read.
    line: usize,
}

impl EndOfHead {
    /// The head's length with its blank line, or `None` while that has not arrived. Only the first
    /// `most` bytes are judged, so the outcome does not depend on the pieces in which they arrived.
    ///
    /// Errors: a line that does not end in CR LF, or more than `most` bytes.
    pub fn find(&mut self, buffered: &[u8], most: usize) -> Result<Option<usize>, HeadError> {
        let allowed = buffered.get(..most).unwrap_or(buffered);
        while let Some(newline) = memchr(b'\n', allowed.get(self.seen..).unwrap_or_default()) {
            let end = self.seen.saturating_add(newline).saturating_add(1);
            let line = allowed.get(self.line..end).unwrap_or_default();
            if !line.ends_with(b"\r\n") {
                return Err(HeadError::Malformed("a line ends without CR"));
            }
            (self.seen, self.line) = (end, end);
            if line.len() == 2 {
                return Ok(Some(end));
            }
        }
        self.seen = allowed.len();
        if buffered.len() > most { Err(HeadError::TooLarge) } else { Ok(None) }
    }

    /// [`Self::find`] for a request: refuses at once what no further byte can make valid, and says
    /// of a head that is too large what it would have said of the whole.
    pub fn find_request(&mut self, buffered: &[u8], limits: &HeadLimits) -> Result<Option<usize>, HeadError> {
        match self.find(buffered, limits.bytes) {
            Ok(None) => ensure_method_may_follow(buffered).map(|()| None),
            Err(HeadError::TooLarge) => {
                let allowed = buffered.get(..limits.bytes).unwrap_or(buffered);
                Err(refusal_of_too_large(allowed, limits))
            }
            found => found,
        }
    }
}

/// Refuses a head that is incomplete if its method is invalid already. A lone CR may still become
/// the empty line that goes before some requests. Only the first bytes are looked at, since this is
/// asked again with each read.
fn ensure_method_may_follow(buffered: &[u8]) -> Result<(), HeadError> {
    ensure_method_is_short(buffered)?;
    let start = buffered.get(..MAX_METHOD_BYTES).unwrap_or(buffered);
    let method = start.split(|b| *b == b' ').next().unwrap_or_default();
    let is_token = method.iter().all(|b| is_token_byte(*b));
    if is_token || buffered == b"\r" { Ok(()) } else { Err(BAD_REQUEST_LINE) }
}

fn ensure_method_is_short(head: &[u8]) -> Result<(), HeadError> {
    let start = head.iter().take(MAX_METHOD_BYTES + 1);
    let length = start.take_while(|b| is_token_byte(**b)).count();
    if length <= MAX_METHOD_BYTES { Ok(()) } else { Err(LONG_METHOD) }
}

/// No registered method is half as long.
const MAX_METHOD_BYTES: usize = 32;

const LONG_METHOD: HeadError = HeadError::Malformed("the method is longer than 32 bytes");

const BAD_REQUEST_LINE: HeadError = HeadError::Malformed("the request line is not `method target version`");

/// A valid request head, borrowed from the buffer that it arrived in.
#[derive(Debug)]
pub struct RequestHead<'b> {
    pub method: &'b str,
    pub target: Target<'b>,
    pub version: Version,
    pub fields: Fields<'b, 'b>,
    pub framing: Framing,
}

impl<'b> RequestHead<'b> {
    /// Parses one whole head, as [`EndOfHead`] found it.
    pub fn parse(head: &'b [u8], slots: &'b mut Slots<'b>, limits: &HeadLimits) -> Result<Self, HeadError> {
        ensure_method_is_short(head)?;
        let mut parsed = httparse::Request::new(&mut []);
        match parsed.parse_with_uninit_headers(head, slots) {
            Ok(httparse::Status::Complete(length)) if length == head.len() => {}
            Ok(_) => return Err(HeadError::Malformed("the head ends where it should not")),
            Err(httparse::Error::TooManyHeaders) => return Err(refusal_of_too_large(head, limits)),
            Err(error) => return Err(refusal(error, head)),
        }
        let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
            return Err(BAD_REQUEST_LINE);
        };
        let version = if minor == 1 { Version::Http11 } else { Version::Http10 };
        let fields = Fields::new(head, parsed.headers);
        check_host(version, &fields)?;
        let framing =
            Framing::of_request(version, &fields).map_err(|BadFraming(why)| HeadError::Malformed(why))?;
        let parsed_target = target::parse(method, target.as_bytes())?;
        if target.len() > limits.target_bytes {
            return Err(HeadError::TargetTooLong);
        }
        if fields.count() > limits.field_lines {
            return Err(HeadError::TooLarge);
        }
        Ok(Self { method, target: parsed_target, version, fields, framing })
    }

    /// Whether the client allows another request on its connection (RFC 9112 §9.3).
    pub fn persists(&self) -> bool {
        match self.version {
            Version::Http11 => !self.fields.connection_has("close"),
            Version::Http10 => {
                self.fields.connection_has("keep-alive") && !self.fields.connection_has("close")
            }
        }
    }

    /// How many proxies may still forward it (RFC 9110 §7.6.2); `None` where that is not said, not
    /// a number, or said of another method than OPTIONS. A number that is too large for a `u64`
    /// counts as the largest.
    pub fn max_forwards(&self) -> Option<u64> {
        let mut values = self.fields.values("max-forwards").filter(|_| self.method == "OPTIONS");
        let (value, None) = (values.next()?, values.next()) else { return None };
        let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let add = |number: u64, digit: &u8| {
            number.saturating_mul(10).saturating_add(u64::from(digit.wrapping_sub(b'0')))
        };
        is_number.then(|| value.iter().fold(0, add))
    }

    /// Whether the client waits for a 100 before it sends its body (RFC 9110 §10.1.1).
    pub fn expects_continue(&self) -> bool {
        let expects = |value: &[u8]| value.eq_ignore_ascii_case(b"100-continue");
        self.version == Version::Http11 && self.fields.values("expect").any(expects)
    }
}

/// What a head beyond its limits is refused with, of which `start` was read: 400 and 505 go before
/// 414 and 431.
fn refusal_of_too_large(start: &[u8], limits: &HeadLimits) -> HeadError {
    if let Err(error) = ensure_method_is_short(start) {
        return error;
    }
    let mut slots = slots();
    match httparse::Request::new(&mut []).parse_with_uninit_headers(start, &mut slots) {
        Ok(_) | Err(httparse::Error::TooManyHeaders) => {}
        Err(error) => return refusal(error, start),
    }
    let target = start.splitn(3, |b| *b == b' ').nth(1).unwrap_or_default();
    match target::check_bytes(target) {
        Err(error) => error,
        Ok(()) if target.len() > limits.target_bytes => HeadError::TargetTooLong,
        Ok(()) => HeadError::TooLarge,
    }
}

/// What httparse's refusal is in the contract's words.
fn refusal(error: httparse::Error, head: &[u8]) -> HeadError {
    match error {
        httparse::Error::TooManyHeaders => HeadError::TooLarge,
        httparse::Error::Version => refusal_of_version(head),
        httparse::Error::HeaderName => {
            HeadError::Malformed("a field line has no valid name before its colon")
        }
        httparse::Error::HeaderValue => HeadError::Malformed("a field value holds a control character"),
        httparse::Error::NewLine => HeadError::Malformed("a line does not end where it should"),
        httparse::Error::Status | httparse::Error::Token => BAD_REQUEST_LINE,
    }
}

fn refusal_of_version(head: &[u8]) -> HeadError {
    let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
    let mut words = line.split(|b| *b == b' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (_, _, Some([b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9']), None) => {
            HeadError::Version
        }
        (_, _, Some(_), None) => HeadError::Malformed("the version is not HTTP/d.d"),
        _ => BAD_REQUEST_LINE,
    }
}

/// Exactly one valid Host in HTTP/1.1, at most one in HTTP/1.0 (RFC 9112 §3.2).
fn check_host(version: Version, fields: &Fields<'_, '_>) -> Result<(), HeadError> {
    let mut hosts = fields.values("host");
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => Err(HeadError::Malformed("more than one Host")),
        (None, None) if version == Version::Http11 => Err(HeadError::Malformed("no Host")),
        (None, None) => Ok(()),
        (Some(host), None) if target::is_authority(host) => Ok(()),
        (Some(_), None) => Err(HeadError::Malformed("the Host is not `host` or `host:port`")),
    }
}
