//! A request on its way through a frontend and its backend.

use std::collections::HashMap;

use super::rules::{Action, Rules};
use super::sample::{Context, Value, filled};
use super::section::Section;
use super::server::Server;
use crate::import::amount::{Amount, Key};
use crate::import::directive::Directive;
use crate::import::follow::{Assumptions, End, Request};
use crate::import::forward::{Forward, HostField};
use crate::import::notes::Group;

/// The sections that requests can be sent to, by name.
pub type Backends<'s, 'd> = HashMap<&'d str, &'s Section<'d>>;

/// A request, and what was done with it so far.
pub struct Trace<'r, 'd> {
    request: &'r Request<'r>,
    assumptions: &'r mut Assumptions<'d>,
    path: String,
    host: HostField,
    variables: Vec<(String, Value)>,
    settings: Vec<(Key, Amount, &'d Directive)>,
    notes: Vec<(Group, &'d Directive, String)>,
}

/// How a list of rules ends.
enum Passed<'d> {
    On,
    End(End<'d>),
}

fn undecided<'d>(directive: &'d Directive, why: &str) -> End<'d> {
    End::Undecided { directive, why: why.to_owned() }
}

impl<'r, 'd> Trace<'r, 'd> {
    pub fn new(request: &'r Request<'r>, assumptions: &'r mut Assumptions<'d>) -> Self {
        Self {
            request,
            assumptions,
            path: request.path.to_owned(),
            host: HostField::Client,
            variables: Vec::new(),
            settings: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub fn run(mut self, frontend: &Section<'d>, backends: &Backends<'_, 'd>) -> End<'d> {
        if let Passed::End(end) = self.pass(frontend) {
            return end;
        }
        let backend = match self.switch(frontend, backends) {
            Ok(Some(backend)) => backend,
            Ok(None) if !frontend.servers.is_empty() => frontend,
            Ok(None) => return End::Unhandled,
            Err(end) => return end,
        };
        if !std::ptr::eq(backend, frontend)
            && let Passed::End(end) = self.pass(backend)
        {
            return end;
        }
        self.send(backend)
    }

    /// Runs the rules of a section.
    fn pass(&mut self, section: &Section<'d>) -> Passed<'d> {
        if let Some(line) = section.unclear {
            return Passed::End(undecided(line, "what this line does to requests is not understood"));
        }
        self.settings.extend(section.settings.iter().cloned());
        self.notes.extend(section.notes.iter().cloned());
        for rules in [&section.connection, &section.requests, &section.redirects] {
            if let Passed::End(end) = self.rules(section, rules) {
                return Passed::End(end);
            }
        }
        Passed::On
    }

    fn rules(&mut self, section: &Section<'d>, rules: &Rules<'d>) -> Passed<'d> {
        let mut candidates = rules.candidates(&self.path, 0);
        while let Some(position) = candidates.next() {
            let rule = &rules.rules[position];
            match self.holds(section, rules, position) {
                Some(true) => {}
                Some(false) => continue,
                None => return Passed::End(undecided(rule.directive, "this condition is not understood")),
            }
            let before = self.path.clone();
            match self.act(rule.directive, &rule.action) {
                Ok(true) => return Passed::On,
                Ok(false) => {}
                Err(end) => return Passed::End(end),
            }
            if self.path != before {
                candidates = rules.candidates(&self.path, position + 1);
            }
        }
        Passed::On
    }

    fn holds(&mut self, section: &Section<'d>, rules: &Rules<'d>, position: usize) -> Option<bool> {
        let rule = &rules.rules[position];
        let Some(condition) = &rule.condition else { return Some(true) };
        let context = Context {
            path: &self.path,
            query: self.request.query,
            is_tls: self.request.is_tls,
            host: &self.host,
            variables: &self.variables,
        };
        condition.holds(&section.acls, &context, rule.directive, self.assumptions)
    }

    fn context(&self) -> Context<'_> {
        Context {
            path: &self.path,
            query: self.request.query,
            is_tls: self.request.is_tls,
            host: &self.host,
            variables: &self.variables,
        }
    }

    /// Whether the rest of the rules is left out.
    fn act(&mut self, directive: &'d Directive, action: &Action) -> Result<bool, End<'d>> {
        match action {
            Action::Refuse => return Err(End::Refused(directive)),
            Action::Answer => return Err(End::Answered(directive)),
            Action::Redirect { to_https } => {
                return Err(End::Redirected { directive, to_https: *to_https });
            }
            Action::Stop => return Ok(true),
            Action::SetPath(format) => match format.value(&self.context()) {
                Value::Text(path) => self.path = path,
                _ => return Err(undecided(directive, "the path that it makes is not understood")),
            },
            Action::ReplacePath { pattern, to } => {
                let why = "the path that it makes is not understood";
                let found = pattern.first(&self.path).ok_or_else(|| undecided(directive, why))?;
                if let Some((_, groups)) = found {
                    self.path = filled(to, &groups)
                        .filter(|path| !path.contains('%'))
                        .ok_or_else(|| undecided(directive, why))?;
                }
            }
            Action::SetHost(format) => match format.value(&self.context()) {
                Value::Text(host) => self.host = HostField::Fixed(host),
                _ => {
                    return Err(undecided(
                        directive,
                        "the Host field that it makes depends on the client's request",
                    ));
                }
            },
            Action::SetVariable { name, sample } => {
                let value = sample.value(&self.context());
                self.variables.push((name.clone(), value));
            }
            Action::Note(group, why) => self.notes.push((*group, directive, (*why).to_owned())),
            Action::UseBackend(_) | Action::Unclear => {
                return Err(undecided(directive, "what this rule does to requests is not understood"));
            }
        }
        Ok(false)
    }

    fn switch<'s>(
        &mut self,
        frontend: &Section<'d>,
        backends: &Backends<'s, 'd>,
    ) -> Result<Option<&'s Section<'d>>, End<'d>> {
        let rules = &frontend.switching;
        let mut candidates = rules.candidates(&self.path, 0);
        while let Some(position) = candidates.next() {
            let rule = &rules.rules[position];
            match self.holds(frontend, rules, position) {
                Some(true) => {}
                Some(false) => continue,
                None => return Err(undecided(rule.directive, "this condition is not understood")),
            }
            let Action::UseBackend(format) = &rule.action else { continue };
            let Value::Text(name) = format.value(&self.context()) else {
                return Err(undecided(rule.directive, "the backend that it chooses is not understood"));
            };
            match backends.get(&*name) {
                Some(backend) => return Ok(Some(backend)),
                None if candidates.next().is_none() => break,
                None => {
                    return Err(undecided(rule.directive, "there is no backend of the name that it makes"));
                }
            }
        }
        let Some(line) = frontend.default_backend else { return Ok(None) };
        let name = line.arguments.first().map_or("", String::as_str);
        backends
            .get(name)
            .copied()
            .map(Some)
            .ok_or_else(|| undecided(line, "there is no backend of this name"))
    }

    fn send(mut self, backend: &Section<'d>) -> End<'d> {
        let used = backend.servers.iter().filter(|server| !server.is_disabled);
        let (backups, active): (Vec<_>, Vec<&Server<'d>>) = used.partition(|server| server.is_backup);
        let server = match (&*active, &*backups) {
            ([server], backups) => {
                for backup in backups {
                    let why = "the backup server is not used: hookgate sends to one address".to_owned();
                    self.notes.push((Group::Different, backup.directive, why));
                }
                *server
            }
            ([], [server]) => *server,
            ([], []) => return End::Refused(backend.directive),
            ([_, second, ..], _) => {
                return undecided(second.directive, "it leads to several servers, and hookgate sends to one");
            }
            ([], [_, second, ..]) => {
                return undecided(second.directive, "it leads to several servers, and hookgate sends to one");
            }
        };
        let directive = server.directive;
        if let Some(why) = &server.unclear {
            return undecided(directive, why);
        }
        let server_name = match server.server_name.as_ref().map(|sample| sample.value(&self.context())) {
            None | Some(Value::Absent) => String::new(),
            Some(Value::Text(name)) => name,
            Some(_) => {
                return undecided(directive, "the name in the TLS handshake depends on the client's request");
            }
        };
        if server.is_https && server.verifies == Some(false) {
            let why = "hookgate verifies upstreams' certificates: `hookgate probe HOST` shows whether it can; verify = false \
                       takes any";
            self.notes.push((Group::Different, directive, why.to_owned()));
        }
        self.notes.extend(server.notes.iter().cloned());
        let query = self.request.query.map_or(String::new(), |query| format!("?{query}"));
        End::Forwarded(Box::new(Forward {
            directive,
            is_https: server.is_https,
            host: server.host.clone(),
            port: server.port,
            target: format!("{}{query}", self.path),
            host_field: self.host,
            server_name,
            ca: server.ca.clone(),
            settings: self.settings,
            notes: self.notes,
        }))
    }
}
