//! `server` lines: where a backend leads.

use super::maps::Maps;
use super::sample::Sample;
use crate::import::directive::Directive;
use crate::import::notes::Group;

/// The server of a backend.
#[derive(Debug)]
pub struct Server<'d> {
    pub directive: &'d Directive,
    pub host: String,
    pub port: u16,
    pub is_https: bool,
    /// `None`: as the global section says.
    pub verifies: Option<bool>,
    pub server_name: Option<Sample>,
    pub ca: Option<String>,
    pub is_backup: bool,
    pub is_disabled: bool,
    /// Why it cannot be followed.
    pub unclear: Option<String>,
    pub notes: Vec<(Group, &'d Directive, String)>,
}

/// Parameters that stand alone, with which requests and responses are the same.
const FLAGS: &[&str] = &[
    "allow-0rtt",
    "check",
    "check-ssl",
    "enabled",
    "force-tlsv12",
    "force-tlsv13",
    "no-backup",
    "no-check",
    "no-check-ssl",
    "no-send-proxy",
    "no-ssl-reuse",
    "no-sslv3",
    "no-tls-tickets",
    "no-tlsv10",
    "no-tlsv11",
    "non-stick",
    "ssl-reuse",
    "stick",
    "tfo",
];
/// The same of parameters with a value.
const WITH_VALUE: &[&str] = &[
    "addr",
    "agent-check",
    "agent-port",
    "alpn",
    "check-alpn",
    "check-proto",
    "check-sni",
    "ciphers",
    "ciphersuites",
    "cookie",
    "downinter",
    "error-limit",
    "fall",
    "fastinter",
    "id",
    "init-addr",
    "inter",
    "log-bufsize",
    "log-proto",
    "max-reuse",
    "maxconn",
    "maxqueue",
    "minconn",
    "observe",
    "on-error",
    "on-marked-down",
    "on-marked-up",
    "pool-low-conn",
    "pool-max-conn",
    "pool-purge-delay",
    "port",
    "proto",
    "resolve-net",
    "resolve-opts",
    "resolve-prefer",
    "resolvers",
    "rise",
    "slowstart",
    "ssl-max-ver",
    "ssl-min-ver",
    "tcp-ut",
    "track",
    "weight",
    "ws",
];

impl<'d> Server<'d> {
    /// `defaults`: the parameters of `default-server` lines.
    pub fn new(directive: &'d Directive, defaults: &[&'d Directive], maps: &mut Maps) -> Self {
        let mut server = Self {
            directive,
            host: String::new(),
            port: 0,
            is_https: false,
            verifies: None,
            server_name: None,
            ca: None,
            is_backup: false,
            is_disabled: false,
            unclear: None,
            notes: Vec::new(),
        };
        for line in defaults {
            server.take(line, &line.arguments, maps);
        }
        match &*directive.arguments {
            [_, address, parameters @ ..] => {
                server.dial(address);
                server.take(directive, parameters, maps);
            }
            _ => server.leave("nothing says where it leads"),
        }
        server
    }

    fn leave(&mut self, why: impl Into<String>) {
        self.unclear.get_or_insert_with(|| why.into());
    }

    fn dial(&mut self, address: &str) {
        let text = ["ipv4@", "ipv6@"].iter().find_map(|kind| address.strip_prefix(kind)).unwrap_or(address);
        if text.contains(['@', '$', super::syntax::UNKNOWN]) || text.starts_with('/') {
            return self.leave("hookgate connects by TCP to a fixed address or to the host in the URL");
        }
        let Some((host, port)) = text.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) else {
            return self.leave("no port is written, so that it is the client's");
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        match port.parse() {
            Ok(port) if port > 0 && !matches!(host, "" | "*" | "0.0.0.0" | "::") => {
                self.port = port;
                host.clone_into(&mut self.host);
            }
            _ => self.leave("where it leads is found out for each request"),
        }
    }

    fn take(&mut self, line: &'d Directive, parameters: &[String], maps: &mut Maps) {
        let mut rest = parameters.iter().map(String::as_str);
        while let Some(word) = rest.next() {
            match word {
                "ssl" => self.is_https = true,
                "no-ssl" => self.is_https = false,
                "backup" => self.is_backup = true,
                "disabled" => self.is_disabled = true,
                "verify" => self.verifies = Some(rest.next() != Some("none")),
                "sni" => self.server_name = rest.next().map(|text| Sample::new(text, maps)),
                "ca-file" => self.ca = rest.next().filter(|file| !file.starts_with('@')).map(str::to_owned),
                "verifyhost" => {
                    let name = rest.next().unwrap_or_default();
                    if !name.eq_ignore_ascii_case(&self.host) {
                        self.leave(format!(
                            "the certificate is compared with {name}, and hookgate compares it with the host"
                        ));
                    }
                }
                "crt" => self.leave("HAProxy shows the upstream a client certificate, hookgate shows none"),
                "source" | "usesrc" | "interface" => {
                    rest.next();
                    let why =
                        "HAProxy connects from this address, hookgate from the system's choice".to_owned();
                    self.notes.push((Group::Elsewhere, line, why));
                }
                "crl-file" => {
                    rest.next();
                    let why = "hookgate asks for no revocation of upstreams' certificates".to_owned();
                    self.notes.push((Group::Different, line, why));
                }
                word if FLAGS.contains(&word) => {}
                word if WITH_VALUE.contains(&word) => drop(rest.next()),
                word => self.leave(format!("what `{word}` does is not understood")),
            }
        }
    }
}
