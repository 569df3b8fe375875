//! At which stage a message was lost: `hookgate_lost_total`, and `lost_at` of each delivery.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use harness::{Client, End, NetNs, Origin, TempDir, ensure_stays, equal, free_port, pace, wait_until};
use serde_json::{Value, json};

use crate::{OK, Relay, TIMEOUTS, TlsDoor, get, local, post, request};

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
        let mute = Origin::plain_at(local(0), |connection| {
            // It takes the ClientHello and says nothing.
            connection.bytes(1 << 20)?;
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
             \"mute.example\" = {{ address = \"{}\" }}\n\
             \"nameless.example\" = {{}}\n",
            dir.path().join("admin.sock"),
            slow.address(),
            no_tls.address(),
            mute.address()
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

    /// Of the request with that number. It is told a moment after its answer.
    fn lost_at(&self, number: usize) -> Result<Value> {
        let mut last = Value::Null;
        wait_until("the request is told", Duration::from_secs(5), || {
            let told = self.relay.proxy.command(&NetNs::here(), &["deliveries", "--json"])?;
            let told: Value = serde_json::from_str(&told)?;
            let all = told["deliveries"].as_array().context("no deliveries")?;
            last = all.last().and_then(|last| last.get("lost_at")).cloned().unwrap_or_default();
            Ok(equal(all.len(), number))
        })?;
        Ok(last)
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
    for (number, (asked, code, stage)) in (1..).zip([
        (post("/nobody.example/", "{}"), 403, "request"),
        (request("POST /ok.example/", &["Content-Length: x"], ""), 400, "request"),
        (request(&long, &["Content-Length: 0"], ""), 414, "request"),
        (request("POST /ok.example/", &["Content-Length: 101"], ""), 413, "request"),
        (post("/nameless.example/", "{}"), 504, "dns"),
        (post("/down.example/", "{}"), 502, "connect"),
        (post("/plain.example/", "{}"), 502, "upstream_tls"),
        (post("/mute.example/", "{}"), 504, "upstream_tls"),
        (post("/broken.example/", "{}"), 500, "upstream"),
        (post("/slow.example/", "{}"), 504, "upstream"),
        (request("POST /ok.example/", &["Content-Length: 9"], "{}"), 408, "client"),
    ]) {
        let series = format!("hookgate_lost_total{{stage=\"{stage}\"}}");
        let before = testbed.relay.metrics()?.value(&series);
        let answer = testbed.relay.client()?.ask(&asked)?;
        assert_eq!(answer.status(), code, "{asked}");
        testbed.relay.wait_for(&series, before + 1.0).with_context(|| asked.clone())?;
        assert_eq!(testbed.lost_at(number)?, stage, "{asked}");
    }
    let expected = [
        ("request", 4.0),
        ("dns", 1.0),
        ("connect", 1.0),
        ("upstream_tls", 2.0),
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
    assert_eq!(testbed.lost_at(1)?, "client");
    Ok(())
}

/// An upstream that answers when it is told to, before proxies with and without TLS.
fn hang_up_before_the_answer(over_tls: bool) -> Result<()> {
    let answers = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&answers);
    let origin = Origin::plain_at(local(0), move |connection| {
        connection.request()?;
        while !told.load(Ordering::Relaxed) {
            pace(Duration::from_millis(5));
        }
        connection.send(OK)?;
        Ok(End::Close)
    })?;
    let (door, https, section) = TlsDoor::new()?;
    let dir = TempDir::new("hang-up")?;
    let config = format!(
        "socket = {:?}\n{section}\n{TIMEOUTS}[upstreams]\n\"up.example\" = {{ address = \"{}\", tls = false }}\n",
        dir.path().join("admin.sock"),
        origin.address()
    );
    let relay = Relay::listening(&https, &config)?;
    let mut client = match over_tls {
        true => Client::tls(door.address, &door.certs, "proxy.example.com")?,
        false => Client::plain(relay.address)?,
    };
    client.wire().send(post("/up.example/", "{}"))?;
    wait_until("the upstream has it", Duration::from_secs(5), || Ok(!origin.heard().is_empty()))?;
    client.wire().finish()?;
    // It is noticed by an event, which no figure shows.
    ensure_stays("the request is under way", Duration::from_millis(300), || Ok(origin.ended() == 0))?;
    answers.store(true, Ordering::Relaxed);
    assert_eq!(client.response()?.status(), 200, "the answer is written all the same");
    relay.wait_for("hookgate_lost_total{stage=\"client\"}", 1.0)?;
    let told: Value = serde_json::from_str(&relay.proxy.command(&NetNs::here(), &["deliveries", "--json"])?)?;
    let delivery = &told["deliveries"][0];
    let found = [&delivery["lost_at"], &delivery["error"], &delivery["code"]];
    assert_eq!(found, [&json!("client"), &json!("client_gone"), &json!(200)], "{told}");
    Ok(())
}

#[test]
fn a_client_that_hangs_up_before_its_answer_is_lost_at_the_client() -> Result<()> {
    hang_up_before_the_answer(false)
}

#[test]
fn the_same_over_tls() -> Result<()> {
    hang_up_before_the_answer(true)
}

#[test]
fn what_is_delivered_or_no_post_is_not_lost() -> Result<()> {
    let testbed = Testbed::start()?;
    let asked = [
        (post("/ok.example/", "{}"), 200, Value::Null),
        (request("OPTIONS /ok.example/", &["Max-Forwards: 0"], ""), 200, Value::Null),
        // Told all the same.
        (get("/broken.example/"), 500, json!("upstream")),
    ];
    for (number, (asked, code, lost_at)) in (1..).zip(asked) {
        assert_eq!(testbed.relay.client()?.ask(&asked)?.status(), code, "{asked}");
        assert_eq!(testbed.lost_at(number)?, lost_at, "{asked}");
    }
    assert_eq!(testbed.lost()?, [], "none counts as a message that was lost");
    Ok(())
}
