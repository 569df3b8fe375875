//! How the end of a body is found (RFC 9112 §6.3): decided once, from a parsed head.

use std::num::NonZeroU64;

use super::Version;
use super::fields::Fields;

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Empty,
    /// In bytes.
    Length(NonZeroU64),
    Chunked,
    /// Responses only: the body ends with the connection.
    UntilClose,
}

/// A head whose body could be read in two ways; the text says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadFraming(pub &'static str);

impl Framing {
    /// A request without framing fields has no body.
    pub fn of_request(version: Version, fields: &Fields<'_, '_>) -> Result<Self, BadFraming> {
        Ok(declared(version, fields)?.unwrap_or(Self::Empty))
    }

    /// A response's; `to_head`: the request's method was HEAD.
    pub fn of_response(
        version: Version,
        status: u16,
        to_head: bool,
        fields: &Fields<'_, '_>,
    ) -> Result<Self, BadFraming> {
        let declared = declared(version, fields)?;
        if to_head || matches!(status, 100..=199 | 204 | 304) {
            return Ok(Self::Empty);
        }
        Ok(declared.unwrap_or(Self::UntilClose))
    }

    /// The content's length, where the head tells it.
    pub fn length(self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Length(length) => Some(length.get()),
            Self::Chunked | Self::UntilClose => None,
        }
    }

    fn of_length(length: u64) -> Self {
        NonZeroU64::new(length).map_or(Self::Empty, Self::Length)
    }
}

/// What the framing fields say, or `None` where there are none.
fn declared(version: Version, fields: &Fields<'_, '_>) -> Result<Option<Framing>, BadFraming> {
    if ["content-length", "transfer-encoding"].iter().any(|name| fields.has_space_before_colon(name)) {
        return Err(BadFraming("white space before the colon of a framing field"));
    }
    let mut lengths = fields.values("content-length");
    let mut codings = fields.values("transfer-encoding");
    match (lengths.next(), codings.next()) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(BadFraming("both Content-Length and Transfer-Encoding")),
        (Some(_), None) if lengths.next().is_some() => Err(BadFraming("more than one Content-Length")),
        (Some(length), None) => Ok(Some(Framing::of_length(parse_length(length)?))),
        (None, Some(_)) if codings.next().is_some() => Err(BadFraming("more than one Transfer-Encoding")),
        (None, Some(_)) if version == Version::Http10 => Err(BadFraming("Transfer-Encoding in HTTP/1.0")),
        (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Some(Framing::Chunked)),
        (None, Some(_)) => Err(BadFraming("Transfer-Encoding is not exactly `chunked`")),
    }
}

/// What every reader of it can count to: some have signed numbers.
const MAX_LENGTH: u64 = i64::MAX as u64;

/// `1*DIGIT` up to [`MAX_LENGTH`]; no sign, no list, no space.
fn parse_length(value: &[u8]) -> Result<u64, BadFraming> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(BadFraming("Content-Length is not a number of bytes"));
    }
    let add =
        |length: u64, digit: &u8| length.checked_mul(10)?.checked_add(u64::from(digit.wrapping_sub(b'0')));
    let length = value.iter().try_fold(0, add).filter(|length| *length <= MAX_LENGTH);
    length.ok_or(BadFraming("Content-Length is more than 2^63 - 1"))
}
