//! Servers and locations that forward nothing.

use std::collections::HashSet;

use super::challenges::is_challenge;
use super::evaluate::{ClientCertificate, End};
use super::listeners::Listener;
use super::relay::View;
use super::setup::{Level, Server, Setup, Step};
use crate::import::directive::Directive;
use crate::import::notes::{Group, Notes};

/// What a server does with requests for no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    Refuses,
    /// To https, as hookgate's `http` listeners do.
    Redirects,
    Serves,
}

pub fn kind(setup: &Setup<'_>, listener: &Listener<'_, '_>, server: &Server<'_>) -> Idle {
    let (is_tls, port) = (listener.is_tls, listener.port);
    let view = View { setup, server, is_tls, port, is_default: true };
    let outcomes = ["/", "/x/y"].iter().flat_map(|target| view.outcomes(target, ClientCertificate::NotAsked));
    let ends: Vec<End<'_, '_>> = outcomes.map(|outcome| outcome.end).collect();
    if ends.iter().any(|end| matches!(end, End::Redirected { to_https: true, .. })) {
        return Idle::Redirects;
    }
    let is_refusal = |end: &End<'_, '_>| matches!(end, End::Refused(_));
    if ends.iter().all(is_refusal) && !serves(&server.level) { Idle::Refuses } else { Idle::Serves }
}

/// Whether a block has an answer of its own for anything.
fn serves(level: &Level<'_>) -> bool {
    answer(level).is_some()
        || level.pass.is_some()
        || level.locations.all.iter().any(|location| serves(&location.level))
}

/// The directive by which a block answers requests itself.
fn answer<'d>(level: &Level<'d>) -> Option<&'d Directive> {
    let is_file = |directive: &&'d Directive| matches!(&*directive.name, "root" | "alias" | "autoindex");
    let in_steps = level.steps.iter().find_map(|step| match step {
        Step::Return { directive, status: 200..=299, .. } => Some(*directive),
        _ => None,
    });
    in_steps.or(level.handler).or_else(|| level.directives.iter().copied().find(is_file))
}

/// Paths that a server answers itself beside those that it forwards.
pub fn note_answers(server: &Server<'_>, notes: &mut Notes) {
    let locations = &server.level.locations.all;
    let levels = locations.iter().map(|location| &location.level).chain([&server.level]);
    let pages: HashSet<&str> =
        levels.flat_map(|level| level.error_pages.iter()).map(|page| page.target).collect();
    for location in locations {
        let is_reached = location.level.internal.is_none() && !location.name.starts_with('@');
        let is_host = location.level.pass.is_some();
        let is_page = pages.contains(location.name);
        if is_reached && !is_host && !is_page && !is_challenge(location) && answer(&location.level).is_some()
        {
            let why = "nginx answers this by itself, and hookgate with 404 or 403: it forwards what begins with a host";
            notes.add(Group::Elsewhere, location.directive, why);
        }
    }
}
