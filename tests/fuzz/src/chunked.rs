use std::num::NonZeroU64;

use hookgate::http::chunked::{Step, open_chunk, relay_trailers};
use hookgate::http::decoder::{BodyError, Decoder};
use hookgate::http::fields::is_forbidden_trailer;
use hookgate::http::framing::Framing;

use crate::{pieces, plain};

/// How a body ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It has not.
    Open,
    Bad,
    TooLarge,
    Whole {
        trailers: Vec<u8>,
        rest: Vec<u8>,
    },
}

/// However a body is cut, it decodes to what another reader finds in it, and so does what is sent
/// on in its place.
pub fn check(bytes: &[u8]) {
    let (content, end) = plain_decode(bytes);
    for pieces in pieces::ways(bytes) {
        let decoded = decode(Framing::Chunked, u64::MAX, &pieces);
        assert_eq!((decoded.content(), &decoded.end), (content.clone(), &end));
        let limited = decode(Framing::Chunked, 64, &pieces).end;
        assert_eq!(limited, if content.len() > 64 { End::TooLarge } else { end.clone() });
        if let End::Whole { trailers, .. } = &decoded.end {
            sent_on(&decoded.chunks, trailers);
        }
        let length = NonZeroU64::new(17).expect("not zero");
        let (body, rest) = bytes.split_at(bytes.len().min(17));
        let decoded = decode(Framing::Length(length), u64::MAX, &pieces);
        let whole = End::Whole { trailers: Vec::new(), rest: rest.to_vec() };
        assert_eq!(decoded.content(), body);
        assert_eq!(decoded.end, if body.len() == 17 { whole } else { End::Open });
    }
}

/// What goes on: the same content, no trailer that must not.
fn sent_on(chunks: &[Vec<u8>], trailers: &[u8]) {
    let mut out = Vec::new();
    for chunk in chunks {
        open_chunk(chunk.len(), &mut out);
        out.extend([&chunk[..], b"\r\n"].concat());
    }
    out.extend_from_slice(b"0\r\n");
    relay_trailers(trailers, &mut out);
    let (content, end) = plain_decode(&out);
    let End::Whole { trailers: relayed, rest } = end else { panic!("sent on as {end:?}") };
    assert_eq!((content, &*rest), (chunks.concat(), &b""[..]));
    let allowed = |line: &&plain::Line| !is_forbidden_trailer(&line.name);
    let (came, went) = (lines(trailers), lines(&relayed));
    assert!(went.iter().eq(came.iter().filter(allowed)), "{went:?} of {came:?}");
    const NEVER: [&str; 6] =
        ["content-length", "transfer-encoding", "host", "trailer", "authorization", "x-forwarded-for"];
    assert!(!went.iter().any(|line| NEVER.contains(&&*line.name)), "{went:?}");
}

fn lines(section: &[u8]) -> Vec<plain::Line> {
    plain::head(&[b"start\r\n", section].concat()).lines
}

/// What hookgate's decoder makes of a body.
pub struct Decoded {
    chunks: Vec<Vec<u8>>,
    pub end: End,
}

impl Decoded {
    pub fn content(&self) -> Vec<u8> {
        self.chunks.concat()
    }
}

/// Feeds the pieces one after the other, as a connection would.
pub fn decode(framing: Framing, most: u64, pieces: &[&[u8]]) -> Decoded {
    feed(Decoder::new(framing, most), pieces)
}

/// The same of a response's body.
pub fn decode_response(framing: Framing, bytes: &[u8]) -> Decoded {
    feed(Decoder::of_response(framing), &[bytes])
}

fn feed(mut decoder: Decoder, pieces: &[&[u8]]) -> Decoded {
    let (mut chunks, mut buffer) = (Vec::new(), Vec::new());
    let mut pieces = pieces.iter();
    let end = loop {
        match decoder.step(&buffer) {
            Ok(Step::Data { skip, length }) => {
                buffer.drain(..skip);
                assert_ne!(length, 0, "a chunk of nothing ends a body");
                chunks.push(buffer.drain(..length).collect());
            }
            Ok(Step::End { skip, trailers }) => {
                let trailers = buffer[trailers].to_vec();
                let rest = [&buffer[skip..], &pieces.copied().collect::<Vec<_>>().concat()].concat();
                break End::Whole { trailers, rest };
            }
            Ok(Step::More { skip }) => {
                buffer.drain(..skip);
                match pieces.next() {
                    Some(piece) => buffer.extend_from_slice(piece),
                    None if decoder.end_of_input().is_ok() => {
                        break End::Whole { trailers: Vec::new(), rest: Vec::new() };
                    }
                    None => break End::Open,
                }
            }
            Err(BodyError::TooLarge) => break End::TooLarge,
            Err(_) => break End::Bad,
        }
    };
    Decoded { chunks, end }
}

/// RFC 9112 §7.1 as it is written, with hookgate's bounds, from the whole.
pub fn plain_decode(bytes: &[u8]) -> (Vec<u8>, End) {
    let (mut content, mut rest, mut extensions) = (Vec::new(), bytes, 0);
    loop {
        let digits = rest.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        if digits > 16 {
            return (content, End::Bad);
        }
        let Some(after) = rest.get(digits) else { return (content, End::Open) };
        if digits == 0 || !b";\r".contains(after) {
            return (content, End::Bad);
        }
        let size = std::str::from_utf8(&rest[..digits]).map(|size| u64::from_str_radix(size, 16));
        let Ok(Ok(size)) = size else { panic!("hexadecimal digits") };
        let line = &rest[digits..];
        let line_end = line.iter().position(|b| *b != b'\t' && (*b < 0x20 || *b == 0x7f));
        extensions += line_end.unwrap_or(line.len()).saturating_sub(1);
        if extensions > 4096 {
            return (content, End::Bad);
        }
        match line_end.map(|end| &line[end..]) {
            None | Some([b'\r']) => return (content, End::Open),
            Some([b'\r', b'\n', after @ ..]) => rest = after,
            Some(_) => return (content, End::Bad),
        }
        if size == 0 {
            let end = plain_trailers(rest);
            return (content, end);
        }
        let length = usize::try_from(size).unwrap_or(usize::MAX).min(rest.len());
        content.extend_from_slice(&rest[..length]);
        match &rest[length..] {
            [] | [b'\r'] => return (content, End::Open),
            [b'\r', b'\n', after @ ..] => rest = after,
            _ => return (content, End::Bad),
        }
    }
}

/// Field lines up to a blank one.
fn plain_trailers(bytes: &[u8]) -> End {
    let (mut at, mut count) = (0, 0);
    loop {
        let Some(length) = bytes[at..].iter().position(|b| *b == b'\n') else {
            return if bytes.len() > 8192 { End::Bad } else { End::Open };
        };
        let line = &bytes[at..at + length + 1];
        at += line.len();
        if at > 8192 || !line.ends_with(b"\r\n") {
            return End::Bad;
        }
        if line.len() == 2 {
            break;
        }
        count += 1;
    }
    if plain::try_head(&[b"start\r\n", &bytes[..at]].concat()).is_err() || count > 32 {
        return End::Bad;
    }
    End::Whole { trailers: bytes[..at].to_vec(), rest: bytes[at..].to_vec() }
}
