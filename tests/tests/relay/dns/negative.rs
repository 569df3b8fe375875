//! How long "no such name" and failures are kept: a name that is being set up is soon there.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::{DnsServer, Need, NetNs, TempDir, free_port, pace, require, wait_until};

use super::server::{NXDOMAIN, REFUSED, SERVFAIL, Server};
use super::{ask, loopback, origin, relay};
use crate::{Relay, local};

/// Enough that some come within a second.
const REQUESTS: usize = 20;
/// Tolerance for a busy machine.
const SLACK: Duration = Duration::from_secs(2);

/// Asks until the answer is 200. Returns the time since `begun`, when the name appeared.
fn until_it_serves(relay: &Relay, begun: Instant) -> Result<Duration> {
    wait_until("the name serves", Duration::from_secs(20), || {
        pace(Duration::from_millis(50));
        Ok(ask(relay)?.0 == 200)
    })?;
    Ok(begun.elapsed())
}

/// The answer for a missing name, and how long it may be kept.
struct Case {
    about: &'static str,
    code: u8,
    negative_ttl: u32,
    kept: Duration,
}

impl Case {
    fn run(&self) -> Result<()> {
        let (server, origin) = (Server::start(60, &[])?, origin()?);
        server.state.code.store(self.code, Ordering::SeqCst);
        server.state.negative_ttl.store(self.negative_ttl, Ordering::SeqCst);
        let relay = relay(&[&server], "", &origin)?;
        for _ in 0..REQUESTS {
            let (status, error, took) = ask(&relay)?;
            ensure!((status, &error[..]) == (502, "dns_error"), "{status} {error}");
            ensure!(took < Duration::from_secs(1), "{took:?}");
        }
        // Fewer questions than requests: the answer is kept for a while.
        ensure!(server.questions() < 2 * REQUESTS, "{} questions", server.questions());
        server.knows(&[loopback()]);
        server.state.code.store(0, Ordering::SeqCst);
        let took = until_it_serves(&relay, Instant::now())?;
        ensure!(took < self.kept + SLACK, "{took:?}");
        Ok(())
    }
}

#[test]
fn what_is_not_there_is_soon_asked_for_again() {
    let second = Duration::from_secs(1);
    let case = |about, code, negative_ttl, kept| Case { about, code, negative_ttl, kept };
    let cases = [
        case("NXDOMAIN with an SOA of an hour", NXDOMAIN, 3600, 5 * second),
        case("NXDOMAIN with an SOA of 2 s", NXDOMAIN, 2, 2 * second),
        case("NXDOMAIN without an SOA", NXDOMAIN, 0, second),
        case("no data, with an SOA of an hour", 0, 3600, 5 * second),
        case("no data, without an SOA", 0, 0, second),
        case("SERVFAIL", SERVFAIL, 0, second),
        case("REFUSED", REFUSED, 0, second),
    ];
    let failures: Vec<String> = thread::scope(|scope| {
        let running: Vec<_> = cases.iter().map(|case| (case.about, scope.spawn(|| case.run()))).collect();
        let ended = running.into_iter().map(|(about, thread)| (about, thread.join().expect("a case")));
        ended.filter_map(|(about, outcome)| Some(format!("{about}: {:#}", outcome.err()?))).collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_name_that_a_real_server_gets_is_soon_served() -> Result<()> {
    if !require(&[Need::Program("dnsmasq")]) {
        return Ok(());
    }
    let dir = TempDir::new("zone")?;
    let zone = dir.write("hosts", "127.0.0.1 other.example\n")?;
    let zone_option = format!("--addn-hosts={}", zone.display());
    let server = DnsServer::start_with(&NetNs::here(), local(free_port()?), &[], &[&zone_option])?;
    let origin = origin()?;
    let relay = Relay::start(&format!(
        "[dns]\nservers = [\"{}\"]\n[upstreams]\n\
         \"up.example\" = {{ tls = false, port = {}, allow_private = true }}\n",
        server.address(),
        origin.address().port()
    ))?;
    let (status, error, _) = ask(&relay)?;
    assert_eq!((status, &error[..]), (502, "dns_error"));
    dir.write("hosts", "127.0.0.1 up.example\n")?;
    server.read_again()?;
    let took = until_it_serves(&relay, Instant::now())?;
    assert!(took < Duration::from_secs(1) + SLACK, "{took:?}");
    Ok(())
}
