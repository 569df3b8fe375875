//! How nginx sends a request on: the URL, the path, the Host field, the name in the handshake.

use super::destination::Url;
use super::evaluate::{End, Forward, Run};
use super::setup::{Level, Location, Pass};
use super::values::bare_ip;
use super::variables::{Builtin, Part, Source, Template, Value};

impl<'s, 'd> Run<'s, 'd, '_> {
    /// What `pass` makes of the request; `holder`: the block that it stands in.
    pub fn forward(
        &mut self,
        pass: &'s Pass<'d>,
        location: &'s Location<'d>,
        holder: &'s Level<'d>,
        levels: &[&'s Level<'d>],
    ) -> End<'s, 'd> {
        let directive = pass.directive;
        let value = self.value(&pass.url);
        let Some(text) = value.text() else {
            let why = "where requests go depends on what only a running nginx knows, or on an expression that is not understood";
            return End::Undecided { directive, why };
        };
        let Some(url) = Url::parse(text) else {
            // nginx answers 500.
            return End::refused(500, Some(directive));
        };
        let target = self.sent_target(&pass.url, &url, location);
        let sent = &levels.last().copied().unwrap_or(holder).sent;
        let host_field = match &sent.host {
            None => Some(url.host_field()),
            Some(template) => self.with_proxy_host(template, &url.host_field()),
        };
        let server_name = match (&sent.server_name, sent.has_server_name && url.is_https) {
            (_, false) => Some(String::new()),
            (None, true) => Some(url.host.clone()),
            (Some(template), true) => self.with_proxy_host(template, &url.host),
        };
        // Addresses are no server names (RFC 6066, 3).
        let server_name = server_name.map(|name| {
            let name = name
                .rsplit_once(':')
                .filter(|(name, _)| !name.contains(':'))
                .map_or(&*name, |(name, _)| name);
            if bare_ip(name).is_some() { String::new() } else { name.to_owned() }
        });
        End::Forwarded(Box::new(Forward {
            pass: directive,
            levels: levels.to_vec(),
            url,
            target,
            host_field,
            server_name,
        }))
    }

    fn sent_target(&self, template: &Template, url: &Url, location: &Location<'_>) -> String {
        let has_variables = template.literal().is_none();
        match &url.uri {
            Some(uri) if has_variables => slashed(uri),
            None if self.is_original => self.request.target.to_owned(),
            uri => {
                let uri = uri.as_deref().filter(|_| self.is_in_location).map(slashed);
                let is_replaced = uri.is_some() && location.expression.is_none();
                let rest =
                    self.uri.get(if is_replaced { location.name.len() } else { 0 }..).unwrap_or_default();
                let args = if self.args.is_empty() { String::new() } else { format!("?{}", self.args) };
                [uri.unwrap_or_default(), escaped(rest), args].concat()
            }
        }
    }

    /// The value of a template in which `$proxy_host` may stand.
    fn with_proxy_host(&mut self, template: &Template, proxy_host: &str) -> Option<String> {
        let mut text = String::new();
        for part in &template.0 {
            match part {
                Part::Variable(variable)
                    if self.setup.variables.source(*variable) == Source::Request(Builtin::ProxyHost) =>
                {
                    text += proxy_host;
                }
                part => match self.value(&Template(vec![part.clone()])) {
                    Value::Known(part) => text += &part,
                    _ => return None,
                },
            }
        }
        Some(text)
    }
}

/// A URI that begins with its query gets a path.
fn slashed(uri: &str) -> String {
    if uri.starts_with('?') { format!("/{uri}") } else { uri.to_owned() }
}

/// As nginx escapes a path that it has decoded.
fn escaped(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            0x21..=0x7e if !b"%?#".contains(&byte) => text.push(char::from(byte)),
            _ => text += &format!("%{byte:02X}"),
        }
    }
    text
}
