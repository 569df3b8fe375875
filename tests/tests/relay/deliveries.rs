//! `hookgate deliveries`: the outcome of the latest requests.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use harness::{
    End, NetNs, Origin, TempDir, VERIFY_TOKEN, ask_admin, binary, equal, free_port, pace, wait_until,
};
use serde_json::{Value, json};

use crate::{OK, Relay, TIMEOUTS, get, local, post, proxy_line, request};

struct Testbed {
    relay: Relay,
    _origin: Origin,
    _dir: TempDir,
}

impl Testbed {
    fn start() -> Result<Self> {
        let (dir, origin) = (TempDir::new("deliveries")?, Origin::answering(OK)?);
        let relay = Relay::listening(
            "proxy_protocol_from = [\"127.0.0.0/8\"]",
            &format!(
                "socket = {:?}\n{TIMEOUTS}[log]\naccess = false\n[upstreams]\n\
                 \"up.example\" = {{ address = \"{}\", tls = false }}\n\
                 \"down.example\" = {{ address = \"{}\", tls = false }}\n",
                dir.path().join("admin.sock"),
                origin.address(),
                local(free_port()?)
            ),
        )?;
        Ok(Self { relay, _origin: origin, _dir: dir })
    }

    fn send(&self, source: &str, request: &str) -> Result<()> {
        let mut client = self.relay.client()?;
        client.wire().send(proxy_line(source))?;
        client.ask(request)?;
        Ok(())
    }

    fn told(&self, more: &[&str]) -> Result<Vec<Value>> {
        let told = self.relay.proxy.command(&NetNs::here(), &[&["deliveries", "--json"], more].concat())?;
        let told: Value = serde_json::from_str(&told)?;
        assert_eq!(told["version"], 1);
        told["deliveries"].as_array().cloned().context("no list")
    }
}

#[test]
fn each_request_is_told_with_how_far_it_got() -> Result<()> {
    let testbed = Testbed::start()?;
    let mine = request("POST /up.example/a?b=c", &["Content-Length: 5", "X-Request-Id: mine"], "hello");
    let verify = format!("/up.example/w?hub.mode=subscribe&hub.challenge=1&hub.verify_token={VERIFY_TOKEN}");
    let requests = [
        ("157.240.1.9", mine),
        ("157.240.1.9", post("/down.example/", "hello")),
        ("203.0.113.9", get("/nobody.example/")),
        ("203.0.113.9", "nonsense\r\n\r\n".to_owned()),
        ("157.240.1.9", get(&verify)),
    ];
    for (sent, (source, request)) in (1..).zip(&requests) {
        testbed.send(source, request)?;
        // One is told of a moment after its answer, when the next may be answered already.
        wait_until("each delivery is listed", Duration::from_secs(5), || {
            Ok(equal(testbed.told(&[])?.len(), sent))
        })?;
    }
    let told = testbed.told(&[])?;
    let fields = [
        "id",
        "source",
        "prefix",
        "upstream",
        "method",
        "path",
        "code",
        "stage",
        "error",
        "upstream_code",
        "attempts",
        "connection",
    ];
    let of = |told: &Value| fields.map(|field| told[field].clone());
    assert_eq!(
        of(&told[0])[..],
        [
            json!("mine"),
            json!("157.240.1.9"),
            json!("157.240.0.0/17"),
            json!("up.example"),
            json!("POST"),
            json!("/up.example/a?b=c"),
            json!(200),
            json!("done"),
            Value::Null,
            json!(200),
            json!(1),
            json!("new")
        ]
    );
    assert_eq!(
        of(&told[1])[3..],
        [
            json!("down.example"),
            json!("POST"),
            json!("/down.example/"),
            json!(502),
            json!("connect"),
            json!("connection_refused"),
            Value::Null,
            json!(1),
            Value::Null
        ]
    );
    assert_eq!(
        of(&told[2])[1..],
        [
            json!("203.0.113.9"),
            Value::Null,
            Value::Null,
            json!("GET"),
            json!("/nobody.example/"),
            json!(403),
            json!("head"),
            json!("http_request_denied"),
            Value::Null,
            json!(0),
            Value::Null
        ]
    );
    assert_eq!((&told[3]["code"], &told[3]["method"]), (&json!(400), &json!("")));
    assert_eq!(told[4]["path"], "/up.example/w?hub.mode=subscribe&hub.challenge=1&hub.verify_token=***");
    assert!(told[0]["duration_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0 && seconds < 5.0));
    assert!(told[0]["time"].as_str().is_some_and(|time| time.ends_with('Z')));

    let codes = |more: &[&str]| -> Result<Vec<Value>> {
        Ok(testbed.told(more)?.iter().map(|told| told["code"].clone()).collect())
    };
    assert_eq!(codes(&["--failed"])?, [json!(502), json!(403), json!(400)]);
    assert_eq!(codes(&["--upstream", "UP.example"])?, [json!(200), json!(200)]);
    assert_eq!(codes(&["--failed", "--upstream", "up.example"])?, [] as [Value; 0]);
    let mut none = Command::new(binary()?);
    none.args(["deliveries", "--upstream", "other.example", "--config"]).arg(testbed.relay.proxy.config());
    let none = none.output()?;
    assert_eq!((none.status.code(), &none.stdout[..]), (Some(0), &b""[..]));
    let said = String::from_utf8_lossy(&none.stderr);
    assert!(said.contains("no match among the 5 requests that the proxy remembers"), "{said}");
    let text = testbed.relay.proxy.command(&NetNs::here(), &["deliveries"])?;
    assert_eq!(text.lines().count(), 5);
    assert!(text.contains("connection_refused at connect") && !text.contains(VERIFY_TOKEN), "{text}");
    Ok(())
}

#[test]
fn a_request_that_a_pooled_connection_lost_is_told_as_such() -> Result<()> {
    let origin = Origin::plain(|connection| {
        connection.request()?;
        connection.send(OK)?;
        connection.request()?;
        Ok(End::Close)
    })?;
    let dir = TempDir::new("pooled-deliveries")?;
    let mut relay = Relay::listening(
        "",
        &format!(
            "socket = {:?}\n{TIMEOUTS}[upstreams]\n\"up.example\" = {{ address = \"{}\", tls = false }}\n",
            dir.path().join("admin.sock"),
            origin.address()
        ),
    )?;
    let mut client = relay.client()?;
    assert_eq!(client.ask(post("/up.example/1", "hello"))?.status(), 200);
    // It shows how long the connection was idle.
    pace(Duration::from_millis(300));
    assert_eq!(client.ask(post("/up.example/2", "hello"))?.status(), 502);
    let detail = "the upstream closed without a response, over a connection that had been idle for 0.";
    relay.proxy.wait_for_stderr(detail, Duration::from_secs(5))?;
    assert!(relay.proxy.stderr().contains(" connection=pooled "), "{}", relay.proxy.stderr());
    let told = relay.proxy.command(&NetNs::here(), &["deliveries", "--json"])?;
    let told: Value = serde_json::from_str(&told)?;
    let connections = [0, 1].map(|n| told["deliveries"][n]["connection"].clone());
    assert_eq!(connections, [json!("new"), json!("pooled")]);
    let text = relay.proxy.command(&NetNs::here(), &["deliveries", "--failed"])?;
    assert!(text.contains("connection_terminated at response (pooled connection)"), "{text}");
    Ok(())
}

#[test]
fn following_gives_one_object_a_line_as_they_come() -> Result<()> {
    let testbed = Testbed::start()?;
    testbed.send("157.240.1.9", &post("/up.example/1", "hello"))?;
    wait_until("the delivery is listed", Duration::from_secs(5), || Ok(equal(testbed.told(&[])?.len(), 1)))?;
    let mut command = Command::new(binary()?);
    command.args(["deliveries", "--follow", "--json", "--config"]).arg(testbed.relay.proxy.config());
    let mut following = command.stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(following.stdout.take().context("no output")?).lines();
    let mut next = || -> Result<Value> { Ok(serde_json::from_str(&lines.next().context("it ended")??)?) };
    let outcome = (|| -> Result<()> {
        assert_eq!(next()?["path"], "/up.example/1");
        testbed.send("157.240.1.9", &post("/up.example/2", "hello"))?;
        assert_eq!(next()?["path"], "/up.example/2");
        Ok(())
    })();
    following.kill()?;
    following.wait()?;
    outcome
}

#[test]
fn without_a_proxy_it_fails() -> Result<()> {
    let mut testbed = Testbed::start()?;
    testbed.relay.proxy.stop()?;
    let mut command = Command::new(binary()?);
    command.args(["deliveries", "--config"]).arg(testbed.relay.proxy.config());
    let output = command.output()?;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no proxy answers"), "{output:?}");
    Ok(())
}

#[test]
fn how_far_a_body_got_is_told() -> Result<()> {
    const LONG: usize = 16 << 20;
    // Reads a part of a long body and then no more, as long as the connection is there.
    let origin = Origin::plain(|connection| {
        if connection.head()?.contains(&format!("Content-Length: {LONG}")) {
            connection.bytes(LONG / 16)?;
            pace(Duration::from_secs(5));
            return Ok(End::Reset);
        }
        connection.bytes("hello".len())?;
        connection.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")?;
        Ok(End::Close)
    })?;
    let relay = Relay::before(&origin)?;
    let send = |request: &[u8]| -> Result<u16> { Ok(relay.client()?.ask(request)?.status()) };
    assert_eq!(send(post("/up.example/", "hello").as_bytes())?, 200);
    let head = request("POST /up.example/", &[&format!("Content-Length: {LONG}")], "");
    // Over TLS a client that is still sending when it is answered does not get to read that.
    send(&[head.as_bytes(), &vec![b'x'; LONG]].concat()).ok();
    // A client that stops: what it sent has arrived.
    let head = request("POST /up.example/", &[&format!("Content-Length: {LONG}")], "hello");
    assert_eq!(send(head.as_bytes())?, 408);
    let told = || -> Result<Vec<Value>> {
        Ok(serde_json::from_slice(&ask_admin(relay.admin, "/deliveries.json?after=0")?.body)?)
    };
    // A request is told when it has ended, a moment after its answer.
    wait_until("three deliveries are listed", Duration::from_secs(5), || Ok(equal(told()?.len(), 3)))?;
    assert_eq!(send(post("/nobody.example/", "hello").as_bytes())?, 403);
    wait_until("four deliveries are listed", Duration::from_secs(5), || Ok(equal(told()?.len(), 4)))?;
    let told = told()?;
    assert_eq!((&told[1]["code"], &told[1]["error"]), (&504.into(), &"http_response_timeout".into()));
    let lengths: Vec<_> = told.iter().map(|one| one["body_bytes"].as_u64()).collect();
    assert_eq!(lengths, [Some(5), Some(LONG as u64), Some(LONG as u64), Some(5)]);
    let sent: Vec<_> = told.iter().filter_map(|one| one["body_sent_bytes"].as_u64()).collect();
    assert_eq!((sent[0], sent[2], sent[3]), (5, 5, 0));
    // TLS records that are on their way hide some of what has arrived.
    assert!((LONG as u64 / 32..LONG as u64).contains(&sent[1]), "{sent:?}");
    let log = relay.proxy.stderr();
    for sent in &sent[1..3] {
        assert!(log.contains(&format!(" sent=\"{sent} of {LONG} bytes of the body\"\n")), "{log}");
    }
    assert_eq!(log.matches("bytes of the body").count(), 2, "{log}");
    Ok(())
}
