use std::num::NonZeroU64;

use super::cases::{self, Case, same};
use super::heads::latin1;
use crate::http::chunked::{BadChunk, Step, open_chunk, relay_trailers};
use crate::http::decoder::{BodyError, Decoder};
use crate::http::framing::Framing;

const KEYS: &[&str] = &[
    "name",
    "body",
    "length",
    "until_close",
    "most",
    "of_response",
    "content",
    "trailers",
    "rest",
    "refused",
];

/// Every case whole, cut at every byte, and byte by byte.
#[test]
fn bodies() {
    cases::for_each("bodies.toml", KEYS, |case| {
        let body = case.bytes("body").expect("a body");
        let expected = expected(case);
        same("read", &read(&[&body], case), &expected)?;
        // A trailer section that is too long costs its square: nothing is learnt at every one of
        // its bytes.
        let step = (body.len() / 2000).max(1);
        for cut in (1..body.len()).step_by(step) {
            let (first, second) = body.split_at(cut);
            same(&format!("cut at byte {cut}"), &read(&[first, second], case), &expected)?;
        }
        let bytes: Vec<&[u8]> = body.chunks(1).collect();
        same("byte by byte", &read(&bytes, case), &expected)
    });
}

#[test]
fn what_is_sent_in_chunks_reads_back() {
    for length in [1, 9, 10, 15, 16, 17, 255, 256, 4095, 4096, 65535, 65536, 1 << 20] {
        let mut sent = Vec::new();
        open_chunk(length, &mut sent);
        let size = format!("{length:x}\r\n");
        assert_eq!(sent, size.as_bytes());
    }
}

/// What becomes of the pieces: the content and the trailers that travel on, or why not.
fn read(pieces: &[&[u8]], case: &Case<'_>) -> String {
    let framing = match case.number("length") {
        Some(length) => NonZeroU64::new(length as u64).map_or(Framing::Empty, Framing::Length),
        None if case.flag("until_close") => Framing::UntilClose,
        None => Framing::Chunked,
    };
    let most = case.number("most").map_or(u64::MAX, |most| most as u64);
    let mut decoder = match case.flag("of_response") {
        true => Decoder::of_response(framing),
        false => Decoder::new(framing, most),
    };
    let (mut buffer, mut content) = (Vec::new(), Vec::new());
    let mut pieces = pieces.iter();
    loop {
        match decoder.step(&buffer) {
            Ok(Step::Data { skip, length }) => {
                buffer.drain(..skip);
                content.extend(buffer.drain(..length));
            }
            Ok(Step::End { skip, trailers }) => {
                let mut relayed = Vec::new();
                relay_trailers(&buffer[trailers], &mut relayed);
                buffer.drain(..skip);
                buffer.extend(pieces.flat_map(|piece| piece.iter()));
                return outcome(&content, &relayed, &buffer);
            }
            Ok(Step::More { skip }) => {
                buffer.drain(..skip);
                match pieces.next() {
                    Some(piece) => buffer.extend_from_slice(piece),
                    None => match decoder.end_of_input() {
                        Ok(()) => return outcome(&content, b"\r\n", &buffer),
                        Err(error) => return refusal(error),
                    },
                }
            }
            Err(error) => return refusal(error),
        }
    }
}

fn outcome(content: &[u8], trailers: &[u8], rest: &[u8]) -> String {
    format!("content {:?} trailers {:?} rest {:?}", latin1(content), latin1(trailers), latin1(rest))
}

fn refusal(error: BodyError) -> String {
    match error {
        BodyError::Chunk(BadChunk(why)) => why.into(),
        BodyError::TooLarge => "too large".into(),
        BodyError::Truncated => "truncated".into(),
    }
}

fn expected(case: &Case<'_>) -> String {
    if let Some(refused) = case.text("refused") {
        return refused.to_owned();
    }
    let content = case.bytes("content").expect("`content` or `refused`");
    let trailers = [case.bytes("trailers").unwrap_or_default(), b"\r\n".to_vec()].concat();
    outcome(&content, &trailers, &case.bytes("rest").unwrap_or_default())
}
