//! At which stage a message was lost: `hookgate_lost_total`, and `lost_at` of each delivery.

use anyhow::{Context, Result};
use harness::{End, NetNs, Origin, TempDir, free_port};
use serde_json::Value;

use crate::{OK, Relay, TIMEOUTS, get, local, post, request};

const STAGES: [&str; 8] =
    ["machine", "tls", "request", "dns", "connect", "upstream_tls", "upstream", "client"];

struct Testbed {
    relay: Relay,
    _dir: TempDir,
}

impl Testbed {
    fn start() -> Result<Self> {
        let dir = TempDir::new("lost")?;
        let slow = Origin::plain_at(local(0), |connection| {
            connection.request()?;
            // Until the proxy gives up.
            connection.request()?;
            Ok(End::Close)
        })?;
        let no_tls = Origin::plain_at(local(0), |connection| {
            connection.send("HTTP/1.1 400 Bad Request\r\n\r\n")?;
            Ok(End::Close)
        })?;
        let [ok, broken] = [OK, "HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n"].map(answering);
        let (ok, broken, closed) = (ok?.address(), broken?.address(), local(free_port()?));
        let config = format!(
            "socket = {:?}\n{TIMEOUTS}[limits]\nbody_bytes = 100\n[dns]\nservers = [\"{closed}\"]\ntimeout = \"1s\"\n\
             [upstreams]\n\
             \"ok.example\" = {{ address = \"{ok}\", tls = false }}\n\
             \"broken.example\" = {{ address = \"{broken}\", tls = false }}\n\
             \"slow.example\" = {{ address = \"{}\", tls = false }}\n\
             \"down.example\" = {{ address = \"{closed}\", tls = false }}\n\
             \"plain.example\" = {{ address = \"{}\" }}\n\
             \"nameless.example\" = {{}}\n",
            dir.path().join("admin.sock"),
            slow.address(),
            no_tls.address()
        );
        Ok(Self { relay: Relay::listening("", &config)?, _dir: dir })
    }

    /// What was counted, by stage.
    fn lost(&self) -> Result<Vec<(&'static str, f64)>> {
        let metrics = self.relay.metrics()?;
        let counts =
            STAGES.map(|stage| (stage, metrics.value(&format!("hookgate_lost_total{{stage=\"{stage}\"}}"))));
        Ok(counts.into_iter().filter(|(_, count)| *count > 0.0).collect())
    }

    fn last_lost_at(&self) -> Result<Value> {
        let told = self.relay.proxy.command(&NetNs::here(), &["deliveries", "--json"])?;
        let told: Value = serde_json::from_str(&told)?;
        let last = told["deliveries"].as_array().and_then(|all| all.last()).context("no delivery")?;
        last.get("lost_at").cloned().context("no lost_at")
    }
}

/// Without TLS, however the other tests run.
fn answering(response: &'static str) -> Result<Origin> {
    Origin::plain_at(local(0), move |connection| {
        while connection.request()?.is_some() {
            connection.send(response)?;
        }
        Ok(End::Close)
    })
}

#[test]
fn a_lost_post_has_the_stage_at_which_it_ended() -> Result<()> {
    let testbed = Testbed::start()?;
    let long = format!("POST /ok.example/{}", "x".repeat(9000));
    for (asked, code, stage) in [
        (post("/nobody.example/", "{}"), 403, "request"),
        (request("POST /ok.example/", &["Content-Length: x"], ""), 400, "request"),
        (request(&long, &["Content-Length: 0"], ""), 414, "request"),
        (request("POST /ok.example/", &["Content-Length: 101"], ""), 413, "request"),
        (post("/nameless.example/", "{}"), 504, "dns"),
        (post("/down.example/", "{}"), 502, "connect"),
        (post("/plain.example/", "{}"), 502, "upstream_tls"),
        (post("/broken.example/", "{}"), 500, "upstream"),
        (post("/slow.example/", "{}"), 504, "upstream"),
        (request("POST /ok.example/", &["Content-Length: 9"], "{}"), 408, "client"),
    ] {
        let series = format!("hookgate_lost_total{{stage=\"{stage}\"}}");
        let before = testbed.relay.metrics()?.value(&series);
        let answer = testbed.relay.client()?.ask(&asked)?;
        assert_eq!(answer.status(), code, "{asked}");
        testbed.relay.wait_for(&series, before + 1.0).with_context(|| asked.clone())?;
        assert_eq!(testbed.last_lost_at()?, stage, "{asked}");
    }
    let expected = [
        ("request", 4.0),
        ("dns", 1.0),
        ("connect", 1.0),
        ("upstream_tls", 1.0),
        ("upstream", 2.0),
        ("client", 1.0),
    ];
    assert_eq!(testbed.lost()?, expected, "each at one stage");
    Ok(())
}

#[test]
fn a_client_that_leaves_within_its_request_is_lost_at_the_client() -> Result<()> {
    let testbed = Testbed::start()?;
    let mut client = testbed.relay.client()?;
    client.wire().send(request("POST /slow.example/", &["Content-Length: 9"], "{}"))?;
    testbed.relay.wait_for("hookgate_in_flight{upstream=\"slow.example\"}", 1.0)?;
    client.into_wire().reset()?;
    testbed.relay.wait_for("hookgate_lost_total{stage=\"client\"}", 1.0)?;
    assert_eq!(testbed.last_lost_at()?, "client");
    Ok(())
}

#[test]
fn what_is_delivered_or_no_post_is_not_lost() -> Result<()> {
    let testbed = Testbed::start()?;
    for asked in [post("/ok.example/", "{}"), request("OPTIONS /ok.example/", &["Max-Forwards: 0"], "")] {
        assert_eq!(testbed.relay.client()?.ask(&asked)?.status(), 200, "{asked}");
    }
    let mut told = testbed.relay.client()?;
    assert_eq!(told.ask(get("/broken.example/"))?.status(), 500);
    testbed.relay.wait_for("hookgate_requests_total{upstream=\"broken.example\",code=\"500\"}", 1.0)?;
    assert_eq!(testbed.last_lost_at()?, "upstream", "a GET is told all the same");
    assert_eq!(testbed.lost()?, [], "and counts as no message");
    Ok(())
}
