//! How often each path through hookgate is taken, by which the compiler lays out and inlines. It
//! was recorded by hand and lies beside the sources, so that a build gives the same bytes
//! everywhere.

use std::path::PathBuf;

use harness_core::Workspace;

use crate::arch::Arch;

/// Where the profile is for the rustc of this version with this LLVM. It is of no use to another
/// one: a function's name has the compiler's version in it, and LLVM reads no newer form.
pub fn path(workspace: &Workspace, arch: Arch, rustc: &str, llvm_major: &str) -> PathBuf {
    workspace.root.join("proxy/profile").join(format!("{arch}-rustc-{rustc}-llvm-{llvm_major}.profdata"))
}

/// For rustc; none where there is no profile.
pub fn flags(workspace: &Workspace, arch: Arch, rustc: &str, llvm_major: &str) -> Vec<String> {
    let profile = path(workspace, arch, rustc, llvm_major);
    if !profile.exists() {
        eprintln!(
            "xtask: no profile of rustc {rustc} with LLVM {llvm_major} for {arch}: built without, some per cent slower"
        );
        return Vec::new();
    }
    vec![
        format!("-Cprofile-use={}", profile.display()),
        // What was changed since is compiled without.
        "-Cllvm-args=-no-pgo-warn-mismatch".to_owned(),
    ]
}
