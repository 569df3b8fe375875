//! A request on its way through the directives of a site.

use super::level::{Level, Route, Step};
use super::matcher::Matcher;
use crate::import::amount::{Amount, Key};
use crate::import::directive::Directive;
use crate::import::follow::{Assumptions, End, Request};
use crate::import::forward::Forward;
use crate::import::notes::Group;

/// A request, and what was done with it so far.
pub struct Trace<'r, 'd> {
    request: &'r Request<'r>,
    assumptions: &'r mut Assumptions<'d>,
    path: String,
    settings: Vec<(Key, Amount, &'d Directive)>,
    notes: Vec<(Group, &'d Directive, String)>,
}

impl<'r, 'd> Trace<'r, 'd> {
    pub fn new(request: &'r Request<'r>, assumptions: &'r mut Assumptions<'d>) -> Self {
        Self { request, assumptions, path: request.path.to_owned(), settings: Vec::new(), notes: Vec::new() }
    }

    /// Runs the directives of a block; `None`: none of them ends the request.
    pub fn run(&mut self, level: &Level<'d>) -> Option<End<'d>> {
        let mut is_handled = false;
        let mut next = 0;
        let mut candidates = self.candidates(level, next);
        while let Some(position) = candidates.next() {
            next = position + 1;
            let route = &level.routes[position];
            if is_handled && matches!(route.step, Step::Handle { .. }) {
                continue;
            }
            let answer = match &route.matcher {
                None => Ok(true),
                Some(matcher) => matcher.matches(&self.path, self.request, self.assumptions),
            };
            match answer {
                Ok(true) => {}
                Ok(false) => continue,
                Err(directive) => {
                    let why = "what this matcher asks for is not understood".to_owned();
                    return Some(End::Undecided { directive, why });
                }
            }
            if self.is_order_unclear(level, position) {
                let why = "which of these directives Caddy runs first depends on its sorting".to_owned();
                return Some(End::Undecided { directive: route.directive, why });
            }
            is_handled |= matches!(route.step, Step::Handle { .. });
            let before = self.path.clone();
            if let Some(end) = self.step(route) {
                return Some(end);
            }
            if self.path != before {
                candidates = self.candidates(level, next);
            }
        }
        None
    }

    fn candidates(&self, level: &Level<'d>, from: usize) -> std::vec::IntoIter<usize> {
        let mut positions = level.index.candidates(self.path.to_ascii_lowercase().as_bytes());
        positions.retain(|position| *position >= from);
        positions.into_iter()
    }

    /// Caddy sorts directives with one path by its length, and others not at all.
    fn is_order_unclear(&self, level: &Level<'d>, position: usize) -> bool {
        let route = &level.routes[position];
        let ends = |route: &Route<'d>| {
            !matches!(route.step, Step::Note(..) | Step::Set(..) | Step::Guard(_) | Step::StripPrefix(_))
        };
        if !level.is_sorted || !ends(route) || route.matcher.is_none() {
            return false;
        }
        let is_tie = |other: &Route<'d>| match (route.only_path(), other.only_path()) {
            (Some(own), Some(other)) => own.len() == other.len() && own != other,
            (None, None) => false,
            _ => true,
        };
        let candidates = level.index.candidates(self.path.to_ascii_lowercase().as_bytes());
        candidates.into_iter().map(|other| &level.routes[other]).any(|other| {
            let is_same = matches!((&route.step, &other.step), (Step::Refuse, Step::Refuse));
            let may_match = |matcher: &Matcher<'d>| matcher.may_match(&self.path);
            !is_same
                && other.rank == route.rank
                && other.matcher.as_ref().is_some_and(may_match)
                && is_tie(other)
        })
    }

    fn step(&mut self, route: &Route<'d>) -> Option<End<'d>> {
        let directive = route.directive;
        match &route.step {
            Step::Handle { strip, level } => {
                if let Some(prefix) = strip {
                    self.strip(prefix);
                }
                return self.run(level);
            }
            Step::Route(level) => return self.run(level),
            Step::StripPrefix(prefix) => self.strip(prefix),
            Step::Refuse => return Some(End::Refused(directive)),
            Step::Answer => return Some(End::Answered(directive)),
            Step::Redirect { to_https } => {
                return Some(End::Redirected { directive, to_https: *to_https });
            }
            Step::Guard(advice) => {
                if !self.assumptions.holds(&directive.to_string(), directive, advice) {
                    return Some(End::Refused(directive));
                }
            }
            Step::Set(key, amount) => self.settings.push((*key, amount.clone(), directive)),
            Step::Note(group, why) => self.notes.push((*group, directive, (*why).to_owned())),
            Step::Unclear(why) => return Some(End::Undecided { directive, why: (*why).to_owned() }),
            Step::Proxy(proxy) => {
                if let Some((directive, why)) = &proxy.unclear {
                    return Some(End::Undecided { directive, why: why.clone() });
                }
                let query = self.request.query.map_or(String::new(), |query| format!("?{query}"));
                return Some(End::Forwarded(Box::new(Forward {
                    directive,
                    is_https: proxy.is_https,
                    host: proxy.host.clone(),
                    port: proxy.port,
                    target: format!("{}{query}", self.path),
                    host_field: proxy.host_field.clone(),
                    server_name: proxy.server_name.clone(),
                    ca: proxy.ca.clone(),
                    settings: [&*self.settings, &*proxy.settings].concat(),
                    notes: [&*self.notes, &*proxy.notes].concat(),
                })));
            }
        }
        None
    }

    fn strip(&mut self, prefix: &str) {
        let is_prefix = self.path.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        if is_prefix {
            let rest = self.path.get(prefix.len()..).unwrap_or_default();
            self.path = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
        }
    }
}
