//! What to try: the hosts that a configuration can name, and the paths that it tells apart.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::maps::Expression;
use super::origins::PathPart;
use super::setup::{Condition, Level, Location, Setup, Step};
use super::words::{HOST, KnownWords, Word};
use crate::import::directive::Directive;

/// Hosts and paths that patterns and names spell out.
#[derive(Debug, Default)]
pub struct Probes<'d> {
    /// Each could be the first segment of a path.
    pub hosts: BTreeSet<String>,
    /// Paths for every host, which [`HOST`] stands for.
    common: Vec<String>,
    /// Paths that begin with one host.
    own: BTreeMap<String, Vec<String>>,
    /// Paths that hold a host behind their first segment, and the directives that name them.
    pub misplaced: Vec<(String, &'d Directive)>,
    /// Names made up for patterns that spell out no name, and the directives that have the
    /// patterns.
    pub invented: Vec<(String, &'d Directive)>,
    /// Names with other characters than ASCII's, or none that can be read.
    pub not_ascii: Vec<&'d Directive>,
    /// Patterns that spell out more than can be tried.
    pub too_many: Vec<&'d Directive>,
    seen: HashSet<String>,
}

/// What a pattern or a text is compared with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    /// The whole path.
    Path,
    /// A variable that may hold a part of the path.
    Part,
    /// The same in a map, where names are many.
    MapKey,
}

/// How many other hosts are tried behind a host that a path names.
const MAX_HOSTS_BEHIND: usize = 4;
/// The most paths that are tried for every host.
const MAX_COMMON_PATHS: usize = 100;

impl<'d> Probes<'d> {
    pub fn new(setup: &Setup<'d>) -> Self {
        let mut probes = Self::default();
        for server in setup.servers.iter().filter(|server| server.level.has_pass()) {
            probes.add_level(setup, &server.level);
        }
        for map in &setup.maps {
            let subject = match setup.path_part(&map.source) {
                PathPart::None => continue,
                PathPart::Some => Subject::MapKey,
                PathPart::Whole => Subject::Path,
            };
            for (directive, pattern) in map.keys() {
                match pattern {
                    Some(pattern) => {
                        let words = pattern.hir.as_ref().map(KnownWords::new);
                        probes.add_words(words, subject, directive);
                    }
                    None => probes.add_key(directive, subject),
                }
            }
        }
        probes
    }

    /// The paths to try for `host`.
    pub fn paths<'p>(&'p self, host: &'p str) -> impl Iterator<Item = String> + 'p {
        let fixed = ["/x/y?z=1", "/", "/x", ""].into_iter().map(move |rest| format!("/{host}{rest}"));
        let common = self.common.iter().map(move |path| Word::with_host(path, host));
        // Another host behind this one may be the one that counts.
        let others = self.hosts.iter().filter(move |other| *other != host && other.contains('.'));
        let behind = others.take(MAX_HOSTS_BEHIND).map(String::as_str);
        let own = self.own.get(host).into_iter().flatten().flat_map(move |path| {
            let behind = behind.clone().filter(|_| path.contains(HOST));
            std::iter::once("x").chain(behind).map(|inner| Word::with_host(path, inner))
        });
        fixed.chain(common).chain(own)
    }

    fn add_level(&mut self, setup: &Setup<'d>, level: &Level<'d>) {
        for step in &level.steps {
            match step {
                Step::If { directive, condition, level } => {
                    self.add_condition(setup, condition, directive);
                    self.add_level(setup, level);
                }
                Step::Rewrite { directive, expression, .. } => {
                    self.add_expression(expression, Subject::Path, directive);
                }
                _ => {}
            }
        }
        for location in &level.locations.all {
            self.add_location(location);
            self.add_level(setup, &location.level);
        }
    }

    fn add_location(&mut self, location: &Location<'d>) {
        match &location.expression {
            Some(expression) => self.add_expression(expression, Subject::Path, location.directive),
            None if location.name.starts_with('/') => {
                self.add_word(&Word::literal(location.name), Subject::Path, location.directive);
                for more in ["x", "/x"] {
                    self.add_path(format!("{}{more}", location.name), location.directive);
                }
            }
            None => {}
        }
    }

    fn add_condition(&mut self, setup: &Setup<'d>, condition: &Condition, directive: &'d Directive) {
        let subject = |value| match setup.path_part(value) {
            PathPart::None => None,
            PathPart::Some => Some(Subject::Part),
            PathPart::Whole => Some(Subject::Path),
        };
        match condition {
            Condition::Equals { value, to, .. } => {
                if let (Some(subject), Some(text)) = (subject(value), to.literal()) {
                    self.add_word(&Word::literal(text), subject, directive);
                }
            }
            Condition::Matches { value, expression, .. } => {
                if let Some(subject) = subject(value) {
                    self.add_expression(expression, subject, directive);
                }
            }
            Condition::IsTrue(_) | Condition::Outside => {}
        }
    }

    fn add_expression(&mut self, expression: &Expression, subject: Subject, directive: &'d Directive) {
        self.add_words(expression.pattern.hir.as_ref().map(KnownWords::new), subject, directive);
    }

    fn add_words(&mut self, words: Option<KnownWords>, subject: Subject, directive: &'d Directive) {
        let Some(words) = words else { return };
        if words.is_cut {
            self.too_many.push(directive);
        }
        for word in &words.words {
            self.add_word(word, subject, directive);
        }
    }

    /// A map's key that is a name, or a wildcard for names.
    fn add_key(&mut self, directive: &'d Directive, subject: Subject) {
        let key = directive.name.strip_prefix('\\').unwrap_or(&directive.name).to_ascii_lowercase();
        match (key.strip_prefix('*'), key.strip_prefix('.'), key.strip_suffix('*')) {
            (Some(suffix), ..) => self.invented.push((format!("x{suffix}"), directive)),
            (_, Some(name), _) => {
                self.hosts.insert(name.to_owned());
                self.invented.push((format!("x.{name}"), directive));
            }
            (_, _, Some(prefix)) => self.invented.push((format!("{prefix}x"), directive)),
            _ => self.add_word(&Word::literal(&key), subject, directive),
        }
    }

    fn add_word(&mut self, word: &Word, subject: Subject, directive: &'d Directive) {
        let text = word.text();
        let is_name = !text.contains('/');
        if word.is_at_start && (subject == Subject::Path) != is_name {
            self.add_host(word, directive);
        }
        if subject == Subject::Path && word.is_at_start && text.starts_with('/') {
            self.add_path(text.to_owned(), directive);
        }
        if subject != Subject::Path && !word.is_at_start && is_name {
            self.add_invented(&format!("x{}", Word::with_host(text, "x")), directive);
        }
        // Names in maps are hosts far more often than paths, and too many to try under every host.
        let is_part = subject != Subject::Path || !word.is_at_start;
        if is_part && !text.is_empty() && !(subject == Subject::MapKey && is_name && word.is_at_start) {
            let slash = if text.starts_with('/') { "" } else { "/" };
            self.add_path(format!("/{HOST}{slash}{text}"), directive);
        }
    }

    fn add_host(&mut self, word: &Word, directive: &'d Directive) {
        if let Some(host) = word.host() {
            if !host.is_ascii() {
                self.not_ascii.push(directive);
            }
            if is_segment(host) {
                self.hosts.insert(host.to_ascii_lowercase());
            }
            return;
        }
        let segment = word.text().trim_start_matches('/').split(['/', '?']).next().unwrap_or_default();
        let is_any = segment.chars().all(|c| !Word::is_spelled_out(&c.to_string()));
        if !is_any {
            self.add_invented(&Word::with_host(segment, "x"), directive);
        }
    }

    fn add_invented(&mut self, host: &str, directive: &'d Directive) {
        let host = host.to_ascii_lowercase();
        if is_segment(&host) && self.invented.iter().all(|(known, _)| *known != host) {
            self.invented.push((host, directive));
        }
    }

    fn add_path(&mut self, path: String, directive: &'d Directive) {
        if !is_plain_path(&path) || !self.seen.insert(path.clone()) {
            return;
        }
        let first = path[1..].split(['/', '?']).next().unwrap_or_default().to_owned();
        if first == HOST.to_string() {
            if self.common.len() < MAX_COMMON_PATHS {
                self.common.push(path);
            } else if self.too_many.last() != Some(&directive) {
                self.too_many.push(directive);
            }
            return;
        }
        if path.contains(HOST) {
            self.misplaced.push((path.clone(), directive));
        }
        if Word::is_spelled_out(&first) {
            self.own.entry(first.to_ascii_lowercase()).or_default().push(path);
        }
    }
}

/// Whether `text` could be a whole segment of a path that names a host.
fn is_segment(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('.')
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#%\"\\".contains(&byte))
}

/// Whether a path can be sent as it is: nothing to escape, nothing for nginx to resolve.
fn is_plain_path(path: &str) -> bool {
    let text = Word::with_host(path, "x");
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"#%\"\\".contains(&byte));
    is_plain && !["//", "/./", "/../"].iter().any(|part| text.contains(part))
}
