//! Lays the package out in a folder, and has dpkg-deb pack it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use harness_core::Workspace;

use super::tree::Tree;
use crate::arch::Arch;
use crate::release::{self, Needs};
use crate::{commit, install, sbom};

/// The package's file, `target/debian/hookgate_….deb`; the same to the byte for the same commit,
/// compiler and C library.
///
/// # Errors
/// The binary can't be built, or a file of the package can't be had.
pub fn build(workspace: &Workspace, arch: Arch, revision: u32) -> Result<PathBuf> {
    pack(workspace, arch, &release::binary(workspace, arch)?, revision)
}

/// The folder with the package's files.
pub fn tree_folder(workspace: &Workspace, arch: Arch) -> PathBuf {
    workspace.target.join("debian").join(arch.name())
}

/// # Errors
/// A tool is missing, the binary would not run where it should, or a file of the package can't be
/// had.
pub fn pack(workspace: &Workspace, arch: Arch, binary: &Path, revision: u32) -> Result<PathBuf> {
    if !harness_core::in_path("dpkg-deb") {
        install::packages("to pack", &["dpkg"])?;
    }
    let needs = Needs::of(binary, arch)?;
    let version = format!("{}-{revision}", env!("CARGO_PKG_VERSION"));
    let committed = commit::date(workspace)?;
    let tree = Tree::lay_out(workspace, &tree_folder(workspace, arch), binary, &version, committed)?;
    tree.write_what_the_binary_says(arch, binary)?;
    tree.write_document(sbom::FILE, &sbom::spdx(workspace, arch, binary)?)?;
    tree.write_document(sbom::LICENCES_FILE, &sbom::licences(workspace, arch)?)?;
    tree.write_control(&version, arch, &needs)?;
    let package = workspace.target.join("debian").join(format!("hookgate_{version}_{arch}.deb"));
    let mut dpkg_deb = Command::new("dpkg-deb");
    dpkg_deb.args(["--root-owner-group", "-Zxz", "--build"]).arg(tree.path()).arg(&package);
    dpkg_deb.env("SOURCE_DATE_EPOCH", committed.to_string());
    harness_core::run(dpkg_deb)?;
    Ok(package)
}
