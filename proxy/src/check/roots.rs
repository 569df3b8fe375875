//! Root certificates: those that hookgate would trust, those that it cannot read, and what their
//! authorities have revoked.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::ServerName;

use super::Diagnostic;
use crate::access::Disk;
use crate::config::{Config, Key, Severity, Upstream};
use crate::observe::clock;
use crate::tls::{
    BadTls, CertificateFault, Link, add_roots, certificates, chain, next_update, no_name, other_name,
    revocation_lists, unusable_authority,
};

pub(super) fn faults(config: &Config) -> Vec<Diagnostic> {
    let mut files = Files::default();
    let client_ca = config.tls.as_ref().and_then(|tls| tls.client_ca.as_deref());
    let acme_ca = config.acme.as_ref().and_then(|acme| acme.ca.as_deref());
    let mut faults = Vec::new();
    for (key, path) in [("tls.client_ca", client_ca), ("acme.ca", acme_ca)] {
        faults.extend(path.into_iter().flat_map(|path| files.faults(&Key::new(key), path, None)));
    }
    let client_crl = config.tls.as_ref().and_then(|tls| tls.client_crl.as_deref());
    faults.extend(client_crl.into_iter().flat_map(revocation_faults));
    for upstream in &config.upstreams {
        faults.extend(unverifiable(upstream, &mut files));
        let at = |key| Key::upstream(&upstream.name).key(key);
        if upstream.require_client_cert && client_ca.is_none() {
            let text = "no client is asked for a certificate, and every request is answered 403";
            let next = "write [tls] client_ca, the roots of client certificates";
            faults.push(Diagnostic::new(Severity::Error, at("require_client_cert"), text, next));
        }
    }
    faults
}

/// Of a file with revocation lists.
fn revocation_faults(path: &Path) -> Vec<Diagnostic> {
    let key = Key::new("tls.client_crl");
    let lists = match revocation_lists(path, &Disk) {
        Ok(lists) => lists,
        Err(error) => return vec![Diagnostic::of(Severity::Fatal, key, &error)],
    };
    let now = clock::now().as_second();
    let overdue = lists.iter().filter_map(next_update).filter(|(_, due)| *due < now);
    let warning = |(issuer, due)| {
        let text = format!(
            "the list of {issuer} was to be replaced on {}: what was revoked since then counts",
            clock::date(due)
        );
        Diagnostic::new(
            Severity::Warning,
            key.clone(),
            text,
            "fetch the authority's current list, and reload",
        )
    };
    overdue.map(warning).collect()
}

/// Of an upstream with TLS.
fn unverifiable(upstream: &Upstream, files: &mut Files) -> Vec<Diagnostic> {
    if !upstream.tls {
        return Vec::new();
    }
    let at = || Key::upstream(&upstream.name);
    if ServerName::try_from(&*upstream.name).is_err() {
        let text = "the name cannot stand in a TLS handshake";
        return vec![Diagnostic::new(Severity::Fatal, at(), text, "rename it, or write tls = false")];
    }
    if !upstream.verify {
        let text = "anyone on the way to it can read and change its messages";
        let next = "name its roots with `ca` instead";
        return vec![Diagnostic::new(Severity::Warning, at().key("verify"), text, next)];
    }
    let Some(ca) = &upstream.ca else { return Vec::new() };
    files.faults(&at().key("ca"), ca, Some(&upstream.name))
}

/// Files of roots, each read once: their certificates, or why they cannot be used.
#[derive(Default)]
struct Files(HashMap<PathBuf, Result<Vec<Link>, String>>);

impl Files {
    /// What is wrong with one; `name`: the upstream that it is for.
    fn faults(&mut self, key: &Key, path: &Path, name: Option<&str>) -> Vec<Diagnostic> {
        if !self.0.contains_key(path) {
            self.0.insert(path.to_owned(), read(path).map_err(|error| error.to_string()));
        }
        let links = match self.0.get(path) {
            Some(Ok(links)) => links,
            Some(Err(error)) => return vec![Diagnostic::of(Severity::Fatal, key.clone(), error)],
            None => return Vec::new(),
        };
        let own = name.and_then(|name| own_certificate_fault(links, name));
        let faults = links.iter().filter_map(unusable_authority).chain(own);
        let fault =
            |found: CertificateFault| Diagnostic::new(Severity::Warning, key.clone(), found.why, found.next);
        faults.map(fault).collect()
    }
}

fn read(path: &Path) -> Result<Vec<Link>, BadTls> {
    let certificates = certificates(path, &Disk)?;
    add_roots(&mut RootCertStore::empty(), &certificates, path)?;
    Ok(chain(&certificates))
}

/// Why the server `name` cannot present the only certificate in its `ca` file.
fn own_certificate_fault(links: &[Link], name: &str) -> Option<CertificateFault> {
    let [own] = links else { return None };
    let is_named = own.subject.split(", ").any(|part| part.eq_ignore_ascii_case(&format!("CN={name}")));
    if !own.is_self_signed || own.is_authority && !is_named {
        return None;
    }
    let now = clock::now().as_second();
    if own.not_after < now {
        let why = format!("the certificate has expired, on {}", clock::date(own.not_after));
        return Some(CertificateFault::new(why, "renew it at the upstream"));
    }
    match own.names.is_empty() {
        true => Some(no_name(name)),
        false => (!own.covers(name)).then(|| other_name(&own.names, name)),
    }
}
