use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, split};

use super::Stream;
use crate::http::chunked::Step;
use crate::http::coding::{self, CodingError};
use crate::http::decoder::Decoder;
use crate::http::fields::Fields;
use crate::http::head::{EndOfHead, slots};
use crate::http::response::{BadResponse, ResponseHead};

/// The longest head of an answer.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// How much of an answer's body is read.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// The final answer to a request.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// Its first 64 KiB, without transfer coding.
    pub body: Vec<u8>,
    /// Whether the connection can be used again.
    pub persists: bool,
    head: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("closed without an answer")]
    Closed,
    #[error("closed in the middle of the answer")]
    Cut,
    #[error("not a valid HTTP answer: {0}")]
    Malformed(&'static str),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<BadResponse> for RequestError {
    fn from(BadResponse(why): BadResponse) -> Self {
        Self::Malformed(why)
    }
}

/// Sends a whole request and reads the answer, which may come before all is sent.
pub async fn request(stream: &mut Stream, request: &[u8]) -> Result<Response, RequestError> {
    let (mut reader, mut writer) = split(stream);
    let sending = async {
        writer.write_all(request).await?;
        writer.flush().await
    };
    let reading = read_response(&mut reader, request.starts_with(b"HEAD "));
    tokio::pin!(sending, reading);
    let mut is_sent = None;
    loop {
        tokio::select! {
            answer = &mut reading => {
                let answer = answer?;
                let persists = answer.persists && is_sent == Some(true);
                return Ok(Response { persists, ..answer });
            }
            // A peer that refuses to read on may have said why.
            sent = &mut sending, if is_sent.is_none() => is_sent = Some(sent.is_ok()),
        }
    }
}

/// Reads the answer to a request that has been sent; `to_head`: a HEAD request.
pub async fn read_response(
    stream: &mut (impl AsyncRead + Unpin),
    to_head: bool,
) -> Result<Response, RequestError> {
    let mut buffer = Vec::new();
    loop {
        let mut answer = read_head(stream, &mut buffer, to_head).await?;
        if answer.status < 200 {
            continue;
        }
        let framing = with_head(&answer.head, to_head, |head| head.framing)?;
        let mut decoder = Decoder::of_response(framing);
        loop {
            match decoder.step(&buffer).map_err(|_| RequestError::Malformed("a chunk's size or end"))? {
                Step::Data { skip, length } => {
                    answer
                        .body
                        .extend_from_slice(buffer.get(skip..skip.saturating_add(length)).unwrap_or_default());
                    buffer.drain(..skip.saturating_add(length));
                    if answer.body.len() > MAX_BODY_BYTES {
                        answer.body.truncate(MAX_BODY_BYTES);
                        return Ok(Response { persists: false, ..answer });
                    }
                }
                Step::More { skip } => {
                    buffer.drain(..skip);
                    if stream.read_buf(&mut buffer).await? == 0 {
                        decoder.end_of_input().map_err(|_| RequestError::Cut)?;
                        return Ok(answer);
                    }
                }
                Step::End { skip, .. } => {
                    // What comes unasked makes the connection useless.
                    let persists = answer.persists && buffer.len() == skip;
                    return Ok(Response { persists, ..answer });
                }
            }
        }
    }
}

/// The next head, interim or final; what came after it stays in `buffer`.
async fn read_head(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
    to_head: bool,
) -> Result<Response, RequestError> {
    let mut end = EndOfHead::default();
    let length = loop {
        let found = end.find(buffer, MAX_HEAD_BYTES);
        match found
            .map_err(|_| RequestError::Malformed("a line ends without CR, or the head is too large"))?
        {
            Some(length) => break length,
            None if stream.read_buf(buffer).await? > 0 => {}
            None if buffer.is_empty() => return Err(RequestError::Closed),
            None => return Err(RequestError::Cut),
        }
    };
    let rest = buffer.split_off(length);
    let head = std::mem::replace(buffer, rest);
    let (status, persists) = with_head(&head, to_head, |head| (head.status, head.persists()))?;
    Ok(Response { status, persists, body: Vec::new(), head })
}

fn with_head<T>(
    head: &[u8],
    to_head: bool,
    look: impl FnOnce(&ResponseHead<'_>) -> T,
) -> Result<T, BadResponse> {
    let mut slots = slots();
    Ok(look(&ResponseHead::parse(head, &mut slots, to_head)?))
}

impl Response {
    /// The first value of the field `name` (in lower case), control characters escaped.
    pub fn field(&self, name: &'static str) -> Option<String> {
        let first = |fields: &Fields<'_, '_>| Some(printable(fields.values(name).next()?));
        // Its framing has been seen to.
        with_head(&self.head, true, |head| first(&head.fields)).ok().flatten()
    }

    /// The names of its content codings, in the order in which they were applied; empty where there
    /// are none.
    pub fn codings(&self) -> String {
        let all =
            |fields: &Fields<'_, '_>| fields.values("content-encoding").map(printable).collect::<Vec<_>>();
        with_head(&self.head, true, |head| all(&head.fields)).unwrap_or_default().join(", ")
    }

    /// Its body without content codings, at most 64 KiB.
    ///
    /// Errors: a coding other than those that Meta offers, or content that does not fit its coding.
    pub fn content(&self) -> Result<Vec<u8>, CodingError> {
        coding::decode(&self.codings(), &self.body, MAX_BODY_BYTES)
    }
}

/// What a peer wrote, fit for a terminal.
fn printable(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `bytes` as they come in pieces of `size`.
    async fn read_in_pieces(bytes: &[u8], size: usize) -> Result<Response, RequestError> {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 20);
        for piece in bytes.chunks(size) {
            theirs.write_all(piece).await?;
        }
        drop(theirs);
        read_response(&mut ours, false).await
    }

    #[tokio::test]
    async fn answers_are_read_whole_or_not_at_all() {
        for (bytes, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Ok((200, "ok", true))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok?", Ok((200, "ok", false))),
            ("HTTP/1.1 204 No\r\n\r\n", Ok((204, "", true))),
            (
                "HTTP/1.1 100 C\r\n\r\nHTTP/1.1 500 E\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
                { Ok((500, "x", true)) },
            ),
            ("HTTP/1.0 200 OK\r\n\r\nto the end", Ok((200, "to the end", false))),
            ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", Ok((200, "", false))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", Err("closed in the middle of the answer")),
            ("HTTP/1.1 200 OK\r\n", Err("closed in the middle of the answer")),
            ("", Err("closed without an answer")),
            ("SSH-2.0-x\r\n\r\n", Err("not a valid HTTP answer: the status line is not HTTP/1.x")),
        ] {
            for size in [1, 7, 1 << 16] {
                let read = read_in_pieces(bytes.as_bytes(), size).await;
                let read = read.map(|a| (a.status, String::from_utf8(a.body).unwrap(), a.persists));
                let read = read.map_err(|error| error.to_string());
                let expected = expected.map(|(s, b, p)| (s, b.to_owned(), p)).map_err(str::to_owned);
                assert_eq!(read, expected, "{bytes:?} in pieces of {size}");
            }
        }
    }

    #[tokio::test]
    async fn of_a_long_body_the_start_is_enough() {
        let bytes =
            [&b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\nX: a\x80\r\n\r\n"[..], &[b'x'; 99_000]].concat();
        let answer = read_in_pieces(&bytes, 4096).await.unwrap();
        assert_eq!((answer.body.len(), answer.persists), (MAX_BODY_BYTES, false));
        assert_eq!(answer.field("x").as_deref(), Some("a\\x80"));
    }
    #[tokio::test]
    async fn an_answer_to_head_has_no_body() {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 10);
        theirs.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nX: y\r\n\r\n").await.unwrap();
        let answer = read_response(&mut ours, true).await.unwrap();
        assert_eq!((answer.status, answer.body.len(), answer.persists), (200, 0, true));
        assert_eq!(answer.field("x").as_deref(), Some("y"));
    }
}
