//! A request's head: found in the read buffer, parsed in place, checked once.

use std::mem::MaybeUninit;

use super::fields::Fields;
use super::framing::{BadFraming, Framing};
use super::target::{self, Target};
use super::{Version, is_token_byte};

/// Room for the parser's table of field lines.
pub type Slots<'b> = [MaybeUninit<httparse::Header<'b>>; super::MOST_FIELD_LINES];

/// An empty table.
pub fn slots<'b>() -> Slots<'b> {
    [const { MaybeUninit::uninit() }; super::MOST_FIELD_LINES]
}

/// What a head may measure; every limit is inclusive.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// From the start-line to the blank line.
    pub bytes: usize,
    /// Of the request target alone.
    pub target_bytes: usize,
    /// At most [`super::MOST_FIELD_LINES`].
    pub field_lines: usize,
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// Not HTTP/1.x; the text says in which way.
    Malformed(&'static str),
    /// A well-formed version that is not spoken here.
    Version,
    TargetTooLong,
    TooLarge,
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
    /// The head's length with its blank line, or `None` while that has not arrived.
    ///
    /// Errors: a line that does not end in CR LF, or more than `most` bytes.
    pub fn find(&mut self, buffered: &[u8], most: usize) -> Result<Option<usize>, HeadError> {
        while let Some(newline) = buffered[self.seen..].iter().position(|b| *b == b'\n') {
            let end = self.seen + newline + 1;
            let line = &buffered[self.line..end];
            if !line.ends_with(b"\r\n") {
                return Err(HeadError::Malformed("a line ends without CR"));
            }
            (self.seen, self.line) = (end, end);
            if end > most {
                return Err(HeadError::TooLarge);
            }
            if line.len() == 2 {
                return Ok(Some(end));
            }
        }
        self.seen = buffered.len();
        if self.seen > most { Err(HeadError::TooLarge) } else { Ok(None) }
    }

    /// Whether the start-line has arrived whole.
    pub fn is_past_start_line(&self) -> bool {
        self.line > 0
    }
}

/// Checks a start-line that has not arrived whole for what can be refused already.
pub fn check_partial_request_line(buffered: &[u8], limits: &HeadLimits) -> Result<(), HeadError> {
    let mut parts = buffered.splitn(3, |b| *b == b' ');
    let method = parts.next().unwrap_or_default();
    if !method.iter().all(|b| is_token_byte(*b)) {
        return Err(HeadError::Malformed("the method is not a token"));
    }
    match parts.next() {
        Some(target) if target.len() > limits.target_bytes => Err(HeadError::TargetTooLong),
        _ => Ok(()),
    }
}

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
        let slots = &mut slots[..limits.field_lines];
        let mut parsed = httparse::Request::new(&mut []);
        let outcome = parsed.parse_with_uninit_headers(head, slots);
        match outcome {
            Ok(httparse::Status::Complete(length)) if length == head.len() => {}
            Ok(_) => return Err(HeadError::Malformed("the head ends where it should not")),
            Err(error) => return Err(refusal(error, head, limits)),
        }
        let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
            return Err(HeadError::Malformed("the request line lacks a part"));
        };
        if target.len() > limits.target_bytes {
            return Err(HeadError::TargetTooLong);
        }
        let version = if minor == 1 { Version::Http11 } else { Version::Http10 };
        let fields = Fields::new(head, parsed.headers);
        check_host(version, &fields)?;
        let framing =
            Framing::of_request(version, &fields).map_err(|BadFraming(why)| HeadError::Malformed(why))?;
        let target = target::parse(method, target.as_bytes())?;
        Ok(Self { method, target, version, fields, framing })
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

    /// Whether the client waits for a 100 before it sends its body (RFC 9110 §10.1.1).
    pub fn expects_continue(&self) -> bool {
        let expects = |value: &[u8]| value.eq_ignore_ascii_case(b"100-continue");
        self.version == Version::Http11 && self.fields.values("expect").any(expects)
    }
}

/// What httparse's refusal is in the contract's words. A head too large for its limits may be cut anywhere,
/// so the target's length is asked first.
fn refusal(error: httparse::Error, head: &[u8], limits: &HeadLimits) -> HeadError {
    let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
    match error {
        httparse::Error::TooManyHeaders => HeadError::TooLarge,
        httparse::Error::Version => {
            let mut parts = line.split(|b| *b == b' ');
            let (Some(_), Some(target), Some(version), None) =
                (parts.next(), parts.next(), parts.next(), parts.next())
            else {
                return HeadError::Malformed("the request line is not `method target version`");
            };
            match version {
                [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                    if major.is_ascii_digit() && minor.is_ascii_digit() =>
                {
                    HeadError::Version
                }
                _ if target.len() > limits.target_bytes => HeadError::TargetTooLong,
                _ => HeadError::Malformed("the version is not HTTP/d.d"),
            }
        }
        httparse::Error::HeaderName => {
            HeadError::Malformed("a field line has no valid name before its colon")
        }
        httparse::Error::HeaderValue => HeadError::Malformed("a field value holds a control character"),
        httparse::Error::NewLine | httparse::Error::Status | httparse::Error::Token => {
            HeadError::Malformed("the request line is not `method target version`")
        }
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
