//! HTTP/1.1 as bytes (RFC 9110, RFC 9112): knows neither sockets nor clocks.

// Peers decide every length here.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, clippy::expect_used, clippy::indexing_slicing))]

pub mod answer;
pub mod chunked;
pub mod coding;
pub mod decoder;
pub mod encode;
mod error;
pub mod fields;
pub mod framing;
pub mod head;
pub mod response;
pub mod target;

/// The most field lines that a head may be allowed to have: the parser's table of them lies on the
/// stack.
pub const MAX_FIELD_LINES: usize = 512;

/// The interim response that lets a client send its body (RFC 9110 §15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Whether `byte` may stand in a token (RFC 9110 §5.6.2).
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The HTTP versions that are spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

#[cfg(test)]
mod tests;
