//! The Caddyfile's syntax: words, quotes, comments, blocks.

use std::path::Path;
use std::sync::Arc;

use crate::import::directive::{Directive, Place, SyntaxError};

/// The most blocks within one another, over all imports: what walks through them may call itself
/// for each.
pub const MAX_LEVELS: usize = 64;

/// The statements of a file: site blocks, snippets and options with their blocks, or the one site
/// that needs no braces. A block without words has an empty name.
pub fn parse(file: &Arc<Path>, text: &str) -> Result<Vec<Directive>, SyntaxError> {
    let error = |line, what| SyntaxError { place: Place { file: Arc::clone(file), line }, what };
    let lines =
        Lexer { rest: text.chars().peekable(), line: 1 }.lines().map_err(|(line, what)| error(line, what))?;
    let mut open: Vec<(Directive, Vec<Directive>)> = Vec::new();
    let mut current = Vec::new();
    for mut words in lines {
        let Some(first) = words.first() else { continue };
        let line = first.line;
        if first.is_brace("}") {
            let (opener, outer) = open.pop().ok_or_else(|| error(line, "a `}` too many"))?;
            let block = std::mem::replace(&mut current, outer);
            current.push(Directive { block: Some(block), ..opener });
            if words.len() > 1 {
                return Err(error(line, "a `}` must stand on a line of its own"));
            }
            continue;
        }
        let opens = words.last().is_some_and(|last| last.is_brace("{"));
        if opens {
            words.pop();
        }
        if words.iter().any(|word| word.is_brace("{")) {
            return Err(error(line, "a `{` must end its line"));
        }
        if words.iter().any(|word| word.is_brace("}")) {
            return Err(error(line, "a `}` must stand on a line of its own"));
        }
        let mut words = words.into_iter().map(|word| word.text);
        let name = words.next().unwrap_or_default();
        let place = Place { file: Arc::clone(file), line };
        let directive = Directive { name, arguments: words.collect(), place, block: None };
        if !opens {
            current.push(directive);
        } else if open.len() >= MAX_LEVELS {
            return Err(error(line, "more than 64 blocks lie within one another"));
        } else {
            open.push((directive, std::mem::take(&mut current)));
        }
    }
    match open.pop() {
        Some((opener, _)) => Err(SyntaxError { place: opener.place, what: "this block is never closed" }),
        None => Ok(current),
    }
}

struct Word {
    text: String,
    line: usize,
    is_quoted: bool,
}

impl Word {
    fn is_brace(&self, brace: &str) -> bool {
        !self.is_quoted && self.text == brace
    }
}

struct Lexer<'t> {
    rest: std::iter::Peekable<std::str::Chars<'t>>,
    line: usize,
}

type LexError = (usize, &'static str);

impl Lexer<'_> {
    fn lines(mut self) -> Result<Vec<Vec<Word>>, LexError> {
        let (mut lines, mut words) = (Vec::new(), Vec::new());
        while let Some(next) = self.rest.peek().copied() {
            match next {
                '\n' => {
                    self.next();
                    // The addresses of a site go on behind a comma.
                    let goes_on = words.last().is_some_and(|word: &Word| word.text.ends_with(','));
                    if !goes_on {
                        lines.push(std::mem::take(&mut words));
                    }
                }
                '#' => {
                    while self.rest.peek().is_some_and(|c| *c != '\n') {
                        self.next();
                    }
                }
                space if space.is_whitespace() => drop(self.next()),
                quote @ ('"' | '`') => {
                    let line = self.line;
                    self.next();
                    let text = self.quoted(quote).ok_or((line, "this quote is never closed"))?;
                    words.push(Word { text, line, is_quoted: true });
                }
                _ => {
                    let line = self.line;
                    let text = self.plain();
                    if text.starts_with("<<") {
                        return Err((line, "texts that begin with `<<` are not understood"));
                    }
                    if text != "\\" || self.rest.peek() != Some(&'\n') {
                        words.push(Word { text, line, is_quoted: false });
                    } else {
                        self.next();
                    }
                }
            }
        }
        lines.push(words);
        Ok(lines)
    }

    fn quoted(&mut self, quote: char) -> Option<String> {
        let mut text = String::new();
        loop {
            match self.next()? {
                end if end == quote => return Some(text),
                '\\' if quote == '"' => match self.next()? {
                    '"' => text.push('"'),
                    other => text.extend(['\\', other]),
                },
                other => text.push(other),
            }
        }
    }

    /// Up to the next space.
    fn plain(&mut self) -> String {
        let mut text = String::new();
        while let Some(next) = self.rest.peek().copied().filter(|c| !c.is_whitespace()) {
            // A line may go on behind a backslash.
            text.push(next);
            self.next();
        }
        text
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest.next();
        self.line += usize::from(next == Some('\n'));
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name[argument|argument]@line{…}`.
    fn shown(directives: &[Directive]) -> String {
        let one = |d: &Directive| {
            let block = d.block.as_ref().map_or(String::new(), |block| format!("{{{}}}", shown(block)));
            format!("{}[{}]@{}{block}", d.name, d.arguments.join("|"), d.place.line)
        };
        directives.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    fn read(text: &str) -> Result<String, String> {
        let parsed = parse(&Path::new("c").into(), text);
        parsed.map(|read| shown(&read)).map_err(|error| error.to_string())
    }

    #[test]
    fn words_quotes_comments_and_blocks() {
        for (text, expected) in [
            ("", ""),
            ("# nothing\n\n", ""),
            ("a.example {\n\trespond \"a \\\"b\\\"\" 200 # c\n}", "a.example[]@1{respond[a \"b\"|200]@2}"),
            ("{\n\temail a@b\n}\n:443 {\n}", "[]@1{email[a@b]@2} :443[]@4{}"),
            ("a,\nb {\n x {path} `{`\n}", "a,[b]@1{x[{path}|{]@3}"),
            ("a \\\n b\nc#d", "a[b]@1 c#d[]@3"),
            ("(s) {\n}\r\na \"two\nlines\"\nb", "(s)[]@1{} a[two\nlines]@3 b[]@5"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn syntax_errors_name_their_line() {
        for (text, expected) in [
            ("a {\nb {\n}", "c:1: this block is never closed"),
            ("a {\n}\n}", "c:3: a `}` too many"),
            ("a { b\n}", "c:1: a `{` must end its line"),
            ("a {\nb }", "c:2: a `}` must stand on a line of its own"),
            ("\na \"b\n", "c:2: this quote is never closed"),
            ("a <<EOF\n", "c:1: texts that begin with `<<` are not understood"),
        ] {
            assert_eq!(read(text).unwrap_err(), expected, "{text}");
        }
        let deep = read(&"a {\n".repeat(1 << 16));
        assert_eq!(deep.unwrap_err(), "c:65: more than 64 blocks lie within one another");
    }
}
