//! `map` blocks, looked up as nginx does: exact names, then wildcards, then expressions in order.

use std::collections::HashMap;
use std::rc::Rc;

use super::client_names::{common_name, names_in_subject};
use super::variables::{Source, Template, Variable, Variables};
use super::words::KnownWords;
use crate::import::directive::Directive;
use crate::import::pattern::{Match, Pattern};

/// A `map`.
#[derive(Debug)]
pub struct Map<'d> {
    pub source: Template,
    pub target: Variable,
    /// It is worked out again at each use.
    pub is_volatile: bool,
    entries: Vec<Entry<'d>>,
    /// Which entry a name in lower case leads to.
    exact: HashMap<String, usize>,
    /// Wildcards in front: by what follows the `*`.
    suffixes: HashMap<String, usize>,
    /// Wildcards at the end: by what stands before the `*`.
    prefixes: HashMap<String, usize>,
    /// Expressions that match a few whole texts alone: by these texts.
    listed: HashMap<String, usize>,
    /// The other expressions, in order.
    expressions: Vec<usize>,
    default: Option<usize>,
}

#[derive(Debug)]
struct Entry<'d> {
    directive: &'d Directive,
    value: Template,
    expression: Option<Expression>,
}

/// A pattern, and the variables that its groups set.
#[derive(Debug)]
pub struct Expression {
    pub pattern: Pattern,
    pub variables: Vec<(usize, Variable)>,
}

impl Expression {
    pub fn new<'d>(
        text: &str,
        ignores_case: bool,
        variables: &mut Variables<'d>,
        directive: &'d Directive,
    ) -> Self {
        let pattern = Pattern::new(text, ignores_case);
        let named = pattern.names.iter().map(|(number, name)| {
            let variable = variables.named(name, directive);
            variables.define(variable, Source::Assigned);
            (*number, variable)
        });
        Self { variables: named.collect(), pattern }
    }
}

/// What a lookup finds.
pub enum Found<'m> {
    /// The value; with the expression that matched and the texts of its groups.
    Value(&'m Template, Option<(&'m Expression, Vec<String>)>),
    Nothing,
    /// An expression on the way is not understood.
    Undecided,
}

impl<'d> Map<'d> {
    /// `None`: it has no block or no variable to set.
    pub fn new(directive: &'d Directive, position: usize, variables: &mut Variables<'d>) -> Option<Self> {
        let [source, target] = &*directive.arguments else { return None };
        let target = variables.named(target.strip_prefix('$')?, directive);
        variables.define(target, Source::Map(position));
        let block = directive.block.as_deref()?;
        let is_set = |name: &str| block.iter().any(|entry| entry.name == name && entry.arguments.is_empty());
        let mut map = Self {
            source: Template::new(source, variables, directive),
            target,
            is_volatile: is_set("volatile"),
            entries: Vec::new(),
            exact: HashMap::new(),
            suffixes: HashMap::new(),
            prefixes: HashMap::new(),
            listed: HashMap::new(),
            expressions: Vec::new(),
            default: None,
        };
        let has_hostnames = is_set("hostnames");
        for entry in block {
            if let [value] = &*entry.arguments {
                map.add(entry, value, has_hostnames, variables);
            }
        }
        Some(map)
    }

    fn add(
        &mut self,
        directive: &'d Directive,
        value: &str,
        has_hostnames: bool,
        variables: &mut Variables<'d>,
    ) {
        let position = self.entries.len();
        let mut entry =
            Entry { directive, value: Template::new(value, variables, directive), expression: None };
        let key = &*directive.name;
        match key {
            "include" => return,
            "default" => self.default = Some(position),
            _ if key.starts_with('~') => {
                let text = key.strip_prefix("~*").unwrap_or(&key[1..]);
                let expression = Expression::new(text, key.starts_with("~*"), variables, directive);
                match expression.pattern.hir.as_ref().and_then(|hir| KnownWords::new(hir).whole_texts()) {
                    Some(texts) => {
                        for text in texts {
                            self.listed.entry(text).or_insert(position);
                        }
                    }
                    None => self.expressions.push(position),
                }
                entry.expression = Some(expression);
            }
            _ => {
                let key = key.strip_prefix('\\').unwrap_or(key).to_ascii_lowercase();
                match (key.strip_prefix('*'), key.strip_prefix('.'), key.strip_suffix(".*")) {
                    (Some(suffix), ..) if has_hostnames => {
                        self.suffixes.insert(suffix.to_owned(), position);
                    }
                    (_, Some(name), _) if has_hostnames => {
                        self.exact.entry(name.to_owned()).or_insert(position);
                        self.suffixes.insert(key.clone(), position);
                    }
                    (_, _, Some(prefix)) if has_hostnames => {
                        self.prefixes.insert(format!("{prefix}."), position);
                    }
                    // nginx refuses a name that is there twice.
                    _ => {
                        self.exact.insert(key, position);
                    }
                }
            }
        }
        self.entries.push(entry);
    }

    /// Each key that names a text, or a pattern of texts.
    pub fn keys(&self) -> impl Iterator<Item = (&'d Directive, Option<&Pattern>)> {
        let entries = self.entries.iter().filter(|entry| entry.directive.name != "default");
        entries
            .map(|entry| (entry.directive, entry.expression.as_ref().map(|expression| &expression.pattern)))
    }

    /// The entry that `text` leads to.
    pub fn find(&self, text: &str) -> Found<'_> {
        let lower = text.to_ascii_lowercase();
        let fixed = self.exact.get(&lower).or_else(|| self.wildcard(&lower));
        if let Some(position) = fixed {
            return Found::Value(&self.entries[*position].value, None);
        }
        let listed = self.listed.get(text).copied();
        let before =
            self.expressions.iter().copied().take_while(|position| listed.is_none_or(|l| *position < l));
        for position in before.chain(listed) {
            let entry = &self.entries[position];
            let Some(expression) = &entry.expression else { continue };
            let pattern = &expression.pattern;
            let found = match listed == Some(position) && pattern.groups == 0 {
                true => Match::Yes(Vec::new()),
                false => pattern.find(text),
            };
            match found {
                Match::Yes(groups) => return Found::Value(&entry.value, Some((expression, groups))),
                Match::No => {}
                Match::Unknown => return Found::Undecided,
            }
        }
        match self.default {
            Some(position) => Found::Value(&self.entries[position].value, None),
            None => Found::Nothing,
        }
    }

    /// The value that any text with these pieces leads to, where it is the same for all; `None`
    /// stands for any piece.
    pub fn only_value(&self, pieces: &[Option<Rc<str>>]) -> Option<&Template> {
        /// The number of names that are compared with an unknown text.
        const MAX_NAMES: usize = 256;
        let has_patterns = !(self.suffixes.is_empty() && self.prefixes.is_empty())
            || self.entries.iter().any(|entry| entry.expression.is_some());
        if has_patterns || self.exact.len() > MAX_NAMES || pieces.iter().all(Option::is_none) {
            return None;
        }
        let possible = self.exact.iter().filter(|(name, _)| could_be(pieces, name));
        let mut values = possible.map(|(_, position)| &self.entries[*position].value);
        let default = &self.entries[self.default?].value;
        values.all(|value| value == default).then_some(default)
    }

    /// Where it tells some names of client certificates from all others: the first of its entries,
    /// the names, their value and that of all others.
    pub fn certificate_names(&self) -> Option<(&'d Directive, Vec<String>, [&Template; 2])> {
        let default = self.entries.get(self.default?)?;
        let mut named = self.entries.iter().filter(|entry| entry.directive.name != "default");
        let first = named.next()?;
        let mut names = Vec::new();
        for entry in std::iter::once(first).chain(named) {
            if entry.value != first.value {
                return None;
            }
            match &entry.expression {
                Some(expression) => names.extend(names_in_subject(expression.pattern.hir.as_ref()?)?),
                None => names.push(common_name(&entry.directive.name)?),
            }
        }
        (first.value != default.value).then_some((first.directive, names, [&first.value, &default.value]))
    }

    /// The longest wildcard in front, else the longest at the end.
    fn wildcard(&self, name: &str) -> Option<&usize> {
        if self.suffixes.is_empty() && self.prefixes.is_empty() {
            return None;
        }
        let dots = || name.match_indices('.').map(|(at, _)| at);
        let suffix = dots().filter(|at| *at > 0).find_map(|at| self.suffixes.get(&name[at..]));
        suffix.or_else(|| {
            dots().collect::<Vec<_>>().into_iter().rev().find_map(|at| self.prefixes.get(&name[..=at]))
        })
    }
}

/// Whether a text with these pieces could be `text`, without regard to case; `None` stands for any
/// piece.
fn could_be(pieces: &[Option<Rc<str>>], text: &str) -> bool {
    let Some((first, rest)) = pieces.split_first() else { return text.is_empty() };
    match first {
        Some(piece) => match text.split_at_checked(piece.len()) {
            Some((start, end)) => start.eq_ignore_ascii_case(piece) && could_be(rest, end),
            None => false,
        },
        // Beyond the first of several unknown pieces anything goes.
        None => match rest.last() {
            Some(Some(last)) => text.to_ascii_lowercase().ends_with(&last.to_ascii_lowercase()),
            _ => true,
        },
    }
}
