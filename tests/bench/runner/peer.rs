use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use harness_core::{TempDir, quoted_path, wait_until, wrapped};
use rustix::fs::{CWD, Mode, OFlags, mkfifoat, open};
use rustix::io::Errno;

use crate::cgroup::Cgroup;
use crate::config::{Config, floor_args};
use crate::kind::{Addresses, Kind};
use crate::process;
use crate::testbed::{Logged, Testbed, nginx};
use crate::threads::Threads;

/// How long a shell may take to start.
const SHELL_START_TIMEOUT: Duration = Duration::from_secs(30);

/// A proxy that runs on the proxies' core, in front of the testbed's origins.
pub struct Peer {
    pub kind: Kind,
    pub addresses: Addresses,
    config: Config,
    process: Logged,
    /// Once the process is gone.
    cgroup: Option<Cgroup>,
    dir: TempDir,
}

/// A peer's files, ready to be started.
pub struct Prepared {
    kind: Kind,
    pub addresses: Addresses,
    config: Config,
    /// Whether it will reload; HAProxy then needs a second process.
    reloads: bool,
    cgroup: Option<Cgroup>,
    dir: TempDir,
}

/// A process that is about to become a peer.
pub struct Held {
    peer: Peer,
    gate: File,
}

impl Peer {
    /// # Errors
    /// It does not start; the error holds what it said.
    pub fn start(kind: Kind, testbed: &Testbed) -> Result<Self> {
        Prepared::new(kind, testbed)?.start(testbed)
    }

    /// The last lines of its log.
    pub fn last_words(&self) -> String {
        self.process.last_words()
    }

    /// Allows one more host, and tells the running process.
    ///
    /// # Errors
    /// The file can't be written, or the process is gone.
    pub fn learn_new_host(&self) -> Result<()> {
        self.config.add_host(&self.dir)?;
        self.process.running.signal(self.kind.reload_signal())
    }

    /// Processor time of all its processes since they started.
    ///
    /// # Errors
    /// It is gone.
    pub fn cpu(&self) -> Result<Duration> {
        process::cpu(self.process.running.pid())
    }

    /// Which of its threads has which connection to its listener for webhooks.
    ///
    /// # Errors
    /// It is gone, or belongs to another user.
    pub fn threads(&self) -> Result<Threads> {
        Threads::of(self.process.running.pid(), self.addresses.webhooks.port())
    }

    /// Memory of all its processes in KiB, shared pages divided among those that share them.
    ///
    /// # Errors
    /// It is gone, or belongs to another user.
    pub fn pss_kib(&self) -> Result<u64> {
        process::pss_kib(self.process.running.pid())
    }

    /// Resident memory of all its processes in KiB.
    ///
    /// # Errors
    /// It is gone.
    pub fn rss_kib(&self) -> Result<u64> {
        process::rss_kib(self.process.running.pid())
    }

    /// The writing end of what its shell reads, once it has come to read.
    fn gate(&mut self, path: &Path) -> Result<File> {
        let mut gate = None;
        let read = wait_until("the shell reads", SHELL_START_TIMEOUT, || {
            self.process.running.still_running()?;
            match open(path, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
                Ok(fd) => gate = Some(File::from(fd)),
                Err(Errno::NXIO) => {} // the shell does not read yet
                Err(e) => return Err(e).with_context(|| format!("opening {}", path.display())),
            }
            Ok(gate.is_some())
        });
        read?;
        gate.with_context(|| {
            format!("a shell that has not come to read {} in {SHELL_START_TIMEOUT:?}", path.display())
        })
    }

    /// The control group that it has to itself, where there is one.
    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }
}

impl Prepared {
    /// Writes the configuration; nothing runs yet.
    ///
    /// # Errors
    /// A file can't be written.
    pub fn new(kind: Kind, testbed: &Testbed) -> Result<Self> {
        Self::with_hosts(kind, testbed, 0)
    }

    /// The same with `more` hosts than the testbed needs; [`Peer::learn_new_host`] can be used.
    ///
    /// # Errors
    /// A file can't be written.
    pub fn with_hosts(kind: Kind, testbed: &Testbed, more: usize) -> Result<Self> {
        let dir = TempDir::new(kind.name())?;
        testbed.cleanup.add(&format!("rm -rf {}", quoted_path(dir.path())))?;
        let addresses = Addresses::new(kind)?;
        let config = Config::new(kind, testbed, &dir, &addresses, more)?;
        Ok(Self { kind, addresses, config, reloads: more > 0, cgroup: None, dir })
    }

    /// The same in a control group of its own, where the machine has them.
    ///
    /// # Errors
    /// The group can't be made.
    pub fn in_cgroup(mut self, testbed: &Testbed) -> Result<Self> {
        self.cgroup = Cgroup::new(self.kind.name(), &testbed.cleanup)?;
        Ok(self)
    }

    /// Starts it, and returns once it listens.
    ///
    /// # Errors
    /// It ends before; the error holds what it said.
    pub fn start(self, testbed: &Testbed) -> Result<Peer> {
        let addresses = self.addresses;
        let Peer { process, kind, config, cgroup, dir, .. } = self.hold(testbed)?.release()?;
        let process = process.listening(&addresses.all());
        let process = process.with_context(|| format!("starting {}", kind.name()))?;
        Ok(Peer { kind, addresses, config, process, cgroup, dir })
    }

    /// Starts a shell in its place, on its core and in its group, that is a word away from becoming
    /// it.
    ///
    /// # Errors
    /// No shell.
    pub fn hold(self, testbed: &Testbed) -> Result<Held> {
        const WAIT_THEN_BECOME: &str = r#"
            gate=$1 door=$2; shift 2
            [ -z "$door" ] || echo $$ >"$door"
            read -r go <"$gate" && exec "$@""#;
        let Self { kind, addresses, config, reloads, cgroup, dir } = self;
        let command = match kind {
            Kind::Hookgate | Kind::Unscanned | Kind::Before => {
                let program = testbed.programs.of_hookgate(kind).context("no other build of hookgate")?;
                let mut command = Command::new(program);
                command.args(["run", "--config"]).arg(&config.path);
                command
            }
            Kind::NginxToday | Kind::NginxTuned => nginx(&dir, &config.path),
            Kind::Haproxy => {
                let mut command = Command::new("haproxy");
                command.args(reloads.then_some("-W")).args(["-db", "-f"]).arg(&config.path);
                command
            }
            Kind::Floor => {
                let mut command = Command::new(&testbed.programs.floors);
                command.args(floor_args(testbed, &addresses));
                command
            }
        };
        let gate = dir.path().join("gate");
        mkfifoat(CWD, &gate, Mode::RUSR | Mode::WUSR)
            .with_context(|| format!("making {}", gate.display()))?;
        let door = cgroup.as_ref().map(|cgroup| cgroup.door()).unwrap_or_default();
        let [gate_text, door] = [&gate, &door].map(|path| path.to_string_lossy().into_owned());
        let waiting = wrapped("sh", &["-c", WAIT_THEN_BECOME, "sh", &gate_text, &door], &command);
        let is_peer = Kind::PEERS.contains(&kind);
        let waiting = if is_peer { testbed.programs.of_peers(waiting) } else { waiting };
        let process = Logged::start(kind.program(), testbed.on_its_cores(&waiting), &dir, &testbed.cleanup)?;
        let mut peer = Peer { kind, addresses, config, process, cgroup, dir };
        let gate = peer.gate(&gate).with_context(|| format!("starting {}", kind.name()))?;
        Ok(Held { peer, gate })
    }
}

impl Held {
    /// Lets the shell become the peer, which need not listen yet.
    ///
    /// # Errors
    /// The shell has ended.
    pub fn release(mut self) -> Result<Peer> {
        writeln!(self.gate, "go").with_context(|| format!("starting {}", self.peer.kind.name()))?;
        Ok(self.peer)
    }
}
