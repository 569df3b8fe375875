//! Debian's own compiler for the XDP program: a newer rustc than its `rustc` package, and the source that matches it.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::linker;
use super::toolchain::{Toolchain, ensure_new_enough};
use crate::install;

const PACKAGES: [&str; 2] = ["rustc-web", "rust-web-src"];
/// The compiler's library, which brings the LLVM along.
const LIBRARY: &str = "libstd-rust-web-dev";

/// The system's rustc, whatever distribution it is of; on Debian it is installed or upgraded where that helps.
///
/// # Errors
/// There is none that can be used, and the archive has none: said before anything is downloaded.
pub fn find_or_install(rustc: &Path) -> Result<Toolchain> {
    let why = match Toolchain::at(rustc) {
        Ok(toolchain) => return Ok(toolchain),
        Err(why) => why,
    };
    if !harness::in_path("apt-get") {
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
    anyhow::ensure!(rustc == source, "the archive has rustc-web {rustc} and rust-web-src {source}; {ADVICE}");
    let llvm = install::depends(LIBRARY)?;
    let llvm = llvm.iter().find_map(|name| name.strip_prefix("libllvm")?.parse().ok());
    linker::ensure_supported(llvm.with_context(|| format!("{LIBRARY} depends on no libllvm"))?)
}
