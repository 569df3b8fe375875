//! Whether a second build, of a clone in another folder, gives the same bytes.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use harness_core::{TempDir, Workspace};

use super::pack;
use crate::arch::Arch;
use crate::commit;

/// # Errors
/// The packages differ: with the names of the files that do. Or one can't be built.
pub fn verify(workspace: &Workspace, arch: Arch, revision: u32) -> Result<()> {
    commit::ensure_clean(workspace)?;
    let first = pack::build(workspace, arch, revision)?;
    let folder = TempDir::new("built again")?;
    let root = folder.path().join("hookgate");
    let mut clone = commit::git(workspace);
    clone.args(["clone", "--quiet", "."]).arg(&root);
    harness_core::run(clone)?;
    let other = Workspace { target: folder.path().join("elsewhere"), root };
    let second = pack::build(&other, arch, revision)?;

    let read = |file: &Path| fs::read(file).with_context(|| format!("reading {}", file.display()));
    if read(&first)? == read(&second)? {
        eprintln!("xtask: {} is the same, built again in another folder", first.display());
        return Ok(());
    }
    let trees = [workspace, &other].map(|workspace| pack::tree_folder(workspace, arch));
    let mut diff = Command::new("diff");
    diff.args(["--recursive", "--brief", "--no-dereference"]).args(&trees);
    let said = diff.output().context("starting diff")?.stdout;
    bail!(
        "built again in another folder, the package is another one: {}",
        String::from_utf8_lossy(&said).trim()
    )
}
