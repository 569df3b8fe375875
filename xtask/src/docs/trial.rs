//! A page's blocks, each tried in the way of its language.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::markdown::{Block, Page};
use super::places::{self, Place};
use super::scene::Scene;
use super::{Report, configuration, metrics, shape};

/// What stands for something in commands of headings, and what is put in its place.
const STAND_INS: [(&str, &str); 3] = [
    ("HOST", "chatwoot.example.com"),
    ("IP", "157.240.1.1"),
    ("URL", "https://proxy.example.com/chatwoot.example.com/webhooks/whatsapp"),
];

/// Tries a page's blocks; without `can_try`, only looks at them.
///
/// # Errors
/// There is no machine to try them on.
pub fn of(page: &Page, binary: &Path, can_try: bool, report: &mut Report) -> Result<()> {
    let mut scene = Scene::new()?;
    let (mut steps, mut examples) = (0, Vec::new());
    let named = |block: &Block| format!("{}:{}", page.path, block.line);
    // What is checked comes before what is run.
    let (later, first): (Vec<&Block>, Vec<&Block>) =
        page.blocks.iter().partition(|block| matches!(&*block.language, "sh" | "json"));
    for block in first.into_iter().chain(later) {
        let at = named(block);
        match places::of(&block.marks) {
            Place::Here => {}
            Place::Elsewhere(place) => {
                report.elsewhere[place] += 1;
                continue;
            }
            Place::Unknown(mark) => {
                report.findings.push(format!("{at}: unknown mark: {mark}"));
                continue;
            }
        }
        match &*block.language {
            "text" => continue,
            "toml" => match configuration::whole(&block.text) {
                Ok(whole) => scene.configuration(&at, &whole)?,
                Err(e) => {
                    report.findings.push(format!("{at}: {e}"));
                    continue;
                }
            },
            "nginx" => scene.nginx(&at, &block.text)?,
            "sh" => scene.commands(&at, &block.text)?,
            "json" => match (serde_json::from_str::<Value>(&block.text), document(&block.heading)) {
                (Ok(example), Some(command)) => {
                    examples.push((at.clone(), example, scene.document(&at, &command)))
                }
                (Ok(_), None) => {
                    report.findings.push(format!("{at}: its heading names no command that prints it"));
                    continue;
                }
                (Err(e), _) => {
                    report.findings.push(format!("{at}: {e}"));
                    continue;
                }
            },
            other => {
                report
                    .findings
                    .push(format!("{at}: a block is toml, sh, json, nginx or text, not {other:?}"));
                continue;
            }
        }
        steps += 1;
    }
    let metrics = (page.path == metrics::PAGE).then(|| {
        steps += 1;
        scene.document(metrics::PAGE, "curl -s http://127.0.0.1:9432/metrics")
    });
    if steps == 0 {
        return Ok(());
    }
    if !can_try {
        report.skipped += steps;
        return Ok(());
    }
    let seen = scene.run(binary, |read| {
        let mut findings = Vec::new();
        for (at, example, file) in &examples {
            findings.extend(unlike(page, at, example, &read(file)?));
        }
        if let Some(file) = &metrics {
            findings.extend(metrics::unlike(page, &read(file)?));
        }
        Ok(findings)
    });
    let seen = seen.with_context(|| page.path.clone())?;
    report.tried += seen.passed;
    report.findings.extend(seen.findings);
    Ok(())
}

/// The command that prints the document under a heading such as "`hookgate stats --json`".
fn document(heading: &str) -> Option<String> {
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

/// How an example differs from the real document, and which of that one's fields the page does not name.
fn unlike(page: &Page, at: &str, example: &Value, real: &str) -> Vec<String> {
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
