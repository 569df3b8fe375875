//! Where a name leads, asked of a real DNS server.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::{
    Certs, DnsServer, Need, NetNs, Nginx, Origin, Proxy, TempDir, ensure_stays, equal, free_port, require,
    run, wait_until,
};

use crate::{OK, Relay, get, local};

fn dns(server: SocketAddr) -> String {
    format!("[dns]\nservers = [\"{server}\"]\ntimeout = \"1s\"\n[upstreams]\n")
}

/// A DNS server that answers every question with a failure, `code` of RFC 1035 §4.1.1.
fn failing_server(code: u8) -> Result<SocketAddr> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let address = socket.local_addr()?;
    thread::spawn(move || {
        let mut message = [0; 512];
        while let Ok((length @ 12.., peer)) = socket.recv_from(&mut message) {
            message[2] |= 0x80;
            message[3] = 0x80 | code;
            // A client that does not get the answer asks again.
            let _ = socket.send_to(&message[..length], peer);
        }
    });
    Ok(address)
}

#[test]
fn names_that_lead_nowhere_or_where_they_must_not() -> Result<()> {
    if !require(&[Need::Program("dnsmasq")]) {
        return Ok(());
    }
    let inside: Vec<(String, IpAddr)> = [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "198.18.0.1",
        "224.0.0.1",
        "0.0.0.0",
        "240.0.0.1",
        "::1",
        "::",
        "fd00::1",
        "fe80::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::1",
        "fd00:ec2::254",
    ]
    .iter()
    .enumerate()
    .map(|(index, address)| Ok((format!("inside-{index}.example"), address.parse()?)))
    .collect::<Result<_>>()?;
    let mut records: Vec<(&str, IpAddr)> = inside.iter().map(|(name, ip)| (name.as_str(), *ip)).collect();
    records.extend([("both.example", "10.0.0.1".parse()?), ("both.example", "::1".parse()?)]);
    let server = DnsServer::start_with(
        &NetNs::here(),
        local(free_port()?),
        &records,
        &["--txt-record=nodata.example,here"],
    )?;
    let origin = Origin::answering(OK)?;
    let port = origin.address().port();
    let mut config = dns(server.address());
    for name in records.iter().map(|(name, _)| *name).chain(["both.example"]).take(records.len() - 1) {
        config.push_str(&format!("{name:?} = {{ tls = false, port = {port} }}\n"));
    }
    for name in ["missing.example", "nodata.example"] {
        config.push_str(&format!("{name:?} = {{ tls = false }}\n"));
    }
    let relay = Relay::start(&config)?;
    let mut client = relay.client()?;
    let mut ask = |name: &str| -> Result<(u16, String)> {
        let answer = client.ask(get(&format!("/{name}/"))).with_context(|| name.to_owned())?;
        Ok((answer.status(), answer.proxy_error().unwrap_or_default().to_owned()))
    };
    for name in ["missing.example", "nodata.example"] {
        assert_eq!(ask(name)?, (502, "dns_error".into()), "{name}");
    }
    for said in ["missing.example is NXDOMAIN", "nodata.example is NODATA"] {
        wait_until("the log names it", Duration::from_secs(5), || Ok(server.log().contains(said)))
            .with_context(|| format!("{said}: {}", server.log()))?;
    }
    for (name, address) in &records {
        assert_eq!(ask(name)?, (502, "destination_ip_prohibited".into()), "{name}: {address}");
    }
    assert_eq!(origin.connections(), 0);
    Ok(())
}

#[test]
fn a_name_that_may_lead_inside_does_and_is_asked_for_once_while_it_is_valid() -> Result<()> {
    if !require(&[Need::Program("dnsmasq")]) {
        return Ok(());
    }
    let server = DnsServer::start_with(
        &NetNs::here(),
        local(free_port()?),
        &[("up.example", "127.0.0.1".parse()?)],
        &["--local-ttl=60"],
    )?;
    let origin = Origin::answering(OK)?;
    let port = origin.address().port();
    let up = format!("\"up.example\" = {{ tls = false, port = {port}, allow_private = true }}\n");
    let relay = Relay::start(&(dns(server.address()) + &up))?;
    let clients: Vec<_> = (0..20).map(|_| relay.client()).collect::<Result<_>>()?;
    let asking = clients.into_iter().map(|mut client| {
        thread::spawn(move || -> Result<u16> { Ok(client.ask(get("/UP.example/"))?.status()) })
    });
    for asked in asking.collect::<Vec<_>>() {
        assert_eq!(asked.join().expect("a client")?, 200);
    }
    let questions = || {
        let log = server.log();
        log.lines().filter(|line| line.contains("query[") && line.contains(" up.example ")).count()
    };
    wait_until("both questions are asked", Duration::from_secs(5), || Ok(questions() >= 2))?;
    let look = || Ok(equal(questions(), 2));
    ensure_stays("one question for A, one for AAAA", Duration::from_millis(50), look)
        .with_context(|| server.log())?;
    let heard = String::from_utf8(origin.heard().concat())?;
    assert!(heard.contains("\r\nHost: up.example\r\n"), "the configured name, without its port: {heard}");
    Ok(())
}

#[test]
fn a_server_that_fails_is_502_and_one_that_is_silent_504() -> Result<()> {
    let silent = UdpSocket::bind("127.0.0.1:0")?;
    let servfail = failing_server(2)?;
    let refused = failing_server(5)?;
    for (what, server, status, error) in [
        ("SERVFAIL", servfail, 502, "dns_error"),
        ("REFUSED", refused, 502, "dns_error"),
        ("silence", silent.local_addr()?, 504, "dns_timeout"),
    ] {
        let relay = Relay::start(&(dns(server) + "\"up.example\" = { tls = false }\n"))?;
        let begun = Instant::now();
        let answer = relay.client()?.ask(get("/up.example/")).context(what)?;
        assert_eq!((answer.status(), answer.proxy_error()), (status, Some(error)), "{what}");
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(2), "{what}: {took:?}");
    }
    Ok(())
}

#[test]
fn of_two_servers_one_that_answers_is_enough() -> Result<()> {
    if !require(&[Need::Program("dnsmasq")]) {
        return Ok(());
    }
    let silent = UdpSocket::bind("127.0.0.1:0")?;
    let server =
        DnsServer::start(&NetNs::here(), local(free_port()?), &[("up.example", "127.0.0.1".parse()?)])?;
    let origin = Origin::answering(OK)?;
    let config = format!(
        "[dns]\nservers = [\"{}\", \"{}\"]\ntimeout = \"1s\"\n[upstreams]\n\
         \"up.example\" = {{ tls = false, port = {}, allow_private = true }}\n",
        silent.local_addr()?,
        server.address(),
        origin.address().port(),
    );
    let answer = Relay::start(&config)?.client()?.ask(get("/up.example/"))?;
    assert_eq!(answer.status(), 200, "{answer:?}");
    Ok(())
}

/// The machine's own servers are asked only when the configuration says so, and its table of hosts
/// never.
#[test]
fn resolv_conf_counts_only_when_it_is_named() -> Result<()> {
    if !require(&[Need::Root, Need::Program("dnsmasq"), Need::Program("nginx"), Need::Program("curl")]) {
        return Ok(());
    }
    let (ns, dir) = (NetNs::new()?, TempDir::new("system")?);
    let resolv = dir.write("resolv.conf", "nameserver 127.0.0.53\noptions timeout:1 attempts:1\n")?;
    let hosts = dir.write("hosts", "127.0.0.1 only-hosts.example\n")?;
    for (file, path) in [(&resolv, "/etc/resolv.conf"), (&hosts, "/etc/hosts")] {
        ns.run(&format!("mount --bind {} {path}", file.display()))?;
    }
    let certs = Certs::new(&["up.example", "only-hosts.example"])?;
    let [ca, ..] = certs.write(&dir, "up")?;
    let _nginx = Nginx::start(&ns, local(4443), &certs)?;
    let names = [("up.example", "127.0.0.1".parse()?)];
    let server = DnsServer::start(&ns, "127.0.0.53:53".parse()?, &names)?;
    for (servers, name, status) in [
        ("\"system\"", "up.example", "200 "),
        ("\"system\"", "only-hosts.example", "502 hookgate; error=dns_error"),
        ("[\"127.0.0.54\"]", "up.example", "504 hookgate; error=dns_timeout"),
    ] {
        let upstreams: String = ["up.example", "only-hosts.example"]
            .iter()
            .map(|name| format!("\"{name}\" = {{ port = 4443, allow_private = true, ca = {ca:?} }}\n"))
            .collect();
        let config = format!(
            "[listen]\nplain = [\"127.0.0.1:8080\"]\n[dns]\nservers = {servers}\ntimeout = \"1s\"\n[upstreams]\n{upstreams}"
        );
        let _proxy = Proxy::start_in(&ns, &config)?;
        let mut curl = ns.command("curl");
        curl.args(["-sS", "--noproxy", "*", "--max-time", "10", "-o", "/dev/null"]);
        curl.args(["-w", "%{http_code} %header{proxy-status}", &format!("http://127.0.0.1:8080/{name}/")]);
        assert_eq!(run(curl)?, status, "{servers}, {name}: {}", server.log());
    }
    Ok(())
}

/// Of several addresses those that a name must not lead to are left out at every dial.
#[test]
fn of_several_addresses_only_the_public_ones_are_tried() -> Result<()> {
    if !require(&[Need::Root, Need::Program("dnsmasq"), Need::Program("nginx"), Need::Program("curl")]) {
        return Ok(());
    }
    let (ns, dir) = (NetNs::new()?, TempDir::new("several")?);
    ns.address("lo", "157.240.1.1/32")?;
    let certs = Certs::new(&["up.example"])?;
    let [ca, ..] = certs.write(&dir, "up")?;
    let start = |address: &str| Nginx::start(&ns, format!("{address}:4443").parse()?, &certs);
    let [inside, inside_v6, public] = [start("127.0.0.1")?, start("[::1]")?, start("157.240.1.1")?];
    let names: Vec<(&str, IpAddr)> = ["127.0.0.1", "10.0.0.1", "157.240.1.1", "::1", "::ffff:127.0.0.1"]
        .iter()
        .map(|address| Ok(("up.example", address.parse()?)))
        .collect::<Result<_>>()?;
    let server = DnsServer::start(&ns, local(53), &names)?;
    let _proxy = Proxy::start_in(
        &ns,
        &format!(
            "[listen]\nplain = [\"127.0.0.1:8080\"]\n{}\"up.example\" = {{ port = 4443, ca = {ca:?} }}\n",
            dns(server.address())
        ),
    )?;
    for _ in 0..10 {
        let mut curl = ns.command("curl");
        curl.args(["-sS", "--noproxy", "*", "--max-time", "10", "http://127.0.0.1:8080/up.example/"]);
        assert_eq!(run(curl)?, "received by nginx\n");
    }
    // nginx writes its log after it has answered.
    wait_until("ten requests are logged", Duration::from_secs(5), || Ok(equal(public.log()?.len(), 10)))?;
    assert_eq!([inside.log()?.len(), inside_v6.log()?.len()], [0, 0]);
    Ok(())
}
