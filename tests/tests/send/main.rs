//! `hookgate send`, towards receivers of every kind, alone and through hookgate.

mod updates;
mod verification;

use std::net::SocketAddr;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::{
    APP_SECRET, Certs, Conversation, End, Origin, Proxy, Receiver, Sample, TempDir, VERIFY_TOKEN, free_port,
    pace,
};
use serde_json::Value;

/// What `hookgate send` said, and its exit code.
struct Sent {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Sent {
    fn new(args: &[&str]) -> Result<Self> {
        let output: Output = Command::new(harness::binary()?).arg("send").args(args).output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) })
    }

    fn document(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("{}{}", self.stdout, self.stderr))
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn serve(connection: &mut Conversation) -> std::io::Result<End> {
    while connection.request()?.is_some() {
        connection.send(OK)?;
    }
    Ok(End::Close)
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}/up.example/hook")
}

#[test]
fn through_hookgate_to_a_receiver() -> Result<()> {
    let dir = TempDir::new("send")?;
    let (edge, behind) = (Certs::new(&["proxy.example.com"])?, Certs::new(&["chatwoot.example.com"])?);
    let ([edge_ca, cert, key], [ca, ..]) = (edge.write(&dir, "edge")?, behind.write(&dir, "behind")?);
    let receiver = Receiver::start(&behind)?;
    let listen = format!("127.0.0.1:{}", free_port()?);
    let _proxy = Proxy::start(&format!(
        "[listen]\nhttps = [\"{listen}\"]\n[tls]\ncert = {cert:?}\nkey = {key:?}\n[upstreams]\n\
         \"chatwoot.example.com\" = {{ address = \"{}\", ca = {ca:?} }}\n",
        receiver.address()
    ))?;
    let callback = "https://proxy.example.com/chatwoot.example.com/webhooks/whatsapp/%2B5511999999999";
    let edge_ca = edge_ca.to_string_lossy();
    let towards = ["--connect", &listen, "--ca", &edge_ca];
    let send = |more: &[&str]| Sent::new(&[&[callback], &towards[..], more].concat());

    let fine = send(&["--verify-token", VERIFY_TOKEN, "--secret", APP_SECRET, "--count", "3"])?;
    assert_eq!(fine.code, Some(0), "{}{}", fine.stdout, fine.stderr);
    let lines: Vec<&str> = fine.stdout.lines().collect();
    assert!(
        lines[0].starts_with("verification  200 ") && lines[0].ends_with("the challenge came back"),
        "{lines:?}"
    );
    assert!(lines[3].starts_with("delivery 3    200 "), "{lines:?}");
    assert!(lines[4].starts_with("3 of 3 delivered in "), "{lines:?}");
    let received = receiver.received();
    assert_eq!(received.len(), 4);
    assert!(
        received[0]
            .target
            .starts_with("/webhooks/whatsapp/%2B5511999999999?hub.mode=subscribe&hub.challenge=")
    );
    for delivery in &received[1..] {
        assert_eq!(delivery.field("User-Agent"), Some("facebookexternalua"));
        assert!(delivery.is_signed() && delivery.field("X-Hub-Signature").is_some(), "{delivery:?}");
    }

    let refused = send(&["--verify-token", "wrong", "--json"])?;
    assert_eq!(refused.code, Some(1));
    let document = refused.document()?;
    assert_eq!(document["verification"]["status"], 403);
    assert_eq!(document["verification"]["challenge_returned"], false);
    assert_eq!((&document["deliveries"][0]["status"], &document["version"]), (&200.into(), &1.into()));

    let without = send(&[])?;
    assert_eq!(without.code, Some(0), "{}", without.stdout);
    assert!(without.stdout.contains("does not count"), "{}", without.stdout);

    let sample = Sample::all()?.into_iter().find(|sample| sample.name == "post-wa-batch-1000-statuses");
    let sample = sample.context("the sample")?;
    let payload = sample.payload.as_ref().context("its body")?.to_string_lossy();
    let large = send(&["--payload", &payload, "--secret", APP_SECRET])?;
    assert_eq!(large.code, Some(0), "{}", large.stdout);
    let last = receiver.received().pop().context("nothing arrived")?;
    assert!(last.is_signed() && last.body == sample.body()?);

    let stranger = callback.replace("chatwoot.example.com", "other.example.com");
    let stranger = Sent::new(&[&[&*stranger], &towards[..]].concat())?;
    assert_eq!(stranger.code, Some(1));
    assert!(
        stranger.stdout.contains("403") && stranger.stdout.contains("hookgate; error=http_request_denied")
    );
    Ok(())
}

#[test]
fn the_certificate_is_verified_unless_insecure() -> Result<()> {
    let dir = TempDir::new("send")?;
    let certs = Certs::new(&["proxy.example.com"])?;
    let [ca, ..] = certs.write(&dir, "edge")?;
    let origin = Origin::tls(&certs, serve)?;
    let address = origin.address().to_string();
    let send = |host: &str, more: &[&str]| {
        let url = format!("https://{host}/up.example/hook");
        Sent::new(&[&[&*url, "--connect", &address], more].concat())
    };
    let unknown = send("proxy.example.com", &[])?;
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.stdout.contains("no authority that is trusted here has signed"), "{}", unknown.stdout);
    let other = send("other.example.com", &["--ca", &ca.to_string_lossy()])?;
    assert_eq!(other.code, Some(1));
    assert!(other.stdout.contains("TLS: the certificate is for another name"), "{}", other.stdout);
    let anyone = send("other.example.com", &["--insecure"])?;
    assert_eq!(anyone.code, Some(0), "{}", anyone.stdout);
    assert!(anyone.stderr.contains("WARNING: --insecure"), "{}", anyone.stderr);
    Ok(())
}

#[test]
fn nothing_but_200_is_delivered() -> Result<()> {
    for (answer, expected) in [
        ("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n", "201"),
        ("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", "302"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "closed in the middle of the answer"),
        ("SSH-2.0-OpenSSH\r\n\r\n", "not a valid HTTP answer"),
        ("", "closed without an answer"),
    ] {
        let origin = Origin::plain(move |connection| {
            connection.request()?;
            connection.send(answer)?;
            Ok(End::Close)
        })?;
        let sent = Sent::new(&[&url(origin.address())])?;
        assert_eq!(sent.code, Some(1), "{answer}");
        let delivery = sent.stdout.lines().nth(1).context("no line")?;
        assert!(delivery.contains(expected), "{answer}: {delivery}");
        assert!(sent.stdout.ends_with('\n') && sent.stdout.contains("0 of 1 delivered"), "{}", sent.stdout);
    }
    let silent = Origin::plain(|connection| {
        connection.request()?;
        pace(Duration::from_secs(5));
        Ok(End::Close)
    })?;
    let begun = Instant::now();
    let sent = Sent::new(&[&url(silent.address()), "--timeout", "1"])?;
    assert_eq!(sent.code, Some(1));
    assert!(sent.stdout.contains("no answer within 1 s"), "{}", sent.stdout);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());

    let address = format!("127.0.0.1:{}", free_port()?);
    for count in ["0", "1"] {
        let refused = Sent::new(&[&format!("http://{address}/a/b"), "--count", count])?;
        assert_eq!(refused.code, Some(1), "{}", refused.stdout);
        assert!(refused.stdout.contains("cannot connect: Connection refused"), "{}", refused.stdout);
        assert!(
            refused.stdout.contains(&format!("does anything listen at {address}?")),
            "{}",
            refused.stdout
        );
    }
    Ok(())
}

#[test]
fn an_answer_that_comes_before_the_body_is_read() -> Result<()> {
    let dir = TempDir::new("send")?;
    let payload = dir.write("large.json", vec![b' '; 8 << 20])?;
    let origin = Origin::plain(|connection| {
        connection.head()?;
        connection
            .send("HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")?;
        Ok(End::Close)
    })?;
    let sent = Sent::new(&[&url(origin.address()), "--payload", &payload.to_string_lossy()])?;
    assert!(sent.stdout.contains("delivery 1    413"), "{}", sent.stdout);
    Ok(())
}

#[test]
fn connections_are_kept_and_those_that_were_closed_are_not_used() -> Result<()> {
    let kept = Origin::plain(serve)?;
    let sent = Sent::new(&[&url(kept.address()), "--count", "20"])?;
    assert_eq!((sent.code, kept.connections()), (Some(0), 1), "{}", sent.stdout);
    let closing = Origin::plain(|connection| {
        connection.request()?;
        connection.send(OK)?;
        Ok(End::Close)
    })?;
    let sent = Sent::new(&[&url(closing.address()), "--count", "5", "--rate", "20"])?;
    assert_eq!((sent.code, closing.connections()), (Some(0), 6), "{}", sent.stdout);
    Ok(())
}

#[test]
fn a_rate_is_kept_although_answers_are_slow() -> Result<()> {
    let slow = Origin::plain(|connection| {
        while connection.request()?.is_some() {
            pace(Duration::from_millis(500));
            connection.send(OK)?;
        }
        Ok(End::Close)
    })?;
    let sent = Sent::new(&[&url(slow.address()), "--count", "40", "--rate", "40", "--json"])?;
    assert_eq!(sent.code, Some(0), "{}", sent.stdout);
    let summary = &sent.document()?["summary"];
    let elapsed = summary["elapsed_seconds"].as_f64().context("no time")?;
    // One after the other they would take 20 s.
    assert!((1.4..10.0).contains(&elapsed), "{summary}");
    assert!(summary["p50_seconds"].as_f64().is_some_and(|p50| p50 >= 0.5), "{summary}");
    assert!((2..=64).contains(&slow.connections()), "{}", slow.connections());
    Ok(())
}

#[test]
fn usage_is_2() -> Result<()> {
    for args in [
        &[][..],
        &["proxy.example.com/a/b"],
        &["https://proxy.example.com/", "--rate", "0"],
        &["https://proxy.example.com/", "--rate", "5000"],
        &["https://proxy.example.com/", "--count", "-1"],
        &["https://proxy.example.com/", "--connect", "proxy"],
        &["https://proxy.example.com/", "--insecure", "--ca", "x"],
        &["https://proxy.example.com/", "--secret", ""],
        &["https://proxy.example.com/", "--verify-token", ""],
    ] {
        let sent = Sent::new(args)?;
        assert_eq!(sent.code, Some(2), "{args:?}: {}", sent.stderr);
    }
    for (payload, error) in [
        ("/nowhere", "cannot read /nowhere: No such file"),
        ("/", "cannot read /: Is a directory"),
        ("/dev/null", "/dev/null is empty: Meta always sends a body"),
        ("/dev/zero", "/dev/zero is larger than 64 MiB: Meta sends 3 MB at most"),
    ] {
        let sent = Sent::new(&["http://127.0.0.1:1/", "--payload", payload])?;
        assert_eq!((sent.code, sent.stderr.contains(error)), (Some(1), true), "{payload}: {}", sent.stderr);
    }
    Ok(())
}
