//! Releases of bpf-linker, and the LLVM that each links.

use anyhow::{Context, Result};

/// Releases that are built against an LLVM of their choice: LLVM's major version, theirs, and the
/// feature for it.
const RELEASES: [(u32, &str, &str); 3] =
    [(21, "0.13.0", "llvm-21"), (22, "0.13.0", "llvm-22"), (23, "0.13.0", "llvm-23")];

/// # Errors
/// No release links this LLVM.
pub fn ensure_supported(llvm_major: u32) -> Result<()> {
    release_for(llvm_major).map(|_| ())
}

/// The release that links this LLVM.
///
/// # Errors
/// None does.
pub fn version_for(llvm_major: u32) -> Result<&'static str> {
    release_for(llvm_major).map(|(version, _)| version)
}

/// The release that links this LLVM, and the feature for it.
///
/// # Errors
/// None does.
pub fn release_for(llvm_major: u32) -> Result<(&'static str, &'static str)> {
    let release = RELEASES.iter().find(|(llvm, ..)| *llvm == llvm_major);
    let (_, version, feature) = release.with_context(|| {
        let known = RELEASES.map(|(llvm, ..)| llvm.to_string()).join(", ");
        format!("no release of bpf-linker links its LLVM {llvm_major} (known: {known})")
    })?;
    Ok((version, feature))
}
