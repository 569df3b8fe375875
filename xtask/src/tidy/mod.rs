//! House rules as code: which module may use which, where `unsafe` may stand, what dependencies may
//! be and which of them are known to be vulnerable, plain English, and no files in the worker.

mod circles;
mod isolation;
mod language;
mod layers;
mod licences;
mod modules;
mod paths;
mod ratchet;
mod source;

use std::io;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use harness_core::Workspace;

use crate::advisories;
use crate::fuzz::planted;
use circles::Found;
use language::{GLOSSARY, Glossary};
use ratchet::{Hit, Ratchet, Rule};
use source::SourceFile;

/// The only homes of `unsafe`: user space's system calls, the shared layouts, and the kernel's
/// programs.
const UNSAFE_HOMES: [&str; 4] =
    ["proxy/src/sys/", "proxy-ebpf/src/abi.rs", "proxy-ebpf/src/main.rs", "proxy-ebpf/src/program/"];
/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 3] = ["utils", "common", "helpers"];
const MAX_FILE_LINES: usize = 500;

/// Looks for what is against the house rules
#[derive(clap::Args)]
pub struct Args {
    /// Write how little is left of what newer rules forbid to xtask/src/tidy/ratchet.toml
    #[arg(long)]
    lower: bool,
}

pub fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    if args.lower {
        lower(workspace)?;
    }
    let findings = findings(workspace)?;
    findings.iter().for_each(|finding| eprintln!("{finding}"));
    if findings.is_empty() {
        eprintln!("tidy");
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}

/// A line for everything that is against the rules.
///
/// # Errors
/// The repository can't be read.
pub fn findings(workspace: &Workspace) -> Result<Vec<String>> {
    let texts = texts(workspace)?;
    let mut findings = Vec::new();
    for (path, text) in &texts {
        findings.extend(machine_paths(workspace, path, text));
    }
    let files = sources(&texts)?;
    findings.extend(files.iter().flat_map(in_source));
    let (hits, circles) = left(workspace, &files)?;
    let ratchet = ratchet(workspace)?.with_context(|| format!("there is no {}", ratchet::FILE))?;
    findings.extend(ratchet.findings(&hits, &circles));
    findings.extend(licences::findings(workspace)?);
    findings.extend(advisories::findings(workspace)?);
    findings.extend(planted::stale(workspace)?);
    findings.extend(cargo_deny(workspace));
    Ok(findings)
}

/// Writes what is left to ratchet.toml; all that there is, if there is no such file.
fn lower(workspace: &Workspace) -> Result<()> {
    let texts = texts(workspace)?;
    let (hits, circles) = left(workspace, &sources(&texts)?)?;
    let left = Ratchet::of(&hits, &circles);
    let lowered = ratchet(workspace)?.map_or(left.clone(), |ratchet| ratchet.lowered(&left));
    let path = workspace.root.join(ratchet::FILE);
    std::fs::write(&path, lowered.text()).with_context(|| format!("writing {}", path.display()))
}

fn ratchet(workspace: &Workspace) -> Result<Option<Ratchet>> {
    match std::fs::read_to_string(workspace.root.join(ratchet::FILE)) {
        Ok(text) => Ratchet::parse(&text).map(Some),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).context(ratchet::FILE),
    }
}

/// What is left of what the rules with a ratchet forbid.
fn left(workspace: &Workspace, files: &[SourceFile<'_>]) -> Result<(Vec<Hit>, Vec<Found>)> {
    let glossary = std::fs::read_to_string(workspace.root.join(GLOSSARY)).context(GLOSSARY)?;
    let glossary = Glossary::parse(&glossary)?;
    let of_file = |file: &SourceFile<'_>| [glossary.hits(file), isolation::hits(file), long(file)];
    let hits = files.iter().flat_map(of_file).flatten();
    Ok((hits.collect(), circles::find(files)))
}

/// Path and text of every file of the repository that is text.
fn texts(workspace: &Workspace) -> Result<Vec<(String, String)>> {
    let read = |path: String| Some((std::fs::read_to_string(workspace.root.join(&path)).ok()?, path));
    Ok(tracked(workspace)?.into_iter().filter_map(read).map(|(text, path)| (path, text)).collect())
}

fn sources(texts: &[(String, String)]) -> Result<Vec<SourceFile<'_>>> {
    let rust = texts.iter().filter(|(path, _)| path.ends_with(".rs"));
    rust.map(|(path, text)| SourceFile::parse(path, text)).collect()
}

/// What git knows, and what it will once it is added.
fn tracked(workspace: &Workspace) -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    git.current_dir(&workspace.root);
    let files = harness_core::run(git).context("tidy needs git to list the repository's files")?;
    Ok(files.split_terminator('\0').map(str::to_owned).collect())
}

fn in_source(file: &SourceFile<'_>) -> Vec<String> {
    let mut findings = layers::findings(file);
    let at_home = UNSAFE_HOMES.iter().any(|home| file.path.starts_with(home));
    if !at_home {
        let homes = UNSAFE_HOMES.join(", ");
        let tokens = file.tokens.iter().filter(|token| token.text == "unsafe");
        findings
            .extend(tokens.map(|token| format!("{}:{}: unsafe belongs into {homes}", file.path, token.line)));
    }
    let named = Path::new(file.path).components().map(|part| part.as_os_str().to_string_lossy());
    for name in named.map(|part| part.trim_end_matches(".rs").to_owned()) {
        if EMPTY_NAMES.contains(&name.as_str()) {
            findings.push(format!("{}: a module called {name} says nothing about what is inside", file.path));
        }
    }
    findings
}

/// A long file has more than one subject.
fn long(file: &SourceFile<'_>) -> Vec<Hit> {
    let SourceFile { path, length, .. } = file;
    let hit = || Hit {
        rule: Rule::LongFiles,
        path: (*path).to_owned(),
        line: *length,
        what: format!("a file of {length} lines: {MAX_FILE_LINES} at most"),
    };
    (*length > MAX_FILE_LINES).then(hit).into_iter().collect()
}

/// Nothing in the repository may know where this clone lies, or who works here.
fn machine_paths(workspace: &Workspace, path: &str, text: &str) -> Vec<String> {
    let root = workspace.root.to_string_lossy().into_owned();
    let user_home = std::env::var("HOME").ok().filter(|home| home.starts_with("/home/"));
    let ours = [Some(root), user_home].into_iter().flatten().collect::<Vec<_>>();
    let found =
        text.lines().zip(1..).filter(|(line, _)| ours.iter().any(|ours| line.contains(ours.as_str())));
    found.map(|(_, number)| format!("{path}:{number}: a path of this machine")).collect()
}

/// The rules for licences and sources again, and wildcards, by a tool that not everybody has. Known
/// vulnerabilities are not its business here: it would fetch their database.
fn cargo_deny(workspace: &Workspace) -> Option<String> {
    let mut version = workspace.cargo();
    version.args(["deny", "--version"]);
    harness_core::run(version).ok()?;
    let mut deny = workspace.cargo();
    deny.args(["deny", "--offline", "check", "licenses", "sources", "bans"]);
    harness_core::run(deny).err().map(|e| format!("{e:#}"))
}

#[cfg(test)]
mod tests;
