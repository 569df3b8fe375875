use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rcgen::{CertificateParams, KeyPair};

use crate::{NetNs, Running, TempDir, free_port, listens, run, wait_until};

/// A real certificate authority, Let's Encrypt's Pebble in strict mode, for which every name leads
/// to 127.0.0.1.
///
/// As it is meant to be, it refuses every twentieth nonce and takes its time to look at answers.
pub struct Pebble {
    settings: Settings,
    pebble: Option<Running>,
    _names: Running,
    dir: TempDir,
}

/// What a test wants of a [`Pebble`].
#[derive(Clone, Copy)]
pub struct Settings {
    /// Where it looks at answers to http-01.
    pub http_port: u16,
    /// Where it looks at answers to tls-alpn-01.
    pub tls_port: u16,
    /// Of the certificates that it gives.
    pub lifetime: Duration,
    address: SocketAddr,
    management: SocketAddr,
    dns: SocketAddr,
    /// Where its DNS server could be told other names.
    names: SocketAddr,
}

const START_TIMEOUT: Duration = Duration::from_secs(20);

impl Settings {
    /// # Errors
    /// No free ports.
    pub fn new(http_port: u16, tls_port: u16, lifetime: Duration) -> Result<Self> {
        let local = || Ok::<_, anyhow::Error>(SocketAddr::from(([127, 0, 0, 1], free_port()?)));
        let [address, management, dns, names] = [local()?, local()?, local()?, local()?];
        Ok(Self { http_port, tls_port, lifetime, address, management, dns, names })
    }
}

impl Pebble {
    /// # Errors
    /// It does not start.
    pub fn start(settings: Settings) -> Result<Self> {
        let mut pebble = Self::stopped(settings)?;
        pebble.resume()?;
        Ok(pebble)
    }

    /// One that is down, and can be started with [`Pebble::resume`].
    ///
    /// # Errors
    /// No programs, or no folder.
    pub fn stopped(settings: Settings) -> Result<Self> {
        let dir = TempDir::new("pebble")?;
        let key = KeyPair::generate()?;
        let own =
            CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()])?.self_signed(&key)?;
        let cert = dir.write("own.pem", own.pem())?;
        let key = dir.write("own.key", key.serialize_pem())?;
        dir.write(
            "pebble.json",
            serde_json::json!({ "pebble": {
                "listenAddress": settings.address.to_string(),
                "managementListenAddress": settings.management.to_string(),
                "certificate": cert, "privateKey": key,
                "httpPort": settings.http_port, "tlsPort": settings.tls_port,
                "ocspResponderURL": "", "externalAccountBindingRequired": false,
                "certificateValidityPeriod": settings.lifetime.as_secs(),
            }})
            .to_string(),
        )?;
        let mut names = NetNs::here().command("pebble-challtestsrv");
        names.args(["-dns01", &settings.dns.to_string(), "-http01", "", "-tlsalpn01", "", "-https01", ""]);
        names.args([
            "-management",
            &settings.names.to_string(),
            "-defaultIPv4",
            "127.0.0.1",
            "-defaultIPv6",
            "",
        ]);
        Ok(Self { settings, pebble: None, _names: Running::start(names)?, dir })
    }

    /// Starts it; it knows nothing of what was before.
    ///
    /// # Errors
    /// It does not start.
    pub fn resume(&mut self) -> Result<()> {
        let mut command = NetNs::here().command("pebble");
        command.args(["-strict", "-dnsserver", &self.settings.dns.to_string(), "-config"]);
        command.arg(self.dir.path().join("pebble.json"));
        let pebble = self.pebble.insert(Running::start(command)?);
        let listening = wait_until("pebble listens", START_TIMEOUT, || {
            pebble.still_running()?;
            Ok(listens(pebble.pid(), &[self.settings.address]))
        });
        listening.map(drop).with_context(|| format!("pebble does not start:\n{}", pebble.stderr()))
    }

    /// Takes it down.
    pub fn stop(&mut self) {
        self.pebble = None;
    }

    pub fn address(&self) -> SocketAddr {
        self.settings.address
    }

    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.settings.address)
    }

    /// Where its own TLS certificate lies.
    pub fn ca(&self) -> PathBuf {
        self.dir.path().join("own.pem")
    }

    /// The root of the certificates that it gives, in PEM; another one each time that it starts.
    ///
    /// # Errors
    /// It is down.
    pub fn root(&self) -> Result<String> {
        let mut curl = NetNs::here().command("curl");
        curl.args(["-sS", "--noproxy", "*", "--fail", "--max-time", "10", "--cacert"]).arg(self.ca());
        curl.arg(format!("https://{}/roots/0", self.settings.management));
        run(curl)
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        self.pebble.as_ref().map(Running::stderr).unwrap_or_default()
    }

    /// A place for files that go with it.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }
}
