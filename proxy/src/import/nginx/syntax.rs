//! nginx's syntax: words, quotes, escapes, comments, blocks (`ngx_conf_read_token`).

use std::path::Path;
use std::sync::Arc;

use crate::import::directive::{Directive, Place, SyntaxError};

/// The most blocks within one another, over all included files: what walks through them may call
/// itself for each.
pub const MAX_LEVELS: usize = 64;

const NEVER_CLOSED: &str = "this block is never closed";

/// The directives of one file that is included within `outer_levels` blocks.
pub fn parse(file: &Arc<Path>, text: &str, outer_levels: usize) -> Result<Vec<Directive>, SyntaxError> {
    let is_template = ["{{", "{%", "<%"].iter().any(|tag| text.contains(tag));
    read(file, text, outer_levels).map_err(|error| match is_template {
        true => SyntaxError { what: TEMPLATE, ..error },
        false => error,
    })
}

const TEMPLATE: &str = "this seems to be a template: import the file that is made of it, which nginx reads";

fn read(file: &Arc<Path>, text: &str, outer_levels: usize) -> Result<Vec<Directive>, SyntaxError> {
    let mut reader = Reader { rest: text.chars().peekable(), file, line: 1, begun: 1 };
    // The blocks that are open, and the directives that opened them.
    let (mut open, mut current) = (Vec::new(), Vec::new());
    let mut words = KnownWords::default();
    while let Some(token) = reader.token()? {
        match token {
            Token::Word(word) => words.push(word, reader.begun),
            Token::Semicolon => current.push(words.finish(&reader, None)?),
            Token::Open => {
                let opener = words.finish(&reader, Some(Vec::new()))?;
                if opener.name.ends_with("_by_lua_block") {
                    if !super::lua::skip_block(&mut || reader.next()) {
                        return Err(SyntaxError { place: opener.place, what: NEVER_CLOSED });
                    }
                    current.push(Directive { block: None, ..opener });
                    continue;
                }
                if outer_levels + open.len() >= MAX_LEVELS {
                    let what = "more than 64 blocks lie within one another";
                    return Err(SyntaxError { place: opener.place, what });
                }
                open.push((opener, std::mem::take(&mut current)));
            }
            Token::Close => {
                words.expect_none(&reader)?;
                let (opener, outer) = open.pop().ok_or_else(|| reader.error("a `}` too many"))?;
                let block = std::mem::replace(&mut current, outer);
                current.push(Directive { block: Some(block), ..opener });
            }
        }
    }
    words.expect_none(&reader)?;
    match open.pop() {
        Some((opener, _)) => Err(SyntaxError { place: opener.place, what: NEVER_CLOSED }),
        None => Ok(current),
    }
}

/// The words of a directive that is being read.
#[derive(Default)]
struct KnownWords {
    words: Vec<String>,
    /// Of the first.
    line: usize,
}

impl KnownWords {
    fn push(&mut self, word: String, line: usize) {
        if self.words.is_empty() {
            self.line = line;
        }
        self.words.push(word);
    }

    fn finish(
        &mut self,
        reader: &Reader<'_>,
        block: Option<Vec<Directive>>,
    ) -> Result<Directive, SyntaxError> {
        let mut words = std::mem::take(&mut self.words).into_iter();
        let name = words.next().ok_or_else(|| reader.error("a directive without a name"))?;
        let place = Place { file: Arc::clone(reader.file), line: self.line };
        Ok(Directive { name, arguments: words.collect(), place, block })
    }

    fn expect_none(&self, reader: &Reader<'_>) -> Result<(), SyntaxError> {
        if self.words.is_empty() { Ok(()) } else { Err(reader.error("a directive without its `;`")) }
    }
}

enum Token {
    Word(String),
    Semicolon,
    Open,
    Close,
}

struct Reader<'t> {
    rest: std::iter::Peekable<std::str::Chars<'t>>,
    file: &'t Arc<Path>,
    line: usize,
    /// The line on which the last token began.
    begun: usize,
}

impl Reader<'_> {
    fn token(&mut self) -> Result<Option<Token>, SyntaxError> {
        loop {
            self.begun = self.line;
            let Some(first) = self.next() else { return Ok(None) };
            return Ok(Some(match first {
                space if space.is_ascii_whitespace() => continue,
                '#' => {
                    while self.next().is_some_and(|c| c != '\n') {}
                    continue;
                }
                ';' => Token::Semicolon,
                '{' => Token::Open,
                '}' => Token::Close,
                quote @ ('"' | '\'') => Token::Word(self.quoted(quote)?),
                first => Token::Word(self.word(first)?),
            }));
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, SyntaxError> {
        let mut word = String::new();
        loop {
            match self.next() {
                Some(end) if end == quote => break,
                Some('\\') => self.escaped(&mut word),
                Some(other) => word.push(other),
                None => {
                    let place = Place { file: Arc::clone(self.file), line: self.begun };
                    return Err(SyntaxError { place, what: "this quote is never closed" });
                }
            }
        }
        match self.rest.peek() {
            None | Some(';' | '{' | ')') => Ok(word),
            Some(space) if space.is_ascii_whitespace() => Ok(word),
            Some(_) => Err(self.error("a space or `;` must follow a closing quote")),
        }
    }

    fn word(&mut self, first: char) -> Result<String, SyntaxError> {
        let mut word = String::new();
        let mut next = Some(first);
        loop {
            match next {
                Some('\\') => self.escaped(&mut word),
                Some(other) => word.push(other),
                None => {}
            }
            match self.rest.peek() {
                None | Some(';') => return Ok(word),
                // `${name}` is a variable.
                Some('{') if !word.ends_with('$') => return Ok(word),
                Some(space) if space.is_ascii_whitespace() => return Ok(word),
                Some(_) => next = self.next(),
            }
        }
    }

    /// What follows a backslash; before most characters it stays.
    fn escaped(&mut self, word: &mut String) {
        match self.next() {
            Some(same @ ('"' | '\'' | '\\')) => word.push(same),
            Some('t') => word.push('\t'),
            Some('r') => word.push('\r'),
            Some('n') => word.push('\n'),
            Some(other) => word.extend(['\\', other]),
            None => word.push('\\'),
        }
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest.next();
        self.line += usize::from(next == Some('\n'));
        next
    }

    fn error(&self, what: &'static str) -> SyntaxError {
        SyntaxError { place: Place { file: Arc::clone(self.file), line: self.line }, what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Directive>, String> {
        parse(&Path::new("n").into(), text, 0).map_err(|error| error.to_string())
    }

    /// `name[argument|argument]@line{…}`.
    fn told(directives: &[Directive]) -> String {
        let one = |d: &Directive| {
            let block = d.block.as_ref().map_or(String::new(), |block| format!("{{{}}}", told(block)));
            format!("{}[{}]@{}{block}", d.name, d.arguments.join("|"), d.place.line)
        };
        directives.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn words_quotes_escapes_comments_and_blocks() {
        for (text, expected) in [
            ("", ""),
            ("# nothing\n  # at all", ""),
            ("user nginx;", "user[nginx]@1"),
            ("a 1;b 2;\nc\n3\n;", "a[1]@1 b[2]@1 c[3]@2"),
            ("http{server{listen 80;}}", "http[]@1{server[]@1{listen[80]@1}}"),
            ("a 'x y' \"it's; {}\" '';", "a[x y|it's; {}|]@1"),
            (r#"a "\"q\" \\ \d \t";"#, "a[\"q\" \\ \\d \t]@1"),
            (r"location ~ ^/([^/]+)(/.*)$ { set $h $1; }", "location[~|^/([^/]+)(/.*)$]@1{set[$h|$1]@1}"),
            (r"a b\;c x\ y;", r"a[b\;c|x\ y]@1"),
            ("a ${b}c;", "a[${b}c]@1"),
            ("a b#c; # d", "a[b#c]@1"),
            ("if ($a = \"0\") { return 403; }", "if[($a|=|0|)]@1{return[403]@1}"),
            ("content_by_lua_block { ngx.say('}') } a;", "content_by_lua_block[]@1 a[]@1"),
            (
                "map $a $b {\n\tdefault 0;\n\t\"\" 0;\n\t~^x\\.y$ 1; }",
                "map[$a|$b]@1{default[0]@2 [0]@3 ~^x\\.y$[1]@4}",
            ),
            ("a 'two\nlines';\nb;", "a[two\nlines]@1 b[]@3"),
            ("log 'a' 'b';\r\nc;\r\n", "log[a|b]@1 c[]@2"),
        ] {
            assert_eq!(read(text).map(|read| told(&read)).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn blocks_within_blocks_are_bounded() {
        let nested = |levels: usize| "a{\n".repeat(levels) + &"}".repeat(levels);
        assert_eq!(read(&nested(MAX_LEVELS)).map(|read| read.len()), Ok(1));
        let expected = Err("n:65: more than 64 blocks lie within one another".to_owned());
        assert_eq!(read(&nested(MAX_LEVELS + 1)), expected);
        let text = "a{".repeat(1 << 19);
        let expected = Err("n:1: more than 64 blocks lie within one another".to_owned());
        assert_eq!(read(&text), expected);
        assert_eq!(read(&(text.clone() + &"}".repeat(1 << 19))), expected);
    }

    #[test]
    fn what_is_not_nginx_is_told_where() {
        for (text, expected) in [
            ("a", "n:1: a directive without its `;`"),
            ("a\n}", "n:2: a directive without its `;`"),
            ("}", "n:1: a `}` too many"),
            ("\nhttp {\n", "n:2: this block is never closed"),
            (";", "n:1: a directive without a name"),
            ("a\n'b;\n", "n:2: this quote is never closed"),
            ("a 'b'c;", "n:1: a space or `;` must follow a closing quote"),
            (
                "server {{ name }}",
                "n:1: this seems to be a template: import the file that is made of it, which nginx reads",
            ),
            ("access_by_lua_block { x = '}' ", "n:1: this block is never closed"),
        ] {
            assert_eq!(read(text).unwrap_err(), expected, "{text}");
        }
    }
}
