//! What goes into the repository: the packages of this commit, and what lies beside each under its
//! name.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use harness_core::Workspace;

use crate::arch::Arch;
use crate::{commit, package};

pub const ARCHITECTURES: [Arch; 2] = [Arch::Amd64, Arch::Arm64];

/// A package is built where it is missing, or of another commit.
///
/// # Errors
/// It can't be built.
pub fn find_or_build(workspace: &Workspace, revision: u32) -> Result<Vec<PathBuf>> {
    let committed = commit::date(workspace)?;
    let mut files = Vec::new();
    for arch in ARCHITECTURES {
        let name = format!("hookgate_{}-{revision}_{arch}", env!("CARGO_PKG_VERSION"));
        let path = workspace.target.join("debian").join(format!("{name}.deb"));
        if !path.exists() || date(&path)? != committed {
            package::build(workspace, arch, revision)?;
        }
        files.extend(beside(&path, &name)?);
    }
    Ok(files)
}

/// The package itself, and files of the same name with other endings.
fn beside(package: &Path, name: &str) -> Result<Vec<PathBuf>> {
    let folder = package.parent().with_context(|| format!("{} is in no folder", package.display()))?;
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let entry = entry?;
        let is_file_of_it = entry.file_name().to_string_lossy().starts_with(&format!("{name}."));
        if is_file_of_it && entry.file_type()?.is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// Of a package's first member: that of its commit, in seconds since 1970.
fn date(package: &Path) -> Result<u64> {
    /// After the archive's magic number and the member's name.
    const DATE: Range<usize> = 24..36;
    let bytes = fs::read(package).with_context(|| format!("reading {}", package.display()))?;
    let date = bytes.get(DATE).and_then(|date| std::str::from_utf8(date).ok()?.trim().parse().ok());
    date.with_context(|| format!("{} is no Debian package", package.display()))
}
