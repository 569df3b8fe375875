//! What a pooled connection still holds, of which nothing may become the next client's response.

use std::io;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Certs, Conversation, End, Origin, Records, TempDir, equal, pace, wait_until};
use rustls::ContentType;

use crate::{OK, Relay, get, post};

const CLOSE_NOTIFY: [u8; 2] = [1, 0];
const SURPLUS: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nsurplus";

/// A proxy before an upstream with TLS.
struct Testbed {
    relay: Relay,
    origin: Origin,
    _dir: TempDir,
}

impl Testbed {
    /// The script speaks records, after the first request.
    fn start(
        script: impl Fn(&mut Conversation, &mut Records) -> Result<()> + Send + Sync + 'static,
    ) -> Result<Self> {
        let (certs, dir) = (Certs::new(&["up.example"])?, TempDir::new("pooled")?);
        let [ca, _, _] = certs.write(&dir, "up")?;
        let origin = Origin::tls(&certs, move |connection| {
            connection.request()?;
            let mut records = connection.wire().records().map_err(io::Error::other)?;
            script(connection, &mut records).map_err(io::Error::other)?;
            Ok(End::Vanish)
        })?;
        let upstream = format!("\"up.example\" = {{ address = \"{}\", ca = {ca:?} }}", origin.address());
        let relay = Relay::start(&format!("[upstreams]\n{upstream}\n"))?;
        Ok(Self { relay, origin, _dir: dir })
    }

    /// Two requests of one client, the second `pause` after the answer to the first: each gets its
    /// own answer.
    fn assert_no_surplus(&self, pause: Duration) -> Result<()> {
        let mut client = self.relay.client()?;
        for round in 1..=2 {
            let answer = client.ask(get("/up.example/"))?;
            ensure!(answer.status() == 200 && answer.body.ends_with(b"own"), "{round}: {answer:?}");
            pace(pause);
        }
        ensure!(self.origin.connections() == 2, "{} connections", self.origin.connections());
        Ok(())
    }
}

/// A response whose content ends with `own`, and is longer than the proxy asks for at once.
fn response(length: usize) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", length + 3);
    [head.into_bytes(), vec![b'a'; length], b"own".to_vec()].concat()
}

/// Waits for the proxy to close.
fn until_closed(records: &mut Records) -> Result<()> {
    records.rest().map(|_| ())
}

#[test]
fn a_response_too_many_that_was_read_and_not_decrypted() -> Result<()> {
    for length in [0, 5000, 16_000] {
        let testbed = Testbed::start(move |_, records| {
            let first = records.encrypt(ContentType::ApplicationData, &response(length)[..])?;
            let second = records.encrypt(ContentType::ApplicationData, SURPLUS)?;
            records.send_raw(&[first, second].concat())?;
            until_closed(records)
        })?;
        testbed.assert_no_surplus(Duration::from_millis(50))?;
        testbed.assert_no_surplus(Duration::ZERO).ok();
    }
    Ok(())
}

#[test]
fn part_of_a_record_that_came_with_the_response() -> Result<()> {
    for part in [1, 5, 6, 30] {
        let testbed = Testbed::start(move |_, records| {
            let first = records.encrypt(ContentType::ApplicationData, &response(5000))?;
            let second = records.encrypt(ContentType::ApplicationData, SURPLUS)?;
            let (start, rest) = second.split_at(part);
            records.send_raw(&[&first, start].concat())?;
            pace(Duration::from_millis(120));
            // The proxy may have closed.
            records.send_raw(rest).ok();
            until_closed(records)
        })?;
        testbed.assert_no_surplus(Duration::from_millis(40))?;
    }
    Ok(())
}

#[test]
fn part_of_a_record_that_came_while_the_connection_was_idle() -> Result<()> {
    for part in [1, 5, 30] {
        let testbed = Testbed::start(move |_, records| {
            records.send(ContentType::ApplicationData, &response(10))?;
            pace(Duration::from_millis(20));
            let second = records.encrypt(ContentType::ApplicationData, SURPLUS)?;
            let (start, rest) = second.split_at(part);
            records.send_raw(start)?;
            pace(Duration::from_millis(120));
            // The proxy may have closed.
            records.send_raw(rest).ok();
            until_closed(records)
        })?;
        testbed.assert_no_surplus(Duration::from_millis(60))?;
    }
    Ok(())
}

#[test]
fn a_session_ticket_is_no_surplus() -> Result<()> {
    let testbed = Testbed::start(|_, records| {
        // Lifetime, age_add, a nonce of one byte, a ticket of 4, no extensions.
        let ticket = [0, 0, 14, 16, 1, 2, 3, 4, 1, 9, 0, 4, 5, 5, 5, 5, 0, 0];
        let ticket = [&[4, 0, 0, ticket.len() as u8][..], &ticket].concat();
        for _ in 0..2 {
            let first = records.encrypt(ContentType::ApplicationData, &response(5000))?;
            let second = records.encrypt(ContentType::Handshake, &ticket)?;
            records.send_raw(&[first, second].concat())?;
            pace(Duration::from_millis(20));
            records.send(ContentType::Handshake, &ticket)?;
            records.receive()?;
        }
        Ok(())
    })?;
    let mut client = testbed.relay.client()?;
    for _ in 0..2 {
        ensure!(client.ask(get("/up.example/"))?.body.ends_with(b"own"));
        pace(Duration::from_millis(60));
    }
    ensure!(testbed.origin.connections() == 1, "{} connections", testbed.origin.connections());
    Ok(())
}

/// It then waits for the proxy to close, too, so that nothing else tells.
#[test]
fn a_close_notify_behind_the_response_ends_the_connection() -> Result<()> {
    let testbed = Testbed::start(|_, records| {
        let answer = records.encrypt(ContentType::ApplicationData, OK.as_bytes())?;
        let close = records.encrypt(ContentType::Alert, &CLOSE_NOTIFY)?;
        records.send_raw(&[answer, close].concat())?;
        until_closed(records)
    })?;
    let mut client = testbed.relay.client()?;
    for round in 1..=10 {
        let answer = client.ask(post("/up.example/", "x"))?;
        ensure!(answer.status() == 200, "{round}: {answer:?}");
        let condition = format!("connection {round} ends");
        wait_until(condition, Duration::from_secs(5), || Ok(equal(testbed.origin.ended(), round)))?;
    }
    ensure!(testbed.origin.connections() == 10, "{} connections", testbed.origin.connections());
    Ok(())
}
