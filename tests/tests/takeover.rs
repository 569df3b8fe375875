//! A new process in place of the running one, while clients come and stay.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::scope;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{
    Client, Metrics, Moments, NetNs, Origin, Proxy, Running, TempDir, binary, equal, free_port, is_there,
    pace, run, wait_until,
};
use rustix::process::{Pid, Signal, kill_process};

const MAX_WAIT: Duration = Duration::from_secs(10);
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET: &[u8] = b"GET /up.example/ HTTP/1.1\r\nHost: proxy.example\r\n\r\n";

/// A proxy whose binary may be replaced.
struct Edge {
    proxy: Proxy,
    dir: TempDir,
    plain: SocketAddr,
    admin: SocketAddr,
}

impl Edge {
    fn start(origin: &Origin) -> Result<Self> {
        let dir = TempDir::new("takeover")?;
        let local = || Ok::<_, anyhow::Error>(SocketAddr::from(([127, 0, 0, 1], free_port()?)));
        let (plain, admin) = (local()?, local()?);
        let config = format!(
            "[listen]\nplain = [\"{plain}\"]\n[admin]\nlisten = \"{admin}\"\nsocket = {:?}\n[timeouts]\ndrain = \"2s\"\n\
             [upstreams]\n\"up.example\" = {{ address = \"{}\", tls = false }}\n",
            dir.path().join("admin.sock"),
            origin.address()
        );
        let copy = dir.path().join("hookgate");
        // By another process: a file that this one has open to write, a child of another test would
        // hold open.
        let mut cp = Command::new("cp");
        cp.arg(binary()?).arg(&copy);
        run(cp)?;
        let proxy = Proxy::start_binary(&NetNs::here(), &copy, &config)?;
        Ok(Self { proxy, dir, plain, admin })
    }
}

fn health(socket: &Path) -> Result<String> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::os::unix::net::UnixStream::connect(socket)?;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: hookgate\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn twenty_upgrades_under_load_fail_no_request_and_refuse_no_connection() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let edge = Edge::start(&origin)?;
    let (done, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    scope(|scope| -> Result<()> {
        let fresh = || -> Result<()> {
            while !done.load(Ordering::Relaxed) {
                let mut client = Client::plain(edge.plain).context("refused")?;
                ensure!(client.ask(GET)?.status() == 200);
                asked.fetch_add(1, Ordering::Relaxed);
                pace(Duration::from_millis(5));
            }
            Ok(())
        };
        let kept = || -> Result<()> {
            let mut client = Client::plain(edge.plain)?;
            while !done.load(Ordering::Relaxed) {
                let answer = client.ask(GET).context("on a connection that was kept")?;
                ensure!(answer.status() == 200);
                if answer.field("Connection") == Some("close") {
                    client = Client::plain(edge.plain).context("refused")?;
                }
                asked.fetch_add(1, Ordering::Relaxed);
                pace(Duration::from_millis(5));
            }
            Ok(())
        };
        let mut clients: Vec<_> = (0..4).map(|_| scope.spawn(fresh)).collect();
        clients.extend((0..4).map(|_| scope.spawn(kept)));
        let upgraded = (0..20).try_for_each(|_| edge.proxy.upgrade().map(drop));
        done.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().expect("a client says what is wrong")?;
        }
        upgraded
    })?;
    assert_eq!(edge.proxy.successors().len(), 20);
    assert!(asked.load(Ordering::Relaxed) > 100, "{asked:?}");
    assert!(health(&edge.dir.path().join("admin.sock"))?.contains("serving"));
    // A process that has been replaced ends.
    let former: Vec<u32> = edge.proxy.successors().into_iter().rev().skip(1).collect();
    wait_until("the former processes end", MAX_WAIT, || Ok(!former.iter().any(|pid| is_there(*pid))))?;
    // And the last one leaves nothing behind.
    let last = edge.proxy.pid();
    edge.proxy.signal(Signal::TERM)?;
    wait_until("the last process ends", MAX_WAIT, || Ok(!is_there(last)))?;
    assert!(Client::plain(edge.plain).is_err());
    let left: Vec<_> = fs::read_dir(edge.dir.path())?.map(|entry| entry.map(|e| e.file_name())).collect();
    assert_eq!(left.len(), 1, "{left:?}");
    Ok(())
}

#[test]
fn a_request_that_is_under_way_ends_where_it_began() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let mut edge = Edge::start(&origin)?;
    let mut client = Client::plain(edge.plain)?;
    client
        .wire()
        .send(b"POST /up.example/ HTTP/1.1\r\nHost: proxy.example\r\nContent-Length: 4\r\n\r\nha")?;
    let is_under_way = || Ok(origin.heard().concat().ends_with(b"ha"));
    wait_until("the first half reaches the upstream", MAX_WAIT, is_under_way)?;
    let old = edge.proxy.pid();
    edge.proxy.upgrade()?;
    assert!(parent(edge.proxy.pid()).is_some_and(|parent| parent != old), "it is nobody's child but init's");
    edge.proxy.wait_for_stderr("draining: ", MAX_WAIT)?;
    client.wire().send(b"lf")?;
    assert_eq!(client.response()?.status(), 200);
    Ok(())
}

#[test]
fn a_connected_client_may_send_one_more_request() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let edge = Edge::start(&origin)?;
    let (mut fresh, mut kept) = (Client::plain(edge.plain)?, Client::plain(edge.plain)?);
    assert_eq!(kept.ask(GET)?.status(), 200);
    let mut asking = Client::plain(edge.plain)?;
    let open = || Ok(equal(Metrics::read(edge.admin)?.value("hookgate_connections{class=\"allowed\"}"), 3.0));
    wait_until("all are connected", MAX_WAIT, open)?;
    edge.proxy.upgrade()?;
    wait_until("the old process drains", MAX_WAIT, || {
        let answer = asking.ask(GET)?;
        Ok((answer.field("Connection") == Some("close"), answer))
    })?;
    for client in [&mut fresh, &mut kept] {
        let answer = client.ask(GET)?;
        assert_eq!((answer.status(), answer.field("Connection")), (200, Some("close")));
    }
    Ok(())
}

#[test]
fn by_command_it_works_too_and_a_plain_second_start_takes_nothing() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let edge = Edge::start(&origin)?;
    let second = Command::new(binary()?).args(["run", "--config"]).arg(edge.proxy.config()).output()?;
    assert_eq!(second.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&second.stderr).contains("`hookgate run --takeover` takes its place"),
        "{second:?}"
    );

    let mut command = Command::new(binary()?);
    let first = edge.proxy.pid();
    command.args(["run", "--takeover", "--config"]).arg(edge.proxy.config());
    let mut second = Running::start(command)?;
    wait_until("the second process is the one in charge", MAX_WAIT, || {
        Ok(equal(edge.proxy.pid(), second.pid()))
    })
    .with_context(|| second.stderr())?;
    assert_eq!(Client::plain(edge.plain)?.ask(GET)?.status(), 200);
    wait_until("the first process ends", MAX_WAIT, || Ok(!is_there(first)))?;
    assert!(second.stop()?.success());
    Ok(())
}

#[test]
fn a_new_process_that_does_not_start_changes_nothing() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let mut edge = Edge::start(&origin)?;
    let good = fs::read_to_string(edge.proxy.config())?;
    fs::write(edge.proxy.config(), "[listen]\nhttps = [\"127.0.0.1:1\"]\n")?;
    edge.proxy.signal(Signal::USR2)?;
    edge.proxy.wait_for_stderr("nobody has taken over, this process goes on", MAX_WAIT)?;
    assert_eq!(Client::plain(edge.plain)?.ask(GET)?.status(), 200);
    // The binary is not there at the moment.
    fs::write(edge.proxy.config(), good)?;
    fs::rename(edge.dir.path().join("hookgate"), edge.dir.path().join("gone"))?;
    edge.proxy.signal(Signal::USR2)?;
    edge.proxy.wait_for_stderr("nobody can take over", MAX_WAIT)?;
    fs::rename(edge.dir.path().join("gone"), edge.dir.path().join("hookgate"))?;
    edge.proxy.upgrade()?;
    assert_eq!(Client::plain(edge.plain)?.ask(GET)?.status(), 200);
    Ok(())
}

#[test]
fn an_upgrade_that_fails_leaves_the_command_line_its_way() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let edge = Edge::start(&origin)?;
    let (good, socket) = (fs::read_to_string(edge.proxy.config())?, edge.dir.path().join("admin.sock"));
    let held = TcpListener::bind(("127.0.0.1", 0))?;
    let bad = good.replace(&edge.admin.to_string(), &held.local_addr()?.to_string());
    fs::write(edge.proxy.config(), bad)?;
    edge.proxy.signal(Signal::USR2)?;
    let failed = || Ok(edge.proxy.stderr().contains("nobody has taken over, this process goes on"));
    wait_until("the takeover fails", MAX_WAIT, failed).with_context(|| edge.proxy.stderr())?;
    assert!(health(&socket)?.contains("serving"));
    let reload = || edge.proxy.command(&NetNs::here(), &["reload"]);
    assert!(reload().is_err());
    // What differs from what runs is said each time, and nothing once it does not.
    fs::write(edge.proxy.config(), format!("{good}\n[process]\nuser = \"root\"\n"))?;
    assert!(reload()?.contains("[process] user changed, and needs a restart"));
    assert!(reload()?.contains("[process] user changed, and needs a restart"));
    fs::write(edge.proxy.config(), &good)?;
    assert_eq!(reload()?, "nothing changed\n");
    // The admin listener's socket is still there to be handed over.
    edge.proxy.upgrade()?;
    assert!(health(&socket)?.contains("serving"));
    // One that answers the command line elsewhere leaves nothing behind where it was.
    fs::write(edge.proxy.config(), good.replace("admin.sock", "other.sock"))?;
    edge.proxy.upgrade()?;
    assert!(health(&edge.dir.path().join("other.sock"))?.contains("serving"));
    wait_until("the socket is removed", MAX_WAIT, || Ok(!socket.exists()))?;
    Ok(())
}

#[test]
fn a_new_process_that_hangs_does_not_outlive_the_old_one() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let mut edge = Edge::start(&origin)?;
    let (binary, pid) = (edge.dir.path().join("hookgate"), edge.dir.path().join("pid"));
    let instead = |script: &str| {
        // By another process, as above.
        let mut sh = Command::new("sh");
        sh.args(["-c", "rm \"$2\"; printf '#!/bin/sh\n%s\n' \"$1\" >\"$2\"; chmod +x \"$2\"", "sh", script]);
        sh.arg(&binary);
        run(sh)
    };
    instead("exit 3")?;
    edge.proxy.signal(Signal::USR2)?;
    edge.proxy.wait_for_stderr("goes on: the new one ended with exit status: 3", MAX_WAIT)?;
    instead(&format!("echo $$ >{pid:?}; exec sleep 100"))?;
    edge.proxy.signal(Signal::USR2)?;
    wait_until("the process writes its id", MAX_WAIT, || {
        Ok(fs::read_to_string(&pid).is_ok_and(|pid| pid.ends_with('\n')))
    })?;
    edge.proxy.signal(Signal::USR2)?;
    edge.proxy.wait_for_stderr("nobody can take over: another process is about to", MAX_WAIT)?;
    assert_eq!(Client::plain(edge.plain)?.ask(GET)?.status(), 200);
    assert!(edge.proxy.stop()?.success());
    let hung = fs::read_to_string(&pid)?.trim().parse()?;
    wait_until("the process that hangs ends", MAX_WAIT, || Ok(!is_there(hung)))?;
    wait_until("the port is free", MAX_WAIT, || Ok(TcpListener::bind(edge.plain).is_ok()))?;
    Ok(())
}

#[test]
fn without_a_running_one_there_is_nothing_to_take_over() -> Result<()> {
    let dir = TempDir::new("takeover")?;
    let address = format!("127.0.0.1:{}", free_port()?);
    for (admin, expected) in [
        (String::new(), "configure one, or send it SIGUSR2"),
        (
            format!("[admin]\nsocket = {:?}\n", dir.path().join("a.sock")),
            "no running hookgate can be reached",
        ),
    ] {
        let config = dir.write("hookgate.toml", format!("[listen]\nplain = [\"{address}\"]\n{admin}"))?;
        let run = Command::new(binary()?).args(["run", "--takeover", "--config"]).arg(config).output()?;
        assert_eq!(run.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&run.stderr).contains(expected), "{run:?}");
    }
    Ok(())
}

/// A process that may not be left behind.
struct Ending(u32);

impl Drop for Ending {
    fn drop(&mut self) {
        let process = i32::try_from(self.0).ok().and_then(Pid::from_raw);
        // It may have ended.
        let _ = process.map(|process| kill_process(process, Signal::KILL));
    }
}

/// The process that will take over from `old`, with the same configuration. It is no child of
/// either.
fn successor(old: u32, worker: u32, config: &Path) -> Result<Option<u32>> {
    loop {
        let with_config = |pid: &u32| {
            let said = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            said.contains(&*config.to_string_lossy())
        };
        let names = fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let all: Vec<u32> = names.filter_map(|name| name.parse().ok()).filter(with_config).collect();
        let with_parent =
            all.iter().filter(|pid| ![old, worker].contains(pid)).map(|pid| (*pid, parent(*pid)));
        let others: Vec<(u32, Option<u32>)> = with_parent.collect();
        // For a moment the process between them is there, which forks the new one and ends.
        if !others.iter().any(|(_, parent)| *parent == Some(old)) {
            let is_free = |parent: Option<u32>| parent.is_some_and(|parent| !all.contains(&parent));
            return Ok(others.into_iter().find(|(_, parent)| is_free(*parent)).map(|(pid, _)| pid));
        }
        pace(Duration::from_millis(1));
    }
}

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

#[test]
fn a_start_after_a_kill_in_an_upgrade_is_fine() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let edge = Edge::start(&origin)?;
    let (config, binary) = (fs::read_to_string(edge.proxy.config())?, edge.dir.path().join("hookgate"));
    let begun = Instant::now();
    edge.proxy.upgrade()?;
    let mut moments = Moments::within(begun.elapsed().mul_f64(1.2));
    let Edge { proxy, dir: _dir, plain, .. } = edge;
    let last = proxy.pid();
    drop(proxy);
    wait_until("the last process ends and its port is closed", MAX_WAIT, || {
        Ok(!is_there(last) && Client::plain(plain).is_err())
    })?;
    let (mut before, mut after) = (0, 0);
    for round in 0..100 {
        let proxy = Proxy::start_binary(&NetNs::here(), &binary, &config)?;
        ensure!(Client::plain(plain)?.ask(GET)?.status() == 200, "round {round}");
        let (old, worker) = (proxy.pid(), proxy.worker()?);
        proxy.signal(Signal::USR2)?;
        moments.pass();
        let new = successor(old, worker, proxy.config())?.map(Ending);
        match new {
            // The one that is to take over: the old one goes on, unless it has been told that the
            // new one serves.
            Some(new) if round % 2 == 0 => {
                drop(new);
                let is_told = || {
                    Ok(["nobody has taken over", "has taken over"]
                        .iter()
                        .any(|text| proxy.stderr().contains(text)))
                };
                wait_until("the log says what happened", MAX_WAIT, is_told)
                    .with_context(|| format!("round {round}:\n{}", proxy.stderr()))?;
                if proxy.successors().is_empty() {
                    ensure!(
                        Client::plain(plain)?.ask(GET)?.status() == 200,
                        "round {round}: the old one is gone"
                    );
                    before += 1;
                }
            }
            // The one that runs: the new one serves, or has ended with it.
            new => {
                drop(Ending(old));
                wait_until("the old process ends", MAX_WAIT, || Ok(!is_there(old)))
                    .with_context(|| format!("round {round}: SIGKILL"))?;
                // It may have been started in the last moment.
                let new = new.or(successor(old, worker, proxy.config())?.map(Ending));
                let serves = || Client::plain(plain).and_then(|mut client| client.ask(GET)).is_ok();
                let settled = || Ok(!new.as_ref().is_some_and(|new| is_there(new.0)) || serves());
                wait_until("the proxy serves or has ended", MAX_WAIT, settled)
                    .with_context(|| format!("round {round}: neither serves nor ends\n{}", proxy.stderr()))?;
                after += usize::from(serves());
            }
        }
        drop(proxy);
        wait_until("the port is closed", MAX_WAIT, || Ok(Client::plain(plain).is_err()))
            .with_context(|| format!("round {round}: something is left"))?;
    }
    eprintln!("100 kills: the old one went on {before} times, the new one {after} times");
    let proxy = Proxy::start_binary(&NetNs::here(), &binary, &config)?;
    ensure!(Client::plain(plain)?.ask(GET)?.status() == 200, "{}", proxy.stderr());
    Ok(())
}
