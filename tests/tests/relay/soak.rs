//! Upstreams that fail in every way at random, clients that leave at random: nothing twice, mixed
//! up, or left behind.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Certs, Client, Conversation, End, Message, TempDir, free_port, pace, wait_until};

use crate::{Origin, Relay, TIMEOUTS, local};

const CLIENTS: u64 = 16;
/// What of a body one must have seen to know its id, the line of its first chunk included.
const LONGEST_ID: usize = 24;
/// How much memory may have grown since the first seconds, in KiB.
const MAX_GROWTH_KIB: u64 = 6 * 1024;

/// Marsaglia's xorshift64: the same every time.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % most
    }

    /// Mostly small, now and then more than any buffer.
    fn size(&mut self) -> usize {
        let most = if self.below(50) == 0 { 200_000 } else { 2000 };
        self.below(most) as usize
    }

    fn ending(&mut self) -> End {
        if self.below(2) == 0 { End::Reset } else { End::Close }
    }
}

/// How often each request's body arrived, by the id that it begins with.
#[derive(Default)]
struct Arrivals(Mutex<HashMap<u64, u32>>);

impl Arrivals {
    fn note(&self, id: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default() += 1;
    }

    fn count(&self) -> (usize, Vec<u64>) {
        let arrivals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (arrivals.len(), arrivals.iter().filter(|(_, times)| **times > 1).map(|(id, _)| *id).collect())
    }
}

/// The number in `id=7;`, as a body begins, chunked or not.
fn id(text: &[u8]) -> Option<u64> {
    let start = text.windows(3).position(|window| window == b"id=")? + 3;
    let length = text.get(start..)?.iter().position(|byte| *byte == b';')?;
    std::str::from_utf8(text.get(start..start + length)?).ok()?.parse().ok()
}

/// A body that says whose answer it is and how long it has to be.
fn answer_body(id: u64, size: usize) -> String {
    format!("id={id};{size};{}", "y".repeat(size))
}

fn whole(body: &str, more: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{more}\r\n{body}", body.len())
}

fn chunked(body: &str) -> String {
    let chunks: String = body
        .as_bytes()
        .chunks(1000)
        .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk)))
        .collect();
    format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
}

/// One connection of an upstream's, until it has done something that ends it.
fn misbehave(connection: &mut Conversation, arrivals: &Arrivals) -> io::Result<End> {
    let mut dice = Dice::new(connection.index() as u64 + 1);
    loop {
        // Before a request has come whole.
        match dice.below(20) {
            0 => return Ok(dice.ending()),
            1 => {
                let head = connection.head()?;
                let begun = connection.bytes(LONGEST_ID)?;
                if head.starts_with("POST")
                    && let Some(id) = id(&begun)
                {
                    arrivals.note(id);
                }
                return Ok(End::Reset);
            }
            _ => {}
        }
        let Some(request) = connection.request()? else { return Ok(End::Close) };
        let Some(id) = id(&request.body) else { return Ok(End::Reset) };
        arrivals.note(id);
        if !request.whole {
            return Ok(End::Close);
        }
        let body = answer_body(id, dice.size());
        let response = whole(&body, "");
        let part = dice.below(response.len() as u64) as usize;
        match dice.below(16) {
            0 => return Ok(dice.ending()),
            1 => {
                connection.send(&response[..part])?;
                return Ok(dice.ending());
            }
            2 => {
                let response = chunked(&body);
                connection.send(&response[..part.min(response.len() - 1)])?;
                return Ok(dice.ending());
            }
            3 => pace(Duration::from_millis(1500)),
            4 => {
                connection.send(&response[..part])?;
                pace(Duration::from_millis(1500));
            }
            5 => {
                connection.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nno")?;
                return Ok(End::Close);
            }
            6 => {
                connection.send(whole(&body, "Connection: close\r\n"))?;
                return Ok(End::Close);
            }
            7 => {
                // Without a word that it would close: the next request meets a dead connection.
                connection.send(&response)?;
                return Ok(dice.ending());
            }
            8 => {
                for piece in response.as_bytes().chunks(response.len() / 5 + 1) {
                    connection.send(piece)?;
                    pace(Duration::from_millis(5));
                }
            }
            9 => connection.send(format!("{response}HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n???"))?,
            10 | 11 => connection.send(chunked(&body))?,
            _ => connection.send(&response)?,
        }
    }
}

/// What the clients saw.
#[derive(Default)]
struct Outcomes {
    whole: AtomicU64,
    cut: AtomicU64,
    failed: AtomicU64,
    left: AtomicU64,
}

/// One client, until told to stop.
fn wander(
    seed: u64,
    connect: &dyn Fn() -> Result<Client>,
    outcomes: &Outcomes,
    stop: &AtomicBool,
) -> Result<()> {
    let mut dice = Dice::new(seed + 1000);
    let mut kept: Option<Client> = None;
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let id = seed << 32 | number;
        let body = format!("id={id};{}", "x".repeat(dice.size()));
        let name = if dice.below(2) == 0 { "plain.example" } else { "tls.example" };
        let head = format!("POST /{name}/{id} HTTP/1.1\r\nHost: p\r\n");
        let request = match dice.below(2) {
            0 => format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()),
            _ => format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
        };
        let mut client = match kept.take() {
            Some(client) => client,
            None => connect()?,
        };
        match dice.below(12) {
            // Leaves within its request, or right after it.
            0 | 1 => {
                let part = dice.below(request.len() as u64 + 1) as usize;
                // A proxy that has closed already may refuse it.
                let _ = client.wire().send(&request[..part]);
                pace(Duration::from_millis(dice.below(10)));
                outcomes.left.fetch_add(1, Ordering::Relaxed);
                if dice.below(2) == 0 {
                    client.into_wire().reset()?;
                }
                continue;
            }
            _ => {}
        }
        // A kept connection may have been closed in the meantime: then nothing comes back.
        let Ok(answer) = client.ask(&request) else {
            outcomes.cut.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        judge(id, &answer, outcomes).with_context(|| format!("request {id} to {name}"))?;
        if answer.whole && answer.field("Connection").is_none() && dice.below(5) > 0 {
            kept = Some(client);
        }
    }
    Ok(())
}

fn judge(id: u64, answer: &Message, outcomes: &Outcomes) -> Result<()> {
    let count = match (answer.status(), answer.whole) {
        (200, true) => {
            let body = String::from_utf8_lossy(&answer.body);
            let size = body.split(';').nth(1).and_then(|size| size.parse().ok()).context("no size")?;
            ensure!(body == answer_body(id, size), "another's answer, or less than all: {body:.60}");
            &outcomes.whole
        }
        (200, false) => &outcomes.cut,
        (status, _) => {
            ensure!(matches!(status, 502 | 504) && answer.proxy_error().is_some(), "{answer:?}");
            &outcomes.failed
        }
    };
    count.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// `$HOOKGATE_SOAK_SECONDS`, or 20.
fn length() -> Result<Duration> {
    let seconds = std::env::var("HOOKGATE_SOAK_SECONDS").unwrap_or("20".into());
    Ok(Duration::from_secs(seconds.parse().context("HOOKGATE_SOAK_SECONDS is a number of seconds")?))
}

#[test]
#[ignore = "takes 20 s, or $HOOKGATE_SOAK_SECONDS"]
fn nothing_twice_mixed_up_or_left_behind() -> Result<()> {
    let arrivals = Arc::<Arrivals>::default();
    let dir = TempDir::new("soak")?;
    let certs = Certs::new(&["proxy.example.com", "tls.example"])?;
    let [ca, cert, key] = certs.write(&dir, "edge")?;
    let (of_plain, of_tls) = (arrivals.clone(), arrivals.clone());
    let plain = Origin::plain(move |connection| misbehave(connection, &of_plain))?;
    let tls = Origin::tls(&certs, move |connection| misbehave(connection, &of_tls))?;
    let https = local(free_port()?);
    let relay = Relay::listening(
        &format!("https = [\"{https}\"]"),
        &format!(
            "{TIMEOUTS}[log]\naccess = false\n[tls]\ncert = {cert:?}\nkey = {key:?}\n[upstreams]\n\
             \"plain.example\" = {{ address = \"{}\", tls = false }}\n\
             \"tls.example\" = {{ address = \"{}\", ca = {ca:?} }}\n",
            plain.address(),
            tls.address()
        ),
    )?;
    let descriptors = relay.proxy.descriptors()?;
    let (outcomes, stop) = (Outcomes::default(), AtomicBool::new(false));
    let begun = Instant::now();
    let length = length()?;
    let warm = thread::scope(|scope| -> Result<u64> {
        let wandering: Vec<_> = (0..CLIENTS)
            .map(|seed| {
                let (outcomes, stop, relay, certs) = (&outcomes, &stop, &relay, &certs);
                let connect = move || connect(seed, relay, https, certs);
                scope.spawn(move || wander(seed, &connect, outcomes, stop))
            })
            .collect();
        let mut warm = 0;
        while begun.elapsed() < length && !wandering.iter().any(|client| client.is_finished()) {
            pace(Duration::from_secs(1));
            plain.forget();
            tls.forget();
            // What is allocated once is there after a third of the time, a minute at the most.
            if begun.elapsed() < (length / 3).min(Duration::from_secs(60)) {
                warm = relay.proxy.memory_kib()?.0;
            }
        }
        stop.store(true, Ordering::Relaxed);
        wandering.into_iter().try_for_each(|client| client.join().expect("a thread"))?;
        Ok(warm)
    })?;

    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (arrived, twice) = arrivals.count();
    let memory = relay.proxy.memory_kib()?.0;
    eprintln!(
        "{arrived} requests arrived; answers: {} whole, {} cut, {} failed; {} clients left; memory {warm} to {memory} KiB",
        count(&outcomes.whole),
        count(&outcomes.cut),
        count(&outcomes.failed),
        count(&outcomes.left),
    );
    assert_eq!(twice, [0; 0], "seen twice");
    // Every kind of thing has happened, so that the rest means something.
    for counter in [&outcomes.whole, &outcomes.cut, &outcomes.failed, &outcomes.left] {
        assert!(count(counter) > 50, "{}", count(counter));
    }
    assert!(memory < warm + MAX_GROWTH_KIB, "{warm} KiB have become {memory} KiB");
    for class in ["meta", "allowed", "other"] {
        relay.wait_for(&format!("hookgate_connections{{class=\"{class}\"}}"), 0.0)?;
    }
    for name in ["plain.example", "tls.example"] {
        relay.wait_for(&format!("hookgate_in_flight{{upstream=\"{name}\"}}"), 0.0)?;
    }
    // Each worker keeps up to four pipes.
    let pipes = 2 * 4 * thread::available_parallelism()?.get();
    let settled = || {
        let open = relay.proxy.descriptors()?;
        Ok((open <= descriptors + 1 + pipes, open))
    };
    wait_until(format!("of {descriptors} descriptors as many are left"), Duration::from_secs(5), settled)?;
    Ok(())
}

/// Half of the clients use TLS.
fn connect(seed: u64, relay: &Relay, https: SocketAddr, certs: &Certs) -> Result<Client> {
    if seed.is_multiple_of(2) { relay.client() } else { Client::tls(https, certs, "proxy.example.com") }
}
