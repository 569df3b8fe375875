//! The binary as it is shipped: with the guard inside, without symbols, and the same to the byte
//! for the same commit, compiler and C library, wherever it is built.

mod emulator;
mod needs;
mod profile;
mod toolchain;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use harness_core::{Workspace, run_aloud};

use crate::arch::Arch;
use crate::ebpf::{self, Object};
use crate::{install, source_paths};
pub use emulator::{command, emulator};
pub use needs::Needs;
use toolchain::Toolchain;

/// What belongs to other builds: flags for the proxy, and what the cargo that runs us has set.
const NOT_FOR_RELEASES: [&str; 4] =
    ["RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"];

/// `target/package/hookgate-<architecture>`.
///
/// # Errors
/// It does not compile, the guard can't be had, or a tool is missing and can't be installed.
pub fn binary(workspace: &Workspace, arch: Arch) -> Result<PathBuf> {
    if let Object::Missing { why } = ebpf::build(workspace)? {
        bail!("a binary without the guard is not shipped: {why}");
    }
    let built = with_symbols(workspace, arch)?;
    let folder = workspace.target.join("package");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let binary = folder.join(format!("hookgate-{arch}"));
    let mut strip = Command::new(tool(arch, "strip")?);
    strip.arg("--strip-unneeded").arg("-o").arg(&binary).arg(&built);
    harness_core::run(strip)?;
    Ok(binary)
}

/// The same with its symbols, and with whatever guard was built before.
///
/// # Errors
/// It does not compile, or a tool is missing and can't be installed.
pub fn with_symbols(workspace: &Workspace, arch: Arch) -> Result<PathBuf> {
    let toolchain = Toolchain::find_or_fetch(arch)?;
    let flags = profile::flags(workspace, arch, &toolchain)?;
    compile(workspace, arch, &toolchain, flags)
}

/// One that counts how often each path is taken, and adds the counts to what the folder
/// `counts` has when a process of it ends.
///
/// # Errors
/// As [`with_symbols`].
pub fn recorder(workspace: &Workspace, arch: Arch, counts: &Path) -> Result<PathBuf> {
    let flags = vec![format!("-Cprofile-generate={}", counts.display()), "--cfg=records_profile".to_owned()];
    compile(workspace, arch, &Toolchain::find_or_fetch(arch)?, flags)
}

/// Where the profile of the compiler for `arch` belongs.
///
/// # Errors
/// There is no compiler, and none can be fetched.
pub fn profile(workspace: &Workspace, arch: Arch) -> Result<PathBuf> {
    profile::path(workspace, arch, &Toolchain::find_or_fetch(arch)?)
}

/// `flags`: for rustc, besides those that every release has.
fn compile(workspace: &Workspace, arch: Arch, toolchain: &Toolchain, flags: Vec<String>) -> Result<PathBuf> {
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--locked", "--package", "hookgate", "--bin", "hookgate", "--profile", "release"]);
    cargo.args(["--target", arch.triple(), "--target-dir"]).arg(&workspace.target);
    for name in NOT_FOR_RELEASES {
        cargo.env_remove(name);
    }
    let flags = [toolchain.flags(), source_paths::renamed(workspace, toolchain.sysroot())?, flags].concat();
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    toolchain.choose_for(&mut cargo);
    run_aloud(cargo).with_context(|| format!("compiling hookgate for {arch}"))?;
    Ok(workspace.target.join(arch.triple()).join("release/hookgate"))
}

/// The version of the rustc that compiles for `arch`.
///
/// # Errors
/// There is none, and none can be fetched.
pub fn compiler(arch: Arch) -> Result<String> {
    Toolchain::find_or_fetch(arch)?.version()
}

/// The `22` of its LLVM.
///
/// # Errors
/// As [`compiler`].
pub fn llvm_major(arch: Arch) -> Result<String> {
    Toolchain::find_or_fetch(arch)?.llvm_major()
}

/// A program of binutils for files of `arch`, installed where it is missing.
fn tool(arch: Arch, name: &str) -> Result<String> {
    let tool = arch.gnu_tool(name)?;
    if !harness_core::in_path(&tool) {
        let host = Arch::host()?;
        let package =
            if arch == host { "binutils".to_owned() } else { toolchain::cross_package("binutils", arch) };
        install::packages(&format!("for binaries of {arch}"), &[&package])?;
    }
    Ok(tool)
}
