//! The admin listener: what it shows, to which peers, and that nothing secret is written anywhere.

use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{
    Certs, Client, End, Metrics, NetNs, Sample, TempDir, VERIFY_TOKEN, ask_admin, free_port, wait_until,
};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{OK, Origin, Relay, TIMEOUTS, get, local, post, request};

const MAX_WAIT: Duration = Duration::from_secs(5);

/// Every kind of outcome that an upstream can have.
fn outcomes() -> Result<(Relay, [Origin; 3])> {
    let up = Origin::plain(|connection| {
        while let Some(asked) = connection.request()? {
            let status = asked.start.split(['/', ' ']).nth(2).unwrap_or_default().to_owned();
            let status = if status.len() == 3 { status } else { "200".into() };
            let rest = if status == "204" { "\r\n" } else { "Content-Length: 2\r\n\r\nok" };
            connection.send(format!("HTTP/1.1 {status} X\r\n{rest}"))?;
        }
        Ok(End::Close)
    })?;
    let cut = Origin::plain(|connection| {
        connection.request()?;
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")?;
        Ok(End::Close)
    })?;
    let silent = Origin::plain(|connection| {
        while connection.wire().read()? > 0 {}
        Ok(End::Close)
    })?;
    let closed = local(free_port()?);
    let upstreams: String = [
        ("up.example", up.address()),
        ("cut.example", cut.address()),
        ("silent.example", silent.address()),
        ("down.example", closed),
        ("unused.example", closed),
    ]
    .iter()
    .map(|(name, address)| format!("\"{name}\" = {{ address = \"{address}\", tls = false }}\n"))
    .collect();
    let relay = Relay::start(&format!("[upstreams]\n{upstreams}"))?;
    Ok((relay, [up, cut, silent]))
}

type Rows<'a> = BTreeMap<&'a str, f64>;

#[test]
fn what_was_sent_is_what_is_counted_row_by_row() -> Result<()> {
    let (relay, _origins) = outcomes()?;
    let fresh = relay.metrics()?;
    assert!(fresh.family("hookgate_requests_total").is_empty(), "series appear at first use: {fresh:?}");
    for (target, times, status) in [
        ("/up.example/", 5, 200),
        ("/up.example/204", 1, 204),
        ("/up.example/500", 2, 500),
        ("/down.example/", 3, 502),
        ("/silent.example/", 1, 504),
        ("/other.example/", 4, 403),
        ("/", 2, 404),
    ] {
        let mut client = relay.client()?;
        for _ in 0..times {
            assert_eq!(client.ask(get(target))?.status(), status, "{target}");
        }
    }
    assert_eq!(relay.client()?.ask(post("/up.example/", "hello"))?.status(), 200);
    assert_eq!(relay.client()?.ask("TRACE / HTTP/1.1\r\nHost: p\r\n\r\n")?.status(), 405);
    assert_eq!(relay.client()?.ask("nonsense\r\n\r\n")?.status(), 400);
    assert!(!relay.client()?.ask(get("/cut.example/"))?.whole);
    // Gone in the middle of its body.
    let mut gone = relay.client()?;
    gone.wire().send(request("POST /up.example/", &["Content-Length: 9"], "half"))?;
    gone.wire().finish()?;
    gone.wire().closed()?;
    relay.wait_for("hookgate_requests_total{upstream=\"up.example\",code=\"other\"}", 1.0)?;

    let metrics = relay.metrics()?;
    let expected: Rows<'_> = [
        ("{upstream=\"\",code=\"404\"}", 2.0),
        ("{upstream=\"\",code=\"403\"}", 4.0),
        ("{upstream=\"\",code=\"405\"}", 1.0),
        ("{upstream=\"\",code=\"400\"}", 1.0),
        ("{upstream=\"up.example\",code=\"200\"}", 6.0),
        ("{upstream=\"up.example\",code=\"204\"}", 1.0),
        ("{upstream=\"up.example\",code=\"500\"}", 2.0),
        ("{upstream=\"up.example\",code=\"other\"}", 1.0),
        ("{upstream=\"down.example\",code=\"502\"}", 3.0),
        ("{upstream=\"silent.example\",code=\"504\"}", 1.0),
        ("{upstream=\"cut.example\",code=\"other\"}", 1.0),
    ]
    .into();
    assert_eq!(metrics.family("hookgate_requests_total"), expected);
    let expected: Rows<'_> = [
        ("{upstream=\"down.example\",reason=\"connection_refused\"}", 3.0),
        ("{upstream=\"silent.example\",reason=\"http_response_timeout\"}", 1.0),
        ("{upstream=\"cut.example\",reason=\"http_response_incomplete\"}", 1.0),
    ]
    .into();
    assert_eq!(metrics.family("hookgate_upstream_errors_total"), expected);
    let expected: Rows<'_> = [
        ("{reason=\"destination_not_found\"}", 2.0),
        ("{reason=\"http_request_denied\"}", 4.0),
        ("{reason=\"http_request_error\"}", 2.0),
    ]
    .into();
    assert_eq!(metrics.family("hookgate_refused_total"), expected);
    let expected: Rows<'_> = [
        ("{upstream=\"\"}", 8.0),
        ("{upstream=\"up.example\"}", 10.0),
        ("{upstream=\"down.example\"}", 3.0),
        ("{upstream=\"silent.example\"}", 1.0),
        ("{upstream=\"cut.example\"}", 1.0),
    ]
    .into();
    assert_eq!(metrics.family("hookgate_request_duration_seconds_count"), expected);
    // Where the time went: nearly all are quick, and one took a second.
    let at_most = |seconds: &str| {
        metrics.value(&format!(
            "hookgate_request_duration_seconds_bucket{{upstream=\"silent.example\",le=\"{seconds}\"}}"
        ))
    };
    assert_eq!((at_most("0.5"), at_most("2.5")), (0.0, 1.0));
    let sum = metrics.value("hookgate_request_duration_seconds_sum{upstream=\"silent.example\"}");
    assert!((1.0..1.5).contains(&sum), "{sum}");
    // Requests: hello and half; responses: 8 times ok (204 has none), half.
    let expected: Rows<'_> = [("{path=\"copy\"}", 5.0 + 4.0 + 8.0 * 2.0 + 4.0)].into();
    assert_eq!(metrics.family("hookgate_body_bytes_total"), expected);
    let in_flight = metrics.family("hookgate_in_flight");
    assert!(in_flight.len() == 4 && in_flight.values().all(|count| *count == 0.0), "{in_flight:?}");
    assert_eq!(metrics.family("hookgate_build_info").len(), 1);
    assert_eq!(metrics.families().get("hookgate_connections").map(String::as_str), Some("gauge"));
    Ok(())
}

#[test]
fn health_and_readiness() -> Result<()> {
    let (mut relay, [_, _, silent]) = outcomes()?;
    for (path, status, body) in
        [("/health", 200, "serving\n"), ("/ready", 200, "ready\n"), ("/ready?x", 200, "ready\n")]
    {
        let page = ask_admin(relay.admin, path)?;
        assert_eq!((page.status(), String::from_utf8(page.body)?), (status, body.to_owned()), "{path}");
    }
    for (request, status) in [
        (asking("/", relay.admin), 200),
        (asking("/up.example/", relay.admin), 404),
        (asking("/metrics/", relay.admin), 404),
        (request("POST /metrics", &["Content-Length: 0"], ""), 405),
        ("nonsense\r\n\r\n".to_owned(), 400),
        (get(&format!("/{}", "x".repeat(20_000))), 400),
    ] {
        assert_eq!(Client::plain(relay.admin)?.ask(&request)?.status(), status, "{request:.40}");
    }
    // RFC 9110 §9.3.2: what GET would say of itself, and nothing more.
    for path in ["/health", "/status.json?upstream=nobody", "/nowhere"] {
        let got = ask_admin(relay.admin, path)?;
        let mut client = Client::plain(relay.admin)?;
        client.wire().send(asking(path, relay.admin).replace("GET", "HEAD"))?;
        let head = std::io::read_to_string(client.into_wire().into_stream())?;
        assert!(head.starts_with(&format!("HTTP/1.1 {} ", got.status())), "{head}");
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", got.body.len())), "{head}");
        assert!(!got.body.is_empty() && head.ends_with("\r\n\r\n"), "{head}");
    }
    let refused = Client::plain(relay.admin)?.ask(request("PUT /health", &["Content-Length: 0"], ""))?;
    assert_eq!(refused.field("Allow"), Some("GET, HEAD"));
    let mut busy = relay.client()?;
    busy.wire().send(get("/silent.example/"))?;
    wait_until("the request is sent", MAX_WAIT, || Ok(!silent.heard().concat().is_empty()))?;
    relay.proxy.signal(Signal::TERM)?;
    let draining = || Ok(ask_admin(relay.admin, "/ready")?.status() == 503);
    wait_until("/ready is 503", Duration::from_millis(500), draining)?;
    assert_eq!(ask_admin(relay.admin, "/ready")?.body, b"draining\n");
    assert_eq!(ask_admin(relay.admin, "/health")?.status(), 200);
    assert_eq!(Metrics::read(relay.admin)?.value("hookgate_in_flight{upstream=\"silent.example\"}"), 1.0);
    assert_eq!(busy.response()?.status(), 504);
    drop(busy);
    wait_until("the proxy ends", MAX_WAIT, || Ok(relay.proxy.ended()?.is_some())).map(drop)
}

fn asking(path: &str, host: impl std::fmt::Display) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

#[test]
fn a_foreign_page_reads_nothing_whatever_address_its_name_leads_to() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let relay = Relay::listening(
        "",
        &format!("hosts = [\"Edge.internal\"]\n{TIMEOUTS}{}", crate::upstream(origin.address(), "")),
    )?;
    let ask = |request: String| Client::plain(relay.admin)?.ask(request);
    for path in ["/", "/status", "/metrics", "/status.json", "/stats.json", "/deliveries.json", "/elsewhere"]
    {
        let answer = ask(asking(path, "rebound.example:9432"))?;
        let text = String::from_utf8(answer.body.clone())?;
        assert_eq!((answer.status(), text.contains("[admin]")), (421, true), "{path}: {text}");
        for host in
            [relay.admin.to_string(), "localhost:9432".into(), "edge.internal".into(), "[::1]:9432".into()]
        {
            let status = ask(asking(path, &host))?.status();
            assert_eq!(status, if path == "/elsewhere" { 404 } else { 200 }, "{path} {host}");
        }
    }
    for path in ["/health", "/ready"] {
        assert_eq!(ask(asking(path, "whatever.example"))?.status(), 200, "{path}");
    }
    // A program that names no host, as HAProxy's checks do.
    assert_eq!(ask("GET /status.json HTTP/1.0\r\n\r\n".into())?.status(), 200);
    Ok(())
}

#[test]
fn the_status_says_what_became_of_what_was_sent() -> Result<()> {
    let (relay, _origins) = outcomes()?;
    let status = |query: &str| -> Result<(u16, Value)> {
        let page = ask_admin(relay.admin, &format!("/status.json{query}"))?;
        assert_eq!(page.field("X-Content-Type-Options"), Some("nosniff"));
        let body = String::from_utf8(page.body.clone())?;
        Ok((page.status(), serde_json::from_str(&body).unwrap_or(Value::String(body))))
    };
    let (_, fresh) = status("")?;
    assert_eq!(
        (&fresh["version"], &fresh["ready"], &fresh["reasons"]),
        (&json!(1), &json!(true), &json!([]))
    );
    assert_eq!((&fresh["upstreams"]["configured"], &fresh["upstreams"]["used"]), (&json!(5), &json!(0)));
    assert_eq!((&fresh["failures"], &fresh["dns"], &fresh["acme"]), (&json!([]), &Value::Null, &Value::Null));
    let plain = json!({ "address": relay.address.to_string(), "protocol": "plain http" });
    assert!(fresh["listeners"].as_array().is_some_and(|all| all.contains(&plain)), "{fresh}");
    assert_eq!(fresh["configuration"]["file"], json!(relay.proxy.config()));
    assert_eq!(fresh["configuration"]["reload"], Value::Null);
    let token = format!("/up.example/500/?hub.verify_token={VERIFY_TOKEN}");
    for (target, times) in [("/up.example/", 5), ("/down.example/", 3), (&token, 1), ("/other.example/", 2)] {
        for _ in 0..times {
            relay.client()?.ask(post(target, BODY))?;
        }
    }
    relay.wait_for("hookgate_refused_total{reason=\"http_request_denied\"}", 2.0)?;
    relay.wait_for("hookgate_prefix_requests_total{prefix=\"other\"}", 11.0)?;
    let told = || Ok(status("")?.1["failures"].as_array().map(Vec::len) == Some(6));
    wait_until("the failures are listed", MAX_WAIT, told).with_context(|| format!("{:?}", status("")))?;
    let (_, now) = status("")?;
    let other = &now["funnel"]["other"];
    let counts = ["requests", "delivered", "refused", "failed"].map(|count| other[count].clone());
    assert_eq!(counts, [11, 5, 2, 4].map(|count| json!(count)));
    assert_eq!(now["refused"], json!({ "http_request_denied": 2 }));
    let upstreams = &now["upstreams"];
    assert_eq!((&upstreams["used"], &upstreams["unlisted"]), (&json!(2), &json!(0)));
    let row = |name: &str| {
        upstreams["list"].as_array().and_then(|all| all.iter().find(|row| row["upstream"] == name))
    };
    let up = row("up.example").context("not listed")?;
    assert_eq!((&up["codes"], &up["delivered"]), (&json!({ "200": 5, "500": 1 }), &json!(5)));
    assert_eq!((&up["latest_failure"]["code"], &up["latest_failure"]["error"]), (&json!(500), &Value::Null));
    assert!(up["p50_seconds"].as_f64().is_some_and(|p50| p50 > 0.0 && p50 < 1.0), "{up}");
    let down = row("down.example").context("not listed")?;
    assert_eq!((&down["errors"], &down["delivered"]), (&json!({ "connection_refused": 3 }), &json!(0)));
    assert_eq!(
        now["failures"][5]["error"], "connection_refused",
        "the oldest is the last: {}",
        now["failures"]
    );

    let (code, only) = status("?upstream=down.example")?;
    assert_eq!((code, only["upstreams"]["list"].as_array().map(Vec::len)), (200, Some(1)));
    assert_eq!(only["failures"].as_array().map(Vec::len), Some(3));
    assert_eq!(status("?upstream=other.example")?.0, 404);
    let text = now.to_string() + &only.to_string();
    assert!(
        !text.contains(VERIFY_TOKEN) && !text.contains(BODY) && text.contains("verify_token=***"),
        "{text}"
    );

    relay.proxy.signal(Signal::HUP)?;
    let reloaded = || Ok(status("")?.1["configuration"]["reload"]["done"] == json!(true));
    wait_until("the reload is shown", MAX_WAIT, reloaded).with_context(|| format!("{:?}", status("")))?;
    std::fs::write(relay.proxy.config(), "nonsense")?;
    relay.proxy.signal(Signal::HUP)?;
    let refused = || Ok(status("")?.1["configuration"]["reload"]["done"] == json!(false));
    wait_until("it is refused", MAX_WAIT, refused).map(drop).with_context(|| format!("{:?}", status("")))
}

#[test]
fn an_expired_certificate_is_not_ready() -> Result<()> {
    let dir = TempDir::new("expired")?;
    let certs = harness::Ca::new("an authority")?.issue_until(&["proxy.example.com"], 2020)?;
    let [_, cert, key] = certs.write(&dir, "edge")?;
    let relay = Relay::listening(
        &format!("https = [\"{}\"]", local(free_port()?)),
        &format!("{TIMEOUTS}[tls]\ncert = {cert:?}\nkey = {key:?}\n"),
    )?;
    let page = ask_admin(relay.admin, "/ready")?;
    assert_eq!((page.status(), &page.body[..]), (503, &b"a certificate has expired\n"[..]));
    assert_eq!(ask_admin(relay.admin, "/health")?.status(), 200);
    let refused = relay.proxy.command(&NetNs::here(), &["health"]).err().context("it is healthy")?;
    assert!(format!("{refused:#}").contains("not ready: a certificate has expired"), "{refused:#}");
    Ok(())
}

#[test]
fn silent_connections_keep_no_load_balancer_waiting() -> Result<()> {
    let relay = Relay::start("[upstreams]\n")?;
    let admin = relay.admin;
    let ask = |path: &str| -> Result<Duration> {
        let begun = Instant::now();
        let response = ask_admin(admin, path)?;
        ensure!(response.status() == 200, "{response:?}");
        Ok(begun.elapsed())
    };
    for silent in [16, 200] {
        let _silent = (0..silent).map(|_| TcpStream::connect(admin)).collect::<Result<Vec<_>, _>>()?;
        for path in ["/health", "/ready", "/metrics"] {
            let took = ask(path)?;
            assert!(took < Duration::from_secs(2), "{path} beside {silent}: {took:?}");
        }
    }

    // The same while all of them are replaced as fast as they are closed.
    let stop = Arc::new(AtomicBool::new(false));
    let is_over = Arc::clone(&stop);
    let renewing = thread::spawn(move || {
        let mut silent = VecDeque::new();
        while !is_over.load(Ordering::SeqCst) {
            silent.extend(TcpStream::connect(admin));
            if silent.len() > 200 {
                silent.pop_front();
            }
        }
    });
    let took = (0..20).map(|_| ask("/health")).collect::<Result<Vec<_>>>();
    stop.store(true, Ordering::SeqCst);
    renewing.join().expect("a thread that renews connections");
    let slowest = took?.into_iter().max().unwrap_or_default();
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    Ok(())
}

#[test]
fn nothing_of_it_is_reachable_through_the_public_listeners() -> Result<()> {
    let dir = TempDir::new("public")?;
    let certs = Certs::new(&["proxy.example.com"])?;
    let [_, cert, key] = certs.write(&dir, "edge")?;
    let [http, https] = [local(free_port()?), local(free_port()?)];
    let relay = Relay::listening(
        &format!("http = [\"{http}\"]\nhttps = [\"{https}\"]"),
        &format!("{TIMEOUTS}[tls]\ncert = {cert:?}\nkey = {key:?}\n"),
    )?;
    for path in [
        "/metrics",
        "/health",
        "/ready",
        "/status",
        "/status.json",
        "/status.json?upstream=up.example",
        "/metrics/",
        "/127.0.0.1/metrics",
        "/localhost/metrics",
    ] {
        for host in ["proxy.example.com".to_owned(), relay.admin.to_string()] {
            let asking = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let clients: [(&str, Client); 3] = [
                ("plain", relay.client()?),
                ("https", Client::tls(https, &certs, "proxy.example.com")?),
                ("http", Client::plain(http)?),
            ];
            for (what, mut client) in clients {
                let answer = client.ask(&asking)?;
                let status = answer.status();
                assert!(matches!(status, 301 | 403 | 404), "{what} {path} {host}: {status}");
                let body = String::from_utf8(answer.body)?;
                assert!(!body.contains("hookgate_") && !body.contains("serving"), "{what} {path}: {body}");
            }
        }
    }
    Ok(())
}

#[test]
fn the_log_in_json_is_an_object_a_line_and_access_false_writes_none() -> Result<()> {
    for (format, access) in [("json", true), ("json", false), ("text", false)] {
        let origin = Origin::answering(OK)?;
        let relay = Relay::start(&format!(
            "[log]\nformat = \"{format}\"\naccess = {access}\n{}",
            crate::upstream(origin.address(), "")
        ))?;
        let mut client = relay.client()?;
        // Whatever a client writes stays within its line and its string.
        let odd = request("GET /up.example/a\"b\\c", &["X-Request-Id: mine\\"], "");
        for asked in [get("/up.example/x"), odd, get("/"), "nonsense\r\n\r\n".to_owned()] {
            client.ask(asked)?;
        }
        relay.wait_for("hookgate_request_duration_seconds_count{upstream=\"\"}", 2.0)?;
        let count = |log: &str| log.lines().filter(|line| line.contains("GET")).count();
        if !access {
            assert_eq!(count(&relay.proxy.stderr()), 0, "{}", relay.proxy.stderr());
            continue;
        }
        wait_until("three lines are written", MAX_WAIT, || Ok(count(&relay.proxy.stderr()) == 3))?;
        let log = relay.proxy.stderr();
        let lines = log.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>();
        let lines = lines.with_context(|| log.clone())?;
        let of = |path: &str| {
            lines.iter().find(|line| line["path"] == path).with_context(|| format!("{path}: {log}"))
        };
        let line = of("/up.example/x")?;
        for (key, value) in [("method", "GET"), ("upstream", "up.example"), ("source", "127.0.0.1")] {
            assert_eq!(line[key], value, "{line}");
        }
        assert_eq!((&line["code"], &line["upstream_code"]), (&200.into(), &200.into()), "{line}");
        assert!(line["duration_seconds"].is_number(), "{line}");
        assert_eq!(of("/up.example/a\"b\\c")?["id"], "mine\\", "{log}");
        assert_eq!(of("/")?["error"], "destination_not_found", "{log}");
    }
    Ok(())
}

/// What must never be written anywhere, beside the sample's token.
const BODY: &str = "c0ffee-the-message";
const SIGNATURE: &str = "sha256=5ec4e7";

#[test]
fn nothing_secret_is_written() -> Result<()> {
    for format in ["text", "json"] {
        let dir = TempDir::new("secret")?;
        let certs = Certs::new(&["proxy.example.com"])?;
        let [_, cert, key] = certs.write(&dir, "edge")?;
        let http = local(free_port()?);
        let (up, down) = (Origin::answering(OK)?, local(free_port()?));
        let upstreams = [("up.example", up.address()), ("down.example", down)]
            .map(|(name, address)| format!("\"{name}\" = {{ address = \"{address}\", tls = false }}\n"));
        let relay = Relay::listening(
            &format!("http = [\"{http}\"]\nhttps = [\"{}\"]", local(free_port()?)),
            &format!(
                "{TIMEOUTS}[tls]\ncert = {cert:?}\nkey = {key:?}\n[log]\nformat = \"{format}\"\n[upstreams]\n{}",
                upstreams.concat()
            ),
        )?;
        let verify: Vec<String> = Sample::all()?
            .into_iter()
            .filter(|sample| sample.method == "GET")
            .map(|sample| {
                sample.target.split_once('?').map(|(_, query)| query.to_owned()).unwrap_or_default()
            })
            .chain([
                format!("hub%2Everify%5Ftoken={VERIFY_TOKEN}"),
                format!("HUB.VERIFY_TOKEN={VERIFY_TOKEN}"),
            ])
            .collect();
        assert!(verify.len() > 4 && verify.iter().all(|query| query.contains(VERIFY_TOKEN)), "{verify:?}");
        let signed = [&format!("X-Hub-Signature-256: {SIGNATURE}")[..], "Content-Length: 18"];
        let mut sent = 0;
        let mut send = |to: SocketAddr, request: &str| -> Result<()> {
            Client::plain(to)?.ask(request).with_context(|| request.to_owned())?;
            sent += usize::from(to != http);
            Ok(())
        };
        for query in &verify {
            // Whatever becomes of it: forwarded, in vain, refused, no upstream at all, not HTTP, on
            // the wrong listener.
            for target in ["/up.example/hook", "/down.example/hook", "/other.example/hook", "/hook", "/"] {
                send(relay.address, &get(&format!("{target}?{query}")))?;
            }
            send(relay.address, &format!("GET /up.example/hook?{query} HTTP/1.1\r\n\r\n"))?;
            send(relay.address, &format!("GET /up.example/hook?{query} HTTP/3.0\r\nHost: p\r\n\r\n"))?;
            send(relay.address, &format!("TRACE /up.example/hook?{query} HTTP/1.1\r\nHost: p\r\n\r\n"))?;
            send(http, &get(&format!("/up.example/hook?{query}")))?;
        }
        for target in ["/up.example/hook", "/down.example/hook", "/other.example/hook", "/hook"] {
            send(relay.address, &request(&format!("POST {target}"), &signed, BODY))?;
        }
        send(relay.address, &format!("{BODY}: {SIGNATURE}\r\n\r\n"))?;
        let mark = if format == "json" { "\"id\":" } else { " id=" };
        let written = || Ok(relay.proxy.stderr().matches(mark).count() == sent);
        wait_until("each request is logged", MAX_WAIT, written).with_context(|| relay.proxy.stderr())?;
        let metrics = String::from_utf8(ask_admin(relay.admin, "/metrics")?.body)?;
        for (what, text) in [("log", relay.proxy.stderr()), ("metrics", metrics)] {
            for secret in [VERIFY_TOKEN, BODY, &SIGNATURE[7..]] {
                let line = text.lines().find(|line| line.contains(secret));
                assert_eq!(line, None, "{secret} in the {what}");
            }
        }
        assert!(relay.proxy.stderr().contains("verify_token=***"), "the log says that there was one");
        let forwarded = String::from_utf8(up.heard().concat())?;
        assert!(
            forwarded.contains(VERIFY_TOKEN) && forwarded.contains(SIGNATURE) && forwarded.contains(BODY)
        );
    }
    Ok(())
}
