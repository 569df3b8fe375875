//! Every wait has its end, and what moves is not cut: `[timeouts]`, key by key, where no other test
//! has them.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::{Certs, Client, Closed, End, FullQueue, TempDir, free_port, pace};

use crate::{OK, Origin, Relay, TIMEOUTS, get, local, post, request, upstream};

/// A second, which all time-outs of these tests are, and what a busy machine may add.
const A_SECOND: Range<Duration> = Duration::from_millis(950)..Duration::from_secs(3);

const TAKES_NOTHING: &str = "HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n";

#[test]
fn an_upstream_that_stops_taking_the_body_is_504() -> Result<()> {
    let origin = Origin::plain(|connection| {
        connection.head()?;
        pace(Duration::from_secs(4));
        Ok(End::Reset)
    })?;
    let relay = Relay::before(&origin)?;
    for fields in [&["Content-Length: 50000000"][..], &["Transfer-Encoding: chunked"]] {
        let mut client = relay.client()?;
        // More than the kernel keeps for an upstream that reads nothing, no more than it takes from
        // a client.
        let chunk = if fields[0].starts_with('T') { "2faf080\r\n" } else { "" };
        let body = format!("{chunk}{}", "x".repeat(5 << 20));
        client.wire().send(request("POST /up.example/", fields, &body))?;
        let begun = Instant::now();
        let answer = client.response()?;
        assert_eq!(
            (answer.status(), answer.proxy_error()),
            (504, Some("http_response_timeout")),
            "{fields:?}"
        );
        assert!(A_SECOND.contains(&begun.elapsed()), "{fields:?}: {:?}", begun.elapsed());
    }
    Ok(())
}

#[test]
fn a_client_that_stops_taking_the_response_is_cut() -> Result<()> {
    let origin = Origin::plain(|connection| {
        connection.request()?;
        connection.send(TAKES_NOTHING)?;
        loop {
            connection.send([b'x'; 1 << 16])?;
        }
    })?;
    let relay = Relay::before(&origin)?;
    let mut client = relay.client()?;
    client.wire().send(get("/up.example/"))?;
    relay.wait_for("hookgate_in_flight{upstream=\"up.example\"}", 1.0)?;
    let begun = Instant::now();
    relay.wait_for("hookgate_in_flight{upstream=\"up.example\"}", 0.0)?;
    assert!(A_SECOND.contains(&begun.elapsed()), "{:?}", begun.elapsed());
    relay.wait_for("hookgate_requests_total{upstream=\"up.example\",code=\"other\"}", 1.0)?;
    assert_eq!(client.wire().closed()?, Closed::Cut);
    Ok(())
}

#[test]
fn what_moves_is_not_cut_however_long_it_takes() -> Result<()> {
    const STEP: Duration = Duration::from_millis(300);
    let origin = Origin::plain(|connection| {
        while let Some(request) = connection.request()? {
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")?;
            for byte in &request.body {
                pace(STEP);
                connection.send([*byte])?;
            }
        }
        Ok(End::Close)
    })?;
    let relay = Relay::before(&origin)?;
    let mut client = relay.client()?;
    client.wire().send(request("POST /up.example/", &["Transfer-Encoding: chunked"], ""))?;
    for piece in ["1\r\na\r\n", "1\r\nb\r\n", "1\r\nc\r\n", "1\r\nd\r\n", "2\r\ne", "f\r\n0\r\n\r\n"] {
        pace(STEP);
        client.wire().send(piece)?;
    }
    let answer = client.response()?;
    assert_eq!((answer.status(), &answer.body[..], answer.whole), (200, &b"abcdef"[..], true));
    Ok(())
}

#[test]
fn the_response_has_its_time_from_the_requests_last_byte() -> Result<()> {
    let origin = Origin::plain(|connection| {
        while connection.request()?.is_some() {
            pace(Duration::from_millis(700));
            connection.send(OK)?;
        }
        Ok(End::Close)
    })?;
    let relay = Relay::before(&origin)?;
    let mut client = relay.client()?;
    client.wire().send(request("POST /up.example/", &["Content-Length: 2"], "a"))?;
    pace(Duration::from_millis(700));
    client.wire().send("b")?;
    assert_eq!(client.response()?.status(), 200);
    Ok(())
}

#[test]
fn a_kept_connection_has_the_same_time_for_each_head() -> Result<()> {
    let relay = Relay::before(&Origin::answering(OK)?)?;
    let mut client = relay.client()?;
    for _ in 0..2 {
        // Longer than a head has, shorter than a connection may be idle.
        assert_eq!(client.ask(get("/up.example/"))?.status(), 200);
        pace(Duration::from_millis(1200));
    }
    let begun = Instant::now();
    client.wire().send("GET /up.example/ HT")?;
    let answer = client.response()?;
    assert_eq!((answer.status(), answer.proxy_error()), (408, Some("http_request_error")));
    assert!(A_SECOND.contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert_eq!(client.wire().closed()?, Closed::Orderly);
    Ok(())
}

#[test]
fn a_handshake_has_the_time_of_a_head() -> Result<()> {
    let dir = TempDir::new("handshake")?;
    let [_, cert, key] = Certs::new(&["proxy.example.com"])?.write(&dir, "edge")?;
    let https = local(free_port()?);
    let relay = Relay::listening(
        &format!("https = [\"{https}\"]"),
        &format!("{TIMEOUTS}[tls]\ncert = {cert:?}\nkey = {key:?}\n"),
    )?;
    for begin in ["", "\x16\x03\x01\x02\0\x01\0"] {
        let begun = Instant::now();
        let mut client = Client::plain(https)?;
        client.wire().send(begin)?;
        client.wire().closed()?;
        assert_eq!(client.wire().heard(), b"", "{begin:?}");
        assert!(A_SECOND.contains(&begun.elapsed()), "{begin:?}: {:?}", begun.elapsed());
    }
    relay.wait_for("hookgate_tls_handshakes_total{reason=\"timed_out\"}", 2.0)?;
    Ok(())
}

#[test]
fn no_100_is_sent_before_the_upstream_is_connected() -> Result<()> {
    let expecting =
        "POST /up.example/ HTTP/1.1\r\nHost: p\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let full = FullQueue::new(Ipv4Addr::LOCALHOST)?;
    let closed = local(free_port()?);
    for (what, address, tls, status, error) in [
        ("nobody listens", closed, false, 502, "connection_refused"),
        ("no answer to SYN", full.address(), false, 504, "connection_timeout"),
        ("silent in the handshake", silent.local_addr()?, true, 504, "connection_timeout"),
    ] {
        let config = format!("[upstreams]\n\"up.example\" = {{ address = \"{address}\", tls = {tls} }}\n");
        let relay = Relay::start(&config)?;
        let answer = relay.client()?.ask(expecting).context(what)?;
        assert_eq!((answer.status(), answer.proxy_error()), (status, Some(error)), "{what}");
        assert_eq!(answer.interim.len(), 0, "{what}");
    }
    Ok(())
}

#[test]
fn of_two_hundreds_a_client_sees_one() -> Result<()> {
    let origin = Origin::plain(|connection| {
        connection.head()?;
        // Hookgate has lost its patience by then.
        pace(Duration::from_millis(900));
        connection.send("HTTP/1.1 100 Continue\r\n\r\n")?;
        connection.bytes(5)?;
        connection.send("HTTP/1.1 100 Continue\r\n\r\n")?;
        connection.send(OK)?;
        Ok(End::Close)
    })?;
    let relay = Relay::before(&origin)?;
    for fields in [
        ["Content-Length: 5", "Expect: 100-continue"],
        ["Transfer-Encoding: chunked", "Expect: 100-Continue"],
    ] {
        let mut client = relay.client()?;
        client.wire().send(request("POST /up.example/", &fields, ""))?;
        while !client.wire().buffered().ends_with(b"\r\n\r\n") {
            client.wire().read()?;
        }
        let body = if fields[0].starts_with('C') { "hello" } else { "5\r\nhello\r\n0\r\n\r\n" };
        client.wire().send(body)?;
        let answer = client.response()?;
        assert_eq!((answer.status(), answer.interim.len()), (200, 1), "{fields:?}");
    }
    Ok(())
}

#[test]
fn a_client_that_does_not_wait_for_its_hundred_is_served() -> Result<()> {
    let relay = Relay::start(&upstream(Origin::answering(OK)?.address(), ""))?;
    let mut client = relay.client()?;
    for _ in 0..3 {
        let request = post("/up.example/", "hello").replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
        let begun = Instant::now();
        assert_eq!(client.ask(request)?.status(), 200);
        assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    }
    Ok(())
}
