//! `hookgate upstream`: the allowlist, as the configuration's files have it.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde::Serialize;
use toml_edit::InlineTable;

use super::config_file::ConfigFile;
use super::output::{json, print, print_error};
use super::probe;
use super::proxy::{self, AskError};
use crate::access::Disk;
use crate::config::{Config, EditLock, Files, HostName, Upstream, edit};
use crate::upstream::Directory;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print all upstreams, and the files that hold them
    List {
        /// Print JSON, version 1
        #[arg(long)]
        json: bool,
    },
    /// Allow a host: write it into the configuration, tell the running proxy, and try the way to it
    Add(Box<Add>),
    /// Allow a host no longer: take it out of the file that holds it, and tell the running proxy
    Remove { host: HostName },
}

#[derive(Debug, Args)]
pub struct Add {
    host: HostName,
    /// Connect here instead of asking the DNS: IP or IP:port
    #[arg(long, value_parser = address)]
    address: Option<String>,
    /// Speak plain HTTP to it
    #[arg(long)]
    no_tls: bool,
    /// Its port [default: 443, or 80 with --no-tls]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// A PEM file with further authorities to believe
    #[arg(long, value_name = "FILE", conflicts_with = "no_tls")]
    ca: Option<PathBuf>,
    /// Let its name lead to private addresses
    #[arg(long)]
    allow_private: bool,
    /// Answer 403 to requests that came without a client certificate
    #[arg(long)]
    require_client_cert: bool,
    /// How many requests may be under way at once [default: 1024]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    in_flight: Option<u32>,
    /// The largest request body in bytes; 0: no limit [default: as [limits] says]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    body_bytes: Option<i64>,
    /// How long an idle connection to it is kept, such as 1s [default: as [timeouts] says]
    #[arg(long, value_name = "TIME")]
    upstream_idle: Option<String>,
    /// Don't try the way to it
    #[arg(long)]
    no_probe: bool,
}

/// `IP` or `IP:port`, as written.
fn address(text: &str) -> Result<String, &'static str> {
    let is_address = text.parse::<IpAddr>().is_ok() || text.parse::<SocketAddr>().is_ok();
    if is_address { Ok(text.to_owned()) } else { Err("write IP or IP:port") }
}

pub(super) fn run(command: Command, file: &ConfigFile) -> anyhow::Result<ExitCode> {
    match command {
        Command::List { json } => list(file.path(), json)?,
        Command::Add(options) => add(&options, file.path())?,
        Command::Remove { host } => remove(&host, file.path())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(path: &Path, as_json: bool) -> anyhow::Result<()> {
    let files = Files::read(path);
    files.config()?;
    let held = files.upstreams();
    let rows =
        held.iter().flat_map(|(file, upstreams)| upstreams.iter().map(|upstream| Row::new(upstream, file)));
    if as_json {
        let upstreams = rows.collect();
        return Ok(print(&json(&List { version: 1, upstreams })?)?);
    }
    let rows: Vec<[String; 3]> = rows.map(|row| [row.host.into(), row.way(), row.file]).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let (host_width, way_width) = (width(0), width(1));
    let line = |[host, way, file]: &[String; 3]| format!("{host:host_width$}  {way:way_width$}  {file}\n");
    Ok(print(&rows.iter().map(line).collect::<String>())?)
}

fn add(options: &Add, path: &Path) -> anyhow::Result<()> {
    let host = &options.host;
    let keys = options.keys()?;
    let (config, file) = change(path, host, |files| {
        if let Some((file, _)) = holder(&files, host) {
            bail!("{host} is already in {}: edit it there, or remove it first", file.display());
        }
        // The first of the files is the main one.
        files.edited(|text| edit::add(text, host, &keys).map(Some))?.context("nothing to edit")
    })?;
    print(&format!("{host} is in {} now\n", file.display()))?;
    print(&told(&config)?)?;
    if !options.no_probe {
        try_out(host, &config)?;
    }
    Ok(())
}

fn remove(host: &HostName, path: &Path) -> anyhow::Result<()> {
    let (config, file) = change(path, host, |files| {
        let edited = files.edited(|text| edit::remove(text, host))?;
        edited.with_context(|| format!("{host} is not in [upstreams] of {}", path.display()))
    })?;
    print(&format!("{host} is in {} no more\n", file.display()))?;
    Ok(print(&told(&config)?)?)
}

/// Edits one of the configuration's files, for `host` alone, if the result is a valid
/// configuration. Returns that, and the file's path. `edit` returns all files, and the path and new
/// text of the one that it has changed.
fn change(
    path: &Path,
    host: &HostName,
    edit: impl FnOnce(Files) -> anyhow::Result<(Files, PathBuf, String)>,
) -> anyhow::Result<(Config, PathBuf)> {
    let lock = EditLock::take(path)?;
    let files = Files::read(path);
    let before = files.config().context("nothing was changed, since this has to be corrected first")?;
    let (files, file, text) = edit(files)?;
    let after = files.config().context("nothing was changed, since this would not be valid")?;
    let others = |upstream: &&Upstream| upstream.name != *host;
    if before.upstreams.iter().filter(others).ne(after.upstreams.iter().filter(others)) {
        bail!("nothing was changed: {} can't be edited safely; edit it by hand", file.display());
    }
    let its = after.upstreams.iter().find(|upstream| upstream.name == *host);
    Directory::new(its.map_or(&[], std::slice::from_ref), &Disk).context("nothing was changed")?;
    lock.replace(&file, &text)?;
    Ok((after, file))
}

/// Which file holds `host`.
fn holder<'f>(files: &'f Files, host: &HostName) -> Option<(&'f Path, Vec<Upstream>)> {
    files
        .upstreams()
        .into_iter()
        .find(|(_, upstreams)| upstreams.iter().any(|upstream| upstream.name == *host))
}

/// Has the running proxy take the configuration over; returns a line on the result.
fn told(config: &Config) -> anyhow::Result<String> {
    let Some(socket) = config.admin_socket() else {
        return Ok("there is no [admin] socket to reach a running proxy by: send it SIGHUP\n".into());
    };
    match proxy::post(socket, "/reload") {
        Ok(said) => Ok(format!("the running proxy: {}\n", said.trim())),
        Err(error) if error.is_absence() => {
            Ok("no proxy is running: it counts from the next start on\n".into())
        }
        Err(error @ AskError::Unknown) => Ok(format!("{error}: it counts from the next start on\n")),
        Err(error @ AskError::Unreachable { .. }) => {
            Err(error).context("the running proxy can't be told: run this as root")
        }
        Err(error @ AskError::Silent { .. }) => Err(error)
            .context("the running proxy does not answer, and may take it over only at its next start"),
        Err(error) => Err(error).context("the running proxy"),
    }
}

/// Goes the way to `host` once; a way that is not open is no failure, since the upstream may come
/// later.
fn try_out(host: &HostName, config: &Config) -> anyhow::Result<()> {
    let Some(upstream) = config.upstreams.iter().find(|upstream| upstream.name == *host) else {
        return Ok(());
    };
    let report = probe::go(upstream, config)?;
    let text = probe::text(&report, upstream);
    if report.failure.is_none() {
        return Ok(print(&text)?);
    }
    print_error(&format!("WARNING: the way to {host} is not open:\n{text}"));
    Ok(())
}

impl Add {
    /// As they are written into the file.
    fn keys(&self) -> anyhow::Result<InlineTable> {
        let mut keys = InlineTable::new();
        if let Some(address) = &self.address {
            keys.insert("address", address.as_str().into());
        }
        if self.no_tls {
            keys.insert("tls", false.into());
        }
        if let Some(port) = self.port {
            keys.insert("port", i64::from(port).into());
        }
        if let Some(ca) = &self.ca {
            // What is relative here would count from the configuration's folder there.
            let ca = std::path::absolute(ca)?;
            keys.insert("ca", ca.to_str().context("--ca: the path is not UTF-8")?.into());
        }
        for (key, is_set) in
            [("allow_private", self.allow_private), ("require_client_cert", self.require_client_cert)]
        {
            if is_set {
                keys.insert(key, true.into());
            }
        }
        for (key, number) in [("in_flight", self.in_flight.map(i64::from)), ("body_bytes", self.body_bytes)] {
            if let Some(number) = number {
                keys.insert(key, number.into());
            }
        }
        if let Some(idle) = &self.upstream_idle {
            keys.insert("upstream_idle", idle.as_str().into());
        }
        Ok(keys)
    }
}

/// `hookgate upstream list --json`, version 1.
#[derive(Serialize)]
struct List<'c> {
    version: u32,
    upstreams: Vec<Row<'c>>,
}

#[derive(Serialize)]
struct Row<'c> {
    host: &'c str,
    file: String,
    address: Option<SocketAddr>,
    port: u16,
    tls: bool,
    ca: Option<String>,
    verify: bool,
    ml_kem: bool,
    allow_private: bool,
    require_client_cert: bool,
    in_flight: usize,
    body_bytes: Option<u64>,
    upstream_idle_seconds: Option<f64>,
}

impl<'c> Row<'c> {
    fn new(upstream: &'c Upstream, file: &Path) -> Self {
        Self {
            host: &upstream.name,
            file: file.display().to_string(),
            address: upstream.address,
            port: upstream.address.map_or(upstream.port, |address| address.port()),
            tls: upstream.tls,
            ca: upstream.ca.as_ref().map(|path| path.display().to_string()),
            verify: upstream.verify,
            ml_kem: upstream.ml_kem,
            allow_private: upstream.allow_private,
            require_client_cert: upstream.require_client_cert,
            in_flight: upstream.in_flight,
            body_bytes: upstream.body_bytes.map(u64::from),
            upstream_idle_seconds: upstream.upstream_idle.map(|idle| idle.as_secs_f64()),
        }
    }

    /// Where requests go, and what is unusual about it.
    fn way(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let mut way = match self.address {
            Some(address) => format!("{scheme}://{address}"),
            None => format!("{scheme}, port {}", self.port),
        };
        for (word, applies) in [
            ("own ca", self.ca.is_some()),
            ("NOT verified", self.tls && !self.verify),
            ("without ML-KEM", self.tls && !self.ml_kem),
            ("private addresses too", self.allow_private),
            ("client certificate required", self.require_client_cert),
        ] {
            if applies {
                // Writing to a String does not fail.
                let _ = write!(way, ", {word}");
            }
        }
        way
    }
}
