//! The PROXY protocol: believed only from the networks that must speak it.

use std::io::Write;
use std::net::{Ipv6Addr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::{Client, Closed, pace};

use crate::client_tls::trusting;
use crate::{OK, Origin, Relay, TIMEOUTS, TlsDoor, get, proxy_line, request, upstream};

const BELIEVED: &str = "proxy_protocol_from = [\"127.0.0.0/8\"]";
/// Version 2 of the protocol, §2.2.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const UNSPEC: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const FROM_META: [u8; 12] = [157, 240, 1, 1, 192, 0, 2, 1, 0x9c, 0x40, 1, 187];

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).expect("a test's header").to_be_bytes();
    [SIGNATURE, &[command, family], &length, rest].concat()
}

/// Fields of version 2: something unknown, then whether the client used TLS.
fn v2_with_tls(tls: bool) -> Vec<u8> {
    let authority = [&[0x02, 0, 5][..], b"hello"].concat();
    let ssl = [0x20, 0, 5, u8::from(tls), 0, 0, 0, 0];
    v2(PROXY, TCP4, &[&FROM_META[..], &authority, &ssl].concat())
}

fn v2_v6() -> Vec<u8> {
    let [client, own] = ["2a03:2880::7", "2001:db8::1"].map(|ip| ip.parse::<Ipv6Addr>().expect("an address"));
    v2(PROXY, TCP6, &[&client.octets()[..], &own.octets(), &[0x9c, 0x40, 1, 187]].concat())
}

/// A request that can be told from every other of the test's.
fn numbered(number: usize) -> String {
    let lies = ["X-Forwarded-For: 9.9.9.9", "X-Real-IP: 9.9.9.9", "X-Forwarded-Proto: gopher"];
    request(&format!("GET /up.example/{number}"), &lies, "")
}

/// What the upstream is told of who sent it: X-Forwarded-For, X-Real-IP and X-Forwarded-Proto.
fn told(origin: &Origin, number: usize) -> Result<[String; 3]> {
    let heard = String::from_utf8(origin.heard().concat())?;
    let (_, head) = heard.split_once(&format!("GET /{number} ")).context("no such request")?;
    let (head, _) = head.split_once("\r\n\r\n").context("no whole head")?;
    let field = |name: &str| {
        let values: Vec<_> = head.lines().filter_map(|line| line.strip_prefix(name)).collect();
        match values[..] {
            [value] => Ok(value.to_owned()),
            _ => anyhow::bail!("{name}: {values:?} in {head}"),
        }
    };
    Ok([field("X-Forwarded-For: ")?, field("X-Real-IP: ")?, field("X-Forwarded-Proto: ")?])
}

#[test]
fn every_form_says_who_the_client_is() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let mut number = 0;
    for scheme in ["http", "https"] {
        let listen = format!("{BELIEVED}\nplain_scheme = \"{scheme}\"");
        let relay = Relay::listening(&listen, &format!("{TIMEOUTS}{}", upstream(origin.address(), "")))?;
        for (what, header, client, proto) in [
            ("v1, IPv4", proxy_line("157.240.1.1").into_bytes(), "157.240.1.1", scheme),
            ("v1, IPv6", proxy_line("2a03:2880::7").into_bytes(), "2a03:2880::7", scheme),
            ("v1, mapped", proxy_line("::ffff:157.240.1.1").into_bytes(), "157.240.1.1", scheme),
            ("v1, unknown", b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1", scheme),
            ("v1, unknown and more", b"PROXY UNKNOWN ffff::1 ::1 1 2\r\n".to_vec(), "127.0.0.1", scheme),
            ("v2, IPv4", v2(PROXY, TCP4, &FROM_META), "157.240.1.1", scheme),
            ("v2, IPv6", v2_v6(), "2a03:2880::7", scheme),
            ("v2, after TLS", v2_with_tls(true), "157.240.1.1", "https"),
            ("v2, after plain HTTP", v2_with_tls(false), "157.240.1.1", "http"),
            ("v2, local", v2(LOCAL, UNSPEC, b""), "127.0.0.1", scheme),
            ("v2, local with an address", v2(LOCAL, TCP4, &FROM_META), "127.0.0.1", scheme),
            ("v2, unspecified", v2(PROXY, UNSPEC, b""), "127.0.0.1", scheme),
        ] {
            number += 1;
            let answer =
                relay.client()?.ask([&header, numbered(number).as_bytes()].concat()).context(what)?;
            assert_eq!(answer.status(), 200, "{what}");
            assert_eq!(told(&origin, number)?, [client, client, proto], "{what}, plain_scheme = {scheme}");
        }
    }
    Ok(())
}

#[test]
fn a_header_may_come_in_any_pieces() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let relay = Relay::listening(BELIEVED, &format!("{TIMEOUTS}{}", upstream(origin.address(), "")))?;
    let mut number = 0;
    for (header, client) in
        [(proxy_line("157.240.1.1").into_bytes(), "157.240.1.1"), (v2_v6(), "2a03:2880::7")]
    {
        for cut in 1..=header.len() {
            number += 1;
            let whole = [&header[..], numbered(number).as_bytes()].concat();
            let mut connection = relay.client()?;
            connection.wire().send(&whole[..cut])?;
            pace(Duration::from_millis(2));
            assert_eq!(connection.ask(&whole[cut..])?.status(), 200, "cut at {cut}");
            assert_eq!(told(&origin, number)?[0], client, "cut at {cut}");
        }
        number += 1;
        let mut connection = relay.client()?;
        for byte in [&header[..], numbered(number).as_bytes()].concat().chunks(1) {
            connection.wire().send(byte)?;
            pace(Duration::from_micros(200));
        }
        assert_eq!(connection.response()?.status(), 200);
        assert_eq!(told(&origin, number)?[0], client);
    }
    Ok(())
}

#[test]
fn who_must_send_a_header_and_does_not_is_closed_without_a_byte() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let relay = Relay::listening(BELIEVED, &format!("{TIMEOUTS}{}", upstream(origin.address(), "")))?;
    let long = [&b"PROXY UNKNOWN "[..], &[b'x'; 100], b"\r\n"].concat();
    let cases: [(&str, Vec<u8>); 13] = [
        ("none", Vec::new()),
        ("LF alone", proxy_line("157.240.1.1").replace("\r\n", "\n").into()),
        ("lower case", proxy_line("157.240.1.1").to_lowercase().into()),
        ("another family", proxy_line("157.240.1.1").replace("TCP4", "TCP6").into()),
        ("no address", proxy_line("157.240.1").into()),
        ("a word more", proxy_line("157.240.1.1").replace("443", "443 x").into()),
        ("a word less", proxy_line("157.240.1.1").replace(" 443", "").into()),
        ("a port too high", proxy_line("157.240.1.1").replace("443", "65536").into()),
        ("too long", long),
        ("version 1 in version 2's clothes", v2(0x11, TCP4, &FROM_META)),
        ("an unknown command", v2(0x22, TCP4, &FROM_META)),
        ("too short for its address", v2(PROXY, TCP4, &FROM_META[..11])),
        ("a field cut off", v2(PROXY, TCP4, &[&FROM_META[..], &[0x20, 0, 9, 1]].concat())),
    ];
    for (index, (what, header)) in cases.iter().enumerate() {
        let mut connection = relay.client()?;
        connection.wire().send([header, get("/up.example/").as_bytes()].concat())?;
        connection.wire().closed().context(*what)?;
        assert_eq!(connection.wire().heard(), b"", "{what}");
        relay.wait_for("hookgate_refused_total{reason=\"proxy_protocol\"}", (index + 1) as f64)?;
    }
    // Neither a whole header nor anything else: in the time that a request head has.
    for part in [&b""[..], b"PROXY TCP4 157", &v2(PROXY, TCP4, &FROM_META)[..20]] {
        let mut connection = relay.client()?;
        connection.wire().send(part)?;
        let begun = Instant::now();
        assert_eq!(connection.wire().closed()?, Closed::Orderly);
        let took = begun.elapsed();
        assert!((900..2000).contains(&took.as_millis()), "{took:?}");
        assert_eq!(connection.wire().heard(), b"");
    }
    assert_eq!(origin.connections(), 0);
    Ok(())
}

#[test]
fn who_need_not_send_a_header_is_not_believed() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let config = format!("{TIMEOUTS}{}", upstream(origin.address(), ""));
    let mut number = 0;
    for listen in ["", "proxy_protocol_from = [\"192.0.2.0/24\", \"::1/128\"]"] {
        let relay = Relay::listening(listen, &config)?;
        for header in [proxy_line("157.240.1.1").into_bytes(), v2(PROXY, TCP4, &FROM_META)] {
            let mut connection = relay.client()?;
            let answer = connection.ask([&header, get("/up.example/").as_bytes()].concat())?;
            assert_eq!((answer.status(), answer.proxy_error()), (400, Some("http_request_error")));
            connection.wire().closed()?;
        }
        number += 1;
        assert_eq!(relay.client()?.ask(numbered(number))?.status(), 200);
        assert_eq!(told(&origin, number)?[0], "127.0.0.1");
    }
    // And from who must: one header, not two.
    let relay = Relay::listening(BELIEVED, &config)?;
    let twice = proxy_line("157.240.1.1") + &proxy_line("157.240.1.2") + &get("/up.example/");
    assert_eq!(relay.client()?.ask(twice)?.status(), 400);
    Ok(())
}

#[test]
fn the_header_comes_before_tls() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let (TlsDoor { address: https, certs, _dir }, line, tls) = TlsDoor::new()?;
    let relay = Relay::listening(
        &format!("{BELIEVED}\n{line}"),
        &format!("{TIMEOUTS}{tls}\n{}", upstream(origin.address(), "")),
    )?;
    let trust = trusting(&certs)?;
    for (number, (header, client)) in
        [(proxy_line("2a03:2880::7").into_bytes(), "2a03:2880::7"), (v2_with_tls(false), "157.240.1.1")]
            .into_iter()
            .enumerate()
    {
        let mut connection = Client::tls_with(https, &header, trust.clone(), "proxy.example.com")?;
        assert_eq!(connection.ask(numbered(number))?.status(), 200);
        assert_eq!(
            told(&origin, number)?,
            [client, client, "https"],
            "this proxy ends TLS, whatever was before it"
        );
    }
    let mut bare = Client::tls(https, &certs, "proxy.example.com")?;
    assert!(bare.ask(get("/up.example/")).is_err(), "a ClientHello is no header");
    assert!(bare.session().is_some_and(|session| session.is_handshaking()), "not a byte of TLS was said");
    relay.wait_for("hookgate_refused_total{reason=\"proxy_protocol\"}", 1.0)?;
    Ok(())
}

#[test]
fn a_slow_sender_of_a_header_has_no_more_time() -> Result<()> {
    let relay = Relay::listening(BELIEVED, TIMEOUTS)?;
    let begun = Instant::now();
    let mut slow = TcpStream::connect(relay.address)?;
    for byte in proxy_line("157.240.1.1").bytes() {
        if slow.write_all(&[byte]).is_err() {
            break;
        }
        pace(Duration::from_millis(100));
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    Ok(())
}
