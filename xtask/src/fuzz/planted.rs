//! A fuzzer that finds nothing may be blind: each target has to find bugs that were put there for it.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::{Fuzzer, Outcome};
use crate::workspace::Workspace;

/// Applies each of the targets' patches to a copy of the tree in turn, and looks for `seconds` for what it broke.
pub fn main(workspace: &Workspace, targets: &[String], seconds: u32) -> Result<ExitCode> {
    let mut missed = 0;
    for target in targets {
        for patch in patches(workspace, target)? {
            let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let tree = Tree::copy(workspace)?;
            tree.apply(&patch)?;
            // What an earlier search has found would make this one easy.
            let fuzzer = Fuzzer::build(&tree.root, &workspace.target.join("fuzz"))?.working_in(tree.fresh()?);
            let begun = Instant::now();
            match fuzzer.search(target, seconds)? {
                Outcome::Nothing => {
                    missed += 1;
                    println!("{name}: MISSED in {seconds} s");
                }
                Outcome::Found { why, .. } => {
                    let first = why.lines().next().unwrap_or_default();
                    println!("{name}: found in {:.1} s: {first}", begun.elapsed().as_secs_f32());
                }
            }
        }
    }
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A line for every patch that the tree has moved away from.
pub fn stale(workspace: &Workspace) -> Result<Vec<String>> {
    let mut stale = Vec::new();
    for target in super::targets(&workspace.root)? {
        for patch in patches(workspace, &target)? {
            let mut git = Command::new("git");
            git.args(["-c", "safe.directory=*", "apply", "--check"]).arg(&patch).current_dir(&workspace.root);
            if harness::run(git).is_err() {
                stale.push(format!("{} does not apply any more", patch.display()));
            }
        }
    }
    Ok(stale)
}

/// At least three a target.
fn patches(workspace: &Workspace, target: &str) -> Result<Vec<PathBuf>> {
    let folder = workspace.root.join("tests/fuzz/planted");
    let paths = (1..).map(|number| folder.join(format!("{target}-{number}.patch")));
    let patches: Vec<PathBuf> = paths.take_while(|path| path.exists()).collect();
    ensure!(patches.len() >= 3, "{target} has {} planted bugs in {}", patches.len(), folder.display());
    Ok(patches)
}

/// A copy of the repository's files, always in the same place so that cargo builds only what a patch changes.
struct Tree {
    root: PathBuf,
}

impl Tree {
    fn copy(workspace: &Workspace) -> Result<Self> {
        let root = workspace.target.join("fuzz/planted/tree");
        let mut git = Command::new("git");
        git.args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        git.current_dir(&workspace.root);
        for path in harness::run(git)?.split_terminator('\0') {
            let (from, to) = (workspace.root.join(path), root.join(path));
            // Not written anew when it is the same: cargo goes by the time of writing.
            let Ok(new) = std::fs::read(&from) else { continue }; // deleted, or not a file
            if std::fs::read(&to).is_ok_and(|old| old == new) {
                continue;
            }
            let folder = to.parent().unwrap_or(&root);
            std::fs::create_dir_all(folder)
                .and_then(|()| std::fs::write(&to, new))
                .context("copying the tree")?;
        }
        Ok(Self { root })
    }

    /// git, which must not take the copy for a part of the repository that it lies in.
    fn apply(&self, patch: &Path) -> Result<()> {
        let mut git = Command::new("git");
        git.current_dir(&self.root).env("GIT_CEILING_DIRECTORIES", self.root.parent().unwrap_or(&self.root));
        git.arg("apply").arg(patch);
        harness::run(git).with_context(|| format!("{} has to be made anew", patch.display()))?;
        Ok(())
    }

    /// An empty folder beside it.
    fn fresh(&self) -> Result<PathBuf> {
        let folder = self.root.with_file_name("work");
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}
