//! Two processes: a worker without privileges, and its supervisor, with which it ends and which
//! replaces it after a crash.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use harness::{
    Client, Metrics, Need, NetNs, Origin, Proxy, TempDir, equal, free_port, is_there, pace, require, run,
    wait_until,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const ADDRESS: &str = "127.0.0.1:8443";
const ADMIN: &str = "127.0.0.1:9432";
const MAX_WAIT: Duration = Duration::from_secs(5);

/// A proxy with a guard on the loopback interface of a namespace of its own.
struct Testbed {
    ns: NetNs,
    proxy: Proxy,
    dir: TempDir,
}

const GUARD: &str = "[guard]\ninterfaces = [\"lo\"]\nports = [8443]\n";

impl Testbed {
    fn start(more: &str) -> Result<Self> {
        Self::start_with(&[GUARD, more].concat())
    }

    /// `more` of the configuration, without a guard of itself.
    fn start_with(more: &str) -> Result<Self> {
        let (ns, dir) = (NetNs::new()?, TempDir::new("supervised")?);
        let proxy = Proxy::start_in(
            &ns,
            &format!(
                "[listen]\nplain = [\"{ADDRESS}\"]\n[admin]\nlisten = \"{ADMIN}\"\nsocket = {:?}\n\
                 [upstreams]\n\"up.example\" = {{}}\n{more}",
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

fn kill(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process id")?;
    Ok(kill_process(pid, signal)?)
}

#[test]
fn a_worker_holds_neither_privileges_nor_the_guard() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let testbed = Testbed::start("")?;
    let worker = testbed.proxy.worker()?;
    assert_eq!(capabilities(worker)?, 0);
    // linux/capability.h: of what loads programs and what controls the whole machine, the
    // supervisor has the first alone.
    let (bpf, ptrace, module) = (1 << 39, 1 << 19, 1 << 16);
    assert_eq!(capabilities(testbed.proxy.pid())? & (bpf | ptrace | module), bpf);
    for descriptor in fs::read_dir(format!("/proc/{worker}/fd"))? {
        let target = fs::read_link(descriptor?.path()).unwrap_or_default();
        assert!(!target.to_string_lossy().contains("bpf-prog"), "{target:?}");
    }
    assert!(testbed.curl(&format!("http://{ADDRESS}/"))?.contains("names no upstream"));
    let metrics = testbed.curl(&format!("http://{ADMIN}/metrics"))?;
    let packets =
        metrics.lines().find_map(|l| l.strip_prefix("hookgate_prefix_packets_total{prefix=\"other\"} "));
    let packets: u64 = packets.context("the supervisor has not reported it")?.parse()?;
    assert_eq!(testbed.stats()?["other"]["packets"].as_u64(), Some(packets), "and it told the truth");
    assert!(packets > 5);
    Ok(())
}

#[test]
fn no_worker_outlives_its_supervisor_and_the_guard_outlives_both() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut testbed = Testbed::start("")?;
    let worker = testbed.proxy.worker()?;
    testbed.proxy.signal(Signal::KILL)?;
    wait_until("both processes end", MAX_WAIT, || Ok(testbed.proxy.ended()?.is_some() && !is_there(worker)))?;
    assert_eq!(testbed.stats()?["guard"]["state"], "attached");
    Ok(())
}

#[test]
fn a_worker_has_an_address_layout_of_its_own() -> Result<()> {
    if !require(&[Need::Root]) {
        return Ok(());
    }
    let proxy = Proxy::start(&format!("[listen]\nplain = [\"127.0.0.1:{}\"]\n[upstreams]\n", free_port()?))?;
    let stack = |pid: u32| -> Result<String> {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
        Ok(maps.lines().find(|line| line.ends_with("[stack]")).context("no stack")?.to_owned())
    };
    assert_ne!(stack(proxy.worker()?)?, stack(proxy.pid())?);
    let environment = fs::read(format!("/proc/{}/environ", proxy.worker()?))?;
    assert_eq!(String::from_utf8(environment)?, "HOOKGATE_WORKER=stdin\0");
    Ok(())
}

/// Twenty times, under 200 requests a second: clients that connect wait, and only requests under
/// way fail.
#[test]
fn a_worker_that_crashes_is_replaced_and_no_connection_refused() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    const CRASHES: u64 = 20;
    const PACE: Duration = Duration::from_millis(5);
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
    let (plain, admin) = (free_port()?, free_port()?);
    let plain = SocketAddr::from(([127, 0, 0, 1], plain));
    let dir = TempDir::new("supervised")?;
    let proxy = Proxy::start(&format!(
        "[listen]\nplain = [\"{plain}\"]\n[admin]\nlisten = \"127.0.0.1:{admin}\"\nsocket = {:?}\n\
         [upstreams]\n\"up.example\" = {{ address = \"{}\", tls = false }}\n",
        dir.path().join("admin.sock"),
        origin.address(),
    ))?;
    let supervisor = proxy.pid();
    let is_over = AtomicBool::new(false);
    let (delivered, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let deliver = || -> Result<()> {
        let mut client = Client::plain(plain).context("a connection was refused")?;
        let answer = client.ask("GET /up.example/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let is_delivered = answer.is_ok_and(|answer| answer.start.starts_with("HTTP/1.1 200 "));
        let count = if is_delivered { &delivered } else { &failed };
        count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    thread::scope(|scope| -> Result<()> {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        deliver()?;
                        pace(8 * PACE);
                    }
                    Ok::<_, anyhow::Error>(())
                })
            })
            .collect();
        let crash = || -> Result<()> {
            for _ in 0..CRASHES {
                let (worker, before) = (proxy.worker()?, delivered.load(Ordering::Relaxed));
                kill(worker, Signal::KILL)?;
                let is_back = || {
                    let serves = delivered.load(Ordering::Relaxed) >= before + 20;
                    Ok(serves && proxy.worker().is_ok_and(|next| next != worker))
                };
                wait_until("another worker serves", MAX_WAIT, is_back).with_context(|| proxy.stderr())?;
            }
            Ok(())
        };
        let crashed = crash();
        is_over.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().map_err(|_| anyhow!("a client panicked"))??;
        }
        crashed
    })?;
    let (delivered, failed) = (delivered.into_inner(), failed.into_inner());
    // At most one request of each client was under way at each crash.
    assert!(delivered >= 20 * CRASHES && failed <= 8 * CRASHES, "{delivered} delivered, {failed} failed");
    assert_eq!(proxy.pid(), supervisor);
    let metrics = Metrics::read(SocketAddr::from(([127, 0, 0, 1], admin)))?;
    assert_eq!(metrics.value("hookgate_worker_restarts_total") as u64, CRASHES);
    let said = proxy.stderr();
    assert_eq!(
        said.matches("the worker was ended by SIGKILL; another one takes its place").count() as u64,
        CRASHES
    );
    Ok(())
}

#[test]
fn a_worker_that_follows_a_crash_serves_with_what_was_in_force() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut testbed = Testbed::start("")?;
    assert!(testbed.curl(&format!("http://{ADDRESS}/"))?.contains("names no upstream"));
    let before = testbed.stats()?;
    // What lies on the disk is not what is in force.
    let text = fs::read_to_string(testbed.proxy.config())?;
    fs::write(testbed.proxy.config(), text.replace("[upstreams]\n", "[upstreams]\n\"more.example\" = {}\n"))?;
    let worker = testbed.proxy.worker()?;
    kill(worker, Signal::ABORT)?;
    testbed
        .proxy
        .wait_for_stderr("the worker was ended by SIGABRT; another one takes its place", MAX_WAIT)?;
    let metrics = || testbed.curl(&format!("http://{ADMIN}/metrics"));
    wait_until("the metrics are served again", MAX_WAIT, || Ok(metrics().is_ok()))
        .with_context(|| testbed.proxy.stderr())?;
    let guard = "guard: attached to lo (tc";
    wait_until("the guard is told twice", MAX_WAIT, || {
        Ok(equal(testbed.proxy.stderr().matches(guard).count(), 2))
    })
    .with_context(|| testbed.proxy.stderr())?;
    let packets = |stats: &Value| stats["other"]["packets"].as_u64();
    assert!(testbed.curl(&format!("http://{ADDRESS}/more.example/x"))?.contains("not allowed"));
    assert!(packets(&testbed.stats()?) > packets(&before), "the guard goes on counting");
    // The command line's socket is still there, and a later end takes it away.
    assert!(testbed.proxy.command(&testbed.ns, &["reload"])?.starts_with("[upstreams] 1 added"));
    testbed.proxy.signal(Signal::TERM)?;
    wait_until("the proxy ends", MAX_WAIT, || Ok(testbed.proxy.ended()?.is_some()))?;
    assert_eq!(testbed.proxy.ended()?.and_then(|status| status.code()), Some(0));
    assert!(!testbed.dir.path().join("admin.sock").exists());
    Ok(())
}

/// The kernel takes its time to end one that is killed, and its successor does not know.
#[test]
fn a_start_waits_for_those_who_are_about_to_let_go() -> Result<()> {
    let (address, dir) = (SocketAddr::from(([127, 0, 0, 1], free_port()?)), TempDir::new("supervised")?);
    let socket = dir.path().join("admin.sock");
    let held = (TcpListener::bind(address)?, UnixListener::bind(&socket)?);
    let letting_go = thread::spawn(move || {
        pace(Duration::from_millis(500));
        drop(held);
    });
    let config = format!("[listen]\nplain = [\"{address}\"]\n[admin]\nsocket = {socket:?}\n[upstreams]\n");
    let mut proxy = Proxy::start(&config)?;
    letting_go.join().map_err(|_| anyhow!("panicked"))?;
    let answered = || {
        Ok(Client::plain(address)
            .and_then(|mut client| client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
            .is_ok())
    };
    wait_until("the proxy answers", MAX_WAIT, answered).with_context(|| proxy.stderr())?;
    assert!(proxy.stop()?.success());
    Ok(())
}

#[test]
fn a_guard_that_is_refused_is_no_success_of_a_reload() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let testbed = Testbed::start("")?;
    let good = fs::read_to_string(testbed.proxy.config())?;
    let native = good.replace(GUARD, &format!("{GUARD}xdp = \"native\"\n"));
    let more = native.replace("[upstreams]\n", "[upstreams]\n\"more.example\" = {}\n");
    fs::write(testbed.proxy.config(), more)?;
    let refusal = |testbed: &Testbed| -> Result<String> {
        Ok(format!("{:#}", testbed.proxy.command(&testbed.ns, &["reload"]).err().context("it was reloaded")?))
    };
    let refused = "refused: [guard]: the program can't run on lo in native mode";
    let said = refusal(&testbed)?;
    assert!(said.contains(refused) && said.contains("[upstreams] 1 added"), "{said}");
    assert!(!said.contains("what was in force stays") && !said.contains("stays as it was"), "{said}");

    // It is no less refused the next time, and SIGHUP tells the same.
    let said = refusal(&testbed)?;
    assert!(said.contains(refused) && !said.contains("[upstreams]"), "{said}");
    testbed.proxy.signal(Signal::HUP)?;
    let told = || testbed.proxy.stderr().matches(&format!("not reloaded: {refused}")).count();
    wait_until("three crashes are told", MAX_WAIT, || Ok(equal(told(), 3)))
        .with_context(|| testbed.proxy.stderr())?;
    assert!(!testbed.proxy.stderr().contains("nothing changed"), "{}", testbed.proxy.stderr());

    fs::write(testbed.proxy.config(), good)?;
    let said = testbed.proxy.command(&testbed.ns, &["reload"])?;
    assert!(said.starts_with("[upstreams] 0 added, 1 removed"), "{said}");
    Ok(())
}

#[test]
fn a_supervisor_that_may_not_signal_its_worker_commands_it_all_the_same() -> Result<()> {
    if !require(&[Need::Root, Need::Program("setpriv")]) {
        return Ok(());
    }
    let dir = TempDir::new("supervised")?;
    let script = format!("#!/bin/sh\nexec setpriv --bounding-set=-kill -- {:?} \"$@\"\n", harness::binary()?);
    let script = dir.write("hookgate", script)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let config = format!("[listen]\nplain = [\"127.0.0.1:{}\"]\n[upstreams]\n", free_port()?);
    let start = || Proxy::start_binary(&NetNs::here(), &script, &config);

    let mut proxy = start()?;
    assert_eq!(capabilities(proxy.pid())? & 1 << 5, 0, "CAP_KILL");
    proxy.signal(Signal::HUP)?;
    proxy.wait_for_stderr("reloaded: nothing changed", MAX_WAIT)?;
    assert!(proxy.stop()?.success());

    let mut proxy = start()?;
    let worker = proxy.worker()?;
    proxy.signal(Signal::KILL)?;
    wait_until("both processes end", MAX_WAIT, || Ok(proxy.ended()?.is_some() && !is_there(worker)))?;
    // What it said last may not have been read yet.
    wait_until("the log says that the worker does not answer", MAX_WAIT, || {
        Ok(proxy.stderr().contains("does not answer any more"))
    })?;
    Ok(())
}

#[test]
fn a_signal_to_the_supervisor_or_to_both_drains_once() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    for (signal, to_both) in [(Signal::TERM, false), (Signal::INT, false), (Signal::TERM, true)] {
        let mut testbed = Testbed::start("")?;
        let worker = testbed.proxy.worker()?;
        if to_both {
            kill(worker, signal)?;
        }
        testbed.proxy.signal(signal)?;
        wait_until(format!("the proxy ends after {signal:?}"), MAX_WAIT, || {
            Ok(testbed.proxy.ended()?.is_some())
        })?;
        assert_eq!(testbed.proxy.ended()?.and_then(|status| status.code()), Some(0), "{signal:?}");
        wait_until("the log says that it drained", MAX_WAIT, || {
            Ok(testbed.proxy.stderr().contains("drained; 0 connections were cut"))
        })?;
        let said = testbed.proxy.stderr();
        assert_eq!(said.matches("draining").count(), 1, "{said}");
        assert!(!is_there(worker));
        assert!(!testbed.dir.path().join("admin.sock").exists());
        assert_eq!(testbed.stats()?["guard"]["state"], "attached");
    }
    Ok(())
}

#[test]
fn a_user_who_may_not_see_pins_still_tells_what_was_counted() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let testbed = Testbed::start("[process]\nuser = \"nobody\"\n")?;
    testbed.ns.run("chmod 700 /sys/fs/bpf")?;
    assert!(testbed.curl(&format!("http://{ADDRESS}/"))?.contains("names no upstream"));
    let metrics = testbed.curl(&format!("http://{ADMIN}/metrics"))?;
    assert!(metrics.contains("hookgate_prefix_packets_total{prefix=\"other\"}"), "{metrics}");
    assert_eq!(capabilities(testbed.proxy.worker()?)?, 0);
    Ok(())
}

/// What system calls give in the process, which a debugger has it make: the result, or an error
/// number below zero. A call is its number and its arguments; `$passwd` and `$true` are paths. The
/// process waits in a call, whose instruction is used again: gdb's own way to call a function
/// fails on processors with larger registers than it knows.
fn inject(pid: u32, calls: &[&str]) -> Result<Vec<i64>> {
    const REGISTERS: [&str; 7] = ["rax", "rdi", "rsi", "rdx", "r10", "r8", "r9"];
    let mut script = vec![
        "set debuginfod enabled off".to_owned(),
        "set scheduler-locking on".to_owned(),
        "set $waits = $rip".to_owned(),
        "set $passwd = $rsp - 1024".to_owned(),
        "set {char[12]} $passwd = \"/etc/passwd\"".to_owned(),
        "set $true = $rsp - 512".to_owned(),
        "set {char[10]} $true = \"/bin/true\"".to_owned(),
    ];
    script.extend(REGISTERS.map(|register| format!("set $old_{register} = ${register}")));
    for call in calls {
        script.push("set $rip = $waits - 2".to_owned());
        let values = call.split(", ").chain(std::iter::repeat("0"));
        script.extend(REGISTERS.iter().zip(values).map(|(name, value)| format!("set ${name} = {value}")));
        script.push("stepi".to_owned());
        script.push("printf \"gave %ld\\n\", $rax".to_owned());
    }
    script.extend(REGISTERS.map(|register| format!("set ${register} = $old_{register}")));
    // EINTR: it was interrupted.
    script.push("set $rax = -4".to_owned());
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch", "-p", &pid.to_string()]);
    gdb.args(script.iter().flat_map(|command| ["-ex", command]));
    let said = run(gdb)?;
    let gave = said.lines().filter_map(|line| line.strip_prefix("gave "));
    let gave: Vec<i64> = gave.map(|result| Ok(result.parse()?)).collect::<Result<_>>()?;
    ensure!(gave.len() == calls.len(), "{said}");
    Ok(gave)
}

/// Where nothing is confined, the debugger gets its way: what is refused below is not refused by
/// chance.
const PASSWD: &str = "2, $passwd, 0";

#[test]
fn a_worker_cannot_read_files_or_execute_or_bind() -> Result<()> {
    if !require(&[Need::Root, Need::Program("gdb")]) {
        return Ok(());
    }
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let proxy = Proxy::start(&format!("[listen]\nplain = [\"{address}\"]\n[upstreams]\n"))?;
    // prctl: whether there may be a core of it.
    let parent = inject(proxy.pid(), &[PASSWD, "157, 3"])?;
    assert!(parent[0] > 2 && parent[1] == 0, "{parent:?}");

    let worker = proxy.worker()?;
    let status = fs::read_to_string(format!("/proc/{worker}/status"))?;
    assert!(status.contains("Seccomp:\t2\n") && status.contains("NoNewPrivs:\t1\n"), "{status}");
    let denied = -1;
    let calls = [
        PASSWD,
        "257, -100, $passwd, 0",     // openat
        "59, $true",                 // execve
        "57",                        // fork
        "56, 17",                    // clone of a process
        "101",                       // ptrace
        "41, 16, 3, 0",              // a netlink socket
        "41, 1, 1, 0",               // a unix socket
        "10, 0x400000, 4096, 5",     // memory to be executed
        "105, 0",                    // setuid
        "62, 1, 0",                  // kill
        "234, 1, 1, 0",              // tgkill
        "49",                        // bind
        "50",                        // listen
        "41, 2, 1, 262",             // an MPTCP socket
        "321",                       // bpf
        "157, 4, 1",                 // prctl: to be traced by others
        "437, -100, $passwd, 0, 24", // openat2
        "425, 8",                    // io_uring
    ];
    assert_eq!(inject(worker, &calls)?, vec![denied; calls.len()]);
    // It goes on serving.
    let answer = Client::plain(address)?.ask("GET / HTTP/1.1\r\nHost: proxy.example\r\n\r\n")?;
    assert_eq!((answer.status(), proxy.worker()?), (404, worker));
    Ok(())
}

#[test]
fn what_needs_a_restart_comes_by_an_upgrade() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let testbed = Testbed::start_with("")?;
    assert_eq!(testbed.stats()?["guard"]["state"], "detached");
    let config = fs::read_to_string(testbed.proxy.config())?;
    let other = "127.0.0.1:9433";
    fs::write(
        testbed.proxy.config(),
        config.replace(ADMIN, other) + GUARD + "[process]\nuser = \"nobody\"\n",
    )?;
    let said = testbed.proxy.command(&testbed.ns, &["reload"])?;
    assert!(said.contains("[process] user changed, and needs a restart"), "{said}");
    assert_eq!(testbed.curl(&format!("http://{other}/health"))?, "serving\n", "needs none");
    assert!(said.contains(&format!("`kill -USR2 {}` restarts it", testbed.proxy.pid())), "{said}");
    // This process has no capability for a guard any more.
    let from_outside = "restart from outside (`systemctl restart hookgate`)";
    assert!(said.contains(&format!("[guard] changed, and needs a {from_outside}")), "{said}");
    testbed.proxy.upgrade()?;
    assert!(testbed.proxy.stderr().contains(&format!(": {from_outside}")), "{}", testbed.proxy.stderr());
    assert_eq!(testbed.stats()?["guard"]["state"], "detached");
    assert_eq!(testbed.curl(&format!("http://{other}/health"))?, "serving\n");
    let owner = fs::metadata(format!("/proc/{}", testbed.proxy.worker()?))?.uid();
    assert_eq!(owner.to_string(), user_id("nobody")?);
    Ok(())
}

fn user_id(user: &str) -> Result<String> {
    let mut id = Command::new("id");
    id.args(["-u", user]);
    Ok(run(id)?.trim().to_owned())
}
