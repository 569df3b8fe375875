//! How often each path through hookgate is taken under the bench's loads, by which the compiler
//! lays out and inlines what is shipped. It is recorded by hand and lies beside the sources, so
//! that a build gives the same bytes everywhere.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use harness_core::{Workspace, run_aloud, wrapped};

use super::toolchain::Toolchain;
use crate::arch::Arch;
use crate::{build, folder, install};

/// Connections as Meta makes them, and bodies that are long, each way.
const LOADS: [&str; 10] = [
    "kept-1",
    "kept-32",
    "kept-256",
    "paced",
    "full",
    "resumed",
    "up-tls",
    "down-tls",
    "up-plain",
    "down-plain",
];

/// The bench's name for what it starts.
const PEER: &str = "hookgate";

/// Records the profile anew.
///
/// # Errors
/// Something does not compile, a load fails, or LLVM's tool is missing and can't be installed.
pub fn main(workspace: &Workspace) -> Result<ExitCode> {
    let arch = Arch::host()?;
    let toolchain = Toolchain::find_or_fetch(arch)?;
    let merge = merger(&toolchain)?;
    let aside = Workspace { root: workspace.root.clone(), target: workspace.target.join("profile") };
    let raw = aside.target.join("raw");
    let flags = vec![format!("-Cprofile-generate={}", raw.display()), "--cfg=records_profile".to_owned()];
    let recorder = super::compile(&aside, arch, &toolchain, flags)?;

    folder::empty(&raw)?;
    // The worker, who is nobody, writes there when it ends, into a file that root may have begun.
    fs::set_permissions(&raw, Permissions::from_mode(0o777))
        .with_context(|| format!("opening {} to all", raw.display()))?;
    let mut bench = Command::new(build::beside_hookgate(workspace, build::BENCH)?);
    bench.args(["--rounds", "1", "--only", PEER, "--hookgate"]).arg(&recorder);
    bench.args(LOADS.iter().flat_map(|load| ["--only", load]));
    run_aloud(wrapped("sh", &["-c", "umask 0; exec \"$@\"", "sh"], &bench))?;

    let profile = path(workspace, arch, &toolchain.version()?);
    fs::create_dir_all(profile.parent().unwrap_or(&workspace.root))
        .with_context(|| format!("creating the folder of {}", profile.display()))?;
    let mut merge = Command::new(merge);
    merge.args(["merge", "--sparse", "--output"]).arg(&profile).arg(&raw);
    run_aloud(merge)?;
    println!("{}", profile.display());
    Ok(ExitCode::SUCCESS)
}

/// For rustc; none where no profile is this compiler's, by whose version its names are made.
///
/// # Errors
/// The compiler does not say its version.
pub fn flags(workspace: &Workspace, arch: Arch, toolchain: &Toolchain) -> Result<Vec<String>> {
    let version = toolchain.version()?;
    let profile = path(workspace, arch, &version);
    if !profile.exists() {
        eprintln!(
            "xtask: there is no profile of rustc {version} for {arch}: built without, some per cent slower"
        );
        return Ok(Vec::new());
    }
    Ok(vec![
        format!("-Cprofile-use={}", profile.display()),
        // What was changed since is compiled without.
        "-Cllvm-args=-no-pgo-warn-mismatch".to_owned(),
    ])
}

fn path(workspace: &Workspace, arch: Arch, version: &str) -> PathBuf {
    workspace.root.join("proxy/profile").join(format!("{arch}-rustc-{version}.profdata"))
}

/// The `llvm-profdata` of the compiler's LLVM.
fn merger(toolchain: &Toolchain) -> Result<String> {
    let major = toolchain.llvm_major()?;
    let program = format!("llvm-profdata-{major}");
    if !harness_core::in_path(&program) {
        install::packages("to merge profiles", &[&format!("llvm-{major}")])?;
    }
    ensure!(harness_core::in_path(&program), "llvm-{major} has no {program}");
    Ok(program)
}
