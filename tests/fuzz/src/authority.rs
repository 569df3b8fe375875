use std::pin::pin;
use std::task::{Context, Poll, Waker};

use hookgate::acme::{explain, not_before, response};
use hookgate::http::framing::Framing;
use hookgate::net::http_client::{RequestError, Response, read_response};

use crate::chunked::{End, decode_response};
use crate::pieces::{self, Pieces};
use crate::plain;

/// As much of a body is read.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// So much is always read at once, if it is there.
const MAX_BYTES_AT_ONCE: usize = 64;
/// A moment, and the longest that an authority can put us off.
const NOW: i64 = 1_800_000_000;
const DAY: i64 = 24 * 3600;
/// The most that is said of a problem.
const MAX_SAID_CHARACTERS: usize = 1000;

/// However an answer is cut, it is read the same and as another reader would, and what is made of
/// it has bounds.
pub fn check(bytes: &[u8]) {
    if let Some((said, _)) = explain(bytes) {
        bounded(&said);
    }
    for to_head in [false, true] {
        let mut ways = pieces::ways(bytes).into_iter().map(|pieces| read_now(pieces, to_head));
        let answer = ways.next().expect("there is a way");
        ways.for_each(|other| assert_eq!(shown(&other), shown(&answer), "it depends on the pieces"));
        if let Ok(answer) = answer {
            understood(bytes, to_head, answer);
        }
    }
}

/// Whether the connection can be used again is left out: what follows an answer may not have come
/// yet.
fn shown(answer: &Result<Response, RequestError>) -> String {
    match answer {
        Ok(answer) => format!("{} {}", answer.status, answer.body.escape_ascii()),
        Err(why) => why.to_string(),
    }
}

/// Pieces never let wait.
fn read_now(pieces: Vec<&[u8]>, to_head: bool) -> Result<Response, RequestError> {
    match pin!(read_response(&mut Pieces::new(pieces), to_head)).poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("it waits although everything is there"),
    }
}

fn understood(bytes: &[u8], to_head: bool, answer: Response) {
    let (head, rest) = final_head(bytes);
    let plain = plain::response_head(head);
    assert_eq!(status(head), answer.status);
    let bodiless = to_head || [204, 304].contains(&answer.status);
    let framing = match plain.framing().filter(|_| !bodiless) {
        Some(framing) => framing,
        None if bodiless => Framing::Empty,
        None => Framing::UntilClose,
    };
    let decoded = decode_response(framing, rest);
    let content = decoded.content();
    assert_eq!(answer.body, content[..content.len().min(MAX_BODY_BYTES)]);
    let End::Whole { rest, .. } = decoded.end else {
        return assert!(content.len() > MAX_BODY_BYTES && !answer.persists, "an answer that is not whole");
    };
    assert!(
        !answer.persists || framing != Framing::UntilClose,
        "a connection that is to close is used again"
    );
    let is_all_read = bytes.len() <= MAX_BYTES_AT_ONCE;
    assert!(!answer.persists || rest.is_empty() || !is_all_read, "a connection that says more is used again");

    let first = |name: &str| plain.values(name).first().map(|value| value.escape_ascii().to_string());
    for name in ["retry-after", "location", "content-type"] {
        assert_eq!(answer.field(name), first(name), "{name}");
    }
    if let Some(until) = not_before(&answer, NOW) {
        assert!(answer.status >= 400 && until <= NOW + DAY, "not before {until}");
    }
    if let Some((said, _)) = explain(&answer.body) {
        bounded(&said);
    }
    let (status, location) = (answer.status, answer.field("location"));
    let passed_on = response(answer).expect("what was read as an answer can be passed on");
    assert_eq!(passed_on.status().as_u16(), status);
    let passed_location = passed_on.headers().get("location").and_then(|value| value.to_str().ok());
    assert_eq!(passed_location, location.as_deref());
}

/// The head behind all interim ones, and what follows.
fn final_head(bytes: &[u8]) -> (&[u8], &[u8]) {
    let mut rest = bytes;
    loop {
        let end = rest.windows(4).position(|window| window == b"\r\n\r\n").expect("a head has an end") + 4;
        let (head, after) = rest.split_at(end);
        if status(head) >= 200 {
            return (head, after);
        }
        rest = after;
    }
}

fn status(head: &[u8]) -> u16 {
    let digits = std::str::from_utf8(&head[9..12]).expect("a status");
    digits.parse().expect("three digits")
}

fn bounded(said: &str) {
    assert!(said.chars().count() <= MAX_SAID_CHARACTERS, "{} characters", said.chars().count());
    assert!(!said.contains(char::is_control), "{said:?}");
}
