//! Debian's own compiler for the XDP program: a newer rustc than its `rustc` package, and the
//! source that matches it.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::releases;
use super::toolchain::{Toolchain, ensure_new_enough};
use crate::install;

const PACKAGES: [&str; 2] = ["rustc-web", "rust-web-src"];

/// The system's rustc, whatever distribution it is of; on Debian it is installed or upgraded where
/// that helps.
///
/// # Errors
/// There is none that can be used, and the archive has none: said before anything is downloaded.
pub fn find_or_install(rustc: &Path) -> Result<Toolchain> {
    let why = match Toolchain::at(rustc) {
        Ok(toolchain) => return Ok(toolchain),
        Err(why) => why,
    };
    if !harness_core::in_path("apt-get") {
        bail!(
            "{why:#}; install a rustc with its rust-src, of Rust {} or later",
            env!("CARGO_PKG_RUST_VERSION")
        );
    }
    install::refresh();
    ensure_candidate_fits()?;
    install::packages("to compile the XDP program", &PACKAGES)?;
    Toolchain::at(rustc).with_context(|| format!("{} are installed", PACKAGES.join(" and ")))
}

/// # Errors
/// What the archive offers is too old, or no linker fits its LLVM.
fn ensure_candidate_fits() -> Result<()> {
    let [rustc, source] = PACKAGES.map(install::candidate);
    let (Some(rustc), Some(source)) = (rustc, source) else {
        bail!("the package lists have no {}", PACKAGES.join(" and no "));
    };
    const ADVICE: &str = "add the distribution's security updates to apt's sources, or run: \
                          rustup toolchain install nightly --component rust-src";
    ensure_new_enough(&rustc).with_context(|| format!("rustc-web in the archive; {ADVICE}"))?;
    ensure!(rustc == source, "the archive has rustc-web {rustc} and rust-web-src {source}; {ADVICE}");
    releases::ensure_supported(llvm_major("rustc-web")?)
}

/// The LLVM of a compiler: what its library's library depends on.
fn llvm_major(compiler: &str) -> Result<u32> {
    const MAX_LIBRARIES: usize = 3;
    let mut package = compiler.to_owned();
    for _ in 0..=MAX_LIBRARIES {
        let needed = install::depends(&package)?;
        if let Some(llvm) = needed.iter().find_map(|name| name.strip_prefix("libllvm")?.parse().ok()) {
            return Ok(llvm);
        }
        let library = needed.into_iter().find(|name| name.starts_with("libstd-rust-") && *name != package);
        package = library.with_context(|| format!("{package} depends on no libllvm"))?;
    }
    bail!("{compiler} depends on no libllvm")
}
