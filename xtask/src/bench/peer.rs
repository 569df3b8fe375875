use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::{Running, TempDir};
use rustix::process::Signal;

use super::cgroup::Cgroup;
use super::config::{Config, floor_args};
use super::process;
use super::scene::{Scene, loopback, nginx, on_its_core, start_logged};
use crate::aftermath::quoted_path;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Hookgate,
    NginxToday,
    NginxTuned,
    Haproxy,
    /// The least that any relay costs: tests/bench/floors.
    Floor,
}

/// The sorts of way through a peer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Webhooks,
    /// Webhooks with a connection each.
    Handshakes,
    Bodies,
    /// Bodies without TLS on either side.
    Plain,
}

/// Where each way begins; the proxies have one entrance with TLS for all three.
#[derive(Clone, Copy)]
pub struct Addresses {
    pub webhooks: SocketAddr,
    pub handshakes: SocketAddr,
    pub bodies: SocketAddr,
    pub plain: SocketAddr,
}

/// A proxy that runs on the proxies' core, in front of the scene's origins.
pub struct Peer {
    pub kind: Kind,
    pub addresses: Addresses,
    config: Config,
    running: Running,
    /// Once the process is gone.
    cgroup: Option<Cgroup>,
    dir: TempDir,
}

/// A peer's files, ready to be started.
pub struct Prepared {
    kind: Kind,
    pub addresses: Addresses,
    config: Config,
    /// Whether it is to be told of another configuration; HAProxy then needs a second process.
    reloads: bool,
    cgroup: Option<Cgroup>,
    dir: TempDir,
}

impl Kind {
    pub const ALL: [Self; 5] =
        [Self::Hookgate, Self::NginxToday, Self::NginxTuned, Self::Haproxy, Self::Floor];
    /// The proxies that are not hookgate.
    pub const PEERS: [Self; 3] = [Self::NginxToday, Self::NginxTuned, Self::Haproxy];

    pub fn name(self) -> &'static str {
        match self {
            Self::Hookgate => "hookgate",
            Self::NginxToday => "nginx-today",
            Self::NginxTuned => "nginx-tuned",
            Self::Haproxy => "haproxy",
            Self::Floor => "floor",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Hookgate => "hookgate",
            Self::NginxToday | Self::NginxTuned => "nginx",
            Self::Haproxy => "haproxy",
            Self::Floor => "floors",
        }
    }

    /// What makes it read its configuration anew.
    fn reload_signal(self) -> Signal {
        match self {
            Self::Haproxy => Signal::USR2,
            Self::Hookgate | Self::NginxToday | Self::NginxTuned | Self::Floor => Signal::HUP,
        }
    }
}

impl Addresses {
    fn new(kind: Kind) -> Result<Self> {
        let (webhooks, plain) = (loopback()?, loopback()?);
        Ok(match kind {
            Kind::Floor => Self { webhooks, handshakes: loopback()?, bodies: loopback()?, plain },
            _ => Self { webhooks, handshakes: webhooks, bodies: webhooks, plain },
        })
    }

    pub fn of(&self, way: Way) -> SocketAddr {
        match way {
            Way::Webhooks => self.webhooks,
            Way::Handshakes => self.handshakes,
            Way::Bodies => self.bodies,
            Way::Plain => self.plain,
        }
    }

    fn all(&self) -> [SocketAddr; 4] {
        [self.webhooks, self.handshakes, self.bodies, self.plain]
    }
}

impl Peer {
    /// # Errors
    /// It does not start; the error holds what it said.
    pub fn start(kind: Kind, scene: &Scene) -> Result<Self> {
        Prepared::new(kind, scene)?.start(scene)
    }

    /// The last lines of its log.
    pub fn last_words(&self) -> String {
        let path = self.dir.path().join(format!("{}.log", self.kind.program()));
        let log = std::fs::read(&path).unwrap_or_default();
        let end = log.len().saturating_sub(2000);
        String::from_utf8_lossy(&log[end..]).into_owned()
    }

    /// Allows one more host, and tells the running process.
    ///
    /// # Errors
    /// The file can't be written, or the process is gone.
    pub fn learn_new_host(&self) -> Result<()> {
        self.config.add_host(&self.dir)?;
        self.running.signal(self.kind.reload_signal())
    }

    /// Processor time of all its processes since they started.
    ///
    /// # Errors
    /// It is gone.
    pub fn cpu(&self) -> Result<Duration> {
        process::cpu(self.running.pid())
    }

    /// Memory of all its processes in KiB, shared pages divided among those that share them.
    ///
    /// # Errors
    /// It is gone, or belongs to somebody else.
    pub fn pss_kib(&self) -> Result<u64> {
        process::pss_kib(self.running.pid())
    }

    /// Resident memory of all its processes in KiB.
    ///
    /// # Errors
    /// It is gone.
    pub fn rss_kib(&self) -> Result<u64> {
        process::rss_kib(self.running.pid())
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
    pub fn new(kind: Kind, scene: &Scene) -> Result<Self> {
        Self::with_hosts(kind, scene, 0)
    }

    /// The same with so many hosts more than the scene needs; [`Peer::learn_new_host`] can be used.
    ///
    /// # Errors
    /// A file can't be written.
    pub fn with_hosts(kind: Kind, scene: &Scene, more: usize) -> Result<Self> {
        let dir = TempDir::new(kind.name())?;
        scene.aftermath.add(&format!("rm -rf {}", quoted_path(dir.path())))?;
        let addresses = Addresses::new(kind)?;
        let config = Config::new(kind, scene, &dir, &addresses, more)?;
        Ok(Self { kind, addresses, config, reloads: more > 0, cgroup: None, dir })
    }

    /// The same in a control group of its own, where the machine has them.
    ///
    /// # Errors
    /// The group can't be made.
    pub fn in_cgroup(mut self, scene: &Scene) -> Result<Self> {
        self.cgroup = Cgroup::new(self.kind.name(), &scene.aftermath)?;
        Ok(self)
    }

    /// Starts it, and returns once it listens.
    ///
    /// # Errors
    /// It ends before; the error holds what it said.
    pub fn start(self, scene: &Scene) -> Result<Peer> {
        let Self { kind, addresses, config, reloads, cgroup, dir } = self;
        let command = match kind {
            Kind::Hookgate => {
                let mut command = Command::new(&scene.programs.hookgate);
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
                let mut command = Command::new(&scene.programs.floors);
                command.args(floor_args(scene, &addresses));
                command
            }
        };
        let mut command = on_its_core(&command);
        if let Some(cgroup) = &cgroup {
            command = cgroup.around(&command);
        }
        let running = start_logged(kind.program(), command, &dir, &addresses.all(), &scene.aftermath);
        let running = running.with_context(|| format!("starting {}", kind.name()))?;
        Ok(Peer { kind, addresses, config, running, cgroup, dir })
    }
}
