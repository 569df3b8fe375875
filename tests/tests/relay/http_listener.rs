//! The `http` listener: leads to https, for this proxy's own names alone.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use harness::{Certs, Client, Closed, Message, Need, NetNs, Origin, Proxy, TempDir, free_port, require, run};

use crate::{OK, Relay, TIMEOUTS, local, upstream};

/// A relay with all three kinds of listeners.
struct Testbed {
    relay: Relay,
    http: SocketAddr,
    origin: Origin,
    _dir: TempDir,
}

impl Testbed {
    /// `https` is the port in `[listen] https`.
    fn start(https: u16, names: &[&str]) -> Result<Self> {
        let dir = TempDir::new("http")?;
        let [_, cert, key] = Certs::new(names)?.write(&dir, "edge")?;
        let (http, origin) = (local(free_port()?), Origin::answering(OK)?);
        let relay = Relay::listening(
            &format!("http = [\"{http}\"]\nhttps = [\"{}\"]", local(https)),
            &format!("{TIMEOUTS}[tls]\ncert = {cert:?}\nkey = {key:?}\n{}", upstream(origin.address(), "")),
        )?;
        Ok(Self { relay, http, origin, _dir: dir })
    }

    /// The answer to the only request that a connection may carry.
    fn ask(&self, request: &str) -> Result<Message> {
        let mut client = Client::plain(self.http)?;
        let answer = match request.starts_with("HEAD ") {
            true => client.wire().send(request).map_err(Into::into).and_then(|()| client.response_to_head()),
            false => client.ask(request),
        };
        let answer = answer.with_context(|| request.to_owned())?;
        assert_eq!(answer.field("Connection"), Some("close"), "{request}");
        assert_eq!(client.wire().closed()?, Closed::Orderly, "{request}");
        assert!(client.wire().buffered().is_empty(), "{request}: more than an answer");
        assert!(answer.field("Date").is_some(), "{request}");
        Ok(answer)
    }
}

fn asking(method: &str, target: &str, host: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

#[test]
fn own_names_lead_to_https_with_every_byte_of_the_target() -> Result<()> {
    let port = free_port()?;
    let testbed = Testbed::start(port, &["proxy.example.com", "*.w.example"])?;
    for (method, status) in
        [("GET", 301), ("HEAD", 301), ("POST", 308), ("PUT", 308), ("DELETE", 308), ("OPTIONS", 308)]
    {
        let answer = testbed.ask(&asking(method, "/up.example/a", "proxy.example.com"))?;
        assert_eq!(answer.status(), status, "{method}");
        let location = format!("https://proxy.example.com:{port}/up.example/a");
        assert_eq!(answer.field("Location"), Some(&location[..]), "{method}");
        assert_eq!((answer.field("Content-Length"), &answer.body[..]), (Some("0"), &b""[..]), "{method}");
    }
    for (target, host, location) in [
        ("/", "proxy.example.com", "proxy.example.com:PORT/"),
        ("/a//../%2f%2B+?x=%20&y=//", "proxy.example.com", "proxy.example.com:PORT/a//../%2f%2B+?x=%20&y=//"),
        ("/x", "PROXY.Example.COM", "proxy.example.com:PORT/x"),
        ("/x", "proxy.example.com:80", "proxy.example.com:PORT/x"),
        ("/x", "a.w.example", "a.w.example:PORT/x"),
        ("http://ignored.example/x?y", "proxy.example.com", "proxy.example.com:PORT/x?y"),
        ("//evil.example/x", "proxy.example.com", "proxy.example.com:PORT//evil.example/x"),
    ] {
        let answer = testbed.ask(&asking("GET", target, host))?;
        let location = format!("https://{}", location.replace("PORT", &port.to_string()));
        assert_eq!(
            (answer.status(), answer.field("Location")),
            (301, Some(&location[..])),
            "{target} {host}"
        );
    }
    assert_eq!(testbed.origin.connections(), 0, "nothing is forwarded from here");
    Ok(())
}

#[test]
fn other_names_are_404_and_no_answer_repeats_them() -> Result<()> {
    let testbed = Testbed::start(free_port()?, &["proxy.example.com", "*.w.example"])?;
    for host in [
        "other.example",
        "w.example",
        "a.b.w.example",
        "xproxy.example.com",
        "127.0.0.1",
        "up.example",
        "[::1]",
    ] {
        let answer = testbed.ask(&asking("GET", "/up.example/a", host))?;
        assert_eq!((answer.status(), answer.proxy_error()), (404, Some("destination_not_found")), "{host}");
        assert_eq!(answer.field("Location"), None, "{host}");
        assert!(!String::from_utf8(answer.body)?.contains(host), "{host}");
    }
    assert_eq!(testbed.ask("GET /x HTTP/1.0\r\n\r\n")?.status(), 404, "no name at all");
    assert_eq!(testbed.origin.connections(), 0);
    Ok(())
}

#[test]
fn what_is_no_request_is_refused_as_everywhere() -> Result<()> {
    let testbed = Testbed::start(free_port()?, &["proxy.example.com"])?;
    let long = "x".repeat(9000);
    for (status, request) in [
        (400, "nonsense\r\n\r\n".to_owned()),
        (400, "GET /x HTTP/1.1\r\n\r\n".to_owned()),
        (400, "GET /x HTTP/1.1\r\nHost: proxy.example.com\r\nHost: proxy.example.com\r\n\r\n".to_owned()),
        (400, "GET /x HTTP/1.1\r\nHost: proxy.example.com\r\nX: a\0b\r\n\r\n".to_owned()),
        (400, "GET /x HTTP/1.1\nHost: proxy.example.com\n\n".to_owned()),
        (400, asking("GET", "x", "proxy.example.com")),
        (400, asking("GET", "/x", "proxy.example.com/evil")),
        (400, asking("GET", "/x", "proxy.example.com\r\n Folded: yes")),
        (405, asking("TRACE", "/x", "proxy.example.com")),
        (405, asking("CONNECT", "proxy.example.com:443", "proxy.example.com")),
        (404, asking("OPTIONS", "*", "proxy.example.com")),
        (414, asking("GET", &format!("/{long}"), "proxy.example.com")),
        (505, "GET /x HTTP/2.0\r\nHost: proxy.example.com\r\n\r\n".to_owned()),
    ] {
        let answer = testbed.ask(&request)?;
        assert_eq!(answer.status(), status, "{request:?}");
        assert_eq!(answer.field("Location"), None, "{request:?}");
        assert_eq!(answer.field("Allow").is_some(), status == 405, "{request:?}");
    }
    // A second request is not looked at, whatever the first one said.
    let twice = asking("GET", "/1", "proxy.example.com") + &asking("GET", "/2", "proxy.example.com");
    assert_eq!(testbed.ask(&twice)?.status(), 301);
    let body = "POST /1 HTTP/1.1\r\nHost: proxy.example.com\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(testbed.ask(body)?.status(), 308);
    Ok(())
}

#[test]
fn the_slow_and_the_silent_are_closed() -> Result<()> {
    let testbed = Testbed::start(free_port()?, &["proxy.example.com"])?;
    let mut silent = Client::plain(testbed.http)?;
    assert_eq!(silent.wire().closed()?, Closed::Orderly);
    assert_eq!(silent.wire().heard(), b"");
    assert_eq!(testbed.ask("GET /x HTTP/1.1\r\nHost: proxy")?.status(), 408);
    Ok(())
}

#[test]
fn on_the_ports_of_the_web_no_port_is_named() -> Result<()> {
    if !require(&[Need::Root, Need::Program("curl")]) {
        return Ok(());
    }
    let (ns, dir) = (NetNs::new()?, TempDir::new("web")?);
    let [_, cert, key] = Certs::new(&["proxy.example.com"])?.write(&dir, "edge")?;
    let _proxy = Proxy::start_in(
        &ns,
        &format!(
            "[listen]\nhttp = [\"127.0.0.1:80\"]\nhttps = [\"127.0.0.1:443\"]\n[tls]\ncert = {cert:?}\nkey = {key:?}\n"
        ),
    )?;
    let mut curl = ns.command("curl");
    curl.args(["-sS", "--noproxy", "*", "--max-time", "10", "-w", "%{http_code} %{redirect_url}"]);
    curl.args(["--resolve", "proxy.example.com:80:127.0.0.1", "http://proxy.example.com/a/b?c"]);
    assert_eq!(run(curl)?, "301 https://proxy.example.com/a/b?c");
    Ok(())
}

#[test]
fn it_counts_as_no_request() -> Result<()> {
    let testbed = Testbed::start(free_port()?, &["proxy.example.com"])?;
    assert_eq!(testbed.ask(&asking("GET", "/x", "proxy.example.com"))?.status(), 301);
    assert_eq!(testbed.ask(&asking("GET", "/x", "other.example"))?.status(), 404);
    let metrics = testbed.relay.metrics()?;
    assert!(metrics.family("hookgate_requests_total").is_empty(), "{metrics:?}");
    Ok(())
}
