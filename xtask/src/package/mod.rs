//! The Debian package: laid out in a folder, and packed by dpkg-deb.

mod booted;
mod checks;
mod installed;
mod root;
mod tree;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use harness_core::{Workspace, is_root};

use crate::arch::Arch;
use crate::build::{self, Profile};
use crate::install;
use crate::release::{self, Needs};
use crate::test_summary::TestSummary;
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
}

pub fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let arch = args.arch.map_or_else(Arch::host, Ok)?;
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
    installed::test(&root, &first, &second, summary)?;
    booted::test(workspace, &root, &first, &second, summary)
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
    let committed = committed(workspace)?;
    // It says the same of itself for each processor.
    let runs_here =
        if arch == Arch::host()? { binary.to_owned() } else { build::proxy(workspace, Profile::Dev)? };

    let folder = workspace.target.join("debian");
    let tree = Tree::lay_out(workspace, &folder.join(arch.name()), binary, &version, committed)?;
    tree.write_what_the_binary_says(&runs_here)?;
    tree.write_control(&version, arch, &needs)?;
    let package = folder.join(format!("hookgate_{version}_{arch}.deb"));
    let mut dpkg_deb = Command::new("dpkg-deb");
    dpkg_deb.args(["--root-owner-group", "-Zxz", "--build"]).arg(tree.path()).arg(&package);
    dpkg_deb.env("SOURCE_DATE_EPOCH", committed.to_string());
    harness_core::run(dpkg_deb)?;
    Ok(package)
}

/// When the sources were committed, in seconds since 1970: what every file in the package is dated.
fn committed(workspace: &Workspace) -> Result<u64> {
    let mut git = Command::new("git");
    git.args(["-c", "safe.directory=*", "log", "-1", "--format=%ct"]).current_dir(&workspace.root);
    harness_core::run(git)?.trim().parse().context("the date of the last commit")
}
