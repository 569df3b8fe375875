//! Upstreams and authorities: whom hookgate would believe, and whom it could not ask.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::ServerName;

use super::Fault;
use crate::access::Disk;
use crate::config::{Config, Key, Severity, Upstream};
use crate::tls::add_roots;

pub(super) fn faults(config: &Config) -> Vec<Fault> {
    let mut files = Files::default();
    let client_ca = config.tls.as_ref().and_then(|tls| tls.client_ca.as_deref());
    let acme_ca = config.acme.as_ref().and_then(|acme| acme.ca.as_deref());
    let mut faults = Vec::new();
    for (key, path) in [("tls.client_ca", client_ca), ("acme.ca", acme_ca)] {
        faults.extend(path.and_then(|path| files.fault(Key::new(key), path)));
    }
    for upstream in &config.upstreams {
        faults.extend(unverifiable(upstream, &mut files));
        let at = |key| Key::upstream(&upstream.name).key(key);
        if upstream.require_client_cert && client_ca.is_none() {
            let text = "no client is asked for a certificate, and every request is answered 403";
            let next = "write [tls] client_ca, the roots of client certificates";
            faults.push(Fault::new(Severity::Error, at("require_client_cert"), text, next));
        }
    }
    faults
}

/// Of an upstream with TLS.
fn unverifiable(upstream: &Upstream, files: &mut Files) -> Option<Fault> {
    if !upstream.tls {
        return None;
    }
    let at = Key::upstream(&upstream.name);
    if ServerName::try_from(&*upstream.name).is_err() {
        let text = "the name cannot stand in a TLS handshake";
        return Some(Fault::new(Severity::Fatal, at, text, "rename it, or write tls = false"));
    }
    if !upstream.verify {
        let text = "anyone on the way to it can read and change its messages";
        return Some(Fault::new(
            Severity::Warning,
            at.key("verify"),
            text,
            "name its roots with `ca` instead",
        ));
    }
    files.fault(at.key("ca"), upstream.ca.as_deref()?)
}

/// What is wrong with files of roots, each read once.
#[derive(Default)]
struct Files(HashMap<PathBuf, Option<String>>);

impl Files {
    fn fault(&mut self, key: Key, path: &Path) -> Option<Fault> {
        if !self.0.contains_key(path) {
            let error = add_roots(&mut RootCertStore::empty(), path, &Disk).err();
            self.0.insert(path.to_owned(), error.map(|error| error.to_string()));
        }
        let error = self.0.get(path)?.as_ref()?;
        Some(Fault::of(Severity::Fatal, key, error))
    }
}
