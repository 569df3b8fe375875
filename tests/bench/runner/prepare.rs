//! What has to be installed and built before anything is measured: `cargo xtask` does it.

use std::path::PathBuf;

use anyhow::Result;
use harness_core::{Workspace, run_aloud};

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

/// Builds hookgate, and what plays its clients and upstreams.
///
/// # Errors
/// Something does not compile.
pub fn programs(workspace: &Workspace) -> Result<Programs> {
    let hookgate = hookgate(workspace)?;
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--release", "--package", "hookgate-tests"]);
    cargo.args(["--bin", "load", "--bin", "floors", "--bin", "origin"]);
    run_aloud(cargo)?;
    let ours = |name| workspace.target.join("release").join(name);
    Ok(Programs { hookgate, generator: ours("load"), floors: ours("floors"), origin: ours("origin") })
}

fn xtask(workspace: &Workspace, args: &[&str]) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo.arg("xtask").args(args);
    run_aloud(cargo)
}
