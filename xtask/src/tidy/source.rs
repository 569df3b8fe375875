//! Rust as tidy reads it: code without comments and literals.

/// A file of the repository.
pub struct SourceFile<'a> {
    /// From the repository's root.
    pub path: &'a str,
    pub source: Source,
}

impl<'a> SourceFile<'a> {
    pub fn new(path: &'a str, text: &str) -> Self {
        Self { path, source: Source::new(text) }
    }
}

/// The code of a file, byte for byte where it was; comments and the insides of literals are blanks.
pub struct Source(String);

/// A path such as `crate::net::stream` or `super::super::tls`.
#[derive(Debug, PartialEq, Eq)]
pub struct PathUse {
    pub line: usize,
    /// How many modules up from the crate's root it starts: `None` for `crate::`, else the number of `super`s together
    /// with the inline modules (`mod tests { … }`) around it.
    pub supers: Option<Supers>,
    /// The names that come next: several for `crate::{net, tls}`.
    pub next: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Supers {
    pub count: usize,
    pub inline_modules: usize,
}

impl Source {
    pub fn new(text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut code = bytes.to_vec();
        let mut at = 0;
        while at < bytes.len() {
            let end = at + literal_or_comment(&bytes[at..], at.checked_sub(1).map(|before| bytes[before]));
            for byte in &mut code[at..end] {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
            at = end.max(at + 1);
        }
        Self(String::from_utf8_lossy(&code).into_owned())
    }

    /// The lines on which `word` stands by itself.
    pub fn words<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        self.tokens().filter(move |token| token.text == word).map(|token| token.line)
    }

    pub fn paths(&self) -> Vec<PathUse> {
        let tokens = self.tokens().collect::<Vec<_>>();
        let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
        let (mut found, mut depth, mut modules) = (Vec::new(), 0, Vec::new());
        let mut at = 0;
        while at < tokens.len() {
            match text(at) {
                "mod" if text(at + 2) == "{" => modules.push(depth),
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    if modules.last() == Some(&depth) {
                        modules.pop();
                    }
                }
                "crate" if text(at + 1) == "::" => {
                    found.push(PathUse {
                        line: tokens[at].line,
                        supers: None,
                        next: names(&tokens[at + 2..]),
                    });
                }
                "super" if text(at + 1) == "::" => {
                    let start = at;
                    while text(at + 2) == "super" && text(at + 3) == "::" {
                        at += 2;
                    }
                    let supers = Supers { count: (at - start) / 2 + 1, inline_modules: modules.len() };
                    let line = tokens[start].line;
                    found.push(PathUse { line, supers: Some(supers), next: names(&tokens[at + 2..]) });
                    at += 1; // over the last `::`, so that the names behind it are looked at too
                }
                _ => {}
            }
            at += 1;
        }
        found
    }

    /// Names, `::`, and single other characters.
    fn tokens(&self) -> impl Iterator<Item = Token<'_>> {
        let mut rest = self.0.as_str();
        let mut line = 1;
        std::iter::from_fn(move || {
            let blank = rest.len() - rest.trim_start().len();
            line += rest[..blank].matches('\n').count();
            rest = &rest[blank..];
            let first = rest.chars().next()?;
            let in_name = |c: char| c.is_alphanumeric() || c == '_';
            let length = match first {
                c if in_name(c) => rest.find(|c| !in_name(c)).unwrap_or(rest.len()),
                ':' if rest.starts_with("::") => 2,
                c => c.len_utf8(),
            };
            let (text, behind) = rest.split_at(length);
            rest = behind;
            Some(Token { line, text })
        })
    }
}

struct Token<'a> {
    line: usize,
    text: &'a str,
}

/// The name, or the first names of each branch of a group.
fn names(tokens: &[Token<'_>]) -> Vec<String> {
    if tokens.first().is_none_or(|token| token.text != "{") {
        return tokens.first().map(|token| token.text.to_owned()).into_iter().collect();
    }
    let mut names = Vec::new();
    let mut depth = 0;
    for pair in tokens.windows(2) {
        match pair[0].text {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if depth == 1 && ["{", ","].contains(&pair[0].text) {
            names.push(pair[1].text.to_owned());
        }
    }
    names
}

/// How many bytes at the start of `code` are a comment or a literal; 0 when neither starts here.
fn literal_or_comment(code: &[u8], before: Option<u8>) -> usize {
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let starts_word = !before.is_some_and(in_name);
    match code {
        [b'/', b'/', ..] => code.iter().position(|b| *b == b'\n').unwrap_or(code.len()),
        [b'/', b'*', ..] => block_comment(code),
        [b'"', ..] => 1 + until_quote(&code[1..], b'"'),
        [b'r', b'"' | b'#', ..] if starts_word => raw_string(&code[1..]).map_or(0, |length| 1 + length),
        [b'b' | b'c', b'r', b'"' | b'#', ..] if starts_word => {
            raw_string(&code[2..]).map_or(0, |length| 2 + length)
        }
        // 'a' and '\n' are characters, 'a is a lifetime
        [b'\'', b'\\', ..] => 1 + until_quote(&code[1..], b'\''),
        [b'\'', rest @ ..] => {
            let character = std::str::from_utf8(&rest[..rest.len().min(4)])
                .or_else(|e| std::str::from_utf8(&rest[..e.valid_up_to()]))
                .ok()
                .and_then(|text| text.chars().next())
                .map_or(1, char::len_utf8);
            if rest.get(character) == Some(&b'\'') { character + 2 } else { 0 }
        }
        _ => 0,
    }
}

fn until_quote(code: &[u8], quote: u8) -> usize {
    let mut at = 0;
    while at < code.len() && code[at] != quote {
        at += if code[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(code.len())
}

/// From the hashes or quote on; `None` for a raw identifier (`r#type`).
fn raw_string(code: &[u8]) -> Option<usize> {
    let hashes = code.iter().take_while(|b| **b == b'#').count();
    (code.get(hashes) == Some(&b'"')).then_some(())?;
    let end = [&b"\""[..], &vec![b'#'; hashes]].concat();
    let inside = &code[hashes + 1..];
    let length =
        inside.windows(end.len()).position(|window| window == end).map_or(inside.len(), |at| at + end.len());
    Some(hashes + 1 + length)
}

fn block_comment(code: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < code.len() {
        match code[at..] {
            [b'/', b'*', ..] => (at, depth) = (at + 2, depth + 1),
            [b'*', b'/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}
