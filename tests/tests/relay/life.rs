//! The process: how it ends, and what it needs.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{
    Certs, Client, Closed, End, Need, NetNs, Origin, Proxy, TempDir, free_port, pace, require, wait_until,
};
use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::{OK, Relay, TIMEOUTS, get, post, upstream};

/// Answers after `delay`.
fn slow(delay: Duration) -> Result<Origin> {
    Origin::plain(move |connection| {
        while connection.request()?.is_some() {
            pace(delay);
            connection.send(OK)?;
        }
        Ok(End::Close)
    })
}

#[test]
fn sigterm_lets_what_is_under_way_finish_and_takes_nothing_new() -> Result<()> {
    let origin = slow(Duration::from_millis(700))?;
    let mut relay = Relay::before(&origin)?;
    let mut idle = relay.client()?;
    assert_eq!(idle.ask(get("/"))?.status(), 404);
    let mut busy = relay.client()?;
    busy.wire().send(post("/up.example/", "hello"))?;
    wait_until("the body reaches the upstream", Duration::from_secs(5), || {
        Ok(origin.heard().concat().ends_with(b"hello"))
    })?;

    // As killall does: it reaches both processes, and is one signal.
    let worker =
        i32::try_from(relay.proxy.worker()?).ok().and_then(Pid::from_raw).context("no process id")?;
    kill_process(worker, Signal::TERM)?;
    relay.proxy.signal(Signal::TERM)?;
    assert_eq!(idle.wire().closed()?, Closed::Orderly, "an idle connection ends at once");
    wait_until("new connections are refused", Duration::from_secs(1), || {
        Ok(TcpStream::connect(relay.address).is_err())
    })?;
    assert!(relay.proxy.ended()?.is_none(), "but what is under way goes on");
    let answer = busy.response()?;
    assert_eq!((answer.status(), &answer.body[..]), (200, &b"ok"[..]));
    assert_eq!(answer.field("Connection"), Some("close"));
    assert_eq!(busy.wire().closed()?, Closed::Orderly);
    // The proxy lets its clients finish reading, and knows that they have when they close too.
    drop((idle, busy));
    wait_until("the proxy ends", Duration::from_secs(2), || Ok(relay.proxy.ended()?.is_some()))?;
    assert_eq!(relay.proxy.ended()?.and_then(|status| status.code()), Some(0));
    Ok(())
}

#[test]
fn a_client_that_was_let_in_before_the_drain_is_served() -> Result<()> {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
    let mut relay = Relay::before(&origin)?;
    let mut client = relay.client()?;
    relay.wait_for("hookgate_connections{class=\"allowed\"}", 1.0)?;
    relay.proxy.signal(Signal::TERM)?;
    relay.proxy.wait_for_stderr("draining: ", Duration::from_secs(5))?;
    assert_eq!(client.ask(get("/up.example/"))?.status(), 200);
    assert_eq!(client.wire().closed()?, Closed::Orderly);
    drop(client);
    wait_until("the proxy ends", Duration::from_secs(2), || Ok(relay.proxy.ended()?.is_some()))?;
    Ok(())
}

#[test]
fn a_drain_ends_what_takes_too_long_and_a_second_signal_ends_it_at_once() -> Result<()> {
    let origin = Origin::plain(|connection| {
        connection.request()?;
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        loop {
            connection.send("1\r\nx\r\n")?;
            pace(Duration::from_millis(100));
        }
    })?;
    for signals in [1, 2] {
        let mut relay = Relay::before(&origin)?;
        let mut client = relay.client()?;
        client.wire().send(get("/up.example/"))?;
        client.wire().read()?;
        let begun = Instant::now();
        for _ in 0..signals {
            relay.proxy.signal(Signal::TERM)?;
            // Two signals that come together are one.
            relay.proxy.wait_for_stderr("draining: ", Duration::from_secs(5))?;
        }
        let answer = client.response()?;
        assert!(answer.status() == 200 && !answer.whole, "{answer:?}");
        wait_until("the proxy ends", Duration::from_secs(5), || Ok(relay.proxy.ended()?.is_some()))?;
        let took = begun.elapsed();
        let expected = if signals == 1 { 2900..5000 } else { 0..1000 };
        assert!(expected.contains(&took.as_millis()), "{signals} signals: {took:?}");
        assert_eq!(relay.proxy.ended()?.and_then(|status| status.code()), Some(0));
        let says_so = || Ok(relay.proxy.stderr().contains("1 connection was cut"));
        wait_until("the log says so", Duration::from_secs(5), says_so)
            .with_context(|| relay.proxy.stderr())?;
    }
    Ok(())
}

#[test]
fn without_ipv6_addresses_it_listens_as_shipped() -> Result<()> {
    if !require(&[Need::Root, Need::Program("ip"), Need::Program("curl")]) {
        return Ok(());
    }
    let ns = NetNs::new()?;
    ns.run("echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6")?;
    let proxy = Proxy::start_in(&ns, "[listen]\nhttp = [\"0.0.0.0:80\", \"[::]:80\"]\n[upstreams]\n")?;
    assert!(ns.run("curl -s http://127.0.0.1/ -o /dev/null -w '%{http_code}'")?.contains("404"));
    assert!(proxy.stderr().contains("listening on [::]:80"), "{}", proxy.stderr());
    Ok(())
}

#[test]
fn many_clients_at_once_are_all_served() -> Result<()> {
    let origin = slow(Duration::from_millis(50))?;
    let relay = Relay::before(&origin)?;
    // No more than fit into the origin's queue (128) at once: a SYN that is dropped comes again
    // after a second.
    let mut clients: Vec<Client> = (0..100).map(|_| relay.client()).collect::<Result<_>>()?;
    for client in &mut clients {
        client.wire().send(post("/up.example/", "x"))?;
    }
    for client in &mut clients {
        assert_eq!(client.response()?.body, b"ok");
    }
    Ok(())
}

const BIG: u64 = 200_000_000;
/// How much a big body may add to what the process needs, in KiB.
const MAX_GROWTH_KIB: u64 = 4096;

/// Swallows request bodies and gives response bodies, of [`BIG`] bytes each, without keeping any;
/// `tls` wraps what it accepts.
fn big_origin(tls: Option<Arc<ServerConfig>>) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for tcp in listener.incoming().map_while(Result::ok) {
            let tls = tls.clone();
            // A client that leaves ends its own connection, nothing else.
            thread::spawn(move || -> Result<()> {
                match tls {
                    None => Ok(serve_big(tcp)?),
                    Some(tls) => Ok(serve_big(StreamOwned::new(ServerConnection::new(tls)?, tcp))?),
                }
            });
        }
    });
    Ok(address)
}

fn serve_big(mut stream: impl Read + Write) -> io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        if head.starts_with(b"POST") {
            let swallowed = io::copy(&mut (&mut stream).take(BIG), &mut io::sink())?;
            let said = format!("{swallowed}");
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{said}", said.len())?;
        } else {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {BIG}\r\n\r\n")?;
            io::copy(&mut io::repeat(b'x').take(BIG), &mut stream)?;
        }
    }
}

/// A big POST and a big GET on one connection.
fn move_both_ways(mut stream: impl Read + Write) -> Result<()> {
    write!(stream, "POST /up.example/ HTTP/1.1\r\nHost: p\r\nContent-Length: {BIG}\r\n\r\n")?;
    let piece = vec![b'x'; 1 << 16];
    let mut left = BIG as usize;
    while left > 0 {
        let count = left.min(piece.len());
        stream.write_all(&piece[..count])?;
        left -= count;
    }
    stream.flush()?;
    let answer = read_until(&mut stream, BIG.to_string().as_bytes())?;
    ensure!(answer.starts_with(b"HTTP/1.1 200 "), "{}", answer.escape_ascii());
    write!(stream, "GET /up.example/ HTTP/1.1\r\nHost: p\r\n\r\n")?;
    stream.flush()?;
    read_until(&mut stream, b"\r\n\r\n")?;
    let received = io::copy(&mut stream.take(BIG), &mut io::sink())?;
    ensure!(received == BIG, "{received} bytes");
    Ok(())
}

fn read_until(stream: &mut impl Read, end: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end) {
        let mut byte = [0];
        stream.read_exact(&mut byte).with_context(|| bytes.escape_ascii().to_string())?;
        bytes.push(byte[0]);
    }
    Ok(bytes)
}

#[test]
fn two_hundred_megabytes_each_way_need_no_memory() -> Result<()> {
    let relay = Relay::start(&upstream(big_origin(None)?, ""))?;
    // Warm: whatever is allocated once is there.
    for _ in 0..3 {
        assert_eq!(relay.client()?.ask(get("/other.example/x"))?.status(), 403);
    }
    assert_growth(&relay.proxy, || move_both_ways(TcpStream::connect(relay.address)?))
}

#[test]
fn two_hundred_megabytes_each_way_through_tls_on_both_sides_need_no_memory() -> Result<()> {
    let dir = TempDir::new("big")?;
    let certs = Certs::new(&["proxy.example.com", "up.example"])?;
    let [ca, cert, key] = certs.write(&dir, "edge")?;
    let chain = CertificateDer::pem_slice_iter(certs.cert.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let own_key = PrivateKeyDer::from_pem_slice(certs.key.as_bytes())?;
    let tls = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, own_key)?;
    let origin = big_origin(Some(Arc::new(tls)))?;
    let address = format!("127.0.0.1:{}", free_port()?);
    let proxy = Proxy::start(&format!(
        "[listen]\nhttps = [\"{address}\"]\n[tls]\ncert = {cert:?}\nkey = {key:?}\n{TIMEOUTS}\n\
         [upstreams]\n\"up.example\" = {{ address = \"{origin}\", ca = {ca:?} }}\n"
    ))?;
    let client = || Client::tls(address.parse()?, &certs, "proxy.example.com");
    assert_eq!(client()?.ask(get("/"))?.status(), 404);
    assert_growth(&proxy, || move_both_ways(client()?.into_wire().into_stream()))
}

/// Runs `work` and compares the most memory that the process ever needed before and after.
fn assert_growth(proxy: &Proxy, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let (now, before) = proxy.memory_kib()?;
    work()?;
    let (_, after) = proxy.memory_kib()?;
    let growth = after.saturating_sub(now.min(before));
    eprintln!("memory: {now} KiB before, at most {after} KiB after: {growth} KiB");
    assert!(growth < MAX_GROWTH_KIB, "{growth} KiB more than the {now} KiB before");
    Ok(())
}
