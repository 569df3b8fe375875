//! Certificates and keys of servers that forward, and the authority of their clients' certificates.

use std::collections::HashMap;

use super::scope::{Scope, all_effective, effective};
use super::setup::{Server, Setup};
use crate::import::directive::Directive;
use crate::import::notes::{Group, Notes};
use crate::import::plan::Pair;

/// Adds a server's own pairs, or those that all share; the n-th certificate goes with the n-th key.
pub fn take(
    setup: &Setup<'_>,
    server: &Server<'_>,
    base: &dyn Fn(&str) -> String,
    pairs: &mut Vec<Pair>,
    notes: &mut Notes,
) {
    let of = |name| all_effective(setup, &[&server.level], name);
    let (certs, keys) = (of("ssl_certificate"), of("ssl_certificate_key"));
    if certs.len() != keys.len() {
        let why = "every ssl_certificate needs its ssl_certificate_key: write the missing file under [tls]";
        notes.add(Group::Elsewhere, server.directive, why);
    }
    for (cert, key) in certs.into_iter().zip(keys) {
        if let (Some(cert), Some(key)) = (file(cert, base, notes), file(key, base, notes)) {
            let pair = Pair { cert, key };
            if !pairs.contains(&pair) {
                pairs.push(pair);
            }
        }
    }
}

/// The file that a directive names, if hookgate can read one of that name.
fn file(directive: &Directive, base: &dyn Fn(&str) -> String, notes: &mut Notes) -> Option<String> {
    let path = directive.arguments.first()?;
    let why = if path.contains('$') {
        "left out: hookgate reads files at fixed paths: write each certificate with its key under [tls] certs"
    } else if path.starts_with("data:") || path.starts_with("engine:") || path.starts_with("store:") {
        "left out: hookgate reads certificates and keys from files: write their paths under [tls]"
    } else if path.contains(char::REPLACEMENT_CHARACTER) {
        "left out: the path is not UTF-8, and hookgate.toml can only hold UTF-8: give the file another name"
    } else {
        return Some(base(path));
    };
    notes.add(Group::Elsewhere, directive, why);
    None
}

/// Whose client certificates are taken.
pub struct ClientAuthority {
    file: Option<String>,
    /// By the server's block.
    by_server: HashMap<usize, String>,
}

impl ClientAuthority {
    /// Of the first server that asks for client certificates.
    pub fn new(
        setup: &Setup<'_>,
        relays: &[(&Server<'_>, bool)],
        base: &dyn Fn(&str) -> String,
        notes: &mut Notes,
    ) -> Self {
        let mut authority = Self { file: None, by_server: HashMap::new() };
        for (server, _) in relays.iter().filter(|(_, is_tls)| *is_tls) {
            let of = |name| effective(setup, &[&server.level], name);
            let asks = of("ssl_verify_client").and_then(|directive| directive.arguments.first());
            if asks.is_none_or(|asks| asks == "off") {
                continue;
            }
            let named = of("ssl_client_certificate").or_else(|| of("ssl_trusted_certificate"));
            let Some(path) = named.and_then(|directive| file(directive, base, notes)) else { continue };
            if let (Some(known), Some(directive)) =
                (authority.file.as_ref().filter(|known| **known != path), named)
            {
                let why = format!("left out: [tls] client_ca is one file, and {known} is carried over");
                notes.add(Group::Different, directive, why);
            }
            authority.file.get_or_insert_with(|| path.clone());
            authority.by_server.insert(std::ptr::from_ref(&server.level).addr(), path);
        }
        authority
    }

    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// Whether the servers of all `scopes` have it.
    pub fn is_for(&self, scopes: &[Scope<'_, '_>]) -> bool {
        let servers = scopes.iter().filter_map(|scope| scope.levels.first());
        let mut files = servers.map(|level| self.by_server.get(&std::ptr::from_ref(*level).addr()));
        files.all(|file| file.is_some() && file == self.file.as_ref())
    }
}
