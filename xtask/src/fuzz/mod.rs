//! libFuzzer on the targets of tests/fuzz, with the one stable toolchain that everything else is
//! built with.

mod fuzzer;
pub mod planted;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use harness_core::Workspace;

pub use fuzzer::compiler;
use fuzzer::{Fuzzer, targets};

/// Looks for bytes that break what tests/fuzz says must hold
#[derive(clap::Args)]
pub struct Args {
    /// These targets alone; all of them otherwise
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// For so long each [default: 60; at most 300 for a planted bug]
    #[arg(long)]
    seconds: Option<u32>,
    /// Try this file once, with one TARGET
    #[arg(long, value_name = "FILE", requires = "targets")]
    repeat: Option<PathBuf>,
    /// Afterwards keep in tests/fuzz/corpus the few inputs that reach all that was reached
    #[arg(long)]
    keep: bool,
    /// Show that the targets find bugs: apply each patch of tests/fuzz/planted to a copy, and look
    /// for it
    #[arg(long, conflicts_with_all = ["repeat", "keep"])]
    planted: bool,
}

pub fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let known = targets(&workspace.root)?;
    if let Some(target) = args.targets.iter().find(|target| !known.contains(target)) {
        bail!("there is no fuzz target {target}; there are {}", known.join(", "));
    }
    let targets = if args.targets.is_empty() { known } else { args.targets.clone() };
    if args.planted {
        return planted::main(workspace, &targets, args.seconds.unwrap_or(300));
    }
    let fuzzer = Fuzzer::build(&workspace.root, &workspace.target.join("fuzz"))?;
    if let Some(file) = &args.repeat {
        let [target] = &*targets else { bail!("--repeat takes one target") };
        let holds = fuzzer.repeat(target, file)?;
        return Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let found = fuzzer.all(&targets, args.seconds.unwrap_or(60))?;
    found.iter().for_each(|finding| println!("{finding}"));
    if args.keep && found.is_empty() {
        targets.iter().try_for_each(|target| fuzzer.keep(target))?;
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Every target for `seconds`; a line for each that finds something.
///
/// # Errors
/// There is no C++ compiler, or something does not compile or start.
pub fn findings(workspace: &Workspace, seconds: u32) -> Result<Vec<String>> {
    let fuzzer = Fuzzer::build(&workspace.root, &workspace.target.join("fuzz"))?;
    fuzzer.all(&targets(&workspace.root)?, seconds)
}
