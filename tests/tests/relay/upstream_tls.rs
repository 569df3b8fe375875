//! The way to an upstream: connecting, and which certificates TLS accepts.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::{Ca, Certs, Client, End, FullQueue, OnePacketDevice, Origin, Proxy, TempDir, free_port, pace};

use crate::{OK, Relay, TIMEOUTS, get, post};

fn serve(connection: &mut harness::Conversation) -> std::io::Result<End> {
    while connection.request()?.is_some() {
        connection.send(OK)?;
    }
    Ok(End::Close)
}

/// `[upstreams]` with `up.example` at `address`, with TLS and what `certs` says is its authority.
fn upstream(dir: &TempDir, certs: &Certs, address: SocketAddr) -> Result<String> {
    let [ca, ..] = certs.write(dir, "upstream")?;
    Ok(format!("[upstreams]\n\"up.example\" = {{ address = \"{address}\", ca = {ca:?} }}\n"))
}

#[test]
fn a_certificate_of_the_right_name_and_authority_is_believed() -> Result<()> {
    let dir = TempDir::new("tls")?;
    let certs = Certs::new(&["up.example"])?;
    let origin = Origin::tls(&certs, serve)?;
    let relay = Relay::start(&upstream(&dir, &certs, origin.address())?)?;
    let mut client = relay.client()?;
    for _ in 0..3 {
        assert_eq!(client.ask(post("/up.example/", "x"))?.body, b"ok");
    }
    assert_eq!(origin.connections(), 1, "TLS connections are reused");
    Ok(())
}

#[test]
fn a_certificate_that_is_not_valid_is_refused_before_a_byte_of_the_request() -> Result<()> {
    let dir = TempDir::new("tls")?;
    let ca = Ca::new("an authority")?;
    let trusted = ca.issue(&["up.example"])?;
    for (what, certs) in [
        ("unknown authority", Certs::new(&["up.example"])?),
        ("another name", ca.issue(&["other.example"])?),
        ("a name below", ca.issue(&["a.up.example"])?),
        ("expired", ca.issue_until(&["up.example"], 2020)?),
    ] {
        let origin = Origin::tls(&certs, serve)?;
        let relay = Relay::start(&upstream(&dir, &trusted, origin.address())?)?;
        let mut client = relay.client()?;
        let answer = client.ask(post("/up.example/", "secret"))?;
        assert_eq!((answer.status(), answer.proxy_error()), (502, Some("tls_certificate_error")), "{what}");
        assert_eq!(origin.heard().concat(), b"", "{what}");
        assert_eq!(client.ask(get("/"))?.status(), 404, "{what}: the client's connection stays");
    }
    Ok(())
}

#[test]
fn verify_false_believes_anyone_and_says_so_at_every_start() -> Result<()> {
    let certs = Certs::new(&["someone.example"])?;
    let origin = Origin::tls(&certs, serve)?;
    let config =
        format!("[upstreams]\n\"up.example\" = {{ address = \"{}\", verify = false }}\n", origin.address());
    for _ in 0..2 {
        let mut relay = Relay::start(&config)?;
        assert_eq!(relay.client()?.ask(post("/up.example/", "x"))?.body, b"ok");
        relay
            .proxy
            .wait_for_stderr("upstreams.\"up.example\".verify: anyone on the way", Duration::from_secs(5))?;
    }
    Ok(())
}

#[test]
fn without_a_ca_only_the_machines_own_roots_are_believed() -> Result<()> {
    let origin = Origin::tls(&Certs::new(&["up.example"])?, serve)?;
    let config = format!("[upstreams]\n\"up.example\" = {{ address = \"{}\" }}\n", origin.address());
    let answer = Relay::start(&config)?.client()?.ask(get("/up.example/"))?;
    assert_eq!((answer.status(), answer.proxy_error()), (502, Some("tls_certificate_error")));
    Ok(())
}

#[test]
fn each_way_of_not_connecting_has_its_own_error() -> Result<()> {
    let dir = TempDir::new("tls")?;
    let certs = Certs::new(&["up.example"])?;
    let plain = Origin::plain(|connection| {
        connection.bytes(5)?;
        connection.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")?;
        Ok(End::Close)
    })?;
    let closing = Origin::plain(|_| Ok(End::Close))?;
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let h2 = Origin::tls_with_alpn(&certs, &[b"h2"], serve)?;
    let full = FullQueue::new(Ipv4Addr::LOCALHOST)?;
    let closed = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    for (what, address, status, errors) in [
        ("nobody listens", closed, 502, &["connection_refused"][..]),
        ("no TLS there", plain.address(), 502, &["tls_protocol_error"]),
        ("closes in the handshake", closing.address(), 502, &["tls_protocol_error", "connection_terminated"]),
        ("another protocol", h2.address(), 502, &["tls_alert_received"]),
        ("silent in the handshake", silent.local_addr()?, 504, &["connection_timeout"]),
        ("no answer to SYN", full.address(), 504, &["connection_timeout"]),
    ] {
        let relay = Relay::start(&upstream(&dir, &certs, address)?)?;
        let mut client = relay.client()?;
        let begun = Instant::now();
        let answer = client.ask(post("/up.example/", "x")).context(what)?;
        let error = answer.proxy_error().context(what)?;
        assert!(answer.status() == status && errors.contains(&error), "{what}: {} {error}", answer.status());
        let took = begun.elapsed();
        assert_eq!(took > Duration::from_millis(950), status == 504, "{what}: {took:?}");
        assert!(took < Duration::from_secs(3), "{what}: {took:?}");
        assert_eq!(client.ask(get("/"))?.status(), 404, "{what}: the client's connection stays");
    }
    Ok(())
}

#[test]
fn without_ml_kem_a_handshake_fits_into_a_packet() -> Result<()> {
    let dir = TempDir::new("tls")?;
    let certs = Certs::new(&["up.example"])?;
    let origin = Origin::tls(&certs, serve)?;
    let device = OnePacketDevice::before(origin.address())?;
    let [ca, ..] = certs.write(&dir, "upstream")?;
    for (keys, status) in [("", 502), (", ml_kem = false", 200), (", ml_kem = true", 502)] {
        let config =
            format!("\"up.example\" = {{ address = \"{}\", ca = {ca:?}{keys} }}\n", device.address());
        // Another one, with the same authority, that has the other manner.
        let other = format!("\"direct.example\" = {{ address = \"{}\", ca = {ca:?} }}\n", origin.address());
        let relay = Relay::start(&format!("[upstreams]\n{other}{config}"))?;
        assert_eq!(relay.client()?.ask(post("/up.example/", "x"))?.status(), status, "{keys}");
    }
    Ok(())
}

#[test]
fn a_body_until_close_is_whole_only_with_close_notify() -> Result<()> {
    let dir = TempDir::new("tls")?;
    let certs = Certs::new(&["up.example", "proxy.example.com"])?;
    let [_, cert, key] = certs.write(&dir, "edge")?;
    for (what, end, whole) in [
        ("closes", (|| End::Close) as fn() -> End, true),
        ("vanishes", || End::Vanish, false),
        ("resets", || End::Reset, false),
    ] {
        let origin = Origin::tls(&certs, move |connection| {
            connection.request()?;
            connection.send("HTTP/1.1 200 OK\r\n\r\nhello")?;
            pace(Duration::from_millis(50));
            Ok(end())
        })?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let listen =
            format!("[listen]\nhttps = [\"{address}\"]\n[tls]\ncert = {cert:?}\nkey = {key:?}\n{TIMEOUTS}\n");
        let _proxy = Proxy::start(&(listen + &upstream(&dir, &certs, origin.address())?))?;
        for version in ["1.1", "1.0"] {
            let mut client = Client::tls(address.parse()?, &certs, "proxy.example.com")?;
            let answer = client.ask(format!("GET /up.example/ HTTP/{version}\r\nHost: p\r\n\r\n"))?;
            assert_eq!((answer.status(), &answer.body[..]), (200, &b"hello"[..]), "{what}, HTTP/{version}");
            assert_eq!(answer.whole, whole, "{what}, HTTP/{version}");
        }
    }
    Ok(())
}
