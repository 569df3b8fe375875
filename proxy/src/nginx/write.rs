//! From what was found to a `hookgate.toml`.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;

use toml_edit::{Array, InlineTable, Key, Value};

use super::found::{Found, Keys};

pub fn toml(found: &Found, files: &[PathBuf]) -> String {
    let mut text = Text(String::new());
    let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    text.comment(format_args!(
        "What {} means to hookgate. `hookgate check` says whether it would start.",
        files.join(", ")
    ));
    text.line("# nginx takes any certificate of an upstream's unless told otherwise, hookgate none that does not hold:");
    text.line("# `hookgate probe HOST` shows what each has. A name that leads into your own network needs allow_private = true.");
    if !found.names.is_empty() {
        text.comment(format_args!(
            "Clients call it {}: the certificate decides, no key names it.",
            found.names.join(", ")
        ));
    }
    listen(&mut text, found);
    tls(&mut text, found);
    acme(&mut text, found);
    dns(&mut text, found);
    upstreams(&mut text, found);
    durations(&mut text, "timeouts", &found.timeouts);
    if !found.limits.is_empty() {
        text.section("limits");
        for (key, number) in &found.limits {
            text.line(format_args!("{key} = {number}"));
        }
    }
    if found.without_access_log {
        text.section("log");
        text.key("access", false);
    }
    notes(&mut text, found);
    text.0
}

struct Text(String);

impl Text {
    fn line(&mut self, line: impl Display) {
        self.0 += &format!("{line}\n");
    }

    /// A word in quotes may hold the end of a line.
    fn comment(&mut self, comment: impl Display) {
        let comment = comment.to_string().replace(|c: char| c.is_control(), " ");
        self.line(format_args!("# {comment}"));
    }

    fn section(&mut self, name: &str) {
        self.line(format_args!("\n[{name}]"));
    }

    fn key(&mut self, key: &str, value: impl Into<Value>) {
        self.line(format_args!("{key} = {}", value.into()));
    }
}

fn listen(text: &mut Text, found: &Found) {
    text.section("listen");
    for (key, addresses) in [("https", &found.https), ("http", &found.http), ("plain", &found.plain)] {
        if !addresses.is_empty() {
            text.key(key, addresses.iter().map(ToString::to_string).collect::<Array>());
        }
    }
    if !(found.https.is_empty() || found.plain.is_empty()) {
        text.line("# At plain requests are forwarded without TLS, as nginx does; an address at http would lead to https instead.");
    }
    proxy_protocol(text, found);
    if found.https.is_empty() && found.http.is_empty() && found.plain.is_empty() {
        text.line("# Nothing was listened on.");
        text.line("https = [\"0.0.0.0:443\", \"[::]:443\"]");
    }
}

fn proxy_protocol(text: &mut Text, found: &Found) {
    match (found.with_proxy_header.is_empty(), found.real_ip_from.is_empty()) {
        (false, false) => text.key("proxy_protocol_from", found.real_ip_from.iter().collect::<Array>()),
        (false, true) => {
            text.line("# proxy_protocol_from = []  # name the load balancers that send PROXY headers")
        }
        (true, false) => {
            text.line("# A client's address is taken from PROXY headers alone, not from X-Forwarded-For.")
        }
        (true, true) => {}
    }
    let has_header = |listener: &&SocketAddr| found.with_proxy_header.contains(listener);
    let all = found.https.iter().chain(&found.http).chain(&found.plain);
    let others: Vec<String> = all.filter(|listener| !has_header(listener)).map(ToString::to_string).collect();
    if !(found.with_proxy_header.is_empty() || others.is_empty()) {
        text.line(format_args!(
            "# It holds at every listener, in nginx not at {}: whoever comes there from such a network needs a header too.",
            others.join(", ")
        ));
    }
}

fn tls(text: &mut Text, found: &Found) {
    if found.https.is_empty() {
        return;
    }
    text.section("tls");
    match found.pairs.split_first() {
        Some(((cert, key), more)) => {
            text.key("cert", cert.as_str());
            text.key("key", key.as_str());
            if !more.is_empty() {
                let pair = |(cert, key): &(String, String)| {
                    InlineTable::from_iter([("cert", cert.as_str()), ("key", key.as_str())])
                };
                text.key("certs", more.iter().map(pair).collect::<Array>());
            }
        }
        None => {
            text.line("# No certificate was found: write cert and key.");
        }
    }
    if let Some(ca) = &found.client_ca {
        text.key("client_ca", ca.as_str());
    }
}

fn acme(text: &mut Text, found: &Found) {
    let Some(webroot) = &found.webroot else { return };
    text.section("acme");
    if found.http.is_empty() {
        text.line("# It is served at [listen] http, which there is not yet.");
    }
    text.key("webroot", webroot.as_str());
}

fn dns(text: &mut Text, found: &Found) {
    if found.resolvers.is_empty() && found.dns.is_empty() {
        return;
    }
    durations(text, "dns", &found.dns);
    if found.dns.is_empty() {
        text.section("dns");
    }
    if !found.resolvers.is_empty() {
        text.key("servers", found.resolvers.iter().collect::<Array>());
    }
}

fn upstreams(text: &mut Text, found: &Found) {
    text.section("upstreams");
    for (host, keys) in &found.upstreams {
        text.line(format_args!("{} = {}", quoted(host), inline(&merged(keys, &found.common))));
    }
}

/// In quotes, also where it needs none.
fn quoted(host: &str) -> String {
    let bare = Key::new(host).display_repr().into_owned();
    if bare.starts_with(['"', '\'']) { bare } else { format!("\"{bare}\"") }
}

/// One upstream's own keys, and those that all have.
fn merged(own: &Keys, common: &Keys) -> Keys {
    Keys {
        ca: common.ca.clone().filter(|_| !own.no_tls),
        require_client_cert: common.require_client_cert,
        ..own.clone()
    }
}

fn inline(keys: &Keys) -> InlineTable {
    let mut table = InlineTable::new();
    if let Some(address) = keys.address {
        table.insert("address", address.to_string().into());
    }
    if let Some(port) = keys.port {
        table.insert("port", i64::from(port).into());
    }
    if keys.no_tls {
        table.insert("tls", false.into());
    }
    if let Some(ca) = &keys.ca {
        table.insert("ca", ca.as_str().into());
    }
    if keys.require_client_cert {
        table.insert("require_client_cert", true.into());
    }
    table
}

fn durations(text: &mut Text, section: &str, durations: &std::collections::BTreeMap<&'static str, u64>) {
    if durations.is_empty() {
        return;
    }
    text.section(section);
    for (key, milliseconds) in durations {
        let duration = match milliseconds % 1000 {
            0 => format!("{}s", milliseconds / 1000),
            _ => format!("{milliseconds}ms"),
        };
        text.key(key, duration);
    }
}

fn notes(text: &mut Text, found: &Found) {
    if found.notes.is_empty() {
        return;
    }
    text.line("\n# Not carried over:");
    for note in &found.notes {
        text.comment(format_args!("{}: {}: {}", note.place, note.written, note.why));
    }
}
