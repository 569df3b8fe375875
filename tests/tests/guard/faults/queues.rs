//! Queues and tables of the kernel that are full.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Need, pace};
use rustix::process::{Pid, Signal, kill_process};

use super::super::peers::{connect, connect_within};
use super::super::testbed::{EDGE_V4, Testbed, can_run};
use super::{CONNECTIONS, Case, Lab, THREADS, TWO_SYNS};

const SHARES: [usize; 3] = [CONNECTIONS / 20, CONNECTIONS / 5, CONNECTIONS];
/// More than connect at once otherwise.
const BACKLOG: usize = 2 * THREADS;
/// Longer than the kernel and the guard wait for an attempt.
const STOPPED: Duration = Duration::from_secs(14);

/// A prefix a share, and one for the connections that take the room.
fn cases(causes: &'static [&'static str]) -> ([Case; 3], Case) {
    ([50, 51, 52].map(|number| Case::new(number, Some(("machine", "attempts", causes)))), Case::new(53, None))
}

/// Those of each case that nothing is done to.
fn deliver(lab: &Lab, cases: &[Case; 3]) -> Result<()> {
    let goods = cases.iter().zip(SHARES);
    goods.into_iter().try_for_each(|(case, bad)| lab.deliver(case, (CONNECTIONS - bad).max(1)))
}

#[test]
fn a_listener_that_is_stopped_has_a_full_queue() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let (cases, calm) = cases(&["accept_queue"]);
    let testbed = Testbed::new()?;
    testbed.edge.run(&format!("sysctl -qw net.core.somaxconn={BACKLOG}"))?;
    let lab = Lab::on(testbed, &[&cases[0], &cases[1], &cases[2], &calm])?;
    deliver(&lab, &cases)?;
    let children = format!("/proc/{0}/task/{0}/children", lab.proxy.pid());
    let worker = fs::read_to_string(children)?.trim().parse()?;
    let worker = Pid::from_raw(worker).context("a process id")?;
    kill_process(worker, Signal::STOP)?;
    let mut waiting = Vec::new();
    while let Ok(stream) = connect_within(lab.meta(), &calm.good, EDGE_V4, 443, TWO_SYNS) {
        waiting.push(stream);
        ensure!(waiting.len() < 10 * BACKLOG, "the queue is never full");
    }
    for (case, bad) in cases.iter().zip(SHARES) {
        lab.fail(&case.bad, bad)?;
    }
    // No sample is taken meanwhile: what is counted has to find its minute afterwards.
    pace(STOPPED);
    kill_process(worker, Signal::CONT)?;
    cases.iter().zip(SHARES).try_for_each(|(case, bad)| lab.judge(case, bad))?;
    let (_, report) = lab.lost(Some(&cases[2].prefix))?;
    let text = report["verdict"]["text"].as_str().unwrap_or_default();
    ensure!(text.contains("queue of new connections was full"), "{report}");
    Ok(())
}

/// The whole machine's limit of connections that are tracked, for as long as this is there.
struct ConntrackLimit(String);

impl ConntrackLimit {
    const FILE: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

    fn set(limit: usize) -> Result<Self> {
        let before = fs::read_to_string(Self::FILE)?;
        fs::write(Self::FILE, limit.to_string())?;
        Ok(Self(before))
    }
}

impl Drop for ConntrackLimit {
    fn drop(&mut self) {
        if let Err(error) = fs::write(Self::FILE, &self.0) {
            eprintln!("{}: {error}", Self::FILE);
        }
    }
}

/// A connection that stays open after its first message.
fn hold(lab: &Lab, case: &Case) -> Result<TcpStream> {
    let mut stream = connect(lab.meta(), &case.good, EDGE_V4, 443)?;
    stream.write_all(b"POST /ok.example/ HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}")?;
    ensure!(stream.read(&mut [0; 1024])? > 0);
    Ok(stream)
}

#[test]
#[ignore = "sets a limit of the whole machine for some seconds"]
fn a_full_table_of_connections_is_told() -> Result<()> {
    if !can_run(&[Need::Program("nft")]) {
        return Ok(());
    }
    const HELD: usize = 150;
    let (cases, calm) = cases(&["netfilter_drop", "unanswered"]);
    let lab = Lab::new(&[&cases[0], &cases[1], &cases[2], &calm])?;
    deliver(&lab, &cases)?;
    let edge = &lab.testbed.edge;
    edge.run("nft add table inet tracked")?;
    edge.run("nft add chain inet tracked news { type filter hook input priority 0 ; }")?;
    edge.run("nft add rule inet tracked news ct state new counter")?;
    let held = (0..HELD).map(|_| hold(&lab, &calm)).collect::<Result<Vec<_>>>()?;
    let limit = ConntrackLimit::set(HELD / 2)?;
    for (case, bad) in cases.iter().zip(SHARES) {
        lab.fail(&case.bad, bad)?;
    }
    drop(limit);
    cases.iter().zip(SHARES).try_for_each(|(case, bad)| lab.judge(case, bad))?;
    lab.judge(&calm, 0)?;
    drop(held);
    let (_, report) = lab.lost(Some(&cases[2].prefix))?;
    let text = report["verdict"]["text"].as_str().unwrap_or_default();
    ensure!(text.contains("table of connections was full"), "{report}");
    Ok(())
}
