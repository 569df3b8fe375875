use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use harness_core::TempDir;

use crate::kind::{Addresses, Kind, loopback};
use crate::testbed::{BODIES, NEW, PLAIN, Testbed, UPSTREAM};

/// What a host stands for behind a proxy.
#[derive(Clone, Copy)]
enum Target {
    Webhooks,
    Bodies,
    Plain,
    /// One that no request names.
    Unused,
}

/// A proxy's configuration, which can be written once more with another host in it.
pub struct Config {
    kind: Kind,
    pub path: PathBuf,
    /// All but the hosts.
    text: String,
    hosts: String,
    new_host: String,
}

impl Config {
    /// Writes it: the testbed's hosts are allowed, and `more` others that no request names.
    ///
    /// # Errors
    /// A file can't be written.
    pub fn new(kind: Kind, testbed: &Testbed, dir: &TempDir, to: &Addresses, more: usize) -> Result<Self> {
        let [_, cert, key] = testbed.certs.write(dir, "own")?;
        let pair = dir.write("pair.pem", format!("{}{}", testbed.certs.cert, testbed.certs.key))?;
        let path_text = |path: &Path| path.display().to_string();
        let values = [
            ("@ADMIN@", loopback()?.to_string()),
            ("@BODIES@", testbed.bodies.to_string()),
            ("@CERT@", path_text(&cert)),
            ("@DIR@", path_text(dir.path())),
            ("@DNS@", testbed.dns.address().to_string()),
            ("@KEY@", path_text(&key)),
            ("@LISTEN@", to.webhooks.to_string()),
            ("@MESSAGES@", (kind != Kind::Unscanned).to_string()),
            ("@LISTEN_PLAIN@", to.plain.to_string()),
            ("@ORIGIN@", testbed.origin.to_string()),
            ("@ORIGIN_CA@", path_text(&testbed.origin_ca)),
            ("@ORIGIN_PORT@", testbed.origin.port().to_string()),
            ("@PAIR@", path_text(&pair)),
            ("@PLAIN@", testbed.plain.to_string()),
            ("@PLAIN_PORT@", testbed.plain.port().to_string()),
            ("@UPSTREAM@", UPSTREAM.to_owned()),
            ("@BODIES_NAME@", BODIES.to_owned()),
        ];
        let text =
            values.iter().fold(template(kind).to_owned(), |text, (name, value)| text.replace(name, value));
        let own = [(UPSTREAM, Target::Webhooks), (BODIES, Target::Bodies), (PLAIN, Target::Plain)];
        let own = own.map(|(host, target)| kind.allowed(host, target, testbed));
        let others =
            (0..more).map(|n| kind.allowed(&format!("host-{n}.example.com"), Target::Unused, testbed));
        let hosts = own.into_iter().chain(others).collect();
        let new_host = kind.allowed(NEW, Target::Plain, testbed);
        let config = Self { kind, path: dir.path().join("config"), text, hosts, new_host };
        config.write(dir, &config.hosts)?;
        Ok(config)
    }

    /// Allows [`NEW`] too.
    ///
    /// # Errors
    /// A file can't be written.
    pub fn add_host(&self, dir: &TempDir) -> Result<()> {
        self.write(dir, &format!("{}{}", self.hosts, self.new_host))
    }

    fn write(&self, dir: &TempDir, hosts: &str) -> Result<()> {
        if self.kind == Kind::Haproxy {
            dir.write("allowed.map", hosts)?;
        }
        dir.write("config", self.text.replace("@ALLOWED@", hosts)).map(|_| ())
    }
}

fn template(kind: Kind) -> &'static str {
    match kind {
        Kind::Hookgate | Kind::Unscanned | Kind::Before => include_str!("../peers/hookgate.toml"),
        Kind::NginxToday => include_str!("../peers/nginx-today.conf"),
        Kind::NginxTuned => include_str!("../peers/nginx-tuned.conf"),
        Kind::Haproxy => include_str!("../peers/haproxy.cfg"),
        Kind::Floor => "", // has arguments only
    }
}

impl Kind {
    /// The line that allows a host.
    fn allowed(self, host: &str, target: Target, testbed: &Testbed) -> String {
        let backend = match target {
            Target::Webhooks | Target::Unused => "chatwoot",
            Target::Bodies => "bodies",
            Target::Plain => "plain",
        };
        match self {
            Self::Hookgate | Self::Unscanned | Self::Before => {
                let keys = match target {
                    Target::Webhooks | Target::Bodies => {
                        let (port, ca) = (testbed.origin.port(), testbed.origin_ca.display());
                        format!("port = {port}, ca = \"{ca}\", allow_private = true")
                    }
                    Target::Plain => {
                        format!("port = {}, tls = false, allow_private = true", testbed.plain.port())
                    }
                    Target::Unused => String::new(),
                };
                format!("\"{host}\" = {{ {keys} }}\n")
            }
            Self::NginxToday => format!("{host} 1;\n"),
            Self::NginxTuned => format!("{host} {backend};\n"),
            Self::Haproxy => format!("{host} {backend}\n"),
            Self::Floor => String::new(),
        }
    }
}

/// The arguments of the floors' program.
pub fn floor_args(testbed: &Testbed, to: &Addresses) -> Vec<String> {
    let route = |listen: SocketAddr, upstream: SocketAddr| format!("{listen}={upstream}");
    let text = |path: &Path| path.display().to_string();
    let args = [
        ("--tls", route(to.webhooks, testbed.origin)),
        ("--tls", route(to.bodies, testbed.bodies)),
        ("--pooled", route(to.handshakes, testbed.origin)),
        ("--splice", route(to.plain, testbed.plain)),
        ("--cert", text(&testbed.own_cert)),
        ("--key", text(&testbed.own_key)),
        ("--ca", text(&testbed.origin_ca)),
        ("--name", UPSTREAM.to_owned()),
    ];
    args.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
}
