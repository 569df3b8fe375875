use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use harness::{
    Certs, HostileUpstream, Metrics, Proxy, Running, Strangers, TempDir, free_port, listens, prefer,
    wait_until,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::row::Extent;

pub const NAME: &str = "proxy.example.com";
/// The upstream of Meta's webhooks.
pub const UPSTREAM: &str = "chatwoot.example.com";
const BODY_IDLE: Duration = Duration::from_secs(1);
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Half of their addresses are IPv4, half are IPv6 networks.
const STRANGERS: usize = 16;

/// A proxy in front of a real origin, and those who come to it.
pub struct Testbed {
    pub proxy: Proxy,
    pub https: SocketAddr,
    pub http: SocketAddr,
    pub ca: PathBuf,
    /// How many connections strangers may have.
    pub share: usize,
    /// How many requests to one upstream they may have under way.
    pub slots: usize,
    pub strangers: Strangers,
    admin: SocketAddr,
    _origin: Running,
    _dir: TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// Attacks that run at the same time would say nothing about each other.
static TURN: Mutex<()> = Mutex::new(());

/// What a testbed has besides.
#[derive(Default)]
pub struct Environment {
    /// The proxy's own certificate; `None` for one with an ECDSA key.
    pub certs: Option<Certs>,
    /// Sections of the configuration.
    pub sections: String,
    /// Lines of `[upstreams]`.
    pub upstreams: String,
}

impl Environment {
    /// With an upstream of the strangers' own.
    pub fn with(name: &str, upstream: &HostileUpstream) -> Result<Self> {
        let (address, in_flight) = (upstream.address(), Extent::wanted()?.in_flight);
        let line =
            format!("\"{name}\" = {{ address = \"{address}\", tls = false, in_flight = {in_flight} }}\n");
        Ok(Self { upstreams: line, ..Self::default() })
    }
}

impl Testbed {
    pub fn start(environment: Environment) -> Result<Self> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        raise_descriptor_limit()?;
        let Extent { connections, in_flight, .. } = Extent::wanted()?;
        let dir = TempDir::new("hostile")?;
        let certs = environment.certs.map_or_else(|| Certs::new(&[NAME]), Ok)?;
        let [ca, cert, key] = certs.write(&dir, "edge")?;
        let (origin, upstream, upstream_ca) = origin(&dir)?;
        let [https, http, admin] =
            [free_port()?, free_port()?, free_port()?].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let (sections, upstreams) = (environment.sections, environment.upstreams);
        let proxy = Proxy::start(&format!(
            "[listen]\nhttps = [\"{https}\"]\nhttp = [\"{http}\"]\nproxy_protocol_from = [\"127.0.0.0/8\"]\n\
             [tls]\ncert = {cert:?}\nkey = {key:?}\n[admin]\nlisten = \"{admin}\"\n\
             [limits]\nconnections = {connections}\n[timeouts]\nbody_idle = \"{}s\"\ndrain = \"1s\"\n{sections}\n[upstreams]\n\
             \"{UPSTREAM}\" = {{ address = \"{upstream}\", ca = {upstream_ca:?}, in_flight = {in_flight} }}\n\
             {upstreams}",
            BODY_IDLE.as_secs()
        ))?;
        prefer(proxy.worker()?)?;
        prefer(origin.pid())?;
        Ok(Self {
            proxy,
            https,
            http,
            ca,
            // Half of both is Meta's alone.
            share: connections / 2,
            slots: in_flight / 2,
            strangers: Strangers::new(STRANGERS / 2, NAME)?,
            admin,
            _origin: origin,
            _dir: dir,
            _turn: turn,
        })
    }

    pub fn metrics(&self) -> Result<Metrics> {
        Metrics::read(self.admin)
    }
}

/// The origin of Meta's webhooks: with TLS, a process of its own.
fn origin(dir: &TempDir) -> Result<(Running, SocketAddr, PathBuf)> {
    let [ca, cert, key] = Certs::new(&[UPSTREAM])?.write(dir, "origin")?;
    let [tls, plain] = [free_port()?, free_port()?].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let mut command = Command::new(env!("CARGO_BIN_EXE_origin"));
    command.args(["--tls", &tls.to_string(), "--plain", &plain.to_string()]);
    command.arg("--cert").arg(cert).arg("--key").arg(key);
    let mut origin = Running::start_logged(command, fs::File::create(dir.path().join("origin.log"))?)?;
    wait_until("the origin listens", START_TIMEOUT, || {
        origin.still_running()?;
        Ok(listens(origin.pid(), &[tls]))
    })?;
    Ok((origin, tls, ca))
}

/// As far as it goes, for us and for the proxy that we start.
fn raise_descriptor_limit() -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).context("the limit on descriptors")
}

/// A certificate with an RSA key of 2048 bits, which signs in a millisecond.
pub fn rsa_certs() -> Result<Certs> {
    let mut openssl = Command::new("openssl");
    openssl.args(["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    harness::Ca::new("hookgate test authority")?.issue_for_key(&[NAME], &harness::run(openssl)?)
}
