//! A rustc with the source of its `core`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::releases;

/// A compiler whose version decides the linker's.
#[derive(Debug)]
pub struct Toolchain {
    pub rustc: PathBuf,
    pub sysroot: PathBuf,
    /// As `rustc --version` prints it.
    pub version: String,
    pub llvm_major: u32,
}

impl Toolchain {
    /// # Errors
    /// It does not run, has no source of `core`, is too old, or no linker fits its LLVM.
    pub fn at(rustc: &Path) -> Result<Self> {
        let (sysroot, said) = (sysroot(rustc)?, ask(rustc, &["-vV"])?);
        let field = |name: &str| said.lines().find_map(|line| line.strip_prefix(name));
        let (release, llvm) = (field("release: "), field("LLVM version: "));
        let release = release.context("rustc does not say its release")?;
        ensure_new_enough(release)?;
        ensure!(
            source_of_core(&sysroot).exists(),
            "{release} has no source of core (rust-src) at {}",
            source_of_core(&sysroot).display()
        );
        let llvm = llvm.context("rustc does not say its LLVM's version")?;
        let llvm_major = llvm.split('.').next().unwrap_or_default().parse().context("LLVM's version")?;
        releases::ensure_supported(llvm_major)?;
        let version = said.lines().next().unwrap_or_default().to_owned();
        Ok(Self { rustc: rustc.to_owned(), sysroot, version, llvm_major })
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with LLVM {}, at {}", self.version, self.llvm_major, self.rustc.display())
    }
}

/// # Errors
/// This `1.95.0` or `1.97.0-nightly` is older than the workspace's `rust-version`.
pub fn ensure_new_enough(release: &str) -> Result<()> {
    const OLDEST: &str = env!("CARGO_PKG_RUST_VERSION");
    let numbers = |version: &str| {
        let mut numbers = version.split(['.', '-', '+', '~']).map(str::parse::<u32>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    };
    let (found, oldest) = (numbers(release), numbers(OLDEST));
    ensure!(found.is_some() && found >= oldest, "{release} is too old: {OLDEST} is needed");
    Ok(())
}

/// Where a compiler's libraries and sources lie.
///
/// # Errors
/// It does not run.
pub fn sysroot(rustc: &Path) -> Result<PathBuf> {
    Ok(PathBuf::from(ask(rustc, &["--print", "sysroot"])?.trim()))
}

fn ask(rustc: &Path, args: &[&str]) -> Result<String> {
    let mut command = Command::new(rustc);
    command.args(args).env_remove("LD_LIBRARY_PATH");
    harness_core::run(command).ok().with_context(|| format!("{} does not run", rustc.display()))
}

pub fn source_of_core(sysroot: &Path) -> PathBuf {
    sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        for release in ["1.95.0", "1.95.0-nightly", "1.96.0+dfsg1-1~deb12u2", "1.100.0", "2.0.0"] {
            ensure_new_enough(release).unwrap();
        }
        for release in ["1.85.0+dfsg3-1~deb12u3", "1.94.9", "1.9.0", "", "new"] {
            assert!(ensure_new_enough(release).is_err(), "{release}");
        }
    }
}
