//! The first commands after a clone of the repository: `cargo xtask run` and `cargo xtask demo`.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use aya::programs::{SchedClassifier, TcAttachType};
use harness::{Need, NetNs, Running, TempDir, free_port, require, run, wait_until, wrapped};
use rustix::process::Signal;

/// Long enough for a build, should one be needed.
const BUILD: Duration = Duration::from_secs(600);
const MAX_WAIT: Duration = Duration::from_secs(10);

#[test]
fn run_delivers_and_leaves_nothing() -> Result<()> {
    if !guard_can_run() {
        return Ok(());
    }
    let ns = NetNs::new()?;
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let mut demo = Started::new(&ns, &cargo_xtask(&[]))?;
        let answer = demo.try_it()?;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("signature valid"), "{answer}");
        demo.ensure_request_is_shown()?;
        let pin = format!("hookgate-run-{}", demo.running.pid());
        let said = demo.running.stderr();
        assert_eq!(pinned(&ns)?, [pin], "{said}");
        assert!(is_filtered(&ns)?, "{said}");

        let family = descendants(demo.running.pid())?;
        demo.running.signal(signal)?;
        let condition =
            format!("after {signal:?} its processes end, and its pins and its folder are removed");
        wait_until(condition, MAX_WAIT, || {
            let ended = demo.running.ended()?.is_some();
            let left: Vec<_> = family.iter().filter(|pid| is_alive(**pid)).collect();
            let (pins, has_ca) = (pinned(&ns)?, demo.ca.exists());
            let gone = ended && left.is_empty() && pins.is_empty() && !has_ca;
            Ok((gone, (left, pins, has_ca)))
        })?;
        assert!(!is_filtered(&ns)?);
        if signal != Signal::KILL {
            let status = demo.running.ended()?.context("ended")?;
            assert!(status.success(), "{signal:?}: {status}");
        }
    }
    Ok(())
}

/// Whether a tc program sees what comes in at the loopback, whose driver has no native XDP.
fn is_filtered(ns: &NetNs) -> Result<bool> {
    let linked = ns.inside(|| Ok(SchedClassifier::query_tcx("lo", TcAttachType::Ingress)))?;
    let is_linked = linked.is_ok_and(|(_, programs)| !programs.is_empty());
    Ok(is_linked || ns.run("tc filter show dev lo ingress")?.contains("/incoming"))
}

#[test]
fn run_mounts_a_bpf_file_system_where_there_is_none() -> Result<()> {
    if !guard_can_run() {
        return Ok(());
    }
    let ns = NetNs::new()?;
    assert_eq!(ns.run("stat -f -c %T /sys/fs/bpf")?, "bpf_fs\n");
    ns.run("umount /sys/fs/bpf")?;
    let mut demo = Started::new(&ns, &cargo_xtask(&[]))?;
    assert!(demo.try_it()?.starts_with("HTTP/1.1 200"));
    let said = demo.running.stderr();
    assert!(said.contains("mounted the BPF file system at /sys/fs/bpf while this runs"), "{said}");
    assert_eq!(pinned(&ns)?.len(), 1, "{said}");
    demo.running.signal(Signal::INT)?;
    wait_until("the demo ends", MAX_WAIT, || Ok(demo.running.ended()?.is_some()))?;
    assert_ne!(ns.run("stat -f -c %T /sys/fs/bpf")?, "bpf_fs\n");
    Ok(())
}

#[test]
fn run_needs_no_root() -> Result<()> {
    if !require(&[Need::Program("curl")]) {
        return Ok(());
    }
    let mut command = cargo_xtask(&[]);
    if rustix::process::geteuid().is_root() {
        // The linker is root's too, and looks at who calls it: nothing may be left to link.
        run(cargo(&["build", "--package", "hookgate"]))?;
        run(cargo(&["build", "--bin", "hookgate-demo", "--profile", "local"]))?;
        // Another user, who may read a toolchain and write a target folder that are root's.
        let kept = "-all,+dac_override,+dac_read_search";
        let [inherited, ambient] = ["--inh-caps", "--ambient-caps"];
        let another_user = ["--reuid", "65534", "--regid", "65534", "--clear-groups", "--bounding-set", kept];
        command =
            wrapped("setpriv", &[&another_user[..], &[inherited, kept, ambient, kept]].concat(), &command);
    }
    let here = NetNs::here();
    let demo = Started::new(&here, &command)?;
    assert!(demo.try_it()?.starts_with("HTTP/1.1 200"));
    let said = demo.running.stderr();
    assert!(said.contains("without the guard: attaching an XDP program needs root"), "{said}");
    Ok(())
}

#[test]
fn run_names_who_holds_the_port() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let error = run(cargo_xtask(&["--listen", &taken.local_addr()?.to_string()])).unwrap_err().to_string();
    assert!(error.contains(&format!("{} is taken by ", taken.local_addr()?)), "{error}");
    assert!(error.contains("choose another with --listen 127.0.0.1:"), "{error}");
    Ok(())
}

#[test]
fn run_with_arguments_is_hookgate_itself() -> Result<()> {
    let mut command = cargo_xtask(&["--", "--config", "/nonexistent/hookgate.toml"]);
    let output = command.output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("/nonexistent/hookgate.toml"), "{stderr}");
    Ok(())
}

#[test]
fn demo_counts_every_packet() -> Result<()> {
    if !demo_can_run() {
        return Ok(());
    }
    let output = cargo(&["xtask", "demo", "--dev"]).output()?;
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{errors}");
    assert!(said.ends_with("every packet was counted, under its own prefix\n"), "{said}");
    Ok(())
}

#[test]
fn demo_leaves_nothing_when_it_is_stopped() -> Result<()> {
    if !demo_can_run() {
        return Ok(());
    }
    let dir = TempDir::new("stopped")?;
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let stdout = dir.path().join("stdout");
        let mut demo =
            Running::start_into(cargo(&["xtask", "demo", "--dev"]), File::create(&stdout)?.into())?;
        wait_until("hookgate runs", BUILD, || {
            demo.still_running()?;
            Ok(std::fs::read_to_string(&stdout)?.contains("hookgate runs on"))
        })
        .with_context(|| demo.stderr())?;
        let family = descendants(demo.pid())?;
        assert!(family.len() > 6, "namespaces, nginx, dnsmasq, hookgate: {family:?}");
        demo.signal(signal)?;
        let gone = || Ok(demo.ended()?.is_some() && family.iter().all(|pid| !is_alive(*pid)));
        wait_until(format!("all of {family:?} end after {signal:?}"), MAX_WAIT, gone)?;
    }
    Ok(())
}

fn guard_can_run() -> bool {
    require(&[&[Need::Root, Need::Guard], &["curl", "ip", "unshare"].map(Need::Program)[..]].concat())
}

fn demo_can_run() -> bool {
    let programs = ["curl", "nginx", "dnsmasq", "ip", "ethtool", "tcpdump", "unshare"].map(Need::Program);
    require(&[&[Need::Root, Need::Guard], &programs[..]].concat())
}

/// What is pinned in a namespace's BPF file system, except the kernel's own two files.
fn pinned(ns: &NetNs) -> Result<Vec<String>> {
    let names = ns.run("ls -A /sys/fs/bpf")?;
    Ok(names.lines().filter(|name| !name.ends_with(".debug")).map(str::to_owned).collect())
}

/// `cargo xtask run`, told by its `try:` line that it is ready.
struct Started<'a> {
    running: Running,
    ns: &'a NetNs,
    /// What it printed: a command or an address by its name, `try` first.
    lines: Vec<(String, String)>,
    /// The certificate that the line names; it is in the temporary folder.
    ca: PathBuf,
    _dir: TempDir,
}

impl<'a> Started<'a> {
    fn new(ns: &'a NetNs, command: &Command) -> Result<Self> {
        let dir = TempDir::new("started")?;
        let stdout = dir.path().join("stdout");
        let mut command = ns.enter(command);
        command.args(["--listen", &format!("127.0.0.1:{}", free_port()?)]);
        let mut running = Running::start_into(command, File::create(&stdout)?.into())?;
        wait_until("the lines are written", BUILD, || {
            running.still_running()?;
            Ok(std::fs::read_to_string(&stdout)?.ends_with('\n'))
        })?;
        let text = std::fs::read_to_string(&stdout)?;
        let named = |line: &str| line.split_once(": ").map(|(name, rest)| (name.to_owned(), rest.to_owned()));
        let lines =
            text.lines().map(|line| named(line).with_context(|| format!("a line without a name: {line}")));
        let lines = lines.collect::<Result<Vec<_>>>()?;
        let names = lines.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();
        assert_eq!(names, ["try", "send", "page", "stats", "deliveries"]);
        let mut words = lines[0].1.split(' ').skip_while(|word| *word != "--cacert");
        let ca = words.nth(1).context("no --cacert")?.into();
        Ok(Self { running, ns, lines, ca, _dir: dir })
    }

    fn try_it(&self) -> Result<String> {
        self.type_in("try")
    }

    /// The printed commands work as they are, and the status page is this run's.
    fn ensure_request_is_shown(&self) -> Result<()> {
        let said = self.running.stderr();
        assert!(!said.contains("warning"), "{said}");
        let sent = self.type_in("send")?;
        assert!(sent.contains("1 of 1 delivered") && sent.ends_with(", 10 updates\n"), "{sent}");
        let received = "10 updates (10 messages), signature valid";
        wait_until("the receiver's line is printed", MAX_WAIT, || {
            let said = self.running.stderr();
            Ok((said.contains(received), said))
        })?;
        let deliveries = self.type_in("deliveries")?;
        assert!(deliveries.contains("POST") && deliveries.contains("receiver.example"), "{deliveries}");
        let stats = self.type_in("stats")?;
        assert!(stats.contains("attached"), "{stats}");
        let page = &self.line("page")?;
        let mut curl = self.ns.command("curl");
        curl.args(["-sS", "--fail", "--noproxy", "*", page]);
        let html = run(curl)?;
        assert!(html.contains("<title>"), "{html}");
        let mut curl = self.ns.command("curl");
        curl.args(["-sS", "--fail", "--noproxy", "*", &format!("{page}status.json")]);
        let status = run(curl)?;
        assert!(status.contains("receiver.example") && status.contains("\"200\""), "{status}");
        Ok(())
    }

    fn line(&self, name: &str) -> Result<String> {
        let line = self.lines.iter().find(|(at, _)| at == name);
        line.map(|(_, line)| line.clone()).with_context(|| format!("no line {name}"))
    }

    fn type_in(&self, name: &str) -> Result<String> {
        let mut shell = self.ns.command("sh");
        shell.args(["-c", &self.line(name)?]);
        run(shell)
    }
}

fn cargo_xtask(args: &[&str]) -> Command {
    let mut command = cargo(&["xtask", "run", "--dev"]);
    command.args(args);
    command
}

fn cargo(args: &[&str]) -> Command {
    let mut cargo = harness::cargo();
    cargo.args(args).current_dir(workspace());
    cargo
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Children, their children, and so on.
fn descendants(pid: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let parent = stat(pid).and_then(|(_, parent)| parent.parse().ok());
        parents.extend(parent.map(|parent: u32| (pid, parent)));
    }
    let mut family = vec![pid];
    let mut at = 0;
    while at < family.len() {
        let of = family[at];
        family.extend(parents.iter().filter(|(_, parent)| *parent == of).map(|(pid, _)| *pid));
        at += 1;
    }
    Ok(family.split_off(1))
}

/// Gone, or dead and only not yet reaped.
fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != "Z" && state != "X")
}

/// State and parent of a process.
fn stat(pid: u32) -> Option<(String, String)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').map(str::to_owned);
    Some((fields.next()?, fields.next()?))
}
