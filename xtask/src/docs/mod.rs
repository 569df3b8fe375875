//! Whether what the pages say is so: every configuration in them goes through `hookgate check`,
//! every command is run, links lead somewhere, options and keys exist, and examples of documents
//! have the fields of the real ones.

mod configuration;
mod documents;
mod interface;
mod known_names;
mod links;
mod markdown;
mod metrics;
mod places;
mod report;
mod shape;
mod testbed;
#[cfg(test)]
mod tests;
mod trial;

use std::collections::HashSet;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use harness_core::{Workspace, is_root};

use crate::bench;
use crate::build::{self, Built, Profile};
use crate::setup::{self, Purpose};
use crate::test_summary::TestSummary;
use known_names::KnownNames;
use markdown::{Block, Page};
use places::PLACES;
use report::Report;

/// `xtask`: our own command line, which pages name.
///
/// # Errors
/// As [`check`].
pub fn main(workspace: &Workspace, xtask: &clap::Command) -> Result<ExitCode> {
    if let Err(e) = setup::install_missing(Purpose::Tests) {
        eprintln!("xtask: {e:#}");
    }
    let built = build::both(workspace, Profile::Dev)?;
    let mut summary = TestSummary::default();
    check(workspace, &built, xtask, &mut summary)?;
    Ok(summary.verdict())
}

/// Checks all pages, and says how much was tried here and what is tried elsewhere.
///
/// # Errors
/// The pages can't be read, or there is no machine to try them on.
pub fn check(
    workspace: &Workspace,
    built: &Built,
    xtask: &clap::Command,
    summary: &mut TestSummary,
) -> Result<()> {
    let pages = pages(&workspace.root)?;
    let can_try = is_root() && built.guard_missing.is_none();
    let names = KnownNames::read(&workspace.root, &built.binary, xtask, &bench::help(workspace)?)?;
    let report = findings(&workspace.root, &built.binary, &names, &pages, can_try)?;
    summary.add("docs", &report.findings);
    println!("docs: {} snippets and blocks of commands tried here", report.tried);
    for ((mark, by), count) in PLACES.iter().zip(report.elsewhere).filter(|(_, count)| *count > 0) {
        println!("docs: {count} more blocks ({mark}) are run {by}");
    }
    if report.skipped > 0 {
        summary.skip(format!("docs: {} snippets and blocks need root and the guard", report.skipped));
    }
    Ok(())
}

/// A script that types every block that needs the package, in the words of the package's tests.
///
/// # Errors
/// The pages can't be read.
pub fn for_package(workspace: &Workspace) -> Result<String> {
    let mut script = include_str!("package.sh").to_owned();
    let mut typed = HashSet::new();
    for page in pages(&workspace.root)? {
        let mut configuration = "";
        for block in &page.blocks {
            if block.language == "toml" {
                configuration = &block.text;
            }
            let is_for_it = block.marks == ["needs=package"];
            // Pages may begin with the same words.
            if is_for_it && typed.insert(block.text.clone()) {
                let name = page.path.trim_end_matches(".md").replace(['/', '.'], "_");
                script += &format!(
                    "mkdir /run/typed\ncat >/run/typed/hookgate.toml <<'EOF'\n{configuration}EOF\n\
                     cat >/run/typed/block <<'EOF'\n{}EOF\ntyped {name}_{}\n",
                    block.text, block.line
                );
            }
        }
    }
    Ok(script)
}

/// The blocks with that mark, by names that are made of page and heading, and numbered where a
/// heading has several: `install_upgrading_2`.
///
/// # Errors
/// The pages can't be read.
pub fn marked(workspace: &Workspace, mark: &str) -> Result<Vec<(String, String)>> {
    let mut marked = Vec::new();
    for page in pages(&workspace.root)? {
        let blocks: Vec<_> = page.blocks.iter().filter(|block| block.marks == [mark]).collect();
        let stem = page.path.trim_start_matches("docs/").trim_end_matches(".md").to_lowercase();
        for (at, block) in blocks.iter().enumerate() {
            let heading = block.heading.to_lowercase();
            let words = heading.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
            let heading = words.collect::<Vec<_>>().join("_");
            let is_same = |other: &&&Block| other.heading == block.heading;
            let number = if blocks.iter().filter(is_same).count() == 1 {
                String::new()
            } else {
                format!("_{}", blocks[..=at].iter().filter(is_same).count())
            };
            marked.push((format!("{stem}_{heading}{number}"), block.text.clone()));
        }
    }
    Ok(marked)
}

fn pages(root: &Path) -> Result<Vec<Page>> {
    let docs = std::fs::read_dir(root.join("docs")).context("reading docs")?;
    let root_pages = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"];
    let mut paths = root_pages.map(str::to_owned).to_vec();
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

/// `can_try`: this machine lets another one be made on it.
fn findings(root: &Path, binary: &Path, names: &KnownNames, pages: &[Page], can_try: bool) -> Result<Report> {
    let mut report = Report { findings: links::findings(root, pages), ..Report::default() };
    report.findings.extend(metrics::unknown(pages));
    for page in pages {
        report.findings.extend(names.findings(page));
        trial::of(page, binary, can_try, &mut report)?;
    }
    Ok(report)
}
