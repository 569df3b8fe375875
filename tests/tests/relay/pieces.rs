//! Random exchanges, cut anywhere on both sides: what arrives is what was sent.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use harness::{Conversation, End, Message, Wire, pace};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;

use crate::{Origin, Relay};

/// How a body ends.
#[derive(Clone, Copy, Debug)]
enum Framing {
    Length,
    /// In chunks of this number of bytes.
    Chunks(usize),
    /// A response's alone.
    Close,
}

/// A body and how it travels, in pieces that end at `cuts`.
#[derive(Clone, Debug)]
struct Part {
    body: Vec<u8>,
    framing: Framing,
    cuts: Vec<Index>,
}

fn part(framing: impl Strategy<Value = Framing>) -> impl Strategy<Value = Part> {
    let body = prop_oneof![4 => vec(any::<u8>(), 0..200), 1 => vec(any::<u8>(), 10_000..40_000)];
    let parts = (body, framing, vec(any::<Index>(), 0..5));
    parts.prop_map(|(body, framing, cuts)| Part { body, framing, cuts })
}

fn framing() -> impl Strategy<Value = Framing> {
    prop_oneof![Just(Framing::Length), (1..9000usize).prop_map(Framing::Chunks)]
}

impl Part {
    fn bytes(&self, start: &str) -> Vec<u8> {
        let (field, body) = match self.framing {
            Framing::Length => (format!("Content-Length: {}\r\n", self.body.len()), self.body.clone()),
            Framing::Chunks(size) => {
                let chunk =
                    |chunk: &[u8]| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
                let mut chunks: Vec<u8> = self.body.chunks(size).flat_map(chunk).collect();
                chunks.extend(b"0\r\n\r\n");
                ("Transfer-Encoding: chunked\r\n".to_owned(), chunks)
            }
            Framing::Close => (String::new(), self.body.clone()),
        };
        [format!("{start}\r\nHost: p\r\n{field}\r\n").as_bytes(), &body].concat()
    }

    /// Sends it piece by piece, each on its own way before the next.
    fn send(&self, start: &str, wire: &mut Wire) -> io::Result<()> {
        let bytes = self.bytes(start);
        let mut ends: Vec<usize> = self.cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        ends.push(bytes.len());
        ends.sort_unstable();
        let mut sent = 0;
        for end in ends {
            wire.send(&bytes[sent..end])?;
            sent = end;
            pace(Duration::from_millis(1));
        }
        Ok(())
    }
}

#[test]
fn what_arrives_is_what_was_sent_however_it_is_cut() -> Result<()> {
    let said = Arc::<Mutex<Option<Part>>>::default();
    let heard = Arc::<Mutex<Vec<Message>>>::default();
    let (saying, hearing) = (said.clone(), heard.clone());
    let origin = Origin::plain(move |connection: &mut Conversation| {
        while let Some(request) = connection.request()? {
            hearing.lock().unwrap_or_else(PoisonError::into_inner).push(request);
            let Some(part) = saying.lock().unwrap_or_else(PoisonError::into_inner).clone() else { break };
            part.send("HTTP/1.1 200 OK", connection.wire())?;
            if matches!(part.framing, Framing::Close) {
                break;
            }
        }
        Ok(End::Close)
    })?;
    let relay = Relay::before(&origin)?;
    let response = prop_oneof![framing(), Just(Framing::Close)];
    let config = ProptestConfig::default();
    // Each case costs some milliseconds.
    let config = ProptestConfig { failure_persistence: None, cases: config.cases / 8, ..config };
    let outcome = TestRunner::new(config).run(&(part(framing()), part(response)), |(request, response)| {
        *said.lock().unwrap_or_else(PoisonError::into_inner) = Some(response.clone());
        let answer = exchange(&relay, &request).map_err(|error| TestCaseError::fail(format!("{error:#}")))?;
        let request_heard = heard.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let request_heard = request_heard.ok_or_else(|| TestCaseError::fail("nothing arrived"))?;
        prop_assert_eq!(&request_heard.start, "POST /x HTTP/1.1");
        prop_assert_eq!((request_heard.body, request_heard.whole), (request.body, true));
        prop_assert_eq!((answer.status(), answer.body, answer.whole), (200, response.body, true));
        Ok(())
    });
    outcome.context("an exchange")
}

fn exchange(relay: &Relay, request: &Part) -> Result<Message> {
    let mut client = relay.client()?;
    request.send("POST /up.example/x HTTP/1.1", client.wire())?;
    client.response()
}
