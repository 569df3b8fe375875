//! What was under way when hookgate was killed is lost at this machine, and is told once.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::{Client, End, NetNs, Origin, Running, TempDir, binary, free_port, is_there, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{OK, local, post};

const START_TIMEOUT: Duration = Duration::from_secs(10);
const WAITING: usize = 7;
const DELIVERED: usize = 5;

/// A proxy before an upstream that answers and one that never does, started again and again.
struct Testbed {
    _dir: TempDir,
    address: std::net::SocketAddr,
    config: PathBuf,
    stalled: Origin,
    _answering: Origin,
}

impl Testbed {
    fn new() -> Result<Self> {
        let dir = TempDir::new("killed")?;
        let stalled = Origin::plain_at(local(0), |connection| {
            while connection.request()?.is_some() {}
            Ok(End::Close)
        })?;
        let answering = Origin::plain_at(local(0), |connection| {
            while connection.request()?.is_some() {
                connection.send(OK)?;
            }
            Ok(End::Close)
        })?;
        let address = local(free_port()?);
        let config = dir.write(
            "hookgate.toml",
            format!(
                "[listen]\nplain = [\"{address}\"]\n[admin]\nsocket = {:?}\n[insight]\nstate = {:?}\n\
                 [timeouts]\ndrain = \"100ms\"\n[upstreams]\n\
                 \"stalled.example\" = {{ address = \"{}\", tls = false }}\n\
                 \"ok.example\" = {{ address = \"{}\", tls = false }}\n",
                dir.path().join("admin.sock"),
                dir.path().join("insight"),
                stalled.address(),
                answering.address()
            ),
        )?;
        Ok(Self { _dir: dir, address, config, stalled, _answering: answering })
    }

    fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = NetNs::here().command(&binary()?.to_string_lossy());
        command.args(args).arg("--config").arg(&self.config);
        Ok(command)
    }

    fn start(&self) -> Result<Running> {
        self.start_by(&["run"])
    }

    fn start_by(&self, args: &[&str]) -> Result<Running> {
        let mut proxy = Running::start(self.command(args)?)?;
        proxy.wait_for_stderr("(admin)", START_TIMEOUT)?;
        Ok(proxy)
    }

    /// Requests that wait for an answer, after some that had theirs, on connections that stay open.
    fn wait(&self) -> Result<Vec<Client>> {
        let mut done = Client::plain(self.address)?;
        for _ in 0..DELIVERED {
            let answer = done.ask(post("/ok.example/", "{}"))?;
            assert_eq!(answer.status(), 200);
            // A process that drains still takes who had connected before.
            if answer.field("Connection") == Some("close") {
                done = Client::plain(self.address)?;
            }
        }
        let before = self.stalled.heard().len();
        let clients = (0..WAITING).map(|_| {
            let mut client = Client::plain(self.address)?;
            client.wire().send(post("/stalled.example/", "{}"))?;
            Ok(client)
        });
        let clients = clients.chain([Ok(done)]).collect::<Result<_>>()?;
        let all_wait = || Ok(self.stalled.heard().len() == before + WAITING);
        wait_until("they are with the upstream", Duration::from_secs(5), all_wait)?;
        Ok(clients)
    }

    /// Exit code; lost, of, and causes of what this machine lost.
    fn lost(&self) -> Result<(Option<i32>, Value)> {
        let output = self.command(&["lost", "--json"])?.output()?;
        let report: Value = serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?;
        let stages = report["stages"].as_array().into_iter().flatten();
        let mut machine = stages.filter(|stage| stage["stage"] == "machine" && stage["unit"] == "posts");
        let machine = machine.next().context("no stage")?;
        Ok((output.status.code(), json!([machine["lost"], machine["of"], machine["causes"]])))
    }
}

fn kill(process: u32) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(process)?).context("a process id")?;
    kill_process(pid, Signal::KILL)?;
    wait_until("it has ended", START_TIMEOUT, || Ok(!is_there(process)))?;
    Ok(())
}

fn worker_of(proxy: &Running) -> Result<u32> {
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", proxy.pid()))?;
    children.trim().parse().with_context(|| format!("not one child: {children:?}"))
}

fn killed(posts: usize, of: usize) -> (Option<i32>, Value) {
    (Some(1), json!([posts, of, { "killed": posts }]))
}

#[test]
fn a_worker_that_is_killed_loses_what_was_under_way() -> Result<()> {
    let testbed = Testbed::new()?;
    let mut proxy = testbed.start()?;
    let clients = testbed.wait()?;
    assert_eq!(testbed.lost()?, (Some(0), json!([0, DELIVERED, {}])), "nothing is lost yet");
    kill(worker_of(&proxy)?)?;
    proxy.wait_for_stderr("7 POSTs were under way when hookgate was killed", START_TIMEOUT)?;
    let all = WAITING + DELIVERED;
    assert_eq!(testbed.lost()?, killed(WAITING, all));
    drop(clients);
    // Once more: what is counted is what that worker left.
    let clients = testbed.wait()?;
    // It has to be told before the kill: what was delivered since the last sample is not known.
    assert_eq!(testbed.lost()?, killed(WAITING, all + DELIVERED));
    kill(worker_of(&proxy)?)?;
    wait_until("another follows", START_TIMEOUT, || {
        Ok(testbed.lost().is_ok_and(|lost| lost == killed(2 * WAITING, 2 * all)))
    })?;
    drop(clients);
    assert!(proxy.stop()?.success());
    assert_eq!(testbed.lost()?, killed(2 * WAITING, 2 * all), "hookgate is down");
    let _proxy = testbed.start()?;
    assert_eq!(testbed.lost()?, killed(2 * WAITING, 2 * all), "not twice");
    Ok(())
}

#[test]
fn what_was_under_way_when_all_was_killed_is_found_without_hookgate_and_by_the_next() -> Result<()> {
    let testbed = Testbed::new()?;
    let proxy = testbed.start()?;
    let clients = testbed.wait()?;
    assert_eq!(testbed.lost()?, (Some(0), json!([0, DELIVERED, {}])));
    let (worker, all) = (worker_of(&proxy)?, WAITING + DELIVERED);
    kill_process(Pid::from_raw(i32::try_from(proxy.pid())?).context("a process id")?, Signal::KILL)?;
    // It ends with its supervisor, a moment later.
    wait_until("its worker has ended", START_TIMEOUT, || Ok(!is_there(worker)))?;
    drop((proxy, clients));
    assert_eq!(testbed.lost()?, killed(WAITING, all), "hookgate is down");
    assert_eq!(testbed.lost()?, killed(WAITING, all), "reading changes nothing");
    for _ in 0..2 {
        let mut proxy = testbed.start()?;
        assert_eq!(testbed.lost()?, killed(WAITING, all));
        assert!(proxy.stop()?.success());
        assert_eq!(testbed.lost()?, killed(WAITING, all), "a clean stop leaves nothing");
    }
    Ok(())
}

#[test]
fn what_a_drain_cuts_is_not_counted_as_killed() -> Result<()> {
    let testbed = Testbed::new()?;
    let mut proxy = testbed.start()?;
    let clients = testbed.wait()?;
    proxy.stop()?;
    drop(clients);
    let expected = (Some(1), json!([WAITING, WAITING + DELIVERED, { "ended": WAITING }]));
    assert_eq!(testbed.lost()?, expected);
    let _proxy = testbed.start()?;
    assert_eq!(testbed.lost()?, expected);
    Ok(())
}

#[test]
fn a_process_that_is_killed_while_another_has_taken_over_loses_its_own() -> Result<()> {
    let testbed = Testbed::new()?;
    std::fs::write(&testbed.config, std::fs::read_to_string(&testbed.config)?.replace("100ms", "60s"))?;
    let mut first = testbed.start()?;
    let clients = testbed.wait()?;
    assert_eq!(testbed.lost()?, (Some(0), json!([0, DELIVERED, {}])));
    let mut second = testbed.start_by(&["run", "--takeover"])?;
    first.wait_for_stderr("draining: ", START_TIMEOUT)?;
    let more = testbed.wait()?;
    let all = WAITING + DELIVERED;
    assert_eq!(testbed.lost()?.0, Some(0), "all are under way");
    kill(worker_of(&first)?)?;
    wait_until("its supervisor ends", START_TIMEOUT, || Ok(first.ended()?.is_some()))?;
    drop(clients);
    // Those of the second are under way.
    let worker = worker_of(&second)?;
    kill(worker)?;
    second.wait_for_stderr("POSTs were under way", START_TIMEOUT)?;
    drop(more);
    wait_until("both are told", START_TIMEOUT, || Ok(testbed.lost()? == killed(2 * WAITING, 2 * all)))?;
    Ok(())
}
