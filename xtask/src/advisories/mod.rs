//! Known vulnerabilities of the crates in Cargo.lock, by an excerpt of the RustSec advisory
//! database.
//!
//! cargo-deny and cargo-audit fetch the whole database at each run. The excerpt is in the
//! repository instead, so that the check needs no network and gives the same answer everywhere.
//! What it cannot know of is what was published since.

mod excerpt;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use harness_core::Workspace;
use semver::Version;
use toml::de::DeTable;

use excerpt::{Excerpt, day_number, text_of};

const DATABASE: &str = "https://github.com/RustSec/advisory-db";
const EXCERPT: &str = "xtask/advisories.toml";
const SECONDS_PER_DAY: u64 = 24 * 3600;

/// Writes xtask/advisories.toml anew from the RustSec advisory database
#[derive(clap::Args)]
pub struct Args {
    /// A clone of the database; without it one is fetched
    #[arg(long, value_name = "FOLDER")]
    database: Option<PathBuf>,
}

pub fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let database = match &args.database {
        Some(folder) => folder.clone(),
        None => fetch(workspace)?,
    };
    let names = locked(workspace)?.into_iter().map(|(name, _)| name).collect();
    let excerpt = Excerpt::of(&database, names)?;
    std::fs::write(workspace.root.join(EXCERPT), excerpt.to_string()).context("writing the excerpt")?;
    let findings = findings(workspace)?;
    findings.iter().for_each(|finding| eprintln!("{finding}"));
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A line for every crate that an advisory covers or that the excerpt was not made for. Says how
/// old the excerpt is.
///
/// # Errors
/// The excerpt, Cargo.lock or deny.toml can't be read.
pub fn findings(workspace: &Workspace) -> Result<Vec<String>> {
    let excerpt = Excerpt::parse(&read(workspace, EXCERPT)?).context(EXCERPT)?;
    let report = check(&excerpt, &locked(workspace)?, &ignored(&read(workspace, "deny.toml")?)?);
    report.notes.iter().for_each(|note| eprintln!("xtask: {note}"));
    let today = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() / SECONDS_PER_DAY;
    let age = i64::try_from(today)? - day_number(&excerpt.state).with_context(|| excerpt.state.clone())?;
    eprintln!(
        "xtask: {} crates held against {} advisories as of {}, {age} days ago (cargo xtask advisories)",
        excerpt.looked_up.len(),
        excerpt.advisories.len(),
        excerpt.state
    );
    Ok(report.findings)
}

#[derive(Default)]
struct Report {
    findings: Vec<String>,
    /// What is worth knowing and no fault.
    notes: Vec<String>,
}

fn check(excerpt: &Excerpt, locked: &[(String, Version)], ignored: &BTreeSet<String>) -> Report {
    let mut report = Report::default();
    let mut unused = ignored.clone();
    for (name, version) in locked {
        if !excerpt.looked_up.contains(name) {
            let remedy = "cargo xtask advisories";
            report.findings.push(format!("{name}: {EXCERPT} was made without this crate; run: {remedy}"));
        }
        let advisories = excerpt.advisories.iter().filter(|advisory| advisory.covers(name, version));
        for advisory in advisories.filter(|advisory| !unused.remove(&advisory.id)) {
            let line = format!("{name} {version}: {advisory}");
            if ignored.contains(&advisory.id) {
                continue;
            }
            if advisory.is_a_fault() { &mut report.findings } else { &mut report.notes }.push(line);
        }
    }
    let unused =
        unused.iter().map(|id| format!("deny.toml ignores {id}, which covers nothing in Cargo.lock"));
    report.findings.extend(unused);
    report
}

/// Name and version of every crate in Cargo.lock that comes from a registry.
fn locked(workspace: &Workspace) -> Result<Vec<(String, Version)>> {
    packages(&read(workspace, "Cargo.lock")?)
}

fn packages(lock: &str) -> Result<Vec<(String, Version)>> {
    let lock = DeTable::parse(lock).context("Cargo.lock")?;
    let packages = lock.get_ref().get("package").and_then(|packages| packages.get_ref().as_array());
    let packages = packages.context("Cargo.lock without packages")?.iter();
    let tables = packages.filter_map(|package| package.get_ref().as_table());
    let foreign = tables.filter(|package| package.contains_key("source"));
    foreign.map(|package| Ok((text_of(package, "name")?, text_of(package, "version")?.parse()?))).collect()
}

/// The advisories that deny.toml accepts, each with a reason. The list is cargo-deny's own.
fn ignored(rules: &str) -> Result<BTreeSet<String>> {
    let rules = DeTable::parse(rules).context("deny.toml")?;
    let list = rules.get_ref().get("advisories").and_then(|section| section.get_ref().get("ignore"));
    let list =
        list.and_then(|list| list.get_ref().as_array()).context("deny.toml without advisories.ignore")?;
    let entry = |entry: &toml::Spanned<toml::de::DeValue<'_>>| {
        let entry =
            entry.get_ref().as_table().context("advisories.ignore: { id = …, reason = … } is meant")?;
        ensure!(!text_of(entry, "reason")?.is_empty(), "advisories.ignore: an empty reason");
        text_of(entry, "id")
    };
    list.iter().map(entry).collect()
}

fn read(workspace: &Workspace, path: &str) -> Result<String> {
    std::fs::read_to_string(workspace.root.join(path)).with_context(|| format!("reading {path}"))
}

/// The database's newest state.
fn fetch(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.target.join("advisory-db");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).context("removing the former clone")?;
    }
    let mut git = Command::new("git");
    git.env("GIT_TERMINAL_PROMPT", "0").args(["clone", "--quiet", "--depth", "1", DATABASE]).arg(&folder);
    harness_core::run(git).context("the database can't be fetched; with a clone of it: --database FOLDER")?;
    Ok(folder)
}
