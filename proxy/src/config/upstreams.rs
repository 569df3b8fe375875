//! `[upstreams]`: the allowlist, in the main file and in `upstreams.d`.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeValue;

use super::document::{Document, Problem, Section};
use super::host_lines::HostLines;
use super::upstream_names::UpstreamNames;
use super::value::{address_with_port, boolean, duration, number, path, port, text};
use super::{BodyLimit, HostName, Upstream, UpstreamSettings};

/// The keys that an upstream can have.
#[cfg(test)]
pub(super) const KEYS: &[&str] = &[
    "address",
    "port",
    "tls",
    "ca",
    "verify",
    "ml_kem",
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

/// Adds the upstreams of one file of `upstreams.d` that others have not `named`.
pub(super) fn add_from(
    file: &Path,
    content: &str,
    named: &mut UpstreamNames,
    to: &mut Vec<Upstream>,
) -> Vec<Problem> {
    if let Some(lines) = HostLines::of(content) {
        let (upstreams, problems) = of_tree(file, &lines.rest, named);
        let all = problems.is_empty().then(|| lines.add_to(file, upstreams, named)).flatten();
        if let Some(all) = all {
            to.extend(all);
            return problems;
        }
        named.forget(file);
    }
    let (upstreams, problems) = of_tree(file, content, named);
    to.extend(upstreams);
    problems
}

/// The same by a tree of all.
pub(super) fn of_tree(
    file: &Path,
    content: &str,
    named: &mut UpstreamNames,
) -> (Vec<Upstream>, Vec<Problem>) {
    let document = Document::new(file, content);
    let table = document.parse();
    let mut top = Section::top(&document, &table);
    let base = file.parent().and_then(Path::parent).unwrap_or(Path::new(""));
    let upstreams = section(top.section("upstreams"), base, named);
    top.finish();
    (upstreams, document.into_problems())
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
        let key = || Some(format!("upstreams.\"{written}\""));
        let name = written.parse::<HostName>();
        let upstream = upstream(name.clone().ok(), entry, base);
        if let Err(wrong) = name {
            document.problem(at.clone(), key(), wrong.into());
        }
        let Some(upstream) = upstream else { continue };
        match named.add(&upstream.name, &file, document.place(at.start).line) {
            Ok(()) => upstreams.push(upstream),
            Err((file, line)) => {
                let message =
                    format!("this host is named twice, in {}:{line} too; remove one", file.display());
                document.problem(at, key(), message);
            }
        }
    }
    upstreams
}

/// What one entry means; its keys are checked even if its name is wrong.
fn upstream(name: Option<HostName>, mut entry: Section<'_>, base: &Path) -> Option<Upstream> {
    let tls = entry.value("tls", boolean).unwrap_or(true);
    let written_port = entry.value("port", port);
    let port =
        written_port.unwrap_or(if tls { UpstreamSettings::TLS_PORT } else { UpstreamSettings::PLAIN_PORT });
    let address = entry.value("address", |value| {
        let written = text(value)?;
        let wrong = || format!("`{written}` is not an address: write \"IP\" or \"IP:port\"");
        address_with_port(written, port).ok_or_else(wrong)
    });
    let names_a_port = |written: &str| written.parse::<SocketAddr>().is_ok();
    if written_port.is_some() && entry.value("address", |v| text(v).map(names_a_port)) == Some(true) {
        entry.problem("port", "the address has a port already; remove one of the two");
    }
    let ca = entry.value("ca", path(base));
    let verify = entry.value("verify", boolean);
    let ml_kem = entry.value("ml_kem", boolean);
    let allow_private = entry.value("allow_private", boolean);
    let require_client_cert = entry.value("require_client_cert", boolean);
    let in_flight = entry.value("in_flight", number(1..=1_000_000));
    let body_bytes = entry.value("body_bytes", number(0..=u64::MAX)).map(BodyLimit::from);
    let upstream_idle = entry.value("upstream_idle", duration);
    entry.finish();
    let default = UpstreamSettings::default();
    let settings = UpstreamSettings {
        address,
        port,
        tls,
        ca,
        verify: verify.unwrap_or(default.verify),
        ml_kem: ml_kem.unwrap_or(default.ml_kem),
        allow_private: allow_private.unwrap_or(default.allow_private),
        require_client_cert: require_client_cert.unwrap_or(default.require_client_cert),
        in_flight: in_flight.map_or(default.in_flight, |number| number as usize),
        body_bytes,
        upstream_idle,
    };
    Some(Upstream { name: name?, settings: settings.into() })
}

/// A host's name where no upstream is meant; `instead`: what to do about an address.
pub(super) fn host(instead: &str) -> impl Fn(&DeValue<'_>) -> Result<HostName, String> {
    move |value| {
        let written = text(value)?;
        if HostName::is_address(written) {
            return Err(format!("`{written}`: an IP address is no host name; {instead}"));
        }
        written.parse().map_err(|wrong| format!("`{written}`: {wrong}"))
    }
}
