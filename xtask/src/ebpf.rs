//! Compiles the XDP program, which needs a rustc that has the source of `core` with it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::bpf_linker;
use crate::install;
use crate::workspace::{Workspace, run_aloud};

pub enum Object {
    /// `<target dir>/bpf/hookgate-guard.o` is up to date.
    Ready,
    /// No toolchain; `why` ends with the command that brings one.
    Missing { why: String },
}

/// A rustc with the source of its `core`; whose version decides the linker's.
pub struct Toolchain {
    rustc: PathBuf,
    pub sysroot: PathBuf,
    pub llvm_major: String,
}

const TARGET: &str = "bpfel-unknown-none";
/// Debian's own set: a newer rustc than its `rustc` package, and the source that matches it to the letter.
const DEBIAN_PACKAGES: [&str; 2] = ["rustc-web", "rust-web-src"];

/// # Errors
/// The program does not compile.
pub fn build(workspace: &Workspace) -> Result<Object> {
    let object = workspace.target.join("bpf/hookgate-guard.o");
    let (toolchain, linker) = match tools() {
        Ok(tools) => tools,
        Err(e) => {
            // One from an earlier build may not match the sources any more: better none.
            remove_if_there(&object)?;
            return Ok(Object::Missing { why: format!("{e:#}") });
        }
    };
    let built = compile(workspace, &toolchain, &linker)?;
    place(&built, &object)?;
    Ok(Object::Ready)
}

fn tools() -> Result<(Toolchain, PathBuf)> {
    let toolchain = match Toolchain::find() {
        Some(toolchain) => toolchain,
        None => {
            if !harness::in_path("apt-get") {
                bail!(
                    "no rustc here has the source of core; run: rustup toolchain install nightly --component rust-src"
                );
            }
            install::packages("to build the XDP program", &DEBIAN_PACKAGES)?;
            Toolchain::find().context("rustc-web and rust-web-src are installed, and yet don't match")?
        }
    };
    let linker = bpf_linker::find_or_install(&toolchain).context("bpf-linker can't be installed")?;
    Ok((toolchain, linker))
}

impl Toolchain {
    fn find() -> Option<Self> {
        let rustup = |name| {
            let mut which = Command::new("rustup");
            which.args(["which", "--toolchain", name, "rustc"]);
            Some(PathBuf::from(harness::run(which).ok()?.trim()))
        };
        let chosen = std::env::var_os("HOOKGATE_BPF_RUSTC").map(PathBuf::from);
        [chosen, rustup("nightly"), rustup("stable"), Some("/usr/bin/rustc".into())]
            .into_iter()
            .flatten()
            .find_map(|rustc| Self::probe(&rustc))
    }

    fn probe(rustc: &Path) -> Option<Self> {
        let ask = |args: &[&str]| {
            let mut command = Command::new(rustc);
            command.args(args).env_remove("LD_LIBRARY_PATH");
            harness::run(command).ok()
        };
        let sysroot = PathBuf::from(ask(&["--print", "sysroot"])?.trim());
        sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").exists().then_some(())?;
        let version = ask(&["-vV"])?;
        let llvm = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
        Some(Self { rustc: rustc.to_owned(), sysroot, llvm_major: llvm.split('.').next()?.to_owned() })
    }
}

fn compile(workspace: &Workspace, toolchain: &Toolchain, linker: &Path) -> Result<PathBuf> {
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
    // What was meant for the proxy, and what the outer cargo set for xtask, is not for this compiler.
    for name in
        ["RUSTFLAGS", "RUSTUP_TOOLCHAIN", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "LD_LIBRARY_PATH"]
    {
        cargo.env_remove(name);
    }
    cargo
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTC_BOOTSTRAP", "1") // build-std, and the inline assembly of aya-ebpf
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker)
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            format!("--cfg=bpf_target_arch=\"{}\"\x1f-Clink-arg=--btf", std::env::consts::ARCH),
        );
    run_aloud(cargo).context("building the XDP program")?;
    Ok(target_dir.join(TARGET).join("ebpf/guard"))
}

/// Only when changed: the proxy embeds the file, and is built anew when it is newer.
fn place(built: &Path, object: &Path) -> Result<()> {
    let new = std::fs::read(built).with_context(|| format!("reading {}", built.display()))?;
    if std::fs::read(object).is_ok_and(|old| old == new) {
        return Ok(());
    }
    let folder = object.parent().context("an object in no folder")?;
    let beside = folder.join("hookgate-guard.o.new");
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&beside, new))
        .and_then(|()| std::fs::rename(&beside, object))
        .with_context(|| format!("writing {}", object.display()))
}

fn remove_if_there(file: &Path) -> Result<()> {
    match std::fs::remove_file(file) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("removing {}", file.display()))
        }
        _ => Ok(()),
    }
}
