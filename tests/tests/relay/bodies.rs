//! Framing, both ways: what is whole arrives whole, what is cut arrives cut.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Closed, Conversation, End, Message, Origin};

use crate::{OK, Relay, get, post, request};

/// An origin that answers its one request with `response` and then ends as `end` says.
fn saying(response: impl AsRef<[u8]> + Send + Sync + 'static, end: fn() -> End) -> Result<Origin> {
    Origin::plain(move |connection| {
        if connection.request()?.is_some() {
            connection.send(&response)?;
        }
        Ok(end())
    })
}

fn close() -> End {
    End::Close
}

fn reset() -> End {
    End::Reset
}

#[test]
fn responses_are_relayed_as_they_are() -> Result<()> {
    for (what, said, status, body, framing) in [
        (
            "a length",
            "HTTP/1.1 200 Fine\r\nX: y\r\nContent-Length: 5\r\n\r\nhello",
            200,
            "hello",
            "Content-Length",
        ),
        (
            "chunks",
            "HTTP/1.1 201 X\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
            201,
            "hello",
            "Transfer-Encoding",
        ),
        ("until close", "HTTP/1.1 200 X\r\n\r\nhello", 200, "hello", "Transfer-Encoding"),
        ("until close, HTTP/1.0", "HTTP/1.0 200 X\r\n\r\nhello", 200, "hello", "Transfer-Encoding"),
        ("nothing until close", "HTTP/1.1 200 X\r\n\r\n", 200, "", "Transfer-Encoding"),
        ("no body", "HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n", 200, "", "Content-Length"),
        ("204", "HTTP/1.1 204 X\r\nX: y\r\n\r\n", 204, "", "X"),
        ("304 with a length", "HTTP/1.1 304 X\r\nContent-Length: 5\r\n\r\n", 304, "", "Content-Length"),
        (
            "a server's error",
            "HTTP/1.1 503 Busy\r\nRetry-After: 3\r\nContent-Length: 4\r\n\r\nbusy",
            503,
            "busy",
            "Retry-After",
        ),
        ("a redirect", "HTTP/1.1 302 X\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", 302, "", "Location"),
        ("no reason", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", 200, "ok", "Content-Length"),
    ] {
        let relay = Relay::before(&saying(said, close)?)?;
        let mut client = relay.client()?;
        let answer = client.ask(get("/up.example/")).context(what)?;
        assert_eq!((answer.status(), String::from_utf8_lossy(&answer.body)), (status, body.into()), "{what}");
        assert!(answer.whole && answer.field(framing).is_some(), "{what}: {answer:#?}");
        assert_eq!((answer.field("Via"), answer.field("Proxy-Status")), (None, None), "{what}: {answer:#?}");
        assert_eq!(
            client.ask(get("/")).context(what)?.status(),
            404,
            "{what}: the client's connection stays"
        );
    }
    Ok(())
}

#[test]
fn an_http_1_0_client_gets_no_chunks() -> Result<()> {
    for said in [
        "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\nX: y\r\n\r\n",
        "HTTP/1.1 200 X\r\n\r\nhello",
    ] {
        let relay = Relay::before(&saying(said, close)?)?;
        let mut client = relay.client()?;
        let answer = client.ask("GET /up.example/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")?;
        assert_eq!((&answer.body[..], answer.whole), (&b"hello"[..], true), "{answer:#?}");
        assert_eq!(answer.field("Transfer-Encoding"), None);
        assert_eq!(answer.field("Connection"), Some("close"));
    }
    Ok(())
}

#[test]
fn head_is_answered_without_a_body() -> Result<()> {
    for said in [
        "HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 X\r\nX: y\r\n\r\n",
    ] {
        let origin = Origin::plain(move |connection| {
            while connection.request()?.is_some() {
                connection.send(said)?;
            }
            Ok(End::Close)
        })?;
        let relay = Relay::before(&origin)?;
        let mut client = relay.client()?;
        for _ in 0..2 {
            client.wire().send(request("HEAD /up.example/", &[], ""))?;
            let answer = client.response_to_head()?;
            assert_eq!(answer.status(), 200, "{said:?}: {answer:?}");
            assert_eq!(
                answer.field("Content-Length").is_some(),
                said.contains("Content-Length"),
                "{answer:?}"
            );
        }
        assert_eq!(client.ask(get("/"))?.status(), 404, "no body lies between");
    }
    Ok(())
}

#[test]
fn a_truncated_response_never_looks_whole() -> Result<()> {
    let long = "x".repeat(100_000);
    let length = |sent: usize| format!("HTTP/1.1 200 X\r\nContent-Length: 100000\r\n\r\n{}", &long[..sent]);
    let chunked = |rest: &str| format!("HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n{rest}");
    for (what, said, end) in [
        ("nothing of a length", length(0), close as fn() -> End),
        ("some of a length", length(3), close),
        ("all but one of a length", length(99_999), close),
        ("some of a length, reset", length(50_000), reset),
        ("no chunk", chunked(""), close),
        ("half a size", chunked("5"), close),
        ("half a chunk", chunked("5\r\nhel"), close),
        ("a chunk without its end", chunked("5\r\nhello"), close),
        ("a chunk and no more", chunked("5\r\nhello\r\n"), close),
        ("a chunk and no more, reset", chunked("5\r\nhello\r\n"), reset),
        ("half the last chunk", chunked("5\r\nhello\r\n0\r\n"), close),
        ("half the trailers", chunked("5\r\nhello\r\n0\r\nX: y\r\n"), close),
        ("until close, reset", "HTTP/1.1 200 X\r\n\r\nhello".into(), reset),
    ] {
        let sent_whole_before_reset = what.starts_with("until close");
        let origin = saying(said, end)?;
        for version in ["1.1", "1.0"] {
            let relay = Relay::before(&origin)?;
            let mut client = relay.client()?;
            client.wire().send(format!("GET /up.example/ HTTP/{version}\r\nHost: p\r\n\r\n"))?;
            let answer = match client.response() {
                Ok(answer) => answer,
                // Nothing at all, but a reset: no client takes that for a response.
                Err(error) if version == "1.0" && format!("{error:#}").contains("reset") => continue,
                Err(error) => return Err(error.context(format!("{what}, HTTP/{version}"))),
            };
            let is_cut = answer.status() == 200 && !answer.whole;
            let is_refused = answer.status() == 502 && answer.whole;
            assert!(is_cut || is_refused, "{what}, HTTP/{version}: {answer:?}");
            if is_refused {
                let error = answer.proxy_error();
                let known = [Some("http_response_incomplete"), Some("connection_terminated")];
                assert!(known.contains(&error), "{what}, HTTP/{version}: {answer:?}");
                // A reset may overtake the response that was sent before it.
                assert!(
                    error == known[0] || sent_whole_before_reset || what.ends_with("reset"),
                    "{what}: {answer:?}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn a_response_that_stalls_is_cut_and_one_that_never_begins_is_504() -> Result<()> {
    let stalls = |said: &'static str| {
        Origin::plain(move |connection| {
            connection.request()?;
            connection.send(said)?;
            let _ = connection.wire().closed();
            Ok(End::Close)
        })
    };
    for (said, status) in [
        ("", 504),
        ("HTTP/1.1 200", 504),
        ("HTTP/1.1 103 X\r\n\r\n", 504),
        ("HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\nhel", 200),
        ("HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", 200),
        ("HTTP/1.1 200 X\r\n\r\nhel", 200),
    ] {
        let relay = Relay::before(&stalls(said)?)?;
        let begun = Instant::now();
        let mut client = relay.client()?;
        let answer = client.ask(post("/up.example/", "x")).context(said)?;
        let took = begun.elapsed();
        assert!((Duration::from_millis(950)..Duration::from_secs(3)).contains(&took), "{said:?}: {took:?}");
        assert_eq!(answer.status(), status, "{said:?}: {answer:?}");
        if status == 504 {
            assert_eq!(answer.proxy_error(), Some("http_response_timeout"), "{said:?}");
            // The request was taken whole, so the connection goes on.
            assert_eq!(client.ask(get("/nowhere.example/"))?.status(), 403, "{said:?}");
        } else {
            assert!(!answer.whole && b"hello".starts_with(&answer.body), "{said:?}: {answer:?}");
        }
    }
    Ok(())
}

#[test]
fn nothing_of_a_malformed_response_reaches_the_client() -> Result<()> {
    const BAD: &str = "http_protocol_error";
    let too_large = format!("HTTP/1.1 200 X\r\nX: {}\r\n\r\n", "secret".repeat(12_000));
    for (said, error) in [
        ("HTTP/2.0 200 secret\r\n\r\n", BAD),
        ("secret\r\n\r\n", BAD),
        ("HTTP/1.1 200 X\nX: secret\n\n", BAD),
        ("HTTP/1.1 200 X\r\nX Y: secret\r\n\r\n", BAD),
        ("HTTP/1.1 200 X\r\nX: secret\r\n folded\r\n\r\n", BAD),
        ("HTTP/1.1 200 X\r\nX: secret\0\r\n\r\n", BAD),
        ("HTTP/1.1 099 secret\r\n\r\n", BAD),
        ("HTTP/1.1 200 X\r\nContent-Length: 6\r\nContent-Length: 6\r\n\r\nsecret", BAD),
        (
            "HTTP/1.1 200 X\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nsecret\r\n0\r\n\r\n",
            BAD,
        ),
        ("HTTP/1.1 200 X\r\nTransfer-Encoding: gzip\r\n\r\nsecret", BAD),
        ("HTTP/1.0 200 X\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nsecret\r\n0\r\n\r\n", BAD),
        ("HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nsecret\r\n", BAD),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: secret\r\n\r\n", BAD),
        ("HTTP/1.1 103 X\r\nLi nk: secret\r\n\r\nHTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n", BAD),
        (&too_large, "http_response_header_section_size"),
        ("HTTP/1.1 200 X\r\nX: secret", "http_response_incomplete"),
        ("", "connection_terminated"),
    ] {
        let relay = Relay::before(&saying(said.to_owned(), close)?)?;
        let mut client = relay.client()?;
        let what = said.get(..60).unwrap_or(said);
        let answer = client.ask(post("/up.example/", "x")).context(what.to_owned())?;
        assert_eq!((answer.status(), answer.proxy_error()), (502, Some(error)), "{what:?}: {answer:?}");
        let heard = String::from_utf8_lossy(&client.wire().heard()).into_owned();
        assert!(!heard.contains("secret") && answer.interim.is_empty(), "{what:?}: {heard}");
    }
    Ok(())
}

#[test]
fn interim_responses_are_relayed_to_those_who_know_them() -> Result<()> {
    let said = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Wait\r\n\r\n\
                HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let relay = Relay::before(&saying(said, close)?)?;
    let answer = relay.client()?.ask(get("/up.example/"))?;
    let interim: Vec<u16> = answer.interim.iter().map(Message::status).collect();
    assert_eq!((answer.status(), interim), (200, vec![103, 102]));
    assert_eq!(answer.interim[0].field("Link"), Some("</x>"));
    let answer = relay.client()?.ask("GET /up.example/ HTTP/1.0\r\n\r\n")?;
    assert_eq!((answer.status(), answer.interim.len()), (200, 0));
    // A 100 that the client does not wait for.
    let relay = Relay::before(&saying(format!("HTTP/1.1 100 Continue\r\n\r\n{OK}"), close)?)?;
    let answer = relay.client()?.ask(post("/up.example/", "x"))?;
    assert_eq!((answer.status(), answer.interim.len()), (200, 0));
    Ok(())
}

const EXPECTING: &str =
    "POST /up.example/ HTTP/1.1\r\nHost: p\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";

#[test]
fn a_client_that_waits_for_100_gets_it_within_a_second() -> Result<()> {
    // The upstream's own, and hookgate's where the upstream says nothing.
    for says_it in [true, false] {
        let origin = Origin::plain(move |connection| {
            let head = connection.head()?;
            if !head.contains("\r\nExpect: 100-continue\r\n") {
                return Ok(End::Reset);
            }
            if says_it {
                connection.send("HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            let body = connection.bytes(5)?;
            connection.send(if body == b"hello" {
                OK
            } else {
                "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n"
            })?;
            Ok(End::Close)
        })?;
        let relay = Relay::before(&origin)?;
        let mut client = relay.client()?;
        client.wire().send(EXPECTING)?;
        let begun = Instant::now();
        while !client.wire().buffered().ends_with(b"\r\n\r\n") {
            ensure!(client.wire().read()? > 0, "closed");
        }
        let took = begun.elapsed();
        assert_eq!(client.wire().buffered(), b"HTTP/1.1 100 Continue\r\n\r\n");
        assert!(took < Duration::from_secs(1), "{took:?}");
        client.wire().send("hello")?;
        let answer = client.response()?;
        assert_eq!((answer.status(), answer.interim.len()), (200, 1), "says it: {says_it}");
        assert_eq!(client.ask(get("/"))?.status(), 404);
    }
    Ok(())
}

#[test]
fn no_100_is_sent_when_the_answer_is_known() -> Result<()> {
    // The upstream answers without the body; hookgate answers without an upstream.
    let origin = Origin::plain(|connection| {
        connection.head()?;
        connection.send("HTTP/1.1 413 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
        Ok(End::Close)
    })?;
    let relay = Relay::before(&origin)?;
    let answer = relay.client()?.ask(EXPECTING)?;
    assert_eq!((answer.status(), answer.interim.len(), answer.proxy_error()), (413, 0, None));
    let answer = relay.client()?.ask(EXPECTING.replace("up.example", "other"))?;
    assert_eq!((answer.status(), answer.interim.len()), (403, 0));
    // An HTTP/1.0 client knows no 100.
    let mut client = relay.client()?;
    let answer = client.ask(EXPECTING.replace("HTTP/1.1", "HTTP/1.0") + "hello")?;
    assert_eq!((answer.status(), answer.interim.len()), (413, 0));
    Ok(())
}

#[test]
fn pipelined_requests_are_answered_in_order() -> Result<()> {
    let origin = Origin::plain(|connection| {
        while let Some(request) = connection.request()? {
            let (method, body) = (request.start.clone(), String::from_utf8_lossy(&request.body).into_owned());
            let said = format!("{method} {body}");
            connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{said}", said.len()))?;
        }
        Ok(End::Close)
    })?;
    let relay = Relay::before(&origin)?;
    let mut client = relay.client()?;
    let chunked =
        request("POST /up.example/3", &["Transfer-Encoding: chunked"], "1\r\nc\r\n0\r\nX: y\r\n\r\n");
    let all = [
        get("/up.example/1"),
        post("/up.example/2", "b"),
        chunked,
        get("/other.example/x"),
        post("/other.example/x", "refused, and skipped"),
        get("/up.example/4"),
    ];
    client.wire().send(all.concat())?;
    for expected in ["GET /1", "POST /2", "POST /3", "", "", "GET /4"] {
        let answer = client.response()?;
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        if expected.is_empty() {
            assert_eq!(answer.status(), 403);
        } else {
            assert!(body.starts_with(expected), "{body} is not {expected}");
        }
    }
    assert_eq!(origin.connections(), 1, "one connection does for one client");
    Ok(())
}

#[test]
fn an_early_response_is_relayed_while_the_body_is_on_its_way() -> Result<()> {
    let origin = Origin::plain(|connection: &mut Conversation| {
        connection.head()?;
        connection.send("HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno")?;
        let _ = connection.wire().closed();
        Ok(End::Close)
    })?;
    let relay = Relay::before(&origin)?;
    let mut client = relay.client()?;
    let answer =
        client.ask(request("POST /up.example/", &["Content-Length: 1000000"], "only the beginning"))?;
    assert_eq!((answer.status(), &answer.body[..], answer.whole), (401, &b"no"[..], true));
    assert_eq!(
        answer.field("Connection"),
        Some("close"),
        "the rest of the body can't be told from a request"
    );
    assert_eq!(client.wire().closed()?, Closed::Orderly);
    Ok(())
}

#[test]
fn a_client_that_has_said_everything_may_close_its_side() -> Result<()> {
    let relay = Relay::before(&Origin::answering(OK)?)?;
    let mut client = relay.client()?;
    client.wire().send(post("/up.example/", "x"))?;
    client.wire().finish()?;
    assert_eq!(client.response()?.status(), 200);
    assert_eq!(client.wire().closed()?, Closed::Orderly);
    Ok(())
}

#[test]
fn trailers_are_relayed_where_both_sides_have_chunks() -> Result<()> {
    let said = "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, Set-Cookie\r\n\r\n\
                5\r\nhello\r\n0\r\nX-Sum:  1 \r\nSet-Cookie: a=b\r\nContent-Length: 9\r\nx-other: y\r\n\r\n";
    let relay = Relay::before(&saying(said, close)?)?;
    let answer = relay.client()?.ask(get("/up.example/"))?;
    assert_eq!((&answer.body[..], &answer.trailers[..]), (&b"hello"[..], "X-Sum:  1 \r\nx-other: y\r\n"));
    assert_eq!(answer.field("Trailer"), Some("X-Sum, Set-Cookie"));
    for name in ["X-Sum", "Set-Cookie", "Content-Length"] {
        assert_eq!(answer.field(name), None, "a trailer is no field of the head");
    }
    let mut client = relay.client()?;
    let answer = client.ask("GET /up.example/ HTTP/1.0\r\n\r\n")?;
    assert_eq!((&answer.body[..], answer.whole), (&b"hello"[..], true));
    assert!(!String::from_utf8_lossy(&client.wire().heard()).contains("x-other"), "no chunks, no trailers");
    Ok(())
}

#[test]
fn a_body_where_none_may_be_is_no_response() -> Result<()> {
    for (said, status) in [
        ("HTTP/1.1 204 X\r\nContent-Length: 49\r\n\r\n", 204),
        ("HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n31\r\n", 204),
        ("HTTP/1.1 304 X\r\nContent-Length: 49\r\n\r\n", 304),
        ("HTTP/1.1 304 X\r\n\r\n", 304),
    ] {
        let origin = Origin::plain(move |connection| {
            while connection.request()?.is_some() {
                connection.send(format!("{said}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret"))?;
            }
            Ok(End::Close)
        })?;
        let relay = Relay::before(&origin)?;
        let mut client = relay.client()?;
        for _ in 0..3 {
            let answer = client.ask(get("/up.example/"))?;
            assert_eq!((answer.status(), answer.body.len()), (status, 0), "{said:?}");
            if status == 204 {
                let framing = [answer.field("Content-Length"), answer.field("Transfer-Encoding")];
                assert_eq!(framing, [None, None], "{said:?}");
            }
        }
        let heard = String::from_utf8_lossy(&client.wire().heard()).into_owned();
        assert!(!heard.contains("secret"), "{said:?}: {heard}");
        assert_eq!(origin.connections(), 3, "{said:?}: such a connection is not used again");
    }
    Ok(())
}

#[test]
fn a_response_head_at_its_limit_passes_and_one_byte_more_does_not() -> Result<()> {
    const MAX_HEAD_BYTES: usize = 1000;
    let origin = Origin::plain(|connection| {
        while let Some(request) = connection.request()? {
            let bytes: usize =
                String::from_utf8_lossy(&request.body).parse().map_err(std::io::Error::other)?;
            let rest = "HTTP/1.1 200 X\r\nContent-Length: 2\r\nX: \r\n\r\n".len();
            let padding = "x".repeat(bytes - rest);
            connection.send(format!("HTTP/1.1 200 X\r\nContent-Length: 2\r\nX: {padding}\r\n\r\nok"))?;
        }
        Ok(End::Close)
    })?;
    let limits = format!("[limits]\nresponse_head_bytes = {MAX_HEAD_BYTES}\n");
    let relay = Relay::start(&(limits + &crate::upstream(origin.address(), "")))?;
    let mut client = relay.client()?;
    for (bytes, status) in [
        (MAX_HEAD_BYTES - 1, 200),
        (MAX_HEAD_BYTES, 200),
        (MAX_HEAD_BYTES + 1, 502),
        (40_000, 502),
        (MAX_HEAD_BYTES, 200),
    ] {
        let answer = client.ask(post("/up.example/", &bytes.to_string()))?;
        assert_eq!(answer.status(), status, "{bytes} bytes");
        let error = (status == 502).then_some("http_response_header_section_size");
        assert_eq!(answer.proxy_error(), error, "{bytes} bytes");
    }
    Ok(())
}

#[test]
fn what_concerns_the_upstreams_connection_alone_is_not_relayed() -> Result<()> {
    let said = "HTTP/1.1 200 OK\r\nConnection: close, X-Own\r\nX-Own: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\n\
                Proxy-Authenticate: Basic\r\nProxy-Status: other; error=dns_error\r\nVia: 1.1 other\r\n\
                Date: today\r\nServer: s\r\nX-Request-Id: theirs\r\nset-cookie: a\r\nSet-Cookie: b\r\n\
                Content-Length: 2\r\n\r\nok";
    let relay = Relay::before(&saying(said, close)?)?;
    let mut client = relay.client()?;
    let answer = client.ask(get("/up.example/"))?;
    let fields: Vec<String> = answer.fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    assert_eq!(
        fields,
        [
            "Proxy-Status: other; error=dns_error",
            "Via: 1.1 other",
            "Date: today",
            "Server: s",
            "X-Request-Id: theirs",
            "set-cookie: a",
            "Set-Cookie: b",
            "Content-Length: 2"
        ]
    );
    assert_eq!(client.ask(get("/"))?.status(), 404, "the client's connection is another");
    Ok(())
}
