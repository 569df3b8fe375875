//! The decoder against the grammar of RFC 9112 §7.1, for every body up to a length.
//!
//! Proven for each of [`BEGINNINGS`] followed by every string over [`ALPHABET`], which has a byte
//! of each class that the grammar tells apart, of at most as many bytes as stand there (one more
//! with `--full`), for requests and for responses:
//! - content, trailers, what is left behind them and where a body is refused are as [`model`] has
//!   them, which reads the whole string by the grammar;
//! - that is so in whatever pieces the string arrives: from every point that the decoder can reach
//!   within the bound, one piece leads to where its bytes lead one by one. By induction on the
//!   number of pieces, so does every way to cut it.
//!
//! Nothing is cut short: only what follows a refusal or an end is left out, as neither can change
//! any more. The limits of 16 digits, 4096 bytes of extensions, and 8192 bytes and 32 lines of
//! trailers lie beyond; `tests/data/bodies.toml` has those.

use super::*;

/// Zero, another hexadecimal digit, a letter that is none, the two delimiters, white space, CR, LF,
/// and a control character.
const ALPHABET: [u8; 9] = *b"02x;: \r\n\x01";
/// What a body may begin with, and how many bytes of any kind follow.
const BEGINNINGS: [(&[u8], usize); 7] = [
    (b"", 7),
    (b"2\r\n", 5),
    (b"2\r\nxx\r\n", 6),
    (b"0\r\n", 5),
    (b"0\r\nx:", 5),
    (b"0\r\nx:x\r\nx", 5),
    (b"2;x\r\nxx\r\n0\r\nx:x\r\n", 5),
];

#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// More may come.
    Open,
    Bad,
    Whole {
        trailers: Vec<u8>,
        rest: Vec<u8>,
    },
}

/// What the decoder has made of the bytes so far.
#[derive(Clone)]
struct Fed {
    decoder: Chunked,
    /// What it has not taken yet.
    unread: Vec<u8>,
    content: Vec<u8>,
    end: End,
}

impl Fed {
    fn new(is_response: bool) -> Self {
        let decoder = if is_response { Chunked::of_response() } else { Chunked::default() };
        Self { decoder, unread: Vec::new(), content: Vec::new(), end: End::Open }
    }

    /// As a connection does: asks again after each step until more bytes are needed.
    fn with(&self, piece: &[u8]) -> Self {
        let mut fed = self.clone();
        fed.unread.extend_from_slice(piece);
        loop {
            match fed.decoder.step(&fed.unread) {
                Ok(Step::More { skip }) => {
                    fed.unread.drain(..skip);
                    return fed;
                }
                Ok(Step::Data { skip, length }) => {
                    assert_ne!(length, 0);
                    fed.unread.drain(..skip);
                    fed.content.extend(fed.unread.drain(..length));
                }
                Ok(Step::End { skip, trailers }) => {
                    let trailers = fed.unread[trailers].to_vec();
                    fed.end = End::Whole { trailers, rest: fed.unread[skip..].to_vec() };
                    return fed;
                }
                Err(BadChunk(_)) => {
                    fed.end = End::Bad;
                    return fed;
                }
            }
        }
    }
}

/// Content and end of a body by the grammar:
/// `chunked-body = *chunk last-chunk trailer-section CRLF`.
fn model(body: &[u8], is_response: bool) -> (Vec<u8>, End) {
    let (mut content, mut rest) = (Vec::new(), body);
    loop {
        let (size, after) = match chunk_line(rest) {
            Ok(read) => read,
            Err(end) => return (content, end),
        };
        if size == 0 {
            return (content, trailer_section(after, is_response));
        }
        let (data, after) = after.split_at(size.min(after.len()));
        content.extend_from_slice(data);
        if data.len() < size {
            return (content, End::Open);
        }
        rest = match crlf(after) {
            Ok(after) => after,
            Err(end) => return (content, end),
        };
    }
}

/// `chunk-size [ chunk-ext ] CRLF`, where an extension is a semicolon and whatever may stand in a
/// field's value.
fn chunk_line(bytes: &[u8]) -> Result<(usize, &[u8]), End> {
    let digits = bytes.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let (size, mut rest) = bytes.split_at(digits);
    if let (false, [b';', after @ ..]) = (size.is_empty(), rest) {
        let visible = |b: &&u8| matches!(b, b'\t' | 0x20..=0x7e | 0x80..);
        rest = &after[after.iter().take_while(visible).count()..];
    } else if size.is_empty() && !rest.is_empty() {
        return Err(End::Bad);
    }
    let after = crlf(rest)?;
    let size = std::str::from_utf8(size).map(|size| usize::from_str_radix(size, 16));
    Ok((size.unwrap().unwrap(), after))
}

fn crlf(bytes: &[u8]) -> Result<&[u8], End> {
    match bytes {
        [] | [b'\r'] => Err(End::Open),
        [b'\r', b'\n', rest @ ..] => Ok(rest),
        _ => Err(End::Bad),
    }
}

/// `*( field-line CRLF ) CRLF`. Lines are judged when all are there.
fn trailer_section(section: &[u8], is_response: bool) -> End {
    let (mut at, mut lines) = (0, Vec::new());
    while let Some(length) = section[at..].iter().position(|b| *b == b'\n') {
        let Some(line) = section[at..at + length].strip_suffix(b"\r") else { return End::Bad };
        at += length + 1;
        if !line.is_empty() {
            lines.push(line);
            continue;
        }
        if !lines.iter().all(|line| is_field_line(line, is_response)) {
            return End::Bad;
        }
        return End::Whole { trailers: section[..at].to_vec(), rest: section[at..].to_vec() };
    }
    End::Open
}

/// `token ":" *( HTAB / SP / VCHAR / obs-text )`; white space before the colon of a response's is
/// taken away (§5.1).
fn is_field_line(line: &[u8], is_response: bool) -> bool {
    let Some(colon) = line.iter().position(|b| *b == b':') else { return false };
    let (mut name, value) = (&line[..colon], &line[colon + 1..]);
    while let (true, [before @ .., b' ' | b'\t']) = (is_response, name) {
        name = before;
    }
    let is_token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    !name.is_empty()
        && name.iter().all(is_token)
        && value.iter().all(|b| matches!(b, b'\t' | 0x20..=0x7e | 0x80..))
}

/// Compares what the decoder made of `string`, which the states of all its beginnings led to, then
/// of all that it begins.
fn prove(string: &mut Vec<u8>, states: &mut Vec<Fed>, most: usize, is_response: bool) {
    let reached = states.last().unwrap();
    let shown = || string.escape_ascii().to_string();
    assert_eq!((reached.content.clone(), reached.end.clone()), model(string, is_response), "{}", shown());
    for (begun, state) in states.iter().enumerate().rev().skip(2) {
        let at_once = state.with(&string[begun..]);
        let same = (&at_once.content, &at_once.end) == (&reached.content, &reached.end);
        assert!(same, "{} depends on a cut at byte {begun}", shown());
    }
    if string.len() == most || reached.end != End::Open {
        return;
    }
    for byte in ALPHABET {
        let next = states.last().unwrap().with(&[byte]);
        string.push(byte);
        states.push(next);
        prove(string, states, most, is_response);
        states.pop();
        string.pop();
    }
}

fn prove_all(more: usize) {
    for (beginning, most) in BEGINNINGS {
        for is_response in [false, true] {
            let mut states = vec![Fed::new(is_response)];
            for byte in beginning {
                let next = states.last().unwrap().with(&[*byte]);
                states.push(next);
            }
            let most = beginning.len() + most + more;
            prove(&mut beginning.to_vec(), &mut states, most, is_response);
        }
    }
}

#[test]
fn every_short_body_is_decoded_as_the_grammar_says() {
    prove_all(0);
}

#[test]
#[ignore = "takes a minute"]
fn every_body_of_one_byte_more_is_decoded_as_the_grammar_says() {
    prove_all(1);
}

/// For every length up to 70,000, which has five digits.
#[test]
fn a_chunk_is_opened_with_its_length() {
    for length in 1..=70_000 {
        let mut line = Vec::new();
        open_chunk(length, &mut line);
        assert_eq!(chunk_line(&line), Ok((length, &b""[..])));
    }
}
