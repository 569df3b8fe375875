//! Certificates that are got and renewed without anybody doing anything, from a real authority:
//! Pebble, strict, with its random refusals.

mod endurance;
mod failures;
mod getting;
mod refusals;
mod renewing;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{
    Client, Metrics, Need, NetNs, Pebble, PebbleSettings, Proxy, TempDir, ask_admin, equal, free_port,
    require, wait_until,
};
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// As long as an order may take: Pebble sleeps before it looks at answers, and refuses nonces.
const MAX_WAIT: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
const NAME: &str = "proxy.example.com";

/// A proxy that gets its certificate from a Pebble.
struct Testbed {
    proxy: Proxy,
    pebble: Pebble,
    edge: Edge,
}

/// Where the proxy is, and what is its own.
struct Edge {
    https: SocketAddr,
    http: SocketAddr,
    admin: SocketAddr,
    dir: TempDir,
}

/// Whether there is all that these tests need.
fn can_run() -> bool {
    require(&[Need::Program("pebble"), Need::Program("pebble-challtestsrv"), Need::Program("curl")])
}

impl Edge {
    fn new() -> Result<Self> {
        let local = || Ok::<_, anyhow::Error>(SocketAddr::from(([127, 0, 0, 1], free_port()?)));
        Ok(Self { https: local()?, http: local()?, admin: local()?, dir: TempDir::new("acme")? })
    }

    fn pebble(&self, lifetime: Duration) -> Result<PebbleSettings> {
        PebbleSettings::new(self.http.port(), self.https.port(), lifetime)
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// A configuration whose certificate comes from the authority at `directory`, which is itself
    /// certified by `ca`; `acme` are more lines of its section, `more` what comes after it.
    fn config(&self, directory: &str, ca: &Path, acme: &str, more: &str) -> String {
        let Self { https, http, admin, dir } = self;
        let (socket, state) = (dir.path().join("admin.sock"), self.state());
        format!(
            "[listen]\nhttps = [\"{https}\"]\nhttp = [\"{http}\"]\n[admin]\nlisten = \"{admin}\"\n\
             socket = {socket:?}\n[acme]\ndirectory = \"{directory}\"\nca = {ca:?}\nstate = {state:?}\n\
             contact = [\"mailto:you@example.com\"]\n{acme}\n{more}"
        )
    }

    /// What `/ready` says; nothing when all is well.
    fn unready(&self) -> Result<Option<String>> {
        let page = ask_admin(self.admin, "/ready")?;
        Ok((page.status() != 200).then(|| String::from_utf8_lossy(&page.body).into_owned()))
    }

    fn wait_until_ready(&self, proxy: &Proxy) -> Result<()> {
        let ready = wait_until("the proxy is ready", MAX_WAIT, || Ok(equal(self.unready()?, None)));
        ready.map(drop).with_context(|| proxy.stderr())
    }

    fn metrics(&self) -> Result<Metrics> {
        Metrics::read(self.admin)
    }

    /// Every file that is kept.
    fn kept(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for folder in self.state().read_dir()? {
            for entry in folder?.path().read_dir()? {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// The certificate that a client is shown who believes `root` alone (PEM), and asks for `name`.
    fn shown(&self, root: &str, name: &str) -> Result<CertificateDer<'static>> {
        let mut client = Client::tls_with(self.https, b"", believing(root)?, name)?;
        let answer = client.ask(format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n"))?;
        ensure!(answer.status() == 404, "{answer:?}");
        let chain = client.session().and_then(|session| session.peer_certificates());
        Ok(chain.and_then(|chain| chain.first()).context("no certificate")?.clone().into_owned())
    }
}

impl Testbed {
    /// `acme` are more lines of `[acme]`.
    fn start(lifetime: Duration, acme: &str, more: &str) -> Result<Self> {
        Self::start_at(Edge::new()?, lifetime, acme, more)
    }

    fn start_at(edge: Edge, lifetime: Duration, acme: &str, more: &str) -> Result<Self> {
        let pebble = Pebble::start(edge.pebble(lifetime)?)?;
        let proxy = Proxy::start(&edge.config(&pebble.directory(), &pebble.ca(), acme, more))?;
        Ok(Self { proxy, pebble, edge })
    }

    /// Ends the proxy by SIGKILL and starts another with its configuration.
    fn restart(mut self) -> Result<Self> {
        let config = std::fs::read_to_string(self.proxy.config())?;
        self.proxy.kill()?;
        drop(self.proxy);
        Ok(Self { proxy: Proxy::start(&config)?, ..self })
    }

    fn reload(&self) -> Result<String> {
        self.proxy.command(&NetNs::here(), &["reload"])
    }

    /// How often the log has `text`.
    fn said(&self, text: &str) -> usize {
        self.proxy.stderr().matches(text).count()
    }
}

fn domains(names: &[&str]) -> String {
    format!("domains = {names:?}\n")
}

/// A client's TLS that believes `root` alone, anew for each connection: a resumed session would
/// show the certificate from before.
fn believing(root: &str) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(root.as_bytes()) {
        roots.add(certificate?)?;
    }
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}
