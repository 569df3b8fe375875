//! The servers whose configurations are imported.

use std::path::Path;
use std::process::Command;

use harness::NetNs;

/// A server that hookgate takes the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Nginx,
    Caddy,
    Haproxy,
}

impl Peer {
    /// Its program, which `hookgate import` calls it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Caddy => "caddy",
            Self::Haproxy => "haproxy",
        }
    }

    /// What its configuration is called.
    pub fn file(self) -> &'static str {
        match self {
            Self::Nginx => "nginx.conf",
            Self::Caddy => "Caddyfile",
            Self::Haproxy => "haproxy.cfg",
        }
    }

    /// The folder of its shapes below `data`.
    pub fn shapes(self) -> &'static str {
        if self == Self::Nginx { "import" } else { self.name() }
    }

    /// The command that tries a configuration, or serves with it; `roots`: the authority of
    /// upstreams.
    pub fn command(self, ns: &NetNs, folder: &Path, config: &Path, roots: &Path, serves: bool) -> Command {
        let mut command = ns.command(self.name());
        match self {
            Self::Nginx => {
                command.args(["-e", "stderr", "-p"]).arg(folder).arg("-c").arg(config);
                let pid = folder.join("nginx.pid");
                let globals = format!("daemon off; master_process off; user root; pid {};", pid.display());
                command.args(["-g", &globals]).args(if serves { &[][..] } else { &["-t", "-q"] });
            }
            Self::Caddy => {
                command.arg(if serves { "run" } else { "validate" }).arg("--config").arg(config);
                command.args(["--adapter", "caddyfile"]);
                command.env("SSL_CERT_FILE", roots).env("SSL_CERT_DIR", "/nonexistent");
                for home in ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"] {
                    command.env(home, folder);
                }
            }
            Self::Haproxy => {
                command.arg(if serves { "-db" } else { "-c" }).arg("-f").arg(config);
            }
        }
        command
    }
}
