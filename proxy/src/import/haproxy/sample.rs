//! Sample expressions (`path,field(2,/)`) and formats (`/x%[path]`), as far as a request's path
//! decides them.

use std::rc::Rc;

use super::maps::{Map, Maps};
use super::syntax::UNKNOWN;
use crate::import::forward::HostField;
use crate::import::pattern::Pattern;

/// What an expression gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Absent,
    /// The path does not decide it.
    Outside,
    Unclear,
}

/// A fetch, and what is done with it.
#[derive(Debug)]
pub struct Sample {
    fetch: Fetch,
    converters: Vec<Converter>,
}

#[derive(Debug, PartialEq, Eq)]
enum Fetch {
    Path,
    PathAndQuery,
    Query,
    IsTls,
    Host,
    Variable(String),
    Text(String),
    Outside,
    Unclear,
}

#[derive(Debug)]
enum Converter {
    Lower,
    Upper,
    Field {
        index: usize,
        delimiters: String,
        is_to_end: bool,
    },
    Word {
        index: usize,
        delimiters: String,
    },
    Map {
        map: Rc<Map>,
        is_prefix: bool,
        default: Option<String>,
    },
    Substitute {
        pattern: Pattern,
        to: String,
    },
    /// It leaves what it is tried with as it is.
    Decode,
    Unclear,
}

/// What expressions can look at.
pub struct Context<'c> {
    pub path: &'c str,
    pub query: Option<&'c str>,
    pub is_tls: bool,
    pub host: &'c HostField,
    pub variables: &'c [(String, Value)],
}

/// The highest number of a field that is looked at.
const MAX_INDEX: usize = 1000;
/// Fetches whose names begin so depend on more than the path.
const OUTSIDE: &[&str] = &[
    "be_",
    "cook",
    "dst",
    "fc_",
    "fe_",
    "hdr",
    "http_auth",
    "method",
    "nbsrv",
    "rand",
    "req.cook",
    "req.fhdr",
    "req.hdr",
    "req.ver",
    "req_ver",
    "sc",
    "src",
    "srv_",
    "ssl_",
    "table_",
    "url_param",
    "urlp",
];

impl Sample {
    pub fn new(text: &str, maps: &mut Maps) -> Self {
        let mut parts = split(text).into_iter();
        let (name, arguments) = parts.next().unwrap_or_default();
        let fetch = match (&*name, &*arguments) {
            _ if text.contains(UNKNOWN) => Fetch::Unclear,
            ("path", []) => Fetch::Path,
            ("pathq" | "url", []) => Fetch::PathAndQuery,
            ("query", []) => Fetch::Query,
            ("ssl_fc", []) => Fetch::IsTls,
            ("var", [name]) => Fetch::Variable(name.clone()),
            ("str", [text]) => Fetch::Text(text.clone()),
            ("hdr" | "req.hdr", [name]) if name.eq_ignore_ascii_case("host") => Fetch::Host,
            (name, _) if OUTSIDE.iter().any(|start| name.starts_with(start)) => Fetch::Outside,
            _ => Fetch::Unclear,
        };
        let converters = parts.map(|(name, arguments)| Converter::new(&name, &arguments, maps)).collect();
        Self { fetch, converters }
    }

    pub fn value(&self, context: &Context<'_>) -> Value {
        let query = context.query.unwrap_or_default();
        let fetched = match &self.fetch {
            Fetch::Path => Value::Text(context.path.to_owned()),
            Fetch::PathAndQuery if context.query.is_none() => Value::Text(context.path.to_owned()),
            Fetch::PathAndQuery => Value::Text(format!("{}?{query}", context.path)),
            Fetch::Query => Value::Text(query.to_owned()),
            Fetch::IsTls => Value::Text(u8::from(context.is_tls).to_string()),
            Fetch::Host => match context.host {
                HostField::Client => Value::Outside,
                HostField::Fixed(host) => Value::Text(host.clone()),
            },
            Fetch::Variable(name) => {
                let known = context.variables.iter().rev().find(|(known, _)| known == name);
                known.map_or(Value::Absent, |(_, value)| value.clone())
            }
            Fetch::Text(text) => Value::Text(text.clone()),
            Fetch::Outside => Value::Outside,
            Fetch::Unclear => Value::Unclear,
        };
        self.converters.iter().fold(fetched, |value, converter| converter.apply(value))
    }

    /// Whether it gives the whole path, or its first segment: what it equals then begins a path.
    pub fn path_part(&self) -> Option<PathPart> {
        let mut converters = self
            .converters
            .iter()
            .filter(|converter| !matches!(converter, Converter::Lower | Converter::Decode));
        let part = match (&self.fetch, converters.next()) {
            (Fetch::Path, None) => PathPart::Whole,
            (Fetch::Path, Some(Converter::Field { index: 2, delimiters, is_to_end: false }))
                if delimiters == "/" =>
            {
                PathPart::FirstSegment
            }
            (Fetch::Path, Some(Converter::Word { index: 1, delimiters })) if delimiters == "/" => {
                PathPart::FirstSegment
            }
            (Fetch::Path, Some(Converter::Map { .. })) => return Some(PathPart::Whole),
            _ => return None,
        };
        converters.all(|converter| matches!(converter, Converter::Map { .. })).then_some(part)
    }

    /// The keys of its maps.
    pub fn map_keys(&self) -> impl Iterator<Item = &str> {
        let maps = self.converters.iter().filter_map(|converter| match converter {
            Converter::Map { map, .. } => Some(map),
            _ => None,
        });
        maps.flat_map(|map| map.keys())
    }

    /// Whether a map stands in it.
    pub fn has_map(&self) -> bool {
        self.converters.iter().any(|converter| matches!(converter, Converter::Map { .. }))
    }

    pub fn is_variable(&self) -> bool {
        matches!(self.fetch, Fetch::Variable(_))
    }

    pub fn is_flag(&self) -> bool {
        self.fetch == Fetch::IsTls
    }
}

/// What an expression takes of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathPart {
    Whole,
    FirstSegment,
}

impl Converter {
    fn new(name: &str, arguments: &[String], maps: &mut Maps) -> Self {
        let number =
            |text: &String| text.parse::<usize>().ok().filter(|index| (1..=MAX_INDEX).contains(index));
        match (name, arguments) {
            ("lower", []) => Self::Lower,
            ("upper", []) => Self::Upper,
            ("field", [index, delimiters]) => match number(index) {
                Some(index) => Self::Field { index, delimiters: delimiters.clone(), is_to_end: false },
                None => Self::Unclear,
            },
            ("field", [index, delimiters, count]) if count == "0" => match number(index) {
                Some(index) => Self::Field { index, delimiters: delimiters.clone(), is_to_end: true },
                None => Self::Unclear,
            },
            ("word", [index, delimiters]) => match number(index) {
                Some(index) => Self::Word { index, delimiters: delimiters.clone() },
                None => Self::Unclear,
            },
            ("map" | "map_str" | "map_beg", [file, default @ ..]) if default.len() < 2 => {
                let is_prefix = name == "map_beg";
                maps.map(file).map_or(Self::Unclear, |map| Self::Map {
                    map,
                    is_prefix,
                    default: default.first().cloned(),
                })
            }
            ("regsub", [pattern, to]) => {
                Self::Substitute { pattern: Pattern::new(pattern, false), to: to.clone() }
            }
            ("regsub", [pattern, to, flags]) if flags == "i" => {
                Self::Substitute { pattern: Pattern::new(pattern, true), to: to.clone() }
            }
            ("url_dec", []) => Self::Decode,
            _ => Self::Unclear,
        }
    }

    fn apply(&self, value: Value) -> Value {
        let text = match value {
            Value::Text(text) => text,
            other => return other,
        };
        let found = |found: Option<String>| found.map_or(Value::Absent, Value::Text);
        match self {
            Self::Lower => Value::Text(text.to_ascii_lowercase()),
            Self::Upper => Value::Text(text.to_ascii_uppercase()),
            Self::Field { index, delimiters, is_to_end } => {
                let is_delimiter = |c| delimiters.contains(c);
                let mut parts = text.splitn(if *is_to_end { *index } else { index + 1 }, is_delimiter);
                found(parts.nth(index - 1).map(str::to_owned))
            }
            Self::Word { index, delimiters } => {
                let words = text.split(|c| delimiters.contains(c)).filter(|word| !word.is_empty());
                found(words.skip(index - 1).map(str::to_owned).next())
            }
            Self::Map { map, is_prefix, default } => {
                let value = if *is_prefix { map.by_prefix(&text) } else { map.exact(&text) };
                found(value.map(str::to_owned).or_else(|| default.clone()))
            }
            Self::Substitute { pattern, to } => {
                substitute(pattern, to, &text).map_or(Value::Unclear, Value::Text)
            }
            Self::Decode if text.contains(['%', '+']) => Value::Unclear,
            Self::Decode => Value::Text(text),
            Self::Unclear => Value::Unclear,
        }
    }
}

/// `text` with its first match of the pattern replaced.
fn substitute(pattern: &Pattern, to: &str, text: &str) -> Option<String> {
    let Some((range, groups)) = pattern.first(text)? else { return Some(text.to_owned()) };
    Some([text.get(..range.start)?, &filled(to, &groups)?, text.get(range.end..)?].concat())
}

/// `\1` and its like in the place of groups. `None`: there are other escapes.
pub fn filled(to: &str, groups: &[String]) -> Option<String> {
    let mut text = String::new();
    let mut chars = to.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                let number = chars.next()?.to_digit(10)?;
                text += groups.get(number as usize).map_or("", String::as_str);
            }
            other => text.push(other),
        }
    }
    Some(text)
}

/// Names and arguments of `fetch(a,b),converter(c)`.
fn split(text: &str) -> Vec<(String, Vec<String>)> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let end = rest.find([',', '(']).unwrap_or(rest.len());
        let (name, behind) = rest.split_at(end);
        let mut arguments = Vec::new();
        rest = behind;
        if let Some(inside) = behind.strip_prefix('(') {
            let end = closing(inside).unwrap_or(inside.len());
            arguments = self::arguments(&inside[..end]);
            rest = inside.get(end + 1..).unwrap_or_default();
        }
        parts.push((name.to_owned(), arguments));
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None if rest.is_empty() => return parts,
            // No expression: the name of a converter that there is not.
            None => {
                parts.push((rest.to_owned(), Vec::new()));
                return parts;
            }
        }
    }
}

/// Where the bracket ends; quotes may hold others.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            (_, Some(_)) => {}
            ('"' | '\'', None) => quote = Some(c),
            ('(', None) => depth += 1,
            (')', None) if depth == 0 => return Some(at),
            (')', None) => depth -= 1,
            _ => {}
        }
    }
    None
}

fn arguments(text: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut quote = None;
    for c in text.chars() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => quote = Some(c),
            (',', None) => all.push(String::new()),
            (c, _) => all.last_mut().into_iter().for_each(|last| last.push(c)),
        }
    }
    all
}

/// A text with expressions in it.
#[derive(Debug)]
pub struct Format(Vec<Part>);

#[derive(Debug)]
enum Part {
    Text(String),
    Sample(Sample),
    Unclear,
}

impl Format {
    pub fn new(text: &str, maps: &mut Maps) -> Self {
        let (mut parts, mut rest) = (Vec::new(), text);
        if text.contains(UNKNOWN) {
            return Self(vec![Part::Unclear]);
        }
        while let Some((before, behind)) = rest.split_once('%') {
            parts.push(Part::Text(before.to_owned()));
            if let Some(behind) = behind.strip_prefix('%') {
                parts.push(Part::Text("%".to_owned()));
                rest = behind;
                continue;
            }
            match behind.strip_prefix('[').and_then(bracketed) {
                Some((sample, behind)) => {
                    parts.push(Part::Sample(Sample::new(sample, maps)));
                    rest = behind;
                }
                None => return Self(vec![Part::Unclear]),
            }
        }
        parts.push(Part::Text(rest.to_owned()));
        Self(parts)
    }

    pub fn value(&self, context: &Context<'_>) -> Value {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(part) => text += part,
                Part::Unclear => return Value::Unclear,
                Part::Sample(sample) => match sample.value(context) {
                    Value::Text(part) => text += &part,
                    Value::Absent => {}
                    other => return other,
                },
            }
        }
        Value::Text(text)
    }

    pub fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.0.iter().filter_map(|part| match part {
            Part::Sample(sample) => Some(sample),
            _ => None,
        })
    }
}

/// What stands before the bracket's end, and what behind it; classes of expressions are skipped.
fn bracketed(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '[' => depth += 1,
            ']' if depth == 0 => return Some((&text[..at], text.get(at + 1..)?)),
            ']' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, path: &str) -> Value {
        let mut maps = Maps::new(None);
        let host = HostField::Client;
        let variables = [("txn.h".to_owned(), Value::Text("a.example".to_owned()))];
        let context = Context { path, query: Some("z=1"), is_tls: true, host: &host, variables: &variables };
        Format::new(text, &mut maps).value(&context)
    }

    #[test]
    fn expressions_on_paths() {
        for (format, expected) in [
            ("%[path]", "/a.example/x/y"),
            ("%[path,field(2,/)]", "a.example"),
            ("/%[path,field(3,/,0)]", "/x/y"),
            ("%[path,word(2,/)]", "x"),
            ("%[path,regsub(^/[^/]+,)]", "/x/y"),
            ("%[path,regsub('^/([^/]*)/','/\\1-')]", "/a.example-x/y"),
            ("%[url]", "/a.example/x/y?z=1"),
            ("%[var(txn.h),upper]%%", "A.EXAMPLE%"),
            ("%[path,field(9,/)]", ""),
            ("%[str(x)]y", "xy"),
        ] {
            assert_eq!(value(format, "/a.example/x/y"), Value::Text(expected.to_owned()), "{format}");
        }
    }

    #[test]
    fn what_the_path_does_not_decide_is_told_apart() {
        for format in ["%[src]", "%[hdr(host)]", "%[req.hdr(x-y),lower]", "%[method]"] {
            assert_eq!(value(format, "/"), Value::Outside, "{format}");
        }
        for format in ["%[base]", "%[path,md5]", "%ci", "%[path", "%[path,field(-1,/)]", "%[path)x]"] {
            assert_eq!(value(format, "/"), Value::Unclear, "{format}");
        }
    }
}
