//! Rust as tidy reads it: tokens, and the comments between them.

use std::ops::Range;

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, Group, Spacing, TokenStream, TokenTree};

/// A file of the repository.
pub struct SourceFile<'a> {
    /// From the repository's root.
    pub path: &'a str,
    pub tokens: Vec<Token>,
    /// Line by line.
    pub comments: Vec<Comment>,
    /// How many lines it has.
    pub length: usize,
}

/// A name, `::`, or another character. Literals have no text.
pub struct Token {
    pub line: usize,
    pub text: String,
    pub is_name: bool,
    /// Compiled for tests alone (`#[cfg(test)]`).
    pub in_test: bool,
}

/// A line of a comment, with or without code before it.
pub struct Comment {
    pub line: usize,
    pub text: String,
    /// Columns of the whole line.
    pub columns: usize,
}

impl<'a> SourceFile<'a> {
    /// # Errors
    /// It is not Rust.
    pub fn parse(path: &'a str, text: &str) -> Result<Self> {
        let stream = text.parse::<TokenStream>().map_err(|e| anyhow!("{path}: not Rust: {e}"))?;
        let mut reader = Reader {
            text,
            lines: text.lines().collect(),
            read: 0,
            counted: (0, 1),
            tokens: Vec::new(),
            comments: Vec::new(),
        };
        reader.stream(stream, false);
        reader.skip_to(text.len());
        let Reader { tokens, comments, .. } = reader;
        Ok(Self { path, tokens, comments, length: text.lines().count() })
    }
}

struct Reader<'a> {
    text: &'a str,
    lines: Vec<&'a str>,
    /// Everything before this byte has been looked at.
    read: usize,
    /// A byte, and the line that it is in.
    counted: (usize, usize),
    tokens: Vec<Token>,
    comments: Vec<Comment>,
}

impl Reader<'_> {
    fn stream(&mut self, stream: TokenStream, in_test: bool) {
        let mut trees = stream.into_iter().peekable();
        // An item that is compiled for tests goes from its attribute to its body, or to a
        // semicolon.
        let mut in_test_item = false;
        while let Some(tree) = trees.next() {
            let in_test = in_test || in_test_item;
            match tree {
                TokenTree::Punct(punct) if punct.as_char() == '#' => {
                    let range = punct.span().byte_range();
                    if self.text[range.clone()].starts_with('/') {
                        // A doc comment: `#`, perhaps `!`, and `[doc = "…"]`, all at the same
                        // place.
                        self.skip_to(range.start);
                        self.add_comments(range.clone());
                        self.read = range.end;
                        while trees.next_if(|next| next.span().byte_range().start < range.end).is_some() {}
                    } else {
                        let attribute = trees.peek().and_then(as_group);
                        in_test_item |= attribute.is_some_and(is_for_tests);
                        self.push(range, "#", false, in_test);
                    }
                }
                TokenTree::Punct(punct) => {
                    let text = punct.as_char();
                    let is_pair = text == ':' && punct.spacing() == Spacing::Joint;
                    let pair = if is_pair { trees.next_if(is_colon) } else { None };
                    let range = punct.span().byte_range();
                    match pair {
                        Some(second) => {
                            let end = second.span().byte_range().end;
                            self.push(range.start..end, "::", false, in_test);
                        }
                        None => self.push(range, text.encode_utf8(&mut [0; 4]), false, in_test),
                    }
                    in_test_item &= text != ';';
                }
                TokenTree::Ident(name) => {
                    self.push(name.span().byte_range(), &name.to_string(), true, in_test);
                }
                TokenTree::Literal(literal) => self.push(literal.span().byte_range(), "", false, in_test),
                TokenTree::Group(group) => {
                    let [open, close] = match group.delimiter() {
                        Delimiter::Brace => ["{", "}"],
                        Delimiter::Bracket => ["[", "]"],
                        Delimiter::Parenthesis => ["(", ")"],
                        Delimiter::None => ["", ""],
                    };
                    self.push(group.span_open().byte_range(), open, false, in_test);
                    self.stream(group.stream(), in_test);
                    self.push(group.span_close().byte_range(), close, false, in_test);
                    in_test_item &= group.delimiter() != Delimiter::Brace;
                }
            }
        }
    }

    fn push(&mut self, range: Range<usize>, text: &str, is_name: bool, in_test: bool) {
        self.skip_to(range.start);
        let line = self.line(range.start);
        self.tokens.push(Token { line, text: text.to_owned(), is_name, in_test });
        self.read = range.end;
    }

    /// What stands before a token and was not read is blank, or a comment.
    fn skip_to(&mut self, start: usize) {
        if self.read < start {
            self.add_comments(self.read..start);
        }
    }

    fn add_comments(&mut self, range: Range<usize>) {
        let first = self.line(range.start);
        for (text, line) in self.text[range].lines().zip(first..) {
            if !text.trim().is_empty() {
                let columns = self.lines.get(line - 1).map_or(0, |line| line.chars().count());
                self.comments.push(Comment { line, text: text.trim().to_owned(), columns });
            }
        }
    }

    /// The line that a byte is in; never asked for one before the last.
    fn line(&mut self, at: usize) -> usize {
        let (from, line) = self.counted;
        let line = line + self.text.get(from..at).map_or(0, |text| text.matches('\n').count());
        self.counted = (at, line);
        line
    }
}

fn as_group(tree: &TokenTree) -> Option<&Group> {
    if let TokenTree::Group(group) = tree { Some(group) } else { None }
}

fn is_colon(tree: &TokenTree) -> bool {
    matches!(tree, TokenTree::Punct(punct) if punct.as_char() == ':')
}

/// `[cfg(test)]`, `[cfg(any(test, fuzzing))]`.
fn is_for_tests(attribute: &Group) -> bool {
    let text = attribute.stream().to_string();
    let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect::<Vec<_>>();
    words.first() == Some(&"cfg") && words.contains(&"test") && !words.contains(&"not")
}
