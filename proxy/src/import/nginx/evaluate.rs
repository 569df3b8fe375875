//! What nginx does with one request: its rewrite phases, its choice of a location, and where it
//! forwards to.

use super::destination::Url;
use super::locate::Located;
use super::setup::{Flag, Level, Location, Replacement, Server, Setup, Step};
use super::variables::{Part, Template, Value};
use crate::import::directive::Directive;

/// A request to try, as it comes in at one of a server's listeners.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    pub target: &'r str,
    pub is_tls: bool,
    pub port: u16,
    pub certificate: ClientCertificate,
    /// The Host field, where the server is chosen by one name alone.
    pub host: Option<&'r str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    NotAsked,
    Missing,
    Verified,
}

/// What may become of a request.
#[derive(Debug)]
pub struct Outcome<'s, 'd> {
    pub end: End<'s, 'd>,
    /// What was assumed of conditions that an import cannot decide, in order.
    pub assumed: Vec<Assumption<'d>>,
}

#[derive(Clone, Debug)]
pub struct Assumption<'d> {
    pub directive: &'d Directive,
    pub holds: bool,
    /// The names that a client certificate must have for the condition to hold.
    pub certificate_names: Option<Vec<String>>,
}

#[derive(Debug)]
pub enum End<'s, 'd> {
    Refused(Refusal<'d>),
    /// With a redirect; whether to https.
    Redirected {
        directive: &'d Directive,
        to_https: bool,
    },
    /// By nginx itself, or by a server that is not spoken to in HTTP.
    Answered {
        directive: &'d Directive,
    },
    Forwarded(Box<Forward<'s, 'd>>),
    /// It depends on what an import does not understand.
    Undecided {
        directive: &'d Directive,
        why: &'static str,
    },
}

/// An error that nginx answers.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'d> {
    pub status: u16,
    /// `None`: nothing is there.
    pub directive: Option<&'d Directive>,
    /// The location in which it keeps a `proxy_pass` from being reached.
    pub before_pass_in: Option<&'d Directive>,
}

impl<'s, 'd> End<'s, 'd> {
    pub(super) fn refused(status: u16, directive: Option<&'d Directive>) -> Self {
        Self::Refused(Refusal { status, directive, before_pass_in: None })
    }

    /// The same, in a location that may have a `proxy_pass`.
    fn before_pass(self, location: &Location<'d>) -> Self {
        match self {
            Self::Refused(refusal) => {
                let before_pass_in = location.level.pass.as_ref().map(|_| location.directive);
                Self::Refused(Refusal { before_pass_in, ..refusal })
            }
            end => end,
        }
    }

    /// The same, because the condition of `directive` holds.
    fn because_of(self, directive: &'d Directive) -> Self {
        match self {
            Self::Refused(refusal) => Self::Refused(Refusal { directive: Some(directive), ..refusal }),
            Self::Redirected { to_https, .. } => Self::Redirected { directive, to_https },
            Self::Answered { .. } => Self::Answered { directive },
            end => end,
        }
    }
}

/// A request as nginx sends it on.
#[derive(Debug)]
pub struct Forward<'s, 'd> {
    pub pass: &'d Directive,
    /// The blocks around it, the innermost last.
    pub levels: Vec<&'s Level<'d>>,
    pub url: Url,
    /// The path and query that are sent.
    pub target: String,
    /// `None`: it cannot be known.
    pub host_field: Option<String>,
    /// The name in the handshake; `None` with TLS: it cannot be known; empty: none is sent.
    pub server_name: Option<String>,
}

/// The most ways that a request may take through conditions that cannot be decided.
const MAX_WAYS: usize = 64;
/// The most lookups in maps for one request.
const MAX_LOOKUPS: usize = 1000;
/// As often nginx itself looks for another location.
const MAX_RELOCATIONS: usize = 10;

/// All that may become of `request` at `server`.
pub fn outcomes<'s, 'd>(
    setup: &'s Setup<'d>,
    server: &'s Server<'d>,
    request: Request<'_>,
) -> Vec<Outcome<'s, 'd>> {
    let mut outcomes = Vec::new();
    let mut choices = Vec::new();
    loop {
        let mut run = Run::new(setup, server, request, choices);
        let end = run.end();
        let Run { assumed, choices: made, .. } = run;
        choices = made;
        outcomes.push(Outcome { end, assumed });
        // The last condition that was taken not to hold is next taken to hold.
        while choices.last() == Some(&true) {
            choices.pop();
        }
        let Some(last) = choices.last_mut() else { return outcomes };
        *last = true;
        if outcomes.len() >= MAX_WAYS {
            let why = "too many conditions depend on what only a running nginx knows";
            let end = End::Undecided { directive: server.directive, why };
            outcomes.push(Outcome { end, assumed: Vec::new() });
            return outcomes;
        }
    }
}

/// One way of a request through a server.
pub(super) struct Run<'s, 'd, 'r> {
    pub(super) setup: &'s Setup<'d>,
    pub(super) server: &'s Server<'d>,
    pub(super) request: Request<'r>,
    /// For each condition that cannot be decided, whether it is to hold; those beyond the end do
    /// not.
    pub(super) choices: Vec<bool>,
    pub(super) assumed: Vec<Assumption<'d>>,
    pub(super) values: Vec<Option<Value>>,
    /// The texts of the last match, the whole first.
    pub(super) groups: Vec<Value>,
    pub(super) uri: String,
    pub(super) args: String,
    /// The path is still the one that came in.
    pub(super) is_original: bool,
    /// The location's name is still the path's beginning.
    pub(super) is_in_location: bool,
    is_internal: bool,
    /// `error_page` is followed once.
    has_error_page: bool,
    /// Maps that are being looked up: one that leads to itself has no value.
    pub(super) maps_in_use: Vec<usize>,
    pub(super) lookups_left: usize,
}

/// How a list of steps ends.
enum Flow<'s, 'd> {
    Next,
    Relocate,
    Ended(End<'s, 'd>),
}

impl<'s, 'd, 'r> Run<'s, 'd, 'r> {
    fn new(setup: &'s Setup<'d>, server: &'s Server<'d>, request: Request<'r>, choices: Vec<bool>) -> Self {
        let (path, args) = request.target.split_once('?').unwrap_or((request.target, ""));
        Self {
            setup,
            server,
            request,
            choices,
            assumed: Vec::new(),
            values: vec![None; setup.variables.count()],
            groups: Vec::new(),
            uri: path.to_owned(),
            args: args.to_owned(),
            is_original: true,
            is_in_location: true,
            is_internal: false,
            has_error_page: false,
            maps_in_use: Vec::new(),
            lookups_left: MAX_LOOKUPS,
        }
    }

    fn end(&mut self) -> End<'s, 'd> {
        let mut inner = None;
        let server = self.server;
        if let Flow::Ended(end) = self.steps(&server.level.steps, &mut inner) {
            return self.after_error(end, &[&server.level]);
        }
        self.located(0)
    }

    /// Finds the location, and goes on there.
    fn located(&mut self, relocations: usize) -> End<'s, 'd> {
        if relocations > MAX_RELOCATIONS {
            return End::refused(404, None);
        }
        let mut way = Vec::new();
        let server = self.server;
        if let Located::Slash(location) = self.locate(&server.level, &mut way) {
            return End::Redirected { directive: location.directive, to_https: false };
        }
        self.within(way, relocations)
    }

    /// Goes on in the innermost of the locations.
    fn within(&mut self, way: Vec<&'s Location<'d>>, relocations: usize) -> End<'s, 'd> {
        let mut levels: Vec<&'s Level<'d>> = vec![&self.server.level];
        levels.extend(way.iter().map(|location| &location.level));
        let Some(location) = way.last() else { return self.after_error(End::refused(404, None), &levels) };
        let mut inner = None;
        match self.steps(&location.level.steps, &mut inner) {
            Flow::Next => {}
            Flow::Relocate => return self.located(relocations + 1),
            Flow::Ended(end) => return self.after_error(end.before_pass(location), &levels),
        }
        levels.extend(inner);
        let end = self.content(location, &levels, relocations);
        self.after_error(end, &levels)
    }

    /// Access, and then what answers.
    fn content(
        &mut self,
        location: &'s Location<'d>,
        levels: &[&'s Level<'d>],
        relocations: usize,
    ) -> End<'s, 'd> {
        let level = &location.level;
        if let Some(directive) = level.internal.filter(|_| !self.is_internal) {
            return End::refused(404, Some(directive)).before_pass(location);
        }
        if let Some(directive) = level.deny_all {
            return End::refused(403, Some(directive)).before_pass(location);
        }
        let inner = levels.last().copied().unwrap_or(level);
        // A condition that holds inherits the proxy of its location, and not its files.
        if let Some(try_files) = &inner.try_files {
            // Files named like a host's paths are not there.
            let Some(text) = self.value(&try_files.fallback).text().cloned() else {
                let why = "where requests go depends on what only a running nginx knows, or on an expression that is not understood";
                return End::Undecided { directive: try_files.directive, why };
            };
            return match text.strip_prefix('=') {
                Some(_) => End::refused(404, Some(try_files.directive)),
                None => self.internally(&text, try_files.directive, relocations),
            };
        }
        if let Some(pass) = inner.pass.as_ref().or(level.pass.as_ref()) {
            let holder = if inner.pass.is_some() { inner } else { level };
            return self.forward(pass, location, holder, levels);
        }
        match inner.handler.or(level.handler) {
            Some(directive) => End::Answered { directive },
            // A path that begins with a host is no file's.
            None => End::refused(404, None),
        }
    }

    /// Goes on at a named location, or at another path.
    fn internally(&mut self, to: &str, directive: &'d Directive, relocations: usize) -> End<'s, 'd> {
        self.is_internal = true;
        if to.starts_with('@') {
            let locations = &self.server.level.locations;
            let Some(position) = locations.named.get(to) else {
                return End::refused(404, Some(directive));
            };
            return self.within(vec![&locations.all[*position]], relocations + 1);
        }
        let (path, args) = to.split_once('?').unwrap_or((to, ""));
        (self.uri, self.args) = (path.to_owned(), args.to_owned());
        (self.is_original, self.is_in_location) = (false, true);
        // The server's own steps are taken again.
        let server = self.server;
        match self.steps(&server.level.steps, &mut None) {
            Flow::Ended(end) => end,
            Flow::Next | Flow::Relocate => self.located(relocations + 1),
        }
    }

    /// What `error_page` makes of a refusal.
    fn after_error(&mut self, end: End<'s, 'd>, levels: &[&'s Level<'d>]) -> End<'s, 'd> {
        let End::Refused(Refusal { status, .. }) = &end else { return end };
        if self.has_error_page {
            return end;
        }
        let pages = levels.last().map(|level| level.error_pages.clone());
        let page = pages.iter().flat_map(|pages| pages.iter()).find(|page| page.codes.contains(status));
        let Some((target, directive)) = page.map(|page| (page.target, page.directive)) else { return end };
        self.has_error_page = true;
        match self.internally(target, directive, 0) {
            // A page for people leaves the status as it is.
            End::Refused(_) | End::Answered { .. } => end,
            other => other,
        }
    }

    fn steps(&mut self, steps: &'s [Step<'d>], inner: &mut Option<&'s Level<'d>>) -> Flow<'s, 'd> {
        let (mut has_changed, mut is_over) = (false, false);
        match self.run_until(steps, inner, &mut has_changed, &mut is_over) {
            Some(end) => Flow::Ended(end),
            None if has_changed => Flow::Relocate,
            None => Flow::Next,
        }
    }

    /// Returns at the end, and where a step says so; `has_changed`: another location is looked for;
    /// `is_over`: no step follows, in the blocks around neither.
    fn run_until(
        &mut self,
        steps: &'s [Step<'d>],
        inner: &mut Option<&'s Level<'d>>,
        has_changed: &mut bool,
        is_over: &mut bool,
    ) -> Option<End<'s, 'd>> {
        for step in steps {
            match step {
                Step::Set { variable, value } => {
                    let value = self.value(value);
                    self.values[variable.0] = Some(value);
                }
                Step::If { directive, condition, level } => {
                    if !self.holds(condition, directive) {
                        continue;
                    }
                    *inner = Some(level);
                    let end = self.run_until(&level.steps, inner, has_changed, is_over);
                    if end.is_some() || *is_over {
                        return end.map(|end| end.because_of(directive));
                    }
                }
                Step::Rewrite { directive, expression, to, flag } => {
                    let uri = Value::Known(self.uri.as_str().into());
                    if !self.matches(&uri, expression, directive) {
                        continue;
                    }
                    if *flag == Flag::Redirect {
                        return Some(self.redirect(directive, &to.path));
                    }
                    if !self.rewrite(to) {
                        let why = "the path that it makes depends on what only a running nginx knows";
                        return Some(End::Undecided { directive, why });
                    }
                    *has_changed = *flag != Flag::Break;
                    self.is_in_location &= *flag != Flag::Break;
                    if *flag != Flag::None {
                        *is_over = true;
                        return None;
                    }
                }
                Step::Return { directive, status, to } => {
                    return Some(self.answer(directive, *status, to.as_ref()));
                }
                Step::Break => {
                    (*has_changed, *is_over) = (false, true);
                    return None;
                }
                Step::Opaque(directive) => {
                    return Some(End::Undecided { directive, why: "scripts are not understood" });
                }
            }
        }
        None
    }

    fn answer(&mut self, directive: &'d Directive, status: u16, to: Option<&Template>) -> End<'s, 'd> {
        match (status, to) {
            (301 | 302 | 303 | 307 | 308, Some(to)) => self.redirect(directive, to),
            (400.., _) => End::refused(status, Some(directive)),
            _ => End::Answered { directive },
        }
    }

    fn redirect(&mut self, directive: &'d Directive, to: &Template) -> End<'s, 'd> {
        let begins_with_https = match to.0.first() {
            Some(Part::Text(text)) => text.starts_with("https://"),
            Some(Part::Variable(variable)) => {
                self.variable(*variable).text().is_some_and(|text| text.starts_with("https"))
            }
            _ => false,
        };
        End::Redirected { directive, to_https: begins_with_https }
    }

    /// Takes a new path and query; false: they cannot be known.
    fn rewrite(&mut self, to: &Replacement) -> bool {
        let path = self.value(&to.path).text().cloned();
        let args = to.args.as_ref().map(|args| self.value(args).text().cloned());
        let (Some(path), true) = (path, args != Some(None)) else { return false };
        match args.flatten() {
            Some(args) if to.keeps_args && !self.args.is_empty() => {
                self.args = format!("{args}&{}", self.args)
            }
            Some(args) => self.args = args.to_string(),
            None if !to.keeps_args => self.args.clear(),
            None => {}
        }
        self.uri = path.to_string();
        (self.is_original, self.is_internal) = (false, true);
        true
    }
}
