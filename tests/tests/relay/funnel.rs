//! How far connections and requests of each prefix got: the steps that only the proxy sees.

use anyhow::Result;
use harness::{Certs, Client, End, Metrics, Origin, TempDir, free_port};

use crate::{Relay, TIMEOUTS, get, local, post, proxy_line, request};

const STEPS: [&str; 7] = ["accepted", "tls", "tls_failed", "requests", "delivered", "refused", "failed"];

/// What was counted of a prefix, in the order of [`STEPS`].
fn steps(metrics: &Metrics, prefix: &str) -> Vec<f64> {
    let value = |step| metrics.value(&format!("hookgate_prefix_{step}_total{{prefix=\"{prefix}\"}}"));
    STEPS.iter().map(value).map(|value| if value.is_nan() { 0.0 } else { value }).collect()
}

/// Sends each of `requests` on one connection of `source`'s, after the header of a load balancer's.
fn send(relay: &Relay, source: &str, requests: &[String]) -> Result<()> {
    let mut client = relay.client()?;
    client.wire().send(proxy_line(source))?;
    for request in requests {
        client.ask(request.as_str())?;
    }
    Ok(())
}

#[test]
fn every_request_ends_as_one_of_three_things() -> Result<()> {
    let up = Origin::plain(|connection| {
        while let Some(asked) = connection.request()? {
            let answer = match asked.start.split(['/', ' ']).nth(2).unwrap_or_default() {
                "cut" => {
                    connection.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")?;
                    return Ok(End::Close);
                }
                "500" => "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n",
                "204" => "HTTP/1.1 204 No Content\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            };
            connection.send(answer)?;
        }
        Ok(End::Close)
    })?;
    let (address, closed) = (up.address(), local(free_port()?));
    let relay = Relay::listening(
        "proxy_protocol_from = [\"127.0.0.0/8\"]",
        &format!(
            "{TIMEOUTS}[limits]\nbody_bytes = 100\n[upstreams]\n\
             \"up.example\" = {{ address = \"{address}\", tls = false }}\n\
             \"down.example\" = {{ address = \"{closed}\", tls = false }}\n"
        ),
    )?;
    let ok = || post("/up.example/", "hello");
    // In 31.13.64.0/18 and in 31.13.66.0/24: the longest match has it all.
    send(&relay, "31.13.66.9", &[ok(), ok(), get("/up.example/500"), get("/up.example/204")])?;
    send(&relay, "31.13.66.10", &[get("/other.example/"), get("/"), get("/down.example/"), ok()])?;
    send(&relay, "31.13.66.9", &[request("POST /up.example/", &["Content-Length: 101"], "")])?;
    let _ = send(&relay, "2a03:2880::1", &[get("/up.example/cut")]);
    send(&relay, "2a03:2880::2", &[ok()])?;
    send(&relay, "203.0.113.9", &[ok(), "nonsense\r\n\r\n".into()])?;
    // Says who it is, and no more.
    send(&relay, "203.0.113.9", &[])?;
    relay.wait_for("hookgate_connections{class=\"other\"}", 0.0)?;
    relay.wait_for("hookgate_connections{class=\"meta\"}", 0.0)?;
    let metrics = relay.metrics()?;
    assert_eq!(steps(&metrics, "31.13.66.0/24"), [3.0, 0.0, 0.0, 9.0, 3.0, 3.0, 3.0]);
    assert_eq!(steps(&metrics, "31.13.64.0/18"), [0.0; 7]);
    assert_eq!(steps(&metrics, "2a03:2880::/36"), [2.0, 0.0, 0.0, 2.0, 1.0, 0.0, 1.0]);
    assert_eq!(steps(&metrics, "other"), [2.0, 0.0, 0.0, 2.0, 1.0, 1.0, 0.0]);
    Ok(())
}

#[test]
fn handshakes_are_counted_and_the_way_to_https_is_not() -> Result<()> {
    let dir = TempDir::new("funnel")?;
    let certs = Certs::new(&["proxy.example.com"])?;
    let strangers = Certs::new(&["proxy.example.com"])?;
    let [_, cert, key] = certs.write(&dir, "edge")?;
    let [https, http] = [local(free_port()?), local(free_port()?)];
    let relay = Relay::listening(
        &format!("https = [\"{https}\"]\nhttp = [\"{http}\"]"),
        &format!("{TIMEOUTS}[tls]\ncert = {cert:?}\nkey = {key:?}\n"),
    )?;
    for _ in 0..3 {
        let mut client = Client::tls(https, &certs, "proxy.example.com")?;
        assert_eq!(client.ask(get("/"))?.status(), 404);
    }
    assert!(Client::tls(https, &strangers, "proxy.example.com")?.ask(get("/")).is_err());
    assert!(Client::plain(https)?.ask(get("/")).is_err());
    assert_eq!(Client::plain(http)?.ask("GET / HTTP/1.1\r\nHost: proxy.example.com\r\n\r\n")?.status(), 301);
    relay.wait_for("hookgate_prefix_tls_failed_total{prefix=\"other\"}", 2.0)?;
    assert_eq!(steps(&relay.metrics()?, "other"), [5.0, 3.0, 2.0, 3.0, 0.0, 3.0, 0.0]);
    Ok(())
}
