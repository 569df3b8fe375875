//! The commit that is built: what is shipped is dated and named after it.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use harness_core::Workspace;

/// When the sources were committed, in seconds since 1970: what every file that is shipped is
/// dated.
///
/// # Errors
/// There is no git, or no repository.
pub fn date(workspace: &Workspace) -> Result<u64> {
    last(workspace, "%ct")?.parse().context("the date of the last commit")
}

/// The commit's id.
///
/// # Errors
/// As [`date`].
pub fn id(workspace: &Workspace) -> Result<String> {
    last(workspace, "%H")
}

/// # Errors
/// Something is not committed, or as [`date`].
pub fn ensure_clean(workspace: &Workspace) -> Result<()> {
    let mut status = git(workspace);
    status.args(["status", "--porcelain"]);
    let changes = harness_core::run(status)?;
    ensure!(changes.is_empty(), "what is not committed would be left out; commit it first:\n{changes}");
    Ok(())
}

/// git, in the root of the workspace.
pub fn git(workspace: &Workspace) -> Command {
    let mut git = Command::new("git");
    git.args(["-c", "safe.directory=*"]).current_dir(&workspace.root);
    git
}

fn last(workspace: &Workspace, format: &str) -> Result<String> {
    let mut log = git(workspace);
    log.args(["log", "-1", &format!("--format={format}")]);
    Ok(harness_core::run(log)?.trim().to_owned())
}
