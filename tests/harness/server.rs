use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{Running, TempDir, free_port, listens, wait_until};

/// A server that others wrote, with a configuration of the test's own: nginx, HAProxy, or a Python
/// script.
pub struct Server {
    address: SocketAddr,
    _running: Running,
    _dir: TempDir,
}

const START_TIMEOUT: Duration = Duration::from_secs(10);

impl Server {
    /// nginx as one process. In `http`, the inside of its block, `@LISTEN@` is the address to
    /// listen on.
    ///
    /// # Errors
    /// No nginx, or it does not take the configuration.
    pub fn nginx(http: &str) -> Result<Self> {
        Self::start(|dir, address| {
            let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|name| format!("{name}_temp_path {}/{name};\n", dir.path().display()))
                .concat();
            let config = format!(
                "daemon off;\nmaster_process off;\npid {}/nginx.pid;\nerror_log stderr notice;\n\
                 events {{}}\nhttp {{\naccess_log off;\n{temp}{http}\n}}\n",
                dir.path().display()
            );
            let config = write(dir, "nginx.conf", &config, address)?;
            let mut nginx = Command::new("nginx");
            nginx.args(["-e", "stderr", "-p"]).arg(dir.path()).arg("-c").arg(config);
            Ok(nginx)
        })
    }

    /// HAProxy as one process. In `config` `@LISTEN@` is the address to listen on.
    ///
    /// # Errors
    /// No HAProxy, or it does not take the configuration.
    pub fn haproxy(config: &str) -> Result<Self> {
        Self::start(|dir, address| {
            let config = write(dir, "haproxy.cfg", config, address)?;
            let mut haproxy = Command::new("haproxy");
            haproxy.args(["-db", "-f"]).arg(config);
            Ok(haproxy)
        })
    }

    /// A Python 3 script, whose first argument is the port of 127.0.0.1 to listen on.
    ///
    /// # Errors
    /// No Python, or the script ends before it listens.
    pub fn python(script: &str, args: &[&Path]) -> Result<Self> {
        Self::start(|dir, address| {
            let script = dir.write("server.py", script)?;
            let mut python = Command::new("python3");
            python.arg(script).arg(address.port().to_string()).args(args);
            Ok(python)
        })
    }

    fn start(command: impl FnOnce(&TempDir, SocketAddr) -> Result<Command>) -> Result<Self> {
        let dir = TempDir::new("server")?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let command = command(&dir, address)?;
        let name = command.get_program().to_string_lossy().into_owned();
        let mut running = Running::start(command)?;
        let listening = wait_until(format!("{name} listens on {address}"), START_TIMEOUT, || {
            running.still_running()?;
            Ok(listens(running.pid(), &[address]))
        });
        listening.with_context(|| format!("{name} does not start:\n{}", running.stderr()))?;
        Ok(Self { address, _running: running, _dir: dir })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn write(dir: &TempDir, name: &str, config: &str, address: SocketAddr) -> Result<std::path::PathBuf> {
    dir.write(name, config.replace("@LISTEN@", &address.to_string()))
}
