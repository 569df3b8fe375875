//! HAProxy's syntax: sections of lines, words, quotes, escapes, comments.

use std::path::Path;
use std::sync::Arc;

use crate::import::directive::{Directive, Place, SyntaxError};

const SECTIONS: &[&str] = &[
    "backend",
    "cache",
    "crt-store",
    "defaults",
    "fcgi-app",
    "frontend",
    "global",
    "http-errors",
    "listen",
    "log-forward",
    "mailers",
    "peers",
    "program",
    "resolvers",
    "ring",
    "traces",
    "userlist",
];

/// In the place of what depends on HAProxy's environment.
pub const UNKNOWN: char = char::REPLACEMENT_CHARACTER;

/// The sections of a file, each with its lines as a block.
pub fn parse(file: &Arc<Path>, text: &str) -> Result<Vec<Directive>, SyntaxError> {
    let mut sections = Vec::<Directive>::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let place = Place { file: Arc::clone(file), line: number + 1 };
        let error = |what| SyntaxError { place: place.clone(), what };
        let mut words = Line::new(line).words().map_err(error)?;
        // A backslash at its end leads to the next line.
        while words.1 {
            let Some((_, next)) = lines.next() else { break };
            let (more, goes_on) = Line::new(next).words().map_err(error)?;
            words.0.extend(more);
            words.1 = goes_on;
        }
        let mut words = words.0.into_iter();
        let Some(name) = words.next() else { continue };
        if name.starts_with('.') {
            return Err(error("conditional lines are not understood: remove those that do not hold"));
        }
        let directive = Directive { name, arguments: words.collect(), place: place.clone(), block: None };
        if SECTIONS.contains(&&*directive.name) {
            sections.push(Directive { block: Some(Vec::new()), ..directive });
        } else if let Some(section) = sections.last_mut() {
            section.block.get_or_insert_default().push(directive);
        } else {
            return Err(error("this line belongs to no section"));
        }
    }
    Ok(sections)
}

struct Line<'t> {
    rest: std::iter::Peekable<std::str::Chars<'t>>,
}

impl<'t> Line<'t> {
    fn new(text: &'t str) -> Self {
        Self { rest: text.chars().peekable() }
    }

    /// The words, and whether they go on in the next line.
    fn words(mut self) -> Result<(Vec<String>, bool), &'static str> {
        let mut words = Vec::new();
        let mut word: Option<String> = None;
        while let Some(next) = self.rest.next() {
            match next {
                ' ' | '\t' | '\r' => words.extend(word.take()),
                '#' => break,
                '\\' if self.rest.peek().is_none() => {
                    words.extend(word);
                    return Ok((words, true));
                }
                '\\' => word.get_or_insert_default().push_str(&self.escaped()?),
                '\'' => {
                    let text = word.get_or_insert_default();
                    loop {
                        match self.rest.next() {
                            Some('\'') => break,
                            Some(other) => text.push(other),
                            None => return Err("this quote is never closed"),
                        }
                    }
                }
                '"' => {
                    let text = self.quoted()?;
                    word.get_or_insert_default().push_str(&text);
                }
                other => word.get_or_insert_default().push(other),
            }
        }
        words.extend(word);
        Ok((words, false))
    }

    fn quoted(&mut self) -> Result<String, &'static str> {
        let mut text = String::new();
        loop {
            match self.rest.next().ok_or("this quote is never closed")? {
                '"' => return Ok(text),
                '\\' => text.push_str(&self.escaped()?),
                '$' => text.push(UNKNOWN),
                other => text.push(other),
            }
        }
    }

    fn escaped(&mut self) -> Result<String, &'static str> {
        Ok(match self.rest.next().ok_or("this quote is never closed")? {
            'n' => "\n".to_owned(),
            'r' => "\r".to_owned(),
            't' => "\t".to_owned(),
            same @ ('\\' | ' ' | '#' | '"' | '\'' | '$') => same.to_string(),
            'x' => UNKNOWN.to_string(),
            other => format!("\\{other}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        let parsed = parse(&Path::new("h").into(), text).map_err(|error| error.to_string())?;
        let line =
            |line: &Directive| format!("{}[{}]@{}", line.name, line.arguments.join("|"), line.place.line);
        let section = |section: &Directive| {
            let lines: Vec<String> = section.block.iter().flatten().map(line).collect();
            format!("{}{{{}}}", line(section), lines.join(" "))
        };
        Ok(parsed.iter().map(section).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn sections_words_quotes_and_comments() {
        for (text, expected) in [
            ("", ""),
            ("# x\nglobal\n  daemon # y\n", "global[]@2{daemon[]@3}"),
            ("frontend f\nacl a path_beg '/x y' /z\\ w\n", "frontend[f]@1{acl[a|path_beg|/x y|/z w]@2}"),
            ("backend b\r\n server s \"a\\\"b\" x\\\n y\n", "backend[b]@1{server[s|a\"b|x|y]@2}"),
            ("backend b\n a ^/[^/]+(/.*)$ \\1 ''", "backend[b]@1{a[^/[^/]+(/.*)$|\\1|]@2}"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn syntax_errors_name_their_line() {
        for (text, expected) in [
            ("global\n a 'b", "h:2: this quote is never closed"),
            ("global\n a \"b", "h:2: this quote is never closed"),
            ("bind :80", "h:1: this line belongs to no section"),
            ("global\n.if x", "h:2: conditional lines are not understood: remove those that do not hold"),
        ] {
            assert_eq!(read(text).unwrap_err(), expected, "{text}");
        }
    }
}
