//! What goes to the upstream: byte for byte, except what concerns one connection alone.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use harness::{Certs, Client, Origin, Proxy, Receiver, TempDir, free_port, signature};

use crate::{OK, Relay, TIMEOUTS, get, post, request, upstream};

/// The head that an origin gets for `GET target` without further fields, up to the id at its end.
fn expected_get(target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: up.example\r\nX-Forwarded-For: 127.0.0.1\r\nX-Real-IP: 127.0.0.1\r\n\
         X-Forwarded-Proto: http\r\nVia: 1.1 hookgate\r\nX-Request-Id: "
    )
}

#[test]
fn path_and_query_travel_byte_for_byte() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let relay = Relay::before(&origin)?;
    let mut client = relay.client()?;
    let mut expected = Vec::new();
    for rest in [
        "/",
        "/webhooks/whatsapp/%2B5511999999999?x=1",
        "/webhooks/whatsapp/%205511999999999?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=t",
        "/webhooks/whatsapp/+5511999999999?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=t",
        "//a/../b/./c//",
        "/%2f%2F%00%zz+%20;a=b,c",
        "/?",
        "/??a&&=&b=%2B+&c[]=1&d=/../x",
        "/!\"$%&'()*+,-.:;<=>@[\\]^_`{|}~",
    ] {
        for target in
            [format!("/up.example{rest}"), format!("/UP.Example{rest}"), format!("http://p/up.example{rest}")]
        {
            assert_eq!(client.ask(get(&target)).context(target)?.status(), 200);
            expected.push(expected_get(rest));
        }
    }
    let heard = origin.heard();
    let heard = String::from_utf8(heard.concat())?;
    let heads: Vec<&str> = heard.split_terminator("\r\n\r\n").collect();
    assert_eq!(heads.len(), expected.len());
    for (head, expected) in heads.iter().zip(&expected) {
        let id = head.strip_prefix(expected.as_str());
        let id = id.with_context(|| format!("{head}\nis not\n{expected}"))?;
        assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    }
    Ok(())
}

#[test]
fn every_request_has_an_id_of_its_own_or_the_clients() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let relay = Relay::before(&origin)?;
    let mut client = relay.client()?;
    for _ in 0..3 {
        client.ask(get("/up.example/"))?;
        relay.client()?.ask(get("/up.example/"))?;
    }
    client.ask(request("GET /up.example/", &["x-request-id: mine"], ""))?;
    let heard = String::from_utf8(origin.heard().concat())?;
    let mut ids: Vec<&str> = heard
        .lines()
        .filter(|line| line.to_ascii_lowercase().starts_with("x-request-id: "))
        .map(|line| &line[14..])
        .collect();
    assert_eq!(ids.len(), 7);
    assert!(ids.contains(&"mine"));
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 7);
    Ok(())
}

#[test]
fn options_that_may_go_no_further_are_answered_here() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let relay = Relay::before(&origin)?;
    let mut client = relay.client()?;
    let mut options = |target: &str, fields: &[&str]| {
        client.ask(request(&format!("OPTIONS {target}"), fields, "")).with_context(|| format!("{fields:?}"))
    };
    for _ in 0..2 {
        let answer = options("/up.example/x", &["Max-Forwards: 0"])?;
        assert_eq!((answer.status(), answer.body.len()), (200, 0), "{answer:?}");
        assert!(answer.field("Allow").is_some_and(|allow| allow.contains("POST")), "{answer:?}");
        assert_eq!(answer.field("Content-Length"), Some("0"));
        assert_eq!(answer.field("Proxy-Status"), Some("hookgate"), "it is no upstream's");
    }
    assert_eq!(
        options("/other.example/x", &["Max-Forwards: 0"])?.status(),
        403,
        "who is allowed comes first"
    );
    assert_eq!(options("*", &["Max-Forwards: 0"])?.status(), 404);
    assert_eq!(origin.connections(), 0);
    for (sent, forwarded) in [("2", "1"), ("1", "0"), ("x", "x"), ("+0", "+0")] {
        let before = origin.heard().concat().len();
        assert_eq!(options("/up.example/x", &[&format!("Max-Forwards: {sent}")])?.body, b"ok");
        let heard = String::from_utf8(origin.heard().concat().split_off(before))?;
        assert!(heard.contains(&format!("\r\nMax-Forwards: {forwarded}\r\n")), "{sent}: {heard}");
    }
    assert_eq!(client.ask(request("GET /up.example/x", &["Max-Forwards: 0"], ""))?.body, b"ok");
    relay.wait_for("hookgate_prefix_requests_total{prefix=\"other\"}", 9.0)?;
    relay.wait_for("hookgate_prefix_delivered_total{prefix=\"other\"}", 5.0)?;
    assert_eq!(relay.metrics()?.value("hookgate_prefix_refused_total{prefix=\"other\"}"), 4.0);
    Ok(())
}

#[test]
fn the_body_arrives_as_it_was_framed() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let relay = Relay::before(&origin)?;
    let mut client = relay.client()?;
    client.ask(post("/up.example/", "hello"))?;
    let chunked = "3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\n";
    client.ask(request("POST /up.example/", &["Transfer-Encoding: chunked"], chunked))?;
    client.ask(post("/up.example/", ""))?;
    let heard = String::from_utf8(origin.heard().concat())?;
    let bodies: Vec<&str> = heard.split("POST / HTTP/1.1\r\n").skip(1).collect();
    assert_eq!(bodies.len(), 3);
    assert!(
        bodies[0].contains("\r\nContent-Length: 5\r\n") && bodies[0].ends_with("\r\n\r\nhello"),
        "{heard}"
    );
    assert!(!bodies[0].contains("Transfer-Encoding"), "{heard}");
    let sent_on = ["3\r\nhel\r\n2\r\nlo\r\n0\r\nX-Sum: 1\r\n\r\n", "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"];
    let body = bodies[1].split_once("\r\n\r\n").context("a head")?.1;
    assert!(bodies[1].contains("\r\nTransfer-Encoding: chunked\r\n") && sent_on.contains(&body), "{heard}");
    assert!(!bodies[1].contains("Content-Length"), "{heard}");
    assert!(bodies[2].contains("\r\nContent-Length: 0\r\n") && bodies[2].ends_with("\r\n\r\n"), "{heard}");
    Ok(())
}

#[test]
fn plain_scheme_is_what_upstreams_are_told() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let address = format!("127.0.0.1:{}", free_port()?);
    let config =
        format!("[listen]\nplain = [\"{address}\"]\nplain_scheme = \"https\"\n[relay]\nname = \"edge-1\"\n");
    let _proxy = Proxy::start(&(config + &upstream(origin.address(), "")))?;
    Client::plain(address.parse()?)?.ask(request("GET /up.example/", &["Via: 1.1 hookgate"], ""))?;
    let heard = String::from_utf8(origin.heard().concat())?;
    assert!(heard.contains("\r\nX-Forwarded-Proto: https\r\n"), "{heard}");
    assert!(
        heard.contains("\r\nVia: 1.1 hookgate\r\n") && heard.contains("\r\nVia: 1.1 edge-1\r\n"),
        "{heard}"
    );
    Ok(())
}

#[test]
fn both_families_are_served_on_one_port() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let port = free_port()?;
    let config = format!("[listen]\nplain = [\"0.0.0.0:{port}\", \"[::]:{port}\"]\n");
    let _proxy = Proxy::start(&(config + &upstream(origin.address(), "")))?;
    for client in ["127.0.0.1", "::1"] {
        let address = std::net::SocketAddr::new(client.parse()?, port);
        assert_eq!(Client::plain(address)?.ask(get("/up.example/"))?.status(), 200, "{client}");
        let heard = String::from_utf8(origin.heard().concat())?;
        let told = format!("\r\nX-Forwarded-For: {client}\r\nX-Real-IP: {client}\r\n");
        assert!(heard.contains(&told), "{client}: {heard}");
    }
    Ok(())
}

fn data(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(folder)
}

/// Each of Meta's requests, over TLS on both sides, arrives as it was sent.
#[test]
fn metas_requests_arrive_byte_for_byte_with_valid_signatures() -> Result<()> {
    let dir = TempDir::new("samples")?;
    let edge = Certs::new(&["proxy.example.com"])?;
    let [_, cert, key] = edge.write(&dir, "edge")?;
    let inside = Certs::new(&["chatwoot.example.com"])?;
    let [ca, ..] = inside.write(&dir, "inside")?;
    let receiver = Receiver::start(&inside)?;
    let address = format!("127.0.0.1:{}", free_port()?);
    let _proxy = Proxy::start(&format!(
        "[listen]\nhttps = [\"{address}\"]\n[tls]\ncert = {cert:?}\nkey = {key:?}\n{TIMEOUTS}\n\
         [upstreams]\n\"chatwoot.example.com\" = {{ address = \"{}\", ca = {ca:?} }}\n",
        receiver.address(),
    ))?;
    let mut client = Client::tls(address.parse()?, &edge, "proxy.example.com")?;
    let mut seen = 0;
    let mut files: Vec<_> = std::fs::read_dir(data("requests"))?.collect::<Result<_, _>>()?;
    files.sort_by_key(std::fs::DirEntry::file_name);
    for file in files {
        let name = file.file_name().into_string().unwrap_or_default();
        let Some(name) = name.strip_suffix(".http") else { continue };
        let head = std::fs::read_to_string(file.path())?;
        let payload = name.strip_prefix("post-").map(|name| name.strip_suffix("-expect").unwrap_or(name));
        let body = match payload {
            Some(name) => std::fs::read(data("payloads").join(format!("{name}.json")))?,
            None => Vec::new(),
        };
        client.wire().send([head.as_bytes(), &body].concat())?;
        let answer = client.response().context(name.to_owned())?;
        assert_eq!(answer.status(), 200, "{name}: {answer:?}");
        seen += 1;

        let received = receiver.received();
        assert_eq!(received.len(), seen, "{name}");
        let received = &received[seen - 1];
        assert!(received.body == body, "{name}: the body has changed");
        if payload.is_some() {
            assert!(
                received.is_signed(),
                "{name}: {} is not {}",
                signature(&body),
                received.field("X-Hub-Signature-256").unwrap_or_default()
            );
        }
        let sent =
            head.split_whitespace().nth(1).and_then(|target| target.strip_prefix("/chatwoot.example.com"));
        assert_eq!(Some(received.target.as_str()), sent, "{name}");
        let mut expected: Vec<(String, String)> = fields(&head);
        expected[0].1 = "chatwoot.example.com".into();
        let added = ["127.0.0.1", "127.0.0.1", "https", "1.1 hookgate"];
        let names = ["X-Forwarded-For", "X-Real-IP", "X-Forwarded-Proto", "Via"];
        expected.extend(names.iter().zip(added).map(|(name, value)| (name.to_string(), value.to_string())));
        let (id, rest) = received.fields.split_last().context("no fields")?;
        assert_eq!((id.0.as_str(), rest), ("X-Request-Id", &expected[..]), "{name}");
    }
    assert_eq!(seen, 26, "all of the samples");
    Ok(())
}

fn fields(head: &str) -> Vec<(String, String)> {
    let lines = head.trim_end().lines().skip(1);
    lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.into(), value.into())).collect()
}
