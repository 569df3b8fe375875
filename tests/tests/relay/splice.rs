//! Long bodies: between sockets without TLS they don't pass through the proxy's own memory, between
//! sessions they take the shortest way.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Certs, Client, Conversation, End, Need, Origin, Running, TempDir, free_port, require};

use crate::{OK, Relay, get, local, post, request};

const COPIED: &str = "hookgate_body_bytes_total{path=\"copy\"}";
const SPLICED: &str = "hookgate_body_bytes_total{path=\"splice\"}";
/// Long enough to be spliced many times over.
const LONG: usize = 5 << 20;

/// Bytes that look the same nowhere.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    });
    words.flat_map(u64::to_le_bytes).take(length).collect()
}

/// In chunks of every size from bytes to hundreds of kilobytes.
fn chunked(content: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (String::new().into_bytes(), content);
    for size in [3, 250_000, 1, 65_536, 100, 400_000].into_iter().cycle() {
        let (chunk, left) = rest.split_at(size.min(rest.len()));
        let mut line = String::new();
        let _ = write!(line, "{:x}\r\n", chunk.len());
        out.extend(line.as_bytes());
        out.extend(chunk);
        out.extend(b"\r\n");
        if chunk.is_empty() {
            return out;
        }
        rest = left;
    }
    out
}

/// Answers each request with its own body, framed as it was.
fn echo(connection: &mut Conversation) -> std::io::Result<End> {
    while let Some(message) = connection.request()? {
        if message.field("Transfer-Encoding").is_some() {
            connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            connection.send(chunked(&message.body))?;
        } else {
            connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", message.body.len()))?;
            connection.send(&message.body)?;
        }
    }
    Ok(End::Close)
}

#[test]
fn whatever_the_framing_it_arrives_as_it_was() -> Result<()> {
    let relay = Relay::before(&Origin::plain(echo)?)?;
    let content = noise(LONG);
    let mut client = relay.client()?;
    for round in 0..3 {
        for is_chunked in [false, true] {
            let (field, body) = match is_chunked {
                true => ("Transfer-Encoding: chunked".to_owned(), chunked(&content)),
                false => (format!("Content-Length: {LONG}"), content.clone()),
            };
            client.wire().send(request("POST /up.example/", &[&field], ""))?;
            client.wire().send(body)?;
            let answer = client.response()?;
            ensure!(answer.whole && answer.body == content, "round {round}, {field}: other content");
        }
    }
    relay.wait_for("hookgate_in_flight{upstream=\"up.example\"}", 0.0)?;
    let (metrics, all) = (relay.metrics()?, (12 * LONG) as f64);
    let (copied, spliced) = (metrics.value(COPIED), metrics.value(SPLICED));
    assert_eq!(copied + spliced, all);
    assert!(spliced > 0.8 * all, "{spliced} spliced, {copied} copied");
    Ok(())
}

#[test]
fn between_two_sessions_too_and_what_follows_is_another_request() -> Result<()> {
    let (dir, certs) = (TempDir::new("long")?, Certs::new(&["hook.example", "up.example"])?);
    let [ca, cert, key] = certs.write(&dir, "hook")?;
    let (origin, https) = (Origin::tls(&certs, echo)?, local(free_port()?));
    let _relay = Relay::listening(
        &format!("https = [\"{https}\"]"),
        &format!(
            "[tls]\ncert = {cert:?}\nkey = {key:?}\n[upstreams]\n\"up.example\" = {{ address = \"{}\", ca = {ca:?} }}\n",
            origin.address()
        ),
    )?;
    let mut client = Client::tls(https, &certs, "hook.example")?;
    for length in [32_767, 32_768, 32_769, 65_536, 1 << 20, LONG, LONG + 1] {
        let content = noise(length);
        client.wire().send(request("POST /up.example/", &[&format!("Content-Length: {length}")], ""))?;
        // The last records of the body hold the beginning of the next request.
        client.wire().send([&content[..], post("/up.example/", "hello").as_bytes()].concat())?;
        let answer = client.response()?;
        ensure!(answer.whole && answer.body == content, "{length} bytes: other content");
        assert_eq!(client.response()?.body, b"hello", "after {length} bytes");
        let chunks = chunked(&content);
        client.wire().send(request("POST /up.example/", &["Transfer-Encoding: chunked"], ""))?;
        client.wire().send(chunks)?;
        let answer = client.response()?;
        ensure!(answer.whole && answer.body == content, "{length} bytes in chunks: other content");
    }
    Ok(())
}

#[test]
fn until_close_it_is_whole_and_short_ones_are_copied() -> Result<()> {
    let content = noise(LONG);
    let said = content.clone();
    let origin = Origin::plain(move |connection| {
        if connection.request()?.is_some() {
            connection.send("HTTP/1.1 200 OK\r\n\r\n")?;
            connection.send(&said)?;
        }
        Ok(End::Close)
    })?;
    let relay = Relay::before(&origin)?;
    let answer = relay.client()?.ask(get("/up.example/"))?;
    ensure!(answer.whole && answer.body == content, "other content");
    let short = Relay::before(&Origin::answering(OK)?)?;
    assert_eq!(short.client()?.ask(post("/up.example/", "hello"))?.status(), 200);
    short.wait_for(COPIED, 7.0)?;
    assert_eq!(short.metrics()?.value(SPLICED), 0.0);
    Ok(())
}

#[test]
fn one_that_breaks_off_does_not_look_whole() -> Result<()> {
    for head in ["Content-Length: 9000000", "Transfer-Encoding: chunked"] {
        let origin = Origin::plain(move |connection| {
            if connection.request()?.is_some() {
                connection.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n"))?;
                if head.starts_with("Transfer") {
                    connection.send("900000\r\n")?;
                }
                connection.send(noise(LONG))?;
            }
            Ok(End::Close)
        })?;
        let relay = Relay::before(&origin)?;
        let answer = relay.client()?.ask(get("/up.example/"))?;
        assert!(!answer.whole && answer.body == noise(LONG), "{head}: {} bytes", answer.body.len());
    }
    Ok(())
}

/// A client that reads nothing holds its upstream back, for as long as the contract says; then it
/// is let go.
#[test]
fn who_does_not_read_is_waited_for_and_no_longer() -> Result<()> {
    let origin = Origin::plain(|connection| {
        if connection.request()?.is_some() {
            let length = 400 << 20;
            connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"))?;
            let piece = vec![b'x'; 1 << 20];
            for _ in 0..length >> 20 {
                connection.send(&piece)?;
            }
        }
        Ok(End::Close)
    })?;
    let relay = Relay::before(&origin)?;
    let mut client = relay.client()?;
    client.wire().send(get("/up.example/"))?;
    relay.wait_for("hookgate_in_flight{upstream=\"up.example\"}", 1.0)?;
    relay.wait_for("hookgate_in_flight{upstream=\"up.example\"}", 0.0)?;
    let spliced = relay.metrics()?.value(SPLICED);
    assert!(spliced > 0.0 && spliced < f64::from(100 << 20), "held back, but {spliced} bytes were taken");
    Ok(())
}

#[test]
fn strace_sees_no_body_byte_read_or_written() -> Result<()> {
    if !require(&[Need::Root, Need::Program("strace")]) {
        return Ok(());
    }
    let dir = TempDir::new("splice")?;
    let (relay, trace) = (Relay::before(&Origin::plain(echo)?)?, dir.path().join("trace"));
    let mut client = relay.client()?;
    client.ask(post("/up.example/", "warm"))?;
    let mut strace = Command::new("strace");
    strace.args(["-f", "-e", "trace=read,write,readv,writev,recvfrom,sendto,recvmsg,sendmsg,splice", "-o"]);
    strace.arg(&trace).args(["-p", &relay.proxy.worker()?.to_string()]);
    let mut strace = Running::start(strace)?;
    strace.wait_for_stderr("attached", Duration::from_secs(5))?;
    let content = noise(LONG);
    client.wire().send(request("POST /up.example/", &[&format!("Content-Length: {LONG}")], ""))?;
    client.wire().send(&content)?;
    ensure!(client.response()?.body == content, "other content");
    strace.stop()?;
    let (mut spliced, mut copied) = (0, 0);
    for line in fs::read_to_string(&trace)?.lines() {
        let moved = line.rsplit_once("= ").and_then(|(_, result)| result.parse::<usize>().ok()).unwrap_or(0);
        *(if line.contains("splice(") { &mut spliced } else { &mut copied }) += moved;
    }
    // Both directions, in and out; the first piece and the last may come with a head, or be short.
    assert!(spliced >= 4 * LONG - 4 * 65_536 - (1 << 18), "{spliced} bytes spliced");
    assert!(copied < 1 << 18, "{copied} bytes read and written");
    Ok(())
}
