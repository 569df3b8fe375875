use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use toml::de::DeTable;

use crate::{NetNs, Running, TempDir, is_there, run, wait_until};

/// The real `hookgate`, running with a configuration of its own; SIGTERM on drop.
pub struct Proxy {
    running: Running,
    binary: PathBuf,
    config: PathBuf,
    _dir: TempDir,
}

/// Where everything with TLS is to have the kernel's from the handshake on
/// (`HOOKGATE_KTLS=always`), unless `config` says what it wants.
fn with_kernel_tls(config: &str) -> String {
    const SETTING: &str = "[tls]\nktls = \"always\"\n";
    match std::env::var_os("HOOKGATE_KTLS") {
        None => config.to_owned(),
        Some(_) if config.contains("ktls =") => config.to_owned(),
        Some(_) if config.contains("[tls]\n") => config.replacen("[tls]\n", SETTING, 1),
        Some(_) => format!("{config}\n{SETTING}"),
    }
}

/// With figures of its own, beside the configuration and small, unless `config` says where.
fn with_own_insight(config: &str) -> String {
    match config.contains("[insight]") {
        true => config.to_owned(),
        false => format!("{config}\n[insight]\nstate = \"insight\"\nledger = 10000\n"),
    }
}

/// An emulated machine's verifier alone takes more than ten.
const START_TIMEOUT: Duration = Duration::from_secs(60);

impl Proxy {
    /// Runs `hookgate run` with `config` (the text of a hookgate.toml) and returns once every
    /// listener is there.
    ///
    /// # Errors
    /// The binary is missing, or ends before it listens; the error holds what it said.
    pub fn start(config: &str) -> Result<Self> {
        Self::start_in(&NetNs::here(), config)
    }

    /// The same inside a namespace.
    ///
    /// # Errors
    /// As [`Proxy::start`].
    pub fn start_in(ns: &NetNs, config: &str) -> Result<Self> {
        Self::start_binary(ns, &binary()?, config)
    }

    /// The same with a binary of your choice.
    ///
    /// # Errors
    /// As [`Proxy::start`].
    pub fn start_binary(ns: &NetNs, binary: &Path, config: &str) -> Result<Self> {
        let dir = TempDir::new("proxy")?;
        let path = dir.write("hookgate.toml", with_own_insight(&with_kernel_tls(config)))?;
        let mut command = ns.command(&binary.to_string_lossy());
        command.args(["run", "--config"]).arg(&path);
        let mut proxy =
            Self { running: Running::start(command)?, binary: binary.to_owned(), config: path, _dir: dir };
        proxy.wait_until_listening(&listeners(config)?)?;
        Ok(proxy)
    }

    fn wait_until_listening(&mut self, addresses: &[SocketAddr]) -> Result<()> {
        let pid = self.running.pid();
        let condition = format!("hookgate listens on {addresses:?}");
        let listening = wait_until(condition, START_TIMEOUT, || {
            self.running.still_running()?;
            Ok(listens(pid, addresses))
        });
        listening.map(drop).with_context(|| self.stderr())
    }

    /// The process that was started, or the last one that has taken its place.
    pub fn pid(&self) -> u32 {
        self.successors().last().copied().unwrap_or(self.running.pid())
    }

    /// Those that have taken its place, in order.
    pub fn successors(&self) -> Vec<u32> {
        let said = self.running.stderr();
        let pid = |line: &str| line.split_once(" process ")?.1.strip_suffix(" has taken over")?.parse().ok();
        said.lines().filter_map(pid).collect()
    }

    /// Another process takes its place; which.
    ///
    /// # Errors
    /// It does not come to that.
    pub fn upgrade(&self) -> Result<u32> {
        let before = self.pid();
        self.signal(Signal::USR2)?;
        wait_until("another process takes over", START_TIMEOUT, || Ok(self.pid() != before))
            .with_context(|| format!("nobody has taken over:\n{}", self.stderr()))?;
        Ok(self.pid())
    }

    /// Its only child, which serves.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub fn worker(&self) -> Result<u32> {
        let pid = self.pid();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        children.trim().parse().with_context(|| format!("not one child: {children:?}"))
    }

    pub fn config(&self) -> &Path {
        &self.config
    }

    /// What it logged so far.
    pub fn stderr(&self) -> String {
        self.running.stderr()
    }

    /// # Errors
    /// The text is not logged within `limit`, or the proxy ends before it.
    pub fn wait_for_stderr(&mut self, text: &str, limit: Duration) -> Result<()> {
        self.running.wait_for_stderr(text, limit)
    }

    /// # Errors
    /// The proxy is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        match self.successors().last() {
            None => self.running.signal(signal),
            Some(pid) => send(*pid, signal),
        }
    }

    /// SIGKILL; returns once the worker has gone, too, and with it its listeners.
    ///
    /// # Errors
    /// It had ended already, or something of it stays.
    pub fn kill(&mut self) -> Result<()> {
        let worker = self.worker()?;
        self.signal(Signal::KILL)?;
        wait_until("the worker ends too", START_TIMEOUT, || Ok(self.ended()?.is_some() && !is_there(worker)))
            .with_context(|| format!("process {worker} outlives the one that started it"))?;
        Ok(())
    }

    /// SIGTERM, and its exit status.
    ///
    /// # Errors
    /// It had to be killed.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.running.stop()
    }

    /// How the process ended that was started; `None` while it runs.
    ///
    /// # Errors
    /// The kernel refuses to say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.running.ended()
    }

    /// Resident memory of the worker in KiB: now, and the most it ever was.
    ///
    /// # Errors
    /// The proxy is gone.
    pub fn memory_kib(&self) -> Result<(u64, u64)> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.worker()?))
            .context("hookgate is gone")?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_suffix("kB"))?;
            line.trim().parse::<u64>().ok()
        };
        field("VmRSS:").zip(field("VmHWM:")).context("a process without memory")
    }

    /// How many descriptors the worker has open.
    ///
    /// # Errors
    /// The proxy is gone.
    pub fn descriptors(&self) -> Result<usize> {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.worker()?)).context("hookgate is gone")?;
        Ok(open.count())
    }

    /// Another command of the same binary on the same configuration, such as `stats --json`, inside
    /// `ns`.
    ///
    /// # Errors
    /// It fails; the error holds what it said.
    pub fn command(&self, ns: &NetNs, args: &[&str]) -> Result<String> {
        let mut command = ns.command(&self.binary.to_string_lossy());
        command.args(args).arg("--config").arg(&self.config);
        run(command)
    }
}

impl Drop for Proxy {
    /// The one that was started ends by itself.
    fn drop(&mut self) {
        for pid in self.successors().into_iter().filter(|pid| is_there(*pid)) {
            // It may have ended in the meantime.
            let _ = send(pid, Signal::KILL);
        }
    }
}

fn send(pid: u32, signal: Signal) -> Result<()> {
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw).context("not a process id")?;
    kill_process(process, signal).with_context(|| format!("sending {signal:?} to process {pid}"))
}

/// The binary under test: `$HOOKGATE_BIN`, or `hookgate` in the profile's folder that this test was
/// built into.
///
/// # Errors
/// There is none; the error says what to run.
pub fn binary() -> Result<PathBuf> {
    let path = match std::env::var_os("HOOKGATE_BIN") {
        Some(path) => PathBuf::from(path),
        None => {
            let exe = std::env::current_exe().context("where are we?")?;
            let built =
                exe.ancestors().skip(1).take(2).map(|dir| dir.join("hookgate")).find(|path| path.is_file());
            built.with_context(|| format!("no hookgate beside {}: run `cargo xtask test`", exe.display()))?
        }
    };
    ensure!(path.is_file(), "no hookgate at {}: run `cargo xtask build` first", path.display());
    Ok(path)
}

/// The binary that counts what its workers take from the heap, which `cargo xtask test` builds
/// beside the other.
///
/// # Errors
/// As [`binary`], or there is none.
pub fn counting_binary() -> Result<PathBuf> {
    let path = binary()?.with_file_name("hookgate-counting");
    ensure!(path.is_file(), "no {}: run `cargo xtask test`", path.display());
    Ok(path)
}

/// Every address under `[listen]`, and the admin listener's.
fn listeners(config: &str) -> Result<Vec<SocketAddr>> {
    let config = DeTable::parse(config).context("the test's own hookgate.toml")?;
    let listen = config.get_ref().get("listen").context("a configuration without [listen]")?.get_ref();
    let relay =
        ["https", "http", "plain"].iter().filter_map(|key| listen.get(*key)?.get_ref().as_array()).flatten();
    let admin = config.get_ref().get("admin").and_then(|admin| admin.get_ref().get("listen"));
    relay
        .chain(admin)
        .map(|a| a.get_ref().as_str().and_then(|a| a.parse().ok()).context("a listener that is no address"))
        .collect()
}

/// Whether a process listens on the ports of these addresses. Read from the kernel's table of the
/// process's own namespace: no probe connection that counters would see.
pub fn listens(pid: u32, addresses: &[SocketAddr]) -> bool {
    const LISTEN: &str = "0A";
    let table = ["tcp", "tcp6"].map(|name| std::fs::read_to_string(format!("/proc/{pid}/net/{name}")));
    let rows = table.iter().flatten().flat_map(|text| text.lines().skip(1));
    let ports = rows.filter_map(|row| {
        let mut columns = row.split_whitespace().skip(1);
        let (local, _remote, state) = (columns.next()?, columns.next()?, columns.next()?);
        let port = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
        (state == LISTEN).then_some(port)
    });
    let ports = ports.collect::<Vec<_>>();
    addresses.iter().all(|address| ports.contains(&address.port()))
}
