//! Two processes, of which the one that serves has no privileges, and which end together.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::{Need, NetNs, Proxy, TempDir, require, run, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const ADDRESS: &str = "127.0.0.1:8443";
const ADMIN: &str = "127.0.0.1:9432";
const SOON: Duration = Duration::from_secs(5);

/// A proxy with a guard on the loopback interface of a namespace of its own.
struct Scene {
    ns: NetNs,
    proxy: Proxy,
    dir: TempDir,
}

impl Scene {
    fn start(more: &str) -> Result<Self> {
        let (ns, dir) = (NetNs::new()?, TempDir::new("supervised")?);
        let proxy = Proxy::start_in(
            &ns,
            &format!(
                "[listen]\nplain = [\"{ADDRESS}\"]\n[admin]\nlisten = \"{ADMIN}\"\nsocket = {:?}\n\
                 [guard]\ninterfaces = [\"lo\"]\nports = [8443]\n[upstreams]\n\"up.example\" = {{}}\n{more}",
                dir.path().join("admin.sock")
            ),
        )?;
        Ok(Self { ns, proxy, dir })
    }

    fn curl(&self, url: &str) -> Result<String> {
        let mut curl = self.ns.command("curl");
        curl.args(["-sS", "--max-time", "5", url]);
        run(curl)
    }

    fn stats(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.proxy.command(&self.ns, &["stats", "--json"])?)?)
    }
}

fn can_run() -> bool {
    require(&[Need::Root, Need::Guard, Need::Program("ip"), Need::Program("nsenter"), Need::Program("curl")])
}

fn capabilities(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:")).context("no CapEff")?;
    Ok(u64::from_str_radix(held.trim(), 16)?)
}

fn is_there(pid: u32) -> bool {
    // A zombie is not: what it held is free.
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

fn kill(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process id")?;
    Ok(kill_process(pid, signal)?)
}

#[test]
fn the_one_that_serves_holds_neither_privileges_nor_the_guard() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let scene = Scene::start("")?;
    let worker = scene.proxy.worker()?;
    assert_eq!(capabilities(worker)?, 0);
    for descriptor in fs::read_dir(format!("/proc/{worker}/fd"))? {
        let target = fs::read_link(descriptor?.path()).unwrap_or_default();
        assert!(!target.to_string_lossy().contains("bpf-prog"), "{target:?}");
    }
    assert!(scene.curl(&format!("http://{ADDRESS}/"))?.contains("names no upstream"));
    let metrics = scene.curl(&format!("http://{ADMIN}/metrics"))?;
    let packets =
        metrics.lines().find_map(|l| l.strip_prefix("hookgate_prefix_packets_total{prefix=\"other\"} "));
    let packets: u64 = packets.context("the parent has not told")?.parse()?;
    assert_eq!(scene.stats()?["other"]["packets"].as_u64(), Some(packets), "and it told the truth");
    assert!(packets > 5);
    Ok(())
}

#[test]
fn neither_outlives_the_other_and_the_guard_outlives_both() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    // The parent is killed.
    let mut scene = Scene::start("")?;
    let worker = scene.proxy.worker()?;
    scene.proxy.signal(Signal::KILL)?;
    assert!(wait_until(SOON, || Ok(scene.proxy.ended()?.is_some() && !is_there(worker)))?);
    assert_eq!(scene.stats()?["guard"]["state"], "attached");

    // The child is killed: the parent ends too, and says so.
    let mut scene = Scene::start("")?;
    kill(scene.proxy.worker()?, Signal::KILL)?;
    assert!(wait_until(SOON, || Ok(scene.proxy.ended()?.is_some()))?);
    assert_eq!(scene.proxy.ended()?.and_then(|status| status.code()), Some(1));
    assert!(wait_until(SOON, || Ok(scene.proxy.stderr().contains("ended by SIGKILL")))?);
    assert_eq!(scene.stats()?["guard"]["state"], "attached");
    Ok(())
}

#[test]
fn a_signal_to_either_drains_once() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    for (signal, to_worker) in [(Signal::TERM, false), (Signal::INT, false), (Signal::TERM, true)] {
        let mut scene = Scene::start("")?;
        let worker = scene.proxy.worker()?;
        kill(if to_worker { worker } else { scene.proxy.pid() }, signal)?;
        assert!(wait_until(SOON, || Ok(scene.proxy.ended()?.is_some()))?, "{signal:?}");
        assert_eq!(scene.proxy.ended()?.and_then(|status| status.code()), Some(0), "{signal:?}");
        assert!(wait_until(SOON, || Ok(scene.proxy.stderr().contains("drained; 0 connections were cut")))?);
        let said = scene.proxy.stderr();
        assert_eq!(said.matches("draining").count(), 1, "{said}");
        assert!(!is_there(worker));
        assert!(!scene.dir.path().join("admin.sock").exists());
        assert_eq!(scene.stats()?["guard"]["state"], "attached");
    }
    Ok(())
}

#[test]
fn a_user_who_may_not_see_pins_still_tells_what_was_counted() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let scene = Scene::start("[process]\nuser = \"nobody\"\n")?;
    scene.ns.run("chmod 700 /sys/fs/bpf")?;
    assert!(scene.curl(&format!("http://{ADDRESS}/"))?.contains("names no upstream"));
    let metrics = scene.curl(&format!("http://{ADMIN}/metrics"))?;
    assert!(metrics.contains("hookgate_prefix_packets_total{prefix=\"other\"}"), "{metrics}");
    assert_eq!(capabilities(scene.proxy.worker()?)?, 0);
    Ok(())
}
