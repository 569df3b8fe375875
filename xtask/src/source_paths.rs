//! Names for the folders of sources, so that what is compiled does not say where they lay.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use harness_core::Workspace;

/// Flags for rustc. Of two that fit a path, it takes the last one.
///
/// # Errors
/// There is no home directory.
pub fn renamed(workspace: &Workspace, sysroot: &Path) -> Result<Vec<String>> {
    let mut folders = vec![
        (workspace.root.clone(), "/hookgate"),
        (workspace.target.clone(), "/target"),
        (sysroot.join("lib/rustlib/src/rust"), "/rust"),
    ];
    let registries = cargo_home()?.join("registry/src");
    let registries = std::fs::read_dir(&registries).into_iter().flatten().flatten();
    folders.extend(registries.map(|registry| (registry.path(), "/crates")));
    let flag = |(folder, name): (PathBuf, &str)| format!("--remap-path-prefix={}={name}", folder.display());
    Ok(folders.into_iter().map(flag).collect())
}

/// # Errors
/// Neither `CARGO_HOME` nor `HOME` is set.
pub fn cargo_home() -> Result<PathBuf> {
    let set = std::env::var_os("CARGO_HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let home = set.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    home.context("no CARGO_HOME and no HOME")
}
