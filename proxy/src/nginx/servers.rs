//! Servers: where they listen, which of them relay, and what they show.

use std::net::SocketAddr;

use super::allowlist::{self, Tables};
use super::found::Found;
use super::settings;
use super::syntax::Directive;
use super::values::listen;

/// Takes over what stands in `http`.
pub fn take(found: &mut Found, http: &[&Directive]) {
    let named = |name: &'static str| http.iter().copied().filter(move |directive| directive.name == name);
    let tables = Tables { maps: named("map").collect(), groups: named("upstream").collect() };
    let is_apart = |directive: &Directive| matches!(directive.name.as_str(), "map" | "upstream" | "server");
    // Certificates may stand here for all servers.
    let shared: Vec<&Directive> = http.iter().copied().filter(|directive| !is_apart(directive)).collect();
    for directive in shared.iter().filter(|directive| !is_certificate(directive)) {
        settings::take(found, directive);
    }
    for server in named("server") {
        self::server(found, &tables, server, &shared);
    }
}

fn server(found: &mut Found, tables: &Tables<'_>, server: &Directive, shared: &[&Directive]) {
    let block = server.block.as_deref().unwrap_or_default();
    let relays = block.iter().any(is_relay);
    if !relays && !redirects(block) {
        return found.note(server, "this server forwards nothing by its path's first segment");
    }
    listeners(found, block, relays);
    if relays {
        certificates(found, server, block, shared);
    }
    for directive in block {
        match directive.name.as_str() {
            "listen" => {}
            "ssl_certificate" | "ssl_certificate_key" => {}
            "server_name" if relays => found.names.extend(directive.arguments.iter().cloned()),
            "server_name" => {}
            "location" if is_relay(directive) => {
                allowlist::take(found, tables, directive, block);
                inside_relay(found, directive);
            }
            "location" => location(found, directive, block),
            "if" if is_refusal_or_redirect(directive) => {}
            "return" | "rewrite" if !relays || is_refusal(directive) => {}
            _ => settings::take(found, directive),
        }
    }
}

/// A location that forwards.
fn is_relay(directive: &Directive) -> bool {
    let inside = directive.block.as_deref().unwrap_or_default();
    directive.name == "location" && inside.iter().any(|inside| inside.name == "proxy_pass")
}

fn is_certificate(directive: &Directive) -> bool {
    matches!(directive.name.as_str(), "ssl_certificate" | "ssl_certificate_key")
}

/// Whether a server leads to https, as hookgate's `http` listener does.
fn redirects(block: &[Directive]) -> bool {
    block
        .iter()
        .any(|directive| leads_to_https(directive) || directive.block.iter().flatten().any(leads_to_https))
}

/// Whether a server that forwards does not do so without TLS (`if ($scheme = http) { return 301 https://… }`): a
/// redirect in another location says nothing about that.
fn forwards_tls_alone(block: &[Directive]) -> bool {
    let inside =
        block.iter().filter(|directive| is_relay(directive)).flat_map(|relay| relay.block.iter().flatten());
    block.iter().chain(inside).any(|directive| {
        let is_if = directive.name == "if";
        leads_to_https(directive) || is_if && directive.block.iter().flatten().any(leads_to_https)
    })
}

fn leads_to_https(directive: &Directive) -> bool {
    matches!(directive.name.as_str(), "return" | "rewrite")
        && directive.arguments.iter().any(|argument| argument.starts_with("https://"))
}

fn is_refusal(directive: &Directive) -> bool {
    directive.name == "return" && directive.arguments.first().is_some_and(|code| code.starts_with('4'))
}

fn is_refusal_or_redirect(directive: &Directive) -> bool {
    let inside = directive.block.as_deref().unwrap_or_default();
    inside.iter().all(|inside| is_refusal(inside) || inside.name == "return")
}

fn listeners(found: &mut Found, block: &[Directive], relays: bool) {
    let is_all_ssl =
        block.iter().any(|d| d.name == "ssl" && d.arguments.first().is_some_and(|on| on == "on"));
    let listens = || block.iter().filter(|directive| directive.name == "listen");
    let has = |directive: &Directive, word: &str| directive.arguments.iter().any(|argument| argument == word);
    let has_ssl = is_all_ssl || listens().any(|directive| has(directive, "ssl"));
    let forwards_plain = relays && !(has_ssl && forwards_tls_alone(block));
    for directive in listens() {
        let Some(address) = directive.arguments.first().and_then(|text| listen(text)) else {
            found.note(directive, "listeners are addresses with a port");
            continue;
        };
        let is_https = is_all_ssl || has(directive, "ssl");
        let to = match (is_https, forwards_plain) {
            (true, _) => &mut found.https,
            (false, true) => &mut found.plain,
            (false, false) => &mut found.http,
        };
        let other = SocketAddr::from(([0, 0, 0, 0], address.port()));
        for address in [Some(address), has(directive, "ipv6only=off").then_some(other)].into_iter().flatten()
        {
            add(to, address);
            if has(directive, "proxy_protocol") {
                add(&mut found.with_proxy_header, address);
            }
        }
        if has(directive, "http2") || has(directive, "quic") {
            found.note(directive, "HTTP/1.1 is spoken, as Meta does");
        }
    }
    if listens().next().is_none() {
        add(if relays { &mut found.plain } else { &mut found.http }, SocketAddr::from(([0, 0, 0, 0], 80)));
    }
}

fn add(to: &mut Vec<SocketAddr>, address: SocketAddr) {
    if !to.contains(&address) {
        to.push(address);
    }
}

/// The server's own pairs, or those that all share; the n-th certificate goes with the n-th key.
fn certificates(found: &mut Found, server: &Directive, block: &[Directive], shared: &[&Directive]) {
    let of = |name: &str| {
        let own: Vec<&Directive> = block.iter().filter(|directive| directive.name == name).collect();
        let all = || shared.iter().copied().filter(|directive| directive.name == name).collect();
        let chosen: Vec<&Directive> = if own.is_empty() { all() } else { own };
        chosen.into_iter().filter_map(|directive| directive.arguments.first().cloned()).collect::<Vec<_>>()
    };
    let (certificates, keys) = (of("ssl_certificate"), of("ssl_certificate_key"));
    if certificates.len() != keys.len() {
        found.note(server, "every ssl_certificate needs its ssl_certificate_key");
    }
    for pair in certificates.into_iter().zip(keys) {
        if !found.pairs.contains(&pair) {
            found.pairs.push(pair);
        }
    }
}

/// What else stands in a location that forwards.
fn inside_relay(found: &mut Found, location: &Directive) {
    for directive in location.block.iter().flatten() {
        match directive.name.as_str() {
            "proxy_pass" => {}
            "set" if directive.arguments.get(1).is_some_and(|value| value.starts_with('$')) => {}
            "if" if is_refusal_or_redirect(directive) => {}
            _ => settings::take(found, directive),
        }
    }
}

/// One that does not forward: fine where hookgate does the same. `around` is the server's own block.
fn location(found: &mut Found, location: &Directive, around: &[Directive]) {
    let inside = location.block.as_deref().unwrap_or_default();
    let path = location.arguments.last().map(String::as_str).unwrap_or_default();
    if inside.iter().all(|directive| is_refusal(directive) || directive.name == "access_log") {
        return;
    }
    if path.trim_start_matches('^').replace("\\.", ".").starts_with(CHALLENGES) {
        return challenges(found, location, inside, around);
    }
    let leads_to_https = redirects(std::slice::from_ref(location)) && path == "/";
    if !leads_to_https {
        found.note(location, "nothing is served but what upstreams answer");
    }
}

/// Where authorities ask for the answers to http-01 (RFC 8555 §8.3).
const CHALLENGES: &str = "/.well-known/acme-challenge";

/// The folder that certbot puts its answers in.
fn challenges(found: &mut Found, location: &Directive, inside: &[Directive], around: &[Directive]) {
    let folder = |directive: &Directive| {
        let folder = directive.arguments.first()?;
        let folder = match directive.name.as_str() {
            "root" => folder,
            "alias" => folder.trim_end_matches('/').strip_suffix(CHALLENGES)?,
            _ => return None,
        };
        // nginx counts others from where it was installed.
        (folder.starts_with('/') && !folder.contains('$')).then(|| folder.to_owned())
    };
    match (inside.iter().chain(around).find_map(folder), &found.webroot) {
        (Some(folder), None) => found.webroot = Some(folder),
        (Some(folder), Some(webroot)) if folder == *webroot => {}
        (Some(_), Some(_)) => found.note(location, "`webroot` is one folder: the first is carried over"),
        (None, _) => found.note(
            location,
            "[acme] gets certificates by itself with domains = [\"your.name\"], or serves certbot's challenges with \
             webroot = \"/the/folder\"",
        ),
    }
}
