//! A plan as the text of a `hookgate.toml`.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;

use toml_edit::{Array, InlineTable, Key, Value};

use super::notes::{Group, one_line};
use super::plan::{Origin, Plan, Upstream};

pub fn toml(plan: &Plan, files: &[PathBuf]) -> String {
    let mut text = Text(String::new());
    let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    text.comment(format_args!(
        "Imported from {}; `hookgate check` says whether it would start.",
        files.join(", ")
    ));
    text.comment("hookgate verifies upstreams' certificates (`hookgate probe HOST` shows them) and sends paths and queries byte for");
    let Origin { name, default } = plan.origin;
    text.comment(format_args!(
        "byte. A name that leads into your own network needs allow_private = true. What {name} leaves at a default of its"
    ));
    text.comment(format_args!("own, such as {default}, has hookgate's default here."));
    if !plan.names.is_empty() {
        text.comment(format_args!(
            "Names of the relay: {}. The certificate decides them.",
            plan.names.join(", ")
        ));
    }
    plan.blocked.iter().for_each(|why| text.comment(format_args!("To correct by hand: {why}.")));
    notes(&mut text, plan, Group::Open, &open_title(plan.origin));
    listen(&mut text, plan);
    tls(&mut text, plan);
    acme(&mut text, plan);
    settings(&mut text, plan, &["dns"]);
    text.section("upstreams");
    for (host, upstream) in &plan.upstreams {
        text.line(format_args!("{} = {}", quoted(host), inline(upstream)));
    }
    settings(&mut text, plan, &["timeouts", "limits", "log"]);
    notes(&mut text, plan, Group::Elsewhere, "Goes elsewhere, arrives otherwise, or is left out:");
    notes(&mut text, plan, Group::Different, "Set differently:");
    no_consequence(&mut text, plan);
    text.0
}

/// The heading of what was closed.
pub fn open_title(origin: Origin) -> String {
    format!("Closed in {}, open here:", origin.name)
}

struct Text(String);

impl Text {
    fn line(&mut self, line: impl Display) {
        self.0 += &format!("{line}\n");
    }

    fn comment(&mut self, comment: impl Display) {
        self.line(format_args!("# {}", one_line(&comment.to_string())));
    }

    fn section(&mut self, name: &str) {
        self.line(format_args!("\n[{name}]"));
    }

    fn key(&mut self, key: &str, value: impl Into<Value>) {
        self.line(format_args!("{key} = {}", value.into()));
    }
}

fn listen(text: &mut Text, plan: &Plan) {
    text.section("listen");
    for (key, addresses) in [("https", &plan.https), ("http", &plan.http), ("plain", &plan.plain)] {
        if !addresses.is_empty() {
            text.key(key, addresses.iter().map(ToString::to_string).collect::<Array>());
        }
    }
    if !(plan.https.is_empty() || plan.plain.is_empty()) {
        text.comment(format_args!(
            "At plain requests are forwarded without TLS, as {} does; at http they are redirected to https.",
            plan.origin.name
        ));
    }
    if !plan.proxy_protocol_from.is_empty() {
        let networks = plan.proxy_protocol_from.iter().map(ToString::to_string);
        text.key("proxy_protocol_from", networks.collect::<Array>());
        if !plan.without_proxy_header.is_empty() {
            let addresses: Vec<String> =
                plan.without_proxy_header.iter().map(SocketAddr::to_string).collect();
            text.comment(format_args!(
                "It holds at every listener, in {} not at {}: what connects there from such a network must send a PROXY \
                 header too.",
                plan.origin.name,
                addresses.join(", ")
            ));
        }
    }
    if plan.has_forwarded_addresses {
        text.comment("Clients' addresses are taken from PROXY headers alone, not from X-Forwarded-For.");
    }
}

fn tls(text: &mut Text, plan: &Plan) {
    let is_got = !plan.domains.is_empty() && plan.pairs.is_empty();
    if plan.https.is_empty() || is_got && plan.client_ca.is_none() {
        return;
    }
    text.section("tls");
    match plan.pairs.split_first() {
        Some((first, more)) => {
            text.key("cert", first.cert.as_str());
            text.key("key", first.key.as_str());
            if !more.is_empty() {
                let pairs = more.iter().map(|pair| {
                    InlineTable::from_iter([("cert", pair.cert.as_str()), ("key", pair.key.as_str())])
                });
                text.key("certs", pairs.collect::<Array>());
            }
        }
        None if is_got => {}
        None => text.comment("No certificate is carried over: write cert and key."),
    }
    if let Some(file) = &plan.client_ca {
        text.key("client_ca", file.as_str());
        if !plan.client_names.is_empty() {
            text.key("client_names", plan.client_names.iter().collect::<Array>());
        }
    }
}

fn acme(text: &mut Text, plan: &Plan) {
    if plan.webroot.is_none() && plan.domains.is_empty() {
        return;
    }
    text.section("acme");
    if !plan.domains.is_empty() {
        text.key("domains", plan.domains.iter().collect::<Array>());
    }
    if !plan.contact.is_empty() {
        text.key("contact", plan.contact.iter().collect::<Array>());
    }
    if let Some(webroot) = &plan.webroot {
        if plan.http.is_empty() {
            text.comment("It is served at [listen] http, which there is not yet.");
        }
        text.key("webroot", webroot.as_str());
    }
}

fn settings(text: &mut Text, plan: &Plan, sections: &[&str]) {
    for section in sections {
        let mut keys = plan.settings.iter().filter(|((of, _), _)| of == section).peekable();
        if keys.peek().is_some() {
            text.section(section);
        }
        for ((_, key), amount) in keys {
            text.key(key, amount.toml());
        }
    }
}

/// In quotes, also where it needs none.
fn quoted(host: &str) -> String {
    let bare = Key::new(host).display_repr().into_owned();
    if bare.starts_with(['"', '\'']) { bare } else { format!("\"{bare}\"") }
}

fn inline(upstream: &Upstream) -> InlineTable {
    let (mut table, route) = (InlineTable::new(), &upstream.route);
    let default_port = if route.is_https { 443 } else { 80 };
    match route.address {
        Some(address) => drop(table.insert("address", address.to_string().into())),
        None if route.port != default_port => drop(table.insert("port", i64::from(route.port).into())),
        None => {}
    }
    if !route.is_https {
        table.insert("tls", false.into());
    }
    if let Some(file) = &upstream.ca {
        table.insert("ca", file.as_str().into());
    }
    if route.require_client_cert {
        table.insert("require_client_cert", true.into());
    }
    if let Some(bytes) = upstream.body_bytes {
        table.insert("body_bytes", i64::try_from(bytes).unwrap_or(i64::MAX).into());
    }
    table
}

fn notes(text: &mut Text, plan: &Plan, group: Group, title: &str) {
    let notes = plan.notes.of(group);
    if notes.is_empty() {
        return;
    }
    text.line("");
    text.comment(title);
    notes.iter().for_each(|note| text.comment(note.line()));
}

/// All in one line: the directives' names.
fn no_consequence(text: &mut Text, plan: &Plan) {
    let mut names: Vec<&str> = Vec::new();
    for note in plan.notes.of(Group::NoConsequence) {
        let name = match &*note.why {
            "" => note.written.split(' ').next().unwrap_or_default(),
            name => name,
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if !names.is_empty() {
        text.line("");
        text.comment(format_args!("Without consequence: {}.", names.join(", ")));
    }
}
