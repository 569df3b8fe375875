use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use harness::{Certs, DnsServer, NetNs, Sample, signature};
use harness_core::{Cleanup, Running, TempDir, free_port, quoted_path, wait_until, wrapped};
use serde_json::Value;

use crate::kind::{Kind, loopback};

/// Where the proxy under load runs, and where all else does.
pub const PROXY_CORE: usize = 0;
pub const LOAD_CORE: usize = 1;
/// The proxies' own name, and the upstreams that they all allow: for webhooks, and for bodies with
/// and without TLS.
pub const NAME: &str = "proxy.example.com";
pub const UPSTREAM: &str = "chatwoot.example.com";
pub const BODIES: &str = "bodies.example.com";
pub const PLAIN: &str = "plain.example.com";
/// One that they don't know yet; as [`PLAIN`].
pub const NEW: &str = "new.example.com";

const START_TIMEOUT: Duration = Duration::from_secs(10);

/// What is ours, built for this.
pub struct Programs {
    pub hookgate: PathBuf,
    /// Another build of it.
    pub before: Option<PathBuf>,
    /// tests/bench/load, floors, and origin.
    pub generator: PathBuf,
    pub floors: PathBuf,
    pub origin: PathBuf,
    /// The root that nginx and HAProxy are started in as peers; `None`: this machine's own.
    pub peers: Option<PathBuf>,
}

impl Programs {
    /// The build that this kind is; `None`: there is no other.
    pub fn of_hookgate(&self, kind: Kind) -> Option<&Path> {
        if kind == Kind::Before { self.before.as_deref() } else { Some(&self.hookgate) }
    }

    /// `command` as a peer runs it.
    pub fn of_peers(&self, command: Command) -> Command {
        /// The configuration and the processors are seen there as here; the mounts go with the
        /// process.
        const ENTER: &str = r#"
            root=$1; shift
            for folder in /dev /proc /sys /tmp; do mount --rbind "$folder" "$root$folder" || exit; done
            exec chroot "$root" "$@""#;
        let Some(root) = &self.peers else { return command };
        let root = root.to_string_lossy();
        wrapped("unshare", &["--mount", "sh", "-c", ENTER, "sh", &root], &command)
    }
}

/// What all peers have in common: certificates, the origins behind them, the webhook that is sent.
pub struct Testbed {
    pub programs: Programs,
    /// How many cores a proxy has, from [`PROXY_CORE`] on.
    cores: usize,
    pub webhook: PathBuf,
    pub webhook_bytes: usize,
    pub certs: Certs,
    pub ca: PathBuf,
    pub own_cert: PathBuf,
    pub own_key: PathBuf,
    /// nginx, which answers webhooks.
    pub origin: SocketAddr,
    /// The one for bodies: another address with the same port, as all upstreams have port 443
    /// outside; and without TLS.
    pub bodies: SocketAddr,
    pub plain: SocketAddr,
    pub origin_ca: PathBuf,
    pub dns: DnsServer,
    _origins: [Logged; 2],
    _dir: TempDir,
    /// Last, so that it finds nothing left to do.
    pub cleanup: Cleanup,
}

impl Testbed {
    /// `cores`: see [`Testbed`].
    ///
    /// # Errors
    /// nginx, our own origin or dnsmasq don't start.
    pub fn start(programs: Programs, cores: usize) -> Result<Self> {
        let dir = TempDir::new("bench")?;
        let cleanup = Cleanup::new()?;
        cleanup.add(&format!("rm -rf {}", quoted_path(dir.path())))?;
        let certs = Certs::new(&[NAME])?;
        let [ca, own_cert, own_key] = certs.write(&dir, "proxy")?;
        let theirs = Certs::new(&[UPSTREAM, BODIES])?;
        let [origin_ca, cert, key] = theirs.write(&dir, "origin")?;

        let origin = loopback()?;
        let config = include_str!("../peers/origin.conf")
            .replace("@LISTEN@", &origin.to_string())
            .replace("@CERT@", &cert.to_string_lossy())
            .replace("@KEY@", &key.to_string_lossy())
            .replace("@DIR@", &dir.path().to_string_lossy());
        let config = dir.write("origin.conf", config)?;
        let webhooks = Logged::start("nginx", nginx(&dir, &config), &dir, &cleanup);
        let webhooks = webhooks.and_then(|it| it.listening(&[origin])).context("the origin for webhooks")?;

        let (here, there) = (Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2));
        let bodies = SocketAddr::from((there, origin.port()));
        let plain = SocketAddr::from((there, free_port()?));
        let mut command = Command::new(&programs.origin);
        command.args(["--tls", &bodies.to_string(), "--plain", &plain.to_string()]);
        command.arg("--cert").arg(&cert).arg("--key").arg(&key);
        let running = Logged::start("origin", command, &dir, &cleanup);
        let running =
            running.and_then(|it| it.listening(&[bodies, plain])).context("the origin for bodies")?;

        let records = [(UPSTREAM, here), (BODIES, there), (PLAIN, there), (NEW, there)];
        let records = records.map(|(name, address)| (name, IpAddr::V4(address)));
        let dns = DnsServer::start_with(&NetNs::here(), loopback()?, &records, &["--local-ttl=300"])?;
        let webhook = webhook()?;
        let webhook_bytes = webhook.len();
        let webhook = dir.write("webhook.http", webhook)?;
        Ok(Self {
            cores,
            programs,
            webhook,
            webhook_bytes,
            certs,
            ca,
            own_cert,
            own_key,
            origin,
            bodies,
            plain,
            origin_ca,
            dns,
            _origins: [webhooks, running],
            _dir: dir,
            cleanup,
        })
    }

    /// `command`, on the proxies' cores; with the roots that a machine has without our
    /// environment's help.
    pub fn on_its_cores(&self, command: &Command) -> Command {
        let cores = format!("{PROXY_CORE}-{}", PROXY_CORE + self.cores - 1);
        let mut command = wrapped("taskset", &["--cpu-list", &cores], command);
        command.env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR");
        command
    }
}

/// nginx with the configuration in `config`.
pub fn nginx(dir: &TempDir, config: &Path) -> Command {
    let mut command = Command::new("nginx");
    command.args(["-e", "stderr", "-p"]).arg(dir.path()).arg("-c").arg(config);
    command
}

/// A program that has been started, and the file that it logs to.
pub struct Logged {
    program: &'static str,
    log: PathBuf,
    pub running: Running,
}

impl Logged {
    /// Starts `command`, which is or becomes `program`; it logs to `<program>.log` in `dir`.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start(program: &'static str, command: Command, dir: &TempDir, cleanup: &Cleanup) -> Result<Self> {
        let log = dir.path().join(format!("{program}.log"));
        let file = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let running = Running::start_logged(command, file)?;
        // nginx's worker would outlive a master that is killed with us.
        cleanup.add(&format!("pkill -KILL -g {} -x {program}", running.pid()))?;
        Ok(Self { program, log, running })
    }

    /// Waits until it listens.
    ///
    /// # Errors
    /// It ends before, or takes too long; the error holds what it said.
    pub fn listening(mut self, addresses: &[SocketAddr]) -> Result<Self> {
        let condition = format!("{} listens on {addresses:?}", self.program);
        let listening = wait_until(condition, START_TIMEOUT, || {
            self.running.still_running()?;
            Ok(harness::listens(self.running.pid(), addresses))
        });
        match listening {
            Ok(_) => Ok(self),
            Err(e) => bail!("{e:#}; it said:\n{}", self.last_words()),
        }
    }

    /// The last lines of its log.
    pub fn last_words(&self) -> String {
        match std::fs::read(&self.log) {
            Ok(log) => String::from_utf8_lossy(&log[log.len().saturating_sub(2000)..]).into_owned(),
            Err(e) => format!("(its log can't be read: {e})"),
        }
    }
}

/// One POST as Meta sends it: the sample's own head, and a body of 1.5 KB, made of three samples'
/// updates as Meta gathers them in one, signed anew.
fn webhook() -> Result<Vec<u8>> {
    const UPDATES: [&str; 3] = ["post-wa-text", "post-wa-status-delivered", "post-wa-status-sent"];
    let samples = Sample::all()?;
    let mut entries = Vec::new();
    for name in UPDATES {
        let sample = samples.iter().find(|sample| sample.name == name);
        let payload = sample.and_then(|sample| sample.payload.as_ref());
        let payload = payload.with_context(|| format!("no sample {name}"))?;
        let update: Value = serde_json::from_slice(&std::fs::read(payload)?)?;
        entries.extend(update["entry"].as_array().cloned().context("a payload without entries")?);
    }
    let body = serde_json::to_string(
        &serde_json::json!({ "object": "whatsapp_business_account", "entry": entries }),
    )?;
    let sample = samples.iter().find(|sample| sample.name == UPDATES[0]).context("no sample")?;
    let mut head = format!("{} {} HTTP/1.1\r\n", sample.method, sample.target);
    for field in &sample.fields {
        let (name, value) = field.split_once(": ").context("a field without a value")?;
        let value = match name {
            "Content-Length" => body.len().to_string(),
            "X-Hub-Signature-256" => signature(body.as_bytes()),
            _ => value.to_owned(),
        };
        head += &format!("{name}: {value}\r\n");
    }
    Ok(format!("{head}\r\n{body}").into_bytes())
}
