//! A head as anybody would read it who does not care for speed: a second opinion.

use std::num::NonZeroU64;

use hookgate::http::framing::Framing;

/// A head in pieces.
#[derive(Debug)]
pub struct Head {
    pub start: Vec<u8>,
    pub lines: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// In lower case.
    pub name: String,
    pub value: Vec<u8>,
    /// Without CR LF.
    pub raw: Vec<u8>,
}

/// Panics where `bytes` are not exactly one well-formed head: that is the check.
pub fn head(bytes: &[u8]) -> Head {
    try_head(bytes).unwrap_or_else(|why| panic!("{why}: {}", bytes.escape_ascii()))
}

/// The same of a response, whose lines may have white space before their colons: as it must be
/// passed on.
pub fn response_head(bytes: &[u8]) -> Head {
    let mut without = Vec::new();
    for (number, line) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
        let colon = line.iter().position(|b| *b == b':').filter(|_| number > 0).unwrap_or_default();
        let name = line[..colon].iter().rposition(|b| !b" \t".contains(b)).map_or(0, |last| last + 1);
        let framing = ["content-length", "transfer-encoding"]
            .iter()
            .any(|framing| line[..name].eq_ignore_ascii_case(framing.as_bytes()));
        assert!(!framing || name == colon, "white space in a framing field: {}", bytes.escape_ascii());
        without.extend_from_slice(&line[..name]);
        without.extend_from_slice(&line[colon..]);
    }
    head(&without)
}

pub fn try_head(bytes: &[u8]) -> Result<Head, &'static str> {
    let inside = bytes.strip_suffix(b"\r\n\r\n").ok_or("no blank line at the end")?;
    let mut lines = split_crlf(inside).into_iter();
    let start = lines.next().unwrap_or_default().to_vec();
    if bytes.contains(&0) || start.iter().any(|b| b"\r\n".contains(b)) {
        return Err("a stray CR, LF or NUL");
    }
    Ok(Head { start, lines: lines.map(line).collect::<Result<_, _>>()? })
}

/// RFC 9112 §5: `name: value`, nothing before the colon but a token, nothing invisible in the value
/// but tabs.
fn line(raw: &[u8]) -> Result<Line, &'static str> {
    let colon = raw.iter().position(|b| *b == b':').ok_or("a line without a colon")?;
    let (name, value) = (&raw[..colon], &raw[colon + 1..]);
    let token = |b: &u8| b.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(b);
    if name.is_empty() || !name.iter().all(token) {
        return Err("a bad field name");
    }
    if !value.iter().all(|b| *b == b'\t' || (*b >= 0x20 && *b != 0x7f)) {
        return Err("a control character in a field");
    }
    let name = name.iter().map(|b| char::from(b.to_ascii_lowercase())).collect();
    Ok(Line { name, value: value.trim_ascii().to_vec(), raw: raw.to_vec() })
}

fn split_crlf(bytes: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut rest = bytes;
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    lines.push(rest);
    lines
}

impl Head {
    pub fn values(&self, name: &str) -> Vec<&[u8]> {
        self.lines.iter().filter(|line| line.name == name).map(|line| &*line.value).collect()
    }

    /// What frames the body, `None` where nothing does. Panics where two readers could differ.
    pub fn framing(&self) -> Option<Framing> {
        let (lengths, codings) = (self.values("content-length"), self.values("transfer-encoding"));
        match (&*lengths, &*codings) {
            ([], []) => None,
            ([length], []) => {
                let digits = length.iter().all(u8::is_ascii_digit);
                let length = std::str::from_utf8(length).ok().filter(|_| digits).map(str::parse);
                let Some(Ok(length @ ..=0x7fff_ffff_ffff_ffff)) = length else {
                    panic!("a bad Content-Length: {lengths:?}")
                };
                Some(NonZeroU64::new(length).map_or(Framing::Empty, Framing::Length))
            }
            ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Some(Framing::Chunked),
            _ => panic!("ambiguous framing: {lengths:?} {codings:?}"),
        }
    }

    /// What `Connection` names, in lower case.
    pub fn nominated(&self) -> Vec<String> {
        let options = self.values("connection").join(&b',').to_ascii_lowercase();
        let options = options.split(|b| *b == b',').map(<[u8]>::trim_ascii);
        options.map(|option| option.iter().map(|b| char::from(*b)).collect()).collect()
    }

    /// The lines that `keep` wants.
    pub fn kept(&self, keep: impl Fn(&str) -> bool) -> Vec<&Line> {
        self.lines.iter().filter(|line| keep(&line.name)).collect()
    }
}
