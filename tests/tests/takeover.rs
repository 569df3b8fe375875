//! A new process in place of the running one, while clients come and stay.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{scope, sleep};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Client, Origin, Running, TempDir, binary, free_port, is_there, run, wait_until};
use rustix::process::{Pid, Signal, kill_process};

const SOON: Duration = Duration::from_secs(10);
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET: &[u8] = b"GET /up.example/ HTTP/1.1\r\nHost: proxy.example\r\n\r\n";

/// A proxy, and whatever processes have taken its place: their output comes to the first one's.
struct Edge {
    first: Running,
    dir: TempDir,
    plain: SocketAddr,
}

impl Edge {
    fn start(origin: &Origin) -> Result<Self> {
        let dir = TempDir::new("takeover")?;
        let plain = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let config = format!(
            "[listen]\nplain = [\"{plain}\"]\n[admin]\nsocket = {:?}\n[timeouts]\ndrain = \"2s\"\n\
             [upstreams]\n\"up.example\" = {{ address = \"{}\", tls = false }}\n",
            dir.path().join("admin.sock"),
            origin.address()
        );
        let config = dir.write("hookgate.toml", config)?;
        // A copy, as an upgrade replaces it.
        // By another process: a file that this one has open to write, a child of another test would hold open.
        let mut copy = Command::new("cp");
        copy.arg(binary()?).arg(dir.path().join("hookgate"));
        run(copy)?;
        let mut command = Command::new(dir.path().join("hookgate"));
        command.args(["run", "--config"]).arg(config);
        let first = Running::start(command)?;
        let edge = Self { first, dir, plain };
        ensure!(wait_until(SOON, || Ok(Client::plain(plain).is_ok()))?, "{}", edge.first.stderr());
        Ok(edge)
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("hookgate.toml")
    }

    /// Those that have taken over so far, in order.
    fn successors(&self) -> Vec<u32> {
        let said = self.first.stderr();
        let pid = |line: &str| line.split_once(" process ")?.1.strip_suffix(" has taken over")?.parse().ok();
        said.lines().filter_map(pid).collect()
    }

    fn pid(&self) -> u32 {
        self.successors().last().copied().unwrap_or(self.first.pid())
    }

    /// Another process takes over; which.
    fn upgrade(&self) -> Result<u32> {
        let before = self.pid();
        signal(before, Signal::USR2)?;
        ensure!(wait_until(SOON, || Ok(self.pid() != before))?, "{}", self.first.stderr());
        Ok(self.pid())
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        for pid in self.successors() {
            let _ = signal(pid, Signal::KILL); // it may have ended
        }
    }
}

fn process(pid: u32) -> Result<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process id")
}

fn signal(pid: u32, signal: Signal) -> Result<()> {
    Ok(kill_process(process(pid)?, signal)?)
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
                sleep(Duration::from_millis(5));
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
                sleep(Duration::from_millis(5));
            }
            Ok(())
        };
        let mut clients: Vec<_> = (0..4).map(|_| scope.spawn(fresh)).collect();
        clients.extend((0..4).map(|_| scope.spawn(kept)));
        let upgraded = (0..20).try_for_each(|_| edge.upgrade().map(drop));
        done.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().expect("a client says what is wrong")?;
        }
        upgraded
    })?;
    assert_eq!(edge.successors().len(), 20);
    assert!(asked.load(Ordering::Relaxed) > 100, "{asked:?}");
    assert!(health(&edge.dir.path().join("admin.sock"))?.contains("serving"));
    // Whoever has been replaced goes.
    let former: Vec<u32> = edge.successors().into_iter().rev().skip(1).collect();
    assert!(wait_until(SOON, || Ok(!former.iter().any(|pid| is_there(*pid))))?);
    // And the last one leaves nothing behind.
    let last = edge.pid();
    signal(last, Signal::TERM)?;
    assert!(wait_until(SOON, || Ok(!is_there(last)))?);
    assert!(Client::plain(edge.plain).is_err());
    let left: Vec<_> = fs::read_dir(edge.dir.path())?.map(|entry| entry.map(|e| e.file_name())).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    Ok(())
}

#[test]
fn a_request_that_is_under_way_ends_where_it_began() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let edge = Edge::start(&origin)?;
    let mut client = Client::plain(edge.plain)?;
    client
        .wire()
        .send(b"POST /up.example/ HTTP/1.1\r\nHost: proxy.example\r\nContent-Length: 4\r\n\r\nha")?;
    sleep(Duration::from_millis(200));
    edge.upgrade()?;
    sleep(Duration::from_millis(200));
    client.wire().send(b"lf")?;
    assert_eq!(client.response()?.status(), 200);
    Ok(())
}

#[test]
fn whoever_is_connected_may_ask_once_more() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let edge = Edge::start(&origin)?;
    let (mut fresh, mut kept) = (Client::plain(edge.plain)?, Client::plain(edge.plain)?);
    assert_eq!(kept.ask(GET)?.status(), 200);
    sleep(Duration::from_millis(100));
    edge.upgrade()?;
    sleep(Duration::from_millis(300));
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
    let second = Command::new(binary()?).args(["run", "--config"]).arg(edge.config()).output()?;
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("cannot listen"), "{second:?}");

    let mut command = Command::new(binary()?);
    command.args(["run", "--takeover", "--config"]).arg(edge.config());
    let mut second = Running::start(command)?;
    assert!(wait_until(SOON, || Ok(edge.pid() == second.pid()))?, "{}", second.stderr());
    assert_eq!(Client::plain(edge.plain)?.ask(GET)?.status(), 200);
    let first = edge.first.pid();
    assert!(wait_until(SOON, || Ok(!is_there(first)))?);
    assert!(second.stop()?.success());
    Ok(())
}

#[test]
fn a_new_process_that_does_not_start_changes_nothing() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let mut edge = Edge::start(&origin)?;
    let good = fs::read_to_string(edge.config())?;
    fs::write(edge.config(), "[listen]\nhttps = [\"127.0.0.1:1\"]\n")?;
    edge.first.signal(Signal::USR2)?;
    edge.first.wait_for_stderr("nobody has taken over, this process goes on", SOON)?;
    assert_eq!(Client::plain(edge.plain)?.ask(GET)?.status(), 200);
    // The binary is not there at the moment.
    fs::write(edge.config(), good)?;
    fs::rename(edge.dir.path().join("hookgate"), edge.dir.path().join("gone"))?;
    edge.first.signal(Signal::USR2)?;
    edge.first.wait_for_stderr("nobody can take over", SOON)?;
    fs::rename(edge.dir.path().join("gone"), edge.dir.path().join("hookgate"))?;
    edge.upgrade()?;
    assert_eq!(Client::plain(edge.plain)?.ask(GET)?.status(), 200);
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
