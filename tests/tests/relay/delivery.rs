//! At most once: whatever an upstream does, and wherever, no request is seen twice that may have
//! been acted on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use harness::{Closed, Conversation, End, Origin, equal, pace, wait_until};

use crate::{OK, Relay, get, post, request};

/// How far an exchange gets before the origin ends it.
#[derive(Clone, Copy, Debug)]
enum Until {
    Connected,
    RequestLine,
    Head,
    HalfTheBody,
    Request,
    HalfAStatusLine,
    HalfAHead,
}

const POINTS: [Until; 7] = [
    Until::Connected,
    Until::RequestLine,
    Until::Head,
    Until::HalfTheBody,
    Until::Request,
    Until::HalfAStatusLine,
    Until::HalfAHead,
];

type Ending = (&'static str, fn() -> End);

const ENDS: [Ending; 2] = [("closes", || End::Close), ("resets", || End::Reset)];

impl Until {
    /// Plays the exchange up to here.
    fn play(self, connection: &mut Conversation) -> io::Result<()> {
        match self {
            Self::Connected => {}
            Self::RequestLine => drop(connection.bytes("POST / HTTP/1.1\r\n".len())?),
            Self::Head => drop(connection.head()?),
            Self::HalfTheBody => {
                let has_body = connection.head()?.contains("Content-Length: 5");
                connection.bytes(if has_body { 2 } else { 0 })?;
            }
            Self::Request | Self::HalfAStatusLine | Self::HalfAHead => {
                connection.request()?;
            }
        }
        match self {
            Self::HalfAStatusLine => connection.send("HTTP/1.1 2"),
            Self::HalfAHead => connection.send("HTTP/1.1 200 OK\r\nContent-Le"),
            _ => Ok(()),
        }
    }
}

/// How often a request for `path` was seen by an origin.
fn seen(origin: &Origin, path: &str) -> usize {
    let heard = origin.heard().concat();
    let line = format!(" {path} HTTP/1.1\r\n");
    heard.windows(line.len()).filter(|window| *window == line.as_bytes()).count()
}

#[test]
fn a_request_on_a_fresh_connection_is_sent_once() -> Result<()> {
    for until in POINTS {
        for (what, end) in ENDS {
            let origin = Origin::plain(move |connection| {
                until.play(connection)?;
                Ok(end())
            })?;
            let relay = Relay::before(&origin)?;
            for (path, request) in [
                ("/1", post("/up.example/1", "hello")),
                ("/2", post("/up.example/2", "")),
                ("/3", get("/up.example/3")),
            ] {
                let before = origin.connections();
                let answer = relay.client()?.ask(&request).with_context(|| format!("{until:?}, {what}"))?;
                assert_eq!(answer.status(), 502, "{until:?}, {what}, {path}");
                let error = answer.proxy_error().context("whose answer?")?;
                // A reset can come before the connection is noticed to be there.
                let refused = matches!(until, Until::Connected) && error == "connection_refused";
                let known = ["connection_terminated", "http_response_incomplete"];
                assert!(refused || known.contains(&error), "{until:?}, {what}, {path}: {error}");
                assert_eq!(origin.connections() - before, 1, "{until:?}, {what}, {path}");
                assert!(seen(&origin, path) <= 1, "{until:?}, {what}, {path}");
            }
        }
    }
    Ok(())
}

/// An origin whose first connection serves one request and ends the second at `until`; later
/// connections serve.
fn dies_on_the_second(until: Until, end: fn() -> End) -> Result<Origin> {
    Origin::plain(move |connection| {
        if connection.index() > 0 {
            while connection.request()?.is_some() {
                connection.send(OK)?;
            }
            return Ok(End::Close);
        }
        connection.request()?;
        connection.send(OK)?;
        until.play(connection)?;
        Ok(end())
    })
}

#[test]
fn a_post_on_a_pooled_connection_that_dies_is_not_sent_again() -> Result<()> {
    for until in &POINTS[1..] {
        for (what, end) in ENDS {
            for body in ["hello", ""] {
                let origin = dies_on_the_second(*until, end)?;
                let relay = Relay::before(&origin)?;
                let mut client = relay.client()?;
                assert_eq!(client.ask(get("/up.example/first"))?.status(), 200);
                let answer = client.ask(post("/up.example/p", body))?;
                assert_eq!(answer.status(), 502, "{until:?}, {what}, {body:?}: {answer:?}");
                assert_eq!(
                    (origin.connections(), seen(&origin, "/p")),
                    (1, 1),
                    "{until:?}, {what}, {body:?}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn a_get_on_a_pooled_connection_that_dies_before_a_response_is_sent_again() -> Result<()> {
    for until in [Until::RequestLine, Until::Head, Until::Request] {
        for (what, end) in ENDS {
            let origin = dies_on_the_second(until, end)?;
            let relay = Relay::before(&origin)?;
            let mut client = relay.client()?;
            assert_eq!(client.ask(get("/up.example/first"))?.status(), 200);
            assert_eq!(client.ask(get("/up.example/p"))?.status(), 200, "{until:?}, {what}");
            assert_eq!((origin.connections(), seen(&origin, "/p")), (2, 2), "{until:?}, {what}");
        }
    }
    for until in [Until::HalfAStatusLine, Until::HalfAHead] {
        let origin = dies_on_the_second(until, || End::Close)?;
        let relay = Relay::before(&origin)?;
        let mut client = relay.client()?;
        assert_eq!(client.ask(get("/up.example/first"))?.status(), 200);
        assert_eq!(client.ask(get("/up.example/p"))?.status(), 502, "a response had begun: {until:?}");
        assert_eq!((origin.connections(), seen(&origin, "/p")), (1, 1), "{until:?}");
    }
    Ok(())
}

#[test]
fn a_post_none_of_whose_body_was_sent_may_go_to_another_connection() -> Result<()> {
    let origin = dies_on_the_second(Until::Head, || End::Close)?;
    let relay = Relay::before(&origin)?;
    let mut client = relay.client()?;
    assert_eq!(client.ask(get("/up.example/first"))?.status(), 200);
    client.wire().send("POST /up.example/p HTTP/1.1\r\nHost: p\r\nContent-Length: 5\r\n\r\n")?;
    // The head is out and its connection dead before the body comes.
    wait_until("a second connection comes", Duration::from_secs(5), || Ok(equal(origin.connections(), 2)))?;
    client.wire().send("hello")?;
    assert_eq!(client.response()?.status(), 200);
    let heard = origin.heard();
    assert!(!heard[0].ends_with(b"hello") && heard[1].ends_with(b"\r\n\r\nhello"), "{heard:?}");
    Ok(())
}

#[test]
fn a_pooled_connection_is_looked_at_before_it_is_used() -> Result<()> {
    for (what, end) in ENDS {
        // Each connection serves one request and is gone, without a word, when the next one comes.
        let origin = Origin::plain(move |connection| {
            connection.request()?;
            connection.send(OK)?;
            Ok(end())
        })?;
        let relay = Relay::before(&origin)?;
        let mut client = relay.client()?;
        for round in 1..=5 {
            assert_eq!(client.ask(post("/up.example/p", "x"))?.status(), 200, "{what}, {round}");
            let condition = format!("{what}: connection {round} ends");
            wait_until(condition, Duration::from_secs(5), || Ok(equal(origin.ended(), round)))?;
        }
        assert_eq!((origin.connections(), seen(&origin, "/p")), (5, 5), "{what}");
    }
    // One that says something unasked for can't be trusted with a request.
    let origin = Origin::plain(|connection| {
        connection.request()?;
        connection.send(OK)?;
        pace(Duration::from_millis(20));
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad")?;
        let _ = connection.wire().closed();
        Ok(End::Close)
    })?;
    let relay = Relay::before(&origin)?;
    let mut client = relay.client()?;
    for round in 1..=3 {
        assert_eq!(client.ask(post("/up.example/p", "x"))?.body, b"ok");
        let condition = format!("connection {round} ends");
        wait_until(condition, Duration::from_secs(5), || Ok(equal(origin.ended(), round)))?;
    }
    assert_eq!(origin.connections(), 3);
    Ok(())
}

#[test]
fn what_follows_a_response_unasked_for_ends_its_connection() -> Result<()> {
    let origin = Origin::plain(|connection| {
        while connection.request()?.is_some() {
            connection.send(format!("{OK}HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad"))?;
        }
        Ok(End::Close)
    })?;
    let relay = Relay::before(&origin)?;
    let mut client = relay.client()?;
    for _ in 0..3 {
        assert_eq!(client.ask(post("/up.example/p", "x"))?.body, b"ok");
    }
    assert_eq!(origin.connections(), 3);
    Ok(())
}

#[test]
fn idle_connections_are_kept_no_longer_than_either_side_says() -> Result<()> {
    for (keep_alive, pause, connections) in
        [("", 300, 1), ("", 1500, 2), ("Keep-Alive: timeout=1\r\n", 800, 2), ("Connection: close\r\n", 0, 2)]
    {
        let origin = Origin::plain(move |connection| {
            while connection.request()?.is_some() {
                connection.send(format!("HTTP/1.1 200 OK\r\n{keep_alive}Content-Length: 2\r\n\r\nok"))?;
            }
            Ok(End::Close)
        })?;
        let relay = Relay::before(&origin)?;
        for _ in 0..2 {
            assert_eq!(relay.client()?.ask(get("/up.example/"))?.status(), 200);
            pace(Duration::from_millis(pause));
        }
        // Each worker has its own pool, so a second client may meet an empty one.
        let met = origin.connections();
        assert!(met == connections || met == 2, "{keep_alive:?}, {pause} ms: {met}");
        if connections == 2 {
            assert_eq!(met, 2, "{keep_alive:?}, {pause} ms");
        }
    }
    Ok(())
}

#[test]
fn a_request_that_its_client_gives_up_is_never_completed() -> Result<()> {
    let whole = Arc::new(AtomicUsize::new(0));
    let count = whole.clone();
    let origin = Origin::plain(move |connection| {
        // `whole` says whether the body ended as its framing says.
        if connection.request()?.is_some_and(|request| request.whole) {
            count.fetch_add(1, Ordering::SeqCst);
        }
        connection.send(OK)?;
        Ok(End::Close)
    })?;
    let relay = Relay::before(&origin)?;
    let length = request("POST /up.example/", &["Content-Length: 5"], "hel");
    let chunk = request("POST /up.example/", &["Transfer-Encoding: chunked"], "5\r\nhel");
    let chunks = request("POST /up.example/", &["Transfer-Encoding: chunked"], "5\r\nhello\r\n");
    let last = request("POST /up.example/", &["Transfer-Encoding: chunked"], "5\r\nhello\r\n0\r\n");
    for request in [length, chunk, chunks, last] {
        for gives_up in ["closes", "resets"] {
            let before = origin.connections();
            let mut client = relay.client()?;
            client.wire().send(&request)?;
            wait_until(format!("{request:?} reaches the upstream"), Duration::from_secs(5), || {
                Ok(origin.connections() > before)
            })?;
            let has_come =
                || Ok(origin.heard().last().is_some_and(|heard| heard.windows(3).any(|seen| seen == b"hel")));
            wait_until(
                format!("the body of {request:?} reaches the upstream"),
                Duration::from_secs(5),
                has_come,
            )?;
            match gives_up {
                "closes" => {
                    client.wire().finish()?;
                    let closed = client.wire().closed()?;
                    let heard = client.wire().heard();
                    assert!(!heard.starts_with(b"HTTP/1.1 200"), "{request:?}, {closed:?}");
                }
                _ => client.into_wire().reset()?,
            }
        }
    }
    wait_until("all connections end", Duration::from_secs(5), || {
        Ok(equal(origin.ended(), origin.connections()))
    })?;
    assert_eq!(whole.load(Ordering::SeqCst), 0);
    assert_eq!(relay.client()?.ask(post("/up.example/", "x"))?.status(), 200, "and the proxy goes on");
    Ok(())
}

#[test]
fn a_client_that_gives_up_on_a_response_affects_no_other() -> Result<()> {
    let origin = Origin::plain(|connection| {
        while let Some(request) = connection.request()? {
            if request.start.contains("/endless") {
                connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                loop {
                    connection.send(format!("4000\r\n{}\r\n", "x".repeat(0x4000)))?;
                }
            }
            connection.send(OK)?;
        }
        Ok(End::Close)
    })?;
    let relay = Relay::before(&origin)?;
    let mut other = relay.client()?;
    for _ in 0..5 {
        let mut client = relay.client()?;
        client.wire().send(get("/up.example/endless"))?;
        client.wire().read()?;
        client.into_wire().reset()?;
        assert_eq!(other.ask(post("/up.example/", "x"))?.body, b"ok");
    }
    Ok(())
}

#[test]
fn an_origin_that_answers_early_and_closes_is_heard() -> Result<()> {
    // It refuses a body that it does not read, as servers do with 413, and resets when more of it
    // comes.
    let origin = Origin::plain(|connection| {
        connection.head()?;
        connection.send("HTTP/1.1 413 Big\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")?;
        pace(Duration::from_millis(100));
        Ok(End::Reset)
    })?;
    let relay = Relay::before(&origin)?;
    let mut client = relay.client()?;
    let answer =
        client.ask(request("POST /up.example/p", &["Content-Length: 100000"], &"x".repeat(50_000)))?;
    assert_eq!((answer.status(), &answer.body[..], answer.whole), (413, &b"big"[..], true));
    assert_eq!(client.wire().closed()?, Closed::Orderly);
    assert_eq!(seen(&origin, "/p"), 1);
    Ok(())
}
