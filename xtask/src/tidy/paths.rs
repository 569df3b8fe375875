//! The paths that code names, and where they lead.

use super::source::{SourceFile, Token};

/// A path as it is written: `std::fs::read`, or one branch of `use crate::{net, tls as t}`.
#[derive(Clone, Debug)]
pub struct Path {
    pub line: usize,
    /// A `*` at the end stands for all that is inside.
    pub names: Vec<String>,
    /// The name that a `use` gives to it.
    pub alias: Option<String>,
    /// The modules of the same file around it, as `mod tests { … }`.
    pub inline: Vec<String>,
    pub statement: Statement,
    pub in_test: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statement {
    Use,
    /// `pub use`, `pub(crate) use`
    Reexport,
    Expression,
}

impl Path {
    /// Its names from the crate's root on, when it is written in `module`. `None`: it leads to
    /// another crate, or to what an import has brought here. `is_child`: whether `module` has such
    /// a module inside.
    pub fn resolve(&self, module: &[String], is_child: impl Fn(&str) -> bool) -> Option<Vec<String>> {
        let mut at = [module, &self.inline].concat();
        let mut names = self.names.iter().map(String::as_str).peekable();
        match names.peek().copied()? {
            "crate" => {
                at.clear();
                names.next();
            }
            "self" => drop(names.next()),
            "super" => {}
            name if self.inline.is_empty() && is_child(name) => {}
            _ => return None,
        }
        while names.next_if_eq(&"super").is_some() {
            at.pop();
        }
        at.extend(names.map(str::to_owned));
        Some(at)
    }

    /// The name by which it is known where it is imported.
    pub fn imported_as(&self) -> Option<&str> {
        self.alias.as_deref().or(self.names.last().map(String::as_str))
    }
}

/// All paths of at least two names, in the order of the code.
pub fn paths(file: &SourceFile<'_>) -> Vec<Path> {
    let tokens = &file.tokens;
    let text = |at: Option<usize>| at.and_then(|at| tokens.get(at)).map_or("", |token| &*token.text);
    let (mut found, mut depth, mut inline) = (Vec::new(), 0_usize, Vec::<(usize, String)>::new());
    let mut at = 0;
    while at < tokens.len() {
        match text(Some(at)) {
            "mod" if text(Some(at + 2)) == "{" => inline.push((depth, text(Some(at + 1)).to_owned())),
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                inline.retain(|(outside, _)| *outside < depth);
            }
            _ => {}
        }
        let before = text(at.checked_sub(1));
        // `pub(in crate::net)` says who may see something, and uses nothing.
        let begins = tokens[at].is_name && text(Some(at + 1)) == "::" && !["::", ".", "in"].contains(&before);
        if !begins {
            at += 1;
            continue;
        }
        let statement = match before {
            "use" if ["pub", ")"].contains(&text(at.checked_sub(2))) => Statement::Reexport,
            "use" => Statement::Use,
            _ => Statement::Expression,
        };
        let path = Path {
            line: 0,
            names: Vec::new(),
            alias: None,
            inline: inline.iter().map(|(_, name)| name.clone()).collect(),
            statement,
            in_test: tokens[at].in_test,
        };
        at = read(tokens, at, &path, &mut found);
    }
    found
}

/// Reads the path that goes on from `before` at a token, with all its branches; returns the token
/// behind it.
fn read(tokens: &[Token], mut at: usize, before: &Path, found: &mut Vec<Path>) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| &*token.text);
    let mut path = before.clone();
    loop {
        path.line = tokens.get(at).map_or(path.line, |token| token.line);
        match text(at) {
            "{" => {
                at += 1;
                while at < tokens.len() && text(at) != "}" {
                    at = if text(at) == "," { at + 1 } else { read(tokens, at, &path, found) };
                }
                return at + 1;
            }
            "self" if !path.names.is_empty() => {}
            name => path.names.push(name.to_owned()),
        }
        at += 1;
        let goes_on =
            tokens.get(at + 1).is_some_and(|next| next.is_name || ["{", "*"].contains(&&*next.text));
        if text(at) != "::" || !goes_on {
            break;
        }
        at += 1;
    }
    if path.statement != Statement::Expression && text(at) == "as" {
        path.alias = Some(text(at + 1).to_owned());
        at += 2;
    }
    found.push(path);
    at
}
