//! What was begun and cannot be completed ends in a way that no client takes for its end.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Client, Closed, End, Proxy, require, wait_until};

use crate::small_buffers::{NEEDS, with_small_buffers};
use crate::{Origin, Relay, TIMEOUTS, TlsDoor, local, upstream};

/// HTTP/1.0 has no chunks: the body of a response without a length ends with the connection.
const REQUEST: &str = "GET /up.example/ HTTP/1.0\r\n\r\n";

/// Half of what was announced, then nothing more.
fn breaks_off() -> Result<Origin> {
    Origin::plain(|connection| {
        connection.request()?;
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")?;
        Ok(End::Close)
    })
}

#[test]
fn a_body_until_close_that_breaks_off_ends_in_a_reset_with_tls_too() -> Result<()> {
    let origin = breaks_off()?;
    let (door, https, tls) = TlsDoor::new()?;
    let relay = Relay::listening(&https, &format!("{TIMEOUTS}{tls}\n{}", upstream(origin.address(), "")))?;
    let mut clients =
        [Client::tls(door.address, &door.certs, "proxy.example.com")?, Client::plain(relay.address)?];
    for client in &mut clients {
        client.wire().send(REQUEST)?;
        // The error that a reset makes of a read, and not the one that rustls makes of a FIN
        // without close_notify.
        let error = loop {
            match client.wire().read() {
                Ok(count) => ensure!(count > 0, "an orderly end"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
    Ok(())
}

#[test]
fn nothing_follows_half_of_an_interim_response() -> Result<()> {
    if !require(&NEEDS) {
        return Ok(());
    }
    let ns = with_small_buffers()?;
    let interim = format!("HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n", "x".repeat(60_000));
    let origin = ns.inside(|| {
        Origin::plain(move |connection| {
            connection.head()?;
            connection.send(&interim)?;
            while connection.wire().read()? > 0 {}
            Ok(End::Close)
        })
    })?;
    let (address, admin) = (local(8081), local(9432));
    let _proxy = Proxy::start_in(
        &ns,
        &format!(
            "[listen]\nplain = [\"{address}\"]\n[admin]\nlisten = \"{admin}\"\n{TIMEOUTS}\n{}",
            upstream(origin.address(), "")
        ),
    )?;
    ns.inside(|| {
        let mut client = Client::plain(address)?;
        client.wire().send("POST /up.example/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        // Some of the interim response is there, and more than fits is to come.
        ensure!(client.wire().has_something_within(Duration::from_secs(5))?, "no interim response");
        client.wire().send("no size\r\n")?;
        wait_until("the bad chunk is noticed", Duration::from_secs(5), || {
            let metrics = harness::Metrics::read(admin)?;
            Ok(metrics.value("hookgate_in_flight{upstream=\"up.example\"}") == 0.0)
        })?;
        let closed = client.wire().closed()?;
        let heard = String::from_utf8(client.wire().heard()).context("what was heard")?;
        assert_eq!((closed, heard.contains("400")), (Closed::Cut, false), "{heard}");
        Ok(())
    })
}
