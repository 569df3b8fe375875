//! `hookgate probe`: each step of the way to an upstream, and what is said where it ends.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use anyhow::{Context, Result};
use harness::{
    Ca, Certs, Conversation, DnsServer, End, Need, NetNs, OnePacketDevice, Origin, TempDir, free_port,
    require,
};
use serde_json::Value;

/// What `hookgate probe --json` said of `up.example`, and its exit code.
struct Probed {
    code: Option<i32>,
    report: Value,
}

impl Probed {
    /// `upstream`: the keys of `up.example`. `dns`: the server to ask.
    fn new(dns: SocketAddr, upstream: &str) -> Result<Self> {
        let (code, text) = probe(dns, upstream, &["up.example", "--json"])?;
        let report = serde_json::from_str(&text).context(text)?;
        Ok(Self { code, report })
    }

    /// Whether the way ended at `step`, with these words in the reason and in the advice.
    fn assert_failed(&self, step: &str, error: &str, next: &str) {
        let failure = &self.report["failure"];
        let holds = |key: &str, text: &str| failure[key].as_str().is_some_and(|own| own.contains(text));
        let as_expected = failure["step"] == step && holds("error", error) && holds("next", next);
        assert!(self.code == Some(1) && as_expected, "{:?} {:#}", self.code, self.report);
    }
}

fn probe(dns: SocketAddr, upstream: &str, args: &[&str]) -> Result<(Option<i32>, String)> {
    let dir = TempDir::new("probe")?;
    let config = format!(
        "[listen]\nplain = [\"127.0.0.1:1\"]\n[dns]\nservers = [\"{dns}\"]\ntimeout = \"1s\"\n\
         [timeouts]\nconnect = \"1s\"\nresponse = \"1s\"\n[upstreams]\n\"up.example\" = {{ {upstream} }}\n"
    );
    let config = dir.write("hookgate.toml", config)?;
    let output =
        Command::new(harness::binary()?).arg("probe").args(args).arg("--config").arg(config).output()?;
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Ok((output.status.code(), said))
}

fn dns(addresses: &[&str]) -> Result<DnsServer> {
    let records = addresses.iter().map(|ip| Ok(("up.example", ip.parse::<IpAddr>()?)));
    let records = records.collect::<Result<Vec<_>>>()?;
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    DnsServer::start_with(&NetNs::here(), address, &records, &["--local-ttl=77"])
}

fn serve(connection: &mut Conversation) -> std::io::Result<End> {
    connection.request()?;
    connection.send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
    Ok(End::Close)
}

fn nowhere() -> Result<SocketAddr> {
    Ok(SocketAddr::from(([127, 0, 0, 1], free_port()?)))
}

#[test]
fn a_way_that_is_open_and_an_address_that_is_not() -> Result<()> {
    if !require(&[Need::Program("dnsmasq")]) {
        return Ok(());
    }
    let dir = TempDir::new("probe")?;
    let certs = Ca::new("an authority")?.below("its deputy")?.issue(&["up.example", "www.up.example"])?;
    let [ca, ..] = certs.write(&dir, "up")?;
    let origin = Origin::tls(&certs, serve)?;
    // The second address has no listener.
    let dns = dns(&["127.0.0.1", "127.0.0.2"])?;
    let port = origin.address().port();
    let upstream = format!("port = {port}, ca = {ca:?}, allow_private = true");
    let probed = Probed::new(dns.address(), &upstream)?;
    let report = &probed.report;
    assert_eq!((probed.code, &report["failure"]), (Some(0), &Value::Null), "{report:#}");
    let addresses = report["dns"]["addresses"].as_array().context("no addresses")?;
    assert_eq!(addresses.len(), 2);
    assert!(addresses.iter().all(|a| a["ttl_seconds"] == 77 && a["left_out"].is_null()), "{report:#}");
    for attempt in report["tcp"].as_array().context("no attempts")? {
        let is_open = attempt["address"] == format!("127.0.0.1:{port}");
        assert_eq!(attempt["error"].is_null(), is_open, "{report:#}");
    }
    let tls = &report["tls"];
    assert_eq!((&tls["verification"], &tls["protocol"]), (&"verified".into(), &"TLSv1_3".into()), "{tls:#}");
    assert_eq!(tls["suite"], "TLS13_AES_128_GCM_SHA256");
    assert_eq!(tls["group"], "X25519MLKEM768");
    let chain = tls["chain"].as_array().context("no chain")?;
    assert_eq!(chain.len(), 2, "{tls:#}");
    assert_eq!(chain[0]["names"], serde_json::json!(["up.example", "www.up.example"]));
    assert!(chain[0]["issuer"].as_str().is_some_and(|issuer| issuer.contains("its deputy")), "{tls:#}");
    assert!(chain[1]["issuer"].as_str().is_some_and(|issuer| issuer.contains("an authority")), "{tls:#}");
    assert!(chain[0]["days_left"].as_i64().is_some_and(|days| days > 700_000), "{tls:#}");
    assert_eq!(report["http"]["status"], 404);
    let heard = String::from_utf8_lossy(&origin.heard()[0]).into_owned();
    assert!(heard.starts_with("GET / HTTP/1.1\r\nHost: up.example\r\n"), "{heard}");

    let (code, text) = probe(dns.address(), &upstream, &["UP.example"])?;
    assert_eq!(code, Some(0));
    for expected in [
        "127.0.0.1 (TTL 77 s)",
        "127.0.0.2:",
        "Connection refused",
        "TLSv1_3, TLS13_AES_128_GCM_SHA256, X25519MLKEM768, verified",
        "for up.example, www.up.example, until 4096-12-31T00:00:00Z",
        "GET / is answered with 404",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    Ok(())
}

#[test]
fn names_that_lead_nowhere() -> Result<()> {
    if !require(&[Need::Program("dnsmasq")]) {
        return Ok(());
    }
    let private = dns(&["127.0.0.1", "10.0.0.1"])?;
    let probed = Probed::new(private.address(), "")?;
    probed.assert_failed("DNS", "leads only to addresses that are not public", "allow_private = true");
    let addresses = &probed.report["dns"]["addresses"];
    let left_out = |ip: &str| addresses.as_array()?.iter().find(|a| a["address"] == ip)?["left_out"].as_str();
    assert_eq!(left_out("127.0.0.1"), Some("loopback (RFC 1122)"), "{addresses:#}");
    assert_eq!(left_out("10.0.0.1"), Some("private (RFC 1918)"), "{addresses:#}");
    assert_eq!(probed.report["tcp"], serde_json::json!([]), "nothing was connected to");

    let unknown = dns(&[])?;
    Probed::new(unknown.address(), "")?.assert_failed("DNS", "the DNS says", "does up.example exist?");
    let mute = std::net::UdpSocket::bind("127.0.0.1:0")?;
    Probed::new(mute.local_addr()?, "")?.assert_failed("DNS", "no DNS server answered in time", "port 53");
    Ok(())
}

#[test]
fn a_device_that_reads_one_packet_is_found_out() -> Result<()> {
    let dir = TempDir::new("probe")?;
    let certs = Certs::new(&["up.example"])?;
    let [ca, ..] = certs.write(&dir, "up")?;
    let origin = Origin::tls(&certs, serve)?;
    let device = OnePacketDevice::before(origin.address())?;
    let upstream = format!("address = \"{}\", ca = {ca:?}", device.address());
    let dns = nowhere()?;
    Probed::new(dns, &upstream)?.assert_failed("TLS", "", "write ml_kem = false for this upstream");
    let probed = Probed::new(dns, &format!("{upstream}, ml_kem = false"))?;
    assert_eq!(
        (probed.code, &probed.report["tls"]["group"]),
        (Some(0), &"X25519".into()),
        "{:#}",
        probed.report
    );
    Ok(())
}

#[test]
fn where_connections_and_handshakes_fail() -> Result<()> {
    let dir = TempDir::new("probe")?;
    let dns = nowhere()?;
    let closed = format!("address = \"{}\"", nowhere()?);
    Probed::new(dns, &closed)?.assert_failed("TCP", "Connection refused", "listen on this port");
    let (_, text) = probe(dns, &closed, &["up.example"])?;
    assert_eq!(text.matches("Connection refused").count(), 1, "{text}");

    let ca = Ca::new("an authority")?;
    let [trusted, ..] = ca.issue(&["up.example"])?.write(&dir, "trusted")?;
    let leaf = Certs::new(&["up.example"])?;
    let whole = Ca::new("another")?.below("its deputy")?.issue(&["up.example"])?;
    for (certs, error, next) in [
        (
            ca.issue(&["other.example"])?,
            "for another name",
            "it is for other.example: get one for up.example",
        ),
        (ca.issue_until(&["up.example"], 2020)?, "has expired", "renew it"),
        (leaf, "no authority that is trusted here", "fullchain.pem"),
        (whole, "no authority that is trusted here", "give the authority with ca = \"FILE\": CN=another"),
    ] {
        let origin = Origin::tls(&certs, serve)?;
        let upstream = format!("address = \"{}\", ca = {trusted:?}", origin.address());
        let probed = Probed::new(dns, &upstream)?;
        probed.assert_failed("TLS", error, next);
        let tls = &probed.report["tls"];
        assert!(tls["verification"].as_str().is_some_and(|why| why.contains(error)), "{tls:#}");
        let own = &tls["chain"][0];
        let subject = own["subject"].as_str().context("no chain")?;
        assert!(subject.contains("up.example") || subject.contains("other.example"), "{tls:#}");
        assert_eq!(own["days_left"].as_i64().map(|days| days < 0), Some(error == "has expired"));
        assert_eq!(origin.heard().concat(), b"", "no request went to whom nobody believes");

        let unverified = Probed::new(dns, &format!("address = \"{}\", verify = false", origin.address()))?;
        assert_eq!(unverified.code, Some(0), "{:#}", unverified.report);
        assert_eq!(unverified.report["tls"]["verification"], "off");
    }
    let plain = Origin::plain(|connection| {
        connection.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")?;
        Ok(End::Close)
    })?;
    let no_tls = Probed::new(dns, &format!("address = \"{}\"", plain.address()))?;
    let port = plain.address().port();
    no_tls.assert_failed("TLS", "not TLS", &format!("is port {port} the upstream's HTTPS port? tls = false"));
    let no_file = Probed::new(dns, &format!("address = \"{}\", ca = \"/nowhere\"", plain.address()))?;
    no_file.assert_failed("TLS", "/nowhere", "`ca`");
    Ok(())
}

#[test]
fn where_http_ends() -> Result<()> {
    for (answer, error) in
        [("", "closed without an answer"), ("220 mail.example ESMTP\r\n\r\n", "not a valid HTTP answer")]
    {
        let origin = Origin::plain(move |connection| {
            connection.request()?;
            connection.send(answer)?;
            Ok(End::Close)
        })?;
        let probed = Probed::new(nowhere()?, &format!("address = \"{}\", tls = false", origin.address()))?;
        probed.assert_failed("HTTP", error, "log");
        assert_eq!(probed.report["tls"], Value::Null);
    }
    let silent = Origin::plain(|connection| {
        connection.request()?;
        connection.request()?;
        Ok(End::Close)
    })?;
    let probed = Probed::new(nowhere()?, &format!("address = \"{}\", tls = false", silent.address()))?;
    probed.assert_failed("HTTP", "no answer within 1 s", "is the upstream well?");
    Ok(())
}

#[test]
fn only_the_allowlist_unless_told_otherwise() -> Result<()> {
    if !require(&[Need::Program("dnsmasq")]) {
        return Ok(());
    }
    let dns = dns(&[])?;
    let (code, text) = probe(dns.address(), "", &["other.example"])?;
    assert_eq!(code, Some(1));
    assert!(text.contains("other.example is not in [upstreams] of "), "{text}");
    let (code, text) = probe(dns.address(), "", &["other.example", "--any"])?;
    assert_eq!(code, Some(1));
    assert!(text.contains("fail  DNS"), "{text}");
    for wrong in ["https://up.example", "up.example.", "192.0.2.1", "up.example:443"] {
        assert_eq!(probe(dns.address(), "", &[wrong])?.0, Some(2), "{wrong}");
    }
    Ok(())
}
