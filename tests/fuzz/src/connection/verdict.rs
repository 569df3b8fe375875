use hookgate::http::fields::via_names;
use hookgate::http::framing::Framing;
use hookgate::http::head::{EndOfHead, RequestHead, slots};
use hookgate::http::response::ResponseHead;

use crate::chunked::{Decoded, End, decode, decode_response};
use crate::head::LOOSE;
use crate::plain;

/// What each side got to see.
pub(super) struct Seen {
    /// By the client.
    pub(super) answers: Vec<u8>,
    /// They ended in a close, not in a reset.
    pub(super) closed: bool,
    /// By the upstream, a connection each, in their order.
    pub(super) requests: Vec<Vec<u8>>,
}

/// A request, as far as it came.
struct Request {
    method: String,
    content: Vec<u8>,
    whole: bool,
    was_here: bool,
}

/// Compares what each side said with what the other saw.
pub(super) fn judge(request: &[u8], response: &[u8], seen: &Seen) {
    let asked = requests(request);
    let mut forwarded = Vec::new();
    for bytes in &seen.requests {
        let on_connection = requests(bytes);
        let is_head = bytes.windows(4).any(|window| window == b"\r\n\r\n");
        assert!(!is_head || !on_connection.is_empty(), "no request went out: {}", bytes.escape_ascii());
        assert!(on_connection.iter().all(|request| request.was_here), "forwarded without a trace");
        forwarded.extend(on_connection);
    }
    let mut left = asked.iter();
    for sent in forwarded.iter().filter(|sent| sent.whole && sent.method == "POST") {
        let same = |asked: &&Request| asked.whole && asked.method == "POST" && asked.content == sent.content;
        assert!(left.any(|asked| same(&asked)), "a POST that nobody sent, or not so often");
    }
    answers(&asked, response, seen);
}

/// What the bytes hold up to the first that is no request.
fn requests(bytes: &[u8]) -> Vec<Request> {
    let (mut found, mut rest) = (Vec::new(), bytes.to_vec());
    loop {
        let start = if rest.starts_with(b"\r\n") { 2 } else { 0 };
        let Ok(Some(length)) = EndOfHead::default().find_request(&rest[start..], &LOOSE) else {
            return found;
        };
        let mut slots = slots();
        let Ok(head) = RequestHead::parse(&rest[start..start + length], &mut slots, &LOOSE) else {
            return found;
        };
        let body = decode(head.framing, u64::MAX, &[&rest[start + length..]]);
        let was_here = head.fields.values("via").any(|via| via_names(via, "hookgate"));
        let (method, content) = (head.method.to_owned(), body.content());
        let whole = matches!(body.end, End::Whole { .. });
        found.push(Request { method, content, whole, was_here });
        let End::Whole { rest: after, .. } = body.end else { return found };
        rest = after;
    }
}

/// Every answer is our own, or the upstream's and whole only if that was.
fn answers(asked: &[Request], response: &[u8], seen: &Seen) {
    let mut rest = seen.answers.clone();
    let mut asked = asked.iter();
    let mut may_follow = true;
    while let Some(length) = rest.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4) {
        assert!(may_follow, "more answers than requests: {}", seen.answers.escape_ascii());
        plain::head(&rest[..length]);
        let shown = rest[..length].escape_ascii().to_string();
        let is_interim = rest.starts_with(b"HTTP/1.1 1");
        let request = if is_interim { None } else { asked.next() };
        may_follow = is_interim || request.is_some();
        let to_head = request.is_some_and(|request| request.method == "HEAD");
        let answer = Response::read(&rest, to_head).unwrap_or_else(|| panic!("a bad answer: {shown}"));
        let End::Whole { rest: after, .. } = &answer.body.end else { break };
        let by_close = answer.framing == Framing::UntilClose;
        if !is_interim && !answer.ours && (seen.closed || !by_close) {
            let original = final_response(response, to_head).unwrap_or_else(|| panic!("made up: {shown}"));
            assert!(matches!(original.body.end, End::Whole { .. }), "half a body passed as whole: {shown}");
            assert_eq!(answer.body.content(), original.body.content(), "another body: {shown}");
            assert_eq!(answer.status, original.status);
        }
        rest = after.clone();
    }
}

struct Response {
    status: u16,
    /// The proxy's, by what it says of itself.
    ours: bool,
    framing: Framing,
    body: Decoded,
}

impl Response {
    /// The one at the front of `bytes`.
    fn read(bytes: &[u8], to_head: bool) -> Option<Self> {
        let length = EndOfHead::default().find(bytes, LOOSE.bytes * 3).ok()??;
        let mut slots = slots();
        let head = ResponseHead::parse(&bytes[..length], &mut slots, to_head).ok()?;
        let ours = head.fields.values("proxy-status").any(|value| value.starts_with(b"hookgate"));
        let body = decode_response(head.framing, &bytes[length..]);
        Some(Self { status: head.status, ours, framing: head.framing, body })
    }
}

/// What the upstream says after its interim responses.
fn final_response(bytes: &[u8], to_head: bool) -> Option<Response> {
    let response = Response::read(bytes, to_head)?;
    match response.body.end {
        End::Whole { ref rest, .. } if response.status < 200 => final_response(rest, to_head),
        _ => Some(response),
    }
}

/// Where the response ends, with what may follow it there.
pub(super) fn end(response: &[u8]) -> usize {
    match final_response(response, false).map(|it| it.body.end) {
        Some(End::Whole { rest, .. }) => response.len() - rest.len(),
        _ => response.len(),
    }
}

/// Whether nothing is missing from the response and nothing follows it, so that its connection can
/// be kept.
pub(super) fn may_be_followed(response: &[u8]) -> bool {
    let whole = |end| matches!(end, End::Whole { rest, .. } if rest.is_empty());
    final_response(response, false).is_some_and(|it| it.framing != Framing::UntilClose && whole(it.body.end))
}
