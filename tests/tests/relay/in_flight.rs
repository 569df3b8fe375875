//! One upstream that hangs does not delay the others.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Client, End, FullQueue, pace, pace_until, wait_until};

use crate::{OK, Origin, Relay, get, post, proxy_line};

const HOLE: &str = "hookgate_in_flight{upstream=\"hole.example\"}";
/// `connect` and `response` of [`TIMEOUTS`](crate::TIMEOUTS).
const HOLE_TIMEOUT: Duration = Duration::from_secs(1);

/// Takes everything and says nothing.
fn black_hole() -> Result<Origin> {
    Origin::plain(|connection| {
        while connection.wire().read()? > 0 {}
        Ok(End::Close)
    })
}

/// `hole.example` with at most `in_flight` requests, and others that are well.
fn relay(hole: SocketAddr, in_flight: usize, well: SocketAddr, others: usize) -> Result<Relay> {
    let others: String = (0..others)
        .map(|n| format!("\"well-{n}.example\" = {{ address = \"{well}\", tls = false }}\n"))
        .collect();
    Relay::start(&format!(
        "[upstreams]\n\"hole.example\" = {{ address = \"{hole}\", tls = false, in_flight = {in_flight} }}\n{others}"
    ))
}

/// A client whose request to the hole is under way.
fn waiting(relay: &Relay) -> Result<Client> {
    let mut client = relay.client()?;
    client.wire().send(post("/hole.example/", "x"))?;
    Ok(client)
}

fn assert_refused(client: &mut Client) -> Result<()> {
    let begun = Instant::now();
    let answer = client.ask(post("/hole.example/", "x"))?;
    let took = begun.elapsed();
    assert_eq!((answer.status(), answer.proxy_error()), (503, Some("connection_limit_reached")));
    assert!(answer.field("Retry-After").is_some_and(|seconds| seconds.parse::<u32>().is_ok()), "{answer:?}");
    assert!(took < Duration::from_millis(300), "{took:?}");
    Ok(())
}

#[test]
fn beyond_the_limit_is_503_at_once_and_others_do_not_notice() -> Result<()> {
    let (hole, well) = (black_hole()?, Origin::answering(OK)?);
    let relay = relay(hole.address(), 2, well.address(), 1)?;
    let mut first = [waiting(&relay)?, waiting(&relay)?];
    relay.wait_for(HOLE, 2.0)?;
    let mut client = relay.client()?;
    assert_refused(&mut client)?;
    assert_eq!(client.ask(get("/well-0.example/"))?.status(), 200, "the connection goes on");
    assert_refused(&mut client)?;
    assert_eq!(hole.connections(), 2, "what is refused is not sent");

    // The places come back when the time is over …
    for client in &mut first {
        assert_eq!(client.response()?.status(), 504);
    }
    relay.wait_for(HOLE, 0.0)?;
    // … and can be used again.
    let _first = [waiting(&relay)?, waiting(&relay)?];
    relay.wait_for(HOLE, 2.0)?;
    assert_refused(&mut client)?;
    let metrics = relay.metrics()?;
    assert_eq!(metrics.value("hookgate_requests_total{upstream=\"hole.example\",code=\"503\"}"), 3.0);
    assert_eq!(metrics.value("hookgate_refused_total{reason=\"connection_limit_reached\"}"), 3.0);
    assert_eq!(
        metrics.family("hookgate_upstream_errors_total"),
        [("{upstream=\"hole.example\",reason=\"http_response_timeout\"}", 2.0)].into()
    );
    Ok(())
}

#[test]
fn strangers_leave_slots_for_meta() -> Result<()> {
    let hole = black_hole()?;
    let upstream = format!("address = \"{}\", tls = false, in_flight = 9", hole.address());
    let relay = Relay::listening(
        "proxy_protocol_from = [\"127.0.0.0/8\"]",
        &format!("[upstreams]\n\"hole.example\" = {{ {upstream} }}\n"),
    )?;
    // Behind a load balancer that says who they are.
    let client_from = |source: &str| {
        let mut client = Client::plain(relay.address)?;
        client.wire().send(proxy_line(source))?;
        Ok::<_, anyhow::Error>(client)
    };
    let mut held = Vec::new();
    let mut hold = |source: &str| {
        let mut client = client_from(source)?;
        // Half of a body: the relay notices when such a client leaves.
        client.wire().send(post("/hole.example/", "half").replace("Length: 4", "Length: 8"))?;
        held.push(client);
        relay.wait_for(HOLE, held.len() as f64)
    };
    // 4 of 9 are reserved, and one stranger has a quarter of the other 5.
    hold("198.51.100.1")?;
    assert_refused(&mut client_from("198.51.100.1")?)?;
    // A /64 is one stranger.
    hold("2001:db8:0:1::1")?;
    assert_refused(&mut client_from("2001:db8:0:1:ffff::2")?)?;
    for source in ["2001:db8:0:2::1", "198.51.100.2", "198.51.100.3"] {
        hold(source)?;
    }
    assert_refused(&mut client_from("198.51.100.4")?)?;
    for source in ["157.240.1.1", "157.240.1.1", "2a03:2880::7", "127.0.0.1"] {
        hold(source)?;
    }
    assert_refused(&mut client_from("157.240.1.1")?)?;
    // A request counts before its connection has arrived.
    wait_until("nine connections are made", Duration::from_secs(5), || Ok(hole.connections() >= 9))
        .with_context(|| format!("{} connections", hole.connections()))?;
    assert_eq!(hole.connections(), 9);
    // What a stranger leaves can be used again.
    drop(held);
    relay.wait_for(HOLE, 0.0)?;
    let mut client = client_from("198.51.100.1")?;
    client.wire().send(post("/hole.example/", "half").replace("Length: 4", "Length: 8"))?;
    relay.wait_for(HOLE, 1.0)?;
    drop(client);
    relay.wait_for(HOLE, 0.0)
}

#[test]
fn what_is_refused_anyway_is_refused_for_its_own_reason() -> Result<()> {
    let hole = black_hole()?;
    let upstream = format!("address = \"{}\", tls = false, in_flight = 1, body_bytes = 10", hole.address());
    let relay = Relay::start(&format!("[upstreams]\n\"hole.example\" = {{ {upstream} }}\n"))?;
    let _first = waiting(&relay)?;
    relay.wait_for(HOLE, 1.0)?;
    let looping = get("/hole.example/").replace("\r\n\r\n", "\r\nVia: 1.1 hookgate\r\n\r\n");
    for (request, status) in
        [(post("/hole.example/", &"x".repeat(11)), 413), (looping, 508), (get("/hole.example"), 404)]
    {
        assert_eq!(relay.client()?.ask(&request)?.status(), status, "{request}");
    }
    assert_refused(&mut relay.client()?)
}

#[test]
fn places_come_back_when_clients_leave() -> Result<()> {
    let (hole, well) = (black_hole()?, Origin::answering(OK)?);
    let relay = relay(hole.address(), 2, well.address(), 1)?;
    // In the middle of their bodies: at once.
    let begun = Instant::now();
    for reset in [false, true] {
        let mut clients = Vec::new();
        for _ in 0..2 {
            let mut client = relay.client()?;
            client.wire().send(post("/hole.example/", "half").replace("Length: 4", "Length: 8"))?;
            clients.push(client);
        }
        relay.wait_for(HOLE, 2.0)?;
        for client in clients {
            if reset {
                client.into_wire().reset()?;
            }
        }
        relay.wait_for(HOLE, 0.0)?;
    }
    assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
    // When all has been sent the upstream may be at work on it: in the time that a response has, at
    // the latest.
    let clients = [waiting(&relay)?, waiting(&relay)?];
    relay.wait_for(HOLE, 2.0)?;
    for client in clients {
        client.into_wire().reset()?;
    }
    let begun = Instant::now();
    relay.wait_for(HOLE, 0.0)?;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(waiting(&relay)?.response()?.status(), 504, "a place can be used again");
    Ok(())
}

/// What the healthy upstreams' clients saw.
#[derive(Default)]
struct Seen {
    took: Vec<Duration>,
}

/// Asks healthy upstreams in turn, each request right after the last, until told to stop.
fn ask_the_well(relay: &Relay, upstreams: usize, stop: &AtomicBool) -> Result<Seen> {
    let mut client = relay.client()?;
    let mut seen = Seen::default();
    for upstream in (0..upstreams).cycle() {
        if stop.load(Ordering::Relaxed) {
            return Ok(seen);
        }
        let begun = Instant::now();
        let answer = client.ask(post(&format!("/well-{upstream}.example/"), "hello"))?;
        ensure!(answer.status() == 200, "{answer:?}");
        seen.took.push(begun.elapsed());
        pace(Duration::from_millis(2));
    }
    Ok(seen)
}

/// Several hundred requests a second to the hole, each on a connection of its own, without waiting
/// for answers.
fn pour(relay: &Relay, requests: u32, interval: Duration, answers: &[AtomicUsize; 2]) -> Result<()> {
    thread::scope(|scope| {
        let begun = Instant::now();
        for number in 0..requests {
            pace_until(begun + interval * number);
            scope.spawn(move || -> Result<()> {
                let status = waiting(relay)?.response()?.status();
                match status {
                    503 => answers[0].fetch_add(1, Ordering::Relaxed),
                    504 => answers[1].fetch_add(1, Ordering::Relaxed),
                    _ => anyhow::bail!("{status} out of a black hole"),
                };
                Ok(())
            });
        }
        Ok(())
    })
}

#[test]
fn a_black_hole_costs_the_others_nothing() -> Result<()> {
    const IN_FLIGHT: usize = 32;
    const WELL: usize = 20;
    const ASKERS: usize = 3;
    const REQUESTS: u32 = 800;
    let silent = black_hole()?;
    let no_answer_to_syn = FullQueue::new(Ipv4Addr::LOCALHOST)?;
    for (what, hole) in
        [("takes and is silent", silent.address()), ("no answer to SYN", no_answer_to_syn.address())]
    {
        let well = Origin::answering(OK)?;
        let relay = relay(hole, IN_FLIGHT, well.address(), WELL)?;
        let before = relay.proxy.descriptors()?;
        let (stop, answers) = (AtomicBool::new(false), [AtomicUsize::new(0), AtomicUsize::new(0)]);
        let (seen, most) = thread::scope(|scope| -> Result<(Vec<Duration>, usize)> {
            let askers: Vec<_> =
                (0..ASKERS).map(|_| scope.spawn(|| ask_the_well(&relay, WELL, &stop))).collect();
            let pouring = scope.spawn(|| pour(&relay, REQUESTS, Duration::from_micros(2500), &answers));
            let mut most = 0;
            while !pouring.is_finished() {
                most = most.max(relay.proxy.descriptors()?);
                pace(Duration::from_millis(10));
            }
            stop.store(true, Ordering::Relaxed);
            pouring.join().expect("a thread")?;
            let seen = askers.into_iter().map(|asker| asker.join().expect("a thread"));
            let seen = seen.collect::<Result<Vec<_>>>().context(what)?;
            Ok((seen.into_iter().flat_map(|seen| seen.took).collect(), most))
        })?;
        let [refused, timed_out] = answers.map(AtomicUsize::into_inner);
        assert_eq!(refused + timed_out, REQUESTS as usize, "{what}: every request was answered");
        // Two seconds with a time-out of one: the places were used three times at the most.
        assert!((IN_FLIGHT..=IN_FLIGHT * 3).contains(&timed_out), "{what}: {timed_out}");

        let mut seen = seen;
        seen.sort();
        let p99 = seen[seen.len() * 99 / 100];
        eprintln!("{what}: {} healthy requests, p99 {p99:?}, {before} to {most} descriptors", seen.len());
        // A request that waited for the hole would wait until its time-out.
        assert!(seen.len() > 300 && p99 < HOLE_TIMEOUT, "{what}: {} p99 {p99:?}", seen.len());
        // Those in flight have two each; a refused one has its own until its client has read the
        // answer.
        let healthy = ASKERS + 2 * WELL;
        assert!(most <= before + 2 * IN_FLIGHT + healthy + 200, "{what}: {before} to {most} descriptors");
        let settled = || {
            let open = relay.proxy.descriptors()?;
            Ok((open <= before + 2, open))
        };
        wait_until(format!("{what}: all descriptors are closed"), Duration::from_secs(5), settled)?;
    }
    Ok(())
}

/// Half a minute beside a black hole that has the contract's number of requests in flight, and half
/// a minute without.
#[test]
#[ignore = "takes a minute"]
fn ninety_nine_upstreams_do_not_notice_that_one_is_a_black_hole() -> Result<()> {
    const WELL: usize = 99;
    const ASKERS: usize = 4;
    const IN_FLIGHT: usize = 256;
    const REQUESTS: u32 = 15_000;
    const INTERVAL: Duration = Duration::from_millis(2);
    let (hole, well) = (black_hole()?, Origin::answering(OK)?);
    let relay = relay(hole.address(), IN_FLIGHT, well.address(), WELL)?;
    let mut p99 = Vec::new();
    for is_pouring in [false, true] {
        let before = relay.proxy.descriptors()?;
        let (stop, answers) = (AtomicBool::new(false), [AtomicUsize::new(0), AtomicUsize::new(0)]);
        let (seen, most) = thread::scope(|scope| -> Result<(Vec<Duration>, usize)> {
            let askers: Vec<_> =
                (0..ASKERS).map(|_| scope.spawn(|| ask_the_well(&relay, WELL, &stop))).collect();
            let pouring = scope.spawn(|| {
                if is_pouring {
                    return pour(&relay, REQUESTS, INTERVAL, &answers);
                }
                pace(INTERVAL * REQUESTS);
                Ok(())
            });
            let mut most = 0;
            while !pouring.is_finished() {
                most = most.max(relay.proxy.descriptors()?);
                pace(Duration::from_millis(50));
            }
            stop.store(true, Ordering::Relaxed);
            pouring.join().expect("a thread")?;
            // An asker ends with an error at the first answer that is not 200.
            let seen = askers.into_iter().map(|asker| asker.join().expect("a thread"));
            Ok((seen.collect::<Result<Vec<_>>>()?.into_iter().flat_map(|seen| seen.took).collect(), most))
        })?;
        let [refused, timed_out] = answers.map(AtomicUsize::into_inner);
        assert_eq!(refused + timed_out, if is_pouring { REQUESTS as usize } else { 0 });
        let mut seen = seen;
        seen.sort();
        let of = |share: usize| seen[seen.len() * share / 1000];
        eprintln!(
            "{} healthy requests, p50 {:?}, p99 {:?}, p99.9 {:?}; of the hole's {refused} refused, {timed_out} timed out; \
             {before} to {most} descriptors",
            seen.len(),
            of(500),
            of(990),
            of(999)
        );
        // A client's and an upstream's for each in flight, a client's for each refused until it has
        // read that.
        assert!(
            most <= before + 2 * IN_FLIGHT + 3 * ASKERS + 2 * WELL + 40,
            "{before} to {most} descriptors"
        );
        p99.push(of(990));
    }
    // The clients of the hole share this machine's processors with everything else.
    assert!(p99[1] < p99[0] * 3 + Duration::from_millis(20), "p99 {p99:?}");
    Ok(())
}
