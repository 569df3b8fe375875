//! A stranger's bodies keep up 1 KiB/s on average over `body_idle`, so that a slot in flight has an
//! end. Meta's need not.

use std::io::Read as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use harness::{Client, End, Proxy, pace, require};

use crate::small_buffers::{NEEDS, with_small_buffers};
use crate::{OK, Origin, Relay, TIMEOUTS, local, proxy_line, request, upstream};

const BELIEVED: &str = "proxy_protocol_from = [\"127.0.0.0/8\"]";
const STRANGER: &str = "198.51.100.1";
const META: &str = "157.240.1.1";
/// How often the tests' clients do something: far more often than `body_idle`.
const STEP: Duration = Duration::from_millis(100);

fn client_from(source: &str, address: SocketAddr) -> Result<Client> {
    let mut client = Client::plain(address)?;
    client.wire().send(proxy_line(source))?;
    Ok(client)
}

/// What becomes of a body of 25 `pieces`, one every [`STEP`], where `body_idle` is a second: its
/// status.
fn uploads(relay: &Relay, source: &str, piece: &str) -> Result<u16> {
    let mut client = client_from(source, relay.address)?;
    let length = format!("Content-Length: {}", 25 * piece.len());
    client.wire().send(request("POST /up.example/", &[&length], ""))?;
    for _ in 0..25 {
        // A client that was answered may have been closed, too.
        if client.wire().send(piece).is_err() {
            break;
        }
        pace(STEP);
    }
    let answer = client.response()?;
    if answer.status() != 200 {
        assert_eq!(answer.proxy_error(), Some("http_request_error"));
    }
    Ok(answer.status())
}

#[test]
fn a_strangers_slow_upload_is_408() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let relay = Relay::listening(BELIEVED, &format!("{TIMEOUTS}\n{}", upstream(origin.address(), "")))?;
    assert_eq!(uploads(&relay, STRANGER, "x")?, 408);
    assert_eq!(uploads(&relay, META, "x")?, 200);
    // 2.5 KiB a second.
    assert_eq!(uploads(&relay, STRANGER, &"x".repeat(256))?, 200);
    relay.wait_for("hookgate_in_flight{upstream=\"up.example\"}", 0.0)?;
    let refused = relay.metrics()?.value("hookgate_requests_total{upstream=\"up.example\",code=\"408\"}");
    assert_eq!(refused, 1.0);
    Ok(())
}

#[test]
fn time_that_the_upstream_takes_is_not_the_strangers() -> Result<()> {
    let origin = Origin::plain(|connection| {
        while connection.request()?.is_some() {
            pace(9 * STEP);
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n")?;
            for _ in 0..30 {
                pace(STEP);
                connection.send("x")?;
            }
        }
        Ok(End::Close)
    })?;
    let relay = Relay::listening(BELIEVED, &format!("{TIMEOUTS}\n{}", upstream(origin.address(), "")))?;
    let answer = client_from(STRANGER, relay.address)?.ask(request("GET /up.example/", &[], ""))?;
    assert_eq!((answer.status(), answer.body.len(), answer.whole), (200, 30, true));
    Ok(())
}

/// For how long a client may take a long response in small bites; at most `most`.
fn downloads(address: SocketAddr, source: &str, most: Duration) -> Result<Duration> {
    let mut client = client_from(source, address)?;
    client.wire().send(request("GET /up.example/", &[], ""))?;
    let (begun, mut stream) = (Instant::now(), client.into_wire().into_stream());
    while begun.elapsed() < most && stream.read_exact(&mut [0; 60]).is_ok() {
        pace(STEP);
    }
    Ok(begun.elapsed())
}

#[test]
fn a_strangers_slow_download_is_cut() -> Result<()> {
    if !require(&NEEDS) {
        return Ok(());
    }
    // A trickle is seen as one: bytes in buffers count as taken, or do not move.
    let ns = with_small_buffers()?;
    let origin = ns.inside(|| {
        Origin::plain(|connection| {
            connection.request()?;
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")?;
            while connection.send([b'x'; 1000]).is_ok() {}
            Ok(End::Close)
        })
    })?;
    let address = local(8081);
    let _proxy = Proxy::start_in(
        &ns,
        &format!(
            "[listen]\nplain = [\"{address}\"]\n{BELIEVED}\n[timeouts]\nbody_idle = \"6s\"\n{}",
            upstream(origin.address(), "")
        ),
    )?;
    let most = Duration::from_secs(20);
    let (stranger, meta) = ns.inside(|| {
        Ok(std::thread::scope(|scope| {
            let meta = scope.spawn(|| downloads(address, META, most));
            (downloads(address, STRANGER, most), meta.join())
        }))
    })?;
    let stranger = stranger?;
    assert!(stranger < most, "a stranger's was not cut");
    let meta = meta.expect("the test's thread")?;
    assert!(meta >= most, "Meta's was cut after {meta:?}");
    Ok(())
}
