//! How often each path through hookgate is taken, by which the compiler lays out and inlines. It
//! was recorded by hand and lies beside the sources, so that a build gives the same bytes
//! everywhere.

use std::path::PathBuf;

use anyhow::Result;
use harness_core::Workspace;

use super::toolchain::Toolchain;
use crate::arch::Arch;

/// Where this compiler's profile is. It is of no use to another one: a function's name has the
/// compiler's version in it, and LLVM reads no newer form.
///
/// # Errors
/// The compiler does not say its version.
pub fn path(workspace: &Workspace, arch: Arch, toolchain: &Toolchain) -> Result<PathBuf> {
    let (rustc, llvm) = (toolchain.version()?, toolchain.llvm_major()?);
    Ok(workspace.root.join("proxy/profile").join(format!("{arch}-rustc-{rustc}-llvm-{llvm}.profdata")))
}

/// For rustc; none where there is no profile.
///
/// # Errors
/// As [`path`].
pub fn flags(workspace: &Workspace, arch: Arch, toolchain: &Toolchain) -> Result<Vec<String>> {
    let profile = path(workspace, arch, toolchain)?;
    if !profile.exists() {
        eprintln!("xtask: there is no {}: built without it, some per cent slower", profile.display());
        return Ok(Vec::new());
    }
    Ok(vec![
        format!("-Cprofile-use={}", profile.display()),
        // What was changed since is compiled without.
        "-Cllvm-args=-no-pgo-warn-mismatch".to_owned(),
    ])
}
