//! The main job with Meta's real addresses, played and counted by a program of its own: tests/demo.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use harness_core::{Workspace, is_root};

use crate::build::{self, Profile};
use crate::setup::{self, Purpose};

/// Plays Meta in a network of its own, and compares what hookgate counted with what was sent (root)
#[derive(clap::Args)]
pub struct Args {
    /// Build quickly instead of well
    #[arg(long)]
    dev: bool,
}

pub fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    ensure!(
        is_root(),
        "the demo needs root, for network namespaces and an XDP program: sudo cargo xtask demo"
    );
    setup::install_missing(Purpose::Tests)?;
    let built = build::both(workspace, if args.dev { Profile::Dev } else { Profile::Local })?;
    if let Some(why) = built.guard_missing {
        bail!("no demo without the guard, and it can't be had: {why}");
    }
    let program = build::beside_hookgate(workspace, build::DEMO)?;
    let mut demo = Command::new(&program);
    demo.arg("packets").arg("--hookgate").arg(&built.binary);
    Err(demo.exec()).with_context(|| format!("starting {}", program.display()))
}
