//! What dependencies may be, by the lists in deny.toml (which cargo-deny reads too).

use anyhow::{Context, Result, ensure};
use harness_core::Workspace;
use serde_json::Value;
use toml::de::DeTable;

/// # Errors
/// deny.toml or cargo's metadata can't be read.
pub fn findings(workspace: &Workspace) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(workspace.root.join("deny.toml")).context("reading deny.toml")?;
    let rules = DeTable::parse(&text).context("deny.toml")?;
    let list = |section: &str, key: &str| {
        let list = rules.get_ref().get(section)?.get_ref().get(key)?.get_ref().as_array()?;
        Some(list.iter().filter_map(|item| item.get_ref().as_str().map(str::to_owned)).collect::<Vec<_>>())
    };
    let allowed = list("licenses", "allow").context("deny.toml without licenses.allow")?;
    let registries = list("sources", "allow-registry").context("deny.toml without sources.allow-registry")?;

    let mut findings = Vec::new();
    for package in workspace.packages()? {
        let text = |key: &str| package.get(key).and_then(Value::as_str);
        let name = format!("{} {}", text("name").unwrap_or("?"), text("version").unwrap_or("?"));
        let Some(source) = text("source") else { continue }; // our own
        if !registries.iter().any(|registry| source.strip_prefix("registry+") == Some(registry)) {
            findings.push(format!("{name}: comes from {source}, which deny.toml does not allow"));
        }
        match text("license").map(Expression::parse) {
            None => findings.push(format!("{name}: names no licence")),
            Some(Err(e)) => findings.push(format!("{name}: {e:#}")),
            Some(Ok(licence)) if !licence.allowed(&allowed) => {
                findings.push(format!(
                    "{name}: its licence ({}) is not among deny.toml's",
                    text("license").unwrap_or("?")
                ));
            }
            Some(Ok(_)) => {}
        }
    }
    Ok(findings)
}

/// An SPDX expression: `MIT OR (Apache-2.0 WITH LLVM-exception AND BSD-3-Clause)`.
pub enum Expression {
    Licence(String),
    Any(Vec<Self>),
    All(Vec<Self>),
}

impl Expression {
    pub fn parse(text: &str) -> Result<Self> {
        // Crates from before SPDX write MIT/Apache-2.0.
        let spaced = text.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
        let mut words = spaced.split_whitespace().peekable();
        let expression = any(&mut words).with_context(|| format!("reading the licence `{text}`"))?;
        ensure!(words.next().is_none(), "reading the licence `{text}`: something is left over");
        Ok(expression)
    }

    pub fn allowed(&self, list: &[String]) -> bool {
        match self {
            Self::Licence(name) => list.contains(name),
            Self::Any(parts) => parts.iter().any(|part| part.allowed(list)),
            Self::All(parts) => parts.iter().all(|part| part.allowed(list)),
        }
    }
}

type Words<'a, 'b> = &'a mut std::iter::Peekable<std::str::SplitWhitespace<'b>>;

/// OR binds least.
fn any(words: Words<'_, '_>) -> Result<Expression> {
    let mut parts = vec![all(words)?];
    while words.next_if_eq(&"OR").is_some() {
        parts.push(all(words)?);
    }
    Ok(Expression::Any(parts))
}

fn all(words: Words<'_, '_>) -> Result<Expression> {
    let mut parts = vec![one(words)?];
    while words.next_if_eq(&"AND").is_some() {
        parts.push(one(words)?);
    }
    Ok(Expression::All(parts))
}

fn one(words: Words<'_, '_>) -> Result<Expression> {
    let word = words.next().context("a licence is missing")?;
    if word == "(" {
        let inside = any(words)?;
        ensure!(words.next() == Some(")"), "a parenthesis is not closed");
        return Ok(inside);
    }
    ensure!(!["OR", "AND", "WITH", ")"].contains(&word), "`{word}` where a licence should be");
    match words.next_if_eq(&"WITH") {
        Some(_) => Ok(Expression::Licence(format!("{word} WITH {}", words.next().context("WITH what?")?))),
        None => Ok(Expression::Licence(word.to_owned())),
    }
}
