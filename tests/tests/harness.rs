//! The harness itself: its peers are real, and answer as the tests that lean on them assume.

use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use harness::{
    Certs, DnsServer, Need, NetNs, Nginx, Receiver, Running, Stopped, Tap, TempDir, VERIFY_TOKEN,
    ensure_stays, equal, is_there, require, run, wait_until, wait_until_still,
};
use rustix::process::Signal;

/// What the receiver answers, and its status.
fn curl(receiver: &Receiver, ca: &std::path::Path, path: &str, args: &[&str]) -> Result<String> {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--noproxy", "*", "--max-time", "10", "-w", " %{http_code}", "--cacert"])
        .arg(ca)
        .args(args);
    curl.arg(format!("https://localhost:{}{path}", receiver.address().port()));
    run(curl)
}

#[test]
fn the_receiver_answers_as_a_webhook_receiver() -> Result<()> {
    if !require(&[Need::Program("curl")]) {
        return Ok(());
    }
    let dir = TempDir::new("receiver")?;
    let certs = Certs::new(&["localhost"])?;
    let [ca, ..] = certs.write(&dir, "receiver")?;
    let receiver = Receiver::start(&certs)?;

    let verify =
        |token| format!("/webhooks?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token={token}");
    assert_eq!(curl(&receiver, &ca, &verify(VERIFY_TOKEN), &[])?, "1158201444 200");
    assert_eq!(curl(&receiver, &ca, &verify("wrong"), &[])?, "wrong verify token\n 403");

    let payload = concat!(env!("CARGO_MANIFEST_DIR"), "/data/payloads/wa-text.json");
    let head = include_str!("../data/requests/post-wa-text.http");
    let signature = head.lines().find(|line| line.starts_with("X-Hub-Signature-256:")).unwrap();
    let body = format!("@{payload}");
    for framing in ["X-Framing: length", "Transfer-Encoding: chunked", "Expect: 100-continue"] {
        let args = ["-H", signature, "-H", framing, "--data-binary", &body];
        let answer = curl(&receiver, &ca, "/webhooks/whatsapp", &args)?;
        assert_eq!(
            answer, "received POST /webhooks/whatsapp: 501 bytes, 1 update, signature valid\n 200",
            "{framing}"
        );
    }
    let answer = curl(&receiver, &ca, "/a", &["-H", signature, "--data-binary", "changed"])?;
    assert_eq!(answer, "received POST /a: 7 bytes, signature NOT valid\n 200");

    let received = receiver.received();
    assert_eq!(received.len(), 6);
    assert_eq!(received[2].body, std::fs::read(payload)?);
    Ok(())
}

#[test]
fn a_scene_of_two_machines_counts_every_packet() -> Result<()> {
    let programs = ["curl", "nginx", "dnsmasq", "ip", "ethtool", "tcpdump", "nsenter"].map(Need::Program);
    if !require(&[&[Need::Root], &programs[..]].concat()) {
        return Ok(());
    }
    let (meta, edge) = (NetNs::new()?, NetNs::new()?);
    NetNs::link((&meta, "wan0"), (&edge, "wan0"))?;
    meta.address("wan0", "192.0.2.1/24")?;
    edge.address("wan0", "192.0.2.2/24")?;
    meta.address("wan0", "2001:db8::1/64")?;
    edge.address("wan0", "2001:db8::2/64")?;
    let dir = TempDir::new("testbed")?;
    let certs = Certs::new(&["chatwoot.example.com"])?;
    let [ca, ..] = certs.write(&dir, "nginx")?;
    let nginx = Nginx::start(&edge, "[::]:443".parse()?, &certs)?;
    let records =
        [("chatwoot.example.com", "192.0.2.2".parse()?), ("chatwoot.example.com", "2001:db8::2".parse()?)];
    let dns = DnsServer::start(&edge, "192.0.2.2:53".parse()?, &records)?;
    let tap = Tap::start(&meta, "wan0", 443)?;

    for (address, family) in [("192.0.2.2", "-4"), ("[2001:db8::2]", "-6")] {
        let mut curl = meta.command("curl");
        let resolve = format!("chatwoot.example.com:443:{address}");
        curl.args(["-sS", "--noproxy", "*", "--max-time", "10", family, "--resolve", &resolve, "--cacert"])
            .arg(&ca);
        curl.args([
            "-H",
            "X-Forwarded-For: 157.240.12.7",
            "-d",
            "hello",
            "https://chatwoot.example.com/webhooks",
        ]);
        assert_eq!(run(curl)?, "received by nginx\n");
    }

    let line = "chatwoot.example.com 157.240.12.7 \"POST /webhooks HTTP/1.1\" 5 -";
    wait_until("nginx logs both requests", Duration::from_secs(5), || Ok(equal(nginx.log()?, [line, line])))?;
    assert!(dns.log().contains("started"), "{}", dns.log());
    let sent = tap.finish()?;
    // SYN, ACK, hello, finished with the request, FIN: where TCP is slow to acknowledge there are
    // no more.
    let seen = sent.iter().map(|(ip, counts)| (ip.to_string(), counts.syns, counts.packets >= 5));
    let seen = seen.collect::<Vec<_>>();
    assert_eq!(seen, [("192.0.2.1".to_owned(), 1, true), ("2001:db8::1".to_owned(), 1, true)], "{sent:?}");
    Ok(())
}

#[test]
fn a_tap_counts_what_tcpdump_has_not_read_when_it_is_to_stop() -> Result<()> {
    if !require(&[Need::Root, Need::Program("ip"), Need::Program("tcpdump"), Need::Program("nsenter")]) {
        return Ok(());
    }
    let (meta, edge) = (NetNs::new()?, NetNs::new()?);
    NetNs::link((&meta, "wan0"), (&edge, "wan0"))?;
    meta.address("wan0", "192.0.2.1/24")?;
    edge.address("wan0", "192.0.2.2/24")?;
    let tap = Tap::start(&meta, "wan0", 443)?;
    let stopped = Stopped::new(tap.pid())?;
    let mut connect = meta.command("python3");
    connect.args(["-c", "import socket\nfor _ in range(9): socket.socket().connect_ex(('192.0.2.2', 443))"]);
    run(connect)?;
    let status = format!("/proc/{}/status", tap.pid());
    let finished = thread::spawn(move || tap.finish());
    wait_until("tcpdump has a signal to handle before it reads on", Duration::from_secs(5), || {
        let status = std::fs::read_to_string(&status)?;
        let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
        Ok(pending.is_some_and(|signals| signals.contains(|digit: char| ('1'..='f').contains(&digit))))
    })?;
    drop(stopped);
    let counts = finished.join().unwrap()?;
    assert_eq!(counts.values().map(|counts| counts.syns).collect::<Vec<_>>(), [9], "{counts:?}");
    Ok(())
}

#[test]
fn a_process_whose_first_thread_has_ended_is_there() {
    const SCRIPT: &str = "import ctypes, threading, time\n\
        threading.Thread(target=time.sleep, args=(60,)).start()\n\
        ctypes.CDLL(None).pthread_exit(None)";
    if !require(&[Need::Program("python3")]) {
        return;
    }
    let mut command = Command::new("python3");
    command.args(["-c", SCRIPT]);
    let mut process = Running::start(command).unwrap();
    let pid = process.pid();
    let first_has_ended = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Ok(stat.contains(") Z "))
    };
    wait_until("the first thread has ended", Duration::from_secs(10), first_has_ended).unwrap();
    assert!(is_there(pid));
    process.signal(Signal::KILL).unwrap();
    wait_until("the process ends", Duration::from_secs(10), || Ok(process.ended()?.is_some())).unwrap();
    assert!(!is_there(pid));
}

#[test]
fn a_wait_that_fails_has_its_name_and_what_was_seen_last() {
    let mut count = 0;
    let mut look = |limit| {
        count += 1;
        Ok((count < limit, count))
    };
    let never = wait_until("the count is negative", Duration::from_millis(20), || look(0)).unwrap_err();
    let broken = ensure_stays("the count is small", Duration::from_secs(60), || look(10)).unwrap_err();
    let (never, broken) = (never.to_string(), broken.to_string());
    assert!(never.starts_with("not within 20ms: the count is negative; last seen: "), "{never}");
    assert!(broken.ends_with(" of 60s: the count is small; seen: 10"), "{broken}");
}

#[test]
fn what_changes_is_not_at_rest() {
    let mut count = 0;
    let mut look = || {
        count = 5.min(count + 1);
        Ok(count)
    };
    let second = Duration::from_secs(1);
    assert_eq!(wait_until_still("the count", second / 50, 10 * second, &mut look).unwrap(), 5);
    let mut look = || {
        count += 1;
        Ok(count)
    };
    assert!(wait_until_still("the count", second, second / 50, &mut look).is_err());
}
