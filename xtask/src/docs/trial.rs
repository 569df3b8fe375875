//! A page's blocks, each tried in the way of its language.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::markdown::{Block, Page};
use super::places::{self, Place};
use super::report::Report;
use super::testbed::{Seen, Testbed};
use super::{configuration, documents, metrics};

/// A page, and the machine on which it will be tried.
struct Trial<'p> {
    page: &'p Page,
    testbed: Testbed,
    examples: Vec<Example>,
}

/// An example of a document, and where the real one will lie.
struct Example {
    at: String,
    text: Value,
    real: String,
}

/// Tries a page's blocks; without `can_try`, only looks at them.
///
/// # Errors
/// There is no machine to try them on.
pub fn of(page: &Page, binary: &Path, can_try: bool, report: &mut Report) -> Result<()> {
    let mut trial = Trial { page, testbed: Testbed::new()?, examples: Vec::new() };
    // What is checked comes before what is run.
    let (later, first): (Vec<&Block>, Vec<&Block>) =
        page.blocks.iter().partition(|block| matches!(&*block.language, "sh" | "json"));
    for block in first.into_iter().chain(later) {
        let at = format!("{}:{}", page.path, block.line);
        match places::of(&block.marks) {
            Place::Here => {
                report.findings.extend(trial.add(&at, block)?.map(|fault| format!("{at}: {fault}")))
            }
            Place::Elsewhere(place) => report.elsewhere[place] += 1,
            Place::Unknown(mark) => report.findings.push(format!("{at}: unknown mark: {mark}")),
        }
    }
    let shows_metrics = page.path == metrics::PAGE;
    let metrics =
        shows_metrics.then(|| trial.testbed.document(metrics::PAGE, "curl -s http://127.0.0.1:9432/metrics"));
    if !can_try {
        report.skipped += trial.testbed.len();
        return Ok(());
    }
    if trial.testbed.len() > 0 {
        let seen = trial.run(binary, metrics.as_deref()).with_context(|| page.path.clone())?;
        report.tried += seen.passed;
        report.findings.extend(seen.findings);
    }
    Ok(())
}

impl Trial<'_> {
    /// Adds a block to what will be tried, or says what is wrong with it.
    fn add(&mut self, at: &str, block: &Block) -> Result<Option<String>> {
        match &*block.language {
            "text" => {}
            "toml" => match configuration::whole(&block.text) {
                Ok(whole) => self.testbed.configuration(at, &whole)?,
                Err(e) => return Ok(Some(e.to_string())),
            },
            "nginx" => self.testbed.nginx(at, &block.text)?,
            "sh" => self.testbed.commands(at, &block.text)?,
            "json" => match (serde_json::from_str(&block.text), documents::command(&block.heading)) {
                (Ok(text), Some(command)) => {
                    let real = self.testbed.document(at, &command);
                    self.examples.push(Example { at: at.to_owned(), text, real });
                }
                (Ok(_), None) => return Ok(Some("its heading names no command that prints it".to_owned())),
                (Err(e), _) => return Ok(Some(e.to_string())),
            },
            other => return Ok(Some(format!("a block is toml, sh, json, nginx or text, not {other:?}"))),
        }
        Ok(None)
    }

    /// `metrics`: where those that the proxy shows will lie.
    fn run(self, binary: &Path, metrics: Option<&str>) -> Result<Seen> {
        let Self { page, testbed, examples } = self;
        testbed.run(binary, |read| {
            let mut findings = Vec::new();
            for Example { at, text, real } in &examples {
                findings.extend(documents::unlike(page, at, text, &read(real)?));
            }
            if let Some(shown) = metrics {
                findings.extend(metrics::unlike(page, &read(shown)?));
            }
            Ok(findings)
        })
    }
}
