//! Plain engineering English: names and comments against docs/glossary.md, and the width of
//! comments.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use super::ratchet::{Hit, Rule};
use super::source::SourceFile;

pub const GLOSSARY: &str = "docs/glossary.md";
/// The sections whose tables begin with words that are not used.
const NOT_IN_NAMES: &str = "## Not in names";
const NOT_IN_COMMENTS: &str = "## Not in comments";
const MAX_COMMENT_COLUMNS: usize = 100;

/// What is not used.
pub struct Glossary {
    /// Whole names, or beginnings that end with `_`, or words of names where they are in lower
    /// case.
    names: Vec<String>,
    /// Words and phrases.
    comments: Vec<String>,
}

impl Glossary {
    /// # Errors
    /// A section or its table is missing.
    pub fn parse(page: &str) -> Result<Self> {
        let glossary =
            Self { names: first_cells(page, NOT_IN_NAMES), comments: first_cells(page, NOT_IN_COMMENTS) };
        for (section, words) in [(NOT_IN_NAMES, &glossary.names), (NOT_IN_COMMENTS, &glossary.comments)] {
            ensure!(!words.is_empty(), "{GLOSSARY} has no table under {section:?}");
        }
        Ok(glossary)
    }

    /// What of a file is against the glossary, and which of its comments are too wide.
    pub fn hits(&self, file: &SourceFile<'_>) -> Vec<Hit> {
        let hit = |rule, line, what| Hit { rule, path: file.path.to_owned(), line, what };
        let mut names = BTreeMap::new();
        for token in file.tokens.iter().filter(|token| token.is_name) {
            names.entry(&*token.text).or_insert(token.line);
        }
        let mut hits: Vec<Hit> = names
            .into_iter()
            .filter_map(|(name, line)| {
                Some((name, line, self.names.iter().find(|word| is_in_name(word, name))?))
            })
            .map(|(name, line, word)| hit(Rule::Names, line, format!("the name {name}: not {word}")))
            .collect();
        for comment in &file.comments {
            let words = self.comments.iter().filter(|word| is_in_text(word, &comment.text));
            hits.extend(
                words.map(|word| hit(Rule::Comments, comment.line, format!("a comment: not \"{word}\""))),
            );
            if comment.columns > MAX_COMMENT_COLUMNS {
                let what = format!("a comment up to column {}", comment.columns);
                hits.push(hit(Rule::WideComments, comment.line, what));
            }
        }
        hits
    }
}

/// The code in the first cell of each row under a heading.
fn first_cells(page: &str, heading: &str) -> Vec<String> {
    let section = page.lines().skip_while(|line| *line != heading).skip(1);
    let rows = section.take_while(|line| !line.starts_with('#')).filter_map(|line| line.strip_prefix("| "));
    let cells = rows.filter_map(|row| row.split(" |").next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

fn is_in_name(word: &str, name: &str) -> bool {
    if word.chars().any(char::is_uppercase) {
        return word == name || word.ends_with('_') && name.starts_with(word);
    }
    let name = format!("_{}_", snake_case(name));
    name.contains(&format!("_{word}_"))
}

/// `HeadLimits` and `HEAD_LIMITS` as `head_limits`.
fn snake_case(name: &str) -> String {
    let is_constant = !name.chars().any(char::is_lowercase);
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !is_constant && !snake.is_empty() && !snake.ends_with('_') {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
    }
    snake
}

fn is_in_text(phrase: &str, text: &str) -> bool {
    let text = text.to_lowercase();
    let is_border = |c: Option<char>| c.is_none_or(|c| !(c.is_alphanumeric() || c == '_'));
    text.match_indices(phrase).any(|(at, _)| {
        is_border(text[..at].chars().next_back()) && is_border(text[at + phrase.len()..].chars().next())
    })
}
