//! A signed repository of packages, which apt installs and upgrades from.

mod packages;
mod repository;
mod roots;
mod signer;
mod stand_ins;
mod sums;
mod test;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use harness_core::Workspace;

use crate::commit;
use repository::Repository;
use signer::Signer;
pub use test::test;

const WITHOUT_KEY: &str = "\
a repository is signed: --key names the key. To make one, and to use it:
  gpg --quick-generate-key 'hookgate packages <you@your.domain>' ed25519 sign never
  cargo xtask apt --key you@your.domain
Where there is no gpg keyring, --key takes a file with the secret key without a passphrase, as
  gpg --armor --export-secret-keys you@your.domain
writes it. Keep a copy where nobody else reads it: who trusts this key must be given a new one if it is lost.";

/// Makes a signed apt repository of the Debian packages, or adds them to it, with signed checksums
/// of everything in it
#[derive(clap::Args)]
pub struct Args {
    /// Signs: a file with a secret key, or what names one of gpg's keys
    #[arg(long, value_name = "FILE|KEYID")]
    key: Option<String>,
    /// The repository's folder; what is there already stays [default: target/apt]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Debian's revision of this version
    #[arg(long, default_value_t = 1)]
    revision: u32,
}

pub fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let Some(key) = &args.key else { bail!(WITHOUT_KEY) };
    let signer = Signer::find(key)?;
    let files = packages::find_or_build(workspace, args.revision)?;
    let out = args.out.clone().unwrap_or_else(|| workspace.target.join("apt"));
    Repository::at(&out).add(&files, commit::date(workspace)?, &signer)?;
    println!("{}", out.display());
    Ok(ExitCode::SUCCESS)
}
