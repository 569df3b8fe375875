//! `[upstreams]`: the allowlist, in the main file and in `upstreams.d`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeValue;

use super::document::{Document, Problem, Section};
use super::value::{address_with_port, boolean, duration, number, path, port, text};
use super::{BodyLimit, Upstream};

/// The keys that an upstream can have.
#[cfg(test)]
pub(super) const KEYS: &[&str] = &[
    "address",
    "port",
    "tls",
    "ca",
    "verify",
    "allow_private",
    "require_client_cert",
    "in_flight",
    "body_bytes",
    "upstream_idle",
];

/// The `*.toml` files in `upstreams.d` beside the configuration, in order of their names.
///
/// Errors: the folder, if it cannot be read.
pub(super) fn files_beside(config: &Path) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    let folder = config.parent().unwrap_or(Path::new("")).join("upstreams.d");
    let unreadable = |error| (folder.clone(), error);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.map_err(unreadable)?.path();
        if file.extension().is_some_and(|extension| extension == "toml") {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// Which hosts were named so far, in lower case, and where: the file and its line.
#[derive(Debug, Default)]
pub(super) struct UpstreamNames(HashMap<String, (Arc<Path>, usize)>);

/// Adds the upstreams of one file of `upstreams.d` that others have not `named`.
pub(super) fn add_from(
    file: &Path,
    content: &str,
    named: &mut UpstreamNames,
    to: &mut Vec<Upstream>,
) -> Vec<Problem> {
    let document = Document::new(file, content);
    let table = document.parse();
    let mut top = Section::top(&document, &table);
    let base = file.parent().and_then(Path::parent).unwrap_or(Path::new(""));
    to.extend(section(top.section("upstreams"), base, named));
    top.finish();
    document.into_problems()
}

/// Those of one file; relative paths in it count from `base`.
pub(super) fn section(mut section: Section<'_>, base: &Path, named: &mut UpstreamNames) -> Vec<Upstream> {
    let document = section.document();
    let file: Arc<Path> = document.file().into();
    let mut upstreams = Vec::new();
    for (written, at, entry) in section.entries() {
        let inside = entry.tables_inside();
        if !inside.is_empty() {
            let message = format!("a host's name needs quotes: write \"{written}{inside}\"");
            document.problem(at, Some(format!("upstreams.{written}")), message);
            continue;
        }
        let upstream = upstream(written, entry, base);
        let key = || Some(format!("upstreams.\"{written}\""));
        if let Err(wrong) = check_name(written) {
            document.problem(at, key(), wrong.into());
            continue;
        }
        match named.0.entry(upstream.name.clone()) {
            Entry::Vacant(free) => {
                free.insert((Arc::clone(&file), document.place(at.start).line));
                upstreams.push(upstream);
            }
            Entry::Occupied(taken) => {
                let (file, line) = taken.get();
                let message =
                    format!("this host is named twice, in {}:{line} too; remove one", file.display());
                document.problem(at, key(), message);
            }
        }
    }
    upstreams
}

fn upstream(name: &str, mut entry: Section<'_>, base: &Path) -> Upstream {
    let default = Upstream::new(name);
    let tls = entry.value("tls", boolean).unwrap_or(default.tls);
    let port = entry.value("port", port);
    let default_port = port.unwrap_or(if tls { default.port } else { PLAIN_PORT });
    let address = entry.value("address", |value| {
        let written = text(value)?;
        let wrong = || format!("`{written}` is not an address: write \"IP\" or \"IP:port\"");
        address_with_port(written, default_port).ok_or_else(wrong)
    });
    let names_a_port = |written: &str| written.parse::<SocketAddr>().is_ok();
    if port.is_some() && entry.value("address", |v| text(v).map(names_a_port)) == Some(true) {
        entry.problem("port", "the address has a port already; remove one of the two");
    }
    let in_flight = entry.value("in_flight", number(1..=1_000_000));
    let upstream = Upstream {
        address,
        port: default_port,
        tls,
        ca: entry.value("ca", path(base)),
        verify: entry.value("verify", boolean).unwrap_or(default.verify),
        allow_private: entry.value("allow_private", boolean).unwrap_or(default.allow_private),
        require_client_cert: entry
            .value("require_client_cert", boolean)
            .unwrap_or(default.require_client_cert),
        in_flight: in_flight.map_or(default.in_flight, |number| number as usize),
        body_bytes: entry.value("body_bytes", number(0..=u64::MAX)).map(BodyLimit::from),
        upstream_idle: entry.value("upstream_idle", duration),
        name: default.name,
    };
    entry.finish();
    upstream
}

/// Without TLS.
const PLAIN_PORT: u16 = 80;

impl Upstream {
    /// One without a single key written.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_ascii_lowercase(),
            address: None,
            port: 443,
            tls: true,
            ca: None,
            verify: true,
            allow_private: false,
            require_client_cert: false,
            in_flight: 1024,
            body_bytes: None,
            upstream_idle: None,
        }
    }
}

/// A host's name as the allowlist compares it.
///
/// Errors: what is wrong with `written`.
pub fn host_name(written: &str) -> Result<String, &'static str> {
    check_name(written).map(|()| written.to_ascii_lowercase())
}

/// The same of a value that names no upstream; `instead`: what to do about an address.
pub(super) fn host(instead: &str) -> impl Fn(&DeValue<'_>) -> Result<String, String> {
    move |value| {
        let written = text(value)?;
        if is_address(written) {
            return Err(format!("`{written}`: an IP address is no host name; {instead}"));
        }
        host_name(written).map_err(|wrong| format!("`{written}`: {wrong}"))
    }
}

/// Whether `name` is a whole DNS host name: what may stand as the first path segment.
pub(super) fn check_name(name: &str) -> Result<(), &'static str> {
    if is_address(name) {
        return Err("an IP address is no host name; name the host and write its address = \"IP:port\"");
    }
    if name.ends_with('.') {
        return Err("must not end with a dot");
    }
    let label_is_valid = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.len() > 253 || !name.split('.').all(label_is_valid) {
        return Err("not a DNS host name; write it without scheme, port or path");
    }
    Ok(())
}

/// What browsers and resolvers would take for an IP address.
fn is_address(name: &str) -> bool {
    name.parse::<IpAddr>().is_ok() || name.rsplit('.').next().is_some_and(is_number)
}

fn is_number(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|b| b.is_ascii_digit())
}
