use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use harness::{Certs, DnsServer, NetNs, Running, Sample, TempDir, free_port, signature, wait_until, wrapped};
use serde_json::Value;

use crate::aftermath::{Aftermath, quoted_path};

/// Where the proxy under load runs, and where all else does.
pub const PROXY_CORE: usize = 0;
pub const LOAD_CORE: usize = 1;
/// The proxies' own name, and the one upstream that they all allow.
pub const NAME: &str = "proxy.example.com";
pub const UPSTREAM: &str = "chatwoot.example.com";

const START: Duration = Duration::from_secs(10);

/// What all peers have in common: certificates, the origin behind them, the webhook that is sent.
pub struct Scene {
    pub hookgate: PathBuf,
    pub generator: PathBuf,
    pub webhook: PathBuf,
    pub webhook_bytes: usize,
    pub certs: Certs,
    pub ca: PathBuf,
    pub origin: SocketAddr,
    pub origin_ca: PathBuf,
    pub dns: DnsServer,
    _origin: Running,
    _dir: TempDir,
    /// Last, so that it finds nothing left to do.
    pub aftermath: Aftermath,
}

impl Scene {
    /// # Errors
    /// nginx or dnsmasq don't start.
    pub fn start(hookgate: PathBuf, generator: PathBuf) -> Result<Self> {
        let dir = TempDir::new("bench")?;
        let aftermath = Aftermath::new()?;
        aftermath.add(&format!("rm -rf {}", quoted_path(dir.path())))?;
        let certs = Certs::new(&[NAME])?;
        let [ca, ..] = certs.write(&dir, "proxy")?;
        let theirs = Certs::new(&[UPSTREAM])?;
        let [origin_ca, cert, key] = theirs.write(&dir, "origin")?;

        let origin = loopback()?;
        let config = include_str!("../../../tests/bench/peers/origin.conf")
            .replace("@LISTEN@", &origin.to_string())
            .replace("@CERT@", &cert.to_string_lossy())
            .replace("@KEY@", &key.to_string_lossy())
            .replace("@DIR@", &dir.path().to_string_lossy());
        let config = dir.write("origin.conf", config)?;
        let running =
            start_logged("nginx", nginx(&dir, &config), &dir, origin, &aftermath).context("the origin")?;

        let here = "127.0.0.1".parse().context("loopback")?;
        let records = [(UPSTREAM, here)];
        let dns = DnsServer::start_with(&NetNs::here(), loopback()?, &records, &["--local-ttl=300"])?;
        let webhook = webhook()?;
        let webhook_bytes = webhook.len();
        let webhook = dir.write("webhook.http", webhook)?;
        Ok(Self {
            hookgate,
            generator,
            webhook,
            webhook_bytes,
            certs,
            ca,
            origin,
            origin_ca,
            dns,
            _origin: running,
            _dir: dir,
            aftermath,
        })
    }
}

/// An address of 127.0.0.1 that nobody used a moment ago.
pub fn loopback() -> Result<SocketAddr> {
    Ok(SocketAddr::from(([127, 0, 0, 1], free_port()?)))
}

/// `command`, on the proxies' core.
pub fn on_its_core(command: &Command) -> Command {
    wrapped("taskset", &["--cpu-list", &PROXY_CORE.to_string()], command)
}

/// nginx with the configuration in `config`.
pub fn nginx(dir: &TempDir, config: &Path) -> Command {
    let mut command = Command::new("nginx");
    command.args(["-e", "stderr", "-p"]).arg(dir.path()).arg("-c").arg(config);
    command
}

/// Starts `program`, which logs to `<program>.log` in `dir`; returns once it listens.
pub fn start_logged(
    program: &str,
    command: Command,
    dir: &TempDir,
    address: SocketAddr,
    aftermath: &Aftermath,
) -> Result<Running> {
    let log = dir.path().join(format!("{program}.log"));
    let file = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
    let mut running = Running::start_logged(command, file)?;
    // nginx's worker would outlive a master that is killed with us.
    aftermath.add(&format!("pkill -KILL -g {} -x {program}", running.pid()))?;
    let listening = wait_until(START, || {
        running.still_running()?;
        Ok(harness::listens(running.pid(), &[address]))
    });
    let said = || std::fs::read_to_string(&log).unwrap_or_else(|e| format!("its log can't be read: {e}"));
    match listening {
        Ok(true) => Ok(running),
        Ok(false) => bail!("{program} does not listen on {address} after {START:?}; it said:\n{}", said()),
        Err(e) => bail!("{e:#} It said:\n{}", said()),
    }
}

/// One POST as Meta sends it: the sample's own head, and a body of 1.5 KB, made of three samples' updates as Meta
/// gathers them in one, signed anew.
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
