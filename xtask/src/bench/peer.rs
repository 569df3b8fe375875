use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::{Running, TempDir};

use super::process;
use super::scene::{Scene, UPSTREAM, loopback, nginx, on_its_core, start_logged};
use crate::aftermath::quoted_path;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Hookgate,
    NginxToday,
    NginxTuned,
    Haproxy,
}

/// A proxy that runs on the proxies' core, in front of the scene's origin.
pub struct Peer {
    pub kind: Kind,
    pub address: SocketAddr,
    running: Running,
    dir: TempDir,
}

/// A peer's files, ready to be started.
pub struct Prepared {
    kind: Kind,
    pub address: SocketAddr,
    config: PathBuf,
    dir: TempDir,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Hookgate, Self::NginxToday, Self::NginxTuned, Self::Haproxy];
    /// All but hookgate.
    pub const PEERS: [Self; 3] = [Self::NginxToday, Self::NginxTuned, Self::Haproxy];

    pub fn name(self) -> &'static str {
        match self {
            Self::Hookgate => "hookgate",
            Self::NginxToday => "nginx-today",
            Self::NginxTuned => "nginx-tuned",
            Self::Haproxy => "haproxy",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Hookgate => "hookgate",
            Self::NginxToday | Self::NginxTuned => "nginx",
            Self::Haproxy => "haproxy",
        }
    }

    fn config(self) -> &'static str {
        match self {
            Self::Hookgate => include_str!("../../../tests/bench/peers/hookgate.toml"),
            Self::NginxToday => include_str!("../../../tests/bench/peers/nginx-today.conf"),
            Self::NginxTuned => include_str!("../../../tests/bench/peers/nginx-tuned.conf"),
            Self::Haproxy => include_str!("../../../tests/bench/peers/haproxy.cfg"),
        }
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
}

impl Prepared {
    /// Writes the configuration; nothing runs yet.
    ///
    /// # Errors
    /// A file can't be written.
    pub fn new(kind: Kind, scene: &Scene) -> Result<Self> {
        let dir = TempDir::new(kind.name())?;
        scene.aftermath.add(&format!("rm -rf {}", quoted_path(dir.path())))?;
        let [_, cert, key] = scene.certs.write(&dir, "own")?;
        let pair = dir.write("pair.pem", format!("{}{}", scene.certs.cert, scene.certs.key))?;
        let (address, admin) = (loopback()?, loopback()?);
        let text = |path: &Path| path.display().to_string();
        let values = [
            ("@ADMIN@", admin.to_string()),
            ("@CERT@", text(&cert)),
            ("@DIR@", text(dir.path())),
            ("@DNS@", scene.dns.address().to_string()),
            ("@KEY@", text(&key)),
            ("@LISTEN@", address.to_string()),
            ("@ORIGIN@", scene.origin.to_string()),
            ("@ORIGIN_CA@", text(&scene.origin_ca)),
            ("@ORIGIN_PORT@", scene.origin.port().to_string()),
            ("@PAIR@", text(&pair)),
            ("@UPSTREAM@", UPSTREAM.to_owned()),
        ];
        let config =
            values.iter().fold(kind.config().to_owned(), |config, (name, value)| config.replace(name, value));
        let config = dir.write("config", config)?;
        Ok(Self { kind, address, config, dir })
    }

    /// Starts it, and returns once it listens.
    ///
    /// # Errors
    /// It ends before; the error holds what it said.
    pub fn start(self, scene: &Scene) -> Result<Peer> {
        let Self { kind, address, config, dir } = self;
        let command = match kind {
            Kind::Hookgate => {
                let mut command = Command::new(&scene.hookgate);
                command.args(["run", "--config"]).arg(&config);
                command
            }
            Kind::NginxToday | Kind::NginxTuned => nginx(&dir, &config),
            Kind::Haproxy => {
                let mut command = Command::new("haproxy");
                command.args(["-db", "-f"]).arg(&config);
                command
            }
        };
        let command = on_its_core(&command);
        let running = start_logged(kind.program(), command, &dir, address, &scene.aftermath);
        let running = running.with_context(|| format!("starting {}", kind.name()))?;
        Ok(Peer { kind, address, running, dir })
    }
}
