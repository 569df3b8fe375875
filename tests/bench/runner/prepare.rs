//! What has to be installed and built before anything is measured: `cargo xtask` does it.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use harness_core::{Workspace, is_root, run_aloud};

use crate::testbed::Programs;

/// Installs the programs that `cargo xtask setup --for` knows under this name.
///
/// # Errors
/// They can't be installed; xtask has said why.
pub fn install(workspace: &Workspace, purpose: &str) -> Result<()> {
    xtask(workspace, &["setup", "--for", purpose])
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

/// Builds hookgate, and what plays its clients and upstreams. `peers`: see [`Programs`].
///
/// # Errors
/// Something does not compile.
pub fn programs(workspace: &Workspace, peers: Option<PathBuf>) -> Result<Programs> {
    let hookgate = hookgate(workspace)?;
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--release", "--package", "hookgate-tests"]);
    cargo.args(["--bin", "load", "--bin", "floors", "--bin", "origin"]);
    run_aloud(cargo)?;
    let ours = |name| workspace.target.join("release").join(name);
    Ok(Programs { hookgate, generator: ours("load"), floors: ours("floors"), origin: ours("origin"), peers })
}

fn xtask(workspace: &Workspace, args: &[&str]) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo.arg("xtask").args(args);
    run_aloud(cargo)
}
