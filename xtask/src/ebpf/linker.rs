//! bpf-linker, built once per version into a cache that outlives the clone.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use harness_core::run_aloud;

use super::releases::{release_for, version_for};
use super::toolchain::Toolchain;
use crate::cache;

/// The linker for this toolchain's LLVM.
///
/// # Errors
/// It is not there and can't be built (no network, no libLLVM).
pub fn find_or_install(toolchain: &Toolchain) -> Result<PathBuf> {
    let name = format!("bpf-linker-{}-llvm{}", version_for(toolchain.llvm_major)?, toolchain.llvm_major);
    let linker = |home: &Path| home.join("bin/bpf-linker");
    let home = cache::find_or_make(
        &name,
        |home| works(&linker(home)),
        |aside, home| install(toolchain, aside, home),
    )?;
    Ok(linker(&home))
}

/// Built in `aside`, to be moved to `home`.
fn install(toolchain: &Toolchain, aside: &Path, home: &Path) -> Result<()> {
    let (version, feature) = release_for(toolchain.llvm_major)?;
    let library = lib_llvm(toolchain)?;
    // It asks only for a `lib/libLLVM.so`. The one that rustc itself uses has the BPF backend, and
    // can't disagree.
    let prefix = aside.join("llvm");
    std::fs::create_dir_all(prefix.join("lib"))?;
    std::os::unix::fs::symlink(&library, prefix.join("lib/libLLVM.so"))?;
    eprintln!("xtask: building bpf-linker {version} once, into {} (1 to 3 minutes)", home.display());
    let mut cargo = harness_core::cargo();
    for name in ["CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR", "LD_LIBRARY_PATH"] {
        cargo.env_remove(name);
    }
    let folder = library.parent().context("libLLVM in no folder")?;
    cargo
        .args(["install", "bpf-linker", "--version", version, "--locked", "--quiet", "--no-default-features"])
        .args(["--features", feature, "--root"])
        .arg(aside)
        .current_dir(aside)
        .env("LLVM_PREFIX", &prefix)
        .env("RUSTFLAGS", format!("-Clink-arg=-Wl,-rpath,{}", folder.display()))
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        // It runs for a second, and builds for minutes.
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
    run_aloud(cargo)
}

fn works(linker: &Path) -> bool {
    let mut version = Command::new(linker);
    version.arg("--version").env_remove("LD_LIBRARY_PATH");
    harness_core::run(version).is_ok()
}

/// The library that rustc itself uses: in its sysroot, or where distributions put libraries.
fn lib_llvm(toolchain: &Toolchain) -> Result<PathBuf> {
    let multiarch = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let folders = [toolchain.sysroot.join("lib"), multiarch.into(), "/usr/lib64".into(), "/usr/lib".into()];
    let wanted = format!("libLLVM.so.{}.", toolchain.llvm_major);
    let files = folders.iter().flat_map(std::fs::read_dir).flatten().flatten().map(|entry| entry.path());
    let mut found =
        files.filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&wanted)));
    found.next().with_context(|| {
        let places = folders.map(|folder| folder.display().to_string()).join(", ");
        format!("no {wanted}* in {places}")
    })
}
