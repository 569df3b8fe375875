//! House rules as code: who may use whom, where `unsafe` may stand, what dependencies may be, which of them are known to
//! be vulnerable.

mod layers;
mod licences;
mod source;

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use harness_core::Workspace;

use crate::advisories;
use crate::fuzz::planted;
use source::SourceFile;

/// The only homes of `unsafe`: user space's system calls, the shared layouts, and the kernel's programs.
const UNSAFE_HOMES: [&str; 4] =
    ["proxy/src/sys/", "proxy-ebpf/src/abi.rs", "proxy-ebpf/src/main.rs", "proxy-ebpf/src/program/"];
/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 3] = ["utils", "common", "helpers"];

pub fn main(workspace: &Workspace) -> Result<ExitCode> {
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
    let mut findings = Vec::new();
    for path in tracked(workspace)? {
        let Ok(text) = std::fs::read_to_string(workspace.root.join(&path)) else { continue }; // not text, or deleted
        findings.extend(machine_paths(workspace, &path, &text));
        if path.ends_with(".rs") {
            findings.extend(in_source(&SourceFile::new(&path, &text)));
        }
    }
    findings.extend(licences::findings(workspace)?);
    findings.extend(advisories::findings(workspace)?);
    findings.extend(planted::stale(workspace)?);
    findings.extend(cargo_deny(workspace));
    Ok(findings)
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
        let lines = file.source.words("unsafe");
        findings.extend(lines.map(|line| format!("{}:{line}: unsafe belongs into {homes}", file.path)));
    }
    let named = Path::new(file.path).components().map(|part| part.as_os_str().to_string_lossy());
    for name in named.map(|part| part.trim_end_matches(".rs").to_owned()) {
        if EMPTY_NAMES.contains(&name.as_str()) {
            findings.push(format!("{}: a module called {name} says nothing about what is inside", file.path));
        }
    }
    findings
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

/// The rules for licences and sources again, and wildcards, by a tool that not everybody has. Known vulnerabilities are
/// not its business here: it would fetch their database.
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
