//! What a client is told when its request is not forwarded: the contract's table, row by row.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::{Closed, Message, Origin, pace, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::{OK, Relay, get, post, request, upstream};

/// Small limits, so that what is one above them is small too.
const LIMITS: &str = "[limits]\nhead_bytes = 1024\nuri_bytes = 256\nheaders = 10\nbody_bytes = 1000\n";

struct Row {
    what: &'static str,
    request: String,
    status: u16,
    error: &'static str,
    closes: bool,
}

fn row(
    what: &'static str,
    request: impl Into<String>,
    status: u16,
    error: &'static str,
    closes: bool,
) -> Row {
    Row { what, request: request.into(), status, error, closes }
}

fn rows() -> Vec<Row> {
    const MISSING: &str = "destination_not_found";
    const DENIED: &str = "http_request_denied";
    const BAD: &str = "http_request_error";
    let long = |length: usize| get(&format!("/up.example/{}", "a".repeat(length - 12)));
    let head = |length: usize| {
        let empty = request("GET /up.example/", &["X: "], "").len();
        request("GET /up.example/", &[&format!("X: {}", "a".repeat(length - empty))], "")
    };
    let fields = |count: usize| request("GET /up.example/", &vec!["X: y"; count - 1], "");
    let chunks = |bytes: usize| {
        let body = format!("{bytes:x}\r\n{}\r\n0\r\n\r\n", "a".repeat(bytes));
        request("POST /up.example/", &["Transfer-Encoding: chunked"], &body)
    };
    vec![
        row("no path", get("/"), 404, MISSING, false),
        row("one segment", get("/up.example"), 404, MISSING, false),
        row("a slash in the query alone", get("/up.example?x=/y/z"), 404, MISSING, false),
        row("OPTIONS *", request("OPTIONS *", &[], ""), 404, MISSING, false),
        row("another host", get("/other.example/x"), 403, DENIED, false),
        row("a trailing dot", get("/up.example./x"), 403, DENIED, false),
        row("a port", get("/up.example:443/x"), 403, DENIED, false),
        row("user information", get("/u@up.example/x"), 403, DENIED, false),
        row("an escape", get("/up%2Eexample/x"), 403, DENIED, false),
        row("an IP literal", get("/127.0.0.1/x"), 403, DENIED, false),
        row("an IPv6 literal", get("/[::1]/x"), 403, DENIED, false),
        row("an empty segment", get("//up.example/x"), 403, DENIED, false),
        row("a sub-domain", get("/a.up.example/x"), 403, DENIED, false),
        row("the upstream as the authority", get("http://up.example/x/y"), 403, DENIED, false),
        row("CONNECT", request("CONNECT up.example:443", &[], ""), 405, BAD, false),
        row("CONNECT of a path", request("CONNECT /up.example/x", &[], ""), 405, BAD, false),
        row("TRACE", request("TRACE /up.example/x", &[], ""), 405, BAD, false),
        row("HTTP/2.0", "GET /up.example/ HTTP/2.0\r\nHost: p\r\n\r\n", 505, BAD, true),
        row("HTTP/2's preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, BAD, true),
        row("no Host", "GET /up.example/ HTTP/1.1\r\n\r\n", 400, BAD, true),
        row("a bare LF", "GET /up.example/ HTTP/1.1\nHost: p\r\n\r\n", 400, BAD, true),
        row("TLS to a listener without it", "\x16\x03\x01\x02\0\x01\0\x01", 400, BAD, true),
        row(
            "two lengths",
            request("POST /up.example/", &["Content-Length: 1", "Content-Length: 1"], "x"),
            400,
            BAD,
            true,
        ),
        row(
            "a length and chunks",
            request("POST /up.example/", &["Content-Length: 5", "Transfer-Encoding: chunked"], "0\r\n\r\n"),
            400,
            BAD,
            true,
        ),
        row(
            "a bad chunk",
            request("POST /up.example/", &["Transfer-Encoding: chunked"], "zz\r\n"),
            400,
            BAD,
            true,
        ),
        row("a long method", request(&format!("{} /up.example/", "M".repeat(33)), &[], ""), 400, BAD, true),
        row("a method that never ends", "M".repeat(40), 400, BAD, true),
        row(
            "a length beyond what all can count",
            request("POST /up.example/", &["Content-Length: 9223372036854775808"], ""),
            400,
            BAD,
            true,
        ),
        row("two empty lines before a request", format!("\r\n\r\n{}", get("/up.example/")), 400, BAD, true),
        row("a target above its limit", long(257), 414, BAD, true),
        row("a head above its limit", head(1025), 431, BAD, true),
        row(
            "a head that never ends",
            format!("GET /up.example/ HTTP/1.1\r\nX: {}", "a".repeat(5000)),
            431,
            BAD,
            true,
        ),
        row("field lines above their limit", fields(11), 431, BAD, true),
        row("a length above the limit of bodies", post("/up.example/", &"a".repeat(1001)), 413, BAD, true),
        row("chunks above the limit of bodies", chunks(1001), 413, BAD, true),
        row(
            "a loop",
            request("GET /up.example/", &["Via: 1.1 x, 1.1 hookgate"], ""),
            508,
            "proxy_loop_detected",
            false,
        ),
        row("no client certificate where one is required", get("/closed.example/"), 403, DENIED, false),
        // Of several, the first in the contract's order.
        row("400 before 413", post("/up.example/", &"a".repeat(2000)).replace("Host", "Hos"), 400, BAD, true),
        row("505 before 414", get(&format!("/{}", "a".repeat(300))).replace("/1.1", "/1.2"), 505, BAD, true),
        row("431 before 405", fields(11).replace("GET", "TRACE"), 431, BAD, true),
        row("431 before 404", fields(11).replace("/up.example/", "/"), 431, BAD, true),
        row("414 before 431", get(&format!("/{}", "a".repeat(2000))), 414, BAD, true),
        row("405 before 403", request("TRACE /x/y", &[], ""), 405, BAD, false),
        row(
            "405 before 413",
            post("/up.example/", &"a".repeat(1001)).replace("POST", "TRACE"),
            405,
            BAD,
            false,
        ),
        row("404 before 413", post("/", &"a".repeat(1001)), 404, MISSING, false),
        row("403 before 413", post("/x/", &"a".repeat(1001)), 403, DENIED, false),
        row(
            "403 for want of a certificate before 508",
            request("GET /closed.example/", &["Via: 1.1 hookgate"], ""),
            403,
            DENIED,
            false,
        ),
        row(
            "403 for want of a certificate before 413",
            post("/closed.example/", &"a".repeat(1001)),
            403,
            DENIED,
            false,
        ),
        row("400 before 414", get(&format!("/up.example/{}#", "a".repeat(300))), 400, BAD, true),
        row("414 before 405", request(&format!("TRACE /{}", "a".repeat(300)), &[], ""), 414, BAD, true),
        row("405 before 404", request("TRACE /", &[], ""), 405, BAD, false),
        row("404 before 508", request("GET /", &["Via: 1.1 hookgate"], ""), 404, MISSING, false),
        row("403 before 508", request("GET /x/", &["Via: 1.1 hookgate"], ""), 403, DENIED, false),
        row(
            "508 before 413",
            request("POST /up.example/", &["Via: 1.1 hookgate", "Content-Length: 5000"], ""),
            508,
            "proxy_loop_detected",
            true,
        ),
    ]
}

#[test]
fn every_refusal_is_the_contracts_and_no_upstream_hears_of_it() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let closed =
        upstream(origin.address(), ", require_client_cert = true").replace("[upstreams]\n\"up", "\"closed");
    let relay = Relay::start(&format!("{LIMITS}{}{closed}", upstream(origin.address(), "")))?;
    for Row { what, request, status, error, closes } in rows() {
        let mut client = relay.client()?;
        let answer = client.ask(&request).context(what)?;
        assert_eq!((answer.status(), answer.proxy_error()), (status, Some(error)), "{what}: {answer:#?}");
        assert_is_our_answer(&answer, what);
        let says_close = answer.field("Connection") == Some("close");
        assert_eq!(says_close, closes, "{what}: {answer:#?}");
        if closes {
            assert_eq!(client.wire().closed()?, Closed::Orderly, "{what}");
        } else {
            assert_eq!(client.ask(get("/")).context(what)?.status(), 404, "{what}: the next request");
        }
    }
    // The chunks above the limit were known to be too many only when they had begun to travel.
    let whole = origin.heard().iter().filter(|heard| heard.ends_with(b"0\r\n\r\n")).count();
    assert_eq!(whole, 0, "{:?}", origin.heard());
    assert!(origin.connections() <= 2, "{:?}", origin.heard());
    Ok(())
}

#[test]
fn what_is_at_its_limit_passes() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let relay = Relay::start(&format!("{LIMITS}{}", upstream(origin.address(), "")))?;
    let target = format!("/up.example/{}", "a".repeat(256 - 12));
    let empty = request("GET /up.example/", &["X: "], "").len();
    let chunks = format!("3e8\r\n{}\r\n0\r\n\r\n", "a".repeat(1000));
    for (what, request) in [
        ("target", get(&target)),
        ("head", request("GET /up.example/", &[&format!("X: {}", "a".repeat(1024 - empty))], "")),
        ("field lines", request("GET /up.example/", &["X: y"; 9], "")),
        ("method", request(&format!("{} /up.example/", "M".repeat(32)), &[], "")),
        ("length", post("/up.example/", &"a".repeat(1000))),
        ("chunks", request("POST /up.example/", &["Transfer-Encoding: chunked"], &chunks)),
        ("an empty line before the request", format!("\r\n{}", get("/up.example/"))),
    ] {
        let answer = relay.client()?.ask(&request).context(what)?;
        assert_eq!((answer.status(), &answer.body[..]), (200, &b"ok"[..]), "{what}: {answer:#?}");
    }
    Ok(())
}

#[test]
fn limits_hold_for_one_who_sends_byte_by_byte() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let relay = Relay::start(&format!("{LIMITS}{}", upstream(origin.address(), "")))?;
    for (request, status) in [
        (get("/up.example/x"), 200),
        (post("/up.example/x", "abc"), 200),
        (get(&format!("/up.example/{}", "a".repeat(300))), 414),
        (request("GET /up.example/", &["X: y"; 10], ""), 431),
        (request("GET /up.example/", &["Content-Length: +1"], ""), 400),
    ] {
        let mut client = relay.client()?;
        for byte in request.as_bytes() {
            client.wire().send([*byte])?;
        }
        assert_eq!(client.response()?.status(), status, "{request:?}");
    }
    Ok(())
}

#[test]
fn a_slow_head_is_408_after_its_time_however_much_trickles_in() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let relay = Relay::before(&origin)?;
    let begun = Instant::now();
    let mut silent = relay.client()?;
    silent.wire().send("GET /up.example/ HTTP/1.1\r\nHost: p\r\n")?;
    let mut trickling = relay.client()?;
    for byte in b"GET /up.example/" {
        trickling.wire().send([*byte])?;
        pace(Duration::from_millis(50));
    }
    for (mut client, what) in [(silent, "silent"), (trickling, "trickling")] {
        let answer = client.response().context(what)?;
        assert_eq!((answer.status(), answer.proxy_error()), (408, Some("http_request_error")), "{what}");
        assert_is_our_answer(&answer, what);
        assert_eq!(client.wire().closed()?, Closed::Orderly, "{what}");
    }
    let took = begun.elapsed();
    assert!((Duration::from_millis(950)..Duration::from_secs(3)).contains(&took), "{took:?}");
    assert_eq!(origin.connections(), 0);
    Ok(())
}

#[test]
fn a_body_that_stops_is_408() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let relay = Relay::before(&origin)?;
    for request in [
        request("POST /up.example/", &["Content-Length: 5"], "abc"),
        request("POST /up.example/", &["Transfer-Encoding: chunked"], "5\r\nabc"),
        request("POST /up.example/", &["Transfer-Encoding: chunked"], "3\r\nabc\r\n"),
    ] {
        let mut client = relay.client()?;
        let answer = client.ask(&request)?;
        assert_eq!((answer.status(), answer.proxy_error()), (408, Some("http_request_error")), "{request:?}");
        assert_eq!(client.wire().closed()?, Closed::Orderly);
    }
    Ok(())
}

#[test]
fn a_connection_without_a_byte_is_closed_silently() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let relay = Relay::before(&origin)?;
    let mut fresh = relay.client()?;
    let mut idle = relay.client()?;
    assert_eq!(idle.ask(get("/up.example/"))?.status(), 200);
    let heard = idle.wire().heard();
    assert_eq!(fresh.wire().closed()?, Closed::Orderly);
    assert_eq!(fresh.wire().heard(), b"");
    assert_eq!(idle.wire().closed()?, Closed::Orderly);
    assert_eq!(idle.wire().heard(), heard);
    Ok(())
}

#[test]
fn an_answer_to_head_has_no_body() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let relay = Relay::before(&origin)?;
    let mut client = relay.client()?;
    client.wire().send(request("HEAD /other.example/x", &[], ""))?;
    let answer = client.response_to_head()?;
    assert_eq!(answer.status(), 403);
    assert!(answer.field("Content-Length").is_some_and(|length| length != "0"));
    assert_eq!(client.ask(get("/"))?.status(), 404, "a body would have been read as the next response");
    Ok(())
}

#[test]
fn http_1_0_is_answered_and_closed_unless_it_asks_to_stay() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let relay = Relay::before(&origin)?;
    for target in ["/up.example/", "/other.example/"] {
        let mut client = relay.client()?;
        let answer = client.ask(format!("GET {target} HTTP/1.0\r\n\r\n"))?;
        assert_eq!(answer.field("Connection"), Some("close"), "{answer:#?}");
        assert_eq!(client.wire().closed()?, Closed::Orderly);
        let mut client = relay.client()?;
        let answer = client.ask(format!("GET {target} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"))?;
        assert_eq!(answer.field("Connection"), Some("keep-alive"), "{answer:#?}");
        assert_eq!(client.ask(get("/"))?.status(), 404);
    }
    Ok(())
}

/// Short plain text that says whose it is, whole.
fn assert_is_our_answer(answer: &Message, what: &str) {
    assert_eq!(answer.field("Content-Type"), Some("text/plain; charset=utf-8"), "{what}");
    assert!(
        answer.whole && (2..200).contains(&answer.body.len()) && answer.body.ends_with(b"\n"),
        "{what}: {answer:#?}"
    );
    assert!(answer.field("Date").is_some_and(|date| date.ends_with(" GMT")), "{what}: {answer:#?}");
    assert_eq!(answer.field("Allow").is_some(), answer.status() == 405, "{what}: {answer:#?}");
    assert_eq!(answer.field("Via"), None, "{what}");
}

#[test]
fn answers_and_loops_have_the_configured_name() -> Result<()> {
    let origin = Origin::answering(OK)?;
    for (name, written) in [("edge-1", "edge-1"), ("1st", "\"1st\""), ("a.b_c", "a.b_c")] {
        let relay = Relay::start(&format!("[relay]\nname = \"{name}\"\n{}", upstream(origin.address(), "")))?;
        let via = |by: &str| request("GET /up.example/", &[&format!("Via: 1.1 x, HTTP/1.0 {by} (y)")], "");
        let mut client = relay.client()?;
        for (request, status, error) in [
            (get("/"), 404, "destination_not_found"),
            (via(name), 508, "proxy_loop_detected"),
            (via(&name.to_uppercase()), 508, "proxy_loop_detected"),
        ] {
            let answer = client.ask(request)?;
            assert_eq!(answer.status(), status, "{name}");
            let said = format!("{written}; error={error}");
            assert_eq!(answer.field("Proxy-Status"), Some(&said[..]), "{name}");
        }
        assert_eq!(client.ask(via("hookgate"))?.status(), 200, "another's name is no loop");
    }
    Ok(())
}

#[test]
fn a_limit_of_one_upstreams_goes_before_the_general_one() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let more = |name: &str, bytes: usize| {
        format!("\"{name}\" = {{ address = \"{}\", tls = false, body_bytes = {bytes} }}\n", origin.address())
    };
    let upstreams = [more("tight.example", 10), more("wide.example", 2000), more("open.example", 0)].concat();
    let relay = Relay::start(&format!("{LIMITS}{}{upstreams}", upstream(origin.address(), "")))?;
    for (name, most) in [("up", 1000), ("tight", 10), ("wide", 2000), ("open", usize::MAX)] {
        for bytes in [10, 11, 1000, 1001, 2000, 2001, 100_000] {
            let answer = relay.client()?.ask(post(&format!("/{name}.example/"), &"a".repeat(bytes)))?;
            assert_eq!(answer.status(), if bytes <= most { 200 } else { 413 }, "{name}, {bytes} bytes");
        }
    }
    Ok(())
}

/// Meta's senders write their megabytes whatever they are told, and must still hear it.
#[test]
fn who_sends_megabytes_hears_that_they_are_refused() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let relay = Relay::start(&format!("{LIMITS}{}", upstream(origin.address(), "")))?;
    let body = "a".repeat(3 << 20);
    for (target, status) in [("/other.example/x", 403), ("/", 404), ("/up.example/x", 413)] {
        let mut client = relay.client()?;
        client.wire().send(post(target, &body))?;
        let answer = client.response()?;
        assert_eq!((answer.status(), answer.field("Connection")), (status, Some("close")), "{target}");
        assert_eq!(client.wire().closed()?, Closed::Orderly, "{target}");
    }
    Ok(())
}

#[test]
fn a_flood_of_pipelined_requests_is_answered_to_the_last_in_bounded_memory() -> Result<()> {
    const REQUESTS: usize = 5000;
    let origin = Origin::answering(OK)?;
    let relay = Relay::start(&format!("[log]\naccess = false\n{}", upstream(origin.address(), "")))?;
    assert_eq!(relay.client()?.ask(get("/up.example/"))?.status(), 200);
    let (before, _) = relay.proxy.memory_kib()?;
    let mut client = relay.client()?;
    client.wire().send((get("/other.example/x") + &get("/up.example/")).repeat(REQUESTS / 2))?;
    for number in 0..REQUESTS {
        let expected = if number % 2 == 0 { 403 } else { 200 };
        assert_eq!(client.response()?.status(), expected, "{number}");
    }
    let (_, most) = relay.proxy.memory_kib()?;
    assert!(most < before + 4096, "{before} KiB have become {most} KiB");
    assert!(origin.connections() <= 2, "one a worker");
    Ok(())
}

#[test]
fn a_client_that_pipelines_lets_others_go_first() -> Result<()> {
    const REQUESTS: usize = 100;
    // The proxy inherits it, and serves on one thread.
    let (cores, mut core) = (sched_getaffinity(None)?, CpuSet::new());
    core.set((0..CpuSet::MAX_CPU).find(|core| cores.is_set(*core)).context("no processor")?);
    sched_setaffinity(None, &core)?;
    let origin = Origin::answering(OK)?;
    let relay = Relay::before(&origin)?;
    let [mut first, mut many, mut last] = [relay.client()?, relay.client()?, relay.client()?];
    for client in [&mut first, &mut many, &mut last] {
        assert_eq!(client.ask(get("/"))?.status(), 404);
    }
    // All have sent before it looks, in whatever order it does.
    let worker = relay.proxy.worker()?;
    let process = Pid::from_raw(worker.try_into()?).context("a process")?;
    kill_process(process, Signal::STOP)?;
    let is_stopped = || Ok(std::fs::read_to_string(format!("/proc/{worker}/stat"))?.contains(") T "));
    wait_until("the worker is stopped", Duration::from_secs(5), is_stopped)?;
    first.wire().send(get("/other"))?;
    many.wire().send(get("/many").repeat(REQUESTS))?;
    last.wire().send(get("/other"))?;
    kill_process(process, Signal::CONT)?;
    for other in [&mut first, &mut last] {
        assert_eq!(other.response()?.status(), 404);
    }
    for _ in 0..REQUESTS {
        assert_eq!(many.response()?.status(), 404);
    }
    let lines = |target: &str, log: &str| log.matches(&format!("GET /{target} ")).count();
    let is_logged = || Ok(lines("many", &relay.proxy.stderr()) == REQUESTS);
    wait_until("the answer is logged", Duration::from_secs(5), is_logged)
        .with_context(|| relay.proxy.stderr())?;
    let log = relay.proxy.stderr();
    let (before, _) = log.rsplit_once("GET /other ").context("no such line")?;
    assert!(lines("many", before) <= 3, "{} went first", lines("many", before));
    Ok(())
}
