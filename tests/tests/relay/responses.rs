//! Responses that servers give and RFC 9112 does not: what is put right on the way, and what is a
//! 502.

use anyhow::Result;
use harness::{End, Origin};

use crate::{Relay, get, post};

/// A proxy before an origin that answers every request with `response`.
fn answering(response: &'static str) -> Result<Relay> {
    Relay::before(&Origin::answering(response)?)
}

#[test]
fn white_space_before_a_colon_is_taken_away() -> Result<()> {
    let relay = answering(
        "HTTP/1.1 200 OK\r\nServer: legacy\r\nAccess-Control-Allow-Credentials : true\r\nExpires \t: 0\r\n\
         Connection : X-Hop\r\nX-Hop : 1\r\nKeep-Alive : timeout=5\r\nContent-Length: 16\r\n\r\n{\"success\":true}",
    )?;
    let mut client = relay.client()?;
    for _ in 0..2 {
        let answer = client.ask(post("/up.example/webhook", "{}"))?;
        assert_eq!(
            (answer.status(), &answer.body[..], answer.whole),
            (200, &b"{\"success\":true}"[..], true)
        );
        assert_eq!(answer.field("Access-Control-Allow-Credentials"), Some("true"), "{answer:?}");
        assert_eq!(answer.field("Expires"), Some("0"), "{answer:?}");
        for gone in ["X-Hop", "X-Hop ", "Keep-Alive", "Keep-Alive ", "Connection", "Connection "] {
            assert_eq!(answer.field(gone), None, "{answer:?}");
        }
    }
    Ok(())
}

#[test]
fn white_space_before_a_trailers_colon_is_taken_away() -> Result<()> {
    let relay = answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum : 1\r\nContent-Length : 9\r\n\r\n",
    )?;
    let answer = relay.client()?.ask(get("/up.example/"))?;
    assert_eq!((&answer.body[..], answer.whole, &answer.trailers[..]), (&b"ok"[..], true, "X-Sum: 1\r\n"));
    Ok(())
}

#[test]
fn a_response_that_others_might_frame_otherwise_is_a_502() -> Result<()> {
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding\t: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length : 2\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nSecured by Excellent Serv : 1\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\nok",
    ] {
        let answer = answering(response)?.client()?.ask(post("/up.example/", "x"))?;
        assert_eq!(
            (answer.status(), answer.proxy_error()),
            (502, Some("http_protocol_error")),
            "{response:?}"
        );
    }
    Ok(())
}

#[test]
fn the_largest_length_is_relayed_as_far_as_it_comes() -> Result<()> {
    let origin = Origin::plain(|connection| {
        connection.request()?;
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\nok")?;
        Ok(End::Close)
    })?;
    let answer = Relay::before(&origin)?.client()?.ask(get("/up.example/"))?;
    assert_eq!(answer.field("Content-Length"), Some("9223372036854775807"));
    assert!(!answer.whole);
    Ok(())
}
