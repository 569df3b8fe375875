//! The Debian package: laid out in a folder, and packed by dpkg-deb.

mod booted;
mod checks;
mod components;
mod emulated;
mod installed;
mod pack;
mod reproducible;
mod root;
mod tree;

use std::process::ExitCode;

use anyhow::Result;
use harness_core::{Workspace, is_root};

use crate::arch::Arch;
use crate::release;
use crate::test_summary::TestSummary;
pub use checks::CHECKS;
pub use emulated::test as test_emulated;
pub use pack::build;
pub use tree::said;

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
    let [first, second] = [1, 2].map(|revision| pack::pack(workspace, arch, &binary, revision));
    let (root, first, second) = (root::find_or_make()?, first?, second?);
    components::validate(&first, summary)?;
    installed::test(&root, &first, &second, summary)?;
    booted::test(workspace, &root, &first, &second, summary)
}
