//! A frontend, a backend, or both: its lines, with those of its `defaults`.

use super::bind::Bind;
use super::condition::{Acl, Acls};
use super::maps::Maps;
use super::rules::{Action, Rule, Rules};
use super::server::Server;
use crate::import::amount::{Amount, Key};
use crate::import::directive::Directive;
use crate::import::notes::Group;

/// What one section says.
#[derive(Debug)]
pub struct Section<'d> {
    pub directive: &'d Directive,
    pub is_http: bool,
    pub binds: Vec<Bind<'d>>,
    pub acls: Acls,
    pub connection: Rules<'d>,
    pub requests: Rules<'d>,
    pub redirects: Rules<'d>,
    pub switching: Rules<'d>,
    pub default_backend: Option<&'d Directive>,
    pub servers: Vec<Server<'d>>,
    pub settings: Vec<(Key, Amount, &'d Directive)>,
    pub notes: Vec<(Group, &'d Directive, String)>,
    /// A line that is not understood.
    pub unclear: Option<&'d Directive>,
}

/// Requests and responses are the same with them.
const NO_CONSEQUENCE: &[&str] = &[
    "backlog",
    "balance",
    "capture",
    "compression",
    "declare",
    "description",
    "email-alert",
    "enabled",
    "external-check",
    "fullconn",
    "guid",
    "hash-balance-factor",
    "hash-type",
    "http-check",
    "http-reuse",
    "id",
    "load-server-state-from-file",
    "log",
    "log-format",
    "log-format-sd",
    "log-tag",
    "max-keep-alive-queue",
    "max-session-srv-conns",
    "maxconn",
    "mysql-check",
    "option",
    "server-state-file-name",
    "stick-table",
    "tcp-check",
    "unique-id-format",
];

impl<'d> Section<'d> {
    /// `defaults`: the lines of the section's `defaults`.
    pub fn new(directive: &'d Directive, defaults: &'d [Directive], maps: &mut Maps) -> Self {
        let own = directive.block.as_deref().unwrap_or_default();
        let lines = || defaults.iter().chain(own);
        let named = |name: &'static str| lines().filter(move |line| line.name == name);
        let last = |name| named(name).next_back();
        let mut acls = Acls::new();
        for line in named("acl") {
            if let Some((name, words)) = line.arguments.split_first() {
                acls.entry(name.clone()).or_default().push(Acl::new(words, maps));
            }
        }
        let default_servers: Vec<&Directive> = named("default-server").collect();
        let mut section = Self {
            directive,
            is_http: last("mode").is_some_and(|mode| mode.arguments == ["http"]),
            binds: named("bind").map(Bind::new).collect(),
            connection: rules(lines(), &["tcp-request"], &acls, maps),
            requests: rules(lines(), &["http-request"], &acls, maps),
            redirects: rules(lines(), &["redirect"], &acls, maps),
            switching: rules(lines(), &["use_backend"], &acls, maps),
            default_backend: last("default_backend"),
            servers: named("server").map(|line| Server::new(line, &default_servers, maps)).collect(),
            settings: Vec::new(),
            notes: Vec::new(),
            unclear: None,
            acls,
        };
        if last("disabled").is_some() {
            section.binds.clear();
        }
        lines().for_each(|line| section.take(line));
        section
    }

    fn take(&mut self, line: &'d Directive) {
        let arguments: Vec<&str> = line.arguments.iter().map(String::as_str).collect();
        let mut note = |group, why: &str| self.notes.push((group, line, why.to_owned()));
        match (&*line.name, &*arguments) {
            ("timeout", [name, text]) => {
                let key = match *name {
                    "http-request" => ("timeouts", "request_head"),
                    "http-keep-alive" => ("timeouts", "keepalive"),
                    "client" => ("timeouts", "body_idle"),
                    "connect" => ("timeouts", "connect"),
                    "server" => ("timeouts", "response"),
                    _ => return note(Group::NoConsequence, ""),
                };
                match time(text) {
                    Some(milliseconds) => {
                        // The last one counts.
                        self.settings.retain(|(known, ..)| *known != key);
                        self.settings.push((key, Amount::Milliseconds(milliseconds), line));
                    }
                    None => note(Group::Different, "not a time that can be read"),
                }
            }
            (
                "acl" | "bind" | "default-server" | "default_backend" | "disabled" | "http-request" | "mode"
                | "redirect" | "server" | "tcp-request" | "use_backend",
                _,
            ) => {}
            ("option", ["transparent" | "http_proxy", ..]) => self.unclear = self.unclear.or(Some(line)),
            ("http-response" | "http-after-response" | "cookie" | "rspadd" | "http-send-name-header", _) => {
                note(Group::Different, "HAProxy changes the response, hookgate relays it as it is");
            }
            ("errorfile" | "errorfiles" | "errorloc" | "errorloc302" | "errorloc303" | "http-error", _) => {
                note(
                    Group::Different,
                    "HAProxy has answers of its own for errors; hookgate answers 502 or 504, so that Meta sends again",
                )
            }
            ("retries" | "retry-on", _) => note(Group::Different, "hookgate sends a request once"),
            ("rate-limit", _) => {
                note(
                    Group::Different,
                    "hookgate never limits Meta; it limits others by [limits] and [guard]",
                );
            }
            ("monitor-uri" | "stats", _) => {
                note(
                    Group::Elsewhere,
                    "HAProxy answers this by itself: `hookgate health` and `hookgate stats` are here",
                );
            }
            ("unique-id-header" | "source", _) => {
                note(Group::Elsewhere, "HAProxy shows the upstream something by it that hookgate does not");
            }
            ("filter", ["compression" | "trace", ..]) => note(Group::NoConsequence, ""),
            (name, _) if NO_CONSEQUENCE.contains(&name) => note(Group::NoConsequence, ""),
            _ => self.unclear = self.unclear.or(Some(line)),
        }
    }

    /// All paths that conditions and maps look for.
    pub fn paths(&self) -> Vec<String> {
        let acls = self.acls.values().flatten().flat_map(Acl::paths);
        let rules = [&self.connection, &self.requests, &self.redirects, &self.switching];
        acls.chain(rules.into_iter().flat_map(Rules::paths)).collect()
    }
}

fn rules<'d>(
    lines: impl Iterator<Item = &'d Directive>,
    names: &[&str],
    acls: &Acls,
    maps: &mut Maps,
) -> Rules<'d> {
    let lines = lines.filter(|line| names.contains(&&*line.name));
    let rule = |line: &'d Directive| {
        Rule::new(line, maps).unwrap_or(Rule { directive: line, condition: None, action: Action::Unclear })
    };
    Rules::new(lines.map(rule), acls)
}

/// A time (`5s`, `500`, `1m`), in milliseconds.
fn time(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text.get(..digits)?.parse().ok()?;
    let unit = match text.get(digits..)? {
        "us" => return Some(number / 1000),
        "" | "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, expected) in [
            ("5s", Some(5000)),
            ("500", Some(500)),
            ("1m", Some(60_000)),
            ("x", None),
            ("5 s", None),
            ("", None),
        ] {
            assert_eq!(time(text), expected, "{text}");
        }
    }
}
