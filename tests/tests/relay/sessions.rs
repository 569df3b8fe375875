//! TLS sessions after their handshakes, with clients and with upstreams: what else than content
//! comes in them, how they end, and who encrypts. All of it holds whether the kernel does or the
//! proxy itself; where these tests run in the emulated machine, it is the kernel.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{
    Certs, Client, Closed, Conversation, End, KernelTlsCounts, Need, Origin, Records, TempDir, ensure_stays,
    free_port, pace, require,
};
use rustls::ContentType;

use crate::{OK, Relay, TIMEOUTS, get, local, request};

const CLOSE_NOTIFY: [u8; 2] = [1, 0];
const BAD_RECORD_MAC: [u8; 2] = [2, 20];
const UNEXPECTED_MESSAGE: [u8; 2] = [2, 10];
const INTERNAL_ERROR: [u8; 2] = [2, 80];
const END_OF_EARLY_DATA: [u8; 4] = [5, 0, 0, 0];
const ALERT: ContentType = ContentType::Alert;
const DATA: ContentType = ContentType::ApplicationData;
const HANDSHAKE: ContentType = ContentType::Handshake;
/// More than what is spliced at all, and than a pipe holds.
const LONG: usize = (1 << 20) + (1 << 18);

/// A proxy between clients and an upstream called `up.example`, both with TLS.
struct Edge {
    relay: Relay,
    https: SocketAddr,
    certs: Certs,
    origin: Origin,
    _dir: TempDir,
}

impl Edge {
    fn start(script: impl Fn(&mut Conversation) -> io::Result<End> + Send + Sync + 'static) -> Result<Self> {
        Self::with("", script)
    }

    /// `more` stands in `[tls]`.
    fn with(
        more: &str,
        script: impl Fn(&mut Conversation) -> io::Result<End> + Send + Sync + 'static,
    ) -> Result<Self> {
        let (dir, https) = (TempDir::new("sessions")?, local(free_port()?));
        let certs = Certs::new(&["up.example", "proxy.example.com"])?;
        let [ca, cert, key] = certs.write(&dir, "edge")?;
        let origin = Origin::tls(&certs, script)?;
        let config = format!(
            "[tls]\ncert = {cert:?}\nkey = {key:?}\n{more}\n{TIMEOUTS}\n[upstreams]\n\
             \"up.example\" = {{ address = \"{}\", ca = {ca:?} }}\n",
            origin.address()
        );
        let relay = Relay::listening(&format!("https = [\"{https}\"]"), &config)?;
        Ok(Self { relay, https, certs, origin, _dir: dir })
    }

    fn client(&self) -> Result<Client> {
        Client::tls(self.https, &self.certs, "proxy.example.com")
    }

    /// A client that speaks records.
    fn records(&self) -> Result<Records> {
        self.client()?.wire().records()
    }

    /// Bytes of bodies so far that were spliced, and that were copied.
    fn moved(&self) -> Result<[u64; 2]> {
        let metrics = self.relay.metrics()?;
        Ok(["splice", "copy"].map(|path| {
            let series = format!("hookgate_body_bytes_total{{path={path:?}}}");
            metrics.value(&series) as u64
        }))
    }
}

/// Answers with the request's body.
fn echo(connection: &mut Conversation) -> io::Result<End> {
    while let Some(request) = connection.request()? {
        connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len()))?;
        connection.send(request.body)?;
    }
    Ok(End::Close)
}

/// No two pieces of it are alike.
fn content(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut word = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    };
    (0..length.div_ceil(4)).flat_map(|_| word().to_le_bytes()).take(length).collect()
}

fn upload(body: &[u8]) -> Vec<u8> {
    let head = request("POST /up.example/", &[&format!("Content-Length: {}", body.len())], "");
    [head.as_bytes(), body].concat()
}

/// In pieces of `size`.
fn chunked(start: &str, body: &[u8], size: usize) -> Vec<u8> {
    let mut message = format!("{start}\r\nHost: p\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
    for piece in body.chunks(size) {
        message.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        message.extend_from_slice(piece);
        message.extend_from_slice(b"\r\n");
    }
    [message, b"0\r\n\r\n".to_vec()].concat()
}

/// Whether the kernel encrypts, and cannot replace keys (before Linux 6.14).
fn keys_stay() -> bool {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse::<u32>().ok());
    KernelTlsCounts::read().is_some() && (numbers.next(), numbers.next()) < (Some(6), Some(14))
}

#[test]
fn the_kernel_encrypts_on_both_sides_unless_told_not_to() -> Result<()> {
    if !require(&[Need::KernelTls]) {
        return Ok(());
    }
    let counts = || KernelTlsCounts::read().context("no kernel TLS");
    // Sockets that have the kernel's TLS after a short body, and after a long one.
    for (more, short, long) in
        [("ktls = \"auto\"", 0, 2), ("ktls = \"always\"", 2, 2), ("ktls = \"off\"", 0, 0)]
    {
        let mut edge = Edge::with(more, echo)?;
        let said = if long > 0 { "kernel TLS: TLS 1.3 with AES-GCM" } else { "kernel TLS: off" };
        edge.relay.proxy.wait_for_stderr(said, Duration::from_secs(5))?;
        let before = counts()?;
        let risen = || {
            let after = counts()?;
            let sockets = (after.sending - before.sending, after.receiving - before.receiving);
            anyhow::Ok((sockets, after.bad - before.bad))
        };
        let body = content(LONG);
        let mut client = edge.client()?;
        ensure!(client.ask(upload(&body[..1000]))?.body == body[..1000], "{more}");
        assert_eq!(risen()?, ((short, short), 0), "{more}");
        for _ in 0..2 {
            ensure!(client.ask(upload(&body))?.body == body, "{more}");
        }
        assert_eq!(risen()?, ((long, long), 0), "{more}");
        ensure!(client.ask(upload(&body[..1000]))?.body == body[..1000], "{more}");
        let [spliced, copied] = edge.moved()?;
        assert_eq!(spliced > copied, long > 0, "{more}: {spliced} spliced, {copied} copied");
        assert_eq!(spliced + copied, 4 * (LONG + 1000) as u64, "{more}");
    }
    Ok(())
}

/// They have come to the proxy itself, while it waits for a head or reads one.
#[test]
fn keys_that_were_replaced_before_a_long_body_are_the_ones_that_go_to_the_kernel() -> Result<()> {
    let edge = Edge::with("ktls = \"auto\"", echo)?;
    let body = content(LONG);
    let sent = upload(&body);
    for cut in [0, 20] {
        let mut client = edge.client()?;
        assert_eq!(client.ask(get("/"))?.status(), 404);
        client.wire().send(&sent[..cut])?;
        client.wire().replace_keys()?;
        let answer = client.ask(&sent[cut..])?;
        ensure!(answer.whole && answer.body == body, "cut at {cut}");
    }
    Ok(())
}

#[test]
fn long_bodies_arrive_as_they_were_sent() -> Result<()> {
    let body = content(LONG + 1);
    let edge = Edge::start(echo)?;
    let chunks = chunked("POST /up.example/ HTTP/1.1", &body, 100_000);
    for (what, sent) in [("a length", upload(&body)), ("chunks", chunks)] {
        let mut client = edge.client()?;
        for _ in 0..2 {
            let answer = client.ask(&sent)?;
            ensure!(answer.status() == 200 && answer.whole && answer.body == body, "{what}, TLS to TLS");
        }
        let answer = edge.relay.client()?.ask(&sent)?;
        ensure!(answer.whole && answer.body == body, "{what}, plaintext to TLS");
    }
    let down = content(LONG);
    let response = chunked("HTTP/1.1 200 OK", &down, 70_000);
    let edge = Edge::start(move |connection| {
        connection.request()?;
        connection.send(&response)?;
        Ok(End::Close)
    })?;
    for client in [Edge::client, |edge: &Edge| edge.relay.client()] {
        let answer = client(&edge)?.ask(get("/up.example/"))?;
        ensure!(answer.whole && answer.body == down, "a response in chunks");
    }
    Ok(())
}

#[test]
fn empty_records_mean_nothing() -> Result<()> {
    let edge = Edge::start(echo)?;
    let body = content(300_000);
    let mut records = edge.records()?;
    records.send(DATA, b"")?;
    for piece in upload(&body).chunks(10_000) {
        records.send(DATA, piece)?;
        records.send(DATA, b"")?;
    }
    records.send(ALERT, &CLOSE_NOTIFY)?;
    let mut answer = Vec::new();
    for (content_type, piece) in records.rest()? {
        if content_type == DATA {
            answer.extend_from_slice(&piece);
        }
    }
    ensure!(answer.starts_with(b"HTTP/1.1 200") && answer.ends_with(&body), "{} bytes", answer.len());
    Ok(())
}

#[test]
fn what_is_no_record_of_the_clients_ends_its_connection_with_an_alert() -> Result<()> {
    let edge = Edge::start(echo)?;
    let forged = [&[23, 3, 3, 0, 40][..], &[7; 40]].concat();
    // On a connection that waits, in a head, in a body that is copied, and in one that may be
    // spliced.
    let long = request("POST /up.example/", &["Content-Length: 1000000"], &"x".repeat(20_000));
    for start in ["", "GET /up.ex", &request("POST /up.example/", &["Content-Length: 9"], "1234"), &long] {
        let what = &start[..start.len().min(20)];
        for (wrong, alert) in [(None, BAD_RECORD_MAC), (Some(END_OF_EARLY_DATA), UNEXPECTED_MESSAGE)] {
            let mut records = edge.records()?;
            if !start.is_empty() {
                for piece in start.as_bytes().chunks(10_000) {
                    records.send(DATA, piece)?;
                }
                // It is read before what follows.
                pace(Duration::from_millis(50));
            }
            match wrong {
                None => records.send_raw(&forged)?,
                Some(message) => records.send(HANDSHAKE, &message)?,
            }
            let said = records.rest().with_context(|| format!("{what:?}"))?;
            assert!(said.contains(&(ALERT, alert.to_vec())), "{what:?}: {said:?}");
            assert!(!said.iter().any(|(_, said)| said.starts_with(b"HTTP/1.1 200")), "{what:?}: {said:?}");
        }
    }
    Ok(())
}

#[test]
fn an_alert_of_the_upstreams_is_told_apart() -> Result<()> {
    let edge = Edge::start(|connection| {
        let request = connection.request()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let begun = request.start.contains("/begun");
        if begun {
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhello")?;
        }
        let mut records = connection.wire().records().map_err(io::Error::other)?;
        records.send(ALERT, &INTERNAL_ERROR).map_err(io::Error::other)?;
        Ok(End::Vanish)
    })?;
    let answer = edge.client()?.ask(get("/up.example/"))?;
    assert_eq!((answer.status(), answer.proxy_error()), (502, Some("tls_alert_received")));
    let mut client = edge.client()?;
    let answer = client.ask(get("/up.example/begun"))?;
    assert!(answer.status() == 200 && !answer.whole && answer.body == b"hello", "{answer:?}");
    Ok(())
}

#[test]
fn tickets_of_the_upstreams_come_when_they_like_and_resume_its_sessions() -> Result<()> {
    let (sender, receiver) = mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let edge = Edge::start(move |connection| {
        connection.request()?;
        let resumed = connection.wire().is_resumed();
        if let Ok(sender) = sender.lock() {
            // The receiver may have seen enough.
            let _ = sender.send(resumed);
        }
        connection.send(OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"))?;
        Ok(End::Close)
    })?;
    for expected in [false, true, true] {
        assert_eq!(edge.relay.client()?.ask(get("/up.example/"))?.status(), 200);
        assert_eq!(receiver.recv_timeout(Duration::from_secs(5))?, expected, "resumed");
    }

    // One in the middle of a body, in two records.
    let ticket = {
        let body = [
            &[0, 0, 14, 16, 1, 2, 3, 4][..], // lifetime, age_add
            &[1, 9, 0, 32],                  // nonce, length of the ticket
            &[5; 32],
            &[0, 0], // extensions
        ]
        .concat();
        [&[4, 0, 0, body.len() as u8][..], &body].concat()
    };
    let body = content(400_000);
    let sent = body.clone();
    let edge = Edge::start(move |connection| {
        connection.request()?;
        let mut records = connection.wire().records().map_err(io::Error::other)?;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", sent.len());
        let mut send =
            |content_type, bytes: &[u8]| records.send(content_type, bytes).map_err(io::Error::other);
        send(DATA, head.as_bytes())?;
        for piece in sent.chunks(16_000) {
            send(DATA, piece)?;
            send(HANDSHAKE, &ticket[..10])?;
            send(HANDSHAKE, &ticket[10..])?;
        }
        send(ALERT, &CLOSE_NOTIFY)?;
        Ok(End::Vanish)
    })?;
    let answer = edge.client()?.ask(get("/up.example/"))?;
    ensure!(answer.whole && answer.body == body, "{} bytes", answer.body.len());
    Ok(())
}

#[test]
fn a_client_that_replaces_its_keys_goes_on_or_is_told_that_it_cannot() -> Result<()> {
    let edge = Edge::start(echo)?;
    let body = content(200_000);
    let sent = upload(&body);
    for cut in [0, 10, 1000, 120_000] {
        let mut client = edge.client()?;
        assert_eq!(client.ask(get("/"))?.status(), 404);
        client.wire().send(&sent[..cut])?;
        client.wire().replace_keys()?;
        client.wire().send(&sent[cut..cut + 1])?;
        if keys_stay() {
            let error = client.response().err().context("an answer")?;
            assert!(format!("{error:#}").contains("InternalError"), "{cut}: {error:#}");
        } else {
            ensure!(client.ask(&sent[cut + 1..])?.body == body, "cut at {cut}");
        }
    }
    // No request that was cut off looks whole to the upstream.
    let whole = edge.origin.heard().iter().filter(|heard| heard.ends_with(&body)).count();
    assert_eq!(whole, if keys_stay() { 0 } else { edge.origin.connections() });
    Ok(())
}

#[test]
fn an_upstream_that_replaces_its_keys_goes_on_or_counts_as_gone() -> Result<()> {
    let body = content(200_000);
    let sent = body.clone();
    let edge = Edge::start(move |connection| {
        let request = connection.request()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", sent.len());
        if request.start.contains("/late") {
            connection.send(&head)?;
            connection.send(&sent[..100_000])?;
        }
        connection.wire().replace_keys().map_err(io::Error::other)?;
        if request.start.contains("/late") {
            connection.send(&sent[100_000..])?;
        } else {
            connection.send(head)?;
            connection.send(&sent)?;
        }
        Ok(End::Close)
    })?;
    for path in ["early", "late"] {
        let mut client = edge.client()?;
        let answer = client.ask(get(&format!("/up.example/{path}")))?;
        match (keys_stay(), path) {
            (false, _) => ensure!(answer.whole && answer.body == body, "{path}"),
            (true, "early") => {
                assert_eq!((answer.status(), answer.proxy_error()), (502, Some("connection_terminated")));
            }
            (true, _) => assert!(!answer.whole && body.starts_with(&answer.body), "{path}"),
        }
    }
    Ok(())
}

#[test]
fn a_client_that_vanishes_is_not_one_that_has_finished() -> Result<()> {
    let edge = Edge::start(|connection| {
        connection.bytes(1 << 20)?;
        Ok(End::Close)
    })?;
    for length in [10, 100_000] {
        let start = chunked("POST /up.example/ HTTP/1.1", &content(length), 50_000);
        let mut client = edge.client()?;
        client.wire().send(&start[..start.len() - 5])?;
        client.wire().vanish()?;
        edge.relay.wait_for("hookgate_requests_in_flight{upstream=\"up.example\"}", 0.0).ok();
    }
    let ended = |heard: &Vec<u8>| heard.ends_with(b"0\r\n\r\n");
    let looks = || Ok(!edge.origin.heard().iter().any(ended));
    ensure_stays("no body is completed", Duration::from_millis(300), looks)
}

#[test]
fn both_sides_say_that_they_close() -> Result<()> {
    let edge = Edge::start(|connection| {
        connection.request()?;
        connection.send(OK)?;
        // The proxy lets go of an idle connection in order, too.
        match connection.wire().closed()? {
            Closed::Orderly | Closed::Cut => Ok(End::Close),
        }
    })?;
    let body = content(LONG);
    let head = request("POST /up.example/", &["Connection: close", &format!("Content-Length: {LONG}")], "");
    let mut client = edge.client()?;
    let answer = client.ask([head.as_bytes(), &body].concat())?;
    assert_eq!(answer.status(), 200);
    assert_eq!(client.wire().closed()?, Closed::Orderly);

    let mut records = edge.records()?;
    records.send(DATA, get("/up.example/").as_bytes())?;
    records.send(ALERT, &CLOSE_NOTIFY)?;
    let said = records.rest()?;
    assert_eq!(said.last(), Some(&(ALERT, CLOSE_NOTIFY.to_vec())), "{said:?}");
    Ok(())
}

#[test]
fn a_client_that_reads_late_gets_all_before_the_close() -> Result<()> {
    let body = content(4 * LONG);
    let edge = Edge::start({
        let body = body.clone();
        move |connection| {
            connection.request()?;
            connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()))?;
            connection.send(&body)?;
            Ok(End::Close)
        }
    })?;
    let mut client = edge.client()?;
    client.wire().send("GET /up.example/ HTTP/1.1\r\nHost: p\r\nConnection: close\r\n\r\n")?;
    pace(Duration::from_millis(600));
    let answer = client.response()?;
    ensure!(answer.whole && answer.body == body, "{} of {} bytes", answer.body.len(), body.len());
    assert_eq!(client.wire().closed()?, Closed::Orderly);
    Ok(())
}
