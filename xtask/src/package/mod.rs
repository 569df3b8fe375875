//! The Debian package: laid out in a folder, and packed by dpkg-deb.

mod binary;
mod booted;
mod checks;
mod installed;
mod root;
mod tree;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use harness_core::{Workspace, is_root};

use crate::build::{self, Profile};
use crate::install;
use crate::test_summary::TestSummary;
use binary::Needs;
pub use checks::CHECKS;
use tree::{Tree, said};

/// What packing takes: dpkg-deb, and strip and objdump.
const TOOLS: [&str; 2] = ["dpkg", "binutils"];

/// Builds the Debian package
#[derive(clap::Args)]
pub struct Args {
    /// Debian's revision of this version
    #[arg(long, default_value_t = 1)]
    revision: u32,
}

pub fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    println!("{}", build(workspace, args.revision)?.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds this version's package for this machine's architecture, and returns its file.
///
/// # Errors
/// It does not compile, the guard is not inside, or it can't be packed.
pub fn build(workspace: &Workspace, revision: u32) -> Result<PathBuf> {
    pack(workspace, &release(workspace)?, revision)
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
    let binary = release(workspace)?;
    let [first, second] = [1, 2].map(|revision| pack(workspace, &binary, revision));
    let (root, first, second) = (root::find_or_make()?, first?, second?);
    installed::test(&root, &first, &second, summary)?;
    booted::test(workspace, &root, &first, &second, summary)
}

/// # Errors
/// It does not compile, or the guard is not inside.
fn release(workspace: &Workspace) -> Result<PathBuf> {
    let built = build::both(workspace, Profile::Release)?;
    match built.guard_missing {
        None => Ok(built.binary),
        Some(why) => bail!("a package without the guard is none: {why}"),
    }
}

/// The package's file, `target/debian/hookgate_….deb`; the same to the byte for the same binary and
/// commit.
///
/// # Errors
/// A tool is missing, the binary would not run where it should, or a file of the package can't be
/// had.
fn pack(workspace: &Workspace, binary: &Path, revision: u32) -> Result<PathBuf> {
    if !["dpkg-deb", "objdump", "strip"].iter().all(|tool| harness_core::in_path(tool)) {
        install::packages("to pack", &TOOLS)?;
    }
    let needs = Needs::of(binary)?;
    let version = format!("{}-{revision}", env!("CARGO_PKG_VERSION"));
    let architecture = said("dpkg", &["--print-architecture"])?;
    let committed = committed(workspace)?;

    let folder = workspace.target.join("debian");
    let tree = Tree::lay_out(workspace, &folder.join("tree"), binary, &version, committed)?;
    tree.write_control(&version, &architecture, &needs)?;
    let package = folder.join(format!("hookgate_{version}_{architecture}.deb"));
    let mut dpkg_deb = Command::new("dpkg-deb");
    dpkg_deb.args(["--root-owner-group", "-Zxz", "--build"]).arg(tree.path()).arg(&package);
    dpkg_deb.env("SOURCE_DATE_EPOCH", committed.to_string());
    harness_core::run(dpkg_deb)?;
    Ok(package)
}

/// When the sources were committed, in seconds since 1970: what every file in the package is dated.
///
/// # Errors
/// There is no git here, or no commit.
pub fn committed(workspace: &Workspace) -> Result<u64> {
    let mut git = Command::new("git");
    git.args(["-c", "safe.directory=*", "log", "-1", "--format=%ct"]).current_dir(&workspace.root);
    harness_core::run(git)?.trim().parse().context("the date of the last commit")
}
