//! Records the profile that release builds are guided by, under the bench's loads.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use harness_core::{Workspace, run_aloud, wrapped};

use crate::arch::Arch;
use crate::{build, folder, install, release};

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

/// # Errors
/// Something does not compile, a load fails, or LLVM's tool is missing and can't be installed.
pub fn main(workspace: &Workspace) -> Result<ExitCode> {
    let arch = Arch::host()?;
    let merger = merger(&release::llvm_major(arch)?)?;
    // A folder of its own: all of it is compiled otherwise.
    let aside = Workspace { root: workspace.root.clone(), target: workspace.target.join("profile") };
    let counts = aside.target.join("counts");
    let recorder = release::recorder(&aside, arch, &counts)?;

    folder::empty(&counts)?;
    // The worker has no privileges, and writes there when it ends, into a file that root may have
    // begun.
    fs::set_permissions(&counts, Permissions::from_mode(0o777))
        .with_context(|| format!("opening {} to all", counts.display()))?;
    let mut bench = Command::new(build::beside_hookgate(workspace, build::BENCH)?);
    bench.args(["--rounds", "1", "--only", PEER, "--hookgate"]).arg(&recorder);
    bench.args(LOADS.iter().flat_map(|load| ["--only", load]));
    run_aloud(wrapped("sh", &["-c", "umask 0; exec \"$@\"", "sh"], &bench))?;

    let profile = release::profile(workspace, arch)?;
    if let Some(folder) = profile.parent() {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    let mut merge = Command::new(merger);
    merge.args(["merge", "--sparse", "--output"]).arg(&profile).arg(&counts);
    run_aloud(merge)?;
    println!("{}", profile.display());
    Ok(ExitCode::SUCCESS)
}

/// The `llvm-profdata` of this LLVM, installed where it is missing.
fn merger(llvm_major: &str) -> Result<String> {
    let program = format!("llvm-profdata-{llvm_major}");
    if !harness_core::in_path(&program) {
        install::packages("to merge profiles", &[&format!("llvm-{llvm_major}")])?;
    }
    Ok(program)
}
