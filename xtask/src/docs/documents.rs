//! Examples of JSON on a page, and the real documents.

use serde_json::Value;

use super::markdown::Page;
use super::shape;

/// What stands for something in commands of headings, and what is put in its place.
const STAND_INS: [(&str, &str); 3] = [
    ("HOST", "chatwoot.example.com"),
    ("IP", "157.240.1.1"),
    ("URL", "https://proxy.example.com/chatwoot.example.com/webhooks/whatsapp"),
];

/// The command that prints the document under a heading such as "`hookgate stats --json`".
pub fn command(heading: &str) -> Option<String> {
    let code = heading.split('`').nth(1)?;
    if let Some(path) = code.strip_prefix("GET ") {
        return Some(format!("curl -s http://127.0.0.1:9432{path}"));
    }
    let words = code
        .strip_prefix("hookgate ")?
        .split(' ')
        .map(|word| STAND_INS.iter().find(|(name, _)| *name == word).map_or(word, |(_, real)| real));
    Some(std::iter::once("hookgate").chain(words).collect::<Vec<_>>().join(" "))
}

/// A line for everything in which an example differs from the real document, and for each of that
/// one's fields that the page does not name.
pub fn unlike(page: &Page, at: &str, example: &Value, real: &str) -> Vec<String> {
    let real: Value = match serde_json::from_str(real) {
        Ok(real) => real,
        Err(e) => return vec![format!("{at}: the real document is no JSON: {e}")],
    };
    let mut findings: Vec<String> =
        shape::missing(example, &real).into_iter().map(|what| format!("{at}: {what}")).collect();
    let quoted = |name: &str| format!("\"{name}\"");
    let is_named = |name: &&str| {
        let in_example = page.blocks.iter().any(|block| block.text.contains(&quoted(name)));
        in_example
            || page.code.iter().any(|piece| piece.text.split(['.', '[', ' ']).any(|word| word == *name))
    };
    let unnamed = shape::fields(&real).into_iter().filter(|name| !is_named(name));
    findings.extend(unnamed.map(|name| format!("{at}: the page does not say what `{name}` is")));
    findings
}
