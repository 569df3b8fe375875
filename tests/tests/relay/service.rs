//! Under a service manager, by its protocols alone: what it hears, and sockets that it has opened.

use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::{Client, Need, Origin, Running, TempDir, binary, free_port, require, wait_until};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::{OK, get, local, upstream};

const MAX_WAIT: Duration = Duration::from_secs(5);

/// Listens at the ports that it is given, on descriptors 3, 4 and so on, as a service manager does,
/// and becomes hookgate a moment later.
const PASS: &str = "
import os, socket, sys, time
binary, config, *ports = sys.argv[1:]
high = [socket.create_server(('127.0.0.1', int(port))) for port in ports]
time.sleep(0.5 if high else 0)
high = [os.dup2(one.fileno(), 100 + index) for index, one in enumerate(high)]
for index, one in enumerate(high):
    os.dup2(one, 3 + index)
    os.close(one)
os.closerange(3 + len(high), 100)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(high)))
os.execv(binary, [binary, 'run', '--config', config])
";

/// `hookgate run` with listening sockets at these addresses.
fn run(dir: &TempDir, sockets: &[SocketAddr], config: &str) -> Result<Running> {
    let config = format!("{config}\n[insight]\nstate = \"insight\"\n");
    let config = dir.write("hookgate.toml", config)?;
    let mut command = Command::new("python3");
    command.args(["-c", PASS]).arg(binary()?).arg(config);
    command.args(sockets.iter().map(|address| address.port().to_string()));
    command.env("NOTIFY_SOCKET", dir.path().join("notify"));
    Running::start(command)
}

#[test]
fn it_hears_when_the_proxy_is_ready_reloads_and_ends() -> Result<()> {
    if !require(&[Need::Program("python3")]) {
        return Ok(());
    }
    let dir = TempDir::new("notify")?;
    let manager = UnixDatagram::bind(dir.path().join("notify"))?;
    manager.set_read_timeout(Some(MAX_WAIT))?;
    let heard = || -> Result<String> {
        let mut message = [0; 256];
        let length = manager.recv(&mut message).context("nothing is heard")?;
        Ok(String::from_utf8_lossy(&message[..length]).into_owned())
    };
    let address = local(free_port()?);
    let config = format!("[listen]\nplain = [\"{address}\"]\n[upstreams]\n");
    let mut proxy = run(&dir, &[], &config)?;
    assert_eq!(heard()?.trim_end(), "READY=1");
    assert_eq!(Client::plain(address)?.ask(get("/"))?.status(), 404, "it is");
    proxy.signal(Signal::HUP)?;
    assert!(heard()?.starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(heard()?.trim_end(), "READY=1");
    // Another process takes over: the manager hears from the old one who it is, and nothing of the
    // old one's end.
    proxy.signal(Signal::USR2)?;
    let new = heard()?;
    let new: i32 = new.trim_end().strip_prefix("MAINPID=").context("no MAINPID")?.parse()?;
    assert_eq!(heard()?.trim_end(), "READY=1");
    wait_until("the first process ends", MAX_WAIT, || Ok(proxy.ended()?.is_some()))?;
    let new = Pid::from_raw(new).context("no process id")?;
    kill_process(new, Signal::TERM)?;
    assert_eq!(heard()?.trim_end(), "STOPPING=1");
    wait_until("the new process ends", MAX_WAIT, || Ok(test_kill_process(new).is_err()))?;
    Ok(())
}

#[test]
fn its_watchdog_hears_nothing_of_a_proxy_that_has_stopped() -> Result<()> {
    let dir = TempDir::new("watchdog")?;
    let manager = UnixDatagram::bind(dir.path().join("notify"))?;
    manager.set_read_timeout(Some(Duration::from_millis(1500)))?;
    let heard = || -> Result<String> {
        let mut message = [0; 256];
        let length = manager.recv(&mut message)?;
        Ok(String::from_utf8_lossy(&message[..length]).trim_end().to_owned())
    };
    let config = dir.write(
        "hookgate.toml",
        format!("[listen]\nplain = [\"{}\"]\n[insight]\nstate = \"insight\"\n", local(free_port()?)),
    )?;
    let mut command = Command::new(binary()?);
    command.args(["run", "--config"]).arg(config);
    command.env("NOTIFY_SOCKET", dir.path().join("notify")).env("WATCHDOG_USEC", "600000");
    let mut proxy = Running::start(command)?;
    assert_eq!(heard()?, "READY=1");
    for _ in 0..4 {
        assert_eq!(heard()?, "WATCHDOG=1");
    }
    let pid = proxy.pid();
    let worker = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let worker = Pid::from_raw(worker.trim().parse()?).context("no process id")?;
    kill_process(worker, Signal::STOP)?;
    let last = heard().and_then(|_| heard());
    kill_process(worker, Signal::CONT)?;
    assert!(last.is_err(), "it is still told that all is well");
    assert_eq!(heard()?, "WATCHDOG=1", "and again when it goes on");
    assert!(proxy.stop()?.success());
    Ok(())
}

#[test]
fn sockets_that_were_open_before_it_serve_waiting_clients() -> Result<()> {
    if !require(&[Need::Program("python3")]) {
        return Ok(());
    }
    let (dir, origin) = (TempDir::new("activation")?, Origin::answering(OK)?);
    let [address, unwanted] = [local(free_port()?), local(free_port()?)];
    let config = format!("[listen]\nplain = [\"{address}\"]\n{}", upstream(origin.address(), ""));
    let mut proxy = run(&dir, &[address, unwanted], &config)?;
    let mut early = None;
    wait_until("the early client connects", MAX_WAIT, || {
        early = Client::plain(address).ok();
        Ok(early.is_some())
    })?;
    let mut early = early.context("nobody listens")?;
    // Before there is a proxy.
    early.wire().send(get("/up.example/"))?;
    assert_eq!(early.response()?.status(), 200, "{}", proxy.stderr());
    assert_eq!(Client::plain(address)?.ask(get("/up.example/"))?.status(), 200);
    proxy.wait_for_stderr(&format!("{unwanted}: inherited, but not in [listen]"), MAX_WAIT)?;
    assert!(Client::plain(unwanted).is_err(), "and closed");
    Ok(())
}
