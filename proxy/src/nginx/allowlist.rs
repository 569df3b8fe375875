//! Which hosts a location forwards to: from a `map`, an `if`, or its own pattern.

use std::net::SocketAddr;

use super::found::{Found, Keys};
use super::syntax::Directive;
use super::values::{Pass, bare_ip, hosts, pass};

/// What stands beside servers: `map`s and `upstream`s.
#[derive(Debug, Default)]
pub struct Tables<'d> {
    pub maps: Vec<&'d Directive>,
    pub groups: Vec<&'d Directive>,
}

impl<'d> Tables<'d> {
    /// The map that sets `variable`.
    fn map(&self, variable: &str) -> Option<&'d Directive> {
        self.maps.iter().find(|map| map.arguments.get(1).is_some_and(|set| set == variable)).copied()
    }

    /// The servers of an `upstream` block.
    fn group(&self, name: &str) -> Option<Vec<&'d str>> {
        let group =
            self.groups.iter().find(|group| group.arguments.first().is_some_and(|own| own == name))?;
        let servers = group.block.iter().flatten().filter(|directive| directive.name == "server");
        Some(servers.filter_map(|server| Some(server.arguments.first()?.as_str())).collect())
    }
}

/// Takes over the hosts of a location with `proxy_pass`; `around` is the server's own block.
pub fn take(found: &mut Found, tables: &Tables<'_>, location: &Directive, around: &[Directive]) {
    let inside = location.block.as_deref().unwrap_or_default();
    let Some(to) = inside.iter().find(|directive| directive.name == "proxy_pass") else { return };
    let target = to.arguments.first().map(String::as_str).unwrap_or_default();
    let guards = inside.iter().chain(around).filter(|directive| directive.name == "if" && refuses(directive));
    let passed = pass(target);
    let way = match &passed {
        Some(pass) if !pass.host.contains('$') => return fixed(found, tables, location, to, pass),
        Some(pass) => Keys { no_tls: !pass.is_https, port: pass.port, ..Keys::default() },
        None => Keys::default(),
    };
    let mut is_bounded = false;
    for guard in guards {
        is_bounded |= guarded(found, tables, guard, &way);
    }
    if passed.is_none()
        && let Some(map) = tables.map(first_variable(target))
    {
        // Where each host is says more than whether it is allowed.
        mapped(found, map, &way);
        is_bounded = true;
    }
    let pattern = location.arguments.last().map(String::as_str).unwrap_or_default();
    if !is_bounded && let Some(named) = hosts(pattern) {
        is_bounded = true;
        named.into_iter().for_each(|host| allow(found, host, way.clone()));
    }
    if !is_bounded {
        found.note(to, "no allowlist that can be read bounds this; name the hosts under [upstreams]");
    }
}

/// `$backend` of `$backend$rest`.
fn first_variable(text: &str) -> &str {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let end = text.char_indices().skip(1).find(|(_, c)| !is_name(*c)).map_or(text.len(), |(at, _)| at);
    &text[..end]
}

/// Whether an `if` answers with an error.
fn refuses(guard: &Directive) -> bool {
    let is_refusal = |directive: &Directive| {
        directive.name == "return" && directive.arguments.first().is_some_and(|code| code.starts_with('4'))
    };
    guard.block.iter().flatten().any(is_refusal)
}

/// `if ($allowed = 0)`, `if ($allowed != 1)`, `if ($host !~ ^(a|b)$)`: whether that bounds the hosts.
fn guarded(found: &mut Found, tables: &Tables<'_>, guard: &Directive, way: &Keys) -> bool {
    let condition = guard.arguments.join(" ");
    let condition = condition.strip_prefix('(').and_then(|condition| condition.strip_suffix(')'));
    let words: Vec<&str> = condition.unwrap_or_default().split_whitespace().collect();
    match words.as_slice() {
        [_, "!~" | "!~*", pattern] => {
            match hosts(pattern) {
                Some(named) => named.into_iter().for_each(|host| allow(found, host, way.clone())),
                None => found.note(guard, "the pattern does not name each host; name them under [upstreams]"),
            }
            true
        }
        // What is compared with is what the map says for all others.
        [variable, "=" | "!=", ..] => match tables.map(variable) {
            Some(map) => {
                mapped(found, map, way);
                true
            }
            None => false,
        },
        _ => false,
    }
}

/// A map from hosts (or paths that begin with one) to whether they are allowed, or where they are.
fn mapped(found: &mut Found, map: &Directive, way: &Keys) {
    for entry in map.block.iter().flatten() {
        let value = entry.arguments.first().map(String::as_str).unwrap_or_default();
        let pattern = entry.name.strip_prefix("~*").or_else(|| entry.name.strip_prefix('~'));
        match (entry.name.as_str(), pattern) {
            ("default", _) if is_no(value) => {}
            ("default", _) => found.note(entry, "whatever is not named is refused; there is no default"),
            ("hostnames" | "volatile" | "", _) => {}
            ("include", _) => found.note(entry, "no file there that can be read"),
            _ if is_no(value) => {}
            (_, Some(pattern)) => match hosts(pattern) {
                Some(named) => named.into_iter().for_each(|host| at(found, entry, host, value, way)),
                None => found.note(entry, "hosts are compared whole; name each under [upstreams]"),
            },
            (name, None) if name.starts_with(['*', '.']) || name.ends_with('*') => {
                found.note(entry, "there are no wildcards; name each host under [upstreams]");
            }
            (name, None) => at(found, entry, name.trim_start_matches('\\').to_owned(), value, way),
        }
    }
}

/// What a map says for those that are not allowed.
fn is_no(value: &str) -> bool {
    matches!(value, "" | "0" | "no" | "off" | "false" | "deny")
}

/// A host that a map allows; its value may say where it is.
fn at(found: &mut Found, entry: &Directive, host: String, value: &str, way: &Keys) {
    let keys = match (pass(value), value.parse().ok()) {
        (Some(pass), _) => keys(found, entry, &host, &pass, &[]),
        (None, Some(address)) => Some(Keys { address: Some(address), port: None, ..way.clone() }),
        (None, None) => Some(way.clone()),
    };
    if let Some(keys) = keys {
        allow(found, host, keys);
    }
}

/// A location for one host: `location /chatwoot.example.com/ { proxy_pass https://chatwoot.example.com/; }`.
fn fixed(found: &mut Found, tables: &Tables<'_>, location: &Directive, to: &Directive, pass: &Pass) {
    let pattern = location.arguments.last().map(String::as_str).unwrap_or_default();
    let named = match pattern.strip_prefix('/').and_then(|path| path.split_once('/')) {
        Some((host, "")) if host.contains('.') => {
            if pass.uri.as_deref() != Some("/") {
                found.note(to, format!("hookgate takes /{host} off the path; nginx did not"));
            }
            vec![host.to_owned()]
        }
        _ => hosts(pattern).unwrap_or_default(),
    };
    if named.is_empty() {
        return found
            .note(to, "the path's first segment must name the host: there is no other way to forward");
    }
    for host in named {
        let group = tables.group(&pass.host).unwrap_or_default();
        if let Some(keys) = keys(found, to, &host, pass, &group) {
            allow(found, host, keys);
        }
    }
}

/// How to reach `host` at where `pass` leads, if that can be said; `group`: the servers behind that name.
fn keys(found: &mut Found, written: &Directive, host: &str, pass: &Pass, group: &[&str]) -> Option<Keys> {
    if group.len() > 1 {
        found
            .note(written, format!("{} servers: only the first is carried over, as an address", group.len()));
    }
    let target = group.first().copied().unwrap_or(&pass.host);
    let port = pass.port.unwrap_or(if pass.is_https { 443 } else { 80 });
    let address = target.parse().ok().or_else(|| Some(SocketAddr::new(bare_ip(target)?, port)));
    if address.is_none() && !target.eq_ignore_ascii_case(host) {
        let why =
            format!("left out: under this name requests go to {host}, not to {target}; write its address");
        found.note(written, why);
        return None;
    }
    let port = pass.port.filter(|_| address.is_none());
    Some(Keys { address, port, no_tls: !pass.is_https, ..Keys::default() })
}

fn allow(found: &mut Found, host: String, keys: Keys) {
    found.upstreams.entry(host.to_ascii_lowercase()).or_insert(keys);
}
