//! Matchers: which requests a directive is for.

use std::collections::HashMap;

use crate::import::directive::Directive;
use crate::import::follow::{Assumptions, Request};

/// What a request has to be.
#[derive(Debug)]
pub enum Matcher<'d> {
    Path {
        patterns: Vec<Pattern>,
        /// Where there are others, which are not understood.
        unclear: Option<&'d Directive>,
    },
    All(Vec<Matcher<'d>>),
    Not(Box<Matcher<'d>>),
    Protocol {
        is_https: bool,
    },
    /// The path does not decide it.
    Outside {
        key: String,
        directive: &'d Directive,
        advice: &'static str,
    },
    Unknown(&'d Directive),
}

/// What a matcher says of a request; `Err`: what is not understood.
pub type Answer<'d> = Result<bool, &'d Directive>;

/// The directive's first argument names a matcher, or is one.
pub type NamedMatchers<'d> = HashMap<&'d str, &'d Directive>;

impl<'d> Matcher<'d> {
    /// The matcher of a directive, and the arguments behind it. `None`: it is for all requests.
    pub fn of(directive: &'d Directive, named: &NamedMatchers<'d>) -> (Option<Self>, &'d [String]) {
        let Some((first, rest)) = directive.arguments.split_first() else { return (None, &[]) };
        if first == "*" {
            (None, rest)
        } else if first.starts_with('/') {
            (Some(Self::path(directive, std::slice::from_ref(first))), rest)
        } else if first.starts_with('@') {
            let defined = named.get(&**first).copied();
            (Some(defined.map_or(Self::Unknown(directive), Self::defined)), rest)
        } else {
            (None, &directive.arguments)
        }
    }

    /// What `@name …` or `@name { … }` says.
    fn defined(directive: &'d Directive) -> Self {
        match (&directive.block, &*directive.arguments) {
            (Some(block), []) => {
                Self::all(block.iter().map(|inside| (inside, &*inside.name, &*inside.arguments)))
            }
            (None, [kind, arguments @ ..]) => Self::all([(directive, &**kind, arguments)].into_iter()),
            _ => Self::Unknown(directive),
        }
    }

    fn all(parts: impl Iterator<Item = (&'d Directive, &'d str, &'d [String])>) -> Self {
        let (mut paths, mut all) = (None::<(Vec<Pattern>, Option<&'d Directive>)>, Vec::new());
        for (directive, kind, arguments) in parts {
            match (Self::single(directive, kind, arguments), &mut paths) {
                // Several lines count as one.
                (Self::Path { patterns, unclear }, Some((known, is_unclear))) => {
                    known.extend(patterns);
                    *is_unclear = is_unclear.or(unclear);
                }
                (Self::Path { patterns, unclear }, None) => paths = Some((patterns, unclear)),
                (other, _) => all.push(other),
            }
        }
        if let Some((patterns, unclear)) = paths {
            all.insert(0, Self::Path { patterns, unclear });
        }
        if all.len() == 1 { all.swap_remove(0) } else { Self::All(all) }
    }

    fn single(directive: &'d Directive, kind: &'d str, arguments: &'d [String]) -> Self {
        let key = || format!("{kind} {}", arguments.join(" "));
        let outside = |advice| Self::Outside { key: key(), directive, advice };
        match kind {
            "path" if !arguments.is_empty() => Self::path(directive, arguments),
            "not" => match (arguments.split_first(), &directive.block) {
                (Some((kind, arguments)), _) if kind != "not" => {
                    Self::Not(Box::new(Self::single(directive, kind, arguments)))
                }
                (None, Some(block)) => {
                    let parts = block.iter().map(|inside| (inside, &*inside.name, &*inside.arguments));
                    Self::Not(Box::new(Self::all(parts)))
                }
                _ => Self::Unknown(directive),
            },
            "protocol" if arguments == ["https"] => Self::Protocol { is_https: true },
            "protocol" if arguments == ["http"] => Self::Protocol { is_https: false },
            "remote_ip" | "client_ip" => {
                outside("[guard] with mode = \"strict\" drops all but Meta's addresses and those of `allow`")
            }
            "method" => outside("hookgate forwards every method but CONNECT and TRACE"),
            "host" => outside("hookgate takes any Host field"),
            "header" | "header_regexp" | "query" | "expression" if !names_path(kind, arguments) => {
                outside("hookgate has nothing in its place; the receiver has to check it")
            }
            _ => Self::Unknown(directive),
        }
    }

    fn path(directive: &'d Directive, arguments: &[String]) -> Self {
        let patterns: Vec<Pattern> = arguments.iter().filter_map(|path| Pattern::new(path)).collect();
        let unclear = (patterns.len() < arguments.len()).then_some(directive);
        Self::Path { patterns, unclear }
    }

    /// Whether it names paths alone, or with other conditions, and which.
    fn patterns(&self) -> Option<&[Pattern]> {
        match self {
            Self::Path { patterns, unclear: None } => Some(patterns),
            Self::All(parts) => parts.first().and_then(Self::patterns),
            _ => None,
        }
    }

    /// The one path that Caddy sorts by.
    pub fn only_path(&self) -> Option<&str> {
        match self.patterns() {
            Some([pattern]) => Some(&pattern.text),
            _ => None,
        }
    }

    /// What each matching path begins with.
    pub fn prefixes(&self) -> Vec<&str> {
        self.patterns().map_or_else(|| vec![""], |patterns| patterns.iter().map(Pattern::prefix).collect())
    }

    /// Whether a path can match, whatever else the request is.
    pub fn may_match(&self, path: &str) -> bool {
        match self {
            Self::Path { patterns, unclear } => {
                unclear.is_some() || patterns.iter().any(|pattern| pattern.matches(path))
            }
            Self::All(parts) => parts.iter().all(|part| part.may_match(path)),
            _ => true,
        }
    }

    pub fn matches(
        &self,
        path: &str,
        request: &Request<'_>,
        assumptions: &mut Assumptions<'d>,
    ) -> Answer<'d> {
        match self {
            Self::Path { patterns, unclear } => match patterns.iter().any(|pattern| pattern.matches(path)) {
                true => Ok(true),
                false => unclear.map_or(Ok(false), Err),
            },
            Self::All(parts) => {
                let mut unknown = None;
                for part in parts {
                    match part.matches(path, request, assumptions) {
                        Ok(false) => return Ok(false),
                        Ok(true) => {}
                        Err(directive) => unknown = Some(directive),
                    }
                }
                unknown.map_or(Ok(true), Err)
            }
            Self::Not(part) => part.matches(path, request, assumptions).map(|answer| !answer),
            Self::Protocol { is_https } => Ok(*is_https == request.is_tls),
            Self::Outside { key, directive, advice } => Ok(assumptions.holds(key, directive, advice)),
            Self::Unknown(directive) => Err(directive),
        }
    }
}

/// Whether an expression looks at the path.
fn names_path(kind: &str, arguments: &[String]) -> bool {
    let is_about = |text: &String| ["path", "uri", "file"].iter().any(|word| text.contains(word));
    kind == "expression" && arguments.iter().any(is_about)
}

/// A path of a matcher, in lower case: Caddy compares without case.
#[derive(Debug)]
pub struct Pattern {
    pub text: String,
}

impl Pattern {
    /// `None`: it has wildcards other than an asterisk at its ends, or placeholders.
    fn new(text: &str) -> Option<Self> {
        let inside = text.strip_prefix('*').unwrap_or(text);
        let inside = inside.strip_suffix('*').unwrap_or(inside);
        let is_plain = !inside.contains(['*', '?', '[', '\\', '{', '%']) && !inside.contains("//");
        is_plain.then(|| Self { text: text.to_ascii_lowercase() })
    }

    fn prefix(&self) -> &str {
        match self.text.strip_prefix('*') {
            Some(_) => "",
            None => self.text.strip_suffix('*').unwrap_or(&self.text),
        }
    }

    fn matches(&self, path: &str) -> bool {
        let path = path.to_ascii_lowercase();
        let (start, end) = (self.text.strip_prefix('*'), self.text.strip_suffix('*'));
        match (start, end) {
            (Some(""), _) => true,
            (Some(rest), Some(_)) => path.contains(rest.strip_suffix('*').unwrap_or(rest)),
            (Some(rest), None) => path.ends_with(rest),
            (None, Some(rest)) => path.starts_with(rest),
            (None, None) => path == self.text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_asterisks() {
        for (pattern, path, expected) in [
            ("/a.example/*", "/a.example/x", true),
            ("/a.example/*", "/a.example", false),
            ("/A.example*", "/a.examples/x", true),
            ("/a", "/a", true),
            ("/a", "/a/x", false),
            ("*.php", "/a/x.PHP", true),
            ("*/admin/*", "/a/admin/x", true),
            ("*", "/", true),
        ] {
            assert_eq!(Pattern::new(pattern).map(|p| p.matches(path)), Some(expected), "{pattern} {path}");
        }
        for pattern in ["/a/*/b", "/[ab]/*", "/{re.x.1}/*", "/a%2f*"] {
            assert!(Pattern::new(pattern).is_none(), "{pattern}");
        }
    }
}
