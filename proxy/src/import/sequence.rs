//! Expressions that are a row of literals and repeated characters, matched without being compiled:
//! of thousands of them, each is used a few times.

use std::ops::Range;

use regex_syntax::hir::{Class, Hir, HirKind, Look};

/// One expression.
#[derive(Debug)]
pub struct Sequence {
    parts: Vec<Part>,
    groups: usize,
    /// Whether it is tied to the text's start.
    is_anchored: bool,
}

#[derive(Debug)]
enum Part {
    Literal(Vec<u8>),
    /// As many bytes of a set as there are.
    Repeated {
        set: Box<[bool; 256]>,
        min: usize,
        max: usize,
    },
    Open(usize),
    Close(usize),
    End,
}

/// The most parts: each is a call within the former one's.
const MAX_PARTS: usize = 256;
/// The most parts of which several lengths are tried.
const MAX_REPETITIONS: usize = 2;
/// The longest text, in bytes.
const MAX_TEXT_BYTES: usize = 1024;

impl Sequence {
    /// `None`: the expression is no such row.
    pub fn new(hir: &Hir) -> Option<Self> {
        let is_start = |hir: &&Hir| matches!(hir.kind(), HirKind::Look(Look::Start));
        let (is_anchored, rest) = match hir.kind() {
            HirKind::Concat(parts) if parts.first().filter(is_start).is_some() => (true, &parts[1..]),
            HirKind::Look(Look::Start) => (true, &[][..]),
            _ => (false, std::slice::from_ref(hir)),
        };
        let groups = hir.properties().explicit_captures_len() + 1;
        let mut sequence = Self { parts: Vec::new(), groups, is_anchored };
        for hir in rest {
            sequence.add(hir)?;
        }
        let varies = |part: &&Part| matches!(part, Part::Repeated { min, max, .. } if min != max);
        let repetitions = sequence.parts.iter().filter(varies).count();
        (sequence.parts.len() <= MAX_PARTS && repetitions <= MAX_REPETITIONS).then_some(sequence)
    }

    fn add(&mut self, hir: &Hir) -> Option<()> {
        let part = match hir.kind() {
            HirKind::Empty => return Some(()),
            HirKind::Literal(literal) => Part::Literal(literal.0.to_vec()),
            HirKind::Class(_) => Part::Repeated { set: set(hir)?, min: 1, max: 1 },
            HirKind::Repetition(repetition) if repetition.greedy => Part::Repeated {
                set: set(&repetition.sub)?,
                min: usize::try_from(repetition.min).ok()?,
                max: repetition.max.map_or(Some(usize::MAX), |max| usize::try_from(max).ok())?,
            },
            HirKind::Look(Look::End) => Part::End,
            HirKind::Capture(capture) => {
                let group = usize::try_from(capture.index).ok()?;
                self.parts.push(Part::Open(group));
                self.add(&capture.sub)?;
                Part::Close(group)
            }
            HirKind::Concat(parts) => return parts.iter().try_for_each(|part| self.add(part).ok_or(())).ok(),
            _ => return None,
        };
        self.parts.push(part);
        Some(())
    }

    /// Whether it can be matched with a text of this length.
    pub fn is_for(&self, text: &[u8]) -> bool {
        text.len() <= MAX_TEXT_BYTES
    }

    /// Where the first match and its groups are, the whole match first.
    pub fn find(&self, text: &[u8]) -> Option<Vec<Range<usize>>> {
        let mut groups = vec![0..0; self.groups];
        let last_start = if self.is_anchored { 0 } else { text.len() };
        for start in 0..=last_start {
            if let Some(end) = self.end(0, text, start, &mut groups) {
                groups[0] = start..end;
                return Some(groups);
            }
        }
        None
    }

    /// Where a match of the parts from one on ends.
    fn end(&self, part: usize, text: &[u8], at: usize, groups: &mut [Range<usize>]) -> Option<usize> {
        let next = part + 1;
        match self.parts.get(part) {
            None => Some(at),
            Some(Part::Literal(literal)) => text
                .get(at..)?
                .starts_with(literal)
                .then(|| self.end(next, text, at + literal.len(), groups))?,
            Some(Part::Repeated { set, min, max }) => {
                let bytes = text.get(at..)?.iter().take(*max);
                let most = bytes.take_while(|byte| set[usize::from(**byte)]).count();
                (*min..=most).rev().find_map(|count| self.end(next, text, at + count, groups))
            }
            Some(Part::Open(group)) => {
                groups[*group].start = at;
                self.end(next, text, at, groups)
            }
            Some(Part::Close(group)) => {
                groups[*group].end = at;
                self.end(next, text, at, groups)
            }
            Some(Part::End) => (at == text.len()).then(|| self.end(next, text, at, groups))?,
        }
    }
}

/// The bytes of a class, or the one of a literal.
fn set(hir: &Hir) -> Option<Box<[bool; 256]>> {
    let mut set = Box::new([false; 256]);
    match hir.kind() {
        HirKind::Class(Class::Bytes(class)) => {
            for range in class.ranges() {
                (range.start()..=range.end()).for_each(|byte| set[usize::from(byte)] = true);
            }
        }
        HirKind::Literal(literal) => match *literal.0 {
            [byte] => set[usize::from(byte)] = true,
            _ => return None,
        },
        _ => return None,
    }
    Some(set)
}

#[cfg(test)]
mod tests {
    use regex::bytes::RegexBuilder;
    use regex_syntax::ParserBuilder;

    use super::*;

    /// `None`: it is no sequence.
    fn is_same(pattern: &str, ignores_case: bool) -> Option<()> {
        let mut parser = ParserBuilder::new();
        parser.unicode(false).utf8(false).case_insensitive(ignores_case);
        let sequence = Sequence::new(&parser.build().parse(pattern).unwrap())?;
        let mut builder = RegexBuilder::new(pattern);
        let regex = builder.unicode(false).case_insensitive(ignores_case).build().unwrap();
        // All texts of up to five of these.
        let bytes = b"/aA.\n";
        for number in 0..6_usize.pow(5) {
            let digits = (0..5).map(|place| number / 6_usize.pow(place) % 6);
            let text: Vec<u8> = digits.filter_map(|digit| bytes.get(digit).copied()).collect();
            let expected = regex.captures(&text);
            let expected = expected.map(|found| {
                found.iter().map(|group| group.map_or(0..0, |group| group.range())).collect::<Vec<_>>()
            });
            assert_eq!(sequence.find(&text), expected, "{pattern} {text:?}");
        }
        Some(())
    }

    #[test]
    fn sequences_match_as_compiled_expressions_do() {
        for pattern in [
            r"^/(a\.a)(/.*)$",
            "^/([^/]+)(/.*)$",
            "/[^/]*(/.*)",
            "^/[^/]+",
            "a",
            "",
            "^",
            "(a+)(a*)",
            "a?/",
            "a{2}.",
            "()a",
            "[aA]{1,2}$",
            "^a$",
            "(/(a*))",
        ] {
            assert_eq!(is_same(pattern, false), Some(()), "{pattern}");
        }
        assert_eq!(is_same("^/a(/.*)$", true), Some(()));
    }

    #[test]
    fn others_are_left_to_the_compiler() {
        for pattern in ["a|/a", "a+?", "(aa)*", r"\ba", "(?m)^a", "a*a*a*", "a^", "(a|//)?"] {
            assert_eq!(is_same(pattern, false), None, "{pattern}");
        }
    }
}
