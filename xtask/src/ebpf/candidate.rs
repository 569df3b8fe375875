//! Compilers, in the order in which machines offer one.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::debian;
use super::toolchain::{Toolchain, source_of_core, sysroot};

/// Names a rustc to compile the XDP program with.
pub const CHOSEN: &str = "HOOKGATE_BPF_RUSTC";

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
