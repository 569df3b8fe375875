//! The chunked transfer coding (RFC 9112 §7.1), decoded byte by byte: a body may arrive in any
//! pieces.

use std::ops::Range;

use super::fields::is_forbidden_trailer;
use super::head::EndOfHead;

/// The most bytes that all chunk extensions of a body may have together.
const MAX_EXTENSION_BYTES: u32 = 4096;
/// The most bytes that a trailer section may have.
const MAX_TRAILER_BYTES: usize = 8192;
/// The most lines that a trailer section may have.
const MAX_TRAILER_LINES: usize = 32;

/// A body that is not what the chunked coding allows; the text says where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadChunk(pub &'static str);

/// What lies at the front of the bytes that were looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// `skip` bytes of framing, after which more bytes are needed.
    More { skip: usize },
    /// `skip` bytes of framing, then `length` bytes of content; they count as taken.
    Data { skip: usize, length: usize },
    /// The body is over after `skip` bytes; the trailer section, with its blank line, lies at
    /// `trailers`.
    End { skip: usize, trailers: Range<usize> },
}

/// Where in a chunked body the next byte belongs.
#[derive(Clone, Copy, Debug)]
pub struct Chunked {
    state: State,
    extension_bytes: u32,
    /// Whether trailers may have whitespace before their colons: a response's.
    is_response: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Size { digits: u8, size: u64 },
    Extension { size: u64 },
    SizeLf { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Trailers(EndOfHead),
    Done,
}

impl Default for Chunked {
    fn default() -> Self {
        Self { state: State::FIRST, extension_bytes: 0, is_response: false }
    }
}

impl State {
    const FIRST: Self = Self::Size { digits: 0, size: 0 };

    fn after_size(size: u64) -> Self {
        if size == 0 { Self::Trailers(EndOfHead::default()) } else { Self::Data { left: size } }
    }
}

impl Chunked {
    /// Of a response: in its trailers whitespace before a colon is taken away, not refused (RFC
    /// 9112 §5.1).
    pub fn of_response() -> Self {
        Self { is_response: true, ..Self::default() }
    }

    /// Looks at `input`, which begins where the last step's bytes ended.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, BadChunk> {
        let mut skip = 0;
        loop {
            match &mut self.state {
                State::Data { left: 0 } => self.state = State::DataCr,
                State::Data { left } => {
                    let available = input.len().saturating_sub(skip);
                    if available == 0 {
                        return Ok(Step::More { skip });
                    }
                    let length = usize::try_from(*left).map_or(available, |left| left.min(available));
                    *left = left.saturating_sub(length as u64);
                    return Ok(Step::Data { skip, length });
                }
                State::Trailers(end) => {
                    let section = input.get(skip..).unwrap_or_default();
                    let too_long = |_| BadChunk("a trailer section that is too long or not lines");
                    let Some(length) = end.find(section, MAX_TRAILER_BYTES).map_err(too_long)? else {
                        return Ok(Step::More { skip });
                    };
                    check_trailers(section.get(..length).unwrap_or_default(), self.is_response)?;
                    self.state = State::Done;
                    let end = skip.saturating_add(length);
                    return Ok(Step::End { skip: end, trailers: skip..end });
                }
                State::Done => return Ok(Step::End { skip, trailers: skip..skip }),
                _ => {
                    let Some(byte) = input.get(skip) else { return Ok(Step::More { skip }) };
                    self.framing_byte(*byte)?;
                    skip = skip.saturating_add(1);
                }
            }
        }
    }

    /// How much of the chunk whose content comes next is to come.
    pub fn data_left(&self) -> u64 {
        match self.state {
            State::Data { left } => left,
            _ => 0,
        }
    }

    /// `count` bytes of that content were taken by other means.
    pub fn take(&mut self, count: u64) {
        if let State::Data { left } = &mut self.state {
            *left = left.saturating_sub(count);
        }
    }

    fn framing_byte(&mut self, byte: u8) -> Result<(), BadChunk> {
        self.state = match (self.state, byte) {
            (State::Size { digits, size }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                if digits == 16 {
                    return Err(BadChunk("a chunk size of more than 16 digits"));
                }
                State::Size { digits: digits.saturating_add(1), size: size << 4 | u64::from(digit) }
            }
            (State::Size { digits: 1.., size }, b'\r') => State::SizeLf { size },
            (State::Size { digits: 1.., size }, b';') => State::Extension { size },
            (State::Size { .. }, _) => return Err(BadChunk("a chunk size that is not hexadecimal")),
            (State::Extension { size }, b'\r') => State::SizeLf { size },
            (State::Extension { size }, b'\t' | 0x20..=0x7e | 0x80..) => {
                self.extension_bytes = self.extension_bytes.saturating_add(1);
                if self.extension_bytes > MAX_EXTENSION_BYTES {
                    return Err(BadChunk("chunk extensions that are too long"));
                }
                State::Extension { size }
            }
            (State::Extension { .. }, _) => return Err(BadChunk("a control character in a chunk extension")),
            (State::SizeLf { size }, b'\n') => State::after_size(size),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::FIRST,
            (State::SizeLf { .. } | State::DataCr | State::DataLf, _) => {
                return Err(BadChunk("a chunk that does not end in CR LF"));
            }
            (State::Data { .. } | State::Trailers(_) | State::Done, _) => {
                unreachable!("`step` handles these states")
            }
        };
        Ok(())
    }
}

fn check_trailers(section: &[u8], is_response: bool) -> Result<(), BadChunk> {
    let mut without_spaces = Vec::new();
    let section = match is_response && has_space_before_colon(section) {
        true => {
            for (name, rest) in trailer_lines(section) {
                without_spaces.extend_from_slice(without_last_spaces(name));
                without_spaces.extend_from_slice(rest);
            }
            &without_spaces
        }
        false => section,
    };
    let mut slots = [httparse::EMPTY_HEADER; MAX_TRAILER_LINES];
    match httparse::parse_headers(section, &mut slots) {
        Ok(httparse::Status::Complete((length, _))) if length == section.len() => Ok(()),
        _ => Err(BadChunk("a trailer section that is not field lines")),
    }
}

fn has_space_before_colon(section: &[u8]) -> bool {
    trailer_lines(section).any(|(name, _)| without_last_spaces(name).len() < name.len())
}

fn without_last_spaces(name: &[u8]) -> &[u8] {
    let spaces = name.iter().rev().take_while(|b| matches!(b, b' ' | b'\t')).count();
    name.get(..name.len().saturating_sub(spaces)).unwrap_or_default()
}

/// What is before the colon of each line, and the rest with the colon and the line's end. The blank
/// line is all rest.
fn trailer_lines(section: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let lines = section.split_inclusive(|b| *b == b'\n');
    lines.map(|line| line.split_at(line.iter().position(|b| *b == b':').unwrap_or_default()))
}

/// Appends the lines of a checked trailer section that may travel on, and the blank line.
pub fn relay_trailers(section: &[u8], out: &mut Vec<u8>) {
    for (name, rest) in trailer_lines(section) {
        let name = without_last_spaces(name);
        if !name.is_empty() && !is_forbidden_trailer(std::str::from_utf8(name).unwrap_or_default()) {
            out.extend_from_slice(name);
            out.extend_from_slice(rest);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the line that opens a chunk of `length` bytes; zero would end the body.
pub fn open_chunk(length: usize, out: &mut Vec<u8>) {
    debug_assert_ne!(length, 0);
    let digits = (0..usize::BITS).step_by(4).rev().map(|shift| length >> shift & 15);
    let digits = digits.skip_while(|digit| *digit == 0);
    out.extend(digits.filter_map(|digit| char::from_digit(digit as u32, 16)).map(|digit| digit as u8));
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod proofs;
