//! Options that hold for all sites.

use super::level::is_ordered;
use crate::import::directive::Directive;
use crate::import::notes::{Group, Notes};

/// What the block without a name says.
#[derive(Debug)]
pub struct Options<'d> {
    pub http_port: u16,
    pub https_port: u16,
    pub email: Option<&'d str>,
    /// From http to https.
    pub redirects: bool,
    /// Whether certificates are got for the names of sites.
    pub gets_certificates: bool,
    /// Changes the order of directives.
    pub order: Option<&'d Directive>,
    /// Whether connections begin with a PROXY header.
    pub has_proxy_header: bool,
}

impl<'d> Options<'d> {
    pub fn new(block: &'d [Directive], notes: &mut Notes) -> Self {
        let mut options = Self {
            http_port: 80,
            https_port: 443,
            email: None,
            redirects: true,
            gets_certificates: true,
            order: None,
            has_proxy_header: false,
        };
        block.iter().for_each(|directive| options.take(directive, notes));
        options
    }

    fn take(&mut self, directive: &'d Directive, notes: &mut Notes) {
        let arguments: Vec<&'d str> = directive.arguments.iter().map(String::as_str).collect();
        match (&*directive.name, &*arguments) {
            ("http_port", [port]) => self.http_port = port.parse().unwrap_or(self.http_port),
            ("https_port", [port]) => self.https_port = port.parse().unwrap_or(self.https_port),
            ("email", [email]) => self.email = Some(email),
            ("auto_https", ["off"]) => (self.redirects, self.gets_certificates) = (false, false),
            ("auto_https", ["disable_redirects"]) => self.redirects = false,
            ("auto_https", ["disable_certs"]) => self.gets_certificates = false,
            ("order", [name, ..]) if is_ordered(name) => self.order = Some(directive),
            ("servers", _) => {
                directive.block.iter().flatten().for_each(|inside| self.take_server(inside, notes))
            }
            ("import", _) => {
                let why = "no such file or snippet can be read here: what it says is not carried over";
                notes.add(Group::Elsewhere, directive, why);
            }
            (
                "local_certs" | "acme_ca" | "acme_ca_root" | "acme_dns" | "acme_eab" | "cert_issuer"
                | "on_demand_tls",
                _,
            ) => {
                let why = "hookgate gets certificates from [acme] directory, by http-01 or tls-alpn-01";
                notes.add(Group::Different, directive, why);
            }
            ("default_bind", _) => {
                let why = "not carried over: write the addresses under [listen]";
                notes.add(Group::Elsewhere, directive, why);
            }
            _ => notes.add(Group::NoConsequence, directive, ""),
        }
    }

    fn take_server(&mut self, inside: &'d Directive, notes: &mut Notes) {
        let wraps = |wrapper: &Directive| wrapper.name == "proxy_protocol";
        match &*inside.name {
            "listener_wrappers" => self.has_proxy_header |= inside.block.iter().flatten().any(wraps),
            "timeouts" | "max_header_size" | "keepalive_interval" => {
                notes.add(Group::Different, inside, "hookgate's own [timeouts] and [limits] hold");
            }
            "trusted_proxies" | "client_ip_headers" => {
                let why = "hookgate takes clients' addresses from PROXY headers alone";
                notes.add(Group::Different, inside, why);
            }
            _ => notes.add(Group::NoConsequence, inside, ""),
        }
    }
}
