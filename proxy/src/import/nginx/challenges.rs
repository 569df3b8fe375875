//! The folder in which certbot leaves its answers to challenges.

use super::setup::{Location, Server};
use crate::import::directive::Directive;
use crate::import::notes::{Group, Notes};

pub const PATH: &str = "/.well-known/acme-challenge";

/// The folder that a server serves them from, and the location that does.
pub fn webroot<'d>(
    server: &Server<'d>,
    base: &dyn Fn(&str) -> String,
    notes: &mut Notes,
) -> Option<(String, &'d Directive)> {
    let location = server.level.locations.all.iter().find(|location| is_challenge(location))?;
    let folder = |directive: &Directive| {
        let folder = directive.arguments.first()?;
        let folder = match &*directive.name {
            "root" => folder,
            "alias" => folder.trim_end_matches('/').strip_suffix(PATH)?,
            _ => return None,
        };
        (!folder.contains('$')).then(|| base(folder))
    };
    let found = location.level.directives.iter().chain(&server.level.directives).copied().find_map(folder);
    if found.is_none() {
        let why = "left out: hookgate gets certificates by itself with [acme] domains = [\"your.name\"], or serves certbot's \
                   answers from a folder with webroot = \"/the/folder\"";
        notes.add(Group::Elsewhere, location.directive, why);
    }
    found.map(|folder| (folder, location.directive))
}

/// Where authorities ask for the answers to http-01 (RFC 8555, 8.3).
pub fn is_challenge(location: &Location<'_>) -> bool {
    let name = location.name.trim_start_matches('^').replace("\\.", ".");
    name.starts_with(PATH)
}
