//! nginx's variables, and texts that hold them.

use std::collections::HashMap;
use std::rc::Rc;

use crate::import::directive::Directive;

/// A variable's position in [`Variables`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable(pub usize);

/// What a variable's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Request(Builtin),
    /// A `map`, by its position.
    Map(usize),
    /// `set`, or a named group of an expression.
    Assigned,
    /// Something of nginx's own that only a running one knows: an address, a header field.
    Outside,
    /// Another server's answer, a script, a table of addresses.
    External,
    /// Nothing that was read.
    Undefined,
}

/// Variables of the request that an import can work out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builtin {
    Args,
    ClientCertificateName,
    ClientVerify,
    Host,
    Https,
    IsArgs,
    ProxyHost,
    RequestUri,
    Scheme,
    ServerName,
    ServerPort,
    Uri,
}

/// All variables that are named anywhere.
#[derive(Debug, Default)]
pub struct Variables<'d> {
    positions: HashMap<String, usize>,
    sources: Vec<Source>,
    first_uses: Vec<&'d Directive>,
}

impl<'d> Variables<'d> {
    /// The variable of that name, which `directive` uses.
    pub fn named(&mut self, name: &str, directive: &'d Directive) -> Variable {
        if let Some(position) = self.positions.get(name) {
            return Variable(*position);
        }
        let position = self.sources.len();
        self.positions.insert(name.to_owned(), position);
        self.sources.push(builtin(name));
        self.first_uses.push(directive);
        Variable(position)
    }

    /// Says what sets a variable. What sets it from outside may come after all others.
    pub fn define(&mut self, variable: Variable, source: Source) {
        let known = &mut self.sources[variable.0];
        if source == Source::External || matches!(known, Source::Undefined | Source::Outside) {
            *known = source;
        }
    }

    pub fn source(&self, variable: Variable) -> Source {
        self.sources[variable.0]
    }

    pub fn count(&self) -> usize {
        self.sources.len()
    }

    /// Whether anything asks for the client's certificate.
    pub fn has_client_certificate(&self) -> bool {
        let of_certificate = [Builtin::ClientVerify, Builtin::ClientCertificateName].map(Source::Request);
        self.sources.iter().any(|source| of_certificate.contains(source))
    }

    /// Those that nothing sets, and what uses them first.
    pub fn undefined(&self) -> Vec<(&str, &'d Directive)> {
        let mut undefined: Vec<(&str, &'d Directive)> = self
            .positions
            .iter()
            .filter(|(_, position)| self.sources[**position] == Source::Undefined)
            .map(|(name, position)| (&**name, self.first_uses[*position]))
            .collect();
        undefined.sort_by_key(|(name, _)| *name);
        undefined
    }
}

/// Names of nginx's own, or the beginnings of such names, whose values only a running nginx knows.
const OUTSIDE: &[&str] = &[
    "ancient_browser",
    "arg_",
    "binary_remote_addr",
    "body_bytes_sent",
    "bytes_sent",
    "connection",
    "content_length",
    "content_type",
    "cookie_",
    "date_",
    "document_root",
    "fastcgi_",
    "geoip",
    "gzip_ratio",
    "hostname",
    "http2",
    "http3",
    "http_",
    "invalid_referer",
    "jwt_",
    "limit_",
    "memcached_key",
    "modern_browser",
    "msec",
    "msie",
    "nginx_version",
    "pid",
    "pipe",
    "proxy_",
    "quic",
    "realip_",
    "realpath_root",
    "remote_",
    "request",
    "secure_link",
    "sent_",
    "server_addr",
    "server_protocol",
    "session_",
    "slice_range",
    "spdy",
    "ssl_",
    "status",
    "tcpinfo_",
    "time_",
    "uid_",
    "upstream_",
];

fn builtin(name: &str) -> Source {
    let builtin = match name {
        "args" | "query_string" => Builtin::Args,
        "ssl_client_s_dn" => Builtin::ClientCertificateName,
        "ssl_client_verify" => Builtin::ClientVerify,
        "host" => Builtin::Host,
        "https" => Builtin::Https,
        "is_args" => Builtin::IsArgs,
        "proxy_host" => Builtin::ProxyHost,
        "request_uri" => Builtin::RequestUri,
        "scheme" => Builtin::Scheme,
        "server_name" => Builtin::ServerName,
        "server_port" => Builtin::ServerPort,
        "uri" | "document_uri" => Builtin::Uri,
        name if OUTSIDE.iter().any(|outside| name.starts_with(outside)) => return Source::Outside,
        _ => return Source::Undefined,
    };
    Source::Request(builtin)
}

/// What an import knows of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Known(Rc<str>),
    /// The value for the query that is tried; another query has another one.
    OfQuery(Rc<str>),
    /// The subject of the client's certificate.
    ClientCertificateName,
    Unknown,
}

impl Value {
    pub fn known(text: &str) -> Self {
        Self::Known(text.into())
    }

    /// The text for the request that is tried.
    pub fn text(&self) -> Option<&Rc<str>> {
        match self {
            Self::Known(text) | Self::OfQuery(text) => Some(text),
            Self::ClientCertificateName | Self::Unknown => None,
        }
    }
}

/// A text with variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(pub Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Text(String),
    Variable(Variable),
    /// `$1` to `$9`.
    Group(usize),
}

impl Template {
    pub fn new<'d>(text: &str, variables: &mut Variables<'d>, directive: &'d Directive) -> Self {
        let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find('$') {
            literal += &rest[..at];
            rest = &rest[at + 1..];
            let Some((name, after)) = variable_name(rest) else {
                literal.push('$');
                continue;
            };
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(match name.parse() {
                Ok(number) => Part::Group(number),
                Err(_) => Part::Variable(variables.named(name, directive)),
            });
            rest = after;
        }
        literal += rest;
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Self(parts)
    }

    /// The text, where no variable is in it.
    pub fn literal(&self) -> Option<&str> {
        match &*self.0 {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }
}

/// The name after a `$`, and what follows it; `$1x` is group 1 and `x`.
fn variable_name(rest: &str) -> Option<(&str, &str)> {
    if let Some(inside) = rest.strip_prefix('{') {
        return inside.split_once('}').filter(|(name, _)| is_name(name));
    }
    let end = match rest.as_bytes().first()? {
        b'1'..=b'9' => 1,
        _ => rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len()),
    };
    (end > 0).then(|| rest.split_at(end))
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
