//! The DNS, asked of a server that answers by script: truncation, silence, staleness, how often.

mod machines;
mod negative;
mod oddities;
mod server;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{
    Certs, End, Need, NetNs, Proxy, TempDir, ask_admin, ensure_stays, equal, free_port, outlast, require,
    run, wait_until,
};

use crate::{Origin, Relay, get, local};
pub(crate) use server::Server;

fn loopback() -> IpAddr {
    Ipv4Addr::LOCALHOST.into()
}

/// `up.example` by name at the port of `origin`; `dns` is the rest of `[dns]`.
pub(crate) fn relay(servers: &[&Server], dns: &str, origin: &Origin) -> Result<Relay> {
    let servers: Vec<String> = servers.iter().map(|server| server.address.to_string()).collect();
    Relay::start(&format!(
        "[dns]\nservers = {servers:?}\ntimeout = \"1s\"\n{dns}\n[upstreams]\n\
         \"up.example\" = {{ tls = false, port = {}, allow_private = true }}\n",
        origin.address().port()
    ))
}

/// Status and `Proxy-Status` type of a request on a connection of its own, and how long it took.
fn ask(relay: &Relay) -> Result<(u16, String, Duration)> {
    let begun = Instant::now();
    let answer = relay.client()?.ask(get("/up.example/"))?;
    Ok((answer.status(), answer.proxy_error().unwrap_or_default().to_owned(), begun.elapsed()))
}

fn assert_serves(relay: &Relay, within: Duration) -> Result<()> {
    let (status, error, took) = ask(relay)?;
    assert_eq!((status, &error[..]), (200, ""));
    assert!(took < within, "{took:?}");
    Ok(())
}

/// Closes its connections, so that each request needs the DNS.
fn origin() -> Result<Origin> {
    Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
}

#[test]
fn what_does_not_fit_into_a_datagram_is_asked_for_over_tcp() -> Result<()> {
    let many: Vec<IpAddr> = (2..120).map(|n| Ipv4Addr::new(127, 9, 9, n).into()).collect();
    let origin = origin()?;
    let server = Server::start(60, &[&[loopback()], &many[..]].concat())?;
    server.set(|state| &state.truncates, true);
    let relay = relay(&[&server], "", &origin)?;
    assert_serves(&relay, Duration::from_secs(2))?;
    assert!(server.state.tcp.load(Ordering::SeqCst) >= 1, "TCP was used");
    assert!(server.questions() >= 2, "UDP was first");
    Ok(())
}

/// The owner of a name chooses how many addresses it has; each that is tried costs a socket and a
/// SYN.
#[test]
fn eight_addresses_of_a_name_are_tried() -> Result<()> {
    let origin = origin()?;
    for (refusing, status) in [(7, 200), (8, 502)] {
        let mut addresses: Vec<IpAddr> =
            (2..2 + refusing).map(|n| Ipv4Addr::new(127, 9, 9, n).into()).collect();
        addresses.push(loopback());
        let server = Server::start(60, &addresses)?;
        let relay = relay(&[&server], "", &origin)?;
        assert_eq!(relay.client()?.ask(get("/up.example/"))?.status(), status, "{refusing} refuse");
    }
    Ok(())
}

#[test]
fn a_crowd_of_requests_is_one_question() -> Result<()> {
    let (server, origin) = (Server::start(60, &[loopback()])?, origin()?);
    server.state.delay.store(100, Ordering::SeqCst);
    let relay = relay(&[&server], "", &origin)?;
    let asking: Vec<_> = (0..50)
        .map(|_| {
            let mut client = relay.client()?;
            Ok(thread::spawn(move || -> Result<u16> { Ok(client.ask(get("/up.example/"))?.status()) }))
        })
        .collect::<Result<_>>()?;
    for asked in asking {
        assert_eq!(asked.join().expect("a client")?, 200);
    }
    let questions = || Ok(equal(server.questions(), 2));
    ensure_stays("one question for A, one for AAAA", Duration::from_millis(300), questions)?;
    for _ in 0..5 {
        assert_serves(&relay, Duration::from_secs(1))?;
    }
    assert_eq!(server.questions(), 2, "and what is valid is not asked for again");
    Ok(())
}

#[test]
fn a_record_is_kept_for_its_ttl_and_no_longer_than_valid() -> Result<()> {
    for (ttl, valid) in [(1, "300s"), (3600, "1s")] {
        let (server, origin) = (Server::start(ttl, &[loopback()])?, origin()?);
        let relay = relay(&[&server], &format!("valid = \"{valid}\""), &origin)?;
        assert_serves(&relay, Duration::from_secs(1))?;
        assert_serves(&relay, Duration::from_secs(1))?;
        assert_eq!(server.questions(), 2, "TTL {ttl}, valid {valid}");
        outlast(Duration::from_secs(1));
        assert_serves(&relay, Duration::from_secs(1))?;
        assert_eq!(server.questions(), 4, "TTL {ttl}, valid {valid}");
    }
    Ok(())
}

#[test]
fn old_addresses_serve_while_no_server_answers_and_not_for_ever() -> Result<()> {
    let (server, origin) = (Server::start(1, &[loopback()])?, origin()?);
    let relay = relay(&[&server], "stale = \"3s\"", &origin)?;
    assert_serves(&relay, Duration::from_secs(1))?;
    server.set(|state| &state.silent, true);
    let begun = Instant::now();
    outlast(Duration::from_secs(1));
    // The first to notice waits for as long as the servers may take; those after it do not.
    assert_serves(&relay, Duration::from_millis(1500))?;
    let questions = server.questions();
    for _ in 0..5 {
        assert_serves(&relay, Duration::from_millis(300))?;
    }
    assert_eq!(server.questions(), questions, "a stale answer is an answer for a while");
    outlast(Duration::from_millis(4250).saturating_sub(begun.elapsed()));
    let (status, error, _) = ask(&relay)?;
    assert_eq!((status, &error[..]), (504, "dns_timeout"), "beyond `stale`");
    // And as soon as there is a server again, all is well.
    server.set(|state| &state.silent, false);
    wait_until("there is a server again", Duration::from_secs(3), || Ok(equal(ask(&relay)?.0, 200)))?;
    Ok(())
}

#[test]
fn no_such_name_ends_what_old_addresses_may_do() -> Result<()> {
    let (server, origin) = (Server::start(1, &[loopback()])?, origin()?);
    let relay = relay(&[&server], "", &origin)?;
    assert_serves(&relay, Duration::from_secs(1))?;
    server.set(|state| &state.denies, true);
    outlast(Duration::from_secs(1));
    let (status, error, _) = ask(&relay)?;
    assert_eq!((status, &error[..]), (502, "dns_error"));
    let questions = server.questions();
    server.set(|state| &state.silent, true);
    assert_eq!(ask(&relay)?.0, 502);
    assert_eq!(server.questions(), questions, "a no is kept, too");
    Ok(())
}

#[test]
fn of_several_servers_the_silent_ones_cost_no_time() -> Result<()> {
    let origin = origin()?;
    let answering = Server::start(1, &[loopback()])?;
    let silent = [Server::start(1, &[])?, Server::start(1, &[])?];
    for server in &silent {
        server.set(|state| &state.silent, true);
    }
    for servers in [[&silent[0], &silent[1], &answering], [&answering, &silent[0], &silent[1]]] {
        let relay = relay(&servers, "", &origin)?;
        for _ in 0..2 {
            assert_serves(&relay, Duration::from_millis(500))?;
            outlast(Duration::from_secs(1));
        }
    }
    assert!(answering.questions() >= 8, "{}", answering.questions());
    Ok(())
}

#[test]
fn a_changed_address_is_followed() -> Result<()> {
    let server = Server::start(1, &[Ipv4Addr::new(127, 9, 9, 9).into()])?;
    let origin = origin()?;
    let relay = relay(&[&server], "", &origin)?;
    let (status, error, _) = ask(&relay)?;
    assert_eq!((status, &error[..]), (502, "connection_refused"));
    *server.state.addresses.lock().unwrap_or_else(PoisonError::into_inner) = vec![loopback()];
    wait_until("the changed address is followed", Duration::from_secs(3), || Ok(equal(ask(&relay)?.0, 200)))?;
    Ok(())
}

#[test]
fn where_one_family_refuses_the_other_serves_at_once() -> Result<()> {
    let origin = origin()?;
    let server = Server::start(60, &["::1".parse()?, loopback()])?;
    let relay = relay(&[&server], "", &origin)?;
    for _ in 0..3 {
        assert_serves(&relay, Duration::from_millis(200))?;
    }
    Ok(())
}

/// A connection is there, so no other is tried: connecting is TCP alone.
#[test]
fn where_one_family_fails_in_tls_the_other_is_not_tried() -> Result<()> {
    let dir = TempDir::new("final")?;
    let certs = Certs::new(&["up.example"])?;
    let [ca, ..] = certs.write(&dir, "up")?;
    let origin = Origin::tls(&certs, |_| Ok(End::Close))?;
    let port = origin.address().port();
    let broken = TcpListener::bind((Ipv6Addr::LOCALHOST, port))?;
    broken.set_nonblocking(true)?;
    let server = Server::start(60, &[Ipv6Addr::LOCALHOST.into(), loopback()])?;
    let relay = Relay::start(&format!(
        "[dns]\nservers = [\"{}\"]\n[upstreams]\n\
         \"up.example\" = {{ port = {port}, allow_private = true, ca = {ca:?} }}\n",
        server.address
    ))?;
    let mut client = relay.client()?;
    client.wire().send(get("/up.example/"))?;
    let mut accepted = None;
    wait_until("IPv6 goes first", Duration::from_secs(5), || {
        accepted = broken.accept().ok();
        Ok(accepted.is_some())
    })?;
    drop(accepted);
    let answer = client.response()?;
    let error = answer.proxy_error().unwrap_or_default();
    assert_eq!(answer.status(), 502);
    assert!(["tls_protocol_error", "connection_terminated"].contains(&error), "{error}");
    assert_eq!(origin.connections(), 0);
    assert!(broken.accept().is_err(), "nor is the same one tried again");
    Ok(())
}

#[test]
fn where_one_family_is_a_black_hole_the_other_serves_soon() -> Result<()> {
    if !require(&[Need::Root, Need::Program("curl"), Need::Program("dnsmasq"), Need::Program("python3")]) {
        return Ok(());
    }
    let ns = NetNs::new()?;
    // Packets to this network leave for an interface on which no machine answers.
    let beyond = NetNs::new()?;
    NetNs::link((&ns, "out"), (&beyond, "in"))?;
    ns.address("out", "2001:4860::1/64")?;
    ns.run("ip neigh add 2001:4860::2 lladdr 02:00:00:00:00:02 dev out nud permanent")?;
    let dns = harness::DnsServer::start(
        &ns,
        local(53),
        &[("up.example", "2001:4860::2".parse()?), ("up.example", loopback())],
    )?;
    let mut python = ns.command("python3");
    python.args(["-c", SERVER]);
    let mut upstream = harness::Running::start(python)?;
    upstream.wait_for_stderr("ready", Duration::from_secs(10))?;
    let proxy = Proxy::start_in(
        &ns,
        &format!(
            "[listen]\nplain = [\"127.0.0.1:8080\"]\n[dns]\nservers = [\"{}\"]\n[upstreams]\n\
             \"up.example\" = {{ tls = false, port = 8081, allow_private = true }}\n",
            dns.address()
        ),
    )?;
    for _ in 0..3 {
        let mut curl = ns.command("curl");
        curl.args(["-sS", "--noproxy", "*", "--max-time", "10", "-w", " %{http_code} %{time_total}"]);
        curl.arg("http://127.0.0.1:8080/up.example/");
        let said = run(curl)?;
        let seconds: f64 = said.strip_prefix("ok 200 ").with_context(|| said.clone())?.parse()?;
        // The next address joins in after 250 ms.
        ensure!((0.2..0.6).contains(&seconds), "{said}\n{}", proxy.stderr());
    }
    Ok(())
}

/// An HTTP server that closes its connections.
const SERVER: &str = r#"
import http.server, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *args): pass
server = http.server.HTTPServer(("127.0.0.1", 8081), H)
print("ready", file=sys.stderr, flush=True)
server.serve_forever()
"#;

fn readiness(relay: &Relay) -> Result<(u16, String)> {
    let page = ask_admin(relay.admin, "/ready")?;
    Ok((page.status(), String::from_utf8(page.body)?))
}

#[test]
fn an_idle_proxy_learns_that_no_server_answers_and_that_one_does_again() -> Result<()> {
    let (server, origin) = (Server::start(60, &[loopback()])?, origin()?);
    server.set(|state| &state.silent, true);
    let relay = relay(&[&server], "", &origin)?;
    assert_eq!(readiness(&relay)?.0, 200, "nothing is known against it yet");
    let (_, last) = wait_until("the proxy is not ready", Duration::from_secs(8), || {
        let (status, text) = readiness(&relay)?;
        Ok((status == 503, text))
    })?;
    let expected =
        (last.starts_with("no DNS server has answered since 20"), last.contains(&server.address.to_string()));
    assert_eq!(expected, (true, true), "{last}");
    assert_eq!(ask_admin(relay.admin, "/health")?.status(), 200);
    server.set(|state| &state.silent, false);
    wait_until("the proxy is ready again", Duration::from_secs(8), || Ok(equal(readiness(&relay)?.0, 200)))?;
    Ok(())
}

#[test]
fn a_server_that_knows_nothing_is_up_and_an_unneeded_one_is_not_asked() -> Result<()> {
    let (server, origin) = (Server::start(60, &[])?, origin()?);
    server.set(|state| &state.denies, true);
    let needed = relay(&[&server], "", &origin)?;
    let unneeded = Relay::start(&format!(
        "[dns]\nservers = [\"{}\"]\n{}",
        local(free_port()?),
        crate::upstream(origin.address(), "")
    ))?;
    let is_ready = || {
        let seen = [readiness(&needed)?, readiness(&unneeded)?];
        Ok((seen.iter().all(|(status, text)| (*status, &**text) == (200, "ready\n")), seen))
    };
    ensure_stays("both are ready", Duration::from_secs(3), is_ready)?;
    assert_eq!(server.questions(), 1, "an answer holds for a while");
    Ok(())
}
