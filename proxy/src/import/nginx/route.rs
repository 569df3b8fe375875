//! How hookgate reaches a host, and whether that is what nginx does.

use super::destination::{Peer, resolve};
use super::evaluate::Forward;
use super::scope::{Scope, effective};
use super::setup::Setup;
use crate::config::HostName;
use crate::import::directive::Directive;
use crate::import::notes::Group;
use crate::import::plan::{Origin, Route};

pub const NGINX: Origin = Origin { name: "nginx", default: "bodies of at most 1 MB" };

/// A route, and what is otherwise on it.
pub struct Reached<'d> {
    pub route: Route,
    pub notes: Vec<(Group, &'d Directive, &'static str)>,
}

/// The entry for `host` with which hookgate sends requests where nginx does.
///
/// Errors: why there is none, and what to write instead.
pub fn reach<'d>(setup: &Setup<'d>, host: &str, forward: &Forward<'_, 'd>) -> Result<Reached<'d>, String> {
    host.parse::<HostName>().map_err(|wrong| format!("it cannot stand under [upstreams]: {wrong}"))?;
    let (peer, group) = resolve(&forward.url, &setup.groups);
    let mut notes = Vec::new();
    if let Some(group) = group.filter(|group| group.has_backup) {
        notes.push((
            Group::Different,
            group.directive,
            "the backup server is not used: hookgate sends to one address",
        ));
    }
    let is_https = forward.url.is_https;
    let (address, port) = match peer? {
        Peer::Address(address) => (Some(address), address.port()),
        Peer::Name { name, port } if name == host => (None, port),
        Peer::Name { name, port } => {
            let tls = if is_https { "" } else { ", tls = false" };
            return Err(format!(
                "nginx sends these requests to {name}:{port}, and hookgate asks the DNS for the host in the URL: write \
                 \"{host}\" = {{ address = \"IP:{port}\"{tls} }} with that server's address, or put {name} into the URL at \
                 Meta"
            ));
        }
    };
    let own_host = forward.url.host_field();
    let without_port =
        |text: &str| text.rsplit_once(':').map_or(text.to_owned(), |(name, _)| name.to_owned());
    match &forward.host_field {
        Some(field) if field.eq_ignore_ascii_case(host) => {}
        Some(field) if without_port(field).eq_ignore_ascii_case(host) => {
            notes.push((
                Group::Different,
                forward.pass,
                "nginx sends the port in the Host field, hookgate never",
            ));
        }
        Some(field) if *field == own_host && (address.is_some() || group.is_some()) => {
            let why = "nginx sends the address or the group's name as Host, hookgate the host of the URL";
            notes.push((Group::Different, forward.pass, why));
        }
        Some(field) => {
            return Err(format!(
                "nginx sends \"Host: {field}\" upstream, and hookgate the host of the URL: write it under [upstreams] by hand if \
                 the receiver answers to it"
            ));
        }
        None => {
            return Err("nginx sends a Host field upstream that depends on the client's request, and hookgate the host \
                        of the URL"
                .to_owned());
        }
    }
    if is_https {
        match &forward.server_name {
            Some(name) if name.eq_ignore_ascii_case(host) => {}
            Some(name) if name.is_empty() => {
                let why = "nginx sends no server name in the TLS handshake, hookgate the host of the URL";
                notes.push((Group::Different, forward.pass, why));
            }
            Some(name) if *name == forward.url.host && group.is_some() => {
                let why =
                    "nginx asks for the group's name in the TLS handshake, hookgate for the host of the URL";
                notes.push((Group::Different, forward.pass, why));
            }
            Some(name) => {
                return Err(format!(
                    "nginx asks for {name} in the TLS handshake, and hookgate for the host of the URL"
                ));
            }
            None => {
                return Err("the name that nginx sends in the TLS handshake depends on the client's request"
                    .to_owned());
            }
        }
    }
    let route = Route { address, port, is_https, require_client_cert: false, client_names: Vec::new() };
    Ok(Reached { route, notes })
}

/// The directive by which nginx sends another request than it received.
pub fn blocker<'d>(setup: &Setup<'d>, scope: &Scope<'_, 'd>) -> Option<&'d Directive> {
    let named = |name| effective(setup, &scope.levels, name);
    let off =
        |name| named(name).filter(|directive| directive.arguments.first().is_some_and(|word| word == "off"));
    named("proxy_ssl_certificate")
        .or_else(|| named("proxy_method"))
        .or_else(|| named("proxy_set_body"))
        .or_else(|| off("proxy_pass_request_body"))
        .or_else(|| off("proxy_pass_request_headers"))
}

/// What to tell of a condition by which nginx refuses requests.
pub fn open_guard(setup: &Setup<'_>, directive: &Directive) -> String {
    let text = directive.to_string();
    let is_by_address = setup.of_address.iter().any(|name| text.contains(name));
    let advice = match () {
        () if is_by_address => {
            "[guard] with mode = \"strict\" drops all but Meta's addresses and those of `allow`"
        }
        () if text.contains("$request_method") => "hookgate forwards every method but CONNECT and TRACE",
        () if ["$host", "$http_host"].iter().any(|name| text.contains(name)) => {
            "hookgate takes any Host field"
        }
        () => "hookgate has nothing in its place; the receiver has to check it",
    };
    format!("nginx refuses requests by this condition, hookgate forwards them: {advice}")
}
