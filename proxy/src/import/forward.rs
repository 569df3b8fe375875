//! A forwarded request, and whether hookgate forwards it in the same way.

use std::net::{IpAddr, SocketAddr};

use super::amount::{Amount, Key};
use super::directive::Directive;
use super::notes::Group;
use super::plan::{Origin, Route};
use crate::config::HostName;

/// The Host field that an upstream gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostField {
    /// The client's own.
    Client,
    Fixed(String),
}

/// What arrives where.
#[derive(Clone, Debug)]
pub struct Forward<'d> {
    /// The directive that forwards.
    pub directive: &'d Directive,
    pub is_https: bool,
    /// A name, or an address without brackets.
    pub host: String,
    pub port: u16,
    /// Path and query.
    pub target: String,
    pub host_field: HostField,
    /// Empty: none is sent.
    pub server_name: String,
    /// Further authorities for the upstream's certificate.
    pub ca: Option<String>,
    pub settings: Vec<(Key, Amount, &'d Directive)>,
    pub notes: Vec<(Group, &'d Directive, String)>,
}

/// A group, and what to write.
type Remark = (Group, String);

/// The entry for `host` with which hookgate sends requests to the same place.
///
/// Errors: why there is none, and what to write instead.
pub fn reach(origin: Origin, host: &str, forward: &Forward<'_>) -> Result<(Route, Vec<Remark>), String> {
    host.parse::<HostName>().map_err(|wrong| format!("it cannot stand under [upstreams]: {wrong}"))?;
    let (name, mut notes) = (origin.name, Vec::new());
    let Forward { is_https, port, .. } = *forward;
    let address = forward.host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port));
    if address.is_none() && !forward.host.eq_ignore_ascii_case(host) {
        let (to, tls) = (&forward.host, if is_https { "" } else { ", tls = false" });
        return Err(format!(
            "{name} sends these requests to {to}:{port}, and hookgate asks the DNS for the host in the URL: write \
             \"{host}\" = {{ address = \"IP:{port}\"{tls} }} with that server's address, or put {to} into the URL at Meta"
        ));
    }
    match &forward.host_field {
        HostField::Fixed(field) if field.eq_ignore_ascii_case(host) => {}
        HostField::Fixed(field) if without_port(field).eq_ignore_ascii_case(host) => {
            let why = format!("{name} sends the port in the Host field, hookgate never");
            notes.push((Group::Different, why));
        }
        HostField::Fixed(field) => {
            return Err(format!(
                "{name} sends \"Host: {field}\" upstream, and hookgate the host of the URL: write it under [upstreams] by \
                 hand if the receiver answers to it"
            ));
        }
        HostField::Client => {
            return Err(format!(
                "{name} sends the client's Host field upstream, and hookgate the host of the URL: write it under \
                 [upstreams] by hand if the receiver answers to it"
            ));
        }
    }
    if is_https && forward.server_name.is_empty() {
        let why =
            format!("{name} sends no server name in the TLS handshake, hookgate sends the host of the URL");
        notes.push((Group::Different, why));
    } else if is_https && !forward.server_name.eq_ignore_ascii_case(host) {
        return Err(format!(
            "{name} asks for {} in the TLS handshake, and hookgate for the host of the URL",
            forward.server_name
        ));
    }
    Ok((Route { address, port, is_https, require_client_cert: false, client_names: Vec::new() }, notes))
}

fn without_port(field: &str) -> &str {
    field.rsplit_once(':').map_or(field, |(name, _)| name)
}

/// Compares what is sent for `target` with what hookgate sends, which is all behind the host.
///
/// Errors: why the host cannot be carried over.
pub fn compare_target(
    origin: Origin,
    host: &str,
    target: &str,
    sent: &str,
) -> Result<Option<Remark>, String> {
    let name = origin.name;
    let expected = target.get(1 + host.len()..).unwrap_or_default();
    if !expected.starts_with('/') {
        let why = format!(
            "{name} forwards /HOST without a slash behind it too, and hookgate answers 404: write the whole path at Meta"
        );
        return Ok(Some((Group::Elsewhere, why)));
    }
    if sent == expected {
        return Ok(None);
    }
    if expected.split_once('?').is_some_and(|(path, _)| path == sent) {
        return Ok(Some((Group::Different, format!("{name} leaves the query out, hookgate sends it"))));
    }
    let [target, sent] = [target, sent].map(|text| shown(text, host));
    Err(format!(
        "{name} sends {sent} for {target}, and hookgate would send {expected}: change the URL at Meta so that it has the \
         path that the receiver expects, and write the host under [upstreams] by hand"
    ))
}

/// The same text for each host.
pub fn shown(target: &str, host: &str) -> String {
    target.replace(host, "HOST")
}
