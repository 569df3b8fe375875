//! Which location handles a path (`ngx_http_core_find_location`).

use super::evaluate::Run;
use super::setup::{Level, Location, Locations};
use crate::import::pattern::Match;

/// How the search at one level ends.
pub enum Located<'s, 'd> {
    /// Expressions around it are not tried.
    Exact,
    /// Expressions around it are tried too.
    Prefix,
    Nothing,
    /// nginx redirects to the location's own name, which has one slash more.
    Slash(&'s Location<'d>),
}

impl<'s, 'd> Run<'s, 'd, '_> {
    /// Puts the location for the path, and those around it, behind what `way` holds.
    pub fn locate(&mut self, level: &'s Level<'d>, way: &mut Vec<&'s Location<'d>>) -> Located<'s, 'd> {
        let (locations, depth) = (&level.locations, way.len());
        let mut is_final = false;
        let mut located = locations.fixed(&self.uri, way);
        if matches!(located, Located::Prefix) {
            let prefix = *way.last().expect("a prefix was found");
            is_final = prefix.is_final;
            located = match self.locate(&prefix.level, way) {
                // The prefix itself.
                Located::Nothing => Located::Prefix,
                inner => inner,
            };
        }
        if is_final || !matches!(located, Located::Prefix | Located::Nothing) {
            return located;
        }
        for position in locations.expressions.candidates(self.uri.as_bytes()) {
            let location = &locations.all[position];
            let Some(expression) = &location.expression else { continue };
            let is_match = match expression.pattern.find(&self.uri) {
                Match::No => false,
                Match::Yes(groups) => {
                    self.take_groups(expression, groups);
                    true
                }
                Match::Unknown => {
                    let is_match = self.assume(location.directive, None);
                    if is_match {
                        self.forget_groups(expression);
                    }
                    is_match
                }
            };
            if is_match {
                way.truncate(depth);
                way.push(location);
                self.locate(&location.level, way);
                return Located::Exact;
            }
        }
        located
    }
}

impl<'d> Locations<'d> {
    /// The location of that name, else the one with the longest prefix.
    fn fixed<'s>(&'s self, uri: &str, way: &mut Vec<&'s Location<'d>>) -> Located<'s, 'd> {
        if let Some(position) = self.exact.get(uri) {
            way.push(&self.all[*position]);
            return Located::Exact;
        }
        if self.prefixes.is_empty() {
            return Located::Nothing;
        }
        let is_there = self.prefixes.contains_key(uri);
        if let Some(position) = self.prefixes.get(&*format!("{uri}/")).filter(|_| !is_there) {
            let location = &self.all[*position];
            if location.level.pass.is_some() {
                return Located::Slash(location);
            }
        }
        let ends = (0..=uri.len()).rev().filter(|end| uri.is_char_boundary(*end));
        match ends.filter_map(|end| self.prefixes.get(&uri[..end])).next() {
            Some(position) => {
                way.push(&self.all[*position]);
                Located::Prefix
            }
            None => Located::Nothing,
        }
    }
}
