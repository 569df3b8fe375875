//! The log: a line for every request at Meta's rate, whatever its reader and strangers do.

use std::fs::File;
use std::io::{PipeReader, Read};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{
    Client, Origin, Running, TempDir, binary, equal, free_port, listens, pace, pace_until, wait_until,
};

use crate::{OK, Relay, TIMEOUTS, get, local, proxy_line, request};

const META: &str = "157.240.1.9";
const STRANGER: &str = "203.0.113.9";

/// `[upstreams]` with one that answers and one that is down.
fn upstreams(origin: &Origin) -> Result<String> {
    Ok(format!(
        "[upstreams]\n\"up.example\" = {{ address = \"{}\", tls = false }}\n\
         \"down.example\" = {{ address = \"{}\", tls = false }}\n",
        origin.address(),
        local(free_port()?)
    ))
}

/// A delivery to `host` with an id of its own.
fn delivery(host: &str, id: &str) -> String {
    let id = format!("X-Request-Id: {id}");
    request(&format!("POST /{host}/webhooks/whatsapp"), &["Content-Length: 5", &id], "hello")
}

/// A proxy whose standard error is a pipe that only the test reads.
struct Piped {
    running: Running,
    listen: SocketAddr,
    _dir: TempDir,
}

impl Piped {
    fn start(format: &str, upstreams: &str) -> Result<(Self, PipeReader)> {
        let (dir, listen) = (TempDir::new("log")?, local(free_port()?));
        let config = format!(
            "[listen]\nplain = [\"{listen}\"]\n{TIMEOUTS}[log]\nformat = \"{format}\"\n[insight]\nstate = \"insight\"\n{upstreams}"
        );
        let config = dir.write("hookgate.toml", config)?;
        let mut command = Command::new(binary()?);
        command.args(["run", "--config"]).arg(config);
        let (reader, writer) = std::io::pipe()?;
        let running = Running::start_logged(command, File::from(OwnedFd::from(writer)))?;
        let pid = running.pid();
        wait_until("the proxy listens", Duration::from_secs(10), || Ok(listens(pid, &[listen])))?;
        Ok((Self { running, listen, _dir: dir }, reader))
    }
}

/// Reads to the end, and rests for `pause` before each read.
fn read_all(mut reader: PipeReader, pause: Duration) -> JoinHandle<Result<String>> {
    thread::spawn(move || {
        let (mut text, mut bytes) = (Vec::new(), vec![0; 4 << 20]);
        loop {
            pace(pause);
            match reader.read(&mut bytes)? {
                0 => return Ok(String::from_utf8(text)?),
                count => text.extend_from_slice(&bytes[..count]),
            }
        }
    })
}

#[test]
fn no_line_is_lost_at_a_thousand_requests_a_second() -> Result<()> {
    const CLIENTS: usize = 4;
    const REQUESTS: usize = 1000;
    let origin = Origin::answering(OK)?;
    let (mut proxy, reader) = Piped::start("text", &upstreams(&origin)?)?;
    // On a busy machine the reader of a log waits for a processor.
    let text = read_all(reader, Duration::from_millis(700));
    let listen = proxy.listen;
    let clients = (0..CLIENTS).map(|client| {
        thread::spawn(move || -> Result<()> {
            let mut connection = Client::plain(listen)?;
            // Paced: the contract's 1,000 requests a second in all.
            let (begun, every) = (Instant::now(), Duration::from_millis(CLIENTS as u64));
            for number in 0..REQUESTS {
                let due = begun + every * number as u32;
                pace_until(due);
                let (host, code) = if number % 10 == 0 { ("down.example", 502) } else { ("up.example", 200) };
                let response = connection.ask(delivery(host, &format!("id-{client}-{number}-")))?;
                ensure!(response.status() == code, "{response:?}");
            }
            Ok(())
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.join().expect("a client's thread")?;
    }
    proxy.running.stop()?;
    drop(proxy);
    let text = text.join().expect("the reader's thread")?;
    let count = |part: &str| text.matches(part).count();
    assert_eq!(count("lines of the log were lost"), 0, "{} lines", count(" id=id-"));
    assert_eq!(count(" id=id-"), CLIENTS * REQUESTS);
    assert_eq!(count("error=connection_refused"), CLIENTS * REQUESTS / 10);
    Ok(())
}

#[test]
fn a_reader_that_stops_costs_lines_and_no_request() -> Result<()> {
    const REQUESTS: usize = 4000;
    for format in ["text", "json"] {
        let origin = Origin::answering(OK)?;
        let (mut proxy, reader) = Piped::start(format, &upstreams(&origin)?)?;
        let mut client = Client::plain(proxy.listen)?;
        // More than the pipe has room for.
        let path = format!("/up.example/{}", "a".repeat(450));
        let begun = Instant::now();
        for number in 0..REQUESTS {
            assert_eq!(client.ask(get(&path))?.status(), 200);
            if number % 20 == 0 {
                assert_eq!(client.ask(delivery("down.example", "failed"))?.status(), 502);
            }
        }
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(60), "nobody waits for the reader: {took:?}");

        let text = read_all(reader, Duration::ZERO);
        // The reader empties the pipe.
        pace(Duration::from_millis(300));
        assert_eq!(client.ask(get("/up.example/after"))?.status(), 200);
        proxy.running.stop()?;
        drop(proxy);
        let text = text.join().expect("the reader's thread")?;
        let whole = text.lines().filter(|line| line.contains(&path)).count();
        let said =
            text.lines().filter(|line| line.contains("lines of the log were lost: nobody was reading"));
        let lost = said.map(|line| -> Result<usize> {
            let words: Vec<&str> = line.split([' ', '"']).collect();
            let at = words.iter().position(|word| *word == "lines").context("no number")?;
            Ok(words[at - 1].parse()?)
        });
        let lost: usize = lost.sum::<Result<_>>()?;
        assert!(lost > 0, "the pipe held everything");
        assert_eq!(whole + lost, REQUESTS, "{format}");
        assert!(text.contains("/up.example/after"), "{format}");
        let failed = text.lines().filter(|line| line.contains("connection_refused")).count();
        assert_eq!(failed, REQUESTS / 20, "no failure is lost: {format}");
        if format == "json" {
            for line in text.lines() {
                serde_json::from_str::<serde_json::Value>(line).with_context(|| line.to_owned())?;
            }
        }
    }
    Ok(())
}

#[test]
fn strangers_cannot_flood_it_and_metas_lines_all_come() -> Result<()> {
    const REFUSED: usize = 2000;
    const LOST: usize = 300;
    let origin = Origin::answering(OK)?;
    let relay = Relay::listening(
        "proxy_protocol_from = [\"127.0.0.0/8\"]",
        &format!("{TIMEOUTS}{}", upstreams(&origin)?),
    )?;
    let client = |source: &str| -> Result<Client> {
        let mut client = relay.client()?;
        client.wire().send(proxy_line(source))?;
        Ok(client)
    };
    let begun = Instant::now();
    let (mut stranger, mut meta) = (client(STRANGER)?, client(META)?);
    for number in 0..REFUSED {
        assert_eq!(stranger.ask(get("/nobody.example/"))?.status(), 403);
        if number < LOST {
            assert_eq!(meta.ask(get("/nobody.example/"))?.status(), 403);
            assert_eq!(meta.ask(delivery("down.example", "mine"))?.status(), 502);
        }
    }
    let flooded_for = begun.elapsed();
    let count = |source: &str| relay.proxy.stderr().matches(&format!(" source={source} ")).count();
    wait_until("Meta's lost lines are counted", Duration::from_secs(5), || Ok(equal(count(META), 2 * LOST)))
        .with_context(|| format!("{}", count(META)))?;
    let most = 200 + 20 * (flooded_for.as_secs() as usize + 1);
    let listed = count(STRANGER);
    assert!((200..=most).contains(&listed), "{listed} lines in {flooded_for:?}");
    // What is left out is said, ten seconds after the first one.
    let said = || {
        assert_eq!(client(META)?.ask(delivery("up.example", "later"))?.status(), 200);
        let log = relay.proxy.stderr();
        let said = log.lines().filter_map(|line| line.split_once(" more requests of strangers were refused"));
        let left_out = said.filter_map(|(before, _)| before.rsplit(' ').next()?.parse::<usize>().ok());
        Ok(left_out.sum::<usize>() + count(STRANGER) == REFUSED)
    };
    wait_until("the log says how many were lost", Duration::from_secs(20), said)
        .with_context(|| format!("{listed} lines\n{}", relay.proxy.stderr()))?;
    let missing = relay.metrics()?.value("hookgate_log_lines_missing_total{reason=\"strangers\"}");
    assert_eq!(missing as usize + count(STRANGER), REFUSED);
    Ok(())
}
