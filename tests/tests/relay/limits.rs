//! What the machine allows: descriptors and memory, and what becomes of connections that do not
//! fit.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{
    Certs, Client, End, Need, NetNs, Proxy, TempDir, binary, free_port, memory_control, pace, require,
    wait_until,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use crate::client_tls::trusting;
use crate::{OK, Origin, get, local, post, proxy_line, request, upstream};

/// A relay whose process may have `soft` descriptors, and raise that to `hard`.
struct Limited {
    proxy: Proxy,
    address: SocketAddr,
    _dir: TempDir,
}

impl Limited {
    fn start(soft: u32, hard: u32, listen: &str, config: &str) -> Result<Self> {
        Self::start_by(&format!("exec prlimit --nofile={soft}:{hard}"), listen, config)
    }

    /// `before` is what a shell runs, with hookgate's own command line at its end.
    fn start_by(before: &str, listen: &str, config: &str) -> Result<Self> {
        let dir = TempDir::new("limited")?;
        let script = format!("#!/bin/sh\n{before} {} \"$@\"\n", binary()?.display());
        let script = executable(&dir, &script)?;
        let address = local(free_port()?);
        let config = format!("[listen]\nplain = [\"{address}\"]\n{listen}\n{config}");
        let proxy = Proxy::start_binary(&NetNs::here(), &script, &config)?;
        Ok(Self { proxy, address, _dir: dir })
    }

    /// How many of `count` connections are answered; they are held meanwhile.
    fn admitted(&self, count: usize) -> Result<usize> {
        let mut held = Vec::new();
        for _ in 0..count {
            let mut client = Client::plain(self.address)?;
            if client.ask(get("/")).is_ok() {
                held.push(client);
            }
        }
        Ok(held.len())
    }
}

fn executable(dir: &TempDir, script: &str) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.write("hookgate.sh", script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// Processor time so far, in ticks of 10 ms.
fn ticks(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("hookgate is gone")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let time = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    let (user, system) = time(11).zip(time(12)).context("a stat without times")?;
    Ok(user + system)
}

const PATIENT: &str = "[timeouts]\nrequest_head = \"30s\"\nresponse = \"2s\"\n";

#[test]
fn out_of_descriptors_it_neither_spins_nor_dies_and_recovers() -> Result<()> {
    if !require(&[Need::Program("prlimit")]) {
        return Ok(());
    }
    let origin = Origin::answering(OK)?;
    let config = format!("{PATIENT}[limits]\nconnections = 1000\n{}", upstream(origin.address(), ""));
    let mut relay = Limited::start(64, 64, "", &config)?;
    let mut served = Client::plain(relay.address)?;
    assert_eq!(served.ask(post("/up.example/", "x"))?.status(), 200);

    // More than it can have; the kernel completes their handshakes all the same.
    let crowd: Vec<Client> = (0..150).map(|_| Client::plain(relay.address)).collect::<Result<_>>()?;
    relay.proxy.wait_for_stderr("Too many open files", Duration::from_secs(5))?;
    assert!(relay.proxy.descriptors()? >= 62, "{:?}", relay.proxy.descriptors());
    let (before, begun, logged) = (ticks(relay.proxy.worker()?)?, Instant::now(), relay.proxy.stderr().len());
    // The one that is served goes on, on the connection that its upstream has kept.
    while begun.elapsed() < Duration::from_secs(2) {
        assert_eq!(served.ask(post("/up.example/", "x"))?.status(), 200);
        pace(Duration::from_millis(100));
    }
    let spent = ticks(relay.proxy.worker()?)? - before;
    let lines = relay.proxy.stderr()[logged..].matches("Too many open files").count();
    eprintln!("starved for 2 s: {} ms of processor time, {lines} lines of log", spent * 10);
    assert!(spent < 40, "{} ms of processor time in 2 s", spent * 10);
    assert!(lines <= 2, "{lines} lines in 2 s");

    // A request that needs another connection is told so, and the upstream hears nothing of it.
    let connections = origin.connections();
    drop(crowd);
    let recovered = || Ok(Client::plain(relay.address)?.ask(post("/up.example/", "x"))?.status() == 200);
    wait_until("new connections are served again", Duration::from_secs(5), recovered)
        .with_context(|| relay.proxy.stderr())?;
    assert!(origin.connections() <= connections + 2);
    assert_eq!(served.ask(post("/up.example/", "x"))?.status(), 200);
    assert!(relay.proxy.ended()?.is_none());
    Ok(())
}

#[test]
fn a_request_without_a_descriptor_for_its_upstream_is_a_502() -> Result<()> {
    if !require(&[Need::Program("prlimit")]) {
        return Ok(());
    }
    let origin = Origin::answering(OK)?;
    let config = format!("{PATIENT}[limits]\nconnections = 1000\n{}", upstream(origin.address(), ""));
    let mut relay = Limited::start(64, 64, "", &config)?;
    let mut waiting = Client::plain(relay.address)?;
    assert_eq!(waiting.ask(get("/"))?.status(), 404);
    let _crowd: Vec<Client> = (0..150).map(|_| Client::plain(relay.address)).collect::<Result<_>>()?;
    relay.proxy.wait_for_stderr("Too many open files", Duration::from_secs(5))?;
    let answer = waiting.ask(post("/up.example/", "x"))?;
    assert_eq!((answer.status(), answer.proxy_error().is_some()), (502, true), "{answer:?}");
    assert_eq!(origin.connections(), 0);
    Ok(())
}

#[test]
fn the_soft_limit_of_descriptors_is_raised_and_connections_follow_from_the_hard_one() -> Result<()> {
    if !require(&[Need::Program("prlimit")]) {
        return Ok(());
    }
    let relay = Limited::start(64, 228, "", PATIENT)?;
    let limits = fs::read_to_string(format!("/proc/{}/limits", relay.proxy.worker()?))?;
    let line = limits.lines().find(|line| line.starts_with("Max open files")).context("no such limit")?;
    let numbers: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers, ["228", "228"]);
    // 128 for everything else, and two a connection.
    assert_eq!(relay.admitted(80)?, 50);
    Ok(())
}

/// A control group that leaves its processes so much memory, and one inside it without a limit;
/// removed on drop.
struct MemoryGroup(PathBuf);

impl MemoryGroup {
    fn new(bytes: u64) -> Result<Self> {
        let [folder, limit] = memory_control().context("no control groups for memory")?;
        let group = Self(Path::new(folder).join(format!("hookgate-test-{}", std::process::id())));
        fs::create_dir(&group.0).with_context(|| format!("making {}", group.0.display()))?;
        fs::write(group.0.join(limit), bytes.to_string())?;
        fs::create_dir(group.inner())?;
        Ok(group)
    }

    fn inner(&self) -> PathBuf {
        self.0.join("inner")
    }

    /// The most that it has used.
    fn peak_bytes(&self) -> Result<u64> {
        let names = ["memory.peak", "memory.max_usage_in_bytes"].map(|name| self.0.join(name));
        let peak = names.iter().find_map(|path| fs::read_to_string(path).ok()).context("no peak is kept")?;
        peak.trim().parse().context("a peak that is no number")
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Its processes may still be ending.
        let removed = wait_until("its processes end", Duration::from_secs(5), || {
            // May be gone already; whether all is gone is what counts.
            let _ = fs::remove_dir(self.inner());
            Ok(fs::remove_dir(&self.0).is_ok())
        });
        if removed.is_err() {
            eprintln!("{} stays behind", self.0.display());
        }
    }
}

#[test]
fn connections_follow_from_the_memory_that_a_control_group_leaves() -> Result<()> {
    if !require(&[Need::Root, Need::MemoryControl]) {
        return Ok(());
    }
    // 28 KiB each, of three quarters.
    let group = MemoryGroup::new(24 << 20)?;
    let enter = format!("echo $$ >{}/cgroup.procs && exec", group.inner().display());
    let relay = Limited::start_by(&enter, "", PATIENT)?;
    assert_eq!(relay.admitted(700)?, 658);
    drop(relay);
    Ok(())
}

#[test]
fn networks_of_the_guards_are_exempt_from_what_one_stranger_may_have() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let config = format!(
        "{PATIENT}[limits]\nconnections = 40\nper_source = 2\n[guard]\ninterfaces = []\n\
         refresh = \"off\"\nallow = [\"198.51.100.0/24\", \"2001:db8:7::/48\"]\n{}",
        upstream(origin.address(), "")
    );
    let relay = Limited::start(1000, 1000, "proxy_protocol_from = [\"127.0.0.0/8\"]", &config)?;
    let arrive = |from: &str| -> Result<usize> {
        let mut held = Vec::new();
        for _ in 0..6 {
            let mut client = Client::plain(relay.address)?;
            client.wire().send(proxy_line(from) + &get("/up.example/"))?;
            if client.response().is_ok() {
                held.push(client);
            }
        }
        Ok(held.len())
    };
    for (from, admitted) in [
        ("198.51.100.7", 6),
        ("::ffff:198.51.100.7", 6),
        ("2001:db8:7::1", 6),
        ("198.51.101.7", 2),
        ("2001:db8:8::1", 2),
    ] {
        assert_eq!(arrive(from)?, admitted, "{from}");
    }
    Ok(())
}

/// The contract's number on the contract's machine: each has asked something over TLS, and stays;
/// then some upload to an upstream that reads nothing.
#[test]
#[ignore = "takes minutes"]
fn twelve_thousand_connections_and_slow_uploads_on_half_a_gigabyte() -> Result<()> {
    if !require(&[Need::Root, Need::MemoryControl]) {
        return Ok(());
    }
    const CONNECTIONS: usize = 12_000;
    const UPLOADS: usize = 200;
    const LANES: usize = 4;
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).context("raising our own limit")?;
    let dir = TempDir::new("many")?;
    let certs = Certs::new(&["proxy.example.com"])?;
    let [_, cert, key] = certs.write(&dir, "edge")?;
    let https = local(free_port()?);
    let (wake, woken) = std::sync::mpsc::channel::<()>();
    let woken = std::sync::Mutex::new(woken);
    let deaf = Origin::plain(move |connection| {
        connection.head()?;
        // Until the test is over.
        let _ = woken.lock().map(|woken| woken.recv());
        Ok(End::Reset)
    })?;
    let group = MemoryGroup::new(512 << 20)?;
    let enter = format!("echo $$ >{}/cgroup.procs && exec", group.inner().display());
    let config = format!(
        "[tls]\ncert = {cert:?}\nkey = {key:?}\n[limits]\nconnections = {CONNECTIONS}\n\
         [timeouts]\nkeepalive = \"1h\"\n[log]\naccess = false\n{}",
        upstream(deaf.address(), "")
    );
    let relay = Limited::start_by(&enter, &format!("https = [\"{https}\"]"), &config)?;
    let (before, _) = relay.proxy.memory_kib()?;
    let trust = trusting(&certs)?;
    let mut held: Vec<TlsStream> = thread::scope(|scope| {
        let open = || -> Result<Vec<TlsStream>> {
            (0..CONNECTIONS / LANES)
                .map(|_| {
                    let name = ServerName::try_from("proxy.example.com")?;
                    let session = ClientConnection::new(trust.clone(), name)?;
                    let mut stream = StreamOwned::new(session, TcpStream::connect(https)?);
                    ask(&mut stream)?;
                    Ok(stream)
                })
                .collect()
        };
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(open)).collect();
        let lanes = lanes.into_iter().map(|lane| lane.join().expect("a lane"));
        lanes.collect::<Result<Vec<_>>>().map(|lanes| lanes.into_iter().flatten().collect())
    })?;
    let (now, most) = relay.proxy.memory_kib()?;
    eprintln!("{before} KiB before, {now} KiB with {} connections, at most {most} KiB", held.len());
    assert!(most < 400 * 1024, "{most} KiB leave too little for the kernel's part");

    held[..UPLOADS].iter_mut().try_for_each(upload)?;
    let ((now, _), peak) = (relay.proxy.memory_kib()?, group.peak_bytes()? >> 10);
    eprintln!(
        "{now} KiB with {UPLOADS} uploads beside; the group's peak, the kernel's part included: {peak} KiB"
    );
    assert!(peak < 480 * 1024, "{peak} KiB of {} leave no room", 512 << 10);
    held.iter_mut().skip(UPLOADS).step_by(100).try_for_each(ask).context("they are alive")?;
    drop(wake);
    Ok(())
}

/// Sends of an upload of 1 MiB as much as is taken.
fn upload(stream: &mut TlsStream) -> Result<()> {
    stream.sock.set_write_timeout(Some(Duration::from_millis(100)))?;
    let head = request("POST /up.example/", &[&format!("Content-Length: {}", 1 << 20)], "");
    let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&vec![b'x'; (1 << 20) - 1]));
    let waits = |error: &std::io::Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
    ensure!(sent.as_ref().err().is_none_or(waits), "an upload: {sent:?}");
    stream.sock.set_read_timeout(Some(Duration::from_millis(1)))?;
    let answer = stream.read(&mut [0; 64]);
    ensure!(answer.as_ref().is_err_and(waits), "an upload is answered: {answer:?}");
    Ok(())
}

/// A client with one descriptor, which the harness's has not.
type TlsStream = StreamOwned<ClientConnection, TcpStream>;

fn ask(stream: &mut TlsStream) -> Result<()> {
    stream.write_all(get("/").as_bytes())?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"expected\n") {
        let mut piece = [0; 1024];
        let count = stream.read(&mut piece)?;
        ensure!(count > 0, "closed after {:?}", answer.escape_ascii().to_string());
        answer.extend_from_slice(&piece[..count]);
    }
    ensure!(answer.starts_with(b"HTTP/1.1 404 "));
    Ok(())
}
