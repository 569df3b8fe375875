//! The Debian package: laid out in a folder, and packed by dpkg-deb.

mod booted;
mod checks;
mod emulated;
mod installed;
mod reproducible;
mod root;
mod tree;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Result;
use harness_core::{TempDir, Workspace, is_root};

use crate::arch::Arch;
use crate::release::{self, Needs};
use crate::test_summary::TestSummary;
use crate::{commit, install, sbom};
pub use emulated::test as test_emulated;
use tree::Tree;

/// Builds the Debian package
#[derive(clap::Args)]
pub struct Args {
    /// The processor that it is for; without it, this machine's
    #[arg(long, value_enum)]
    arch: Option<Arch>,
    /// Debian's revision of this version
    #[arg(long, default_value_t = 1)]
    revision: u32,
    /// Build it again, from a clone of the last commit in another folder, and fail where one byte
    /// differs
    #[arg(long)]
    verify_reproducible: bool,
}

pub fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let arch = args.arch.map_or_else(Arch::host, Ok)?;
    if args.verify_reproducible {
        reproducible::verify(workspace, arch, args.revision)?;
    }
    println!("{}", build(workspace, arch, args.revision)?.display());
    Ok(ExitCode::SUCCESS)
}

/// The package's file, `target/debian/hookgate_….deb`; the same to the byte for the same commit,
/// compiler and C library.
///
/// # Errors
/// The binary can't be built, or a file of the package can't be had.
pub fn build(workspace: &Workspace, arch: Arch, revision: u32) -> Result<PathBuf> {
    pack(workspace, arch, &release::binary(workspace, arch)?, revision)
}

/// Packs two revisions, and installs, upgrades and purges them in a small Debian of their own.
///
/// # Errors
/// They can't be packed, or there is no such Debian to be had.
pub fn test(workspace: &Workspace, summary: &mut TestSummary) -> Result<()> {
    if !is_root() {
        summary.skip("the Debian package: needs root".to_owned());
        return Ok(());
    }
    let arch = Arch::host()?;
    let binary = release::binary(workspace, arch)?;
    let [first, second] = [1, 2].map(|revision| pack(workspace, arch, &binary, revision));
    let (root, first, second) = (root::find_or_make()?, first?, second?);
    validate_sbom(&first, summary)?;
    installed::test(&root, &first, &second, summary)?;
    booted::test(workspace, &root, &first, &second, summary)
}

/// The folder with the package's files.
fn tree_folder(workspace: &Workspace, arch: Arch) -> PathBuf {
    workspace.target.join("debian").join(arch.name())
}

/// The list of components as the package has it.
fn validate_sbom(package: &Path, summary: &mut TestSummary) -> Result<()> {
    let folder = TempDir::new("unpacked")?;
    let mut unpack = Command::new("dpkg-deb");
    unpack.arg("-x").arg(package).arg(folder.path());
    harness_core::run(unpack)?;
    let sbom = folder.path().join(tree::DOCUMENTS).join(sbom::FILE);
    sbom::validate(&[("the Debian package", &sbom)], summary)
}

/// # Errors
/// A tool is missing, the binary would not run where it should, or a file of the package can't be
/// had.
fn pack(workspace: &Workspace, arch: Arch, binary: &Path, revision: u32) -> Result<PathBuf> {
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
