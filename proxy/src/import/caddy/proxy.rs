//! `reverse_proxy`: where it leads, and what it sends there.

use super::values::time;
use crate::import::amount::{Amount, Key};
use crate::import::directive::Directive;
use crate::import::forward::HostField;
use crate::import::notes::Group;

/// What one `reverse_proxy` says.
#[derive(Debug)]
pub struct Proxy<'d> {
    /// Why it cannot be followed.
    pub unclear: Option<(&'d Directive, String)>,
    pub is_https: bool,
    pub host: String,
    pub port: u16,
    pub host_field: HostField,
    pub server_name: String,
    pub ca: Option<String>,
    pub settings: Vec<(Key, Amount, &'d Directive)>,
    pub notes: Vec<(Group, &'d Directive, String)>,
}

/// Requests and responses are the same with them.
const NO_CONSEQUENCE: &[&str] = &[
    "buffer_requests",
    "buffer_responses",
    "compression",
    "flush_interval",
    "keepalive",
    "keepalive_idle_conns",
    "keepalive_idle_conns_per_host",
    "keepalive_interval",
    "lb_policy",
    "max_buffer_size",
    "max_conns_per_host",
    "max_idle_conns_per_host",
    "read_buffer",
    "request_buffers",
    "response_buffers",
    "stream_close_delay",
    "stream_timeout",
    "tls",
    "tls_curves",
    "tls_renegotiation",
    "tls_timeout",
    "to",
    "trusted_proxies",
    "versions",
    "write_buffer",
];

impl<'d> Proxy<'d> {
    pub fn new(directive: &'d Directive, upstreams: &'d [String]) -> Self {
        let mut proxy = Self {
            unclear: None,
            is_https: false,
            host: String::new(),
            port: 80,
            host_field: HostField::Client,
            server_name: String::new(),
            ca: None,
            settings: Vec::new(),
            notes: Vec::new(),
        };
        let block = directive.block.as_deref().unwrap_or_default();
        let transport = block.iter().filter(|inside| inside.name == "transport");
        let transport: Vec<&Directive> = transport.flat_map(|inside| inside.block.iter().flatten()).collect();
        let to = block.iter().filter(|inside| inside.name == "to").flat_map(|inside| &inside.arguments);
        let upstreams: Vec<&String> = upstreams.iter().chain(to).collect();
        match *upstreams {
            [one] => {
                proxy.dial(directive, one, transport.iter().any(|inside| inside.name.starts_with("tls")))
            }
            [] => proxy.leave(directive, "nothing says where it leads"),
            _ => proxy.leave(directive, "it leads to several servers, and hookgate sends to one"),
        }
        proxy.server_name = if proxy.is_https { proxy.host.clone() } else { String::new() };
        let outer = block.iter().filter(|inside| inside.name != "transport");
        outer.chain(transport).for_each(|inside| proxy.take(inside));
        if let Some(other) = block.iter().find(|inside| {
            inside.name == "transport" && inside.arguments.first().is_none_or(|kind| kind != "http")
        }) {
            proxy.leave(other, "hookgate speaks HTTP alone");
        }
        proxy
    }

    fn leave(&mut self, directive: &'d Directive, why: &str) {
        self.unclear.get_or_insert_with(|| (directive, why.to_owned()));
    }

    fn dial(&mut self, directive: &'d Directive, text: &str, has_tls: bool) {
        let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (scheme, rest));
        if rest.contains('{') {
            return self.leave(directive, "the destination depends on the request, or on the environment");
        }
        if rest.contains('/') || !matches!(scheme, "" | "http" | "https") {
            return self.leave(directive, "hookgate connects by TCP and speaks HTTP/1.1 alone");
        }
        self.is_https = scheme == "https" || has_tls;
        let default_port = if scheme == "https" { 443 } else { 80 };
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
            _ => (rest, Some(default_port)),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        match port.filter(|port| *port > 0) {
            Some(port) => self.port = port,
            None => return self.leave(directive, "it leads to no single port"),
        }
        host.clone_into(&mut self.host);
        if host.is_empty() {
            self.leave(directive, "it leads to this machine: write the address under [upstreams] by hand");
        }
    }

    fn take(&mut self, inside: &'d Directive) {
        let arguments: Vec<&str> = inside.arguments.iter().map(String::as_str).collect();
        let mut note = |group, why: &str| self.notes.push((group, inside, why.to_owned()));
        match (&*inside.name, &*arguments) {
            ("header_up", [field, value]) if field.eq_ignore_ascii_case("host") => {
                self.take_host(inside, value)
            }
            ("header_up", [field, ..])
                if field.trim_start_matches(['+', '-', '?']).eq_ignore_ascii_case("host") =>
            {
                self.leave(inside, "the Host field that the upstream gets is not understood");
            }
            ("header_up", [field, value]) if is_own_field(field, value) => {}
            ("header_up", _) => note(
                Group::Elsewhere,
                "Caddy changes this field for the upstream; hookgate adds no fields but X-Forwarded-For, X-Forwarded-Proto, \
                 X-Real-IP, X-Request-Id and Via",
            ),
            ("header_down" | "replace_status", _) => {
                note(Group::Different, "Caddy changes the response, hookgate relays it as it is");
            }
            ("handle_response", _) => note(
                Group::Elsewhere,
                "Caddy makes answers of its own of the upstream's; hookgate relays the upstream's",
            ),
            ("tls_server_name", [name]) if !name.contains('{') => {
                self.is_https = true;
                (*name).clone_into(&mut self.server_name);
            }
            ("tls_insecure_skip_verify", _) => note(
                Group::Different,
                "hookgate verifies upstreams' certificates: `hookgate probe HOST` shows whether it can; verify = false takes \
                 any",
            ),
            ("tls_trusted_ca_certs", [file]) if !file.contains('{') => self.ca = Some((*file).to_owned()),
            ("dial_timeout", [text]) => self.set(("timeouts", "connect"), text, inside),
            ("response_header_timeout", [text]) => self.set(("timeouts", "response"), text, inside),
            (
                "keepalive_idle_timeout"
                | "read_timeout"
                | "write_timeout"
                | "dial_fallback_delay"
                | "expect_continue_timeout",
                _,
            ) => {
                note(Group::Different, "hookgate's own [timeouts] hold");
            }
            ("resolvers", _) => note(Group::Different, "write these DNS servers into [dns] servers"),
            ("max_response_header", _) => note(Group::Different, "hookgate's own limit holds"),
            ("lb_retries" | "lb_try_duration" | "lb_try_interval" | "lb_retry_match", _) => {
                note(Group::Different, "hookgate sends a request once");
            }
            (name, _)
                if name.starts_with("health_")
                    || matches!(
                        name,
                        "fail_duration"
                            | "max_fails"
                            | "unhealthy_status"
                            | "unhealthy_latency"
                            | "unhealthy_request_count"
                    ) =>
            {
                note(Group::Different, "hookgate does not check upstreams by itself");
            }
            (name, _) if NO_CONSEQUENCE.contains(&name) => note(Group::NoConsequence, ""),
            _ => self.leave(inside, "what it does to requests is not understood"),
        }
    }

    fn take_host(&mut self, inside: &'d Directive, value: &str) {
        let hostport = || format!("{}:{}", self.host, self.port);
        self.host_field = match value {
            "{upstream_hostport}" | "{http.reverse_proxy.upstream.hostport}" => HostField::Fixed(hostport()),
            "{http.reverse_proxy.upstream.host}" => HostField::Fixed(self.host.clone()),
            "{host}" | "{hostport}" | "{http.request.host}" | "{http.request.hostport}" => HostField::Client,
            plain if !plain.contains('{') => HostField::Fixed(plain.to_owned()),
            _ => return self.leave(inside, "the Host field that the upstream gets is not understood"),
        };
    }

    fn set(&mut self, key: Key, text: &str, inside: &'d Directive) {
        match time(text) {
            Some(milliseconds) => self.settings.push((key, Amount::Milliseconds(milliseconds), inside)),
            None => self.notes.push((Group::Different, inside, "not a time that can be read".to_owned())),
        }
    }
}

/// A field that hookgate sends just so.
fn is_own_field(field: &str, value: &str) -> bool {
    match &*field.to_ascii_lowercase() {
        "x-forwarded-for" | "x-real-ip" => matches!(value, "{remote_host}" | "{http.request.remote.host}"),
        "x-forwarded-proto" => matches!(value, "{scheme}" | "{http.request.scheme}" | "https"),
        _ => false,
    }
}
