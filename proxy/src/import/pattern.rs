//! Regular expressions of other servers: PCRE, as far as the `regex` crate means the same by them.

use std::cell::OnceCell;
use std::ops::Range;

use regex::bytes::{Captures, Regex, RegexBuilder};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Hir, HirKind, Look};

use super::sequence::Sequence;

/// A compiled expression; one that is not understood still names its variables.
#[derive(Debug)]
pub struct Pattern {
    text: String,
    ignores_case: bool,
    /// Compiled where it is first used: of many expressions in a map most are looked up by their
    /// text.
    regex: OnceCell<Option<Regex>>,
    /// In its place, where the expression is simple.
    sequence: Option<Box<Sequence>>,
    /// What the expression means; `None` where it is not understood.
    pub hir: Option<Hir>,
    /// What each matching text begins with.
    pub prefix: Vec<u8>,
    /// The named groups, by number.
    pub names: Vec<(usize, String)>,
    /// How many groups there are.
    pub groups: usize,
}

/// The most memory that one compiled expression may take: room for an alternation of 20,000 hosts.
const MAX_COMPILED_BYTES: usize = 256 << 20;

impl Pattern {
    pub fn new(text: &str, ignores_case: bool) -> Self {
        let hir = if is_same_in_both(text) { parse(text, ignores_case) } else { None };
        let prefix = hir.as_ref().map(anchored_prefix).unwrap_or_default();
        let names = hir.as_ref().map_or_else(|| names_in(text), names_of);
        let groups = hir.as_ref().map_or(0, |hir| hir.properties().explicit_captures_len());
        let sequence = hir.as_ref().and_then(Sequence::new).map(Box::new);
        Self {
            text: text.to_owned(),
            ignores_case,
            regex: OnceCell::new(),
            sequence,
            hir,
            prefix,
            names,
            groups,
        }
    }

    fn regex(&self) -> Option<&Regex> {
        let compile = || {
            self.hir.as_ref()?;
            let mut builder = RegexBuilder::new(&self.text);
            builder.unicode(false).case_insensitive(self.ignores_case).size_limit(MAX_COMPILED_BYTES);
            builder.build().ok()
        };
        self.regex.get_or_init(compile).as_ref()
    }

    /// Whether `text` matches.
    pub fn find(&self, text: &str) -> Match {
        if self.hir.is_none() {
            return Match::Unknown;
        }
        if !text.as_bytes().starts_with(&self.prefix) {
            return Match::No;
        }
        if let Some(sequence) = self.sequence.as_ref().filter(|sequence| sequence.is_for(text.as_bytes())) {
            return match sequence.find(text.as_bytes()) {
                Some(_) if self.groups == 0 => Match::Yes(Vec::new()),
                Some(groups) => Match::Yes(texts_at(text, &groups)),
                None => Match::No,
            };
        }
        let Some(regex) = self.regex() else { return Match::Unknown };
        if self.groups == 0 {
            return if regex.is_match(text.as_bytes()) { Match::Yes(Vec::new()) } else { Match::No };
        }
        match regex.captures(text.as_bytes()) {
            Some(captures) => Match::Yes(texts(&captures)),
            None => Match::No,
        }
    }

    /// The first match in `text`; `None`: the expression is not understood.
    pub fn first(&self, text: &str) -> Option<Option<Found>> {
        if let Some(sequence) = self.sequence.as_ref().filter(|sequence| sequence.is_for(text.as_bytes())) {
            let groups = sequence.find(text.as_bytes());
            return Some(groups.and_then(|groups| Some((groups.first()?.clone(), texts_at(text, &groups)))));
        }
        let captures = self.regex()?.captures(text.as_bytes());
        Some(captures.and_then(|captures| Some((captures.get(0)?.range(), texts(&captures)))))
    }
}

fn texts_at(text: &str, groups: &[Range<usize>]) -> Vec<String> {
    let bytes = |group: &Range<usize>| text.as_bytes().get(group.clone()).unwrap_or_default();
    groups.iter().map(|group| String::from_utf8_lossy(bytes(group)).into_owned()).collect()
}

fn texts(captures: &Captures<'_>) -> Vec<String> {
    let text = |group: Option<regex::bytes::Match<'_>>| {
        group.map_or(String::new(), |found| String::from_utf8_lossy(found.as_bytes()).into_owned())
    };
    captures.iter().map(text).collect()
}

/// Where something matches, with the texts of all groups, the whole match first.
pub type Found = (Range<usize>, Vec<String>);

/// How a text compares with a pattern.
#[derive(Debug, PartialEq, Eq)]
pub enum Match {
    /// With the texts of all groups, the whole match first; none where the expression has no group.
    Yes(Vec<String>),
    No,
    /// The expression is not understood.
    Unknown,
}

/// The named groups of an expression.
fn names_of(hir: &Hir) -> Vec<(usize, String)> {
    match hir.kind() {
        HirKind::Capture(capture) => {
            let own = capture.name.iter().map(|name| (capture.index as usize, name.to_string()));
            own.chain(names_of(&capture.sub)).collect()
        }
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().flat_map(names_of).collect(),
        HirKind::Repetition(repetition) => names_of(&repetition.sub),
        _ => Vec::new(),
    }
}

fn parse(text: &str, ignores_case: bool) -> Option<Hir> {
    let mut parser = ParserBuilder::new();
    parser.unicode(false).utf8(false).case_insensitive(ignores_case);
    parser.build().parse(text).ok()
}

/// Whether no part of the expression means one thing to PCRE and another to the `regex` crate:
/// possessive repetitions, recursion, and operators within classes. (What the crate does not know
/// at all it refuses by itself.)
fn is_same_in_both(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (mut at, mut is_in_class) = (0, false);
    while at < bytes.len() {
        let next = bytes.get(at + 1).copied();
        match (bytes[at], is_in_class) {
            // Word boundaries to the crate, plain characters to PCRE.
            (b'\\', _) if matches!(next, Some(b'<' | b'>')) => return false,
            (b'\\', _) => at += 1,
            (b'*' | b'+' | b'?' | b'}', false) if next == Some(b'+') => return false,
            (b'(', false) if bytes[at..].starts_with(b"(?R") || bytes[at..].starts_with(b"(*") => {
                return false;
            }
            (b'[', false) => {
                is_in_class = true;
                // A bracket that comes first is a member.
                at += usize::from(bytes.get(at + 1) == Some(&b'^'));
                at += usize::from(bytes.get(at + 1) == Some(&b']'));
            }
            (b'[', true) if next != Some(b':') => return false,
            (b'[', true) => {
                at += bytes[at..].windows(2).position(|end| end == b":]").map_or(0, |end| end + 1)
            }
            (b'&' | b'-' | b'~', true) if next == Some(bytes[at]) => return false,
            (b']', true) => is_in_class = false,
            _ => {}
        }
        at += 1;
    }
    true
}

/// The literal that each matching text begins with, if the expression is tied to the text's start.
fn anchored_prefix(hir: &Hir) -> Vec<u8> {
    let HirKind::Concat(parts) = hir.kind() else { return Vec::new() };
    match parts.split_first() {
        Some((first, rest)) if matches!(first.kind(), HirKind::Look(Look::Start)) => {
            let mut prefix = Vec::new();
            let _ = rest.iter().all(|part| add_literal(part, &mut prefix));
            prefix
        }
        _ => Vec::new(),
    }
}

/// Whether a part is a literal, which is added.
fn add_literal(part: &Hir, prefix: &mut Vec<u8>) -> bool {
    match part.kind() {
        HirKind::Literal(literal) => prefix.extend_from_slice(&literal.0),
        HirKind::Capture(capture) => return add_literal(&capture.sub, prefix),
        HirKind::Concat(parts) => return parts.iter().all(|part| add_literal(part, prefix)),
        _ => return false,
    }
    true
}

/// The names of groups, read off the text.
fn names_in(text: &str) -> Vec<(usize, String)> {
    let after = text.split("(?").skip(1);
    let name = |rest: &str| {
        let rest = rest.strip_prefix("P<").or_else(|| rest.strip_prefix('<'))?;
        let name = rest.split_once('>')?.0;
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        is_name.then(|| (0, name.to_owned()))
    };
    after.filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_that_mean_the_same_to_both_are_understood() {
        for text in [
            r"^/(?<up>[^/]+)(?<rest>/.*)$",
            r"^/(a\.example|b\-c\.example)\/",
            r"[[:alpha:]_-]+",
            r"[]x]",
            r"[^]x]",
            r"\.(php|env)$",
            r"^(?:a|b){1,3}?",
        ] {
            assert_ne!(Pattern::new(text, false).find("/"), Match::Unknown, "{text}");
        }
    }

    #[test]
    fn expressions_of_pcre_alone_are_not_understood() {
        for text in [
            r"^/(?!admin)",
            r"(?<=a)b",
            r"(a)\1",
            r"a*+",
            r"a++b",
            r"(?R)",
            r"[a&&b]",
            r"[a--z]",
            r"[[a]]",
            r"(?>ab)",
            r"\<a",
            r"a{",
            r"(?|a|b)",
        ] {
            assert_eq!(Pattern::new(text, false).find("/"), Match::Unknown, "{text}");
        }
    }

    #[test]
    fn names_are_known_without_understanding() {
        let names = Pattern::new(r"^/(?!x)(?<up>[^/]+)(?P<rest>.*)$", false).names;
        assert_eq!(names, [(0, "up".to_owned()), (0, "rest".to_owned())]);
    }

    #[test]
    fn captures_of_all_groups() {
        let pattern = Pattern::new("^/(a)(b)?(/.*)$", false);
        let groups = ["/a/x", "a", "", "/x"].map(str::to_owned);
        assert_eq!(pattern.find("/a/x"), Match::Yes(groups.into()));
        assert_eq!(pattern.find("/c/x"), Match::No);
        assert_eq!(Pattern::new("^/A", true).find("/a/x"), Match::Yes(Vec::new()));
        assert_eq!(pattern.prefix, b"/a");
    }
}
