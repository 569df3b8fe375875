//! What the worker may ask its supervisor for: all that the configuration names, and nothing else.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::file_watch::FileWatch;
use super::memory_file::in_memory;
use crate::access::{open, open_below};
use crate::acme;
use crate::config::{self, Config, DnsServers, Guard, PrefixSource};
use crate::tls::is_answer;
use crate::upstream::RESOLV_CONF;

pub(super) struct Allowed {
    /// The configuration itself, as JSON.
    pub(super) configuration: OwnedFd,
    files: HashSet<PathBuf>,
    addresses: HashSet<SocketAddr>,
    webroot: Option<PathBuf>,
    /// The folder of what a certificate authority issued.
    state: Option<PathBuf>,
    pub(super) admin_socket: Option<PathBuf>,
    pub(super) guard: Option<Guard>,
    /// Where Meta's prefixes come from.
    pub(super) prefixes: PrefixSource,
    /// The certificates' files.
    pub(super) certificates: FileWatch,
    /// The configuration's own, where a change is read without a command (`[process] watch`).
    pub(super) configuration_files: Option<FileWatch>,
}

impl Allowed {
    /// All that `config`, read from `file`, names. Watching its files begins.
    ///
    /// Errors: no memory for its text.
    pub(super) fn by(config: &Config, file: &Path) -> io::Result<Self> {
        let pairs = config.tls.iter().flat_map(|tls| &tls.pairs);
        let pairs: Vec<PathBuf> = pairs.flat_map(|pair| [pair.cert.clone(), pair.key.clone()]).collect();
        let listen = &config.listen;
        let acme = config.acme.as_ref();
        let mut files: HashSet<PathBuf> = pairs.iter().cloned().collect();
        files.extend(config.tls.iter().flat_map(|tls| [&tls.client_ca, &tls.client_crl]).flatten().cloned());
        files.extend(acme.iter().filter_map(|acme| acme.ca.clone()));
        files.extend(config.upstreams.iter().filter_map(|upstream| upstream.ca.clone()));
        files.extend((config.dns.servers == DnsServers::System).then(|| RESOLV_CONF.into()));
        let addresses = [&listen.https, &listen.http, &listen.plain].into_iter().flatten();
        let (file, source) = (file.to_owned(), config.prefixes.source.clone());
        let watched = move || {
            let mut files = config::files(&file);
            if let PrefixSource::File(list) = &source {
                files.push(list.clone());
            }
            files
        };
        Ok(Self {
            configuration: in_memory("configuration", |file| Ok(serde_json::to_writer(file, config)?))?,
            files,
            addresses: addresses.copied().chain(config.admin_listen()).collect(),
            webroot: acme.and_then(|acme| acme.webroot.clone()),
            state: acme.filter(|acme| !acme.domains.is_empty()).map(acme::folder),
            admin_socket: config.admin_socket().map(Path::to_owned),
            guard: config.guard.clone(),
            prefixes: config.prefixes.source.clone(),
            certificates: FileWatch::new(move || pairs.clone()),
            configuration_files: config.process.watch.then(|| FileWatch::new(watched)),
        })
    }

    /// Opens a file that the configuration names. `None`: it names no such file.
    pub(super) fn open(&self, path: &Path) -> Option<io::Result<File>> {
        if self.files.contains(path) {
            return Some(open(path));
        }
        // Other users may write in a webroot, and its files are served to anyone.
        let webroot = self.webroot.as_ref().filter(|webroot| is_answer(path, webroot))?;
        Some(open_below(webroot, path))
    }

    pub(super) fn has_address(&self, address: SocketAddr) -> bool {
        self.addresses.contains(&address)
    }

    pub(super) fn has_state(&self, folder: &Path) -> bool {
        self.state.as_deref() == Some(folder)
    }
}
