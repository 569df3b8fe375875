use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{Certs, NetNs, Running, TempDir};

/// A real nginx with TLS that answers every request with 200, and logs one line each.
pub struct Nginx {
    log: PathBuf,
    _running: Running,
    _dir: TempDir,
}

impl Nginx {
    /// Serves on `address` with `certs`, inside `ns`. The access log's lines are
    /// `host x-forwarded-for "request line" content-length x-hub-signature-256`.
    ///
    /// # Errors
    /// No nginx, or the port is taken.
    pub fn start(ns: &NetNs, address: SocketAddr, certs: &Certs) -> Result<Self> {
        let dir = TempDir::new("nginx")?;
        let [_, cert, key] = certs.write(&dir, "nginx")?;
        let log = dir.path().join("access.log");
        let config = dir.write(
            "nginx.conf",
            config(address, &dir, [&cert, &key, &log].map(|p| p.display().to_string())),
        )?;
        let mut command = ns.command("nginx");
        command.arg("-e").arg("stderr").arg("-p").arg(dir.path()).arg("-c").arg(&config);
        let mut running = Running::start(command)?;
        running
            .wait_for_stderr("start worker process", Duration::from_secs(10))
            .context("nginx does not start")?;
        Ok(Self { log, _running: running, _dir: dir })
    }

    /// A line per request answered so far.
    ///
    /// # Errors
    /// The log is gone.
    pub fn log(&self) -> Result<Vec<String>> {
        let text =
            std::fs::read_to_string(&self.log).with_context(|| format!("reading {}", self.log.display()))?;
        Ok(text.lines().map(str::to_owned).collect())
    }
}

fn config(address: SocketAddr, dir: &TempDir, [cert, key, log]: [String; 3]) -> String {
    let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {}/{name};", dir.path().display()))
        .join("\n    ");
    format!(
        r#"
daemon off;
user root;
worker_processes 1;
pid {dir}/nginx.pid;
error_log stderr notice;
events {{}}
http {{
    {temp}
    log_format webhook '$host $http_x_forwarded_for "$request" $content_length $http_x_hub_signature_256';
    access_log {log} webhook;
    server {{
        listen {address} ssl{both};
        ssl_certificate {cert};
        ssl_certificate_key {key};
        location / {{ return 200 "received by nginx\n"; }}
    }}
}}
"#,
        dir = dir.path().display(),
        // `[::]` serves IPv4 too, as everywhere else.
        both = if address.is_ipv6() { " ipv6only=off" } else { "" },
    )
}
