//! What has to be installed and built before anything is measured: `cargo xtask` does it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use harness_core::{Workspace, is_root, run_aloud};

use crate::testbed::Programs;

/// Installs the programs that `cargo xtask setup --for` knows under this name.
///
/// # Errors
/// They can't be installed; xtask has said why.
pub fn install(workspace: &Workspace, purpose: &str) -> Result<()> {
    xtask(workspace, &["setup", "--for", purpose])
}

/// A binary of hookgate that was built before.
///
/// # Errors
/// There is no such file.
pub fn built(binary: &Path) -> Result<PathBuf> {
    ensure!(binary.is_file(), "{} is no file", binary.display());
    std::path::absolute(binary).with_context(|| format!("where {} lies", binary.display()))
}

/// Builds hookgate as it is shipped.
///
/// # Errors
/// It does not compile.
pub fn hookgate(workspace: &Workspace) -> Result<PathBuf> {
    xtask(workspace, &["build", "--release"])?;
    Ok(workspace.target.join("release/hookgate"))
}

/// The root of a Debian of this suite with nginx and HAProxy.
///
/// # Errors
/// It can't be made; or this is not root, who alone can start programs in it.
pub fn peers(workspace: &Workspace, suite: &str) -> Result<PathBuf> {
    ensure!(is_root(), "--peers needs root: its programs run in a root of their own");
    let mut cargo = workspace.cargo();
    cargo.args(["--quiet", "xtask", "setup", "--peers", suite]);
    Ok(PathBuf::from(harness_core::run(cargo)?.trim_end()))
}

/// Builds what plays hookgate's clients and upstreams. The others: see [`Programs`].
///
/// # Errors
/// Something does not compile.
pub fn programs(
    workspace: &Workspace,
    hookgate: PathBuf,
    before: Option<PathBuf>,
    peers: Option<PathBuf>,
) -> Result<Programs> {
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--release", "--package", "hookgate-tests"]);
    cargo.args(["--bin", "load", "--bin", "floors", "--bin", "origin"]);
    run_aloud(cargo)?;
    let ours = |name| workspace.target.join("release").join(name);
    let [generator, floors, origin] = ["load", "floors", "origin"].map(ours);
    Ok(Programs { hookgate, before, generator, floors, origin, peers })
}

fn xtask(workspace: &Workspace, args: &[&str]) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo.arg("xtask").args(args);
    run_aloud(cargo)
}
