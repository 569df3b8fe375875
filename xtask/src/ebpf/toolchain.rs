//! A rustc with the source of its `core`, in the order in which machines offer one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::{debian, linker};

/// Names a rustc to compile the XDP program with.
pub const CHOSEN: &str = "HOOKGATE_BPF_RUSTC";

/// A compiler whose version decides the linker's.
#[derive(Debug)]
pub struct Toolchain {
    pub rustc: PathBuf,
    pub sysroot: PathBuf,
    /// As `rustc --version` prints it.
    pub version: String,
    pub llvm_major: u32,
}

/// Where a compiler may come from.
#[derive(Clone, Copy)]
pub enum Candidate {
    Chosen,
    Nightly,
    Stable,
    System,
}

impl Candidate {
    /// In the order in which they are tried.
    pub fn all() -> impl Iterator<Item = Self> {
        let chosen = std::env::var_os(CHOSEN).is_some();
        chosen.then_some(Self::Chosen).into_iter().chain([Self::Nightly, Self::Stable, Self::System])
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Chosen => "$HOOKGATE_BPF_RUSTC",
            Self::Nightly => "rustup's nightly",
            Self::Stable => "rustup's stable",
            Self::System => "the system's rustc",
        }
    }

    /// # Errors
    /// The compiler is missing or cannot be used. Ends with the command that helps, where there is
    /// one.
    pub fn toolchain(self) -> Result<Toolchain> {
        match self {
            Self::Chosen => {
                let rustc = std::env::var_os(CHOSEN).with_context(|| format!("no ${CHOSEN}"))?;
                Toolchain::at(Path::new(&rustc))
            }
            Self::Nightly => {
                let rustc = rustup_which("nightly")?;
                add_source(&rustc)?;
                Toolchain::at(&rustc)
            }
            Self::Stable => Toolchain::at(&rustup_which("stable")?),
            Self::System => debian::find_or_install(Path::new("/usr/bin/rustc")),
        }
    }
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
        linker::ensure_supported(llvm_major)?;
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

fn source_of_core(sysroot: &Path) -> PathBuf {
    sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs")
}

/// # Errors
/// There is no rustup, or no such toolchain.
fn rustup_which(toolchain: &str) -> Result<PathBuf> {
    if !harness_core::in_path("rustup") {
        bail!("there is no rustup");
    }
    let mut which = Command::new("rustup");
    which.args(["which", "--toolchain", toolchain, "rustc"]);
    let rustc = harness_core::run(which).ok().with_context(|| {
        format!("not installed; run: rustup toolchain install {toolchain} --component rust-src")
    })?;
    Ok(PathBuf::from(rustc.trim()))
}

/// Adds rust-src to the nightly where it is missing.
fn add_source(rustc: &Path) -> Result<()> {
    const ADD: [&str; 5] = ["component", "add", "rust-src", "--toolchain", "nightly"];
    if source_of_core(&sysroot(rustc)?).exists() {
        return Ok(());
    }
    let mut add = Command::new("rustup");
    add.args(ADD);
    harness_core::run(add).ok().with_context(|| {
        format!("it has no source of core, and this does not add it: rustup {}", ADD.join(" "))
    })?;
    Ok(())
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
