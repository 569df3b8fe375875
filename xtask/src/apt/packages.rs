//! What goes into the repository: the packages of this commit, and what lies beside each under its
//! name.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use harness_core::Workspace;

use crate::package;

pub const ARCHITECTURES: [&str; 2] = ["amd64", "arm64"];

/// This machine's own package is built where it is missing, or of another commit.
///
/// # Errors
/// It can't be built, or another architecture's is missing.
pub fn find_or_build(workspace: &Workspace, revision: u32) -> Result<Vec<PathBuf>> {
    let (native, committed) = (native()?, package::committed(workspace)?);
    let mut files = Vec::new();
    for architecture in ARCHITECTURES {
        let name = format!("hookgate_{}-{revision}_{architecture}", env!("CARGO_PKG_VERSION"));
        let path = workspace.target.join("debian").join(format!("{name}.deb"));
        if !path.exists() || date(&path)? != committed {
            ensure!(
                architecture == native,
                "{} is missing, or was built from another commit: build it first",
                path.display()
            );
            package::build(workspace, revision)?;
        }
        files.extend(beside(&path, &name)?);
    }
    Ok(files)
}

/// As dpkg calls this machine's.
fn native() -> Result<String> {
    let mut dpkg = Command::new("dpkg");
    dpkg.arg("--print-architecture");
    Ok(harness_core::run(dpkg)?.trim().to_owned())
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
