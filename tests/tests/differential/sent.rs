//! What hookgate sent, as the strictest reader has it.

use anyhow::{Context, Result, ensure};

/// Follows what hookgate sent: a reader that takes the wrong end for the end does not see it as it
/// is.
const SENTINEL: &str =
    "GET /sentinel HTTP/1.1\r\nHost: p\r\nX-Request-Id: sentinel\r\nConnection: close\r\n\r\n";

/// A request as hookgate sent it, alone on its connection.
pub struct Sent {
    pub case: String,
    pub bytes: Vec<u8>,
    pub start: String,
    pub id: String,
    /// Its body came to its end.
    pub whole: bool,
}

impl Sent {
    /// Reads a stream as strictly as anybody could: exactly one request, framed in exactly one way.
    pub fn parse(case: &str, bytes: &[u8]) -> Result<Self> {
        let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").context("no head")?;
        let (head, body) = (latin1(&bytes[..head]), &bytes[head + 4..]);
        ensure!(!head.replace("\r\n", "").contains(['\r', '\n', '\0']), "a stray CR, LF or NUL");
        let mut lines = head.split("\r\n");
        let start = lines.next().context("no request line")?.to_owned();
        ensure!(start.split(' ').count() == 3 && start.ends_with(" HTTP/1.1"), "{start}");
        let fields = lines.map(|line| line.split_once(": ").or(line.split_once(':')).context("no field"));
        let fields = fields.collect::<Result<Vec<_>>>()?;
        let values = |name: &str| {
            let named = fields.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
            named.map(|(_, value)| *value).collect::<Vec<_>>()
        };
        let whole = match (&values("transfer-encoding")[..], &values("content-length")[..]) {
            ([], []) => {
                ensure!(body.is_empty(), "a body that nothing frames");
                true
            }
            ([], [length]) => {
                let length: usize = length.parse()?;
                ensure!(body.len() <= length, "more than its length");
                body.len() == length
            }
            (["chunked"], []) => chunks_are_whole(body)?,
            (codings, lengths) => anyhow::bail!("framed by {codings:?} and {lengths:?}"),
        };
        let id = (*values("x-request-id").first().context("no id")?).to_owned();
        Ok(Self { case: case.to_owned(), bytes: bytes.to_vec(), start, id, whole })
    }

    /// The bytes, and another request where the first one has come to its end.
    pub fn with_sentinel(&self) -> Vec<u8> {
        let sentinel = if self.whole { SENTINEL } else { "" };
        [&self.bytes[..], sentinel.as_bytes()].concat()
    }
}

/// Text of the same length, a byte a character.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// Whether a chunked body is whole; an error where it is none.
fn chunks_are_whole(mut body: &[u8]) -> Result<bool> {
    loop {
        let Some(end) = body.windows(2).position(|window| window == b"\r\n") else { return Ok(false) };
        let size = std::str::from_utf8(&body[..end])?;
        ensure!(size.bytes().all(|byte| byte.is_ascii_hexdigit()), "a size {size:?}");
        let size = usize::from_str_radix(size, 16)?;
        body = &body[end + 2..];
        if size == 0 {
            let trailers = [b"\r\n", body].concat();
            let end = trailers.windows(4).position(|window| window == b"\r\n\r\n");
            ensure!(end.is_none_or(|end| end + 4 == trailers.len()), "something after the last chunk");
            return Ok(end.is_some());
        }
        let Some(after) = body.get(size..) else { return Ok(false) };
        ensure!(after.starts_with(b"\r\n") || after.len() < 2, "a chunk longer than it says");
        body = after.get(2..).unwrap_or_default();
    }
}
