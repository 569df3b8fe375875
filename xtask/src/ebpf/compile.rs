//! Compiles the XDP program, so that the same sources and tools give the same bytes wherever they
//! lie.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use harness_core::{Workspace, run_aloud};

use super::releases;
use super::strip::without_debug_sections;
use super::toolchain::Toolchain;
use crate::source_paths;

const TARGET: &str = "bpfel-unknown-none";
/// Whose registers aya-ebpf has names for. The program reads none, and its instructions are the
/// same for each processor; only the names of source files would differ.
const REGISTERS_OF: &str = "x86_64";

pub struct Compiled {
    pub object: Vec<u8>,
    pub tools: Tools,
}

/// What decides the bytes beside the sources: versions, as the programs print them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    pub rustc: String,
    pub cargo: String,
    pub bpf_linker: String,
}

impl fmt::Display for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, bpf-linker {}", self.rustc, self.cargo, self.bpf_linker)
    }
}

/// # Errors
/// It does not compile.
pub fn compile(workspace: &Workspace, toolchain: Toolchain, linker: &Path) -> Result<Compiled> {
    let target_dir = workspace.target.join("ebpf");
    let mut cargo = workspace.cargo();
    cargo
        .args(["build", "--quiet", "--locked", "--profile", "ebpf", "--package", "hookgate-ebpf"])
        .args(["--bin", "guard", "--features", "program", "--target", TARGET, "-Z", "build-std=core"])
        // core's own debug information would only make the build slower: BTF needs ours.
        .args(["--config", "profile.ebpf.package.core.debug=0"])
        .args(["--config", "profile.ebpf.package.core.codegen-units=16"])
        .arg("--target-dir")
        .arg(&target_dir);
    // What was meant for the proxy, and what the outer cargo set for xtask, is not for this
    // compiler.
    for name in
        ["RUSTFLAGS", "RUSTUP_TOOLCHAIN", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "LD_LIBRARY_PATH"]
    {
        cargo.env_remove(name);
    }
    let arch = format!("--cfg=bpf_target_arch=\"{REGISTERS_OF}\"");
    // BTF has the paths of all source files.
    let flags =
        [vec![arch, "-Clink-arg=--btf".to_owned()], source_paths::renamed(workspace, &toolchain.sysroot)?]
            .concat();
    cargo
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTC_BOOTSTRAP", "1") // build-std, and the inline assembly of aya-ebpf
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    run_aloud(cargo).context("compiling the XDP program")?;
    let built = target_dir.join(TARGET).join("ebpf/guard");
    let object = std::fs::read(&built).with_context(|| format!("reading {}", built.display()))?;
    let mut version = workspace.cargo();
    version.arg("--version");
    let tools = Tools {
        rustc: toolchain.version,
        cargo: harness_core::run(version)?.trim().to_owned(),
        bpf_linker: releases::version_for(toolchain.llvm_major)?.to_owned(),
    };
    Ok(Compiled { object: without_debug_sections(&object)?, tools })
}
