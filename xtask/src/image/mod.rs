//! The container image: the binary, what it is linked to, and the certificate authorities, as an
//! OCI layout for each architecture.

mod architecture;
mod authorities;
mod build;
mod containers;
mod folder;
mod layout;
mod libraries;
mod root;

use std::process::ExitCode;

use anyhow::Result;
use harness_core::Workspace;

use architecture::Choice;
pub use containers::test;

/// Builds the container image, as an OCI layout in target/image
#[derive(clap::Args)]
pub struct Args {
    /// What it is to run on
    #[arg(long, value_enum, default_value_t = Choice::Both)]
    arch: Choice,
}

pub fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let made = build::layout(workspace, args.arch)?;
    println!("{}", made.display());
    Ok(ExitCode::SUCCESS)
}
