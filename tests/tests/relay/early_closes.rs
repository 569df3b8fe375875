//! Upstreams that close idle connections early and never say so: hookgate finds it out, and loses
//! next to nothing.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{End, Origin, equal, pace, pace_until, wait_until};

use crate::{OK, Relay, get, post};

/// How far away the upstreams are, in each direction.
const ONE_WAY: Duration = Duration::from_millis(40);

/// A path to `target` on which everything takes [`ONE_WAY`]; its near end. It lives as long as the
/// process.
fn distant(target: SocketAddr) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let near = listener.local_addr()?;
    thread::spawn(move || {
        for near in listener.incoming().map_while(io::Result::ok) {
            // An end that has gone ends its own connection.
            let _ = join(near, target);
        }
    });
    Ok(near)
}

fn join(near: TcpStream, target: SocketAddr) -> io::Result<()> {
    let far = TcpStream::connect(target)?;
    for end in [&near, &far] {
        end.set_nodelay(true)?;
    }
    for (from, to) in [(near.try_clone()?, far.try_clone()?), (far, near)] {
        let (send, received) = mpsc::channel::<(Instant, Option<Vec<u8>>)>();
        thread::spawn(move || read_all(from, &send));
        thread::spawn(move || {
            for (at, bytes) in received {
                pace_until(at + ONE_WAY);
                // A peer that has closed reads no more.
                let _ = match bytes {
                    Some(bytes) => (&to).write_all(&bytes),
                    None => to.shutdown(Shutdown::Write),
                };
            }
        });
    }
    Ok(())
}

fn read_all(mut from: TcpStream, to: &mpsc::Sender<(Instant, Option<Vec<u8>>)>) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if to.send((Instant::now(), Some(bytes[..count].to_vec()))).is_err() {
            return;
        }
    }
    // The other thread may have ended.
    let _ = to.send((Instant::now(), None));
}

/// An origin that closes a connection when it was idle for so long; `None`: after each response.
fn closing_after(idle: Option<Duration>) -> Result<Origin> {
    Origin::plain_at("127.0.0.1:0".parse()?, move |connection| {
        loop {
            if connection.request()?.is_none() {
                return Ok(End::Close);
            }
            connection.send(OK)?;
            let Some(idle) = idle else { return Ok(End::Vanish) };
            if !connection.wire().has_something_within(idle)? {
                return Ok(End::Vanish);
            }
        }
    })
}

/// The outcome of POSTs to one upstream, each a pause after the answer to the one before.
#[derive(Debug, Default)]
struct Outcomes {
    sent: usize,
    lost: usize,
    connections: usize,
}

/// Sends POSTs to several upstreams of one kind at the same time, in the same pauses.
fn outcomes_of(count: usize, idle: Option<Duration>, pauses: &[Duration]) -> Result<Vec<Outcomes>> {
    let origins = (0..count).map(|_| closing_after(idle)).collect::<Result<Vec<_>>>()?;
    let entry = |(n, origin): (usize, &Origin)| {
        let near = distant(origin.address())?;
        Ok(format!("\"up{n}.example\" = {{ address = \"{near}\", tls = false }}\n"))
    };
    let entries = origins.iter().enumerate().map(entry).collect::<Result<String>>()?;
    // Not the 1 s of other tests.
    let relay =
        Relay::listening("", &format!("[timeouts]\nupstream_idle = \"15s\"\n[upstreams]\n{entries}"))?;
    thread::scope(|scope| {
        let sending = origins.iter().enumerate().map(|(n, origin)| {
            let mut client = relay.client()?;
            Ok(scope.spawn(move || -> Result<Outcomes> {
                let mut outcomes = Outcomes::default();
                for pause in pauses {
                    let body = format!("message {:06}", outcomes.sent);
                    match client.ask(post(&format!("/up{n}.example/"), &body))?.status() {
                        200 => {}
                        502 => outcomes.lost += 1,
                        other => anyhow::bail!("{other}"),
                    }
                    outcomes.sent += 1;
                    pace(*pause);
                }
                let heard = origin.heard().concat();
                for message in 0..outcomes.sent {
                    let body = format!("message {message:06}");
                    let seen = heard.windows(body.len()).filter(|seen| *seen == body.as_bytes()).count();
                    ensure!(seen <= 1, "{body} was sent {seen} times");
                }
                outcomes.connections = origin.connections();
                Ok(outcomes)
            }))
        });
        let sending = sending.collect::<Result<Vec<_>>>()?;
        sending.into_iter().map(|sending| sending.join().expect("no panic")).collect()
    })
}

fn assert_lost_at_most(share: f64, all: &[Outcomes]) {
    let (sent, lost) = all.iter().fold((0, 0), |(sent, lost), t| (sent + t.sent, lost + t.lost));
    eprintln!("{lost} of {sent} were lost: {all:?}");
    assert!(lost as f64 <= share * sent as f64, "{lost} of {sent} were lost: {all:?}");
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[test]
fn one_that_closes_after_two_seconds_gets_every_post() -> Result<()> {
    let pauses: Vec<Duration> = [1900, 1920, 1940, 1960, 1980, 2000, 2050].map(ms).into();
    let all = outcomes_of(8, Some(ms(2000)), &pauses)?;
    assert_lost_at_most(0.01, &all);
    Ok(())
}

#[test]
fn one_that_closes_after_half_a_second_is_learnt_from_the_first_loss() -> Result<()> {
    let pauses: Vec<Duration> = [400, 420, 440, 460, 480, 500, 520].map(ms).repeat(3);
    let all = outcomes_of(8, Some(ms(500)), &pauses)?;
    assert!(all.iter().all(|outcomes| outcomes.lost <= 1), "{all:?}");
    assert_lost_at_most(1.0 / 21.0, &all);
    Ok(())
}

#[test]
fn one_that_closes_after_each_response_gets_next_to_every_post() -> Result<()> {
    let pauses: Vec<Duration> = [0, 1, 5, 20, 40, 60, 100].map(ms).repeat(4);
    let all = outcomes_of(8, None, &pauses)?;
    assert!(all.iter().all(|outcomes| outcomes.lost <= 1), "{all:?}");
    assert_lost_at_most(0.01, &all);
    Ok(())
}

/// Counts the connections of ten POSTs in those pauses.
fn connections(origin: &Origin, relay: &Relay, pause: Duration) -> Result<usize> {
    let before = origin.connections();
    let mut client = relay.client()?;
    for _ in 0..10 {
        assert_eq!(client.ask(post("/up.example/", "x"))?.status(), 200);
        pace(pause);
    }
    Ok(origin.connections() - before)
}

#[test]
fn what_is_learnt_holds_for_every_worker_and_after_a_reload() -> Result<()> {
    let origin = closing_after(Some(ms(600)))?;
    let dir = harness::TempDir::new("learnt")?;
    let config = |more: &str| {
        format!(
            "socket = {:?}\n[timeouts]\nupstream_idle = \"15s\"\n[upstreams]\n\
             \"up.example\" = {{ address = \"{}\", tls = false{more} }}\n",
            dir.path().join("admin.sock"),
            origin.address()
        )
    };
    let relay = Relay::listening("", &config(""))?;
    assert_eq!(relay.client()?.ask(post("/up.example/", "x"))?.status(), 200);
    // It closes at 600 ms, which is noticed at once: from then on 300 ms are too long.
    wait_until("the idle connection is closed", ms(5000), || Ok(equal(origin.ended(), 1)))?;
    for round in ["at first", "after a reload"] {
        for _ in 0..4 {
            assert_eq!(connections(&origin, &relay, ms(400))?, 10, "{round}");
        }
        let often = connections(&origin, &relay, ms(30))?;
        ensure!(often <= 2, "{often} connections for requests in quick succession, {round}");
        let before = std::fs::read_to_string(relay.proxy.config())?;
        std::fs::write(
            relay.proxy.config(),
            before.replace("tls = false }", "tls = false, in_flight = 9 }"),
        )?;
        relay.proxy.command(&harness::NetNs::here(), &["reload"]).context(round)?;
    }
    Ok(())
}

#[test]
fn an_upstream_has_its_own_limit_and_a_reload_changes_it() -> Result<()> {
    let origin = Origin::plain_at("127.0.0.1:0".parse()?, |connection| {
        while connection.request()?.is_some() {
            connection.send(OK)?;
        }
        Ok(End::Close)
    })?;
    let dir = harness::TempDir::new("own-limit")?;
    let relay = Relay::listening(
        "",
        &format!(
            "socket = {:?}\n[timeouts]\nupstream_idle = \"15s\"\n[upstreams]\n\
             \"up.example\" = {{ address = \"{}\", tls = false, upstream_idle = \"200ms\" }}\n",
            dir.path().join("admin.sock"),
            origin.address()
        ),
    )?;
    let mut client = relay.client()?;
    let mut ask = |pause| -> Result<usize> {
        assert_eq!(client.ask(get("/up.example/"))?.status(), 200);
        pace(pause);
        Ok(origin.connections())
    };
    assert_eq!((ask(ms(400))?, ask(ms(0))?, ask(ms(0))?), (1, 2, 2));
    let text = std::fs::read_to_string(relay.proxy.config())?;
    std::fs::write(relay.proxy.config(), text.replace("\"200ms\"", "\"5s\""))?;
    let said = relay.proxy.command(&harness::NetNs::here(), &["reload"])?;
    assert_eq!(said, "[upstreams] 0 added, 0 removed, 1 changed, 1 now\n");
    assert_eq!((ask(ms(400))?, ask(ms(0))?), (3, 3));
    relay.wait_for("hookgate_requests_total{upstream=\"up.example\",code=\"200\"}", 5.0)?;
    Ok(())
}
