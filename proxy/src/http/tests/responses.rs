use super::cases::{self, Case, same};
use super::heads::latin1;
use crate::http::Version;
use crate::http::encode::{self, Persistence};
use crate::http::framing::Framing;
use crate::http::head::{EndOfHead, HeadError, slots};
use crate::http::response::{BadResponse, ResponseHead};

const KEYS: &[&str] = &[
    "name", "head", "to_head", "bytes", "reads", "refused", "relayed", "chunked", "ends", "promises",
    "http10",
];

/// Every case whole, and cut at every byte.
#[test]
fn response_heads() {
    cases::for_each("responses.toml", KEYS, |case| {
        let head = case.bytes("head").expect("a head");
        let expected = match (case.text("reads"), case.text("refused")) {
            (Some(expected), None) => expected.to_owned(),
            (None, Some(why)) => format!("502 {why}"),
            _ => panic!("{}: either `reads` or `refused`", case.name()),
        };
        same("read", &read(&[&head], case), &expected)?;
        (1..head.len()).try_for_each(|cut| {
            let (first, second) = head.split_at(cut);
            same(&format!("cut at byte {cut}"), &read(&[first, second], case), &expected)
        })
    });
}

#[test]
fn response_heads_as_they_are_relayed() {
    cases::for_each("responses.toml", KEYS, |case| {
        let Some(expected) = case.text("relayed") else { return Ok(()) };
        let head = case.bytes("head").expect("a head");
        let mut slots = slots();
        let to_head = case.flag("to_head");
        let parsed = ResponseHead::parse(&head, &mut slots, to_head).map_err(|e| format!("  {e:?}"))?;
        let framing_out = if case.flag("chunked") { Framing::Chunked } else { parsed.framing };
        let persistence = match (case.flag("ends"), case.flag("promises")) {
            (true, _) => Persistence::Ended,
            (false, true) => Persistence::Promised,
            (false, false) => Persistence::Implied,
        };
        let mut out = Vec::new();
        let version = if case.flag("http10") { Version::Http10 } else { Version::Http11 };
        encode::response_head(&parsed, version, framing_out, persistence, &mut out);
        same("relayed", &latin1(&out), &(expected.replace('\n', "\r\n") + "\r\n"))
    });
}

/// What the relay makes of the pieces, as a line.
fn read(pieces: &[&[u8]], case: &Case<'_>) -> String {
    let most = case.number("bytes").unwrap_or(65536);
    let mut buffer = Vec::new();
    let mut end = EndOfHead::default();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        match end.find(&buffer, most) {
            Ok(None) => {}
            Ok(Some(length)) => return parsed(&buffer[..length], case.flag("to_head")),
            Err(HeadError::TooLarge) => return "502 too large".into(),
            Err(HeadError::Malformed(why)) => return format!("502 {why}"),
            Err(other) => panic!("no response is refused with {other:?}"),
        }
    }
    "more is needed".into()
}

fn parsed(head: &[u8], to_head: bool) -> String {
    let mut slots = slots();
    let head = match ResponseHead::parse(head, &mut slots, to_head) {
        Ok(head) => head,
        Err(BadResponse(why)) => return format!("502 {why}"),
    };
    let version = if head.version == Version::Http11 { "HTTP/1.1" } else { "HTTP/1.0" };
    let framing = match head.framing {
        Framing::Empty => "empty".into(),
        Framing::Length(length) => format!("{length} bytes"),
        Framing::Chunked => "chunked".into(),
        Framing::UntilClose => "until close".into(),
    };
    let interim = if head.is_interim() { ", interim" } else { "" };
    let closes = if head.persists() { "" } else { ", closes" };
    format!("{version} {}, {framing}{interim}{closes}", head.status)
}
