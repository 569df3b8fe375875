//! Whether what the pages say is so: every configuration in them goes through `hookgate check`, every command is run, links
//! lead somewhere, options and keys exist, and examples of documents have the fields of the real ones.

mod configuration;
mod interface;
mod links;
mod markdown;
mod places;
mod scene;
mod shape;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::CommandFactory as _;
use serde_json::Value;

use crate::build::{self, Profile};
use crate::tally::Tally;
use crate::workspace::{Workspace, is_root};
use configuration::Keys;
use interface::Interface;
use markdown::{Block, Page};
use places::{PLACES, Place};
use scene::Scene;

/// What stands for something in commands of headings, and what is put in its place.
const STAND_INS: [(&str, &str); 3] = [
    ("HOST", "chatwoot.example.com"),
    ("IP", "157.240.1.1"),
    ("URL", "https://proxy.example.com/chatwoot.example.com/webhooks/whatsapp"),
];

pub fn main(workspace: &Workspace) -> Result<ExitCode> {
    let built = build::both(workspace, Profile::Dev)?;
    let mut tally = Tally::default();
    check(workspace, &built.binary, &mut tally)?;
    Ok(tally.verdict())
}

/// Checks all pages, and says how much was tried here and what is tried elsewhere.
///
/// # Errors
/// The pages can't be read, or there is no machine to try them on.
pub fn check(workspace: &Workspace, binary: &Path, tally: &mut Tally) -> Result<()> {
    let pages = pages(&workspace.root)?;
    let report = findings(&workspace.root, binary, &pages)?;
    tally.add("docs", &report.findings);
    println!("docs: {} snippets and blocks of commands tried here", report.tried);
    for ((mark, by), count) in PLACES.iter().zip(report.elsewhere).filter(|(_, count)| *count > 0) {
        println!("docs: {count} more blocks ({mark}) are run {by}");
    }
    if report.skipped > 0 {
        tally.skip(format!("docs: {} snippets and blocks of commands need root", report.skipped));
    }
    Ok(())
}

#[derive(Default)]
struct Report {
    findings: Vec<String>,
    tried: usize,
    skipped: usize,
    /// In the order of [`PLACES`].
    elsewhere: [usize; PLACES.len()],
}

fn pages(root: &Path) -> Result<Vec<Page>> {
    let docs = std::fs::read_dir(root.join("docs")).context("reading docs")?;
    let mut paths = vec!["README.md".to_owned(), "ARCHITECTURE.md".to_owned(), "CONTRIBUTING.md".to_owned()];
    for entry in docs {
        paths.push(format!("docs/{}", entry?.file_name().to_string_lossy()));
    }
    paths.retain(|path| path.ends_with(".md"));
    paths.sort();
    let page = |path: &String| {
        let text = std::fs::read_to_string(root.join(path)).with_context(|| path.clone())?;
        Ok(Page::parse(path, &text))
    };
    paths.iter().map(page).collect()
}

fn findings(root: &Path, binary: &Path, pages: &[Page]) -> Result<Report> {
    let words = Words {
        hookgate: Interface::of_hookgate(binary)?,
        xtask: Interface::of(&crate::Command::command()),
        keys: Keys::read(root)?,
    };
    let mut report = Report { findings: links::findings(root, pages), ..Report::default() };
    for page in pages {
        report.findings.extend(words.findings(page));
        tried(page, binary, &mut report)?;
    }
    Ok(report)
}

/// The words that pages may use for what exists.
struct Words {
    hookgate: Interface,
    xtask: Interface,
    keys: Keys,
}

impl Words {
    fn findings(&self, page: &Page) -> Vec<String> {
        let in_text = page.code.iter().filter_map(|piece| Some((piece.line, self.fault(&piece.text)?)));
        let mut findings: Vec<String> =
            in_text.map(|(line, fault)| format!("{}:{line}: {fault}", page.path)).collect();
        for block in page.blocks.iter().filter(|block| block.language == "sh") {
            let text = block.text.replace("\\\n", " ");
            let lines = text.lines().map(|line| line.split(" #").next().unwrap_or(line).trim());
            let faults = lines.filter_map(|line| self.fault(line));
            findings.extend(faults.map(|fault| format!("{}:{}: {fault}", page.path, block.line)));
        }
        findings.extend(self.keys.findings(page));
        findings
    }

    /// What is wrong with a command line, if it is one of ours, or with an option by itself.
    fn fault(&self, text: &str) -> Option<String> {
        let line = text.strip_prefix("sudo ").unwrap_or(text);
        let line = line.split(['|', '>', ';', '&']).next().unwrap_or(line);
        if let Some(rest) = line.strip_prefix("hookgate ") {
            return self.hookgate.fault(rest);
        }
        if let Some(rest) = line.strip_prefix("cargo xtask ") {
            return self.xtask.fault(rest);
        }
        let option = line.split([' ', '=']).next().filter(|word| word.starts_with("--") && word.len() > 2)?;
        let known = self.hookgate.knows_option(option) || self.xtask.knows_option(option);
        (!known).then(|| format!("no command has an option {option}"))
    }
}

/// Tries a page's blocks.
fn tried(page: &Page, binary: &Path, report: &mut Report) -> Result<()> {
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
    if steps == 0 {
        return Ok(());
    }
    if !is_root() {
        report.skipped += steps;
        return Ok(());
    }
    let seen = scene.run(binary, |read| {
        let mut findings = Vec::new();
        for (at, example, file) in &examples {
            findings.extend(unlike(page, at, example, &read(file)?));
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
