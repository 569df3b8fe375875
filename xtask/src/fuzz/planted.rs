//! A fuzzer that finds nothing may be blind: each target has to find bugs that were put there for
//! it.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use harness_core::Workspace;

use super::fuzzer::{Fuzzer, Outcome, targets};

/// What each target runs, as the beginnings of paths. Bugs elsewhere it can't find, so they may be
/// in the same tree. What is not named here runs everything.
const RUNS: [(&str, &[&str]); 14] = [
    ("authority", &["proxy/src/acme/", "proxy/src/http/", "proxy/src/net/http_client.rs"]),
    ("chunked", &["proxy/src/http/"]),
    ("config", &["proxy/src/config/", "proxy/src/http/mod.rs", "proxy/src/prefixes/"]),
    ("control", &["proxy/src/net/kernel/"]),
    ("head", &["proxy/src/http/"]),
    ("message", &["proxy/src/prefixes/network.rs", "proxy/src/prefixes/refresh.rs", "proxy/src/server/ipc/"]),
    (
        "nginx",
        &["proxy/src/access", "proxy/src/config/", "proxy/src/import/", "proxy/src/prefixes/network.rs"],
    ),
    ("packet", &["proxy-ebpf/"]),
    ("proxy_protocol", &["proxy/src/datapath/proxy_protocol"]),
    ("redact", &["proxy/src/observe/redact.rs"]),
    ("registry", &["proxy/src/prefixes/"]),
    ("response", &["proxy/src/http/"]),
    ("scan", &["proxy/src/messages/"]),
    (
        "target",
        &[
            "proxy/src/access",
            "proxy/src/config/",
            "proxy/src/http/",
            "proxy/src/tls/",
            "proxy/src/upstream/",
        ],
    ),
];

/// A bug that was put there for `target`.
struct Planted {
    target: String,
    patch: PathBuf,
    /// The files that it changes.
    files: Vec<String>,
}

impl Planted {
    fn read(target: &str, patch: PathBuf) -> Result<Self> {
        let text = std::fs::read_to_string(&patch).with_context(|| format!("{}", patch.display()))?;
        let files = text.lines().filter_map(|line| line.strip_prefix("+++ b/")).map(str::to_owned).collect();
        Ok(Self { target: target.to_owned(), patch, files })
    }

    /// Whether a target may come upon it.
    fn is_run_by(&self, target: &str) -> bool {
        let runs = RUNS.iter().find(|(known, _)| *known == target).map(|(_, paths)| *paths);
        let is_in = |file: &String| runs.is_none_or(|paths| paths.iter().any(|path| file.starts_with(path)));
        self.files.iter().any(is_in)
    }

    /// Whether neither of two targets can take the other's bug for its own.
    fn is_apart_from(&self, other: &Self) -> bool {
        !self.is_run_by(&other.target) && !other.is_run_by(&self.target)
    }

    fn name(&self) -> String {
        self.patch.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// Puts bugs that are apart from each other together: each of the lists is built once.
fn batches(planted: Vec<Planted>) -> Vec<Vec<Planted>> {
    let mut batches: Vec<Vec<Planted>> = Vec::new();
    for bug in planted {
        match batches.iter_mut().find(|batch| batch.iter().all(|other| bug.is_apart_from(other))) {
            Some(batch) => batch.push(bug),
            None => batches.push(vec![bug]),
        }
    }
    batches
}

/// Applies the targets' patches to a copy of the tree, as many at once as are apart from each
/// other, and looks for `seconds` for what each broke.
pub fn main(workspace: &Workspace, targets: &[String], seconds: u32) -> Result<ExitCode> {
    let mut planted = Vec::new();
    for target in targets {
        for patch in patches(workspace, target)? {
            planted.push(Planted::read(target, patch)?);
        }
    }
    let mut missed = 0;
    for batch in batches(planted) {
        let begun = Instant::now();
        let tree = Tree::copy(workspace)?;
        batch.iter().try_for_each(|bug| tree.apply(&bug.patch))?;
        let fuzzer = Fuzzer::build(&tree.root, &workspace.target.join("fuzz"))?;
        let names = batch.iter().map(Planted::name).collect::<Vec<_>>().join(", ");
        eprintln!("xtask: built with {names} in {:.1} s", begun.elapsed().as_secs_f32());
        for bug in &batch {
            // What an earlier search has found would make this one easy.
            let begun = Instant::now();
            match fuzzer.working_in(tree.fresh()?).search(&bug.target, seconds)? {
                Outcome::Nothing => {
                    missed += 1;
                    println!("{}: MISSED in {seconds} s", bug.name());
                }
                Outcome::Found { why, .. } => {
                    let first = why.lines().next().unwrap_or_default();
                    println!("{}: found in {:.1} s: {first}", bug.name(), begun.elapsed().as_secs_f32());
                }
            }
        }
    }
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A line for every patch that the tree has moved away from.
pub fn stale(workspace: &Workspace) -> Result<Vec<String>> {
    let mut stale = Vec::new();
    for target in targets(&workspace.root)? {
        for patch in patches(workspace, &target)? {
            let mut git = Command::new("git");
            git.args(["-c", "safe.directory=*", "apply", "--check"]).arg(&patch).current_dir(&workspace.root);
            if harness_core::run(git).is_err() {
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

/// A copy of the repository's files, always in the same place so that cargo builds only what a
/// patch changes.
struct Tree {
    root: PathBuf,
}

impl Tree {
    fn copy(workspace: &Workspace) -> Result<Self> {
        let root = workspace.target.join("fuzz/planted/tree");
        let mut git = Command::new("git");
        git.args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        git.current_dir(&workspace.root);
        for path in harness_core::run(git)?.split_terminator('\0') {
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

    /// git must not take the copy for a part of the repository around it.
    fn apply(&self, patch: &Path) -> Result<()> {
        let mut git = Command::new("git");
        git.current_dir(&self.root).env("GIT_CEILING_DIRECTORIES", self.root.parent().unwrap_or(&self.root));
        git.arg("apply").arg(patch);
        harness_core::run(git).with_context(|| format!("{} has to be made anew", patch.display()))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn bug(target: &str, file: &str) -> Planted {
        Planted { target: target.to_owned(), patch: PathBuf::new(), files: vec![file.to_owned()] }
    }

    #[test]
    fn bugs_that_another_target_may_find_are_built_apart() {
        let batches = batches(vec![
            bug("head", "proxy/src/http/head.rs"),
            bug("chunked", "proxy/src/http/chunked.rs"),
            bug("packet", "proxy-ebpf/src/packet.rs"),
            bug("packet", "proxy-ebpf/src/verdict.rs"),
            bug("connection", "proxy/src/datapath/delivery.rs"),
        ]);
        let together = batches.iter().map(|batch| batch.iter().map(|bug| &*bug.target).collect::<Vec<_>>());
        let expected: [&[&str]; 3] = [&["head", "packet"], &["chunked", "packet"], &["connection"]];
        assert_eq!(together.collect::<Vec<_>>(), expected);
    }

    /// A patch outside of what its target runs would never be found, or the list is wrong.
    #[test]
    fn every_patch_changes_what_its_target_runs() {
        let workspace = Workspace::find().unwrap();
        for target in targets(&workspace.root).unwrap() {
            for patch in patches(&workspace, &target).unwrap() {
                let bug = Planted::read(&target, patch).unwrap();
                assert!(bug.is_run_by(&target), "{} changes {:?}", bug.name(), bug.files);
            }
        }
    }
}
